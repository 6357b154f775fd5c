"""REST: sessions are listed, looked at and ended."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime

from control_plane.errors import Invalid
from control_plane.identity.access import Caller, Role, require
from control_plane.pagination import DEFAULT_LIMIT, Cursor, Limit, Page, decode_cursor, page_of
from control_plane.problems import problems
from control_plane.sessions.models import SessionState
from control_plane.sessions.schemas import EndInput, SessionView
from control_plane.sessions.service import SessionFilter, SessionService

router = APIRouter(prefix="/sessions", tags=["sessions"])


def _service(request: Request) -> SessionService:
    service: SessionService = request.app.state.sessions
    return service


Service = Annotated[SessionService, Depends(_service)]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]
Reader = Annotated[Caller, Depends(require(Role.ADMIN, Role.AUDITOR))]
SessionId = Annotated[
    str, Path(pattern="^[0-9a-f]{32}$", examples=["0b6f2f0c3d1e4c5f8a9b7c6d5e4f3a2b"])
]
Name = Annotated[str, Query(max_length=64, pattern=r"^[^\x00]*$")]


@router.get("", operation_id="listSessions", responses=problems(401, 403, 422))
def list_sessions(
    service: Service,
    _caller: Reader,
    state: SessionState | None = None,
    target: Name = "",
    principal: Annotated[
        str, Query(max_length=64, pattern=r"^[^\x00]*$", description="An object id.")
    ] = "",
    since: Annotated[AwareDatetime | None, Query(description="Opened then or later.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[SessionView]:
    """Sessions, newest first."""
    wanted = SessionFilter(state, target, principal, since)
    rows = service.page(wanted, _position(cursor), limit + 1)
    return page_of(rows, limit, SessionView.of, lambda row: (row.opened_at.isoformat(), row.id))


@router.get("/{id}", operation_id="getSession", responses=problems(401, 403, 404, 422))
def get_session(id: SessionId, service: Service, _caller: Reader) -> SessionView:
    """One session."""
    return SessionView.of(service.get(id))


@router.post("/{id}/end", operation_id="endSession", responses=problems(401, 403, 404, 409, 422))
def end_session(id: SessionId, body: EndInput, service: Service, caller: Admin) -> SessionView:
    """End a session now: its relay is told, and the agent is told the reason."""
    return SessionView.of(service.end(id, caller.label, body.reason))


def _position(cursor: str | None) -> tuple[datetime, str] | None:
    values = decode_cursor(cursor, str, str)
    if values is None:
        return None
    try:
        at = datetime.fromisoformat(values[0])
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Invalid("cursor_invalid", "this cursor didn't come from this list")
    return at, values[1]
