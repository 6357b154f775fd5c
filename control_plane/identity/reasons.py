"""Why a token is refused: one stable code a check, with what it means to whoever can act on it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from control_plane.errors import Unauthenticated

REASONS: Mapping[str, str] = MappingProxyType(
    {
        # 1. Form
        "token_missing": "no access token was presented",
        "token_too_large": "the token is longer than 16 KiB",
        "token_malformed": "the token is not three canonical base64url segments of JSON",
        # 2. Header
        "alg_not_allowed": "the token is not signed with RS256",
        "type_not_allowed": "the token's header type is not JWT or at+jwt",
        "header_not_allowed": "the token's header holds a parameter that changes its meaning",
        # 3. Key
        "tenant_not_accepted": "the token is of a tenant that this gateway does not accept",
        "unknown_key": "the tenant has no such signing key",
        "keys_unavailable": "the tenant's signing keys cannot be fetched now; try again later",
        # 4. Signature
        "signature_invalid": "the signature does not fit",
        # 5. Payload
        "claims_malformed": "a claim has a form that Entra does not issue",
        "claim_missing": "a claim that every Entra access token has is missing",
        # 6. and 9. Issuer and version
        "issuer_not_accepted": "the issuer is not this tenant's, in the accepted token version",
        "version_not_accepted": "the token version is not the one this gateway accepts",
        # 7. Audience
        "audience_not_accepted": "the token was issued for another API",
        # 8. Time
        "token_expired": "the token has expired; get a new one",
        "token_not_yet_valid": "the token is not valid yet; check the clocks",
        "lifetime_too_long": "the token lives longer than any that Entra issues",
        # 10. Identity
        "client_ambiguous": "the token names its client in two ways",
        "proof_not_supported": "the token is bound to a key whose proof cannot be checked here",
        "id_token": "this is an ID token; present an access token",
        # 11. Kind
        "kind_undetermined": "neither a delegated scope nor idtyp says what kind of identity it is",
        "kind_contradictory": "the token's claims describe two kinds of identity at once",
        "agent_facets_missing": "the token is an agent's but lacks the facets that say which kind",
        # 12. Client
        "client_not_accepted": "the client is not one that this gateway accepts",
        # 14. Groups
        "groups_overage": "the identity has more groups than a token can hold; not supported yet",
        "groups_unknown": "the token says nothing of groups; the registration does not emit them",
    }
)
"""Every code a refused token can carry, in the order in which the checks come."""


def refuse(code: str) -> Unauthenticated:
    """The error for a code of :data:`REASONS`; it says nothing that was in the token."""
    return Unauthenticated(code, REASONS[code])
