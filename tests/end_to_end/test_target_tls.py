"""TLS between relay and target, with a server that speaks it: as strict as the target says."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from control_plane.relays.authority import Authority
from deploy.demo.people import GROUPS
from tests.end_to_end.gateway import Gateway, until
from tests.servers import PostgresServer

DOCUMENTS = """
apiVersion: jitgate/v1
kind: Target
metadata: {{name: {name}, labels: {{kind: tls}}}}
spec:
  protocol: postgres
  host: {host}
  port: {port}
  database: postgres
  tls: {tls}
  credential: tls-target
---
apiVersion: jitgate/v1
kind: Policy
metadata: {{name: tls}}
spec:
  subjects: [{{groups: [{group}]}}]
  targets: {{labels: {{kind: tls}}}}
  rules: [{{name: read, outcome: allow, risks: [read, administer]}}]
"""
ENCRYPTED = b"SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@dataclass(frozen=True)
class Guarded:
    """A server whose certificate is for 127.0.0.1 alone, and the authority behind it."""

    server: PostgresServer
    ca: str
    another_ca: str


@pytest.fixture(scope="module")
def guarded(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    another = Authority(tmp_path_factory.mktemp("another"))
    issued = authority.issue(["127.0.0.1"])
    with PostgresServer(tls=(issued.chain_pem, issued.key_pem)) as server:
        gateway.call(
            "PUT",
            "/api/v1/credentials/tls-target",
            json={"username": server.user, "password": server.password},
        )
        yield Guarded(server, authority.ca_pem, another.ca_pem)


def answer(gateway: Gateway, guarded: Guarded, name: str, host: str, mode: str, ca: str) -> object:
    """What the relay gives for a target that is set up so; or its refusal, as text."""
    gateway.apply(
        DOCUMENTS.format(
            name=name,
            host=host,
            port=guarded.server.port,
            tls=json.dumps({"mode": mode, "ca": ca} if ca else {"mode": mode}),
            group=GROUPS["analysts"],
        )
    )

    def look() -> object:
        try:
            with gateway.connect(database=name) as connection:
                return connection.execute(ENCRYPTED).fetchall()
        except psycopg.OperationalError as error:
            # The relay may not have heard of the documents yet.
            return "" if "target_not_available" in str(error) else str(error)

    return until(look, "an answer of the relay")


def test_a_verified_target_is_reached_over_tls(gateway: Gateway, guarded: Guarded) -> None:
    got = answer(gateway, guarded, "tls-full", "127.0.0.1", "verify-full", guarded.ca)
    assert got == [(True,)]


def test_verify_ca_asks_for_no_name_but_for_the_authority(
    gateway: Gateway, guarded: Guarded
) -> None:
    got = answer(gateway, guarded, "tls-ca", "localhost", "verify-ca", guarded.ca)
    assert got == [(True,)]


def test_require_encrypts_without_asking_who_it_is(gateway: Gateway, guarded: Guarded) -> None:
    got = answer(gateway, guarded, "tls-any", "localhost", "require", "")
    assert got == [(True,)]


@pytest.mark.parametrize(
    ("name", "host", "mode", "own_ca"),
    [
        ("tls-name", "localhost", "verify-full", True),
        ("tls-strange", "127.0.0.1", "verify-full", False),
        ("tls-foreign", "127.0.0.1", "verify-ca", False),
    ],
)
def test_a_target_that_cannot_prove_who_it_is_gets_no_credential(
    gateway: Gateway, guarded: Guarded, name: str, host: str, mode: str, own_ca: bool
) -> None:
    ca = guarded.ca if own_ca else guarded.another_ca
    got = answer(gateway, guarded, name, host, mode, ca)
    assert "TLS" in str(got)
    assert guarded.server.password not in str(got)
