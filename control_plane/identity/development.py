"""The development issuer: access tokens shaped as Entra's, for a machine without Entra.

Its counterpart is :mod:`control_plane.identity.entra`, which verifies its tokens by the very
checks that Entra's go through. It is for demonstrations and tests: identities and their secrets
come from a file, and it gives users tokens by client credentials, which Entra never does. It is
off unless a file is set, and serves loopback only
(:mod:`control_plane.identity.development_routes`).
"""

from __future__ import annotations

import hmac
import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, assert_never

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwk, jws
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from control_plane.identity.clouds import Cloud
from control_plane.identity.keys import ALGORITHM
from protos.vocabulary import PrincipalKind

_DAY = 24 * 3600


def _guid(text: str) -> str:
    return str(uuid.UUID(text))


Guid = Annotated[str, AfterValidator(_guid)]


class Identity(BaseModel):
    """Somebody who can get a token by client id and secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    client_id: Guid
    client_secret: SecretStr = Field(min_length=8)
    object_id: Guid
    name: str = ""
    kind: PrincipalKind = PrincipalKind.APPLICATION
    roles: list[str] = []
    groups: list[Guid] = []
    token_seconds: int = Field(default=3600, ge=-_DAY, le=_DAY)
    """How long a token lives; -120 or less: it is born expired."""
    blueprint: Guid | None = None
    """An agent's blueprint; made up from the client id if absent."""

    @model_validator(mode="after")
    def _clearly_expired(self) -> Identity:
        if -120 < self.token_seconds <= 0:
            raise ValueError("token_seconds: what just expired is still accepted; at most -120")
        return self


class DevelopmentTenant(BaseModel):
    """A tenant with its identities. ``audience`` is the client id of the API's registration."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    tenant: Guid
    audience: Guid
    identities: list[Identity]

    @model_validator(mode="after")
    def _unique(self) -> DevelopmentTenant:
        clients = [identity.client_id for identity in self.identities]
        if len(set(clients)) != len(clients):
            raise ValueError("a client_id occurs twice")
        return self


class DevelopmentFile(DevelopmentTenant):
    """The file: our tenant, and others whose tokens are signed as well but not accepted."""

    tenants: list[DevelopmentTenant] = []


def read(path: Path) -> DevelopmentFile:
    """The file's content. Raises OSError, or pydantic's ValidationError."""
    return DevelopmentFile.model_validate_json(path.read_bytes())


class TokenRefused(Exception):
    """No token: ``error`` is OAuth's word (RFC 6749 section 5.2), ``number`` Entra's."""

    def __init__(self, status: int, error: str, number: int, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.error = error
        self.number = number
        self.description = description


class DevelopmentIssuer:
    """Issues tokens of every tenant in the file, with a key made at start.

    As in Entra all tenants' tokens are signed by the same keys, so that a foreign tenant's
    token is refused for its tenant and not for its signature.
    """

    def __init__(
        self, file: DevelopmentFile, cloud: Cloud, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._cloud = cloud
        self._clock = clock
        self._tenants = {tenant.tenant: tenant for tenant in (*file.tenants, file)}
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self._key = jwk.construct(pem, ALGORITHM)
        self._kid = os.urandom(16).hex()

    def metadata(self, tenant: str) -> dict[str, Any] | None:
        """The tenant's discovery document (version 2), or None for an unknown tenant."""
        if tenant not in self._tenants:
            return None
        base = f"{self._cloud.login}/{tenant}"
        return {
            "issuer": self._cloud.issuer("2.0", tenant),
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "tenant_region_scope": None,
        }

    def keys(self, tenant: str) -> dict[str, Any] | None:
        """The tenant's key document, or None for an unknown tenant."""
        if tenant not in self._tenants:
            return None
        public = self._key.public_key().to_dict()
        key = {name: public[name] for name in ("kty", "n", "e")}
        issuer = self._cloud.issuer_v2
        return {"keys": [{**key, "use": "sig", "kid": self._kid, "issuer": issuer}]}

    def token(
        self, tenant: str, client_id: str, client_secret: str, scope: str
    ) -> dict[str, object]:
        """The answer to a client-credentials request; raises :class:`TokenRefused`."""
        found = self._tenants.get(tenant)
        if found is None:
            raise TokenRefused(400, "invalid_request", 90002, "Tenant not found.")
        identity = next((one for one in found.identities if one.client_id == client_id), None)
        # Compared also where there is nobody, so that the time doesn't tell who exists.
        expected = identity.client_secret.get_secret_value() if identity else "\0"
        right = hmac.compare_digest(expected.encode(), client_secret.encode("utf-8", "replace"))
        if identity is None or not right:
            raise TokenRefused(401, "invalid_client", 7000215, "Invalid client secret provided.")
        allowed = {f"{found.audience}/.default", f"api://{found.audience}/.default"}
        if scope not in allowed:
            wanted = f"The scope must be {found.audience}/.default."
            raise TokenRefused(400, "invalid_scope", 1002012, wanted)
        claims = self._claims(found, identity)
        signed = jws.sign(claims, self._key, {"kid": self._kid}, ALGORITHM)
        left = max(0, identity.token_seconds)
        return {
            "token_type": "Bearer",
            "expires_in": left,
            "ext_expires_in": left,
            "access_token": signed,
        }

    def _claims(self, tenant: DevelopmentTenant, identity: Identity) -> Mapping[str, Any]:
        at = int(self._clock())
        ends = at + identity.token_seconds
        # Entra's tokens begin five minutes ago; one that is born expired has lived for an hour.
        begins = min(at, ends - 3600 if identity.token_seconds <= 0 else at) - 300
        claims: dict[str, Any] = {
            "aud": tenant.audience,
            "iss": self._cloud.issuer("2.0", tenant.tenant),
            "iat": begins,
            "nbf": begins,
            "exp": ends,
            "azp": identity.client_id,
            "azpacr": "1",
            "oid": identity.object_id,
            "sub": identity.object_id,
            "tid": tenant.tenant,
            "uti": uuid.uuid4().hex[:22],
            "ver": "2.0",
        }
        if identity.roles:
            claims["roles"] = identity.roles
        if identity.groups:
            claims["groups"] = identity.groups
        return claims | _shape(identity)


def _shape(identity: Identity) -> dict[str, Any]:
    """The claims that make a token one of its kind."""
    human = {
        "idtyp": "user",
        "scp": "access_as_user",
        "name": identity.name,
        "preferred_username": identity.name,
    }
    blueprint = identity.blueprint or str(uuid.uuid5(uuid.UUID(identity.client_id), "blueprint"))
    app = {"idtyp": "app", "app_displayname": identity.name}
    match identity.kind:
        case PrincipalKind.APPLICATION:
            return app
        case PrincipalKind.MANAGED_IDENTITY:
            resource = "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/development"
            subscription = f"/subscriptions/{uuid.UUID(int=0)}/resourcegroups/development"
            return app | {"xms_mirid": subscription + resource, "azpacr": "2"}
        case PrincipalKind.USER:
            return human
        case PrincipalKind.AGENT:
            facets = {"xms_act_fct": "11 9 3", "xms_sub_fct": "3 11 9"}
            return app | facets | {"xms_par_app_azp": blueprint, "azpacr": "2"}
        case PrincipalKind.AGENT_ON_BEHALF:
            facets = {"xms_act_fct": "11 9 3", "xms_sub_fct": "10 3"}
            return human | facets | {"xms_par_app_azp": blueprint, "azpacr": "2"}
        case PrincipalKind.AGENT_USER:
            facets = {"xms_act_fct": "3 11 9", "xms_sub_fct": "13 10 3"}
            return human | facets | {"xms_par_app_azp": blueprint, "azpacr": "2"}
        case _ as never:  # pragma: no cover
            assert_never(never)
