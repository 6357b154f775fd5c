"""Which kind of Entra identity a token stands for: exactly one, or a refusal.

Reads ``idtyp``, ``scp`` and the agent facets, after the signature was verified. Entra Agent ID's
facets are strings of integers, unordered and with values that mean nothing to us; two count: 11,
an agent identity, and 13, an agent's user account.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from control_plane.identity.reasons import refuse
from protos.vocabulary import PrincipalKind

_AGENT = 11
_AGENT_USER = 13
_FACETS = re.compile(r"[0-9]{1,6}(?: [0-9]{1,6}){0,63}", re.ASCII)
# RFC 6749 section 3.3.
_SCOPES = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*", re.ASCII)


def kind_of(claims: Mapping[str, Any]) -> PrincipalKind:
    """The kind; raises Unauthenticated where the claims contradict each other or say too little.

    A missing ``idtyp`` proves nothing: then only a scope makes it a delegated token, and app
    roles alone make it nothing, because an ID token can have them too.
    """
    acting = _facets(claims, "xms_act_fct")
    subject = _facets(claims, "xms_sub_fct")
    managed = _text(claims, "xms_mirid") != ""
    blueprint = _text(claims, "xms_par_app_azp") != ""
    scoped = _scoped(claims)
    match claims.get("idtyp"), scoped:
        case ("app", False):
            return _app_only(acting, subject, managed=managed, blueprint=blueprint)
        case ("app", True):
            raise refuse("kind_contradictory")
        case ("user" | None, True):
            if managed:
                raise refuse("kind_contradictory")
            return _delegated(acting, subject, blueprint=blueprint)
        case _:
            raise refuse("kind_undetermined")


def _app_only(
    acting: frozenset[int], subject: frozenset[int], *, managed: bool, blueprint: bool
) -> PrincipalKind:
    if _AGENT_USER in acting | subject or (_AGENT in acting) != (_AGENT in subject):
        raise refuse("kind_contradictory")
    if _AGENT in acting:
        if managed:
            raise refuse("kind_contradictory")
        return PrincipalKind.AGENT
    if blueprint:
        raise refuse("agent_facets_missing")
    return PrincipalKind.MANAGED_IDENTITY if managed else PrincipalKind.APPLICATION


def _delegated(
    acting: frozenset[int], subject: frozenset[int], *, blueprint: bool
) -> PrincipalKind:
    if _AGENT_USER in acting or _AGENT in subject:
        raise refuse("kind_contradictory")
    if _AGENT in acting:
        # The subject is a human, or the agent's own user account.
        own = _AGENT_USER in subject
        return PrincipalKind.AGENT_USER if own else PrincipalKind.AGENT_ON_BEHALF
    if _AGENT_USER in subject:
        raise refuse("kind_contradictory")
    if blueprint:
        raise refuse("agent_facets_missing")
    return PrincipalKind.USER


def _facets(claims: Mapping[str, Any], name: str) -> frozenset[int]:
    """A facet claim's integers: whole numbers, so that 113 is neither 11 nor 13."""
    text = _text(claims, name)
    if not text:
        return frozenset()
    if not _FACETS.fullmatch(text):
        raise refuse("claims_malformed")
    return frozenset(int(one) for one in text.split(" "))


def _scoped(claims: Mapping[str, Any]) -> bool:
    """Whether the token is delegated; app-only tokens have ``scp`` absent, empty or ``/``."""
    text = _text(claims, "scp")
    if text in ("", "/"):
        return False
    if not _SCOPES.fullmatch(text):
        raise refuse("claims_malformed")
    return True


def _text(claims: Mapping[str, Any], name: str) -> str:
    text = claims.get(name, "")
    if not isinstance(text, str):
        raise refuse("claims_malformed")
    return text
