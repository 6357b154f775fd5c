"""REST: approvals are listed, looked at and decided; and the page behind an approval's URL."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request
from fastapi.responses import PlainTextResponse

from control_plane.approvals.rules import ApprovalState
from control_plane.approvals.schemas import ApprovalView, DecisionInput
from control_plane.approvals.service import ApprovalService, Human, Place, Statement
from control_plane.errors import Invalid, NotFound
from control_plane.identity.access import Caller, Role, require
from control_plane.pagination import (
    DEFAULT_LIMIT,
    Cursor,
    Limit,
    Page,
    decode_cursor,
    encode_cursor,
)
from control_plane.problems import problems
from control_plane.settings import Settings

router = APIRouter(prefix="/approvals", tags=["approvals"])
pages = APIRouter(include_in_schema=False)


def _service(request: Request) -> ApprovalService:
    service: ApprovalService = request.app.state.approvals
    return service


Service = Annotated[ApprovalService, Depends(_service)]
Reader = Annotated[Caller, Depends(require(Role.ADMIN, Role.APPROVER, Role.AUDITOR))]
Decider = Annotated[Caller, Depends(require(Role.ADMIN, Role.APPROVER))]
_ID = "apr_[0-9a-z]{10}"
ApprovalId = Annotated[str, Path(pattern=f"^{_ID}$", examples=["apr_7k3m9qwx2d"])]


@router.get("", operation_id="listApprovals", responses=problems(401, 403, 422))
def list_approvals(
    service: Service,
    caller: Reader,
    state: ApprovalState | None = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[ApprovalView]:
    """Pending ones by deadline, nearest first; otherwise newest first.

    Approvers get those that their groups may decide; administrators and auditors get all.
    """
    views, place = service.page(state, _human(caller), _place(cursor), limit)
    following = None
    if place is not None:
        following = encode_cursor(place.as_of.isoformat(), place.key.isoformat(), place.id)
    return Page[ApprovalView](items=views, next=following)


@router.get("/{id}", operation_id="getApproval", responses=problems(401, 403, 404, 422))
def get_approval(id: ApprovalId, service: Service, caller: Reader) -> ApprovalView:
    """Everything that a human needs to decide."""
    return service.get(id, _human(caller))


@router.post(
    "/{id}/decisions",
    operation_id="decideApproval",
    responses=problems(401, 403, 404, 409, 422),
)
def decide_approval(
    id: ApprovalId,
    body: DecisionInput,
    service: Service,
    caller: Decider,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=128,
            pattern=r"^[\x21-\x7e]+$",
            description="Makes a retry safe: the same key and body give the same answer.",
        ),
    ] = None,
) -> ApprovalView:
    """Approve or deny, as a human of a group that the policy names.

    Any denial ends it. An approval counts toward every requirement that names one of the
    caller's groups; once all are met, the operation runs.
    """
    statement = Statement(body.decision, body.reason, body.scope)
    return service.decide(id, _human(caller), statement, idempotency_key)


@pages.get("/approvals/{id}")
def approval_page(id: str, request: Request) -> PlainTextResponse:
    """How to decide, for whoever opens an approval's URL. It shows nothing of the approval:
    the same text for every id, whether there is such an approval or not.
    """
    if not re.fullmatch(_ID, id):
        raise NotFound("approval_not_found", "there is no such approval")
    # Never by the request's own Host: whoever follows the page sends a token there.
    settings: Settings = request.app.state.settings
    api = f"{settings.url}/api/v1/approvals/{id}"
    return PlainTextResponse(
        f"An operation waits for a human's decision: {id}\n\n"
        "See what it is, and decide, with the command line:\n\n"
        f"  jitgate approvals show {id}\n"
        f"  jitgate approve {id} --reason '...'\n"
        f"  jitgate deny {id} --reason '...'\n\n"
        "or with the API and an access token of yours:\n\n"
        f'  curl -H "Authorization: Bearer $TOKEN" {api}\n'
        f'  curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\\n'
        f'       -d \'{{"decision": "approve", "reason": "..."}}\' {api}/decisions\n',
        headers={"Cache-Control": "no-store"},
    )


def _human(caller: Caller) -> Human:
    sees_all = bool(caller.roles & {Role.ADMIN, Role.AUDITOR})
    return Human(caller.principal, caller.label, sees_all)


def _place(cursor: str | None) -> Place | None:
    values = decode_cursor(cursor, str, str, str)
    if values is None:
        return None
    try:
        as_of, key = (datetime.fromisoformat(value) for value in values[:2])
    except ValueError:
        raise Invalid("cursor_invalid", "this cursor didn't come from this list") from None
    if as_of.tzinfo is None or key.tzinfo is None:
        raise Invalid("cursor_invalid", "this cursor didn't come from this list")
    return Place(as_of, key, values[2])
