"""Tokens for tests: signed by a key of the test's own, shaped as Entra's, or forged at will."""

from __future__ import annotations

import base64
import functools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid5

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from control_plane.identity.clouds import PUBLIC, Cloud
from control_plane.identity.entra import Accepted, EntraVerifier
from control_plane.identity.jwks import KeyCache
from protos.vocabulary import PrincipalKind

TENANT = "0c6c1a52-6a0b-4a0e-9f3a-0b6d3a6f1001"
FOREIGN = "0c6c1a52-6a0b-4a0e-9f3a-0b6d3a6f1002"
AUDIENCE = "5a2f4c7e-93a0-4b55-9d0c-2f6a3c1e7001"
CLIENT = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
BLUEPRINT = "9b2d3c4e-5f60-4718-8293-a4b5c6d7e8f9"
KID = "kid-1"


def guid(name: str) -> str:
    """A GUID that belongs to a name, always the same."""
    return str(uuid5(UUID(TENANT), name))


def private_key(name: str = KID, bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key pair; made once a test run."""
    return _private_key(name, bits)


@functools.cache
def _private_key(_name: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def b64(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def to_json(value: Any) -> bytes:
    """JSON as a test wants it: a value, or bytes that pretend to be one."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def public_jwk(name: str = KID, bits: int = 2048, **changes: Any) -> dict[str, Any]:
    """The public key as a member of a key document; a change to None takes a member away."""
    numbers = private_key(name, bits).public_key().public_numbers()
    size = (numbers.n.bit_length() + 7) // 8
    key = {
        "kty": "RSA",
        "use": "sig",
        "kid": name,
        "n": b64(numbers.n.to_bytes(size)),
        "e": b64(numbers.e.to_bytes(3)),
    } | changes
    return {member: value for member, value in key.items() if value is not None}


def sign(
    claims: Mapping[str, Any] | bytes,
    header: Mapping[str, Any] | bytes | None = None,
    *,
    key: str = KID,
) -> str:
    """A compact token over exactly these bytes, signed RS256."""
    if header is None:
        header = {"typ": "JWT", "alg": "RS256", "kid": key}
    signed = f"{b64(to_json(header))}.{b64(to_json(claims))}"
    signature = private_key(key).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{b64(signature)}"


def claims(
    kind: PrincipalKind = PrincipalKind.APPLICATION,
    *,
    at: float | None = None,
    cloud: Cloud = PUBLIC,
    name: str = "agent-one",
    **changes: Any,
) -> dict[str, Any]:
    """An Entra version 2 token's claims of this kind; a change to None takes a claim away."""
    moment = int(time.time() if at is None else at)
    found: dict[str, Any] = {
        "aud": AUDIENCE,
        "iss": cloud.issuer("2.0", TENANT),
        "iat": moment - 300,
        "nbf": moment - 300,
        "exp": moment + 3600,
        "aio": "opaque",
        "azp": CLIENT,
        "azpacr": "1",
        "oid": guid(name),
        "sub": guid(name),
        "tid": TENANT,
        "uti": "AAAAAAAAAAAAAAAAAAAAAA",
        "ver": "2.0",
    }
    human = {"idtyp": "user", "scp": "access_as_user", "name": name}
    match kind:
        case PrincipalKind.APPLICATION:
            found |= {"idtyp": "app"}
        case PrincipalKind.MANAGED_IDENTITY:
            found |= {"idtyp": "app", "xms_mirid": "/subscriptions/s/x", "xms_act_fct": "3 9"}
        case PrincipalKind.USER:
            found |= human
        case PrincipalKind.AGENT:
            found |= {"idtyp": "app", "xms_act_fct": "3 11", "xms_sub_fct": "11"}
            found |= {"xms_par_app_azp": BLUEPRINT}
        case PrincipalKind.AGENT_ON_BEHALF:
            found |= human | {"xms_act_fct": "11", "xms_sub_fct": "10 3"}
            found |= {"xms_par_app_azp": BLUEPRINT}
        case PrincipalKind.AGENT_USER:
            found |= human | {"xms_act_fct": "11", "xms_sub_fct": "13"}
            found |= {"xms_par_app_azp": BLUEPRINT}
    found |= changes
    return {claim: value for claim, value in found.items() if value is not None}


class Documents:
    """Serves discovery and key documents to a :class:`KeyCache`, and counts how often."""

    def __init__(self, *keys: dict[str, Any], cloud: Cloud = PUBLIC) -> None:
        self.keys: list[Any] = list(keys) or [public_jwk()]
        self.cloud = cloud
        self.fetched: list[str] = []
        self.before: Callable[[str], None] = lambda url: None

    def __call__(self, url: str) -> bytes:
        """The document at this address."""
        self.fetched.append(url)
        self.before(url)
        if url.endswith("openid-configuration"):
            tenant = url.removeprefix(self.cloud.login).split("/")[1]
            version = "2.0" if "/v2.0/" in url else "1.0"
            return to_json(
                {
                    "issuer": self.cloud.issuer(version, tenant),
                    "jwks_uri": f"{self.cloud.login}/{tenant}/discovery/v2.0/keys",
                }
            )
        return to_json({"keys": self.keys})


def accepted(**changes: Any) -> Accepted:
    """What the tests' deployment accepts."""
    plain: dict[str, Any] = {
        "cloud": PUBLIC,
        "tenants": frozenset({TENANT}),
        "audiences": frozenset({AUDIENCE}),
    }
    return Accepted(**(plain | changes))


def verifier(
    documents: Documents | None = None,
    *,
    clock: Callable[[], float] = time.time,
    **changes: Any,
) -> EntraVerifier:
    """The real verifier over documents from memory."""
    what = accepted(**changes)
    cache = KeyCache(what.cloud, what.version, what.tenants, documents or Documents())
    return EntraVerifier(what, cache, clock=clock)


def bearer(
    kind: PrincipalKind = PrincipalKind.USER,
    *roles: str,
    name: str = "ada",
    groups: tuple[str, ...] = (),
    **changes: Any,
) -> dict[str, str]:
    """An Authorization header for somebody with these app roles, ``jitgate.admin``, and groups."""
    token = sign(claims(kind, name=name, roles=list(roles), groups=list(groups), **changes))
    return {"Authorization": f"Bearer {token}"}
