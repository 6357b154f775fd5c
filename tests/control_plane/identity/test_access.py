"""Roles come from the token's app roles, by the names that the settings give them."""

from __future__ import annotations

import pytest

from control_plane.errors import Unauthenticated
from control_plane.identity.access import Access, Caller, Role
from control_plane.settings import Settings
from protos.vocabulary import PrincipalKind
from tests.control_plane.tokens import bearer, guid, verifier


def caller(kind: PrincipalKind, *roles: str, name: str = "ada") -> Caller:
    access = Access.of(verifier(), Settings(admin_role="Boss"))
    return access.caller(bearer(kind, *roles, name=name)["Authorization"].removeprefix("Bearer "))


@pytest.mark.parametrize(
    ("names", "roles"),
    [
        ((), set()),
        (("jitgate.admin",), set()),
        (("boss",), set()),
        (("Boss",), {Role.ADMIN}),
        (("jitgate.approver", "jitgate.auditor", "x"), {Role.APPROVER, Role.AUDITOR}),
    ],
)
def test_roles_are_the_configured_app_roles_exactly(
    names: tuple[str, ...], roles: set[Role]
) -> None:
    for kind in (PrincipalKind.USER, PrincipalKind.APPLICATION, PrincipalKind.MANAGED_IDENTITY):
        assert caller(kind, *names).roles == roles


@pytest.mark.parametrize(
    "kind", [PrincipalKind.AGENT, PrincipalKind.AGENT_ON_BEHALF, PrincipalKind.AGENT_USER]
)
def test_no_agent_has_a_role_not_even_its_humans(kind: PrincipalKind) -> None:
    found = caller(kind, "Boss", "jitgate.approver")
    assert found.roles == frozenset()
    assert "Boss" in found.principal.roles


def test_a_label_names_a_person_and_their_object_id() -> None:
    assert caller(PrincipalKind.USER).label == f"ada ({guid('ada')})"
    assert caller(PrincipalKind.APPLICATION).label == f"application ({guid('ada')})"


def test_a_token_that_is_refused_gives_no_caller() -> None:
    with pytest.raises(Unauthenticated):
        Access.of(verifier(), Settings()).caller("x")
