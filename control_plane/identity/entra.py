"""Entra access tokens, verified: the one place, and the order of the checks.

A token goes through the checks from top to bottom, each with a reason code of its own
(:data:`control_plane.identity.reasons.REASONS`); the first that fails decides. Everything before
the signature is cheap and touches nothing but the token; nothing a token says is believed before
it, save which of *our* tenants' keys to look in.

python-jose does the cryptography, with a key made ready when it was loaded. It does not read the
token: its reader takes duplicate names, padding, ``crit`` and more, and raises what it likes, so
:mod:`control_plane.identity.strictjson` reads, and only what it accepted goes on.

Not done here: roles in the control plane (:mod:`control_plane.identity.access`), policies,
replay, and groups beyond what fits into a token (refused: ``groups_overage``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NewType, Protocol

import structlog

from control_plane.errors import Unauthenticated
from control_plane.identity.clouds import Cloud
from control_plane.identity.jwks import KeysUnavailable
from control_plane.identity.keys import ALGORITHM, SigningKey
from control_plane.identity.kinds import kind_of
from control_plane.identity.reasons import refuse
from control_plane.identity.strictjson import decode_base64url, load_object
from protos.vocabulary import Principal, PrincipalKind

VerifiedClaims = NewType("VerifiedClaims", Mapping[str, Any])
"""Claims whose signature, issuer, audience and times were checked. Only made here."""

MOST_CHARACTERS = 16 * 1024
SKEW_SECONDS = 60
LONGEST_LIFE_SECONDS = 28 * 3600 + 600
"""Entra's longest, 28 hours for clients that are told of revocations, and what ``iat`` predates."""
_MOST_GROUPS = 200  # More never fit into a JWT: then Entra points elsewhere instead.
_MOST_ROLES = 1000
_LATEST = 2**53

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""The tenant of personal Microsoft accounts: anybody can be in it."""
_NEVER_OURS = frozenset(
    {
        "00000003-0000-0000-c000-000000000000",
        "https://graph.microsoft.com",
        "https://graph.microsoft.com/",
        # Token exchange: what an agent's blueprint shows Entra, never an API.
        "fb60f99c-7a34-4190-8149-302f77469936",
        "api://AzureADTokenExchange",
    }
)
# Parameters that say where a key is, or that the signature covers something else. ``nonce`` marks
# Microsoft Graph's tokens, whose signature is over another header: never "fixed up" here.
_HEADERS_REFUSED = frozenset(
    {"crit", "jku", "jwk", "x5u", "x5c", "b64", "zip", "enc", "nonce", "p2c", "p2s", "epk"}
)
_ID_TOKEN_CLAIMS = frozenset({"nonce", "at_hash", "c_hash"})


@dataclass(frozen=True, slots=True)
class Accepted:
    """Which tokens a deployment accepts; identifiers are lower-case GUIDs.

    ``clients`` empty: any client of an accepted tenant. ``groups_emitted``: whether a token
    without groups means an identity without groups.
    """

    cloud: Cloud
    tenants: frozenset[str]
    audiences: frozenset[str]
    version: str = "2.0"
    clients: frozenset[str] = frozenset()
    groups_emitted: bool = True


class Keys(Protocol):
    """Where signing keys come from (:class:`control_plane.identity.jwks.KeyCache`)."""

    def key(self, tenant: str, kid: str) -> SigningKey | None:
        """The tenant's key or None; raises :class:`KeysUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class Compact:
    """A token in its canonical form; nothing of it is verified."""

    header: Mapping[str, Any]
    payload: bytes
    signed: bytes
    signature: bytes


class EntraVerifier:
    """Verifies tokens. Callable from any thread; ``clock`` gives seconds since the epoch."""

    def __init__(
        self, accepted: Accepted, keys: Keys, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._accepted = accepted
        self._keys = keys
        self._clock = clock

    def verify(self, token: str) -> Principal:
        """Whom the token stands for. Raises :class:`Unauthenticated`, whatever it is given."""
        try:
            return self._principal(self._verified(token))
        except Unauthenticated:
            raise
        except Exception as error:  # noqa: BLE001  # fail closed
            # Whatever was forgotten above: refused, not crashed. The message may hold the token.
            structlog.get_logger().error("verification failed", error=type(error).__name__)
            raise refuse("token_malformed") from None

    def _verified(self, token: str) -> VerifiedClaims:
        compact = parse(token)
        kid = check_header(compact.header)
        try:
            claims = load_object(compact.payload)
        except ValueError:
            raise refuse("token_malformed") from None
        # The tenant says whose keys to look in. It is the token's own word until the signature
        # fits, so it may only choose among the tenants that are configured.
        tenant = claims.get("tid")
        if (
            not isinstance(tenant, str)
            or tenant == _CONSUMERS
            or tenant not in self._accepted.tenants
        ):
            raise refuse("tenant_not_accepted")
        try:
            key = self._keys.key(tenant, kid)
        except KeysUnavailable:
            raise refuse("keys_unavailable") from None
        if key is None:
            raise refuse("unknown_key")
        if not key.verifies(compact.signed, compact.signature):
            raise refuse("signature_invalid")
        self._check_issued(claims, tenant)
        self._check_times(claims)
        return VerifiedClaims(claims)

    def _check_issued(self, claims: Mapping[str, Any], tenant: str) -> None:
        accepted = self._accepted
        if claims.get("iss") != accepted.cloud.issuer(accepted.version, tenant):
            raise refuse("issuer_not_accepted")
        audience = claims.get("aud")
        # A list would be legal JWT (RFC 7519 section 4.1.3); Entra never issues one.
        if (
            not isinstance(audience, str)
            or audience in _NEVER_OURS
            or audience not in accepted.audiences
        ):
            raise refuse("audience_not_accepted")
        if claims.get("ver") != accepted.version:
            raise refuse("version_not_accepted")

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        begins, issued, ends = (_moment(claims, name) for name in ("nbf", "iat", "exp"))
        at = self._clock()
        if ends <= at - SKEW_SECONDS:
            raise refuse("token_expired")
        if max(begins, issued) > at + SKEW_SECONDS:
            raise refuse("token_not_yet_valid")
        if not 0 < ends - issued <= LONGEST_LIFE_SECONDS:
            raise refuse("lifetime_too_long")

    def _principal(self, claims: VerifiedClaims) -> Principal:
        if not _ID_TOKEN_CLAIMS.isdisjoint(claims):
            raise refuse("id_token")
        if "cnf" in claims:
            raise refuse("proof_not_supported")
        client = self._client(claims)
        identity = _guid(claims, "oid")
        kind = kind_of(claims)
        if self._accepted.clients and client not in self._accepted.clients:
            raise refuse("client_not_accepted")
        return Principal(
            tenant=claims["tid"],
            object_id=identity,
            client_id=client,
            kind=kind,
            name=_name(claims, kind),
            roles=_roles(claims),
            groups=self._groups(claims),
            expires_at=_moment(claims, "exp"),
        )

    def _client(self, claims: VerifiedClaims) -> str:
        if "azp" in claims and "appid" in claims:
            raise refuse("client_ambiguous")
        return _guid(claims, "appid" if self._accepted.version == "1.0" else "azp")

    def _groups(self, claims: VerifiedClaims) -> frozenset[str]:
        # The overage marker also names an endpoint to ask; it is the token's word for where to
        # send our credentials, and a retired API besides: never called.
        elsewhere = claims.get("_claim_names", {})
        if not isinstance(elsewhere, Mapping):
            raise refuse("claims_malformed")
        if "groups" in elsewhere or claims.get("hasgroups", False) is not False:
            raise refuse("groups_overage")
        if "groups" not in claims:
            if self._accepted.groups_emitted:
                return frozenset()
            raise refuse("groups_unknown")
        groups = claims["groups"]
        # Names instead of ids can be given to another group tomorrow.
        if (
            not isinstance(groups, list)
            or len(groups) > _MOST_GROUPS
            or not all(isinstance(group, str) and _GUID.fullmatch(group) for group in groups)
        ):
            raise refuse("claims_malformed")
        return frozenset(groups)


def parse(token: str) -> Compact:
    """The token's parts, if it is in the one canonical form (RFC 7515 section 7.1)."""
    if not token:
        raise refuse("token_missing")
    if len(token) > MOST_CHARACTERS:
        raise refuse("token_too_large")
    try:
        raw = token.encode("ascii")
        head, body, tail = raw.split(b".")
        header = load_object(decode_base64url(head))
        return Compact(header, decode_base64url(body), head + b"." + body, decode_base64url(tail))
    except ValueError:
        raise refuse("token_malformed") from None


def check_header(header: Mapping[str, Any]) -> str:
    """The key id of a header that asks for nothing unusual."""
    if header.get("alg") != ALGORITHM:
        raise refuse("alg_not_allowed")
    if header.get("typ") not in ("JWT", "at+jwt"):
        raise refuse("type_not_allowed")
    if not _HEADERS_REFUSED.isdisjoint(header):
        raise refuse("header_not_allowed")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= 128:
        raise refuse("unknown_key")
    return kid


def _moment(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if value is None:
        raise refuse("claim_missing")
    # ``True`` is an int to Python, and 1e3 or "1000" a number to lenient readers.
    if type(value) is not int or not 0 <= value <= _LATEST:
        raise refuse("claims_malformed")
    return value


def _guid(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if value is None:
        raise refuse("claim_missing")
    if not isinstance(value, str) or not _GUID.fullmatch(value):
        raise refuse("claims_malformed")
    return value


def _roles(claims: Mapping[str, Any]) -> frozenset[str]:
    """App roles: the application's in an app-only token, the human's in a delegated one."""
    roles = claims.get("roles", [])
    if (
        not isinstance(roles, list)
        or len(roles) > _MOST_ROLES
        or not all(isinstance(role, str) and role and role.isprintable() for role in roles)
    ):
        raise refuse("claims_malformed")
    return frozenset(roles)


def _name(claims: Mapping[str, Any], kind: PrincipalKind) -> str:
    """A name for people to read; never for a decision, because its owner may choose it."""
    human = kind in (PrincipalKind.USER, PrincipalKind.AGENT_ON_BEHALF, PrincipalKind.AGENT_USER)
    names = ("name", "preferred_username", "unique_name") if human else ("app_displayname",)
    for name in names:
        value = claims.get(name)
        if isinstance(value, str) and value:
            return "".join(one if one.isprintable() else "?" for one in value[:200])
    return ""
