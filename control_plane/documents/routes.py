"""Documents over HTTP: one way to apply them all, and one list a kind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import ValidationError

from control_plane.database import Database
from control_plane.documents.answers import (
    ApplyRequest,
    ApplyResult,
    ChangeItem,
    DocumentItem,
    RevisionDetail,
    RevisionItem,
    RollbackRequest,
)
from control_plane.documents.service import DocumentStore
from control_plane.documents.validation import NAME_PATTERN, Kind
from control_plane.errors import Invalid
from control_plane.identity.access import Caller, Role, require
from control_plane.pagination import (
    DEFAULT_LIMIT,
    Cursor,
    Limit,
    Page,
    decode_cursor,
    page_of,
)
from control_plane.problems import problems

YAML = "application/yaml"  # RFC 9512
_ETAG = re.compile(r'"?([0-9]{1,9})"?')

Admin = Annotated[Caller, Depends(require(Role.ADMIN))]
Reader = Annotated[Caller, Depends(require(Role.ADMIN, Role.AUDITOR))]
DocumentName = Annotated[str, Path(pattern=NAME_PATTERN)]
RevisionNumber = Annotated[int, Path(ge=1, le=2**31 - 1)]
Why = Annotated[str, Query(max_length=500, pattern=r"^[^\x00]*$")]


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent to be applied."""

    text: bytes | str
    message: str


async def _sent(request: Request, message: Why = "") -> Sent:
    # The application bounds every body; the reader bounds what a text may be.
    body = await request.body()
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        return Sent(body, message)
    try:
        wrapped = ApplyRequest.model_validate_json(body)
    except ValidationError:
        raise Invalid(
            "request_invalid",
            'JSON must be {"documents": "...", "message": "..."}; documents that are JSON '
            f"themselves are sent as {YAML}",
        ) from None
    return Sent(wrapped.documents, wrapped.message or message)


def _expected(
    if_match: Annotated[
        str | None,
        Header(max_length=30, description='The revision it must have now: `"3"`; `"0"`: none.'),
    ] = None,
) -> int | None:
    if if_match is None or if_match == "*":
        return None
    if (found := _ETAG.fullmatch(if_match)) is None:
        raise Invalid("if_match_invalid", 'If-Match must be a revision, such as "3"')
    return int(found[1])


def _store(request: Request) -> DocumentStore:
    store: DocumentStore = request.app.state.documents
    return store


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


Body = Annotated[Sent, Depends(_sent)]
Expected = Annotated[int | None, Depends(_expected)]
Store = Annotated[DocumentStore, Depends(_store)]
Data = Annotated[Database, Depends(_database)]

_ETAG_HEADER = {"description": "Its revision, quoted.", "schema": {"type": "string"}}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            YAML: {
                "schema": {"type": "string", "description": "Documents, separated by `---`."},
                "example": "apiVersion: jitgate/v1\nkind: Relay\n"
                "metadata: {name: relay-1}\nspec: {hosts: [127.0.0.1]}\n",
            },
            "application/json": {"schema": ApplyRequest.model_json_schema()},
        },
    }
}


def build(kinds: Sequence[Kind]) -> APIRouter:
    """The routes for these kinds of documents."""
    router = APIRouter()
    router.include_router(_applying())
    for kind in kinds:
        router.include_router(_reading(kind))
    return router


def _applying() -> APIRouter:
    router = APIRouter(tags=["documents"], responses=problems(401, 403, 409, 422))

    @router.post(
        "/apply",
        operation_id="applyDocuments",
        summary="Put documents in place: all, or none",
        openapi_extra=_BODY,
    )
    def apply_documents(
        caller: Admin,
        store: Store,
        body: Body,
        expected: Expected,
        dry_run: Annotated[bool, Query(description="Say what would happen, do nothing.")] = False,
    ) -> ApplyResult:
        """Idempotent: a document that says what it said before stays at its revision. Errors
        point at lines and columns of the text.
        """
        applied = store.apply(
            body.text, caller.label, message=body.message, expected=expected, dry_run=dry_run
        )
        return ApplyResult.of(applied, dry_run=dry_run)

    @router.post(
        "/diff",
        operation_id="diffDocuments",
        summary="What an apply of these documents would change",
        openapi_extra=_BODY,
    )
    def diff_documents(caller: Reader, store: Store, body: Body, expected: Expected) -> ApplyResult:
        """The same as an apply with `dry_run`, also for those who may only read."""
        applied = store.apply(body.text, caller.label, expected=expected, dry_run=True)
        return ApplyResult.of(applied, dry_run=True)

    return router


def _reading(kind: Kind) -> APIRouter:
    router = APIRouter(prefix=f"/{kind.plural}", tags=[kind.plural])
    many = kind.plural.capitalize()

    @router.get(
        "",
        operation_id=f"list{many}",
        summary=f"The {kind.plural} as they stand, by name",
        responses=problems(401, 403, 422),
    )
    def list_documents(
        _caller: Reader,
        store: Store,
        database: Data,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Page[DocumentItem]:
        position = decode_cursor(cursor, str)
        with database.transaction() as session:
            rows = store.page(session, kind.name, position[0] if position else None, limit + 1)
            return page_of(rows, limit, DocumentItem.of, lambda row: (row.name,))

    @router.get(
        "/{name}",
        operation_id=f"get{kind.name}",
        summary=f"A {kind.name} as it stands",
        response_model=DocumentItem,
        responses={
            200: {
                "content": {YAML: {"schema": {"type": "string"}}},
                "headers": {"ETag": _ETAG_HEADER},
            },
            **problems(401, 403, 404, 422),
        },
    )
    def get_document(
        name: DocumentName,
        _caller: Reader,
        store: Store,
        database: Data,
        response: Response,
        accept: Annotated[str, Header(max_length=500)] = "*/*",
    ) -> Any:
        """With `Accept: application/yaml`: the YAML as it was applied, comments included."""
        with database.transaction() as session:
            row = store.current(session, kind.name, name)
        headers = {"ETag": f'"{row.revision}"', "Vary": "Accept"}
        if "yaml" in accept.lower():
            return Response(row.source, media_type=YAML, headers=headers)
        response.headers.update(headers)
        return DocumentItem.of(row)

    @router.get(
        "/{name}/history",
        operation_id=f"list{kind.name}History",
        summary=f"The revisions of a {kind.name}, newest first",
        responses=problems(401, 403, 404, 422),
    )
    def list_history(
        name: DocumentName,
        _caller: Reader,
        store: Store,
        database: Data,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Page[RevisionItem]:
        """A deleted one has its history still."""
        position = decode_cursor(cursor, int)
        before = position[0] if position else None
        with database.transaction() as session:
            rows = store.history(session, kind.name, name, before, limit + 1)
            return page_of(rows, limit, RevisionItem.of, lambda row: (row.revision,))

    @router.get(
        "/{name}/history/{revision}",
        operation_id=f"get{kind.name}Revision",
        summary=f"One revision of a {kind.name}, and what it changed",
        responses=problems(401, 403, 404, 422),
    )
    def get_revision(
        name: DocumentName, revision: RevisionNumber, _caller: Reader, store: Store, database: Data
    ) -> RevisionDetail:
        with database.transaction() as session:
            row = store.revision(session, kind.name, name, revision)
            return RevisionDetail.detail(row, store.difference(session, row))

    @router.post(
        "/{name}/rollback",
        operation_id=f"rollback{kind.name}",
        summary=f"Make an earlier revision of a {kind.name} the newest",
        responses=problems(401, 403, 404, 409, 422),
    )
    def rollback(
        name: DocumentName,
        caller: Admin,
        store: Store,
        expected: Expected,
        body: RollbackRequest,
    ) -> ApplyResult:
        """Nothing of the history is lost: it is a new revision. It also undoes a deletion."""
        applied = store.roll_back(
            kind.name, name, body.revision, caller.label, message=body.message, expected=expected
        )
        return ApplyResult.of(applied, dry_run=False)

    @router.delete(
        "/{name}",
        operation_id=f"delete{kind.name}",
        summary=f"Take a {kind.name} away",
        responses=problems(401, 403, 404, 409, 422),
    )
    def delete_document(
        name: DocumentName, caller: Admin, store: Store, expected: Expected, message: Why = ""
    ) -> ChangeItem:
        """Its history stays. Refused while another document names it."""
        change = store.delete(kind.name, name, caller.label, message=message, expected=expected)
        return ChangeItem.of(change)

    return router
