"""The tables of approvals: what is asked, who may decide, who waits, and who decided."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from control_plane.database import Base


class Approval(Base):
    """One operation that needs humans. ``state`` is an ``ApprovalState``."""

    __tablename__ = "approvals"
    __table_args__ = (
        Index(None, "tenant", "object_id", "digest"),
        Index(None, "state", "hold_until"),
        Index(None, "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    session: Mapped[str] = mapped_column(ForeignKey("sessions.id"), index=True)
    tenant: Mapped[str] = mapped_column(String(64))
    object_id: Mapped[str] = mapped_column(String(64))
    principal: Mapped[dict[str, Any]]
    target: Mapped[str] = mapped_column(String(63))
    relay: Mapped[str] = mapped_column(String(63))
    operation: Mapped[dict[str, Any]]
    digest: Mapped[bytes] = mapped_column(LargeBinary(64))
    policy_version: Mapped[str] = mapped_column(String(128))
    rule: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    terms: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    hold_until: Mapped[datetime]
    """Until when the operation that waits now, or waited last, is held."""
    valid_until: Mapped[datetime]
    holder: Mapped[str] = mapped_column(String(64))
    """The hold that may use it; the row of ``approval_holds`` says if it still waits."""
    scope: Mapped[str] = mapped_column(String(16), default="")
    """What was granted; empty until it is approved."""
    decided_at: Mapped[datetime | None]
    consumed_at: Mapped[datetime | None]
    consumed_by: Mapped[str] = mapped_column(String(64), default="")
    uses: Mapped[int] = mapped_column(default=0)
    closing_reason: Mapped[str] = mapped_column(Text, default="")

    decisions: Mapped[list[ApprovalDecision]] = relationship(
        order_by="ApprovalDecision.number", lazy="selectin"
    )
    groups: Mapped[list[ApprovalGroup]] = relationship(lazy="selectin")


class ApprovalGroup(Base):
    """A group whose members may decide on an approval."""

    __tablename__ = "approval_groups"

    approval: Mapped[str] = mapped_column(ForeignKey("approvals.id"), primary_key=True)
    group: Mapped[str] = mapped_column("group_id", String(64), primary_key=True, index=True)


class ApprovalHold(Base):
    """One operation, held on a relay, that waits for an approval or may use one."""

    __tablename__ = "approval_holds"

    hold_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    approval: Mapped[str] = mapped_column(ForeignKey("approvals.id"), index=True)
    session: Mapped[str] = mapped_column(String(32))
    relay: Mapped[str] = mapped_column(String(63))
    hold_until: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]


class ApprovalDecision(Base):
    """What one human said of one approval; nobody says two things."""

    __tablename__ = "approval_decisions"

    approval: Mapped[str] = mapped_column(ForeignKey("approvals.id"), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    object_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int]
    name: Mapped[str] = mapped_column(String(256))
    decision: Mapped[str] = mapped_column(String(8))
    reason: Mapped[str] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(String(16))
    groups: Mapped[list[str]]
    """Those of the human's groups that the terms name, as they were then."""
    at: Mapped[datetime]


class IdempotencyKey(Base):
    """A decision already taken under a key of its human's choice, so that a retry is one."""

    __tablename__ = "approval_idempotency_keys"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    object_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    approval: Mapped[str] = mapped_column(ForeignKey("approvals.id"))
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary(32))
    answer: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(index=True)
