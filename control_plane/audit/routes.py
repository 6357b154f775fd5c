"""The audit trail over HTTP: to read and to check, never to change.

Who may read is passed in, because identities are a layer above the trail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from control_plane.audit.schemas import AuditItem, AuditVerification
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.pagination import (
    DEFAULT_LIMIT,
    Cursor,
    Limit,
    Page,
    decode_cursor,
    page_of,
)
from control_plane.problems import problems

Filter = Annotated[str, Query(max_length=500)]


def build(reader: Callable[..., object]) -> APIRouter:
    """The routes, for callers whom the dependency ``reader`` lets through."""
    router = APIRouter(
        prefix="/audit",
        tags=["audit"],
        dependencies=[Depends(reader)],
        responses=problems(401, 403, 422),
    )

    @router.get("", operation_id="listAudit", summary="Administrative acts, newest first")
    def list_audit(
        request: Request,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
        actor: Filter = "",
        action: Filter = "",
        subject: Filter = "",
    ) -> Page[AuditItem]:
        database: Database = request.app.state.database
        trail: AuditTrail = request.app.state.audit
        position = decode_cursor(cursor, int)
        with database.transaction() as session:
            rows = trail.page(
                session,
                before=position[0] if position else None,
                limit=limit + 1,
                actor=actor,
                action=action,
                subject=subject,
            )
            return page_of(rows, limit, AuditItem.of, lambda row: (row.sequence,))

    @router.get(
        "/verification",
        operation_id="verifyAudit",
        summary="Whether the trail's hash chain holds",
    )
    def verify_audit(request: Request) -> AuditVerification:
        database: Database = request.app.state.database
        trail: AuditTrail = request.app.state.audit
        with database.transaction() as session:
            return AuditVerification.of(trail.verify(session))

    return router
