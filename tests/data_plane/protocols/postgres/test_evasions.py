"""Tricks with the order of frames and with names, against a real server.

Each tries to make the gateway take one statement for another. A statement that is not a read
may be prepared, but never run.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from protos.vocabulary import MaskingRule, Operation, Risk, Transform, Verdict
from tests.conformance.scenarios.postgres import message, packet, parameters, query, read
from tests.data_plane.protocols.postgres.blocking import ALLOWED, TOKEN, BlockingRelay, refuse
from tests.data_plane.protocols.postgres.conftest import ROLE
from tests.servers import PostgresServer

EVIL = "DELETE FROM orders RETURNING id"
EMAIL = MaskingRule("emails", Transform.REDACT, columns=("public.customers.email",))
SYNC = message(b"S")
FLUSH = message(b"H")


def parse(name: str, text: str) -> bytes:
    return message(b"P", f"{name}\0{text}\0".encode() + b"\0\0")


def bind(portal: str, statement: str) -> bytes:
    return message(b"B", f"{portal}\0{statement}\0".encode() + b"\0" * 6)


def execute(portal: str = "", rows: int = 0) -> bytes:
    return message(b"E", portal.encode() + b"\0" + struct.pack("!i", rows))


def describe(kind: str, name: str) -> bytes:
    return message(b"D", kind.encode() + name.encode() + b"\0")


def close(kind: str, name: str) -> bytes:
    return message(b"C", kind.encode() + name.encode() + b"\0")


def run(statement: str, portal: str = "") -> bytes:
    return bind(portal, statement) + execute(portal)


def reads_only(operation: Operation, preview: bool) -> Verdict:
    return ALLOWED if preview or operation.risk is Risk.READ else refuse()


class Wire:
    """A client of bytes."""

    def __init__(self, gateway: BlockingRelay) -> None:
        self.socket = socket.create_connection(("127.0.0.1", gateway.port), timeout=15)
        self.left = b""
        self.socket.sendall(packet(3 << 16, parameters(user="agent", database="shop")))
        self.until(b"R")
        self.socket.sendall(message(b"p", TOKEN.encode() + b"\0"))
        self.until(b"Z")

    def until(self, kind: bytes, count: int = 1) -> list[tuple[bytes, bytes]]:
        """Messages up to the ``count``-th of a kind, or to the end of the connection."""
        data = self.left
        found: list[tuple[bytes, bytes]] = []
        while True:
            while len(data) >= 5 and len(data) > (size := struct.unpack_from("!i", data, 1)[0]):
                found += read(data[: size + 1])
                data = data[size + 1 :]
                count -= found[-1][0] == kind
                if not count:
                    self.left = data
                    return found
            more = self.socket.recv(65536)
            if not more:
                return found
            data += more

    def ask(self, *frames: bytes) -> list[tuple[bytes, bytes]]:
        """Send all frames at once; the answers up to as many ``Z`` as they call for."""
        stream = b"".join(frames)
        calls = sum(frame[:1] in b"QS" for frame in split(stream))
        self.socket.sendall(stream)
        return self.until(b"Z", calls)


def split(stream: bytes) -> Iterator[bytes]:
    while stream:
        size = struct.unpack_from("!i", stream, 1)[0] + 1
        yield stream[:size]
        stream = stream[size:]


def states(answers: list[tuple[bytes, bytes]]) -> list[str]:
    """The SQLSTATEs of the errors."""
    return [
        next(part[1:].decode() for part in body.split(b"\0") if part[:1] == b"C")
        for kind, body in answers
        if kind == b"E"
    ]


@pytest.mark.parametrize(
    "frames",
    [
        [parse("", EVIL), run(""), SYNC],
        [parse("s", EVIL), SYNC, parse("s", "SELECT 1"), SYNC, run("s"), SYNC],
        [parse("s", EVIL), parse("s", "SELECT 1"), SYNC, run("s"), SYNC],
        [
            parse("s", EVIL), SYNC,
            bind("", "nowhere"), close("S", "s"), SYNC,
            parse("s", "SELECT 1"), SYNC,
            run("s"), SYNC,
        ],
        [
            parse("", EVIL), SYNC,
            bind("", "nowhere"), parse("", "SELECT 1"), SYNC,
            run(""), SYNC,
        ],
        [
            parse("", EVIL), SYNC,
            parse("x", "SELECT 1/0"), run("x"), parse("", "SELECT 1"), SYNC,
            run(""), SYNC,
        ],
        [
            parse("s", EVIL), parse("h", "SELECT 1"), query("BEGIN"),
            bind("p", "s"), SYNC,
            bind("p", "h"), SYNC,
            execute("p"), SYNC,
        ],
        [
            query("BEGIN"), parse("s", EVIL), bind("c", "s"), SYNC, query("SAVEPOINT a"),
            query("DECLARE c CURSOR FOR SELECT 1"), query("ROLLBACK TO a"),
            query("FETCH ALL FROM c"),
        ],
        [query("BEGIN"), parse("s", EVIL), bind("c", "s"), SYNC, query("FETCH ALL FROM c")],
        [query("BEGIN"), parse("s", EVIL), bind("c", "s"), SYNC, query("MOVE ALL FROM c")],
        [parse("s", EVIL), SYNC, query("EXECUTE s")],
        [parse("e", "EXECUTE s"), parse("s", EVIL), run("e"), SYNC],
        [
            query("PREPARE s AS SELECT 1"), query("DEALLOCATE s; PREPARE s AS " + EVIL),
            run("s"), SYNC,
        ],
        [query("PREPARE s AS " + EVIL), query("EXECUTE s")],
        [parse("a" * 63, EVIL), parse("a" * 63 + "b", "SELECT 1"), SYNC, run("a" * 63 + "b"), SYNC],
        [parse("", "SELECT 1"), query(EVIL), run(""), SYNC],
        [query("SELECT 1; " + EVIL)],
        [message(b"F", b"\0\0\0\1\0\0\0\0\0\0"), query("SELECT 1")],
    ],
)  # fmt: skip
@pytest.mark.parametrize("masking", [(), (EMAIL,)])
def test_a_statement_that_may_not_run_never_runs(
    shop: PostgresServer, frames: list[bytes], masking: tuple[MaskingRule, ...]
) -> None:
    gateway = BlockingRelay((shop.host, shop.port), ROLE, gate=reads_only, masking=masking)
    with gateway:
        wire = Wire(gateway)
        if frames[0][:1] == b"F":
            wire.socket.sendall(frames[0])
            assert states(wire.until(b"Z")) == ["0A000"]
            frames = frames[1:]
            assert states(wire.ask(*frames)) == []
        else:
            assert states(wire.ask(*frames))
        # The connection still works, and nothing is gone, also once everything is committed.
        wire.ask(query("COMMIT"))
        answers = wire.ask(query("SELECT count(*) FROM orders"))
        assert (b"D", b"\0\1\0\0\0\x0220") in answers
        wire.socket.close()
    assert shop.psql("SELECT count(*) FROM orders") == "20"


@pytest.mark.parametrize(
    "frames",
    [
        [
            query("BEGIN"), query("DECLARE c CURSOR FOR SELECT email FROM customers"),
            execute("c"), SYNC,
        ],
        [
            query("BEGIN"), query("DECLARE c CURSOR FOR SELECT email FROM customers"),
            describe("P", "c"), SYNC, query("FETCH ALL FROM c"),
        ],
        [
            query("BEGIN"), parse("h", "SELECT name FROM customers"), bind("c", "h"),
            describe("P", "c"), execute("c", 1), SYNC, query("CLOSE c"),
            query("DECLARE c CURSOR FOR SELECT email FROM customers"), execute("c"), SYNC,
        ],
        [parse("h", "SELECT email FROM customers"), run("h"), run("h"), SYNC, run("h"), SYNC],
        [
            query("SET search_path TO other"), parse("h", "SELECT email FROM customers"),
            describe("S", "h"), run("h"), SYNC, query("SET search_path TO public"), run("h"), SYNC,
        ],
        [
            parse("a", "SET search_path TO public"), run("a"),
            parse("b", "SELECT email FROM customers"), run("b"), SYNC,
        ],
        [
            parse("h", "SELECT email FROM customers"), bind("p", "h"), execute("p", 1),
            execute("p", 1), SYNC,
        ],
        [query("SELECT 1; SELECT email FROM customers; SELECT 2")],
    ],
)  # fmt: skip
def test_no_order_of_frames_shows_a_masked_value(shop: PostgresServer, frames: list[bytes]) -> None:
    gateway = BlockingRelay((shop.host, shop.port), ROLE, masking=(EMAIL,))
    with gateway:
        wire = Wire(gateway)
        answers = wire.ask(*frames)
        assert answers[-1][0] == b"Z"
        wire.socket.close()
    assert b"ann@" not in gateway.lines[0].to_client


def test_a_portal_is_fetched_on_without_asking_again(shop: PostgresServer) -> None:
    gateway = BlockingRelay((shop.host, shop.port), ROLE)
    with gateway:
        wire = Wire(gateway)
        answers = wire.ask(
            query("BEGIN"), parse("", "SELECT id FROM orders"), bind("p", ""),
            execute("p", 5), SYNC, execute("p", 5), SYNC, close("P", "p"), close("S", ""), SYNC,
        )  # fmt: skip
        assert [kind for kind, _ in answers].count(b"D") == 10
        assert [kind for kind, _ in answers].count(b"s") == 2
        wire.socket.close()
    # BEGIN, the preview and the first Execute.
    assert len(gateway.lines[0].asked) == 3


def test_sync_and_other_frames_during_copy(shop: PostgresServer) -> None:
    gateway = BlockingRelay((shop.host, shop.port), ROLE)
    with gateway:
        wire = Wire(gateway)
        wire.ask(query("BEGIN"))
        copy = parse("", "COPY orders FROM STDIN") + bind("", "") + execute()
        wire.socket.sendall(copy + SYNC)
        assert wire.until(b"G")[-1][0] == b"G"
        data = message(b"d", b"77\n")
        wire.socket.sendall(data + SYNC + FLUSH + data + message(b"c") + SYNC)
        answers = wire.until(b"Z")
        assert (b"C", b"COPY 2\0") in answers
        # Pipelined at once, with an error at the first row.
        wire.socket.sendall(copy + SYNC + message(b"d", b"x\n") + message(b"c") + SYNC)
        answers = wire.until(b"Z")
        assert states(answers) == ["22P02"]
        assert wire.ask(query("ROLLBACK"))[-1] == (b"Z", b"I")
        wire.socket.sendall(query("COPY orders FROM STDIN"))
        wire.until(b"G")
        wire.socket.sendall(message(b"f", b"no\0"))
        assert states(wire.until(b"Z")) == ["57014"]
        wire.socket.sendall(query("COPY orders FROM STDIN"))
        wire.until(b"G")
        wire.socket.sendall(query("SELECT 1"))
        assert states(wire.until(b"E")) == ["08P01"]
        wire.socket.close()
    assert shop.psql("SELECT count(*) FROM orders") == "20"


@pytest.mark.parametrize(
    "frame",
    [
        message(b"Q", b"no end"),
        message(b"Q", b"two\0ends\0"),
        message(b"P", b"\0select"),
        message(b"P", b"\0select 1\0\xff\xff"),
        message(b"P", b"\0select 1\0\0\0more"),
        message(b"B", b"\0\0\0\0\0\1\0\0\0\x09"),
        message(b"B", b"\0\0\0\0\0\1\xff\xff\xff\xf0\0\0"),
        message(b"D", b"X\0"),
        message(b"D"),
        message(b"C", b"X\0"),
        message(b"E", b"\0"),
        b"Q\0\0\0\1",
        message(b"p", b"token\0"),
        b"d\x7f\xff\xff\xff",
    ],
)
def test_a_malformed_frame_ends_the_session(shop: PostgresServer, frame: bytes) -> None:
    gateway = BlockingRelay((shop.host, shop.port), ROLE)
    with gateway:
        wire = Wire(gateway)
        wire.socket.sendall(frame)
        answers = wire.until(b"never")
        assert states(answers) == ["08P01"]
        wire.socket.close()
    assert "protocol violation" in gateway.lines[0].closed
