"""The driver: performs a conversation's effects and feeds it events, for one connection.

Counterparts: :mod:`data_plane.conversation` is the interface, :mod:`data_plane.listener` makes
the drivers, :mod:`data_plane.relay` provides what they share. No protocol is known here, and no
policy: what may go on is :mod:`data_plane.gate`'s word.

Theory of operation
-------------------
``handle`` is synchronous, so events are taken one at a time in the order they happened, and
what is to be sent is put into an outbox a side before anything is awaited; whoever finds an
outbox idle empties it, and who adds to a full one waits. One task reads each side. While a
hold lasts its task waits for the human and the readers go on, so a hang-up is noticed.

A session's life is a cancel scope: expiry is its deadline; revocation, a recording that can't
be written and the relay's stop cancel it. Then the client is told why, natively, if the bytes
sent before that were whole.

Recorded is what comes from the client once a session is granted, and what goes to the client
unless login marks it secret, each *before* it goes on.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

import structlog
import trio

from data_plane.config import Limits
from data_plane.control import Refused, Unavailable
from data_plane.conversation import (
    Ask,
    Authenticate,
    CancelAsked,
    CancelSession,
    Close,
    Closed,
    Conversation,
    Decided,
    Denied,
    Dial,
    Dialed,
    Effect,
    Ended,
    Event,
    Granted,
    ProtocolSpec,
    Received,
    Secured,
    Send,
    SendAside,
    Side,
    StartTLS,
    Unreachable,
    Withdraw,
)
from data_plane.gate import Gate, Hold
from data_plane.recording import Recorder, RecordingFailed
from protos.vocabulary import Credential, EntryKind, MaskingRule, Principal, Target, Verdict

RECEIVE_BYTES = 65536
FAREWELL_SECONDS = 2.0
NOTICE_SECONDS = (15.0, 30.0, 60.0)
"""The rhythm in which a waiting client is reminded; the last repeats."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """An open session as the relay set it up. ``lifetime``: seconds from now."""

    principal: Principal
    target: Target
    credential: Credential
    masking: tuple[MaskingRule, ...]
    masking_key: bytes
    recorder: Recorder
    gate: Gate
    lifetime: float


class Surroundings(Protocol):
    """What a session needs of its relay."""

    limits: Limits

    async def open(
        self, session: Session, *, token: str, target: str, database: str
    ) -> Opened | Denied: ...
    def closed(self, session: Session) -> None: ...
    def cancel(self, key: bytes) -> None: ...
    def client_tls(self, protocol: str) -> ssl.SSLContext: ...
    def target_tls(self, target: Target) -> ssl.SSLContext: ...
    def in_background(self, job: Callable[[], Awaitable[None]]) -> None: ...


class _Outbox:
    """What waits to be sent to one side."""

    __slots__ = ("broken", "drained", "flushing", "parts", "size", "stream")

    def __init__(self, stream: trio.abc.Stream | None) -> None:
        self.stream = stream
        self.parts: list[bytes | bytearray] = []
        self.size = 0
        self.flushing = False
        self.broken = False
        self.drained = trio.Event()

    def take(self) -> bytes | bytearray:
        parts, self.parts, self.size = self.parts, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Session:
    """One client's connection, from accept to its end."""

    def __init__(
        self,
        surroundings: Surroundings,
        spec: ProtocolSpec,
        stream: trio.SocketStream,
        address: str,
        cancel_key: bytes,
    ) -> None:
        self.address = address
        self.protocol = spec.name
        self.cancel_key = cancel_key
        self._relay = surroundings
        self._conversation: Conversation = spec.converse()
        self._boxes = {Side.CLIENT: _Outbox(stream), Side.TARGET: _Outbox(None)}
        self._events: deque[Event] = deque()
        self._handling = False
        self._life = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._start_tls: Side | None = None
        self._opened: Opened | None = None
        self._recorder: Recorder | None = None
        self._hold: tuple[Hold, trio.CancelScope] | None = None
        self._room = trio.Event()
        self._ended: Ended | None = None
        self._reason = ""
        self._recording_failed = False
        self._established = False

    @property
    def opened(self) -> Opened | None:
        """What was granted, once it was."""
        return self._opened

    @property
    def recorder(self) -> Recorder | None:
        """The session's recording, once there is a session."""
        return self._recorder

    def end(self, code: str, reason: str) -> None:
        """End the session for this reason; returns at once, and may be called twice."""
        if self._ended is None:
            self._ended = Ended(code, reason)
            self._life.cancel()

    def cancel_asked(self) -> None:
        """A cancel request for this session arrived."""
        if self._nursery is not None:
            self._nursery.start_soon(self._feed, CancelAsked())

    async def run(self) -> None:
        """Serve the connection until it ends; raises only on a defect."""
        self._life.deadline = trio.current_time() + self._relay.limits.login_seconds
        try:
            with self._life:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._read, Side.CLIENT)
            self._nursery = None
            if self._life.cancelled_caught:
                await self._say_farewell()
        except* RecordingFailed as group:
            self._nursery = None
            self._recording_failed = True
            self._ended = Ended("recording_unavailable", _first(group))
            log.error("session ended without a record to go on", reason=self._ended.reason)
            await self._say_farewell()
        finally:
            self._nursery = None
            with trio.CancelScope(shield=True):
                await self._tear_down()

    # Events

    async def _feed(self, event: Event) -> None:
        """Let the conversation take an event, and send what follows from it."""
        self._take(event)
        await self._flush_all()

    async def _flush_all(self) -> None:
        for box in self._boxes.values():
            if box.parts:
                await self._flush(box)
        if self._reason and self._nursery is not None:
            for box in self._boxes.values():
                while box.flushing and not box.broken:
                    await box.drained.wait()
            self._nursery.cancel_scope.cancel()

    def _take(self, event: Event) -> None:
        """Handle an event and those that follow from it at once, in order."""
        self._events.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._events:
                for effect in self._conversation.handle(self._events.popleft()):
                    self._perform(effect)
        finally:
            self._handling = False
            self._events.clear()
        if self._conversation.backlog < self._relay.limits.backlog_bytes:
            self._room.set()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send():
                if effect.side is Side.CLIENT and not effect.secret and self._opened:
                    self._answer(self._opened, effect.data)
                box = self._boxes[effect.side]
                box.parts.append(effect.data)
                box.size += len(effect.data)
            case Ask():
                self._ask(effect)
            case StartTLS():
                self._start_tls = effect.side
            case Authenticate():
                self._begin(self._authenticate, effect)
            case Dial():
                self._begin(self._dial)
            case Withdraw():
                self._withdraw(effect.reason)
            case CancelSession():
                self._relay.cancel(effect.key)
            case SendAside():
                self._send_aside(effect.data)
            case Close():
                self._reason = self._reason or effect.reason
            case _:
                assert_never(effect)

    def _answer(self, opened: Opened, data: bytes | bytearray) -> None:
        if not self._recording_failed:
            opened.recorder.record(EntryKind.ANSWER, data)
        if not self._established:
            # The login is over: from here on the session's own lifetime counts.
            self._established = True
            self._life.deadline = trio.current_time() + opened.lifetime

    def _begin(self, job: Callable[..., Awaitable[None]], *arguments: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(job, *arguments)

    # Reading and sending

    async def _read(self, side: Side) -> None:
        box = self._boxes[side]
        backlog_bytes = self._relay.limits.backlog_bytes
        while True:
            if side is Side.CLIENT and self._conversation.backlog >= backlog_bytes:
                self._room = trio.Event()
                await self._room.wait()
            stream = box.stream
            if stream is None:
                raise RuntimeError("a side is read only once it is connected")
            try:
                data = await stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                await self._feed(Closed(side))
                return
            if side is Side.CLIENT and self._recorder is not None:
                self._recorder.record(EntryKind.REQUEST, data)
            await self._feed(Received(side, bytes(data)))
            if self._start_tls is side:
                self._start_tls = None
                if not await self._secure(side):
                    return

    async def _flush(self, box: _Outbox) -> None:
        """Send all that waits for a side; return at once if another task is at it and there
        is room, otherwise wait until there is."""
        if box.broken:
            box.parts.clear()
            return
        if box.flushing:
            while box.flushing and not box.broken and box.size >= self._relay.limits.outbox_bytes:
                await box.drained.wait()
            return
        if box.stream is None:
            return
        box.flushing = True
        try:
            while box.parts:
                data = box.take()
                with trio.move_on_after(self._relay.limits.stall_seconds) as patience:
                    await box.stream.send_all(data)
                if patience.cancelled_caught:
                    self._reason = self._reason or "a side took no data for too long"
                    box.broken = True
                    return
                box.drained.set()
                box.drained = trio.Event()
            box.flushing = False
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            box.broken = True  # The side is gone; its reader will find out and say so.
        except trio.Cancelled:
            box.broken = True  # What went out may be no whole message: nothing can follow it.
            raise
        finally:
            box.drained.set()

    async def _secure(self, side: Side) -> bool:
        """Put TLS on a side; false where that failed."""
        box = self._boxes[side]
        stream = box.stream
        if not isinstance(stream, trio.SocketStream):
            raise RuntimeError("TLS is started once, on a connected side")
        try:
            if side is Side.CLIENT:
                tls = trio.SSLStream(
                    stream,
                    self._relay.client_tls(self.protocol),
                    server_side=True,
                )
            else:
                if self._opened is None:
                    raise RuntimeError("a target is dialed for a session")
                target = self._opened.target
                tls = trio.SSLStream(
                    stream,
                    self._relay.target_tls(target),
                    server_hostname=target.host,
                )
            await tls.do_handshake()
        except (trio.BrokenResourceError, ssl.SSLError, OSError) as error:
            if side is Side.TARGET:
                log.warning("no TLS with the target", reason=_why(error))
                await self._feed(Unreachable("TLS with the target could not be set up"))
            else:
                await self._feed(Closed(side))
            return False
        box.stream = tls
        await self._feed(Secured(side))
        return True

    # What an effect takes time for

    async def _authenticate(self, effect: Authenticate) -> None:
        try:
            opened = await self._relay.open(
                self, token=effect.token, target=effect.target, database=effect.database
            )
        except Refused as refused:
            opened = Denied(refused.code, refused.reason)
        except Unavailable:
            opened = Denied(
                "control_plane_unavailable", "the control plane can't be reached; try again later"
            )
        if isinstance(opened, Denied):
            log.info("session denied", code=opened.code, address=self.address)
            await self._feed(opened)
            return
        self._opened = opened
        self._recorder = opened.recorder
        await self._feed(
            Granted(
                opened.target,
                opened.credential,
                opened.masking,
                self.cancel_key,
                opened.masking_key,
            )
        )

    async def _dial(self) -> None:
        if self._opened is None:
            raise RuntimeError("a target is dialed for a session")
        target = self._opened.target
        try:
            stream = await _connect(target, self._relay.limits.dial_seconds)
        except OSError as error:
            log.warning("target unreachable", target=target.name, reason=_why(error))
            await self._feed(Unreachable("the target could not be reached"))
            return
        self._boxes[Side.TARGET].stream = stream
        await self._feed(Dialed())
        await self._read(Side.TARGET)

    def _send_aside(self, data: bytes) -> None:
        if self._opened is None:
            return
        target, seconds = self._opened.target, self._relay.limits.dial_seconds

        async def send() -> None:
            try:
                with trio.move_on_after(seconds):
                    async with await _connect(target, seconds) as stream:
                        await stream.send_all(data)
                        await stream.receive_some(1)  # The target closes when it is done.
            except (OSError, trio.BrokenResourceError) as error:
                log.warning("message aside not sent", target=target.name, reason=_why(error))

        self._relay.in_background(send)

    # The gate

    def _ask(self, effect: Ask) -> None:
        if self._opened is None:
            raise RuntimeError("operations are asked about in a session")
        answer = self._opened.gate.decide(effect.operation, preview=effect.preview)
        if isinstance(answer, Verdict):
            self._events.append(Decided(answer))
            return
        scope = trio.CancelScope()
        self._hold = (answer, scope)
        self._begin(self._wait, answer, scope)

    async def _wait(self, hold: Hold, scope: trio.CancelScope) -> None:
        with scope:
            begun = await hold.begin()
            verdict = begun if isinstance(begun, Verdict) else None
            if verdict is None:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._remind, hold)
                    verdict = await hold.wait()
                    nursery.cancel_scope.cancel()
        if scope.cancelled_caught or verdict is None:
            return
        self._hold = None
        await self._feed(Decided(verdict))

    async def _remind(self, hold: Hold) -> None:
        pauses = iter(NOTICE_SECONDS)
        pause = next(pauses)
        while True:
            # Sent by a task of the session: a hold's end must not cut a message in two.
            self._take(hold.held)
            self._begin(self._flush_all)
            await trio.sleep(pause)
            pause = next(pauses, pause)

    def _withdraw(self, reason: str) -> None:
        if self._hold is None:
            return
        hold, scope = self._hold
        self._hold = None
        scope.cancel()
        tell = hold.abandon(reason)
        if tell is not None:
            self._relay.in_background(tell)

    # The end

    async def _say_farewell(self) -> None:
        """Tell both sides that the gateway ends the session, if they can still be told."""
        ended = self._ended
        if ended is None:
            if not self._established:
                ended = Ended("login_timeout", "the login took too long")
            else:
                ended = Ended("session_expired", "the session's time is over")
            self._ended = ended
        with trio.move_on_after(FAREWELL_SECONDS, shield=True):
            try:
                self._take(ended)
            except RecordingFailed:
                return
            for box in self._boxes.values():
                await self._flush(box)

    async def _tear_down(self) -> None:
        try:
            self._withdraw("the session ended")
            if self._recorder is not None:
                ended = self._ended
                code = ended.code if ended else "closed"
                reason = ended.reason if ended else self._reason or "the connection ended"
                self._recorder.note(EntryKind.CLOSED, {"code": code, "reason": reason})
        except RecordingFailed as failed:
            log.error("session left without its last entry", reason=str(failed))
        finally:
            self._relay.closed(self)
            for box in self._boxes.values():
                if box.stream is not None:
                    with trio.move_on_after(FAREWELL_SECONDS):
                        await box.stream.aclose()


async def _connect(target: Target, seconds: float) -> trio.SocketStream:
    """A connection to a target; raises :class:`OSError`, also when it takes too long."""
    try:
        with trio.fail_after(seconds):
            stream = await trio.open_tcp_stream(target.host, target.port)
    except trio.TooSlowError:
        raise TimeoutError("the target took too long") from None
    keep_alive(stream)
    return stream


def keep_alive(stream: trio.SocketStream) -> None:
    """Send at once, and notice within minutes that the other end is gone."""
    options = (
        (trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1),
        (trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE, 1),
        (trio.socket.IPPROTO_TCP, trio.socket.TCP_KEEPIDLE, 60),
        (trio.socket.IPPROTO_TCP, trio.socket.TCP_KEEPINTVL, 15),
        (trio.socket.IPPROTO_TCP, trio.socket.TCP_KEEPCNT, 4),
    )
    for level, option, value in options:
        stream.socket.setsockopt(level, option, value)


def _first(group: BaseExceptionGroup[RecordingFailed]) -> str:
    """The reason at the bottom of a group that can hold groups."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return str(found)


def _why(error: BaseException) -> str:
    """What failed, for the operator's log."""
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"


def with_database(target: Target, database: str) -> Target:
    """The target, with another of its databases where one is asked for."""
    return replace(target, database=database) if database else target
