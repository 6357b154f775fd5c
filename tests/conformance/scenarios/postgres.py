"""PostgreSQL for the conformance suite: bytes of a client and of a server, and a reader."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from data_plane.conversation import Dialed, Event, Granted, Received, Secured, Side
from protos.vocabulary import Credential, MaskingRule, Target, Transform
from tests.conformance.scenario import Said

PASSWORD = "the-leased-password"


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def packet(code: int, body: bytes = b"") -> bytes:
    return struct.pack("!ii", len(body) + 8, code) + body


def parameters(**values: str) -> bytes:
    return b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in values.items()) + b"\0"


def query(text: str) -> bytes:
    return message(b"Q", text.encode() + b"\0")


def fields(*columns: tuple[str, int, int, int]) -> bytes:
    body = struct.pack("!h", len(columns))
    for name, relation, attribute, kind in columns:
        body += name.encode() + b"\0" + struct.pack("!IhIhih", relation, attribute, kind, -1, -1, 0)
    return message(b"T", body)


def row(*values: bytes | None) -> bytes:
    body = struct.pack("!h", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return message(b"D", body)


def complete(tag: str) -> bytes:
    return message(b"C", tag.encode() + b"\0")


def ready(status: bytes = b"I") -> bytes:
    return message(b"Z", status)


def error(state: str, text: str, severity: str = "ERROR") -> bytes:
    pairs = {"S": severity, "V": severity, "C": state, "M": text}
    body = b"".join(k.encode() + v.encode() + b"\0" for k, v in pairs.items())
    return message(b"E", body + b"\0")


def read(data: bytes) -> list[tuple[bytes, bytes]]:
    """All messages of a server's stream; AssertionError where the framing is broken."""
    found = []
    at = 0
    while at < len(data):
        kind = data[at : at + 1]
        assert kind in b"RSKZTDCEN123ntIsAvGHdc", f"no message type: {kind!r}"
        (length,) = struct.unpack_from("!i", data, at + 1)
        assert length >= 4
        end = at + 1 + length
        assert end <= len(data), "a message is cut off"
        found.append((kind, data[at + 5 : end]))
        at = end
    return found


SSL_REQUEST = packet(80877103)
RELATIONS = (
    (16400, b"public", b"customers", b'[[1, "id", 23], [2, "email", 25]]', None),
    (16410, b"public", b"orders", b'[[1, "id", 23]]', None),
    (1259, b"pg_catalog", b"pg_class", None, None),
)


def settings(path: bytes = b'"$user", public', role: bytes = b"none") -> bytes:
    """A server's answer to the gateway's questions about its settings, without Z."""
    out = b""
    for value in (path, role, b"gateway_role"):
        out += fields(("x", 0, 0, 25)) + row(value) + complete("SHOW")
    return out


def catalogue() -> bytes:
    """The same about its tables."""
    out = fields(("oid", 0, 0, 26))
    for oid, *rest in RELATIONS:
        out += row(str(oid).encode(), *rest)
    out += complete("SELECT 3") + fields(("i", 0, 0, 26)) + complete("SELECT 0")
    return out + fields(("t", 0, 0, 26)) + complete("SELECT 0")


def greeting() -> bytes:
    out = message(b"R", struct.pack("!i", 0))
    for name, value in (
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("session_authorization", "gateway_role"),
    ):
        out += message(b"S", f"{name}\0{value}\0".encode())
    return out + message(b"K", struct.pack("!ii", 42, 4242)) + ready()


class Postgres:
    """See :class:`tests.conformance.scenario.Scenario`."""

    name = "postgres"
    token = "eyJ.an-access-token"
    secret = b"ann@example.com"
    harmless = query("SELECT id, email FROM customers")
    harmful = query("DELETE FROM orders")
    answer = (
        fields(("id", 16400, 1, 23), ("email", 16400, 2, 25))
        + row(b"1", b"ann@example.com")
        + row(b"2", None)
        + complete("SELECT 2")
        + ready()
    )
    unknown_frame = message(b"!", b"what")
    oversized = b"Q" + struct.pack("!i", 0x7FFFFFFF)
    not_the_protocol: Sequence[bytes] = (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\xff" * 64,
        struct.pack("!i", 1 << 30) + b"\0\3\0\0",
        b"\0\0\0\4\0\0\0\0",
        b"\0" * 16,
    )

    def __init__(self, masked: bool = True) -> None:
        rule = MaskingRule("emails", Transform.REDACT, columns=("public.customers.email",))
        self.granted = Granted(
            Target("shop", "postgres", "db", 5432, tls="disable"),
            Credential("gateway_role", PASSWORD),
            (rule,) if masked else (),
            b"\0\0\0\7rlay",
            b"k" * 32,
        )

    def greet(self) -> Sequence[Event]:
        start = packet(3 << 16, parameters(user="agent", database="shop"))
        return (
            Received(Side.CLIENT, SSL_REQUEST),
            Secured(Side.CLIENT),
            Received(Side.CLIENT, start),
            Received(Side.CLIENT, message(b"p", self.token.encode() + b"\0")),
        )

    def enter(self) -> Sequence[Event]:
        return (
            self.granted,
            Dialed(),
            Received(Side.TARGET, greeting()),
            Received(Side.TARGET, settings() + catalogue() + ready()),
        )

    def read(self, data: bytes) -> Said:
        messages = read(data)
        return Said(
            sum(kind == b"E" for kind, _ in messages),
            sum(kind == b"Z" for kind, _ in messages),
            b"\n".join(body for _, body in messages),
        )
