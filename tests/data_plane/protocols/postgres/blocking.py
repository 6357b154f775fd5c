"""A relay without trio: drives a PostgreSQL conversation over plain blocking sockets.

For tests of the conversation with real clients and a real server. The client's TLS is only
told to the conversation, not spoken, so clients connect with ``sslmode=disable``.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from data_plane.conversation import (
    Ask,
    Authenticate,
    CancelAsked,
    CancelSession,
    Close,
    Closed,
    Decided,
    Denied,
    Dial,
    Dialed,
    Event,
    Granted,
    Held,
    Received,
    Secured,
    Send,
    SendAside,
    Side,
    StartTLS,
    Unreachable,
    Withdraw,
)
from data_plane.protocols.postgres.conversation import PostgresConversation
from data_plane.protocols.postgres.frames import INT32, SSL_REQUEST, untyped
from protos.vocabulary import (
    Credential,
    MaskingRule,
    Operation,
    Outcome,
    Target,
    Verdict,
)

TOKEN = "an-access-token"
ALLOWED = Verdict(Outcome.ALLOW, "allowed_by_rule", "")


def refuse(code: str = "refused_by_rule", reason: str = "no") -> Verdict:
    """A refusal by a rule."""
    return Verdict(Outcome.REFUSE, code, reason, "policy/rule")


def allow_all(operation: Operation, preview: bool) -> Verdict | None:
    """The gate that lets everything pass."""
    return ALLOWED


@dataclass
class Line:
    """One connection: the conversation, its sockets, and what was seen on them."""

    client: socket.socket
    conversation: PostgresConversation
    key: bytes
    target: socket.socket | None = None
    to_client: bytearray = field(default_factory=bytearray)
    to_target: bytearray = field(default_factory=bytearray)
    recorded: bytearray = field(default_factory=bytearray)
    withdrawn: list[str] = field(default_factory=list)
    asked: list[Operation] = field(default_factory=list)
    closed: str = ""
    held: bool = False


class BlockingRelay:
    """Listens on a free port of 127.0.0.1; ``gate`` gives a verdict, or None to hold.

    A held operation waits for :meth:`decide`. A context manager.
    """

    def __init__(
        self,
        target: tuple[str, int],
        credential: Credential,
        *,
        database: str = "postgres",
        masking: Sequence[MaskingRule] = (),
        gate: Callable[[Operation, bool], Verdict | None] = allow_all,
        chunk: int = 65536,
    ) -> None:
        self.address = target
        self.credential = credential
        self.masking = tuple(masking)
        self.gate = gate
        self.target = Target("shop", "postgres", *target, database=database, tls="disable")
        self.lines: list[Line] = []
        self.held = threading.Semaphore(0)
        self.errors: list[BaseException] = []
        self._chunk = chunk
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._wakes: dict[int, tuple[socket.socket, list[Event]]] = {}
        self._stopping = False

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in self.lines:
            for side in (line.client, line.target):
                if side is not None:
                    with suppress(OSError):
                        side.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        if self.errors:
            raise self.errors[0]

    def dsn(self, **options: str) -> str:
        """A libpq string for this relay."""
        parts = {
            "host": "127.0.0.1",
            "port": str(self.port),
            "dbname": "shop",
            "user": "agent",
            "password": TOKEN,
            "sslmode": "disable",
            "gssencmode": "disable",
            **options,
        }
        return " ".join(f"{name}='{value}'" for name, value in parts.items())

    def tell(self, line: Line, event: Event) -> None:
        """Feed an event from outside."""
        wake, events = self._wakes[id(line)]
        with self._lock:
            events.append(event)
        wake.send(b"x")

    def decide(self, verdict: Verdict) -> None:
        """Answer the operation that is held now; waits for one."""
        assert self.held.acquire(timeout=10), "nothing was held"
        line = next(line for line in self.lines if line.held)
        line.held = False
        self.tell(line, Decided(verdict))

    def _spawn(self, target: Callable[[], None]) -> None:
        def run() -> None:
            try:
                target()
            except BaseException as error:  # noqa: BLE001 - raised again at the end
                if not (self._stopping and isinstance(error, OSError)):
                    self.errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            key = INT32.pack(len(self.lines) + 1) + b"\1\2\3\4"
            line = Line(client, PostgresConversation(), key)
            self.lines.append(line)
            self._spawn(lambda line=line: self._serve(line))  # type: ignore[misc]

    def _serve(self, line: Line) -> None:
        wake, waker = socket.socketpair()
        self._wakes[id(line)] = (waker, [])
        line.conversation.handle(Received(Side.CLIENT, untyped(INT32.pack(SSL_REQUEST))))
        line.conversation.handle(Secured(Side.CLIENT))
        granted = False
        while not line.closed:
            sides = [wake, line.client] + ([line.target] if line.target else [])
            for ready in select.select(sides, [], [])[0]:
                if line.closed:
                    break
                if ready is wake:
                    wake.recv(1)
                    with self._lock:
                        event = self._wakes[id(line)][1].pop(0)
                    self._feed(line, event)
                    continue
                side = Side.CLIENT if ready is line.client else Side.TARGET
                try:
                    data = ready.recv(self._chunk)
                except OSError:
                    data = b""
                if side is Side.CLIENT and granted:
                    line.recorded += data
                self._feed(line, Received(side, data) if data else Closed(side))
                granted = granted or line.target is not None
        for open_socket in (line.client, line.target, wake, waker):
            if open_socket is not None:
                open_socket.close()

    def _feed(self, line: Line, first: Event) -> None:
        events: list[Event] = [first]
        while events and not line.closed:
            for effect in line.conversation.handle(events.pop(0)):
                match effect:
                    case Send(side=Side.CLIENT, data=data, secret=secret):
                        line.to_client += data
                        if not secret:
                            line.recorded += data
                        with suppress(OSError):
                            line.client.sendall(data)
                    case Send(side=Side.TARGET, data=data):
                        line.to_target += data
                        assert line.target is not None
                        with suppress(OSError):
                            line.target.sendall(data)
                    case Authenticate(token=token):
                        if token == TOKEN:
                            granted = Granted(
                                self.target, self.credential, self.masking, line.key, b"k" * 32
                            )
                            events.append(granted)
                        else:
                            events.append(Denied("token_invalid", "the token is not valid"))
                    case Dial():
                        try:
                            line.target = socket.create_connection(self.address)
                            line.target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                            events.append(Dialed())
                        except OSError:
                            events.append(Unreachable("connection refused"))
                    case Ask(operation=operation, preview=preview):
                        line.asked.append(operation)
                        verdict = self.gate(operation, preview)
                        if verdict is not None:
                            events.append(Decided(verdict))
                        else:
                            line.held = True
                            events.append(
                                Held("ap-1", "https://gw/ap-1", "2030-01-01T00:00:00Z", 60, "")
                            )
                            self.held.release()
                    case Withdraw(reason=reason):
                        line.held = False
                        line.withdrawn.append(reason)
                    case CancelSession(key=key):
                        for other in self.lines:
                            if other.key == key and not other.closed:
                                self.tell(other, CancelAsked())
                    case SendAside(data=data):
                        with socket.create_connection(self.address) as aside:
                            aside.sendall(data)
                    case Close(reason=reason):
                        line.closed = reason
                    case StartTLS():
                        raise AssertionError("TLS is not spoken here")
