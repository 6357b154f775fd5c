"""Who the caller is to the gateway."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from control_plane.identity.access import Caller, require
from control_plane.identity.schemas import CallerView
from control_plane.problems import problems

router = APIRouter(tags=["identity"], responses=problems(401))


@router.get("/me", operation_id="getCaller", summary="Whom the presented token stands for")
def get_caller(caller: Annotated[Caller, Depends(require())]) -> CallerView:
    """Any valid token will do; no role is needed."""
    return CallerView.of(caller)
