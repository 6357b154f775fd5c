"""What an identity looks like over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from control_plane.identity.access import Caller, Role
from protos.vocabulary import PrincipalKind


class CallerView(BaseModel):
    """A verified identity and what it may do here."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "tenant": "0c6c1a52-6a0b-4a0e-9f3a-0b6d3a6f1001",
                    "object_id": "6f0e7c1c-6b0e-4a77-8f0f-0d6a86c7d001",
                    "client_id": "5a2f4c7e-93a0-4b55-9d0c-2f6a3c1e7001",
                    "kind": "user",
                    "name": "Ada",
                    "app_roles": ["jitgate.approver"],
                    "groups": ["a3f1d2c4-1b2c-4d3e-8f4a-5b6c7d8e9001"],
                    "roles": ["approver"],
                    "expires_at": "2026-11-24T10:30:00Z",
                }
            ]
        }
    )

    tenant: str
    object_id: str
    client_id: str
    kind: PrincipalKind
    name: str = Field(description="For people to read; no decision rests on it.")
    app_roles: list[str] = Field(description="The token's app roles.")
    groups: list[str] = Field(description="Group ids.")
    roles: list[Role] = Field(description="What the caller may do in this control plane.")
    expires_at: datetime = Field(description="When the token ends.")

    @classmethod
    def of(cls, caller: Caller) -> CallerView:
        """A caller as it is shown."""
        who = caller.principal
        return cls(
            tenant=who.tenant,
            object_id=who.object_id,
            client_id=who.client_id,
            kind=who.kind,
            name=who.name,
            app_roles=sorted(who.roles),
            groups=sorted(who.groups),
            roles=sorted(caller.roles),
            expires_at=datetime.fromtimestamp(who.expires_at, UTC),
        )
