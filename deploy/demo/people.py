"""Who takes part in the demonstration: two tenants, their groups, agents and humans.

Identifiers are fixed, because the documents in ``documents/`` name them; secrets are new at
every start. Counterpart: the development issuer, which reads :meth:`Cast.issuer_file`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

TENANT = "3f1d8a52-6c0e-4b7d-9a41-0c5e2b8d7f10"
FOREIGN_TENANT = "b7c94e06-15d2-4f83-8e6b-9d0a3c71f522"
AUDIENCE = "5a0c7e34-92bf-4d1e-8c66-f31b0e9a4d27"

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "analysts": "c2a6f8d1-4b3e-4970-a5d8-1e7f60b92c34",
        "approvers": "e8b1d4f7-0a92-4c65-b3e7-5d2c9f8a1b06",
    }
)


def _secret() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True)
class Person:
    """An identity that gets tokens by client id and secret. ``seconds``: how long they live."""

    name: str
    kind: str
    client_id: str
    object_id: str
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    seconds: int = 3600
    tenant: str = TENANT
    remark: str = ""
    secret: str = field(default_factory=_secret, repr=False)

    def issued(self) -> dict[str, Any]:
        """The identity as the development issuer reads it."""
        return {
            "client_id": self.client_id,
            "client_secret": self.secret,
            "object_id": self.object_id,
            "name": self.name,
            "kind": self.kind,
            "roles": list(self.roles),
            "groups": [GROUPS[group] for group in self.groups],
            "token_seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Cast:
    """Everybody, with fresh secrets."""

    reporting: Person
    intern: Person
    expired: Person
    foreign: Person
    administrator: Person
    approvers: tuple[Person, Person]
    auditor: Person

    @property
    def agents(self) -> Sequence[Person]:
        """The demonstration's agents; only the first one gets anywhere."""
        return (self.reporting, self.intern, self.expired, self.foreign)

    @property
    def everybody(self) -> Sequence[Person]:
        """Agents and humans."""
        return (*self.agents, self.administrator, *self.approvers, self.auditor)

    def issuer_file(self) -> dict[str, Any]:
        """The development issuer's file: our tenant, and a foreign one."""
        ours = [one.issued() for one in self.everybody if one.tenant == TENANT]
        theirs = [one.issued() for one in self.everybody if one.tenant == FOREIGN_TENANT]
        return {
            "tenant": TENANT,
            "audience": AUDIENCE,
            "identities": ours,
            "tenants": [{"tenant": FOREIGN_TENANT, "audience": AUDIENCE, "identities": theirs}],
        }


def cast() -> Cast:
    """Everybody of one run."""
    return Cast(
        reporting=Person(
            "reporting-agent",
            "agent",
            "1d4e7a90-3c5b-4f82-9e16-7b0a8d2c5f31",
            "9b2f6c18-e047-4d3a-8a95-4c7e1f0d6b82",
            groups=("analysts",),
            remark="reads; what changes data waits for a human",
        ),
        intern=Person(
            "intern-agent",
            "application",
            "6e8a1c53-b90d-4f27-a4e2-0d7c5b9f3a18",
            "27d0b5e9-8f14-4a6c-9c3b-e5a18d7f0264",
            remark="in no group: refused at login",
        ),
        expired=Person(
            "sleepy-agent",
            "application",
            "a05c9d72-4e1b-4386-b7f0-3d8e6a2c1f59",
            "f4136b8d-0c7a-4e92-85d1-6b9e2a7c0d45",
            groups=("analysts",),
            seconds=-600,
            remark="its tokens are born expired: refused at login",
        ),
        foreign=Person(
            "stranger-agent",
            "application",
            "8c3d0f6b-7a25-4e91-b8c4-2f5e9d1a7063",
            "50e7a2c9-d13f-4b86-97e0-8a4c6f1b3d2e",
            groups=("analysts",),
            tenant=FOREIGN_TENANT,
            remark="of another tenant: refused at login",
        ),
        administrator=Person(
            "ada.admin@shop.example",
            "user",
            "d9f2b3a7-5e60-4c18-8b4d-a1c7e0f96325",
            "3a8d5e0c-f712-4b49-9d6a-c0e4b7812f6d",
            roles=("jitgate.admin",),
        ),
        approvers=(
            Person(
                "ben.owner@shop.example",
                "user",
                "04b7c6e1-d82a-4f59-a3c0-9e1d5f7b2846",
                "7f60a9d3-2b8e-4c14-b5f7-d3e9c1a08b52",
                roles=("jitgate.approver",),
                groups=("approvers",),
            ),
            Person(
                "cleo.owner@shop.example",
                "user",
                "be15f0d8-6a93-4c7e-8d21-f4b0a9e73c65",
                "c81e4a7f-930b-4d65-a2f8-06d7b5e9c314",
                roles=("jitgate.approver",),
                groups=("approvers",),
            ),
        ),
        auditor=Person(
            "dora.auditor@shop.example",
            "user",
            "72a9e4c0-1f5d-4b38-9c8e-5b6d0a3f7e91",
            "e60d2f9b-a487-4135-8b9c-7c1f5e0d3a28",
            roles=("jitgate.auditor",),
        ),
    )
