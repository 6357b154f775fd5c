"""What documents look like over HTTP."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from control_plane.documents.changes import Applied, Change
from control_plane.documents.models import DocumentRevision

_DOCUMENT: JsonDict = {
    "apiVersion": "jitgate/v1",
    "kind": "Relay",
    "metadata": {"name": "relay-1"},
    "spec": {"hosts": ["127.0.0.1", "localhost"]},
}
_ITEM: JsonDict = {
    "kind": "Relay",
    "name": "relay-1",
    "revision": 3,
    "action": "changed",
    "author": "Ada (6f0e7c1c-6b0e-4a77-8f0f-0d6a86c7d001)",
    "at": "2026-11-24T09:30:00Z",
    "message": "another address",
}

Message = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]


class ApplyRequest(BaseModel):
    """Documents with a word on why."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "documents": "apiVersion: jitgate/v1\nkind: Relay\n"
                    "metadata: {name: relay-1}\nspec: {hosts: [127.0.0.1]}\n",
                    "message": "first relay",
                }
            ]
        },
    )

    documents: str = Field(description="YAML, several separated by `---`; or JSON.")
    message: Message = ""


class ChangeItem(BaseModel):
    """What happened to one document, or would."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "Relay",
                    "name": "relay-1",
                    "action": "changed",
                    "revision": 3,
                    "diff": "--- Relay/relay-1 (revision 2)\n+++ Relay/relay-1 (revision 3)\n",
                }
            ]
        }
    )

    kind: str
    name: str
    action: Literal["created", "changed", "unchanged", "rolled_back", "deleted"]
    revision: int = Field(description="The document's revision after it.")
    diff: str = Field(description="Unified; empty where nothing changed.")

    @classmethod
    def of(cls, change: Change) -> ChangeItem:
        """A change as it is shown."""
        return cls.model_validate(
            {
                "kind": change.kind,
                "name": change.name,
                "action": change.action,
                "revision": change.revision,
                "diff": change.diff,
            }
        )


class ApplyResult(BaseModel):
    """What an apply did; with `dry_run`, what it would do."""

    dry_run: bool
    changes: list[ChangeItem]
    warnings: list[str] = Field(description="What looks like a mistake without being one.")

    @classmethod
    def of(cls, applied: Applied, *, dry_run: bool) -> ApplyResult:
        """A result as it is shown."""
        return cls(
            dry_run=dry_run,
            changes=[ChangeItem.of(change) for change in applied.changes],
            warnings=list(applied.warnings),
        )


class RevisionItem(BaseModel):
    """One revision of a document."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ITEM]})

    kind: str
    name: str
    revision: int
    action: str
    author: str
    at: datetime
    message: str

    @classmethod
    def of(cls, row: DocumentRevision) -> RevisionItem:
        """A revision as it is shown."""
        return cls(**_fields(row))


class DocumentItem(RevisionItem):
    """A document as it stands, with its newest revision."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_ITEM, "document": _DOCUMENT}]})

    document: dict[str, Any] = Field(description="The whole document, as it was applied.")

    @classmethod
    def of(cls, row: DocumentRevision) -> DocumentItem:
        """A current revision as it is shown."""
        return cls(**_fields(row), document=json.loads(row.content or "{}"))


class RevisionDetail(RevisionItem):
    """One revision in full."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_ITEM, "document": _DOCUMENT, "diff": "..."}]}
    )

    document: dict[str, Any] | None = Field(description="Null: this revision is a deletion.")
    diff: str = Field(description="Against the revision before, unified.")

    @classmethod
    def detail(cls, row: DocumentRevision, diff: str) -> RevisionDetail:
        """A revision as it is shown."""
        document = None if row.content is None else json.loads(row.content)
        return cls(**_fields(row), document=document, diff=diff)


class RollbackRequest(BaseModel):
    """Which revision to go back to."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"revision": 2, "message": "too wide"}]}
    )

    revision: int = Field(ge=1, le=2**31 - 1)
    message: Message = ""


def _fields(row: DocumentRevision) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "name": row.name,
        "revision": row.revision,
        "action": row.action,
        "author": row.author,
        "at": row.at,
        "message": row.message,
    }
