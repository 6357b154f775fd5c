"""What a transcript is made of, whatever the protocol.

The counterparts are the decoders beside this module, which say what was said, and
:mod:`control_plane.cli`, which prints it. Text is kept as it was recorded: who shows it on a
terminal makes control characters harmless first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Direction(StrEnum):
    """Who speaks."""

    REQUEST = "request"
    """The agent's client, towards the target."""
    ANSWER = "answer"
    """What the client received, as it received it: masked, and refusals included."""
    GATE = "gate"
    """The gateway: a session's beginning and end, judgements, holds and decisions."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a result; ``None`` is NULL. ``omitted`` rows followed that aren't kept here."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """One message in words. ``routine`` ones only keep the protocol going."""

    kind: str
    text: str
    table: Table | None = None
    routine: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a transcript.

    ``at`` is nanoseconds since the epoch and ``offset`` nanoseconds since the recording's first
    entry; ``sequence`` is the entry with which the message was complete.
    """

    at: int
    offset: int
    sequence: int
    direction: Direction
    kind: str
    text: str
    table: Table | None = None
    routine: bool = False


class Decoder(Protocol):
    """Turns the recorded bytes of one session into messages; total on garbage.

    Bytes come in whatever pieces they were recorded in. Memory is bounded by a constant and
    the rows asked for, not by the recording.
    """

    def requested(self, data: bytes) -> Iterator[Said]:
        """What the client said with these bytes."""
        ...

    def answered(self, data: bytes) -> Iterator[Said]:
        """What the client was told with these bytes."""
        ...

    def finish(self) -> Iterator[Said]:
        """What was under way when the recording ended."""
        ...
