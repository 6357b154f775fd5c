"""What arrives at a relay's port that is no client: a clear answer, bounded, and nobody else
notices."""

import contextlib
import os
import resource
import selectors
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from deploy.demo.target import SUPERUSER
from tests.end_to_end.gateway import Gateway, until

SSL_REQUEST = struct.pack("!II", 8, 80877103)


@contextmanager
def raw(gateway: Gateway, *, tls: bool = False) -> Iterator[socket.socket]:
    connection = socket.create_connection((gateway.host, gateway.port), timeout=40)
    try:
        if tls:
            connection.sendall(SSL_REQUEST)
            assert connection.recv(1) == b"S"
            context = ssl.create_default_context(cafile=str(gateway.ca))
            connection = context.wrap_socket(connection, server_hostname=gateway.host)
        yield connection
    finally:
        connection.close()


def everything(connection: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError, ssl.SSLError):
        while part := connection.recv(65536):
            data += part
    return data


def works(gateway: Gateway) -> None:
    with gateway.connect() as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00" * 64,
        b"\xff" * 64,
        os.urandom(4096),
        struct.pack("!II", 1 << 30, 196608) + b"user\0x\0",
        struct.pack("!II", 8, 131072),
        struct.pack("!II", 9, 196608) + b"x",
        struct.pack("!II", 4, 196608),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(32),
    ],
    ids=[
        "http",
        "http-post",
        "ssh",
        "zeros",
        "ones",
        "noise",
        "startup-1GB",
        "protocol-2",
        "startup-cut",
        "length-4",
        "tls-hello",
    ],
)
def test_garbage_gets_an_answer_or_an_end(gateway: Gateway, garbage: bytes, tls: bool) -> None:
    with raw(gateway, tls=tls) as connection:
        connection.sendall(garbage)
        if not tls:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        answer = everything(connection)
    if garbage.startswith((b"GET", b"POST")):
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"PostgreSQL" in answer
    assert len(answer) < 4096
    works(gateway)


def test_a_startup_packet_of_a_gigabyte_is_not_waited_for(gateway: Gateway) -> None:
    with raw(gateway, tls=True) as connection:
        connection.sendall(struct.pack("!II", 1 << 30, 196608))
        assert everything(connection).startswith(b"E")


def test_bytes_behind_the_request_for_tls_are_an_attack(gateway: Gateway) -> None:
    with raw(gateway) as connection:
        connection.sendall(SSL_REQUEST + struct.pack("!II", 9, 196608) + b"\0")
        assert everything(connection)[:2] != b"S"
    works(gateway)


def test_without_tls_nobody_gets_in(gateway: Gateway) -> None:
    with pytest.raises(psycopg.OperationalError, match="TLS"):
        gateway.connect(sslmode="disable")


def test_many_connections_that_say_nothing_hold_nobody_up(gateway: Gateway) -> None:
    count = 10_000
    _allow_files(count + 2000)
    selector = selectors.DefaultSelector()
    silent = []
    try:
        for number in range(count):
            connection = socket.socket()
            connection.setblocking(False)
            # Loopback has more than one address, so that ports don't run out.
            connection.bind((f"127.0.0.{2 + number % 8}", 0))
            connection.connect_ex((gateway.host, gateway.port))
            silent.append(connection)
            if number % 500 == 499:
                selector.select(0)
        works(gateway)
    finally:
        for connection in silent:
            connection.close()
    works(gateway)


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= wanted, "too few files allowed"


def target_document(name: str, port: int, credential: str, tls: str = "disable") -> str:
    return f"""
apiVersion: jitgate/v1
kind: Target
metadata: {{name: {name}, labels: {{env: demo}}}}
spec:
  protocol: postgres
  host: 127.0.0.1
  port: {port}
  database: postgres
  tls: {{mode: {tls}}}
  credential: {credential}
---
apiVersion: jitgate/v1
kind: Policy
metadata: {{name: {name}-policy}}
spec:
  subjects: [{{kinds: [application, agent]}}]
  targets: {{names: [{name}]}}
  rules: [{{name: read, outcome: allow, risks: [read]}}]
"""


def test_an_unreachable_target_is_said_and_others_go_on(gateway: Gateway) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    gateway.call("PUT", "/api/v1/credentials/void", json={"username": "u", "password": "p-void"})
    gateway.apply(target_document("void", port, "void"))
    with pytest.raises(psycopg.OperationalError, match="reached") as caught:
        _until_known(gateway, "void")
    assert "p-void" not in str(caught.value)
    works(gateway)


def test_a_wrong_password_for_the_target_is_the_gateways_fault_and_says_so(
    gateway: Gateway,
) -> None:
    target = gateway.target
    gateway.call(
        "PUT",
        "/api/v1/credentials/wrong",
        json={"username": SUPERUSER, "password": "not-the-password"},
    )
    gateway.apply(target_document("wrong", target.port, "wrong"))
    with pytest.raises(psycopg.OperationalError, match="FATAL") as caught:
        _until_known(gateway, "wrong")
    message = str(caught.value)
    assert "gateway" in message
    assert "not-the-password" not in message
    assert SUPERUSER not in message.replace("postgres wire", "")
    works(gateway)


def test_a_target_without_tls_is_not_reached_in_clear(gateway: Gateway) -> None:
    target = gateway.target
    gateway.call(
        "PUT",
        "/api/v1/credentials/clear",
        json={"username": SUPERUSER, "password": target.password},
    )
    gateway.apply(target_document("clear", target.port, "clear", "verify-full"))
    with pytest.raises(psycopg.OperationalError, match="TLS"):
        _until_known(gateway, "clear")


def _until_known(gateway: Gateway, database: str) -> None:
    """Connect; a relay that hasn't heard of the new policy yet is asked again."""

    def look() -> bool:
        try:
            gateway.connect(database=database).close()
        except psycopg.OperationalError as error:
            if "not_permitted" in str(error) or "no_policy" in str(error):
                return False
            raise
        return True

    until(look, f"the relay's answer for {database}")


@pytest.mark.parametrize(
    ("documents", "line"),
    [
        ("kind: Policy\nmetadata: {name: x}\nspec: {}\n", 1),
        ("apiVersion: jitgate/v1\nkind: Policy\nmetadata: {name: x}\nspec: {rulez: 1}\n", 4),
        ("apiVersion: jitgate/v1\nkind: [\n", 3),
        ("- 1\n- 2\n", 1),
    ],
)
def test_a_policy_that_does_not_parse_points_to_the_line(
    gateway: Gateway, documents: str, line: int
) -> None:
    answer = gateway.answer(
        "POST",
        "/api/v1/apply",
        content=documents,
        headers={"Content-Type": "application/yaml"},
    )
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"]
    assert line in [error["line"] for error in problem["errors"]]
    works(gateway)


def test_a_client_that_reads_nothing_costs_no_memory(gateway: Gateway) -> None:
    def resident() -> int:
        pid = gateway.pid("relay")
        with open(f"/proc/{pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    connection = gateway.connect()
    try:
        before = resident()
        query = b"SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"
        connection.pgconn.send_query(query)
        for _ in range(5):
            works(gateway)
        assert resident() - before < 64 << 10
    finally:
        connection.close()
