"""The tables of sessions and of the events that clients of the API are told of."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database import Base


class SessionState(StrEnum):
    """Where a session stands."""

    OPEN = "open"
    CLOSED = "closed"
    INTERRUPTED = "interrupted"
    ENDED = "ended"


class AgentSession(Base):
    """One session of an agent at a target. ``state`` is a ``SessionState``."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index(None, "relay", "state"),
        Index(None, "opened_at", "id"),
        Index(None, "tenant", "object_id"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    object_id: Mapped[str] = mapped_column(String(64))
    principal: Mapped[dict[str, Any]]
    target: Mapped[str] = mapped_column(String(63), index=True)
    relay: Mapped[str] = mapped_column(String(63))
    boot: Mapped[str] = mapped_column(String(64), default="")
    """Which process of the relay opened it; empty where that isn't known."""
    protocol: Mapped[str] = mapped_column(String(32))
    client_address: Mapped[str] = mapped_column(String(200))
    opened_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(String(16))
    end_code: Mapped[str] = mapped_column(String(64), default="")
    end_reason: Mapped[str] = mapped_column(Text, default="")
    ended_by: Mapped[str] = mapped_column(String(500), default="")


class Event(Base):
    """Something that happened, in the order it was committed."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64))
    data: Mapped[dict[str, Any]]
    groups: Mapped[list[str]]
    """Approvers of these groups may see it; administrators and auditors see everything."""


class EventHead(Base):
    """The last event's id; whoever adds one locks it, so ids are committed in order."""

    __tablename__ = "event_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last: Mapped[int] = mapped_column(BigInteger)
    pruned: Mapped[int] = mapped_column(BigInteger)
    """Events up to this id are no longer kept."""
