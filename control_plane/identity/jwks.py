"""A tenant's signing keys: fetched, checked one by one, cached, and dropped when withdrawn.

Theory of operation. A set younger than an hour answers at once. An older one is fetched anew by
one of its users, while the others go on with what is there; so a key that Entra withdrew is
gone within the hour. If fetching fails, the last good set serves until it is a day old, then
nothing does. A key id that isn't in the set causes one fetch, at most every five minutes a
tenant, and is remembered as unknown; a token bucket bounds the fetches of all tenants together,
so that nobody can make the control plane hammer Entra, or wait for it, by making up key ids.

Which tenants exist is the settings' word; a tenant from a token gets here only if it is one of
them. Verifying signatures is :mod:`control_plane.identity.entra`'s work.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import urlsplit

import structlog

from control_plane.identity.clouds import TENANT, Cloud
from control_plane.identity.keys import BadKey, SigningKey, load_key
from control_plane.identity.strictjson import load_object

FRESH_SECONDS = 3600
"""After this a set is fetched anew before, or while, it is used."""
LAST_GOOD_SECONDS = 24 * 3600
"""After this a set that couldn't be fetched anew is no longer used."""
UNKNOWN_KEY_SECONDS = 300
"""At most one fetch because of unknown key ids in this time, a tenant."""
UNKNOWN_REMEMBERED_SECONDS = 600
RETRY_SECONDS = 5
"""After a failed fetch nobody tries again for this long, a tenant."""
_WAIT_SECONDS = 15.0
_MOST_KEYS = 1000
_MOST_UNKNOWN = 1000


class FetchFailed(Exception):
    """A document couldn't be had, or isn't what it should be; the message holds no secret."""


class Fetch(Protocol):
    """Gets a document over HTTPS (:class:`control_plane.identity.fetching.HttpsFetch`)."""

    def __call__(self, url: str) -> bytes:
        """The document's bytes, bounded in size and time; raises :class:`FetchFailed`."""
        ...


class KeysUnavailable(Exception):
    """There are no keys to verify with now."""


class _Bucket:
    """Tokens for fetches: ``capacity`` at once, then one every ``seconds``."""

    def __init__(self, capacity: int, seconds: float, clock: Callable[[], float]) -> None:
        self._capacity = capacity
        self._seconds = seconds
        self._clock = clock
        self._tokens = float(capacity)
        self._at = clock()
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            at = self._clock()
            gained = (at - self._at) / self._seconds
            self._tokens, self._at = min(self._capacity, self._tokens + gained), at
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


@dataclass(slots=True)
class _TenantKeys:
    """What is known of one tenant's keys; ``lock`` is held while fetching."""

    keys: Mapping[str, SigningKey] = field(default_factory=lambda: MappingProxyType({}))
    fetched_at: float | None = None
    failed_at: float | None = None
    unknown_fetch_at: float | None = None
    unknown: OrderedDict[str, float] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class KeyCache:
    """Signing keys by tenant and key id. Callable from any thread.

    ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self,
        cloud: Cloud,
        version: str,
        tenants: frozenset[str],
        fetch: Fetch,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cloud = cloud
        self._version = version
        self._fetch = fetch
        self._clock = clock
        self._bucket = _Bucket(capacity=max(20, 2 * len(tenants)), seconds=3.0, clock=clock)
        self._tenants = {tenant: _TenantKeys() for tenant in tenants}

    def key(self, tenant: str, kid: str) -> SigningKey | None:
        """The key, or None if the tenant has none of this id.

        Blocks at most for one fetch, and only where there is no usable set or ``kid`` is new.
        Raises :class:`KeysUnavailable`; KeyError for a tenant that isn't configured.
        """
        state = self._tenants[tenant]
        match self._age(state):
            case None:
                self._refresh(state, tenant, wait=True)
            case age if age >= FRESH_SECONDS:
                self._refresh(state, tenant, wait=age >= LAST_GOOD_SECONDS)
            case _:
                pass
        age = self._age(state)
        if age is None or age >= LAST_GOOD_SECONDS:
            raise KeysUnavailable
        if (found := state.keys.get(kid)) is not None:
            return found
        return self._unknown(state, tenant, kid)

    def _unknown(self, state: _TenantKeys, tenant: str, kid: str) -> SigningKey | None:
        at = self._clock()
        if at < state.unknown.get(kid, at):
            return None
        if not state.lock.acquire(timeout=_WAIT_SECONDS):
            return None
        try:
            # Whoever held the lock may have fetched the very key.
            if kid in state.keys:
                return state.keys[kid]
            last = state.unknown_fetch_at
            if last is not None and self._clock() - last < UNKNOWN_KEY_SECONDS:
                return None
            if not self._bucket.take():
                return None
            state.unknown_fetch_at = self._clock()
            self._load(state, tenant)
            if kid not in state.keys:
                state.unknown[kid] = self._clock() + UNKNOWN_REMEMBERED_SECONDS
                while len(state.unknown) > _MOST_UNKNOWN:
                    state.unknown.popitem(last=False)
            return state.keys.get(kid)
        finally:
            state.lock.release()

    def _refresh(self, state: _TenantKeys, tenant: str, *, wait: bool) -> None:
        """Fetch the set if it is due. Without ``wait`` only if nobody else is doing it."""
        if not state.lock.acquire(timeout=_WAIT_SECONDS if wait else 0):
            return
        try:
            age = self._age(state)
            if age is not None and age < FRESH_SECONDS:
                return
            failed = state.failed_at
            if failed is not None and self._clock() - failed < RETRY_SECONDS:
                return
            if self._bucket.take():
                self._load(state, tenant)
        finally:
            state.lock.release()

    def _load(self, state: _TenantKeys, tenant: str) -> None:
        log = structlog.get_logger().bind(tenant=tenant, cloud=self._cloud.name)
        try:
            keys = self._fetch_keys(tenant)
        except FetchFailed as failure:
            state.failed_at = self._clock()
            log.warning("signing keys could not be fetched", reason=str(failure))
            return
        gone = sorted(set(state.keys) - set(keys))
        if gone:
            log.info("signing keys were withdrawn", kids=gone)
        state.keys = MappingProxyType(keys)
        state.fetched_at, state.failed_at = self._clock(), None

    def _fetch_keys(self, tenant: str) -> dict[str, SigningKey]:
        metadata = _document(self._fetch(self._cloud.metadata_url(self._version, tenant)))
        issuer = self._cloud.issuer(self._version, tenant)
        if metadata.get("issuer") != issuer:
            raise FetchFailed("the discovery document names another issuer")
        uri = metadata.get("jwks_uri")
        if not isinstance(uri, str) or not _same_host(uri, self._cloud.login):
            raise FetchFailed("the discovery document puts the keys on another host")
        listed = _document(self._fetch(uri)).get("keys")
        if not isinstance(listed, list) or len(listed) > _MOST_KEYS:
            raise FetchFailed("the key document holds no list of keys")
        keys: dict[str, SigningKey] = {}
        ambiguous: set[str] = set()
        for one in listed:
            try:
                key = load_key(one, issuer_of=lambda text: text.replace(TENANT, tenant))
            except BadKey as bad:
                # One bad key must not break the others, and must not be used.
                structlog.get_logger().info("a signing key was dropped", reason=str(bad))
                continue
            if key.issuer not in ("", issuer, self._cloud.issuer("2.0", tenant)):
                continue
            if key.kid in keys and keys[key.kid].numbers != key.numbers:
                ambiguous.add(key.kid)
            keys[key.kid] = key
        usable = {kid: key for kid, key in keys.items() if kid not in ambiguous}
        if not usable:
            raise FetchFailed("the key document holds no usable key")
        return usable

    def _age(self, state: _TenantKeys) -> float | None:
        return None if state.fetched_at is None else self._clock() - state.fetched_at


def _document(raw: bytes) -> dict[str, Any]:
    try:
        return load_object(raw)
    except ValueError:
        raise FetchFailed("the document is not a JSON object") from None


def _same_host(uri: str, login: str) -> bool:
    try:
        given, wanted = urlsplit(uri), urlsplit(login)
        return (
            given.scheme == wanted.scheme == "https"
            # netloc, not hostname: port and user information count too.
            and given.netloc == wanted.netloc
        )
    except ValueError:
        return False
