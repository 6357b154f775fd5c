"""From frames to operations: what a statement is, what it needs, and its digest.

Counterparts: :mod:`data_plane.sql` judges text, :mod:`.conversation` asks about what comes out
here. This module knows the names a session has given (prepared statements, cursors) and
resolves EXECUTE and FETCH by them; it sends nothing.

A digest is SHA-256 over everything that decides what the target will do: the statement's
text, parameter types, the bytes of the Bind (values and formats), the number of rows asked
for, and of the session the role, the search_path, whether a transaction is open, and how the
server reads text.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from data_plane.protocols.postgres.frames import INT32, Reader
from data_plane.protocols.postgres.rows import Field
from data_plane.sql import (
    NameKind,
    SessionState,
    Statement,
    StepKind,
    classify,
    resolve,
)
from protos.vocabulary import Operation, Risk

_DOMAIN = b"jitgate postgres operation 1\0"
_STATE_SETTINGS = frozenset(
    {
        "all",
        "backslash_quote",
        "client_encoding",
        "datestyle",
        "intervalstyle",
        "role",
        "search_path",
        "session_authorization",
        "standard_conforming_strings",
        "timezone",
    }
)
READS_VALUES = ("DateStyle", "IntervalStyle", "TimeZone")
"""Settings by which the server reads the dates and times in a text; it reports each change."""
MAX_PREPARED = 4096
MAX_PORTALS = 4096
MAX_NAMED_BYTES = 64 * 1024 * 1024
"""What of a session's prepared statements, and of its portals, is kept; more is refused."""
_MAKES_NAMES = frozenset({NameKind.PREPARE, NameKind.DEALLOCATE, NameKind.DECLARE, NameKind.CLOSE})
_CACHE = 256
_CACHED_TEXT = 4096
_SHOWN_VALUE = 200
_SHOWN_VALUES = 50


@dataclass(slots=True, eq=False)
class Prepared:
    """A prepared statement. ``fields`` is its description once the target gave it, good for
    ``epoch`` alone. ``segment`` is the run of frames up to a Sync in which it was made.
    ``by_sql``: ``text`` is a PREPARE that has run, and what it prepares stands under the name.
    """

    name: bytes
    text: bytes = field(repr=False)
    types: bytes
    statement: Statement
    segment: int
    epoch: int
    by_sql: bool = False
    confirmed: bool = False
    described: bool = False
    fields: tuple[Field, ...] | None = None


@dataclass(slots=True, eq=False)
class Portal:
    """A portal: a prepared statement with values. Once ``allowed`` it may be executed on: the
    target never begins a portal anew. ``epoch`` is the session's at the Bind."""

    name: bytes
    prepared: Prepared
    body: bytes = field(repr=False)
    formats: tuple[int, ...]
    segment: int
    epoch: int
    confirmed: bool = False
    allowed: bool = False
    described: bool = False
    fields: tuple[Field, ...] | None = None


@dataclass(frozen=True, slots=True)
class Bind:
    """A Bind taken apart; ``values`` is everything behind the two names, verbatim."""

    portal: bytes
    statement: bytes
    values: bytes = field(repr=False)
    parameters: tuple[tuple[int, bytes | None], ...] = field(repr=False)
    formats: tuple[int, ...]


def read_bind(body: bytes) -> Bind:
    """Take a Bind apart; FrameError where it is malformed."""
    reader = Reader(body)
    portal, statement = reader.text(), reader.text()
    values = body[reader.at :]
    forms = [reader.int16() for _ in range(reader.count())]
    parameters: list[tuple[int, bytes | None]] = []
    count = reader.count()
    for index in range(count):
        form = forms[index] if len(forms) > 1 and index < len(forms) else (forms or [0])[0]
        parameters.append((form, reader.value()))
    formats = tuple(reader.int16() for _ in range(reader.count()))
    reader.finish()
    return Bind(portal, statement, values, tuple(parameters), formats)


@dataclass(slots=True)
class Session:
    """What of a session decides the meaning of a statement, and the names it has given.

    ``reported`` has the server's :data:`READS_VALUES`, ``usual`` what they are where the agent
    has set nothing.
    """

    state: SessionState = field(default_factory=SessionState)
    role: str = ""
    transaction: bytes = b"I"
    epoch: int = 0
    prepared: dict[bytes, Prepared] = field(default_factory=dict)
    portals: dict[bytes, Portal] = field(default_factory=dict)
    cursors: dict[str, Statement] = field(default_factory=dict)
    reported: dict[str, str] = field(default_factory=dict)
    usual: dict[str, str] = field(default_factory=dict)
    _judged: dict[bytes, Statement] = field(default_factory=dict)

    def change(self, state: SessionState, role: str) -> None:
        """Take over another state; everything judged or described under the old is stale."""
        if state != self.state or role != self.role:
            self.state = state
            self.role = role
            self.epoch += 1
            self._judged.clear()

    def judge(self, text: bytes) -> Statement:
        """What a text does in this session now. Never raises."""
        known = self._judged.get(text)
        if known is not None:
            return known
        statement = judge(text, self.state)
        if statement.names:
            return self._resolve(statement)
        if len(text) <= _CACHED_TEXT:
            if len(self._judged) >= _CACHE:
                self._judged.pop(next(iter(self._judged)))
            self._judged[text] = statement
        return statement

    def _resolve(self, statement: Statement) -> Statement:
        """Put what EXECUTE, FETCH and MOVE stand for in their place; what is not known here
        leaves them UNKNOWN."""
        if statement.unresolved is None or len(statement.names) != 1:
            return statement
        use = statement.names[0]
        if use.kind is NameKind.EXECUTE:
            prepared = self.prepared.get(use.name.encode())
            if prepared is None:
                return statement
            meant = self.meant(prepared)
            # What makes, uses or drops names is not followed: EXECUTE of it would change what
            # they stand for without being seen to.
            if meant.names or meant.discards or meant.copy is not None:
                return statement
            return resolve(statement, meant)
        # The name of a portal made by Bind is not a cursor's: fetching from it would run it.
        declared = self.cursors.get(use.name)
        return statement if declared is None else resolve(statement, declared)

    def meant(self, prepared: Prepared) -> Statement:
        """What a prepared statement does in this session now: the target, too, resolves its
        names anew where the search_path has changed."""
        statement = self.judge(prepared.text)
        if not prepared.by_sql:
            return statement
        for use in statement.names:
            if use.kind is NameKind.PREPARE:
                return use.statement or unknown(statement, "not understood")
        return unknown(statement, "not understood")

    def query(self, statement: Statement, text: bytes) -> Operation:
        """The operation of a simple Query."""
        behind = self._behind(statement)
        meant = [prepared.text + prepared.types for prepared in behind]
        statement = self._with_settings(statement)
        return operation(statement, _shown(text, behind), self._digest(b"Q", text, *meant))

    def preview(self, statement: Statement, text: bytes, types: bytes) -> Operation:
        """The operation of a Parse, which is not run yet."""
        return operation(statement, text, self._digest(b"P", text, types))

    def execute(self, statement: Statement, portal: Portal, rows: bytes) -> Operation:
        """The operation of an Execute."""
        prepared = portal.prepared
        behind = self._behind(statement)
        meant = [part for one in behind for part in (one.text, one.types)]
        digest = self._digest(b"E", prepared.text, prepared.types, portal.body, rows, *meant)
        shown = _values(prepared.types, portal.body)
        if shown:
            statement = replace(statement, facts={**statement.facts, "parameters": shown})
        statement = self._with_settings(statement)
        return operation(statement, _shown(prepared.text, behind), digest)

    def room_for(self, name: bytes, text: bytes) -> bool:
        """Whether one more prepared statement may be kept."""
        kept = self.prepared
        return not name or (
            len(kept) < MAX_PREPARED
            and len(text) + sum(len(one.text) for one in kept.values()) <= MAX_NAMED_BYTES
        )

    def room_to_bind(self, name: bytes, values: bytes) -> bool:
        """Whether one more portal may be kept."""
        kept = self.portals
        return not name or (
            len(kept) < MAX_PORTALS
            and len(values) + sum(len(one.body) for one in kept.values()) <= MAX_NAMED_BYTES
        )

    def _with_settings(self, statement: Statement) -> Statement:
        """The statement, and by which settings of the agent's own its values are read."""
        unusual = [
            f"{name} = {value}"
            for name, value in self.reported.items()
            if self.usual.get(name) != value
        ]
        if not unusual or statement.risk < Risk.WRITE:
            return statement
        return replace(statement, facts={**statement.facts, "settings": "; ".join(unusual)})

    def _behind(self, statement: Statement) -> list[Prepared]:
        """The prepared statements that the statement's EXECUTE runs."""
        return [
            prepared
            for use in statement.names
            if use.kind is NameKind.EXECUTE
            and (prepared := self.prepared.get(use.name.encode())) is not None
        ]

    def _digest(self, kind: bytes, *parts: bytes) -> bytes:
        state = self.state
        digest = hashlib.sha256(_DOMAIN + kind + self.transaction)
        for part in (
            *parts,
            self.role.encode(),
            "\0".join(state.search_path).encode(),
            state.encoding.encode(),
            b"1" if state.standard_strings else b"0",
            *(self.reported.get(name, "").encode() for name in READS_VALUES),
        ):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.digest()


def _shown(text: bytes, behind: list[Prepared]) -> bytes:
    """What a human approves: the statement, and in full what an EXECUTE in it stands for."""
    return b"\n".join((text, *(b"-- prepared:\n" + prepared.text for prepared in behind)))


def judge(text: bytes, state: SessionState) -> Statement:
    """What a text does. Never raises; what cannot be read is UNKNOWN."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        return Statement("unknown", Risk.UNKNOWN, facts={"unknown": "not UTF-8"}, outputs=None)
    return classify(decoded, state)


def unknown(statement: Statement, why: str) -> Statement:
    """The statement, with everything that could be learned about it, as UNKNOWN."""
    return replace(
        statement,
        risk=Risk.UNKNOWN,
        outputs=None,
        facts={**statement.facts, "unknown": why},
    )


def operation(statement: Statement, text: bytes, digest: bytes) -> Operation:
    """The operation of a judged statement."""
    return Operation(
        "postgres",
        statement.action,
        statement.resources,
        statement.risk,
        text.decode("utf-8", "replace"),
        digest,
        statement.facts,
    )


def changes_state(statement: Statement) -> bool:
    """Whether later statements may mean something else behind this one."""
    return statement.discards or any(s.name in _STATE_SETTINGS for s in statement.settings)


def unsettles(statement: Statement) -> bool:
    """Whether anything of the session may be other than known once this has run."""
    return changes_state(statement) or statement.risk >= Risk.ADMINISTER


def redefines(statement: Statement) -> bool:
    """Whether the database may have other relations once this has run."""
    return (
        statement.creates_relations
        or statement.risk >= Risk.ADMINISTER
        or (statement.risk is Risk.DESTROY and statement.action not in ("delete", "truncate"))
    )


def names_things(statement: Statement) -> bool:
    """Whether it makes or drops a name that later statements are judged by."""
    return any(use.kind in _MAKES_NAMES for use in statement.names)


def after(transaction: bytes, statement: Statement) -> bytes:
    """The transaction status to expect once the statement has run without an error."""
    for step in statement.steps:
        match step.kind:
            case StepKind.BEGIN:
                transaction = b"T"
            case StepKind.COMMIT | StepKind.ROLLBACK | StepKind.PREPARE:
                transaction = b"T" if step.chained else b"I"
            case _:
                pass
    return transaction


_INTEGERS = frozenset({20, 21, 23, 26})


def _values(types: bytes, body: bytes) -> str:
    """The values of a Bind for a human to read; long ones are cut, the digest has them all."""
    if body[:2] == b"\0\0" and body[2:4] == b"\0\0":
        return ""
    bind = read_bind(b"\0\0" + body)
    known = [INT32.unpack_from(types, at)[0] for at in range(0, len(types) - 3, 4)]
    shown: list[str] = []
    for index, (form, value) in enumerate(bind.parameters[:_SHOWN_VALUES]):
        kind = known[index] if index < len(known) else 0
        shown.append(f"${index + 1} = {_value(kind, form, value)}")
    if len(bind.parameters) > _SHOWN_VALUES:
        shown.append(f"and {len(bind.parameters) - _SHOWN_VALUES} more")
    return ", ".join(shown)


def _value(kind: int, form: int, value: bytes | None) -> str:
    if value is None:
        return "NULL"
    if form and kind in _INTEGERS and len(value) in (2, 4, 8):
        return str(int.from_bytes(value, "big", signed=kind != 26))
    cut = "..." if len(value) > _SHOWN_VALUE else ""
    if form and kind not in (25, 1043, 1042):
        return f"\\x{value[:_SHOWN_VALUE].hex()}{cut}"
    text = value[:_SHOWN_VALUE].decode("utf-8", "replace")
    return "'" + text.replace("'", "''") + "'" + cut


def read_parse(body: bytes) -> tuple[bytes, bytes, bytes]:
    """Name, text and parameter types (verbatim oids) of a Parse."""
    reader = Reader(body)
    name, text = reader.text(), reader.text()
    count = reader.count()
    start = reader.at
    for _ in range(count):
        reader.int32()
    reader.finish()
    return name, text, body[start:]


def classify_text(text: str) -> Operation:
    """The operation of one statement outside of a session, with no catalogue at hand."""
    session = Session()
    encoded = text.encode("utf-8", "surrogatepass")
    return session.query(session.judge(encoded), encoded)
