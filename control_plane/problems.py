"""Errors as ``application/problem+json`` (RFC 9457): their schema and who answers them.

The counterpart is :mod:`control_plane.errors`, which says what can go wrong; here is only what
that looks like over HTTP. No answer holds a stack trace, a secret or what the caller sent.
"""

from __future__ import annotations

import http
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from control_plane.errors import STATUS, DomainError, Unauthenticated, Unavailable

MEDIA_TYPE = "application/problem+json"


class ProblemError(BaseModel):
    """One of several things that are wrong, and where."""

    message: str
    line: int | None = Field(default=None, description="In the document sent; counts from 1.")
    column: int | None = Field(default=None, description="Counts from 1.")
    document: int | None = Field(default=None, description="Which of several; counts from 1.")
    field: str | None = Field(default=None, description="The field or parameter.")


class Problem(BaseModel):
    """What went wrong, for people (`title`, `detail`) and for programs (`code`)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not permitted",
                    "status": 403,
                    "detail": "this needs one of the roles: admin",
                    "code": "role_missing",
                    "errors": [],
                }
            ]
        }
    )

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; see the list of codes in the documentation.")
    errors: list[ProblemError] = []


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a route that can answer with these problems."""
    return {
        status: {
            "model": Problem,
            "description": http.HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Let ``app`` answer every error as a problem."""
    app.add_exception_handler(DomainError, _domain_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OperationalError, _database_error)


def problem_response(
    status: int,
    title: str,
    detail: str,
    code: str,
    errors: list[ProblemError] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """One problem as a response."""
    problem = Problem(title=title, status=status, detail=detail, code=code, errors=errors or [])
    return JSONResponse(
        problem.model_dump(exclude_none=True), status, dict(headers or {}), MEDIA_TYPE
    )


async def _domain_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DomainError)
    status, _, title = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    headers: dict[str, str] = {}
    if isinstance(error, Unauthenticated):
        # RFC 6750 section 3: the code is one of three words there; ours is in the body.
        headers["WWW-Authenticate"] = 'Bearer realm="jitgate", error="invalid_token"'
    if isinstance(error, Unavailable):
        headers["Retry-After"] = "5"
    errors = [
        ProblemError(
            message=where.message, line=where.line, column=where.column, document=where.document
        )
        for where in error.errors
    ]
    return problem_response(status, title, error.message, error.code, errors, headers)


async def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Only where and what, never `input`: what was sent can hold a password.
    errors = [
        ProblemError(
            message=str(one.get("msg", "invalid")),
            field=".".join(str(part) for part in one.get("loc", ()))[:200],
        )
        for one in error.errors()[:100]
    ]
    return problem_response(
        422, "Invalid input", "the request is not as documented", "request_invalid", errors
    )


_CODES: Mapping[int, str] = {
    404: "no_such_route",
    405: "method_not_allowed",
    413: "request_too_large",
}


async def _http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    phrase = http.HTTPStatus(error.status_code).phrase
    code = _CODES.get(error.status_code, "http_" + str(error.status_code))
    return problem_response(error.status_code, phrase, phrase, code, headers=error.headers)


async def _database_error(request: Request, error: Exception) -> JSONResponse:
    # The driver's message can hold the statement's values: only what kind it was is logged.
    structlog.get_logger().error("database unavailable", error=type(error).__name__)
    unavailable = Unavailable("database_unavailable", "the database can't be used now")
    return await _domain_error(request, unavailable)


def internal_problem(error: Exception) -> JSONResponse:
    """Answer, and log, an error that is ours (:mod:`control_plane.exchange` catches it)."""
    # The message of an unknown exception can hold anything; its type and place can't.
    structlog.get_logger().error("request failed", error=type(error).__name__, place=_place(error))
    return problem_response(
        500, "Internal error", "the gateway failed; its log has more", "internal_error"
    )


def _place(error: BaseException) -> str:
    place = "?"
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{code.co_filename}:{trace.tb_lineno} {code.co_qualname}"
        trace = trace.tb_next
    return place
