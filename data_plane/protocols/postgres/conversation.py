"""The conversation of one PostgreSQL client, from its first byte to its last.

Counterparts: :class:`data_plane.conversation.Conversation` is the interface; :mod:`.login`
reads what arrives before a session stands, :mod:`.requests` and :mod:`.results` are the two
halves of a session. This module only knows the order of steps up to there, and how a
connection ends. It performs nothing and holds no secret longer than it needs it: the agent's
token goes straight into :class:`Authenticate`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import assert_never

from data_plane.conversation import (
    Authenticate,
    CancelAsked,
    CancelSession,
    Close,
    Closed,
    Decided,
    Denied,
    Dial,
    Dialed,
    Effect,
    Ended,
    Event,
    Granted,
    Held,
    Received,
    Secured,
    Send,
    Side,
    StartTLS,
    Unreachable,
)
from data_plane.protocols.postgres import refusal
from data_plane.protocols.postgres.catalogue import masker_for
from data_plane.protocols.postgres.frames import (
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    INT32,
    MAX_ANSWER,
    MAX_PASSWORD,
    MAX_STARTUP,
    SSL_REQUEST,
    FrameBuffer,
    FrameError,
    frame,
    ready,
    untyped,
)
from data_plane.protocols.postgres.login import (
    LoginRefused,
    Startup,
    TargetLogin,
    TargetRefused,
    read_startup,
)
from data_plane.protocols.postgres.operations import READS_VALUES
from data_plane.protocols.postgres.requests import Outbox, Requests
from data_plane.protocols.postgres.results import Unmaskable

_AUTHENTICATION_OK = frame(b"R", INT32.pack(0))
_CLEARTEXT_PASSWORD = frame(b"R", INT32.pack(3))
_SSL_REQUEST = untyped(INT32.pack(SSL_REQUEST))
_HTTP_METHODS = (b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"DELE", b"PATC", b"CONN", b"PRI ")
_NOT_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This port speaks the PostgreSQL protocol, not HTTP.\n"
)
_CANCEL_KEY = 8


# What comes before the session is granted would be on no record.
_TOO_EARLY = "nothing may follow the password before the login is over"


class Phase(Enum):
    """The steps of a connection, in their order."""

    STARTUP = auto()
    SECURING = auto()
    PASSWORD = auto()
    AUTHENTICATING = auto()
    DIALING = auto()
    TARGET_TLS_ASKED = auto()
    TARGET_SECURING = auto()
    TARGET_LOGIN = auto()
    LEARNING = auto()
    SESSION = auto()
    CLOSED = auto()


class PostgresConversation:
    """A :class:`data_plane.conversation.Conversation`. ``nonce`` makes SCRAM's randomness."""

    def __init__(self, nonce: Callable[[], str] = lambda: secrets.token_urlsafe(24)) -> None:
        self._phase = Phase.STARTUP
        self._secure = False
        self._buffer = FrameBuffer()
        self._target_buffer = FrameBuffer()
        self._out = Outbox()
        self._secret: list[Effect] = []
        self._nonce = nonce
        self._startup: Startup | None = None
        self._granted: Granted | None = None
        self._target_login: TargetLogin | None = None
        self._requests: Requests | None = None
        self._deaf = False

    @property
    def backlog(self) -> int:
        """Bytes of the client that wait behind an open question or a slow login."""
        if self._requests is not None and self._phase is Phase.SESSION:
            return self._requests.backlog
        return len(self._buffer)

    def handle(self, event: Event) -> Sequence[Effect]:
        """Take one event; gives at most one ``Send`` a side, and a secret one at the login."""
        if self._phase is Phase.CLOSED:
            return ()
        match event:
            case Received(side=side, data=data):
                self._received(side, data)
            case Closed(side=side):
                self._closed(side)
            case Secured(side=side):
                self._secured(side)
            case Granted():
                self._grant(event)
            case Denied(code=code, reason=reason):
                self._fail(refusal.denied(code, reason), f"denied: {code}")
            case Dialed():
                self._dialed()
            case Unreachable(reason=reason):
                self._fail(
                    refusal.fatal(
                        refusal.TARGET_UNREACHABLE,
                        "target_unreachable",
                        "the gateway cannot reach the target",
                        reason,
                    ),
                    "target unreachable",
                )
            case Held():
                if self._requests is not None and self._requests.asking:
                    self._requests.answers.say(refusal.held(event), self._out.client)
            case Decided(verdict=verdict):
                if self._requests is not None:
                    self._requests.decided(verdict)
            case CancelAsked():
                if self._requests is not None:
                    self._requests.cancel()
            case Ended(code=code, reason=reason):
                if self._requests is not None:
                    self._requests.leave("ended")
                self._fail(refusal.ended(code, reason), f"ended: {code}")
            case _:
                assert_never(event)
        return self._flush()

    def _flush(self) -> Sequence[Effect]:
        out = self._out
        effects = self._secret
        self._secret = []
        if out.client:
            effects.append(Send(Side.CLIENT, bytes(out.client)))
            out.client.clear()
        if out.target:
            effects.append(Send(Side.TARGET, bytes(out.target)))
            out.target.clear()
        if out.effects:
            effects += out.effects
            out.effects.clear()
        if self._requests is not None and self._requests.closed:
            self._phase = Phase.CLOSED
        return effects

    def _fail(self, error: bytes, reason: str) -> None:
        """Say a last word, where the client can understand one, and end."""
        listening = self._phase is not Phase.SECURING
        if self._requests is not None and self._requests.answers.mid_frame:
            listening = False
        if listening:
            self._out.client += error
        self._out.effects.append(Close(reason))
        self._phase = Phase.CLOSED
        self._buffer.clear()
        self._target_buffer.clear()

    def _closed(self, side: Side) -> None:
        requests = self._requests
        if side is Side.CLIENT:
            if requests is not None:
                requests.leave("client hung up")
            self._out.effects.append(Close("client hung up"))
            self._phase = Phase.CLOSED
        elif self._phase in (Phase.SESSION, Phase.LEARNING) and requests is not None:
            if requests.answers.fatal:
                self._out.effects.append(Close("target ended the session"))
                self._phase = Phase.CLOSED
            else:
                if requests.asking:
                    requests.leave("target hung up")
                self._fail(
                    refusal.fatal(
                        refusal.TARGET_LOST, "target_lost", "the target closed the connection"
                    ),
                    "target hung up",
                )
        else:
            self._target_refused(TargetRefused("the target closed the connection"))

    def _received(self, side: Side, data: bytes) -> None:
        if side is Side.TARGET:
            self._from_target(data)
        elif self._phase is Phase.SESSION and self._requests is not None:
            self._requests.receive(data)
        elif self._phase is Phase.SECURING:
            # Bytes in clear behind a request for TLS would be taken for protected ones.
            self._fail(b"", "bytes in clear behind a request for TLS")
        elif self._phase is Phase.AUTHENTICATING:
            self._fail(refusal.violation(_TOO_EARLY), "protocol violation")
        else:
            self._buffer.feed(data)
            self._from_client()

    # The client's side of the login.

    def _from_client(self) -> None:
        try:
            while self._phase is Phase.STARTUP and self._start():
                pass
            if self._phase is Phase.PASSWORD:
                self._password()
        except LoginRefused as refused:
            self._fail(refusal.fatal(refused.sqlstate, refused.code, refused.message), refused.code)
        except FrameError as error:
            self._fail(refusal.violation(str(error)), "protocol violation")

    def _start(self) -> bool:
        """Take one start-up packet; False where more is needed or TLS comes first."""
        buffer = self._buffer
        if len(buffer) < 4:
            return False
        head = bytes(buffer.data[buffer.start : buffer.start + 4])
        if head in _HTTP_METHODS:
            self._fail(_NOT_HTTP, "an HTTP request")
            return False
        size = INT32.unpack(head)[0]
        if not 8 <= size <= MAX_STARTUP:
            raise FrameError("this is no start-up packet of the PostgreSQL protocol")
        if len(buffer) < size:
            return False
        packet = buffer.take(size)
        version = INT32.unpack_from(packet, 4)[0]
        body = packet[8:]
        match version:
            case _ if version == SSL_REQUEST and not self._secure:
                if len(buffer):
                    self._fail(b"", "bytes in clear behind a request for TLS")
                    return False
                self._out.client += b"S"
                self._out.effects.append(StartTLS(Side.CLIENT))
                self._phase = Phase.SECURING
                return False
            case _ if version == GSSENC_REQUEST and not self._secure:
                self._out.client += b"N"
                return True
            case _ if version == CANCEL_REQUEST:
                # A client's cancel request comes in clear or under TLS; it is never answered.
                if len(body) == _CANCEL_KEY:
                    self._out.effects.append(CancelSession(body))
                self._out.effects.append(Close("cancel request"))
                self._phase = Phase.CLOSED
                return False
            case _ if version >> 16 != 3:
                raise LoginRefused(
                    refusal.UNSUPPORTED,
                    "protocol_version",
                    "only version 3 of the PostgreSQL protocol is served",
                )
            case _ if not self._secure:
                raise LoginRefused(refusal.LOGIN_REFUSED, "tls_required", "TLS is required")
        startup = read_startup(body, version & 0xFFFF)
        self._startup = startup
        if startup.negotiate:
            # NegotiateProtocolVersion: the newest minor version, and the options not known.
            names = b"".join(name + b"\0" for name in startup.unknown_options)
            count = INT32.pack(len(startup.unknown_options))
            self._out.client += frame(b"v", INT32.pack(3 << 16) + count + names)
        self._out.client += _CLEARTEXT_PASSWORD
        self._phase = Phase.PASSWORD
        return False

    def _password(self) -> None:
        header = self._buffer.header()
        if header is None or self._startup is None:
            return
        kind, size = header
        if kind == 0x58:  # Terminate: the client has no password to give
            self._out.effects.append(Close("client terminated"))
            self._phase = Phase.CLOSED
            return
        if kind != 0x70 or size > MAX_PASSWORD:
            raise FrameError("a password was expected")
        if len(self._buffer) < size:
            return
        body = self._buffer.take(size)[5:]
        try:
            token = body[:-1].decode("ascii")
        except UnicodeDecodeError:
            token = ""
        if body[-1:] != b"\0" or "\0" in token:
            raise FrameError("a password is not one terminated string")
        if len(self._buffer):
            raise FrameError(_TOO_EARLY)
        self._phase = Phase.AUTHENTICATING
        startup = self._startup
        self._out.effects.append(Authenticate(startup.target, token, startup.database))

    def _secured(self, side: Side) -> None:
        if side is Side.CLIENT and self._phase is Phase.SECURING:
            self._secure = True
            self._phase = Phase.STARTUP
        elif side is Side.TARGET and self._phase is Phase.TARGET_SECURING:
            self._enter_target(secure=True)

    def _grant(self, granted: Granted) -> None:
        if self._phase is not Phase.AUTHENTICATING:
            return
        try:
            masker_for(granted.masking, granted.masking_key)
        except ValueError:
            self._fail(
                refusal.fatal(
                    refusal.LOGIN_REFUSED,
                    "masking_invalid",
                    "the gateway refused the login: its masking rules cannot be obeyed",
                ),
                "masking rules cannot be obeyed",
            )
            return
        self._granted = granted
        self._phase = Phase.DIALING
        self._out.effects.append(Dial())

    # The target's side of the login.

    def _dialed(self) -> None:
        if self._phase is not Phase.DIALING or self._granted is None:
            return
        if self._granted.target.tls == "disable":
            self._enter_target(secure=False)
        else:
            self._secret.append(Send(Side.TARGET, _SSL_REQUEST, secret=True))
            self._phase = Phase.TARGET_TLS_ASKED

    def _enter_target(self, secure: bool) -> None:
        granted, startup = self._granted, self._startup
        if granted is None or startup is None:
            return
        self._target_login = TargetLogin(
            granted.credential,
            startup.database or granted.target.database,
            startup.settings,
            secure,
            self._nonce().encode(),
        )
        self._phase = Phase.TARGET_LOGIN
        self._secret.append(Send(Side.TARGET, self._target_login.start(), secret=True))

    def _from_target(self, data: bytes) -> None:
        if self._phase is Phase.TARGET_TLS_ASKED:
            # Exactly the one byte: more would be bytes in clear taken for protected ones.
            if data != b"S":
                self._target_refused(TargetRefused("the target does not offer TLS"))
            else:
                self._phase = Phase.TARGET_SECURING
                self._out.effects.append(StartTLS(Side.TARGET))
        elif self._phase is Phase.TARGET_LOGIN:
            self._target_buffer.feed(data)
            try:
                self._enter()
            except TargetRefused as refused:
                self._target_refused(refused)
            except FrameError:
                self._target_refused(TargetRefused("the target broke the protocol"))
        elif self._requests is not None:
            self._answered(data)
        else:
            self._target_refused(TargetRefused("the target broke the protocol"))

    def _target_refused(self, refused: TargetRefused) -> None:
        self._fail(
            refusal.fatal(
                refused.sqlstate if refused.sqlstate[:2] != "28" else refusal.TARGET_UNREACHABLE,
                "target_login_failed",
                f"the gateway could not log in to the target: {refused.message}",
                hint="This is for whoever administers the gateway; your token was accepted.",
            ),
            "target login failed",
        )

    def _enter(self) -> None:
        login, buffer = self._target_login, self._target_buffer
        while login is not None and (header := buffer.header()) is not None:
            kind, size = header
            if size > MAX_ANSWER:
                raise FrameError("a frame is too large")
            if len(buffer) < size:
                return
            answer = login.receive(kind, buffer.take(size)[5:])
            if answer:
                self._secret.append(Send(Side.TARGET, answer, secret=True))
            if login.status:
                self._learn(login)
                return

    def _learn(self, login: TargetLogin) -> None:
        """The target let us in: find out about its tables before the client may go on."""
        granted, startup = self._granted, self._startup
        if granted is None or startup is None or login.status != b"I":
            raise FrameError("the target is not ready")
        masker = masker_for(granted.masking, granted.masking_key)
        requests = Requests(masker, startup.user, login.key, self._out)
        encodings = {login.parameters.get(f"{side}_encoding") for side in ("client", "server")}
        requests.answers.encoding = "UTF8" if encodings == {"UTF8"} else "other"
        requests.answers.standard_strings = (
            login.parameters.get("standard_conforming_strings") == "on"
        )
        for name in READS_VALUES:
            if name in login.parameters:
                requests.session.reported[name] = login.parameters[name]
        chosen = {name for name, _ in startup.settings}
        requests.session.usual = {
            name: value for name, value in requests.session.reported.items() if name not in chosen
        }
        self._requests = requests
        self._target_login = None
        self._phase = Phase.LEARNING

        def welcome() -> None:
            answer = bytearray(_AUTHENTICATION_OK)
            for name, value in login.parameters.items():
                shown = startup.user if name == "session_authorization" else value
                answer += frame(b"S", name.encode() + b"\0" + shown.encode() + b"\0")
            answer += frame(b"K", granted.cancel_key) + ready(b"I")
            # It holds the key that cancels this session's statements.
            self._secret.append(Send(Side.CLIENT, bytes(answer), secret=True))
            self._phase = Phase.SESSION
            waiting = self._buffer
            self._buffer = FrameBuffer()
            if len(waiting):
                requests.receive(waiting.take(len(waiting)))

        requests.login(welcome)
        rest = self._target_buffer
        self._target_buffer = FrameBuffer()
        if len(rest):
            self._answered(rest.take(len(rest)))

    def _answered(self, data: bytes) -> None:
        requests = self._requests
        if requests is None or self._deaf:
            return
        try:
            requests.answered(data)
        except Unmaskable as failure:
            self._cut(
                refusal.fatal(
                    refusal.ENDED,
                    "cannot_be_masked",
                    f"the gateway ended this session: {failure}",
                ),
                f"cannot be masked: {failure}",
            )
        except FrameError as failure:
            self._cut(
                refusal.fatal(
                    refusal.TARGET_LOST,
                    "target_protocol",
                    f"the target broke the protocol: {failure}",
                ),
                f"target broke the protocol: {failure}",
            )

    def _cut(self, error: bytes, reason: str) -> None:
        """End a session in which the target said what cannot be passed on."""
        if self._requests is not None:
            self._requests.leave(reason)
        self._deaf = True
        self._fail(error, reason)
