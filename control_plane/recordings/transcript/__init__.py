"""A recording as readable lines: pure, from entries to text.

Counterparts: :mod:`protos.chain` reads and checks the entries, ``jitgate replay`` prints the
lines. Nothing here verifies a hash, opens a file or waits. It stands apart from the relay's own
decoders on purpose: whoever reads a recording doesn't trust who wrote it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from control_plane.recordings.transcript.lines import (
    Decoder,
    Direction,
    Line,
    Said,
    Table,
)
from control_plane.recordings.transcript.postgres import PostgresDecoder
from protos.vocabulary import Entry, EntryKind

__all__ = ["DEFAULT_ROWS", "Direction", "Line", "Table", "transcribe"]

DEFAULT_ROWS = 20
"""How many rows of a result are kept unless asked otherwise."""


class _Bytes:
    """For a protocol without a decoder: how much was said."""

    def requested(self, data: bytes) -> Iterator[Said]:
        yield Said("bytes", f"{len(data)} bytes")

    answered = requested

    def finish(self) -> Iterator[Said]:
        return iter(())


_DECODERS: Mapping[str, Callable[[int | None], Decoder]] = MappingProxyType(
    {"postgres": PostgresDecoder}
)


def transcribe(entries: Iterable[Entry], *, rows: int | None = DEFAULT_ROWS) -> Iterator[Line]:
    """The lines of one session's recording, in order, as far as ``entries`` go.

    ``rows`` is how many rows of each result are kept; ``None`` keeps all, in tables of at most
    a thousand. Raises what iterating over ``entries`` raises, after the lines before it; the
    content itself never raises.
    """
    decoder: Decoder | None = None
    said: Iterator[Said]
    start = at = sequence = 0
    first = True
    for entry in entries:
        if first:
            start, first = entry.at, False
        at, sequence = entry.at, entry.sequence
        match entry.kind:
            case EntryKind.REQUEST | EntryKind.ANSWER:
                if decoder is None:
                    decoder = PostgresDecoder(rows)
                if entry.kind is EntryKind.REQUEST:
                    direction, said = Direction.REQUEST, decoder.requested(entry.payload)
                else:
                    direction, said = Direction.ANSWER, decoder.answered(entry.payload)
            case _:
                note = _note(entry.payload)
                if entry.kind is EntryKind.OPENED:
                    known = _DECODERS.get(_protocol(note))
                    decoder = known(rows) if known else _Bytes()
                direction = Direction.GATE
                said = iter((_gate(entry.kind, note, len(entry.payload)),))
        for one in said:
            yield _line(start, at, sequence, direction, one)
    if decoder is not None:
        for one in decoder.finish():
            yield _line(start, at, sequence, Direction.ANSWER, one)


def _line(start: int, at: int, sequence: int, direction: Direction, said: Said) -> Line:
    return Line(at, at - start, sequence, direction, said.kind, said.text, said.table, said.routine)


def _note(payload: bytes) -> Mapping[str, Any] | None:
    """The JSON object that a gateway's entry holds, or None for anything else."""
    try:
        note = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return note if isinstance(note, dict) else None


def _protocol(note: Mapping[str, Any] | None) -> str:
    """The session's protocol; recordings that don't say it are PostgreSQL's."""
    note = note or {}
    return _text(note, "protocol") or _text(_part(note, "target"), "protocol") or "postgres"


def _gate(kind: EntryKind, note: Mapping[str, Any] | None, size: int) -> Said:
    word = kind.name.lower()
    if note is None:
        return Said(word, f"({size} bytes that are no JSON object)")
    match kind:
        case EntryKind.OPENED:
            return Said(word, _opened(note))
        case EntryKind.JUDGED:
            preview = bool(note.get("preview"))
            return Said(word, _judged(note, preview), routine=preview)
        case EntryKind.HELD:
            return Said(word, _held(note))
        case EntryKind.DECIDED:
            return Said(word, _verdict(_part(note, "verdict")))
        case _:
            return Said(word, _sentence(_text(note, "reason"), _text(note, "code")))


def _opened(note: Mapping[str, Any]) -> str:
    principal = _part(note, "principal")
    who = _text(principal, "name") or _text(principal, "object_id") or "somebody"
    kind = _text(principal, "kind")
    target = _text(note, "target") or _text(_part(note, "target"), "name")
    parts = [f"{who} ({kind})" if kind else who]
    for word, value in (
        ("to", target),
        ("through", _text(note, "relay")),
        ("from", _text(note, "client_address")),
        ("under policy", _text(note, "policy_version")[:12]),
    ):
        if value:
            parts.append(f"{word} {value}")
    return " ".join(parts)


def _judged(note: Mapping[str, Any], preview: bool) -> str:
    operation = _part(note, "operation")
    listed = operation.get("resources")
    names = []
    for resource in listed if isinstance(listed, list) else []:
        if isinstance(resource, dict):
            written = "written " if resource.get("written") else ""
            names.append(written + _text(resource, "name"))
        else:
            names.append(str(resource))
    what = _text(operation, "action") or "?"
    if names:
        what += " " + ", ".join(names)
    described = [_text(operation, "risk")] + [
        f"{name}={value}" for name, value in _part(operation, "facts").items()
    ]
    what += f" [{' '.join(part for part in described if part)}]"
    return f"{what}: {'preview, ' if preview else ''}{_verdict(_part(note, 'verdict'))}"


def _held(note: Mapping[str, Any]) -> str:
    text = f"for approval {_text(note, 'approval_id')}"
    if until := note.get("hold_until"):
        text += f" until {_moment(until)}"
    return f"{text} {_text(note, 'url')}".rstrip()


def _moment(value: object) -> str:
    """Seconds since the epoch as RFC 3339 writes them; anything else as it is."""
    if isinstance(value, int | float):
        with contextlib.suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)


def _verdict(verdict: Mapping[str, Any]) -> str:
    outcome = _text(verdict, "outcome") or "?"
    text = outcome
    if rule := _text(verdict, "rule"):
        text += f" by rule {rule}"
    if decided_by := _text(verdict, "decided_by"):
        text += f", decided by {decided_by}"
    if approval := _text(verdict, "approval_id"):
        text += f" (approval {approval})"
    sentence = _sentence(_text(verdict, "reason"), _text(verdict, "code"))
    return f"{text}: {sentence}" if sentence else text


def _sentence(reason: str, code: str) -> str:
    if reason and code:
        return f"{reason} ({code})"
    return reason or code


def _part(note: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = note.get(name)
    return value if isinstance(value, dict) else {}


def _text(note: Mapping[str, Any], name: str) -> str:
    value = note.get(name)
    return value if isinstance(value, str) else ""
