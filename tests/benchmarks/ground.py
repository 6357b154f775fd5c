"""What is measured: a PostgreSQL with TLS, pgbouncer, and a whole gateway, all on loopback.

Counterparts: :mod:`tests.end_to_end.gateway` runs the gateway's parts as an operator would,
:mod:`tests.servers` the server. It measures nothing.

Every route has TLS on the client's leg with the same keys (P-256), and pgbouncer and the relay
both verify the server's certificate on theirs, so that what is compared does the same work.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import psycopg
from psycopg import sql

from control_plane.relays.authority import Authority
from deploy.demo.people import GROUPS
from deploy.demo.processes import Child, DemoFailed, Identity
from deploy.demo.surroundings import ROOT, clean_environment
from tests.benchmarks.processes import Process
from tests.end_to_end.gateway import Gateway, until
from tests.servers import PostgresServer, debian_binaries, free_port

AGENT = "reporting-agent"
DATABASE = "bench"
ROWS = 1_000_000
SCALE = 10
CONNECTIONS = 1200

DOCUMENTS = Template(
    """\
apiVersion: jitgate/v1
kind: Relay
metadata: {name: relay-1}
spec: {hosts: [127.0.0.1, localhost], segment: bench}
---
apiVersion: jitgate/v1
kind: Target
metadata: {name: bench, labels: {masking: columns}}
spec:
  protocol: postgres
  host: 127.0.0.1
  port: $port
  database: bench
  tls: $tls
  credential: bench
---
apiVersion: jitgate/v1
kind: Target
metadata: {name: detecting, labels: {masking: detectors}}
spec:
  protocol: postgres
  host: 127.0.0.1
  port: $port
  database: bench
  tls: $tls
  credential: bench
---
apiVersion: jitgate/v1
kind: Policy
metadata: {name: bench}
spec:
  subjects: [{groups: [$analysts]}]
  targets: {names: [bench, detecting]}
  rules:
    - {name: read, outcome: allow, risks: [read]}
    - name: change-data
      outcome: approve
      risks: [write, destroy]
      approval: {groups: [$approvers], count: 1, hold: 5m, validity: 1h, scopes: [once]}
    - {name: no-schema-changes, outcome: refuse, risks: [administer, execute, unknown]}
---
apiVersion: jitgate/v1
kind: Masking
metadata: {name: by-column}
spec:
  targets: {labels: {masking: columns}}
  rules:
    - {name: mail, columns: [public.masked_people.email], transform: partial, keep: 4}
    - {name: filler, columns: [public.pgbench_history.filler], transform: redact}
---
apiVersion: jitgate/v1
kind: Masking
metadata: {name: by-detector}
spec:
  targets: {labels: {masking: detectors}}
  rules: [{name: anywhere, detect: [card, iban], transform: redact}]
"""
)

# About 130 bytes a row on the wire: 7 of the frame, 4 a value, and the values.
PEOPLE = """
CREATE TABLE {table} AS
SELECT i AS id,
       'person ' || lpad(i::text, 7, '0') AS name,
       'person' || lpad(i::text, 7, '0') || '@mail.example' AS email,
       repeat(chr(97 + i % 26), 60) AS note
FROM generate_series(1, {rows}) AS i
"""


class MissingPrograms(Exception):
    """What the benchmark runs isn't installed; the message names it."""


@dataclass(frozen=True, slots=True)
class Route:
    """A way to the server. ``process`` is what stands in it; None where nothing does."""

    name: str
    parameters: Mapping[str, str] = field(repr=False)
    process: Process | None

    @property
    def dsn(self) -> str:
        """What libpq connects by, without the password."""
        shown = {name: value for name, value in self.parameters.items() if name != "password"}
        return psycopg.conninfo.make_conninfo(**shown)

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """A connection in autocommit."""
        return psycopg.connect(psycopg.conninfo.make_conninfo(**self.parameters), autocommit=True)


@dataclass(frozen=True, slots=True)
class Ground:
    """Everything that runs. ``programs`` is where the server's own programs are."""

    programs: Path
    direct: Route
    pgbouncer: Route
    relay: Route
    detecting: Route
    gateway: Gateway
    control_plane: Process

    @property
    def routes(self) -> tuple[Route, ...]:
        """Those that are compared with one another."""
        return (self.direct, self.pgbouncer, self.relay)

    def await_upload(self) -> None:
        """Wait until the control plane has all that was recorded, so that it disturbs nothing."""
        spool = self.gateway.directory / "relay" / "spool"

        def empty() -> bool:
            return not any(path.stat().st_size for path in spool.glob("*.spool"))

        until(empty, "the end of the upload", 300)


def check_programs() -> None:
    """Raise :class:`MissingPrograms` where the benchmark can't be run."""
    missing = []
    binaries = debian_binaries()
    if binaries is None or not (binaries / "pgbench").exists():
        missing.append("PostgreSQL's server and pgbench (package postgresql)")
    if _pgbouncer() is None:
        missing.append("pgbouncer")
    if missing:
        raise MissingPrograms("not installed: " + ", ".join(missing))


@contextmanager
def prepared(directory: Path, *, plain_target: bool = False) -> Iterator[Ground]:
    """Start and fill everything; stopped and removed at the end.

    ``plain_target`` leaves out TLS between pgbouncer or the relay and the server.
    """
    check_programs()
    # So that what runs as another user finds its place inside, and nothing is left elsewhere.
    directory.chmod(0o711)
    authority = Authority(directory / "authority")
    issued = authority.issue(["127.0.0.1", "localhost"])
    settings = (
        f"max_connections = {CONNECTIONS}",
        "shared_buffers = 512MB",
        "synchronous_commit = off",
        "autovacuum = off",
        "log_statement = none",
        "log_connections = off",
    )
    with ExitStack() as stack:
        server = stack.enter_context(
            PostgresServer(tls=(issued.chain_pem, issued.key_pem), settings=settings)
        )
        direct = Route(
            "direct",
            {
                "host": server.host,
                "port": str(server.port),
                "dbname": DATABASE,
                "user": server.user,
                "password": server.password,
                "sslmode": "verify-full",
                "sslrootcert": str(authority.ca_path),
            },
            None,
        )
        _fill(server, direct)
        bouncer, port = _start_pgbouncer(
            directory, server, authority, issued.chain_pem, issued.key_pem, plain_target
        )
        stack.callback(bouncer.stop)
        gateway = Gateway(_made(directory / "gateway"))
        stack.callback(gateway.close)
        _start_gateway(gateway, server, authority, plain_target)
        relay = Process(gateway.pid("relay"))
        yield Ground(
            server.binaries,
            direct,
            Route(
                "pgbouncer",
                {**direct.parameters, "port": str(port)},
                Process(bouncer.pid),
            ),
            Route("relay", _as_agent(gateway, "bench"), relay),
            Route("relay, detectors", _as_agent(gateway, "detecting"), relay),
            gateway,
            Process(gateway.pid("control_plane")),
        )


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _as_agent(gateway: Gateway, target: str) -> Mapping[str, str]:
    return {name: str(value) for name, value in gateway.parameters(AGENT, target).items()}


def _fill(server: PostgresServer, direct: Route) -> None:
    server.create_database(DATABASE)
    subprocess.run(
        [server.binaries / "pgbench", "-i", "-q", "-s", str(SCALE), direct.dsn],
        check=True,
        capture_output=True,
        cwd=ROOT,
        env={**clean_environment(), "PGPASSWORD": direct.parameters["password"]},
    )
    with direct.connect() as connection:
        for table in ("plain_people", "masked_people"):
            connection.execute(
                sql.SQL(PEOPLE).format(table=sql.Identifier(table), rows=sql.Literal(ROWS))
            )
        connection.execute("CREATE TABLE held AS SELECT i AS id FROM generate_series(1, 10000) i")
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _pgbouncer() -> str | None:
    # Where Debian puts it may not be in the path of who isn't root.
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


def _start_pgbouncer(
    directory: Path,
    server: PostgresServer,
    authority: Authority,
    certificate: str,
    key: str,
    plain_target: bool,
) -> tuple[Child, int]:
    """Session mode, and as much TLS as the relay has; its users are the server's."""
    place = server.directory / "pgbouncer"  # Where the server's user may read.
    place.mkdir()
    port = free_port()
    ca = authority.ca_path.read_text(encoding="ascii")
    to_server = "disable" if plain_target else "verify-full"
    files = {
        "cert.pem": certificate,
        "key.pem": key,
        "ca.pem": ca,
        "users.txt": f'"{server.user}" "{server.password}"\n',
        "pgbouncer.ini": f"""\
[databases]
* = host={server.host} port={server.port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {place}/users.txt
pool_mode = session
default_pool_size = {CONNECTIONS // 2}
max_client_conn = {CONNECTIONS}
ignore_startup_parameters = extra_float_digits
client_tls_sslmode = require
client_tls_cert_file = {place}/cert.pem
client_tls_key_file = {place}/key.pem
server_tls_sslmode = {to_server}
server_tls_ca_file = {place}/ca.pem
log_connections = 0
log_disconnections = 0
""",
    }
    identity = Identity(65534, 65534) if os.geteuid() == 0 else None
    for name, content in files.items():
        path = place / name
        path.write_text(content)
        path.chmod(0o600)
        if identity is not None:
            os.chown(path, identity.user, identity.group)
    program = _pgbouncer()
    if program is None:
        raise MissingPrograms("not installed: pgbouncer")
    child = Child(
        "pgbouncer",
        [program, place / "pgbouncer.ini"],
        directory / "pgbouncer.log",
        directory=server.directory,
        environment=clean_environment(),
        identity=identity,
    )

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            return False
        return True

    try:
        child.wait_until(listens, "the start of pgbouncer")
    except BaseException:
        child.stop()
        raise
    return child, port


def _start_gateway(
    gateway: Gateway, server: PostgresServer, authority: Authority, plain_target: bool
) -> None:
    gateway.start("control_plane")
    gateway.call(
        "PUT",
        "/api/v1/credentials/bench",
        json={"username": server.user, "password": server.password},
    )
    ca = authority.ca_path.read_text(encoding="ascii").replace("\n", "\\n")
    tls = "{mode: disable}" if plain_target else f'{{mode: verify-full, ca: "{ca}"}}'
    gateway.apply(
        DOCUMENTS.substitute(
            port=server.port,
            tls=tls,
            analysts=GROUPS["analysts"],
            approvers=GROUPS["approvers"],
        )
    )
    gateway.start("relay")

    def served() -> bool:
        try:
            gateway.connect(AGENT, "bench").close()
        except psycopg.OperationalError as error:
            if "no policy" in str(error) or "unavailable" in str(error):
                return False
            raise DemoFailed(f"the relay doesn't serve the benchmark: {error}") from None
        return True

    until(served, "the relay's first policy")
