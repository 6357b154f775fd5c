"""Recordings over REST."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from control_plane.recordings.models import State
from control_plane.recordings.verification import Verification
from protos.vocabulary import Entry, EntryKind

_JSON = frozenset(
    {EntryKind.OPENED, EntryKind.JUDGED, EntryKind.HELD, EntryKind.DECIDED, EntryKind.CLOSED}
)


class EntryView(BaseModel):
    """One entry. Either `content` or `payload` is set."""

    sequence: int
    at: str = Field(
        description="RFC 3339 with nanoseconds, by the relay's clock.",
        examples=["2026-01-31T12:00:00.123456789Z"],
    )
    kind: str = Field(examples=["request"])
    content: dict[str, Any] | None = Field(
        default=None, description="Of opened, judged, held, decided and closed."
    )
    payload: str | None = Field(
        default=None,
        description="Base64: the bytes of a request or of an answer, as the agent"
        " sent or saw them.",
    )
    hash: str

    @classmethod
    def of(cls, entry: Entry) -> EntryView:
        """The view of an entry."""
        content = _content(entry) if entry.kind in _JSON else None
        return cls(
            sequence=entry.sequence,
            at=_rfc3339(entry.at),
            kind=entry.kind.name.lower(),
            content=content,
            payload=None if content is not None else base64.b64encode(entry.payload).decode(),
            hash=entry.hash.hex(),
        )


class EntriesView(BaseModel):
    """Some of a recording's entries. They are shown as kept; verification is another call."""

    items: list[EntryView]
    next: int | None = Field(
        description="`after` of the next page. Null: no more yet; an open session's recording"
        " grows."
    )


class VerificationView(BaseModel):
    """Whether what is kept is what was received, unchanged and whole."""

    valid: bool
    state: State
    entries: int = Field(description="How many were received and fitted the chain.")
    head: str = Field(description="The last one's hash.")
    first_bad: int | None = Field(description="The first entry that is wrong or missing.")
    problem: str

    @classmethod
    def of(cls, found: Verification) -> VerificationView:
        """The view of what was found."""
        return cls(
            valid=found.valid,
            state=found.state,
            entries=found.entries,
            head=found.head,
            first_bad=found.first_bad,
            problem=found.problem,
        )


def _content(entry: Entry) -> dict[str, Any] | None:
    try:
        said = json.loads(entry.payload)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _rfc3339(at: int) -> str:
    seconds, nanoseconds = divmod(at, 1_000_000_000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        moment = datetime.max.replace(tzinfo=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z"
