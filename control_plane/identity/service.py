"""Whom a token stands for: the verification put together from settings.

The checks are :mod:`control_plane.identity.entra`'s, the keys
:mod:`control_plane.identity.jwks`'s.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Protocol

from control_plane.identity import clouds
from control_plane.identity.entra import Accepted, EntraVerifier
from control_plane.identity.fetching import HttpsFetch
from control_plane.identity.jwks import KeyCache
from control_plane.settings import Settings
from protos.vocabulary import Principal


class Verifier(Protocol):
    """Says whom a bearer token stands for."""

    def verify(self, token: str) -> Principal:
        """The token's principal. Callable from any thread; can block while keys are fetched.

        Raises :class:`control_plane.errors.Unauthenticated`, and nothing else, with the code
        of the check that failed (:data:`control_plane.identity.reasons.REASONS`).
        """
        ...


def accepted(
    settings: Settings,
    *,
    tenants: frozenset[str] = frozenset(),
    audiences: frozenset[str] = frozenset(),
) -> Accepted:
    """What the settings accept, and the tenants and audiences given beside them."""
    return Accepted(
        cloud=clouds.of(settings),
        tenants=_lower(settings.tenants) | tenants,
        # An audience of version 1 tokens can be a URI, whose case counts.
        audiences=frozenset(settings.audiences) | audiences,
        version=settings.token_version,
        clients=_lower(settings.clients),
        groups_emitted=settings.groups_emitted,
    )


def entra_verifier(what: Accepted, *, trusted: Path | None = None) -> EntraVerifier:
    """A verifier that fetches keys over HTTPS.

    ``trusted`` is the certificate authority of the development issuer: then nothing else is
    trusted, and no proxy is used. Otherwise it is the system's authorities.
    """
    context = ssl.create_default_context(cafile=str(trusted) if trusted else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    fetch = HttpsFetch(context, environment=trusted is None)
    return EntraVerifier(what, KeyCache(what.cloud, what.version, what.tenants, fetch))


def _lower(values: list[str]) -> frozenset[str]:
    return frozenset(value.lower() for value in values)
