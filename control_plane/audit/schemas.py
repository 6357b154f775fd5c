"""What the audit trail looks like over HTTP."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from control_plane.audit.models import AuditEntry
from control_plane.audit.service import Verification


class AuditItem(BaseModel):
    """One act."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "sequence": 17,
                    "at": "2026-11-24T09:30:00.000000Z",
                    "actor": "Ada (6f0e7c1c-6b0e-4a77-8f0f-0d6a86c7d001)",
                    "action": "document.applied",
                    "subject": "Policy/agents",
                    "details": {"revision": 3},
                    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                }
            ]
        }
    )

    sequence: int = Field(description="Counts from 1 without a gap.")
    at: datetime
    actor: str = Field(description="`name (object id)` of who acted, or a part of the gateway.")
    action: str = Field(description="A stable word.")
    subject: str
    details: dict[str, Any]
    hash: str = Field(description="SHA-256 over this entry and the one before, hexadecimal.")

    @classmethod
    def of(cls, entry: AuditEntry) -> AuditItem:
        """An entry as it is shown."""
        return cls(
            sequence=entry.sequence,
            at=entry.at,
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            details=json.loads(entry.details),
            hash=entry.hash.hex(),
        )


class AuditVerification(BaseModel):
    """Whether the trail's hash chain holds."""

    valid: bool
    entries: int = Field(description="How many entries fit, from the first on.")
    head: str = Field(description="The last fitting entry's hash: keep it elsewhere.")
    first_bad: int | None = Field(description="The first sequence that doesn't fit.")
    problem: str = Field(description="What is wrong there; empty: nothing.")

    @classmethod
    def of(cls, verification: Verification) -> AuditVerification:
        """A verification as it is shown."""
        return cls(
            valid=verification.valid,
            entries=verification.entries,
            head=verification.head,
            first_bad=verification.first_bad,
            problem=verification.problem,
        )
