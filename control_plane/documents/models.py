"""Documents' tables: every revision is kept, and one row a document points at the current."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKeyConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database import Base


class DocumentRow(Base):
    """A document as it stands. A deleted one stays, so that its revisions count on."""

    __tablename__ = "documents"

    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    revision: Mapped[int]
    deleted: Mapped[bool]
    incarnation: Mapped[int]
    """The revision with which it last came into being: another after each deletion."""


class DocumentRevision(Base):
    """One revision; rows are only ever added. ``content`` is null where it was deleted."""

    __tablename__ = "document_revisions"
    __table_args__ = (ForeignKeyConstraint(["kind", "name"], ["documents.kind", "documents.name"]),)

    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    action: Mapped[str] = mapped_column(String(20))
    content: Mapped[str | None] = mapped_column(Text)
    """Canonical JSON of the whole document."""
    source: Mapped[str | None] = mapped_column(Text)
    """The YAML as it was sent, comments included."""
    author: Mapped[str] = mapped_column(String(500))
    at: Mapped[datetime]
    message: Mapped[str] = mapped_column(String(500))


class DocumentState(Base):
    """The one row that orders all changes; whoever changes documents locks it."""

    __tablename__ = "document_state"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(BigInteger)
    """Grows with every change of any document."""
