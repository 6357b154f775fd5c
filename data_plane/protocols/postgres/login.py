"""Start of a session on both sides: what a client may ask for, and how a target is entered.

Counterpart: :mod:`.conversation`, which owns the order of steps. Nothing here holds the
agent's token; the target's password is held by :class:`TargetLogin` until the target is
entered. Follows section "Start-up" of chapter "Frontend/Backend Protocol".
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

from data_plane.protocols.postgres.frames import INT32, FrameError, Reader, frame, startup
from data_plane.protocols.postgres.scram import MECHANISM, ScramClient, ScramError
from data_plane.sql import plain_path
from protos.vocabulary import Credential

_PLAIN = {
    name.lower(): name
    for name in (
        "application_name",
        "DateStyle",
        "TimeZone",
        "IntervalStyle",
        "extra_float_digits",
        "bytea_output",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "default_transaction_isolation",
    )
}
_PATH_ENTRY = re.compile(r'\s*(?:([a-z_][a-z0-9_$]*)|"([^"\0]+)")\s*(?:,|$)', re.IGNORECASE)


class LoginRefused(Exception):
    """A start-up packet that cannot be served: an SQLSTATE, a code, a sentence."""

    def __init__(self, sqlstate: str, code: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Startup:
    """What a client asks for. ``unknown_options`` are answered by NegotiateProtocolVersion."""

    user: str
    target: str
    database: str
    settings: tuple[tuple[str, str], ...]
    negotiate: bool
    unknown_options: tuple[bytes, ...] = ()


def read_startup(body: bytes, minor: int) -> Startup:
    """Read the parameters of a StartupMessage (behind its version number)."""
    try:
        parameters = _parameters(body)
    except (FrameError, UnicodeDecodeError):
        raise LoginRefused(
            "08P01", "protocol_violation", "the start-up packet is malformed"
        ) from None
    extensions = tuple(name.encode() for name in parameters if name.startswith("_pq_."))
    user = parameters.pop("user", "")
    database = parameters.pop("database", "") or user
    target, _, other = database.partition("/")
    if not target:
        raise LoginRefused("3D000", "no_target", "name the target as the database")
    settings: dict[str, str] = {}
    for name, value in parameters.items():
        if name.startswith("_pq_."):
            continue
        if name == "options":
            for option, option_value in _options(value):
                _setting(settings, option, option_value)
        else:
            _setting(settings, name, value)
    settings.pop("client_encoding", None)
    return Startup(
        user, target, other, tuple(settings.items()), bool(minor or extensions), extensions
    )


def _parameters(body: bytes) -> dict[str, str]:
    reader = Reader(body)
    parameters: dict[str, str] = {}
    while name := reader.text().decode():
        if name in parameters:
            raise FrameError("a parameter appears twice")
        parameters[name] = reader.text().decode()
    reader.finish()
    return parameters


def _options(value: str) -> list[tuple[str, str]]:
    """``-c name=value``, ``-cname=value`` and ``--name=value``; nothing else."""
    refused = LoginRefused(
        "0A000", "parameter_not_allowed", 'start-up parameter "options" may only set parameters'
    )
    try:
        lexer = shlex.shlex(value, posix=True)
        lexer.whitespace_split = True
        lexer.quotes = lexer.commenters = ""  # PostgreSQL knows the backslash alone here
        words = list(lexer)
    except ValueError:
        raise refused from None
    found: list[tuple[str, str]] = []
    while words:
        word = words.pop(0)
        if word == "-c" and words:
            word = words.pop(0)
        elif word.startswith(("-c", "--")):
            word = word[2:]
        else:
            raise refused
        name, equals, setting = word.partition("=")
        if not equals:
            raise refused
        # In option names PostgreSQL takes "-" for "_".
        found.append((name.replace("-", "_"), setting))
    return found


def _setting(settings: dict[str, str], name: str, value: str) -> None:
    """Admit one parameter into ``settings`` or refuse the login, naming it."""
    folded = name.lower()
    if folded in _PLAIN:
        settings[_PLAIN[folded]] = value
        return
    match folded:
        case "client_encoding":
            plain = re.sub("[^a-z0-9]", "", value.lower())
            # SQL_ASCII means "do not convert", which UTF8 is to a client that only looks on.
            allowed = plain in ("utf8", "unicode", "sqlascii")
        case "search_path":
            # As for SET: nothing may come before the built-in functions.
            path = read_search_path(value)
            allowed = path is not None and plain_path(path)
        case "default_transaction_read_only" | "standard_conforming_strings":
            allowed = value.lower() in ("on", "true", "yes", "1")
        case "replication":
            allowed = False
        case _:
            allowed = False
    if not allowed:
        shown = re.sub("[^a-zA-Z0-9_.]", "?", name)[:63]
        raise LoginRefused(
            "0A000",
            "parameter_not_allowed",
            f'start-up parameter "{shown}" is not allowed, or not with this value',
        )
    settings[folded] = value


def read_search_path(value: str) -> tuple[str, ...] | None:
    """The schemas of a search_path setting, folded as the server does; None: not understood."""
    if not value.strip() or value.strip() == '""':
        return ()
    names: list[str] = []
    at = 0
    while at < len(value):
        found = _PATH_ENTRY.match(value, at)
        if found is None or not found[0]:
            return None
        names.append(found[1].lower() if found[1] else found[2])
        at = found.end()
    return None if value.rstrip().endswith(",") else tuple(names)


class TargetRefused(Exception):
    """The target does not let the gateway in. Neither text names the role or the host."""

    def __init__(self, message: str, sqlstate: str = "08001") -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate


@dataclass(slots=True)
class TargetLogin:
    """Enters the target with the leased credential, from the startup packet to ``Z``."""

    credential: Credential
    database: str
    settings: tuple[tuple[str, str], ...]
    secure: bool
    nonce: bytes = field(repr=False)
    key: bytes = field(default=b"", repr=False)
    parameters: dict[str, str] = field(default_factory=dict)
    status: bytes = b""
    _scram: ScramClient | None = None
    _proven: bool = True
    _authenticated: bool = False

    def start(self) -> bytes:
        """The StartupMessage."""
        wanted = [("user", self.credential.username)]
        if self.database:
            wanted.append(("database", self.database))
        return startup([*wanted, ("client_encoding", "UTF8"), *self.settings])

    def receive(self, kind: int, body: bytes) -> bytes:
        """Take one frame; gives what to send. Raises :class:`TargetRefused`, FrameError."""
        match kind:
            case 0x52:  # R
                return self._authenticate(Reader(body))
            case 0x45:  # E
                raise self._refusal(body)
            case 0x4E | 0x76:  # N, and v: the version asked for is the one every server has
                return b""
            case _ if not self._authenticated:
                raise TargetRefused("the target broke the protocol during the login")
            case 0x53:  # S
                reader = Reader(body)
                name, value = reader.text(), reader.text()
                self.parameters[name.decode()] = value.decode("utf-8", "replace")
            case 0x4B:  # K
                self.key = body
            case 0x5A:  # Z
                self.status = body
            case _:
                raise TargetRefused("the target broke the protocol during the login")
        return b""

    def _authenticate(self, reader: Reader) -> bytes:
        password = self.credential.password
        match reader.int32():
            case 0:
                # A server that skips the last step has proven nothing.
                if not self._proven:
                    raise TargetRefused("the target did not prove that it knows the password")
                self._authenticated = True
                self._scram = None
                return b""
            case 3:
                if not self.secure:
                    raise TargetRefused("the target wants the password in clear without TLS")
                return frame(b"p", password.encode() + b"\0")
            case 5:
                raise TargetRefused(
                    "the target wants MD5 authentication, which is not supported: "
                    "store the gateway's password as scram-sha-256"
                )
            case 10:
                offered = reader.data[reader.at :].split(b"\0")
                if MECHANISM not in offered:
                    raise TargetRefused("the target offers no SCRAM-SHA-256")
                self._scram = ScramClient(password, self.nonce)
                self._proven = False
                first = self._scram.first()
                return frame(b"p", MECHANISM + b"\0" + INT32.pack(len(first)) + first)
            case 11 | 12 as step if self._scram is not None:
                try:
                    if step == 11:
                        return frame(b"p", self._scram.final(reader.data[reader.at :]))
                    self._scram.verify(reader.data[reader.at :])
                except ScramError as failure:
                    raise TargetRefused(str(failure)) from None
                self._proven = True
                return b""
            case _:
                raise TargetRefused("the target wants an authentication that is not supported")

    def _refusal(self, body: bytes) -> TargetRefused:
        fields = error_fields(body)
        state = fields.get(b"C", b"").decode("ascii", "replace")
        if state[:2] == "28":
            said = "the target did not accept the gateway's own credential; yours was accepted"
        elif state == "3D000":
            said = "the target has no such database"
        elif state[:2] == "53":
            said = "the target has no room for another connection"
        elif state[:2] == "57":
            said = "the target is starting up or shutting down"
        else:
            said = "the target refused the gateway's connection"
        return TargetRefused(f"{said} (SQLSTATE {state})", state)


def error_fields(body: bytes) -> dict[bytes, bytes]:
    """The fields of an ErrorResponse or NoticeResponse by their one-letter codes."""
    reader = Reader(body)
    fields: dict[bytes, bytes] = {}
    while (code := reader.byte()) != b"\0":
        fields[code] = reader.text()
    return fields
