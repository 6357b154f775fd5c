from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.database import Database
from control_plane.errors import Invalid, NotFound
from protos.vocabulary import Target
from tests.control_plane.documents.house import ADA, RELAY, TARGET, House


@pytest.fixture
def house(database: Database, tmp_path: Path) -> House:
    return House(database, tmp_path / "authority")


def _errors(house: House, text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(Invalid) as caught:
        house.store.apply(text, ADA)
    return [(error.line, error.column, error.message) for error in caught.value.errors]


def test_a_target_is_what_its_document_says(house: House) -> None:
    ca = house.authority.ca_pem
    indented = "".join(f"      {line}\n" for line in ca.splitlines())
    house.apply(
        TARGET
        + "  database: shop\n  relays: [relay-1]\n"
        + f"  tls:\n    mode: verify-ca\n    ca: |\n{indented}",
        RELAY,
    )
    with house.database.transaction() as session:
        record = house.targets.find(session, "orders")
    assert record.credential == "orders-gateway"
    assert record.target == Target(
        name="orders",
        protocol="postgres",
        host="127.0.0.1",
        port=5432,
        database="shop",
        labels={"env": "demo"},
        tls="verify-ca",
        ca=ca,
        relays=frozenset({"relay-1"}),
    )


def test_what_is_left_out_of_a_target_is_the_safe_choice(house: House) -> None:
    house.apply(TARGET)
    target = house.target()
    assert target.tls == "verify-full"
    assert target.ca == ""
    assert target.relays == frozenset()
    assert target.database == ""


def test_an_unknown_target_is_not_found(house: House) -> None:
    house.apply(TARGET)
    with house.database.transaction() as session, pytest.raises(NotFound) as caught:
        house.targets.find(session, "other")
    assert caught.value.code == "target_unknown"
    house.store.delete("Target", "orders", ADA)
    with pytest.raises(NotFound):
        house.target()


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "word"),
    [
        ("name: orders", "name: Orders", 3, 18, "metadata.name"),
        ("name: orders", "name: ''", 3, 18, "metadata.name"),
        ("name: orders", "name: a-", 3, 18, "metadata.name"),
        ("name: orders", f"name: {'a' * 64}", 3, 18, "metadata.name"),
        ("name: orders", '"name": "orders\\n"', 3, 20, "metadata.name"),
        ("name: orders", "name: 5", 3, 18, "valid string"),
        ("name: orders, ", "", 3, 1, "metadata.name: field required"),
        ("env: demo", "env: 1", 3, 40, "metadata.labels.env"),
        ("env: demo", "env: ~", 3, 40, "metadata.labels.env"),
        ("labels:", "label:", 3, 26, "metadata.label: there is no such field"),
        ("jitgate/v1", "jitgate/v2", 1, 13, "apiVersion"),
        ("apiVersion: jitgate/v1", "# none", 2, 1, "apiVersion: field required"),
        ("kind: Target", "kind: target", 2, 7, "kind: must be one of Target, Policy, Masking"),
        ("kind: Target", "kind: [Target]", 2, 7, "kind: must be one of"),
        ("kind: Target", "# none", 1, 1, "kind: must be one of"),
        ("protocol: postgres", "protocol: Postgres!", 5, 13, "spec.protocol"),
        ("  protocol: postgres\n", "", 4, 1, "spec.protocol: field required"),
        ("host: 127.0.0.1", "host: 127.0.0.1:5432", 6, 9, "without a port"),
        ("host: 127.0.0.1", "host: http://x", 6, 9, "must be a DNS name"),
        ("host: 127.0.0.1", "host: -x", 6, 9, "must be a DNS name"),
        ("host: 127.0.0.1", "host: a..b", 6, 9, "must be a DNS name"),
        ("host: 127.0.0.1", "host: ''", 6, 9, "at least 1 character"),
        ("port: 5432", "port: 0", 7, 9, "greater than or equal to 1"),
        ("port: 5432", "port: 65536", 7, 9, "less than or equal to 65535"),
        ("port: 5432", "port: '5432'", 7, 9, "valid integer"),
        ("port: 5432", "port: 1.5", 7, 9, "valid integer"),
        ("port: 5432", "port: true", 7, 9, "valid integer"),
        ("port: 5432", "port: [1]", 7, 9, "valid integer"),
        ("port: 5432", "prot: 5432", 7, 3, "spec.prot: there is no such field"),
        ("port: 5432", "port: 5432\n  database: a/b", 8, 13, "spec.database"),
        ("port: 5432", "port: 5432\n  relays: relay-1", 8, 11, "valid array"),
        ("port: 5432", "port: 5432\n  relays: [x, 'Y']", 8, 15, "spec.relays[1]"),
        ("port: 5432", "port: 5432\n  tls: {mode: prefer}", 8, 15, "spec.tls.mode"),
        ("port: 5432", "port: 5432\n  tls: {ca: nonsense}", 8, 13, "PEM"),
        ("port: 5432", "port: 5432\n  password: x", 8, 3, "spec.password: there is no such field"),
        ("credential: orders-gateway", "credential: a/b", 8, 15, "spec.credential"),
    ],
)
def test_a_mistake_in_a_target_is_pointed_at(
    house: House, old: str, new: str, line: int, column: int, word: str
) -> None:
    assert old in TARGET
    errors = _errors(house, TARGET.replace(old, new, 1))
    assert (line, column) in [error[:2] for error in errors]
    assert any(word in error[2] for error in errors)


@pytest.mark.parametrize("host", ["db", "db.example.com", "10.1.2.3", "::1", "fe80::1", "a_b"])
def test_names_and_addresses_are_hosts(house: House, host: str) -> None:
    house.apply(TARGET.replace("host: 127.0.0.1", f'host: "{host}"'))
    assert house.target().host == host


def test_an_authority_that_is_not_asked_is_a_mistake(house: House) -> None:
    ca = house.authority.ca_pem.replace("\n", "\\n")
    (error,) = _errors(house, TARGET + f'  tls: {{mode: require, ca: "{ca}"}}\n')
    assert error[:2] == (9, 3)
    house.apply(TARGET + '  tls: {mode: require, ca: ""}\n')
    assert house.target().ca == ""


def test_an_error_does_not_echo_what_was_sent(house: House) -> None:
    errors = _errors(house, TARGET + "  tls: {ca: hunter2}\n  password: hunter2\n")
    assert len(errors) == 2
    assert "hunter2" not in str(errors)
