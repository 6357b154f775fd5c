"""Policies over HTTP, beyond their documents: what would happen."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from control_plane.identity.access import Caller, Role, require
from control_plane.policy.answers import Explained, ExplainRequest
from control_plane.policy.explain import Explainer
from control_plane.problems import problems

router = APIRouter(tags=["policies"])


@router.post(
    "/explain",
    operation_id="explain",
    summary="What would happen if an agent sent a statement to a target, and by which rule",
    responses=problems(401, 403, 404, 422, 503),
)
async def explain(
    body: ExplainRequest,
    request: Request,
    _caller: Annotated[Caller, Depends(require(Role.ADMIN, Role.AUDITOR))],
) -> Explained:
    """A connected relay classifies the statement as it would classify it at the session's
    start, and it is judged by the policies in force. Nothing is executed.
    """
    explainer: Explainer = request.app.state.explainer
    return Explained.of(await explainer.explain(body.principal, body.target, body.statement))
