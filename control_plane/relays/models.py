"""Relays' tables: who has joined, and the tokens to join with. Secrets only as SHA-256."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database import Base


class Relay(Base):
    """A relay that a join token was made for, and what is known of it."""

    __tablename__ = "relays"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    incarnation: Mapped[int]
    """Of its document: a relay deleted and created anew has to join anew."""
    credential_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32), unique=True)
    joined_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_seen_at: Mapped[datetime | None]
    version: Mapped[str] = mapped_column(String(100), default="")
    boot: Mapped[str] = mapped_column(String(100), default="")
    protocols: Mapped[list[str]] = mapped_column(default=list)
    certificate_expires_at: Mapped[datetime | None]


class JoinTokenRow(Base):
    """A join token; used, it stays until it expires, so that a second use is told apart."""

    __tablename__ = "join_tokens"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    relay: Mapped[str] = mapped_column(String(63), index=True)
    incarnation: Mapped[int]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
