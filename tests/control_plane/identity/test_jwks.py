"""Signing keys: fetched when due and not more often, checked one by one, dropped when gone."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from control_plane.identity import jwks
from control_plane.identity.clouds import PUBLIC, development
from control_plane.identity.jwks import FetchFailed, KeyCache, KeysUnavailable
from control_plane.identity.keys import BadKey, load_key
from tests.control_plane.tokens import (
    FOREIGN,
    KID,
    TENANT,
    Documents,
    b64,
    guid,
    private_key,
    public_jwk,
    to_json,
)

HOUR = 3600.0


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


class Scene:
    """A cache over documents that a test changes."""

    def __init__(self, *tenants: str, version: str = "2.0") -> None:
        self.clock = Clock()
        self.documents = Documents()
        self.tenants = frozenset(tenants or (TENANT,))
        self.cache = KeyCache(PUBLIC, version, self.tenants, self.documents, clock=self.clock)

    def has(self, kid: str, tenant: str = TENANT) -> bool:
        return self.cache.key(tenant, kid) is not None

    @property
    def fetches(self) -> int:
        return sum(url.endswith("/keys") for url in self.documents.fetched)

    def fail(self) -> None:
        def failing(url: str) -> None:
            raise FetchFailed("no route")

        self.documents.before = failing

    def recover(self) -> None:
        self.documents.before = lambda url: None


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_keys_are_fetched_once_from_the_tenants_own_documents(scene: Scene) -> None:
    assert scene.has(KID)
    assert scene.has(KID)
    assert scene.documents.fetched == [
        f"https://login.microsoftonline.com/{TENANT}/v2.0/.well-known/openid-configuration",
        f"https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys",
    ]


def test_a_tenant_that_is_not_configured_has_no_keys(scene: Scene) -> None:
    with pytest.raises(KeyError):
        scene.has(KID, FOREIGN)
    assert scene.documents.fetched == []


def test_after_an_hour_keys_are_fetched_anew_and_a_withdrawn_one_is_dropped(scene: Scene) -> None:
    scene.has(KID)
    scene.documents.keys = [public_jwk("kid-2")]
    scene.clock.at += HOUR - 1
    assert scene.has(KID)
    scene.clock.at += 1
    assert not scene.has(KID)
    assert scene.has("kid-2")


def test_a_new_key_is_found_at_once_and_then_unknown_keys_wait_five_minutes(scene: Scene) -> None:
    scene.has(KID)
    scene.documents.keys = [public_jwk(), public_jwk("kid-2")]
    assert scene.has("kid-2")
    assert scene.fetches == 2
    scene.documents.keys.append(public_jwk("kid-3"))
    scene.clock.at += 299
    assert not scene.has("kid-3")
    assert scene.fetches == 2
    scene.clock.at += 1
    assert scene.has("kid-3")
    assert scene.fetches == 3


def test_a_key_that_stays_unknown_is_remembered_as_such(scene: Scene) -> None:
    scene.has(KID)
    assert not scene.has("ghost")
    assert scene.fetches == 2
    scene.clock.at += 301
    assert not scene.has("ghost")
    assert scene.fetches == 2
    scene.clock.at += 300
    assert not scene.has("ghost")
    assert scene.fetches == 3


def test_a_storm_of_unknown_keys_causes_one_fetch(scene: Scene) -> None:
    scene.has(KID)
    for number in range(5000):
        assert not scene.has(f"ghost-{number}")
    assert scene.fetches == 2
    assert scene.has(KID)


def test_memory_of_unknown_keys_is_bounded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "_MOST_UNKNOWN", 2)
    monkeypatch.setattr(jwks, "UNKNOWN_KEY_SECONDS", 0)
    for number in range(4):
        assert not scene.has(f"ghost-{number}")
    fetches = scene.fetches
    assert not scene.has("ghost-3")
    assert scene.fetches == fetches
    assert not scene.has("ghost-0")
    assert scene.fetches == fetches + 1


def test_all_tenants_together_cannot_cause_endless_fetches() -> None:
    tenants = [guid(f"tenant-{number}") for number in range(3)]
    scene = Scene(*tenants)
    for _ in range(40):
        for tenant in tenants:
            scene.has(KID, tenant)
            scene.has("ghost", tenant)
        scene.clock.at += 0.5
    assert scene.fetches <= 20 + 40 * 0.5 / 3


def test_an_empty_bucket_leaves_a_key_unknown(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "UNKNOWN_KEY_SECONDS", 0)
    for number in range(30):
        scene.has(f"ghost-{number}")
    assert scene.fetches == 20
    scene.clock.at += 3.1
    scene.has("ghost-again")
    assert scene.fetches == 21


def test_an_empty_bucket_makes_keys_unavailable_not_wrong() -> None:
    tenants = [guid(f"tenant-{number}") for number in range(25)]
    scene = Scene(*tenants)
    scene.cache._bucket._tokens = 0
    with pytest.raises(KeysUnavailable):
        scene.has(KID, tenants[0])


def test_the_last_good_keys_serve_for_a_day_and_no_longer(scene: Scene) -> None:
    scene.has(KID)
    scene.fail()
    scene.clock.at += 24 * HOUR - 1
    assert scene.has(KID)
    scene.clock.at += 6
    with pytest.raises(KeysUnavailable):
        scene.has(KID)
    scene.recover()
    scene.clock.at += jwks.RETRY_SECONDS
    assert scene.has(KID)


def test_after_a_failure_nobody_tries_again_at_once(scene: Scene) -> None:
    scene.fail()
    for _ in range(10):
        with pytest.raises(KeysUnavailable):
            scene.has(KID)
    assert len(scene.documents.fetched) == 1
    scene.recover()
    scene.clock.at += jwks.RETRY_SECONDS
    assert scene.has(KID)


def test_an_unknown_key_while_fetching_fails_is_unknown_and_the_others_serve(scene: Scene) -> None:
    scene.has(KID)
    scene.fail()
    assert not scene.has("kid-2")
    assert scene.has(KID)


def in_threads(count: int, act: Callable[[], object]) -> list[object]:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(act())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return found


def test_many_at_once_fetch_once(scene: Scene) -> None:
    assert in_threads(16, lambda: scene.has(KID)) == [True] * 16
    assert scene.fetches == 1


def test_many_at_once_with_a_new_key_fetch_once_and_all_find_it(scene: Scene) -> None:
    scene.has(KID)
    scene.documents.keys.append(public_jwk("kid-2"))
    inside, go = threading.Event(), threading.Event()

    def slow(url: str) -> None:
        inside.set()
        assert go.wait(20)

    scene.documents.before = slow
    found: list[object] = []
    first = threading.Thread(target=lambda: found.append(scene.has("kid-2")))
    first.start()
    assert inside.wait(20)
    others = [threading.Thread(target=lambda: found.append(scene.has("kid-2"))) for _ in range(8)]
    for thread in others:
        thread.start()
    go.set()
    for thread in (first, *others):
        thread.join(20)
    assert found == [True] * 9
    assert scene.fetches == 2


def test_while_one_refreshes_the_others_go_on_with_what_is_there(scene: Scene) -> None:
    scene.has(KID)
    scene.clock.at += HOUR
    inside, go = threading.Event(), threading.Event()

    def slow(url: str) -> None:
        inside.set()
        assert go.wait(20)

    scene.documents.before = slow
    refreshing = threading.Thread(target=lambda: scene.has(KID))
    refreshing.start()
    assert inside.wait(20)
    assert scene.has(KID)
    go.set()
    refreshing.join(20)
    assert scene.fetches == 2


def test_who_waited_for_anothers_fetch_does_not_fetch_again(scene: Scene) -> None:
    scene.has(KID)
    scene.cache._refresh(scene.cache._tenants[TENANT], TENANT, wait=True)
    assert scene.fetches == 1


def test_who_cannot_wait_any_longer_gets_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "_WAIT_SECONDS", 0.0)
    lock = scene.cache._tenants[TENANT].lock
    with lock, pytest.raises(KeysUnavailable):
        scene.has(KID)
    assert scene.has(KID)
    with lock:
        assert not scene.has("ghost")


@pytest.mark.parametrize(
    "metadata",
    [
        b"[]",
        b"{",
        b"",
        {"jwks_uri": f"{PUBLIC.login}/x"},
        {"issuer": PUBLIC.issuer("2.0", FOREIGN), "jwks_uri": f"{PUBLIC.login}/x"},
        {"issuer": PUBLIC.issuer("2.0", "{tenantid}"), "jwks_uri": f"{PUBLIC.login}/x"},
        {"issuer": PUBLIC.issuer("2.0", TENANT)},
        {"issuer": PUBLIC.issuer("2.0", TENANT), "jwks_uri": 7},
        {"issuer": PUBLIC.issuer("2.0", TENANT), "jwks_uri": "https://evil.example/keys"},
        {"issuer": PUBLIC.issuer("2.0", TENANT), "jwks_uri": "http://login.microsoftonline.com/x"},
        {"issuer": PUBLIC.issuer("2.0", TENANT), "jwks_uri": f"{PUBLIC.login}:444/x"},
        {"issuer": PUBLIC.issuer("2.0", TENANT), "jwks_uri": f"{PUBLIC.login}@evil.example/x"},
        {"issuer": PUBLIC.issuer("2.0", TENANT), "jwks_uri": f"{PUBLIC.login}.evil.example/x"},
        {"issuer": PUBLIC.issuer("2.0", TENANT), "jwks_uri": "https://[broken/x"},
    ],
)
def test_a_wrong_discovery_document_gives_no_keys(metadata: Any) -> None:
    def fetch(url: str) -> bytes:
        if url.endswith("openid-configuration"):
            return to_json(metadata)
        return to_json({"keys": [public_jwk()]})

    with pytest.raises(KeysUnavailable):
        KeyCache(PUBLIC, "2.0", frozenset({TENANT}), fetch).key(TENANT, KID)


@pytest.mark.parametrize(
    "keys",
    [[], {}, None, [7], [public_jwk()] * 1001, [{"kty": "oct", "k": "AAAA", "kid": KID}]],
    ids=["empty", "object", "null", "numbers", "too_many", "shared_secret"],
)
def test_a_key_document_without_a_usable_key_changes_nothing(scene: Scene, keys: Any) -> None:
    scene.documents.keys = keys
    with pytest.raises(KeysUnavailable):
        scene.has(KID)


def certificate(of: Any) -> str:
    """A certificate over somebody's key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(of.public_key())
        .serial_number(1)
        .not_valid_before(moment)
        .not_valid_after(moment + timedelta(days=1))
        .sign(of, hashes.SHA256())
    )
    return base64.b64encode(made.public_bytes(serialization.Encoding.DER)).decode()


def numbers(n: int, e: int) -> dict[str, str]:
    return {
        "n": b64(n.to_bytes((n.bit_length() + 7) // 8)),
        "e": b64(e.to_bytes((e.bit_length() + 7) // 8 or 1)),
    }


N = private_key().public_key().public_numbers().n

BAD_KEYS: dict[str, Any] = {
    "no_object": 7,
    "elliptic_curve": public_jwk(kty="EC"),
    "shared_secret": {"kty": "oct", "k": "AAAA", "use": "sig", "kid": KID},
    "kty_missing": public_jwk(kty=None),
    "for_encryption": public_jwk(use="enc"),
    "use_missing": public_jwk(use=None),
    "another_algorithm": public_jwk(alg="RS512"),
    "alg_none": public_jwk(alg="none"),
    "key_ops_sign": public_jwk(key_ops=["sign"]),
    "key_ops_mixed": public_jwk(key_ops=["verify", "encrypt"]),
    "key_ops_text": public_jwk(key_ops="verify"),
    "key_ops_number": public_jwk(key_ops=7),
    "private": public_jwk(d="AQAB"),
    "kid_missing": public_jwk(kid=None),
    "kid_empty": public_jwk(kid=""),
    "kid_number": public_jwk(kid=7),
    "kid_long": public_jwk(kid="k" * 129),
    "n_missing": public_jwk(n=None),
    "n_padded": public_jwk(n=public_jwk()["n"] + "=="),
    "n_no_base64url": public_jwk(n="+/+/"),
    "n_not_ascii": public_jwk(n="é"),
    "n_list": public_jwk(n=["AQAB"]),
    "n_endless": public_jwk(n="A" * 20_000),
    "1024_bits": public_jwk("small", 1024),
    "16384_bits": public_jwk(**numbers((1 << 16384) - 1, 65537)),
    "even_modulus": public_jwk(**numbers(N - 1, 65537)),
    "exponent_1": public_jwk(**numbers(N, 1)),
    "exponent_0": public_jwk(**numbers(N, 0)),
    "exponent_even": public_jwk(**numbers(N, 65536)),
    "exponent_huge": public_jwk(**numbers(N, (1 << 40) + 1)),
    "issuer_number": public_jwk(issuer=7),
    "certificate_of_another_key": public_jwk(x5c=[certificate(private_key("evil"))]),
    "certificate_of_an_elliptic_curve": public_jwk(
        x5c=[certificate(ec.generate_private_key(ec.SECP256R1()))]
    ),
    "certificate_no_base64": public_jwk(x5c=["-"]),
    "certificate_garbage": public_jwk(x5c=["AAAA"]),
    "certificate_list_empty": public_jwk(x5c=[]),
    "certificate_text": public_jwk(x5c="AAAA"),
    "certificate_number": public_jwk(x5c=[7]),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_a_bad_key_is_dropped_and_breaks_no_other(name: str, scene: Scene) -> None:
    bad = BAD_KEYS[name]
    with pytest.raises(BadKey):
        load_key(bad)
    scene.documents.keys = [bad, public_jwk("kid-2")]
    assert scene.has("kid-2")
    assert not scene.has(KID)


def test_a_key_that_the_library_refuses_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object) -> None:
        raise OverflowError

    monkeypatch.setattr("control_plane.identity.keys.jwk.construct", refusing)
    with pytest.raises(BadKey):
        load_key(public_jwk())


def test_a_key_as_entra_publishes_it_is_accepted(scene: Scene) -> None:
    scene.documents.keys = [
        public_jwk(
            x5c=[certificate(private_key())],
            x5t=KID,
            alg="RS256",
            key_ops=["verify"],
            issuer="https://login.microsoftonline.com/{tenantid}/v2.0",
        )
    ]
    assert scene.has(KID)


def test_a_key_of_another_issuer_is_dropped(scene: Scene) -> None:
    scene.documents.keys = [
        public_jwk(issuer=PUBLIC.issuer("2.0", FOREIGN)),
        public_jwk("kid-2", issuer=PUBLIC.issuer("2.0", TENANT)),
    ]
    assert not scene.has(KID)
    assert scene.has("kid-2")


def test_version_1_has_documents_of_its_own_and_shares_the_keys() -> None:
    scene = Scene(version="1.0")
    scene.documents.keys = [
        public_jwk(issuer="https://login.microsoftonline.com/{tenantid}/v2.0"),
        public_jwk("kid-2", issuer="https://sts.windows.net/{tenantid}/"),
    ]
    assert scene.has(KID)
    assert scene.has("kid-2")
    assert scene.documents.fetched[0] == (
        f"https://login.microsoftonline.com/{TENANT}/.well-known/openid-configuration"
    )


def test_one_id_for_two_keys_is_no_key_at_all(scene: Scene) -> None:
    scene.documents.keys = [
        public_jwk(),
        public_jwk("evil", kid=KID),
        public_jwk(),
        public_jwk("kid-2"),
        public_jwk("kid-2"),
    ]
    assert not scene.has(KID)
    assert scene.has("kid-2")


def test_the_same_key_id_with_new_numbers_replaces_the_old(scene: Scene) -> None:
    scene.has(KID)
    scene.documents.keys = [public_jwk("evil", kid=KID)]
    scene.clock.at += HOUR
    found = scene.cache.key(TENANT, KID)
    assert found is not None
    assert found.numbers == (private_key("evil").public_key().public_numbers().n, 65537)


def test_the_clouds_have_each_their_own_hosts() -> None:
    cloud = development("https://127.0.0.1:8443")
    assert cloud.issuer("2.0", TENANT) == f"https://127.0.0.1:8443/development/{TENANT}/v2.0"
    assert cloud.metadata_url("2.0", TENANT).startswith(f"{cloud.login}/{TENANT}/v2.0/")
    assert PUBLIC.issuer("1.0", TENANT) == f"https://sts.windows.net/{TENANT}/"
