"""What a Relay document holds, and what the routes of relays take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from control_plane.documents.validation import Kind, Name, Strict
from control_plane.targets.schemas import Host


class RelaySpec(Strict):
    """A relay: ``hosts`` are the names and addresses that its certificate may be for."""

    hosts: Annotated[list[Host], Field(min_length=1, max_length=50)]
    segment: Name | None = None


def _topics(name: str) -> tuple[str, ...]:
    return ("policy", f"relay:{name}")


RELAY = Kind("Relay", "relays", RelaySpec, topics=_topics)

LONGEST_TOKEN_SECONDS = 86_400


class JoinTokenRequest(BaseModel):
    """How long the token is to be good for."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"expires_in": 3600}]}
    )

    expires_in: Annotated[int, Field(ge=1, le=LONGEST_TOKEN_SECONDS)] = Field(
        default=3600, description="Seconds."
    )


class JoinToken(BaseModel):
    """A join token. It is shown this once and joins one relay once."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "relay": "relay-1",
                    "join_token": "jgj_EXAMPLE",
                    "expires_at": "2026-11-24T10:30:00Z",
                }
            ]
        }
    )

    relay: str
    join_token: str = Field(repr=False)
    expires_at: datetime


class RelayState(BaseModel):
    """What is known of a relay beyond its document."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "relay-1",
                    "state": "joined",
                    "joined_at": "2026-11-24T09:30:00Z",
                    "revoked_at": None,
                    "last_seen_at": "2026-11-24T09:41:12Z",
                    "version": "0.1.0",
                    "boot": "6d1f0a8e",
                    "protocols": ["postgres"],
                    "certificate_expires_at": "2027-02-22T09:30:00Z",
                }
            ]
        }
    )

    name: str
    state: str = Field(description="`new` (never joined), `joined`, `revoked`.")
    joined_at: datetime | None
    revoked_at: datetime | None
    last_seen_at: datetime | None
    version: str
    boot: str = Field(description="New at each start of the relay's process.")
    protocols: list[str]
    certificate_expires_at: datetime | None
