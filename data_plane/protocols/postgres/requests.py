"""What the client asks in a session: judged frame by frame, passed, refused or held back.

Counterparts: :mod:`.conversation` feeds it and performs its wishes, :mod:`.results` knows what
the target still owes, :mod:`.operations` what a statement does.

Theory of operation. Frames are taken one at a time; the first that cannot go on stops all
behind it. A frame waits

* for a verdict (``asking``);
* for the target to catch up (``draining``), where judging it depends on how earlier frames
  end: a statement that changes names, settings or tables, or a name used in another run of
  frames (``segment``, up to a Sync) than the one that made it. So what is known here of the
  session's names is never ahead of the target in a way that could make one statement pass for
  another. Where it knows less than the target, it refuses;
* for the gateway's own questions to the target after tables or settings may have changed.

A refusal is said at once where nothing is outstanding and no transaction open. Otherwise a
statement that is sure to fail takes the refused one's place, so that the target itself aborts
its transaction and keeps the order of answers; its error is replaced by the refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from data_plane.conversation import Ask, Close, Effect, SendAside, Withdraw
from data_plane.masking import Masker
from data_plane.protocols.postgres import refusal
from data_plane.protocols.postgres.catalogue import (
    CATALOGUE,
    SETTINGS,
    Knowledge,
    masks_for,
    read_catalogue,
    read_settings,
    split_answers,
)
from data_plane.protocols.postgres.frames import (
    FLUSH,
    MAX_COPY_DATA,
    MAX_FRAME,
    SYNC,
    TERMINATE,
    FrameBuffer,
    FrameError,
    Reader,
    cancel_request,
    describe_portal,
    parse,
    query,
    ready,
)
from data_plane.protocols.postgres.names import learn
from data_plane.protocols.postgres.operations import (
    Portal,
    Prepared,
    Session,
    after,
    names_things,
    read_bind,
    read_parse,
    redefines,
    unsettles,
)
from data_plane.protocols.postgres.results import Answers, Expected, Kind
from data_plane.protocols.postgres.rows import CopyObjection, plan_copy
from data_plane.sql import CopyDirection, Statement
from protos.vocabulary import Operation, Outcome, Risk, Verdict

_REFUSED = b"jitgate: refused"
"""No SQL: a colon cannot follow the first word of a statement."""
_REFUSED_NAME = b"jitgate_refused"
_MAX_NAME = 63  # NAMEDATALEN - 1: longer names meet at the target
_KNOWN = frozenset(b"QPBDECSHFXdcf")
_IN_COPY = frozenset(b"dcfHSX")
_COPY_FRAMES = frozenset(b"dcf")

_SETTINGS_STALE, _CATALOGUE_STALE = 1, 2


@dataclass(slots=True)
class Outbox:
    """What one event leads to: at most one ``Send`` a side, then the rest in order."""

    client: bytearray = field(default_factory=bytearray)
    target: bytearray = field(default_factory=bytearray)
    effects: list[Effect] = field(default_factory=list)


@dataclass(slots=True)
class _Asking:
    """A frame that waits for its verdict."""

    allow: Callable[[], None]
    simple: bool


class Requests:
    """The client's half of a session, from the end of the login on."""

    def __init__(self, masker: Masker, user: str, key: bytes, out: Outbox) -> None:
        self.session = Session()
        self.answers = Answers(masker, user, self._ready, self.session.reported)
        self.buffer = FrameBuffer()
        self.closed = False
        self._masker = masker
        self._key = key
        self._out = out
        self._knowledge: Knowledge | None = None
        self._default_path: tuple[str, ...] | None = None
        self._asking: _Asking | None = None
        self._segment = 0
        self._unsynced = False
        self._draining = False
        self._discarding = False
        self._copy_wait = False
        self._refreshing = False
        self._stale = 0
        self._touched = 0
        self._looked_up = False
        self._pass = 0
        self._dropping = False
        self._learning: Callable[[], None] | None = None
        self._closing: dict[tuple[bytes, bytes], int] = {}

    # What the driver tells.

    @property
    def backlog(self) -> int:
        """Bytes that wait for a verdict or for the target."""
        if self._asking or self._draining or self._refreshing or self._copy_wait:
            return len(self.buffer)
        return 0

    @property
    def asking(self) -> bool:
        """Whether a verdict is awaited."""
        return self._asking is not None

    def login(self, ready_now: Callable[[], None]) -> None:
        """Learn about the database; ``ready_now`` runs once that is done."""
        self._refresh(_SETTINGS_STALE | _CATALOGUE_STALE, ready_now)

    def receive(self, data: bytes) -> None:
        """Take bytes of the client."""
        self.buffer.feed(data)
        self.advance()

    def answered(self, data: bytes) -> None:
        """Take bytes of the target; raises what :meth:`Answers.feed` raises."""
        self.answers.feed(data, self._out.client)
        if self._learning is not None:
            then, self._learning = self._learning, None
            self._refreshing = False
            self._learned(bytes(self.answers.internal))
            self.answers.internal.clear()
            then()
        if self.answers.ready_held:
            self.answers.ready_held = False
            self._refresh(self._stale, self._release)
        self.advance()

    def decided(self, verdict: Verdict) -> None:
        """Go on with the frame that was asked about."""
        asking = self._asking
        if asking is None:
            return
        self._asking = None
        if verdict.outcome is Outcome.ALLOW:
            asking.allow()
        else:
            self._refuse(refusal.refused(verdict), asking.simple)
        self.advance()

    def cancel(self) -> None:
        """Withdraw what is held, or cancel what runs."""
        asking = self._asking
        if asking is not None:
            self._asking = None
            self._out.effects.append(Withdraw("cancelled"))
            self._refuse(refusal.cancelled(), asking.simple)
            self.advance()
        else:
            self.cancel_running()

    def cancel_running(self) -> None:
        """Ask the target to stop what it runs for this session, if it does."""
        if self.answers.queue:
            self._out.effects.append(SendAside(cancel_request(self._key)))

    def leave(self, reason: str) -> None:
        """The client is gone: nothing of it may go on."""
        if self._asking is not None:
            self._asking = None
            self._out.effects.append(Withdraw(reason))
        self.cancel_running()

    # Taking frames.

    def advance(self) -> None:
        """Take frames until one has to wait."""
        while not (self.closed or self._asking or self._refreshing):
            if self._pass:
                data = self.buffer.take(min(self._pass, len(self.buffer)))
                self._pass -= len(data)
                if not self._dropping:
                    self._forward(data)
                if self._pass:
                    return
            if self._copy_wait and (self.answers.copy_in or not self.answers.queue):
                self._copy_wait = False
            if self._draining and not (self._copy_wait or self.answers.copy_in):
                if self.answers.queue:
                    return
                self._drained()
            try:
                if not self._next():
                    return
            except FrameError as error:
                self.violation(str(error))

    def _next(self) -> bool:
        """Take the next frame; False where it is not there yet or has to wait."""
        header = self.buffer.header()
        if header is None:
            return False
        kind, size = header
        if kind not in _KNOWN:
            raise FrameError("this frame type is not known")
        if self.answers.copy_in and kind not in _IN_COPY:
            raise FrameError("only COPY data may come during COPY")
        if self._copy_wait and kind not in b"SHX":
            return False
        if kind == 0x64:  # CopyData: never held as a whole
            if size > MAX_COPY_DATA:
                raise FrameError("a frame is too large")
            self._dropping = self._ignored
            self._pass = size
            return True
        if size > MAX_FRAME:
            raise FrameError("a frame is too large")
        if len(self.buffer) < size:
            return False
        start = self.buffer.start
        whole = self.buffer.take(size)
        if not self._frame(kind, whole):
            self.buffer.start = start
            return False
        self._looked_up = False
        return True

    @property
    def _ignored(self) -> bool:
        """Whether frames up to the next Sync come to nothing, here or at the target."""
        return self._discarding or self.answers.skipping

    def _frame(self, kind: int, whole: bytes) -> bool:
        body = whole[5:]
        if kind == 0x58:  # X, Terminate
            self._forward(TERMINATE)
            self._close("client terminated")
            return True
        if kind == 0x53:  # S, Sync
            self._sync()
            return True
        if self._ignored:
            return True
        match kind:
            case 0x51:  # Q, Query
                return self._query(whole, body)
            case 0x50:  # P, Parse
                return self._parse(whole, body)
            case 0x42:  # B, Bind
                return self._bind(whole, body)
            case 0x44:  # D, Describe
                return self._describe(whole, body)
            case 0x45:  # E, Execute
                return self._execute(whole, body)
            case 0x43:  # C, Close
                return self._close_name(whole, body)
            case 0x46:  # F, FunctionCall
                if self._unsynced and self._drain():
                    return False
                self._refuse(
                    refusal.error(
                        refusal.UNSUPPORTED,
                        "function_call",
                        "function call messages are not served by the gateway",
                        hint="Call the function in a SELECT.",
                    ),
                    simple=True,
                )
            case _:  # H, Flush; c, CopyDone; f, CopyFail
                if kind != 0x48:
                    self.answers.copy_in = False
                self._forward(whole)
        return True

    def _sync(self) -> None:
        if self._discarding:
            self._discarding = False
            self._out.client += ready(self.answers.status)
        elif not self.answers.copy_in:
            # During COPY the target ignores a Sync, so it does not even get it.
            self._segment += 1
            self._unsynced = False
            self._send(SYNC, Expected(Kind.SYNC))
            if self._stale or self._touched:
                self._draining = True

    def _query(self, whole: bytes, body: bytes) -> bool:
        text = body[:-1]
        if body[-1:] != b"\0" or b"\0" in text:
            raise FrameError("a query is not one terminated string")
        # Frames without a Sync may still fail and then swallow this one.
        if self._unsynced and self._drain():
            return False
        statement = self.session.judge(text)
        if self._look_up(statement):
            return False
        if self._objects(statement, simple=True):
            return True

        def allow() -> None:
            self._segment += 1
            self._unsynced = False
            # Section "Simple Query": it ends the unnamed statement and portal.
            self.session.prepared.pop(b"", None)
            self.session.portals.pop(b"", None)
            expected = Expected(Kind.QUERY, statement)
            self._send(whole, expected)
            self._ran(statement, text, expected)

        self._ask(self.session.query(statement, text), allow, simple=True)
        return True

    def _parse(self, whole: bytes, body: bytes) -> bool:
        name, text, types = read_parse(body)
        if self._unfit(name):
            return True
        known = self.session.prepared.get(name) if name else None
        if known is not None or self._is_closing(b"S", name):
            if self._drain():
                return False
            if known is not None and name in self.session.prepared:
                self._refuse_extended(refusal.STATEMENT_EXISTS, "prepared statement already exists")
                return True
        if not self.session.room_for(name, text):
            self._refuse_extended(refusal.TOO_MANY, "too many prepared statements are kept")
            return True
        statement = self.session.judge(text)
        if self._look_up(statement):
            return False

        def allow() -> None:
            if self.answers.skipping:
                return
            session = self.session
            before = session.prepared.get(name)
            made = Prepared(name, text, types, statement, self._segment, session.epoch)
            session.prepared[name] = made

            def undo() -> None:
                if before is None:
                    session.prepared.pop(name, None)
                else:
                    session.prepared[name] = before

            def done() -> None:
                made.confirmed = True

            self._send(whole, Expected(Kind.PARSE, statement, made, undo=undo, done=done))

        self._ask(self.session.preview(statement, text, types), allow, preview=True)
        return True

    def _bind(self, whole: bytes, body: bytes) -> bool:
        bind = read_bind(body)
        if self._unfit(bind.portal):
            return True
        prepared = self.session.prepared.get(bind.statement)
        if self._unsure(b"S", bind.statement, prepared) or self._is_closing(b"P", bind.portal):
            return False
        if bind.portal and bind.portal in self.session.portals and self._drain():
            return False
        if prepared is None:
            self._refuse_extended(refusal.NO_SUCH_STATEMENT, "prepared statement does not exist")
            return True
        session = self.session
        if not session.room_to_bind(bind.portal, bind.values):
            self._refuse_extended(refusal.TOO_MANY, "too many portals are kept")
            return True
        portal = Portal(
            bind.portal, prepared, bind.values, bind.formats, self._segment, session.epoch
        )
        before = session.portals.get(bind.portal)
        session.portals[bind.portal] = portal
        session.cursors.pop(bind.portal.decode("utf-8", "replace"), None)

        def undo() -> None:
            if before is None:
                session.portals.pop(bind.portal, None)
            else:
                session.portals[bind.portal] = before

        def done() -> None:
            portal.confirmed = True

        statement = prepared.statement
        self._send(whole, Expected(Kind.BIND, statement, undo=undo, done=done))
        return True

    def _describe(self, whole: bytes, body: bytes) -> bool:
        reader = Reader(body)
        what, name = reader.byte(), reader.text()
        reader.finish()
        expected: Expected
        if what == b"S":
            prepared = self.session.prepared.get(name)
            if self._unsure(b"S", name, prepared):
                return False
            expected = Expected(Kind.DESCRIBE_STATEMENT, prepared=prepared)
            if prepared is not None:
                expected.statement = prepared.statement
                prepared.described = True
                prepared.epoch = self.session.epoch
        elif what == b"P":
            portal = self.session.portals.get(name)
            if self._unsure(b"P", name, portal):
                return False
            expected = Expected(Kind.DESCRIBE_PORTAL, portal=portal)
            if portal is not None:
                expected.statement = portal.prepared.statement
                portal.described = True
        else:
            raise FrameError("only statements and portals can be described")

        def undo() -> None:
            if expected.prepared is not None:
                expected.prepared.described = False
            if expected.portal is not None:
                expected.portal.described = False

        expected.undo = undo
        self._send(whole, expected)
        return True

    def _execute(self, whole: bytes, body: bytes) -> bool:
        reader = Reader(body)
        name = reader.text()
        rows = body[reader.at :]
        reader.int32()
        reader.finish()
        portal = self.session.portals.get(name)
        if self._unsure(b"P", name, portal):
            return False
        if portal is None:
            self._refuse_extended(refusal.NO_SUCH_PORTAL, "portal does not exist")
            return True
        found = portal
        statement = self.session.meant(found.prepared)
        if found.allowed:
            self._run(whole, found, statement)
            return True
        if self._look_up(statement):
            return False
        if found.epoch != self.session.epoch:
            # The target resolved its names at the Bind, in a session that was another.
            self._refuse_extended(
                refusal.NO_SUCH_PORTAL, "the session has changed since the portal was bound"
            )
            return True
        if self._objects(statement, simple=False):
            return True

        def allow() -> None:
            if self.answers.skipping:
                return
            found.allowed = True
            self._run(whole, found, statement)

        self._ask(self.session.execute(statement, found, rows), allow)
        return True

    def _run(self, whole: bytes, portal: Portal, statement: Statement) -> None:
        """Send an Execute that may run, and before it what masking its rows needs."""
        prepared = portal.prepared
        current = prepared.described and prepared.epoch == self.session.epoch
        if self.answers.masking and not portal.described and not current:
            portal.described = True

            def undo() -> None:
                portal.described = False

            self._send(
                describe_portal(portal.name),
                Expected(Kind.DESCRIBE_PORTAL, statement, portal=portal, swallow=True, undo=undo),
            )
        expected = Expected(Kind.EXECUTE, statement, portal=portal)
        self._send(whole, expected)
        self._ran(statement, prepared.text, expected)

    def _close_name(self, whole: bytes, body: bytes) -> bool:
        reader = Reader(body)
        what, name = reader.byte(), reader.text()
        reader.finish()
        if what not in (b"S", b"P"):
            raise FrameError("only statements and portals can be closed")
        session, key = self.session, (what, name)
        if self._is_closing(what, name):
            return False
        statement = session.prepared.pop(name, None) if what == b"S" else None
        portal = session.portals.pop(name, None) if what == b"P" else None
        if what == b"P":
            session.cursors.pop(name.decode("utf-8", "replace"), None)
        self._closing[key] = self._segment

        def undo() -> None:
            self._closing.pop(key, None)
            if statement is not None:
                session.prepared[name] = statement
            if portal is not None:
                session.portals[name] = portal

        def done() -> None:
            self._closing.pop(key, None)

        self._send(whole, Expected(Kind.CLOSE, undo=undo, done=done))
        return True

    # Whether what is known here is sure.

    def _unsure(self, what: bytes, name: bytes, known: Prepared | Portal | None) -> bool:
        """Whether a name has to wait until the target has said what became of it."""
        if self._is_closing(what, name):
            return True
        if known is None or known.confirmed or known.segment == self._segment:
            return False
        return self._drain()

    def _is_closing(self, what: bytes, name: bytes) -> bool:
        """Whether a name closed in an earlier segment may still be there; then it waits."""
        segment = self._closing.get((what, name), self._segment)
        return segment != self._segment and self._drain()

    def _drain(self) -> bool:
        """Wait until the target has answered everything; False where it has."""
        if not self.answers.queue:
            return False
        self._draining = True
        if self._unsynced:
            self._forward(FLUSH)
        return True

    def _drained(self) -> None:
        self._draining = False
        if self._stale & _SETTINGS_STALE and self._unsynced:
            # The target cannot be asked before the Sync: until then nothing resolves.
            state = replace(self.session.state, search_path=())
            self.session.change(state, "")
            # Also where nothing resolved before: what was described since may be another table.
            self.session.epoch += 1

    def _look_up(self, statement: Statement) -> bool:
        """Ask the target anew where a statement names a table that is not known, once."""
        knowledge = self._knowledge
        if knowledge is None or self._looked_up or not self.answers.idle or self._unsynced:
            return False
        if statement.risk >= Risk.ADMINISTER or all(
            resource.kind != "relation" or knowledge.names.holds(*resource.name.split(".", 1))
            for resource in statement.resources
            if "." in resource.name
        ):
            return False
        self._looked_up = True
        self._refresh(_SETTINGS_STALE | _CATALOGUE_STALE, lambda: None)
        return True

    # Passing, asking, refusing.

    def _forward(self, data: bytes) -> None:
        self._out.target += data

    def _send(self, data: bytes, expected: Expected) -> None:
        if expected.kind not in (Kind.SYNC, Kind.QUERY, Kind.INTERNAL):
            self._unsynced = True
        self._out.target += data
        self.answers.expect(expected)

    def _ask(
        self,
        operation: Operation,
        allow: Callable[[], None],
        simple: bool = False,
        preview: bool = False,
    ) -> None:
        self._asking = _Asking(allow, simple)
        self._out.effects.append(Ask(operation, preview))

    def _ran(self, statement: Statement, text: bytes, expected: Expected) -> None:
        """Take note of what a statement just sent may change."""
        session = self.session
        session.transaction = after(session.transaction, statement)
        if unsettles(statement):
            self._stale |= _SETTINGS_STALE
        if redefines(statement):
            self._stale |= _CATALOGUE_STALE
        if names_things(statement) or statement.discards:
            expected.undo = learn(session, statement, text, self._segment)
            self._draining = True
        if self._stale or (self._touched and statement.steps):
            # What a rollback takes back is asked for again.
            self._stale |= self._touched if statement.steps else 0
            self._draining = True
        if statement.copy is not None and statement.copy.direction is CopyDirection.IN:
            self._copy_wait = True
        if self._draining and self._unsynced:
            self._forward(FLUSH)

    def _objects(self, statement: Statement, simple: bool) -> bool:
        """Refuse what could not be masked, or would take masked values where they are not."""
        masks = self.answers.masks
        if masks is None:
            return False
        if masks.derived(statement.stored) is not None:
            self._refuse(
                refusal.error(
                    refusal.REFUSED,
                    "masked_data_would_be_copied",
                    "the gateway refused this statement; it did not run",
                    "it would store values of masked columns where they are not masked",
                    "Leave the masked columns out.",
                ),
                simple,
            )
            return True
        copy = statement.copy
        if copy is None or copy.direction is not CopyDirection.OUT:
            return False
        try:
            plan_copy(copy, statement, self._masker, masks)
        except CopyObjection as objection:
            self._refuse(
                refusal.error(
                    refusal.REFUSED,
                    "copy_cannot_be_masked",
                    "the gateway refused this COPY; it did not run",
                    "its rows could not be masked",
                    f"To make it possible, {objection}.",
                ),
                simple,
            )
            return True
        return False

    def _unfit(self, name: bytes) -> bool:
        if len(name) <= _MAX_NAME:
            return False
        self._refuse_extended(refusal.NAME_TOO_LONG, "a name is longer than 63 bytes")
        return True

    def _refuse_extended(self, sqlstate: str, message: str) -> None:
        self._refuse(refusal.error(sqlstate, "unknown_name", message), simple=False)

    def _refuse(self, error: bytes, simple: bool) -> None:
        """Answer a frame that does not run, in the order and the state the target would."""
        answers = self.answers
        if answers.idle and not self._unsynced:
            self._out.client += error
            if simple:
                self._out.client += ready(answers.status)
            else:
                self._discarding = True
        elif simple:
            self._segment += 1
            self._unsynced = False
            self._send(query(_REFUSED), Expected(Kind.QUERY, refusal=error))
        elif not answers.skipping:
            self._send(parse(_REFUSED_NAME, _REFUSED), Expected(Kind.PARSE, refusal=error))

    def violation(self, message: str) -> None:
        """The client broke the protocol: say so and end."""
        if not self.answers.mid_frame:
            self._out.client += refusal.violation(message)
        self.cancel_running()
        self._close(f"protocol violation: {message}")

    def _close(self, reason: str) -> None:
        self.closed = True
        self.buffer.clear()
        self._out.effects.append(Close(reason))

    # The gateway's own questions.

    def _ready(self, status: bytes) -> bool:
        """The target is ready and owes nothing; True where the client is told later."""
        self.session.transaction = status
        if status == b"I":
            self._stale |= self._touched
            self._touched = 0
            self.session.portals.clear()
        return bool(self._stale) and status != b"E"

    def _refresh(self, flags: int, then: Callable[[], None]) -> None:
        self._refreshing = True
        text = SETTINGS + (b";" + CATALOGUE if flags & _CATALOGUE_STALE else b"")

        def done() -> None:
            self._stale = 0
            if self.answers.status == b"T":
                self._touched |= flags
            self._learning = then

        self._send(query(text), Expected(Kind.INTERNAL, done=done))

    def _release(self) -> None:
        self._out.client += ready(self.answers.status)

    def _learned(self, frames: bytes) -> None:
        answers = self.answers
        shown, described = split_answers(frames)
        settings = read_settings(shown)
        if described:
            self._knowledge = read_catalogue(described)
        if self._knowledge is None:
            return
        if self._default_path is None:
            self._default_path = settings.path
        state = replace(
            self.session.state,
            search_path=settings.path,
            default_path=self._default_path,
            relations=self._knowledge.names,
            encoding=answers.encoding,
            standard_strings=answers.standard_strings,
        )
        self.session.change(state, settings.role)
        answers.masks = masks_for(self._knowledge, self._masker, settings.path)
