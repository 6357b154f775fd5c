"""Who may call a route: the bearer token's principal and its roles in the control plane.

A route says ``caller: Annotated[Caller, Depends(require(Role.ADMIN))]``. What a role may do
beyond the route (an approver of *this* policy) is the domain's to check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from control_plane.errors import Forbidden, Unauthenticated
from control_plane.identity.service import Verifier
from control_plane.settings import Settings
from protos.vocabulary import Principal, PrincipalKind


class Role(StrEnum):
    """What somebody may do in the control plane."""

    ADMIN = "admin"
    APPROVER = "approver"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and in which roles."""

    principal: Principal
    roles: frozenset[Role]

    @property
    def label(self) -> str:
        """How the audit trail names the caller: ``name (object id)``."""
        return f"{self.principal.name or self.principal.kind} ({self.principal.object_id})"


# In an agent's on-behalf-of token, ``roles`` are the human's. What the gateway governs never
# governs the gateway: no agent has a role here, whatever its token says.
_NEVER = frozenset({PrincipalKind.AGENT, PrincipalKind.AGENT_ON_BEHALF, PrincipalKind.AGENT_USER})


class Access:
    """Turns a token into a caller; at ``app.state.access``."""

    def __init__(self, verifier: Verifier, role_names: Mapping[str, Role]) -> None:
        self._verifier = verifier
        self._role_names = role_names

    @classmethod
    def of(cls, verifier: Verifier, settings: Settings) -> Access:
        """With the app roles that the settings name."""
        return cls(
            verifier,
            {
                settings.admin_role: Role.ADMIN,
                settings.approver_role: Role.APPROVER,
                settings.auditor_role: Role.AUDITOR,
            },
        )

    def caller(self, token: str) -> Caller:
        """Who presents this token. Raises :class:`Unauthenticated`."""
        principal = self._verifier.verify(token)
        names = frozenset[str]() if principal.kind in _NEVER else principal.roles
        return Caller(
            principal,
            frozenset(role for name, role in self._role_names.items() if name in names),
        )


_bearer = HTTPBearer(
    auto_error=False, scheme_name="entra", description="An Entra access token for this API."
)


class Requirement:
    """A dependency that gives the caller, or refuses who has none of the roles."""

    def __init__(self, roles: frozenset[Role]) -> None:
        self.roles = roles

    def __call__(
        self,
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    ) -> Caller:
        """Called by FastAPI in a worker thread."""
        given = request.headers.getlist("authorization")
        if not given:
            raise Unauthenticated("token_missing", "an access token is needed: Authorization")
        if len(given) > 1 or credentials is None:
            raise Unauthenticated("token_malformed", "Authorization must be one Bearer token")
        access: Access = request.app.state.access
        caller = access.caller(credentials.credentials)
        if self.roles and not self.roles & caller.roles:
            wanted = ", ".join(sorted(self.roles))
            raise Forbidden("role_missing", f"this needs one of the roles: {wanted}")
        return caller


def require(*roles: Role) -> Requirement:
    """A dependency giving the :class:`Caller`: one with any of ``roles``, or, where none are
    given, anybody with a valid token. Raises Unauthenticated or Forbidden.
    """
    return Requirement(frozenset(roles))
