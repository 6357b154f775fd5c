"""Sessions over REST."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from control_plane.sessions.models import AgentSession, SessionState
from control_plane.sessions.stored import principal_of
from protos.vocabulary import Principal, PrincipalKind


class PrincipalView(BaseModel):
    """Who it is; the key of an identity is (`tenant`, `object_id`)."""

    tenant: str
    object_id: str
    client_id: str
    kind: PrincipalKind
    name: str = Field(description="For people to read; it decides nothing.")
    roles: list[str]
    groups: list[str]

    @classmethod
    def of(cls, principal: Principal) -> PrincipalView:
        """The view of a principal."""
        return cls(
            tenant=principal.tenant,
            object_id=principal.object_id,
            client_id=principal.client_id,
            kind=principal.kind,
            name=principal.name,
            roles=sorted(principal.roles),
            groups=sorted(principal.groups),
        )


class SessionView(BaseModel):
    """One session of an agent at a target."""

    id: str
    principal: PrincipalView
    target: str
    relay: str
    protocol: str
    client_address: str
    opened_at: datetime
    expires_at: datetime
    closed_at: datetime | None
    state: SessionState
    end_code: str = Field(description="Why it ended, for programs; empty while it is open.")
    end_reason: str
    ended_by: str = Field(description="The administrator who ended it, if one did.")

    @classmethod
    def of(cls, row: AgentSession) -> SessionView:
        """The view of a row."""
        return cls(
            id=row.id,
            principal=PrincipalView.of(principal_of(row.principal)),
            target=row.target,
            relay=row.relay,
            protocol=row.protocol,
            client_address=row.client_address,
            opened_at=row.opened_at,
            expires_at=row.expires_at,
            closed_at=row.closed_at,
            state=SessionState(row.state),
            end_code=row.end_code,
            end_reason=row.end_reason,
            ended_by=row.ended_by,
        )


class EndInput(BaseModel):
    """Why a session is ended; the agent is told."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"reason": "the maintenance window is over"}]},
    )

    reason: str = Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")
