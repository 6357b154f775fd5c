"""How the demonstration's agents connect: with psycopg, and byte by byte where it needs more."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import psycopg

from deploy.demo.gateway import Gateway
from deploy.demo.people import Person
from deploy.demo.processes import DemoFailed

TARGET = "orders"
Result = TypeVar("Result")
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def connect(gateway: Gateway, person: Person, token: str) -> psycopg.Connection:
    """A connection through the relay; the token is the password, the target the database."""
    return psycopg.connect(
        host="127.0.0.1",
        port=gateway.ports.relay,
        dbname=TARGET,
        user=person.name,
        password=token,
        sslmode="verify-full",
        sslrootcert=str(gateway.ca_file),
        autocommit=True,
        connect_timeout=30,
    )


def conninfo(gateway: Gateway, person: Person) -> str:
    """The same for ``psql``, without the password."""
    return (
        f"host=127.0.0.1 port={gateway.ports.relay} dbname={TARGET} user={person.name} "
        f"sslmode=verify-full sslrootcert={gateway.ca_file}"
    )


@dataclass(slots=True)
class Psql:
    """The ``psql`` program as one agent runs it."""

    gateway: Gateway
    person: Person
    token: str = field(repr=False)
    program: Path

    @classmethod
    def find(cls, gateway: Gateway, person: Person, token: str) -> Psql | None:
        """``None`` where it isn't installed."""
        found = shutil.which("psql")
        return cls(gateway, person, token, Path(found)) if found else None

    def run(self, statement: str) -> subprocess.CompletedProcess[str]:
        """Run one statement; output and errors in the order in which they came."""
        return subprocess.run(
            [self.program, conninfo(self.gateway, self.person), "-X", "-c", statement],
            env={**self.gateway.environment, "PGPASSWORD": self.token, "PAGER": "cat"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )


class Waiting(Generic[Result]):
    """Something that waits for a human, done in a thread so that the human can be played."""

    def __init__(self, action: Callable[[], Result]) -> None:
        self._result: list[Result] = []
        self._error: list[Exception] = []
        self._thread = threading.Thread(target=self._run, args=(action,), daemon=True)
        self._thread.start()

    def _run(self, action: Callable[[], Result]) -> None:
        try:
            self._result.append(action())
        except Exception as error:  # noqa: BLE001  # raised again where the result is asked for
            self._error.append(error)

    @property
    def waits(self) -> bool:
        """Whether it has not come to an end."""
        return self._thread.is_alive()

    def result(self, seconds: float = 30.0) -> Result:
        """What it gave, or raises what it raised."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise DemoFailed("the statement still waits, though it was decided")
        if self._error:
            raise self._error[0]
        return self._result[0]


def unsigned(token: str) -> str:
    """The token's claims under a header that says that nothing signs them."""
    header = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"none"}').rstrip(b"=").decode()
    return f"{header}.{token.split('.')[1]}."


def claims(token: str) -> Mapping[str, object]:
    """What a token says, unverified; to be shown."""
    middle = token.split(".")[1]
    decoded: dict[str, object] = json.loads(
        base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4))
    )
    return decoded


def refused_login(gateway: Gateway, person: Person, token: str) -> Mapping[str, str]:
    """The fields of the error that answers a login, by their letters: C, M, D, H.

    libpq doesn't give a failed login's SQLSTATE to its callers, so this is spoken by hand:
    PostgreSQL's manual, "Message Flow: Start-up" and "Error and Notice Message Fields".
    """
    context = ssl.create_default_context(cafile=str(gateway.ca_file))
    with socket.create_connection(("127.0.0.1", gateway.ports.relay), 30) as plain:
        plain.sendall(_SSL_REQUEST)
        if plain.recv(1) != b"S":
            raise DemoFailed("the relay offers no TLS")
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            stream = secure.makefile("rwb")
            names = f"user\0{person.name}\0database\0{TARGET}\0\0".encode()
            stream.write(struct.pack("!ii", 8 + len(names), 196608) + names)
            stream.flush()
            while True:
                kind, length = struct.unpack("!ci", stream.read(5))
                body = stream.read(length - 4)
                if kind == b"R" and body == struct.pack("!i", 3):
                    word = token.encode() + b"\0"
                    stream.write(b"p" + struct.pack("!i", 4 + len(word)) + word)
                    stream.flush()
                elif kind == b"E":
                    parts = body.rstrip(b"\0").split(b"\0")
                    return {part[:1].decode(): part[1:].decode() for part in parts}
                elif kind == b"Z":
                    raise DemoFailed(f"{person.name} was let in")
