"""A transcript of what a real client and a real server said to each other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Self

import psycopg
import pytest

from control_plane.recordings.transcript import Line, transcribe
from protos.vocabulary import EntryKind
from tests.control_plane.recordings.transcript import wire
from tests.servers import PostgresServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    try:
        with PostgresServer() as running:
            yield running
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


class Wiretap:
    """One connection through here to the server; what passes after login is recorded."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = port
        self._lock = threading.Lock()
        self._login = b""
        self.parts: list[tuple[EntryKind, bytes]] = []
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(30)
        self._listener.close()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(("127.0.0.1", self._port)) as target:
            up = threading.Thread(target=self._carry, args=(client, target, EntryKind.REQUEST))
            up.start()
            self._carry(target, client, EntryKind.ANSWER)
            up.join(30)

    def _carry(self, source: socket.socket, sink: socket.socket, kind: EntryKind) -> None:
        while data := source.recv(65536):
            with self._lock:
                if b"Z\0\0\0\x05I" in self._login:
                    self.parts.append((kind, data))
                elif kind is EntryKind.ANSWER:
                    self._login += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

    def lines(self) -> list[Line]:
        return list(transcribe(wire.entries(*self.parts)))


def test_psycopg_with_binds_binary_copy_and_errors(server: PostgresServer) -> None:
    with Wiretap(server.port) as tap:
        dsn = server.dsn(sslmode="disable").replace(f":{server.port}/", f":{tap.port}/")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE t (id int, name text, amount numeric(10,2))")
            connection.execute("INSERT INTO t VALUES (%s, %s, %b)", (1, "it's", 5))
            connection.execute("INSERT INTO t VALUES (2, NULL, 12.34)")
            for binary in (False, True):
                cursor = connection.cursor(binary=binary)
                cursor.execute(
                    "SELECT id, name, amount, id > 1 FROM t WHERE id < %s ORDER BY 1", (9,)
                )
                assert len(cursor.fetchall()) == 2
            prepared = "SELECT id FROM t WHERE name = %s"
            for name in ("it's", "nobody"):
                connection.execute(prepared, (name,), prepare=True).fetchall()
            with pytest.raises(psycopg.errors.UndefinedTable):
                connection.execute("SELECT * FROM missing", prepare=True)
            with connection.cursor().copy("COPY t TO STDOUT") as copy:
                assert len(list(copy)) == 2
            with connection.pipeline():
                connection.execute("SELECT 7 AS seven")
                connection.execute("SELECT 8 AS eight")
    lines = tap.lines()
    assert not [line for line in lines if line.kind in ("garbage", "malformed", "incomplete")]
    tables = [line.table for line in lines if line.table is not None]
    names = ("id", "name", "amount", "?column?")
    rows = (("1", "it's", "5.00", "f"), ("2", None, "12.34", "t"))
    assert [(one.columns, one.rows) for one in tables] == [
        (names, rows),
        (names, rows),
        (("id",), (("1",),)),
        (("seven",), (("7",),)),
        (("eight",), (("8",),)),
    ]
    text = "\n".join(f"{line.kind} {line.text}" for line in lines)
    assert "$1 = '1', $2 = 'it''s', $3 = '5'" in text
    assert 'error ERROR 42P01: relation "missing" does not exist' in text
    assert "copy data" in text
    assert "1\tit's\t5.00" in text
    assert lines[-1].kind == "terminate"
