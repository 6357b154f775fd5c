"""Credentials over REST: written with a password, read without."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, SecretStr

CredentialName = Annotated[
    str, Path(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", examples=["orders-gateway"])
]


class CredentialInput(BaseModel):
    """What the gateway shows a target."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"username": "jitgate_app", "password": "..."}]},
    )

    # A NUL ends a string in several wire protocols and can't be stored by every database.
    username: str = Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")
    password: SecretStr = Field(min_length=1, max_length=8192)


class CredentialView(BaseModel):
    """What may be known of a credential: everything but its password."""

    name: str
    username: str
    updated_at: datetime
    updated_by: str
