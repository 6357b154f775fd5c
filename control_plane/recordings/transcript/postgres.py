"""What was said in a recorded PostgreSQL session, message by message.

Theory of operation: each direction is cut into messages by its own :class:`Frames`. Most of
them are words by themselves. Rows aren't: their columns come with a RowDescription, which in
the extended protocol answers a Describe that may have come long before. So every frontend
message that will be answered waits in a queue, as the server works it off in order, and after
an error skips to the next Sync (PostgreSQL documentation, "Message Flow", "Extended Query").
Where the recording doesn't fit that, columns are numbered and the rest goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

from control_plane.recordings.transcript.lines import Said, Table
from control_plane.recordings.transcript.postgres_frames import (
    Frames,
    Lost,
    Malformed,
    Message,
    Reader,
)
from control_plane.recordings.transcript.postgres_values import decode, literal

_FRONTEND = "QPBEDCSHXdcfFp"
_BACKEND = "TDCEINAZSK123ntsGHWdcVRv"
_REMEMBERED = 10_000
"""Statements, portals and unanswered messages kept; a real session has far fewer."""
_BATCH = 1000
_COPY_LINES = 5
_COPY_SAMPLE = 2000
_STATUS: Mapping[str, str] = MappingProxyType(
    {"I": "idle", "T": "in transaction", "E": "in failed transaction"}
)


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    oid: int
    binary: bool


@dataclass(slots=True)
class _Statement:
    types: tuple[int, ...] = ()
    columns: tuple[_Column, ...] | None = None


@dataclass(slots=True)
class _Portal:
    statement: _Statement
    formats: tuple[int, ...]
    columns: tuple[_Column, ...] | None = None


@dataclass(slots=True)
class _Copy:
    """What one direction's COPY carried so far."""

    messages: int = 0
    size: int = 0
    sample: bytearray = field(default_factory=bytearray)


_Read = Callable[[str, Reader], Iterator[Said]]
_Known = TypeVar("_Known", _Statement, _Portal)


class PostgresDecoder:
    """See :class:`~control_plane.recordings.transcript.lines.Decoder`."""

    def __init__(self, rows: int | None) -> None:
        self._limit = rows
        self._frontend = Frames(_FRONTEND)
        self._backend = Frames(_BACKEND)
        self._statements: dict[str, _Statement] = {}
        self._portals: dict[str, _Portal] = {}
        self._awaited: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)
        self._columns: tuple[_Column, ...] | None = None
        self._rows: list[tuple[str | None, ...]] = []
        self._omitted = 0
        self._status = ""
        self._copy_in = _Copy()
        self._copy_out = _Copy()

    def requested(self, data: bytes) -> Iterator[Said]:
        """What the client said with these bytes."""
        for message in self._frontend.feed(data):
            if isinstance(message, Lost):
                yield _lost(message)
                continue
            if message.code != "d":
                yield from _copied(self._copy_in)
            yield from self._guarded(message, self._request)

    def answered(self, data: bytes) -> Iterator[Said]:
        """What the client was told with these bytes."""
        for message in self._backend.feed(data):
            if isinstance(message, Lost):
                yield from self._result()
                yield _lost(message)
                continue
            if message.code != "d":
                yield from _copied(self._copy_out)
            if message.code not in "DNSA":  # the ones that may come between rows
                yield from self._result()
            yield from self._guarded(message, self._answer)

    def finish(self) -> Iterator[Said]:
        """What was under way when the recording ended."""
        yield from _copied(self._copy_in)
        yield from _copied(self._copy_out)
        yield from self._result()
        for who, frames in (("request", self._frontend), ("answer", self._backend)):
            if frames.waiting:
                yield Said("incomplete", f"{frames.waiting} bytes of an unfinished {who}")

    def _guarded(self, message: Message, read: _Read) -> Iterator[Said]:
        if message.payload is None:
            yield Said("too long", f"a message {message.code!r} of {message.size} bytes")
            return
        try:
            yield from read(message.code, Reader(message.payload))
        except Malformed:
            yield Said("malformed", f"a message {message.code!r} of {message.size} bytes")

    # -- what the client says ---------------------------------------------------------------

    def _request(self, code: str, reader: Reader) -> Iterator[Said]:
        match code:
            case "Q":
                text = reader.string()
                self._await("query")
                yield Said("query", text)
            case "P":
                name, text = reader.string(), reader.string()
                self._remember(self._statements, name, _Statement(reader.numbers(4, signed=False)))
                self._await("parse", name)
                yield Said("parse", f"{_named('statement', name)}: {text}")
            case "B":
                yield self._bind(reader)
            case "E":
                name, limit = reader.string(), reader.number(4)
                self._await("execute", name)
                most = f", at most {limit} rows" if limit > 0 else ""
                yield Said("execute", _named("portal", name) + most)
            case "D" | "C":
                kind = {"S": "statement", "P": "portal"}.get(reader.character(), "unknown")
                name = reader.string()
                if code == "D":
                    self._await(f"describe {kind}", name)
                    yield Said("describe", _named(kind, name), routine=True)
                else:
                    self._await("close", name)
                    yield Said("close", _named(kind, name), routine=True)
            case "S":
                self._await("sync")
                yield Said("sync", "", routine=True)
            case "H":
                yield Said("flush", "", routine=True)
            case "X":
                yield Said("terminate", "")
            case "d":
                _copy(self._copy_in, reader)
            case "c":
                yield Said("copy done", "", routine=True)
            case "f":
                yield Said("copy failed", reader.string())
            case "F":
                self._await("query")
                yield Said("function call", f"of function oid {reader.number(4, signed=False)}")
            case _:  # "p": a password or another proof of identity
                yield Said("authentication", "(not shown)")

    def _bind(self, reader: Reader) -> Said:
        portal, name = reader.string(), reader.string()
        formats = reader.numbers(2)
        statement = self._statements.get(name, _Statement())
        values = []
        for index in range(reader.number(2, signed=False)):
            oid = statement.types[index] if index < len(statement.types) else 0
            values.append(decode(reader.value(), oid, _binary(formats, index)))
        self._remember(self._portals, portal, _Portal(statement, reader.numbers(2)))
        self._await("bind", portal)
        text = f"{_named('portal', portal)} to {_named('statement', name)}"
        if values:
            text += ": " + ", ".join(
                f"${number} = {literal(value)}" for number, value in enumerate(values, 1)
            )
        return Said("bind", text)

    # -- what the client is told ------------------------------------------------------------

    def _answer(self, code: str, reader: Reader) -> Iterator[Said]:
        match code:
            case "T":
                yield self._described(_columns(reader))
            case "D":
                yield from self._row(reader)
            case "C":
                self._worked_off("execute")
                yield Said("complete", reader.string())
            case "I" | "s":
                self._worked_off("execute")
                yield Said(*{"I": ("empty query", ""), "s": ("suspended", "more rows wait")}[code])
            case "E" | "N":
                if code == "E":
                    self._failed()
                yield Said("error" if code == "E" else "notice", _report(reader))
            case "Z":
                yield self._ready(reader.character())
            case "A":
                process, channel, payload = reader.number(4), reader.string(), reader.string()
                yield Said("notification", f"on {channel} from process {process}: {payload}")
            case "S":
                name, value = reader.string(), reader.string()
                yield Said("parameter", f"{name} = {value}", routine=True)
            case "K":
                text = f"process {reader.number(4)}, its cancel key isn't shown"
                yield Said("backend key", text, routine=True)
            case "1" | "2" | "3":
                kind = {"1": "parse", "2": "bind", "3": "close"}[code]
                self._worked_off(kind)
                yield Said(f"{kind} complete", "", routine=True)
            case "n":
                self._worked_off("describe")
                yield Said("no data", "", routine=True)
            case "t":
                types = reader.numbers(4, signed=False)
                if self._awaited and self._awaited[0][0] == "describe statement":
                    self._statements.get(self._awaited[0][1], _Statement()).types = types
                yield Said("parameters", ", ".join(map(str, types)), routine=True)
            case "G" | "H" | "W":
                way = {"G": "in", "H": "out", "W": "both"}[code]
                form = "binary" if reader.number(1) else "text"
                yield Said(f"copy {way}", f"{form} format")
            case "d":
                _copy(self._copy_out, reader)
            case "c":
                yield Said("copy done", "", routine=True)
            case "V":
                yield Said("function result", decode(reader.value(), 0, False) or "NULL")
            case _:  # "R", "v": before the session's recording begins
                yield Said("login", f"message {code!r}", routine=True)

    def _described(self, columns: tuple[_Column, ...]) -> Said:
        kind, name = self._awaited[0] if self._awaited else ("query", "")
        if kind == "describe statement":
            self._statements.get(name, _Statement()).columns = columns
            self._awaited.popleft()
        elif kind == "describe portal":
            if name in self._portals:
                self._portals[name].columns = columns
            self._awaited.popleft()
        else:
            self._columns = columns
        return Said("columns", ", ".join(column.name for column in columns), routine=True)

    def _row(self, reader: Reader) -> Iterator[Said]:
        if self._limit is not None and len(self._rows) >= self._limit:
            self._omitted += 1
            return
        values = [reader.value() for _ in range(reader.number(2, signed=False))]
        if self._columns is None:
            self._columns = self._columns_of_portal()
        columns = self._columns or ()
        row = []
        for index, value in enumerate(values):
            column = columns[index] if index < len(columns) else None
            oid, binary = (column.oid, column.binary) if column else (0, False)
            row.append(decode(value, oid, binary))
        self._rows.append(tuple(row))
        if self._limit is None and len(self._rows) >= _BATCH:
            columns_kept = self._columns
            yield from self._result()
            self._columns = columns_kept

    def _columns_of_portal(self) -> tuple[_Column, ...] | None:
        kind, name = self._awaited[0] if self._awaited else ("", "")
        portal = self._portals.get(name) if kind == "execute" else None
        if portal is None:
            return None
        if portal.columns is not None:
            return portal.columns
        # Describe of a statement can't know the formats that Bind asks for.
        return portal.statement.columns and tuple(
            _Column(column.name, column.oid, _binary(portal.formats, index))
            for index, column in enumerate(portal.statement.columns)
        )

    def _result(self) -> Iterator[Said]:
        """The rows kept so far, as a table; afterwards there are none."""
        columns, rows, omitted = self._columns or (), self._rows, self._omitted
        self._columns, self._rows, self._omitted = None, [], 0
        if not rows and not omitted:
            return
        count = len(rows) + omitted
        width = max((len(row) for row in rows), default=len(columns))
        names = [column.name for column in columns][:width]
        names += [f"column {number + 1}" for number in range(len(names), width)]
        yield Said(
            "rows",
            f"{count} row" + ("" if count == 1 else "s"),
            Table(tuple(names), tuple(rows), omitted),
        )

    def _ready(self, code: str) -> Said:
        while self._awaited and self._awaited.popleft()[0] not in ("query", "sync"):
            pass
        status = _STATUS.get(code, f"unknown status {code!r}")
        changed = status != self._status
        self._status = status
        return Said("ready", status, routine=not changed)

    # -- who is answered --------------------------------------------------------------------

    def _await(self, kind: str, name: str = "") -> None:
        self._awaited.append((kind, name))

    def _worked_off(self, kind: str) -> None:
        if self._awaited and self._awaited[0][0].startswith(kind):
            self._awaited.popleft()

    def _failed(self) -> None:
        """After an error, the server skips what it was asked for up to the Sync."""
        while self._awaited and self._awaited[0][0] not in ("query", "sync"):
            self._awaited.popleft()

    def _remember(self, known: dict[str, _Known], name: str, one: _Known) -> None:
        known.pop(name, None)
        if len(known) >= _REMEMBERED:
            del known[next(iter(known))]
        known[name] = one


def _named(what: str, name: str) -> str:
    return f"{what} {name}" if name else f"the unnamed {what}"


def _binary(formats: tuple[int, ...], index: int) -> bool:
    # No format code: all text; one: it is for all; else one each ("Bind").
    if len(formats) == 1:
        return formats[0] == 1
    return index < len(formats) and formats[index] == 1


def _columns(reader: Reader) -> tuple[_Column, ...]:
    columns = []
    for _ in range(reader.number(2, signed=False)):
        name = reader.string()
        reader.take(6)  # the table's oid and the attribute's number
        oid = reader.number(4, signed=False)
        reader.take(6)  # the type's size and modifier
        columns.append(_Column(name, oid, reader.number(2) == 1))
    return tuple(columns)


def _report(reader: Reader) -> str:
    """An error's or a notice's fields ("Error and Notice Message Fields") as psql shows them."""
    fields: dict[str, str] = {}
    while (code := reader.character()) != "\0":
        fields[code] = reader.string()
    severity = fields.get("V") or fields.get("S") or "?"
    lines = [f"{severity} {fields.get('C', '?????')}: {fields.get('M', '')}"]
    for key, word in (("D", "DETAIL"), ("H", "HINT"), ("W", "CONTEXT")):
        if key in fields:
            lines.append(f"{word}: {fields[key]}")
    return "\n".join(lines)


def _copy(copy: _Copy, reader: Reader) -> None:
    data = reader.rest()
    copy.messages += 1
    copy.size += len(data)
    copy.sample += data[: _COPY_SAMPLE - len(copy.sample)]


def _copied(copy: _Copy) -> Iterator[Said]:
    """What a COPY carried, as its first lines; afterwards nothing is kept."""
    if not copy.messages:
        return
    lines = copy.sample.decode(errors="backslashreplace").splitlines()
    text = f"{copy.size} bytes in {copy.messages} messages"
    shown = lines[:_COPY_LINES]
    more = ["..."] if len(lines) > len(shown) or copy.size > len(copy.sample) else []
    copy.messages = copy.size = 0
    copy.sample = bytearray()
    yield Said("copy data", "\n".join([text, *shown, *more]))


def _lost(lost: Lost) -> Said:
    return Said("garbage", f"{lost.size} bytes that are no PostgreSQL messages")
