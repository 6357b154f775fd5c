"""Relays over HTTP: join tokens, their state, and revocation. Their documents are elsewhere."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from control_plane.database import Database
from control_plane.documents.validation import NAME_PATTERN
from control_plane.identity.access import Caller, Role, require
from control_plane.problems import problems
from control_plane.relays.models import Relay
from control_plane.relays.schemas import JoinToken, JoinTokenRequest, RelayState
from control_plane.relays.service import RelayService

router = APIRouter(prefix="/relays/{name}", tags=["relays"])

RelayName = Annotated[str, Path(pattern=NAME_PATTERN, examples=["relay-1"])]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]
Reader = Annotated[Caller, Depends(require(Role.ADMIN, Role.AUDITOR))]


class Revocation(BaseModel):
    """Why a relay is shut out."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "its machine was stolen"}]}
    )

    reason: str = Field(default="", max_length=500)


def _service(request: Request) -> RelayService:
    service: RelayService = request.app.state.relays
    return service


Service = Annotated[RelayService, Depends(_service)]


@router.post(
    "/join-tokens",
    operation_id="createJoinToken",
    summary="Make a token that joins this relay once",
    status_code=201,
    responses=problems(401, 403, 404, 409, 422),
)
def create_join_token(
    name: RelayName,
    caller: Admin,
    service: Service,
    response: Response,
    body: Annotated[JoinTokenRequest | None, Body()] = None,
) -> JoinToken:
    """The token is shown in this answer and never again. A relay that was revoked, or has
    lost its credential, joins again with a new token.
    """
    seconds = (body or JoinTokenRequest()).expires_in
    token, expires_at = service.make_join_token(name, seconds, caller.label)
    response.headers["Cache-Control"] = "no-store"
    return JoinToken(relay=name, join_token=token, expires_at=expires_at)


@router.post(
    "/revoke",
    operation_id="revokeRelay",
    summary="Shut a relay out at once",
    status_code=204,
    responses=problems(401, 403, 404, 422),
)
def revoke_relay(
    name: RelayName,
    caller: Admin,
    service: Service,
    body: Annotated[Revocation | None, Body()] = None,
) -> None:
    """Its credential and its unused join tokens are invalid from now on. Idempotent."""
    service.revoke(name, caller.label, reason=(body or Revocation()).reason)


@router.get(
    "/state",
    operation_id="getRelayState",
    summary="Whether a relay has joined, and when it was last seen",
    responses=problems(401, 403, 404, 422),
)
def get_relay_state(
    name: RelayName, _caller: Reader, service: Service, request: Request
) -> RelayState:
    database: Database = request.app.state.database
    with database.transaction() as session:
        return _state(name, service.find(session, name))


def _state(name: str, relay: Relay | None) -> RelayState:
    if relay is None:
        relay = Relay(name=name, version="", boot="", protocols=[])
    if relay.revoked_at is not None:
        state = "revoked"
    else:
        state = "joined" if relay.joined_at is not None else "new"
    return RelayState(
        name=name,
        state=state,
        joined_at=relay.joined_at,
        revoked_at=relay.revoked_at,
        last_seen_at=relay.last_seen_at,
        version=relay.version,
        boot=relay.boot,
        protocols=relay.protocols,
        certificate_expires_at=relay.certificate_expires_at,
    )
