"""What is known of a recording beside its file."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database import Base

State = Literal["open", "closed", "interrupted", "broken"]
OPEN: State = "open"
CLOSED: State = "closed"
BROKEN: State = "broken"


class Recording(Base):
    """How far a session's recording was received. ``state`` is never interrupted: only
    the session knows that.

    The file's first ``size`` bytes are what was acknowledged; ``head`` is their last hash.
    """

    __tablename__ = "recordings"

    session: Mapped[str] = mapped_column(ForeignKey("sessions.id"), primary_key=True)
    next_sequence: Mapped[int] = mapped_column(BigInteger)
    head: Mapped[bytes] = mapped_column(LargeBinary(32))
    size: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16))
    first_bad: Mapped[int | None] = mapped_column(BigInteger)
    problem: Mapped[str] = mapped_column(Text, default="")
    updated_at: Mapped[datetime]
