from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import select, text

from control_plane.database import Database
from control_plane.errors import (
    Conflict,
    DomainError,
    Forbidden,
    Invalid,
    NotFound,
    Unauthenticated,
)
from control_plane.relays.models import JoinTokenRow, Relay
from control_plane.relays.service import Enrolment, RelayIdentity
from tests.control_plane.documents.house import ADA, RELAY, TARGET, House


@pytest.fixture
def house(database: Database, tmp_path: Path) -> House:
    made = House(database, tmp_path / "authority")
    made.apply(RELAY)
    made.wakeups.taken()
    return made


def _join(house: House, name: str = "relay-1") -> Enrolment:
    token, _ = house.relays.make_join_token(name, 60, ADA)
    return house.relays.enrol(join_token=token, version="0.1.0")


def _authenticate(house: House, credential: str) -> RelayIdentity:
    with house.database.transaction() as session:
        return house.relays.authenticate(session, credential)


def _refusal(act: Callable[[], object]) -> str:
    with pytest.raises(Unauthenticated) as caught:
        act()
    return caught.value.code


def _names(certificate: str) -> set[str]:
    leaf = x509.load_pem_x509_certificate(certificate.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def test_a_relay_joins_with_a_token_and_is_known_by_its_credential(house: House) -> None:
    token, expires_at = house.relays.make_join_token("relay-1", 60, ADA)
    assert expires_at - house.clock() == timedelta(seconds=60)
    enrolment = house.relays.enrol(join_token=token, version="0.1.0")
    assert enrolment.relay == "relay-1"
    assert _names(enrolment.certificate) == {"127.0.0.1", "localhost"}
    assert enrolment.certificate.endswith(house.authority.ca_pem)
    identity = _authenticate(house, enrolment.credential)
    assert identity.name == "relay-1"
    assert identity == _authenticate(house, enrolment.credential)
    assert house.acts()[-2:] == [
        (ADA, "relay.join_token_created", "Relay/relay-1"),
        ("relay relay-1", "relay.joined", "Relay/relay-1"),
    ]


def test_secrets_are_in_no_table_and_in_no_repr(house: House) -> None:
    token, _ = house.relays.make_join_token("relay-1", 60, ADA)
    enrolment = house.relays.enrol(join_token=token)
    for secret in (token, enrolment.credential, enrolment.key):
        assert len(secret) > 40
        assert secret not in repr(enrolment)
        with house.database.transaction() as session:
            for table in ("relays", "join_tokens", "audit_entries"):
                rows = session.execute(text(f"SELECT * FROM {table}")).all()
                assert rows
                assert secret[4:20] not in str(rows)


def test_a_token_joins_once(house: House) -> None:
    token, _ = house.relays.make_join_token("relay-1", 60, ADA)
    house.relays.enrol(join_token=token)
    assert _refusal(lambda: house.relays.enrol(join_token=token)) == "join_token_invalid"


def test_a_token_joins_before_it_expires(house: House) -> None:
    token, _ = house.relays.make_join_token("relay-1", 60, ADA)
    house.clock.pass_by(seconds=60)
    assert _refusal(lambda: house.relays.enrol(join_token=token)) == "join_token_invalid"


@pytest.mark.parametrize(
    ("token", "credential", "code"),
    [
        ("", "", "relay_credential_missing"),
        ("jgj_x", "jgr_x", "relay_credential_missing"),
        ("jgj_x", "", "join_token_invalid"),
        ("", "jgr_x", "relay_unknown"),
        ("\ud800", "", "join_token_invalid"),
        ("", "x" * 1_000_000, "relay_unknown"),
    ],
)
def test_who_shows_nothing_that_is_known_gets_nothing(
    house: House, token: str, credential: str, code: str
) -> None:
    assert _refusal(lambda: house.relays.enrol(token, credential)) == code


def test_of_relays_that_join_at_once_with_one_token_one_does(house: House) -> None:
    token, _ = house.relays.make_join_token("relay-1", 60, ADA)
    results = _at_once(6, lambda: house.relays.enrol(join_token=token))
    joined = [result for result in results if isinstance(result, Enrolment)]
    assert len(joined) == 1
    assert [error.code for error in results if isinstance(error, DomainError)] == [
        "join_token_invalid"
    ] * 5
    assert _authenticate(house, joined[0].credential).name == "relay-1"


def test_tokens_made_at_once_for_a_new_relay_are_all_good(house: House) -> None:
    results = _at_once(6, lambda: house.relays.make_join_token("relay-1", 60, ADA)[0])
    assert all(isinstance(token, str) for token in results)
    for token in results:
        assert house.relays.enrol(join_token=str(token)).relay == "relay-1"


def test_joins_and_revocations_at_once_end_in_one_of_them(house: House) -> None:
    tokens = [house.relays.make_join_token("relay-1", 60, ADA)[0] for _ in range(4)]
    acts: list[Callable[[], object]] = []
    for token in tokens:
        acts.append(partial(house.relays.enrol, token))
        acts.append(partial(house.relays.revoke, "relay-1", ADA))
    results = _at_once(len(acts), *acts)
    for result in results:
        assert result is None or isinstance(result, Enrolment | Unauthenticated)
    known = 0
    for result in results:
        if isinstance(result, Enrolment):
            try:
                _authenticate(house, result.credential)
                known += 1
            except Unauthenticated:
                pass
    assert known <= 1


def test_a_credential_renews_the_certificate_and_stays(house: House) -> None:
    enrolment = _join(house)
    renewed = house.relays.enrol(credential=enrolment.credential, version="0.2.0")
    assert renewed.credential == ""
    assert renewed.certificate != enrolment.certificate
    assert _authenticate(house, enrolment.credential).name == "relay-1"
    assert house.acts()[-1][1] == "relay.certificate_renewed"
    with house.database.transaction() as session:
        relay = house.relays.find(session, "relay-1")
        assert relay is not None
        assert (relay.version, relay.certificate_expires_at) == ("0.2.0", renewed.expires_at)


def test_a_new_join_ends_the_credential_before(house: House) -> None:
    old, new = _join(house), _join(house)
    assert _refusal(lambda: _authenticate(house, old.credential)) == "relay_unknown"
    assert _authenticate(house, new.credential).name == "relay-1"
    assert house.wakeups.taken() == ["relay:relay-1"] * 2


def test_a_certificate_is_for_hosts_of_the_document_only(house: House) -> None:
    credential = _join(house).credential
    one = house.relays.enrol(credential=credential, hosts=["LOCALHOST", "localhost"])
    assert _names(one.certificate) == {"localhost"}
    for hosts in (["evil.example"], ["localhost", "evil.example"], ["*"], ["127.0.0.2"], [""]):
        with pytest.raises(Forbidden) as caught:
            house.relays.enrol(credential=credential, hosts=hosts)
        assert caught.value.code == "host_not_listed"
    with pytest.raises(Invalid):
        house.relays.enrol(credential=credential, hosts=["localhost"] * 51)


def test_addresses_are_compared_as_addresses(house: House) -> None:
    house.apply(RELAY.replace("localhost", '"2001:db8::1"'))
    credential = _join(house).credential
    one = house.relays.enrol(credential=credential, hosts=["2001:0DB8:0:0:0:0:0:1"])
    assert _names(one.certificate) == {"2001:db8::1"}


def test_a_token_is_not_used_up_by_a_refusal(house: House) -> None:
    token, _ = house.relays.make_join_token("relay-1", 60, ADA)
    with pytest.raises(Forbidden):
        house.relays.enrol(join_token=token, hosts=["evil.example"])
    assert house.relays.enrol(join_token=token).relay == "relay-1"


def test_a_revoked_relay_is_shut_out_at_once_and_told(house: House) -> None:
    credential = _join(house).credential
    token, _ = house.relays.make_join_token("relay-1", 60, ADA)
    house.wakeups.taken()
    house.relays.revoke("relay-1", ADA, reason="stolen")
    assert house.wakeups.taken() == ["relay:relay-1"]
    assert _refusal(lambda: _authenticate(house, credential)) == "relay_revoked"
    assert _refusal(lambda: house.relays.enrol(credential=credential)) == "relay_revoked"
    assert _refusal(lambda: house.relays.enrol(join_token=token)) == "join_token_invalid"
    house.relays.revoke("relay-1", ADA)
    assert house.acts()[-1] == (ADA, "relay.revoked", "Relay/relay-1")


def test_a_revoked_relay_comes_back_with_a_new_token_only(house: House) -> None:
    old = _join(house).credential
    house.relays.revoke("relay-1", ADA)
    new = _join(house).credential
    assert _authenticate(house, new).name == "relay-1"
    assert _refusal(lambda: _authenticate(house, old)) == "relay_unknown"


def test_a_relay_whose_document_is_deleted_is_shut_out_for_good(house: House) -> None:
    credential = _join(house).credential
    token, _ = house.relays.make_join_token("relay-1", 60, ADA)
    house.wakeups.taken()
    house.store.delete("Relay", "relay-1", ADA)
    assert "relay:relay-1" in house.wakeups.taken()
    assert _refusal(lambda: _authenticate(house, credential)) == "relay_unknown"
    assert _refusal(lambda: house.relays.enrol(join_token=token)) == "join_token_invalid"
    house.apply(RELAY)
    # The same name is another relay now.
    assert _refusal(lambda: _authenticate(house, credential)) == "relay_unknown"
    assert _refusal(lambda: house.relays.enrol(join_token=token)) == "join_token_invalid"
    with house.database.transaction() as session:
        assert house.relays.find(session, "relay-1") is None
    assert _authenticate(house, _join(house).credential).name == "relay-1"


def test_there_is_no_token_for_a_relay_without_a_document(house: House) -> None:
    for act in (
        lambda: house.relays.make_join_token("other", 60, ADA),
        lambda: house.relays.revoke("other", ADA),
    ):
        with pytest.raises(NotFound):
            act()
    with house.database.transaction() as session, pytest.raises(NotFound):
        house.relays.find(session, "other")


@pytest.mark.parametrize("seconds", [0, -1, 86_401])
def test_a_token_ends_within_a_day(house: House, seconds: int) -> None:
    with pytest.raises(Invalid):
        house.relays.make_join_token("relay-1", seconds, ADA)


def test_unused_tokens_are_bounded_and_expired_ones_go(house: House) -> None:
    for _ in range(20):
        house.relays.make_join_token("relay-1", 60, ADA)
    with pytest.raises(Conflict) as caught:
        house.relays.make_join_token("relay-1", 60, ADA)
    assert caught.value.code == "too_many_join_tokens"
    house.clock.pass_by(seconds=61)
    house.relays.make_join_token("relay-1", 60, ADA)
    with house.database.transaction() as session:
        assert len(session.scalars(select(JoinTokenRow)).all()) == 1


def test_what_is_seen_of_a_relay_is_noted(house: House) -> None:
    identity = _authenticate(house, _join(house).credential)
    start = house.clock()

    def seen(**what: object) -> Relay:
        with house.database.transaction() as session:
            house.relays.seen(session, identity.id, **what)  # type: ignore[arg-type]
        with house.database.transaction() as session:
            relay = house.relays.find(session, "relay-1")
            assert relay is not None
            return relay

    house.clock.pass_by(seconds=1)
    relay = seen(version="0.3.0\n", boot="b1", protocols=["postgres", "mysql"])
    assert (relay.version, relay.boot, relay.protocols) == ("0.3.0", "b1", ["mysql", "postgres"])
    assert relay.last_seen_at == start + timedelta(seconds=1)
    # Soon after, without news, nothing is written.
    house.clock.pass_by(seconds=1)
    assert seen(boot="b1").last_seen_at == start + timedelta(seconds=1)
    house.clock.pass_by(seconds=5)
    relay = seen()
    assert relay.last_seen_at == start + timedelta(seconds=7)
    assert (relay.version, relay.boot, relay.protocols) == ("0.3.0", "b1", ["mysql", "postgres"])
    with house.database.transaction() as session:
        house.relays.seen(session, "nobody")


def test_a_target_whose_protocol_no_relay_speaks_is_warned_of(house: House) -> None:
    identity = _authenticate(house, _join(house).credential)
    assert house.store.apply(TARGET, ADA).warnings == ()
    with house.database.transaction() as session:
        house.relays.seen(session, identity.id, boot="b", protocols=["postgres"])
    odd = TARGET.replace("protocol: postgres", "protocol: postgre")
    (warning,) = house.store.apply(odd, ADA, dry_run=True).warnings
    assert warning == "Target/orders: no relay that serves it speaks postgre, only postgres"
    assert house.store.apply(TARGET + "  relays: [relay-1]\n", ADA).warnings == ()
    # A relay that doesn't serve it says nothing about it.
    other = RELAY.replace("relay-1", "relay-2")
    elsewhere = odd + "  relays: [relay-2]\n"
    assert house.store.apply(f"{elsewhere}---\n{other}", ADA).warnings == ()


def _at_once(count: int, *acts: Callable[[], object]) -> list[object]:
    """What each of several threads got, or the error that it met."""
    barrier = threading.Barrier(count)

    def run(number: int) -> object:
        barrier.wait(30)
        try:
            return acts[number % len(acts)]()
        except DomainError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
