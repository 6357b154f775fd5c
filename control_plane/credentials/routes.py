"""REST: credentials are put, listed by name and user name, and deleted; never read."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from control_plane.credentials.models import StoredCredential
from control_plane.credentials.schemas import CredentialInput, CredentialName, CredentialView
from control_plane.credentials.service import CredentialService
from control_plane.identity.access import Caller, Role, require
from control_plane.pagination import DEFAULT_LIMIT, Cursor, Limit, Page, decode_cursor, page_of
from control_plane.problems import problems
from protos.vocabulary import Credential

router = APIRouter(prefix="/credentials", tags=["credentials"])


def _service(request: Request) -> CredentialService:
    service: CredentialService = request.app.state.credentials
    return service


Service = Annotated[CredentialService, Depends(_service)]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]
Reader = Annotated[Caller, Depends(require(Role.ADMIN, Role.AUDITOR))]


@router.get("", operation_id="listCredentials", responses=problems(401, 403, 422))
def list_credentials(
    service: Service, _caller: Reader, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[CredentialView]:
    """Names and user names. No password is ever given out."""
    after = decode_cursor(cursor, str)
    rows = service.page(after[0] if after else None, limit + 1)
    return page_of(rows, limit, _view, lambda row: (row.name,))


@router.put("/{name}", operation_id="putCredential", responses=problems(401, 403, 422))
def put_credential(
    name: CredentialName, body: CredentialInput, service: Service, caller: Admin
) -> CredentialView:
    """Store a credential; it is used from the next session on."""
    credential = Credential(body.username, body.password.get_secret_value())
    return _view(service.put(name, credential, caller.label))


@router.get("/{name}", operation_id="getCredential", responses=problems(401, 403, 404, 422))
def get_credential(name: CredentialName, service: Service, _caller: Reader) -> CredentialView:
    """Whether there is such a credential, for which user name, since when."""
    return _view(service.find(name))


@router.delete(
    "/{name}",
    operation_id="deleteCredential",
    status_code=204,
    responses=problems(401, 403, 404, 422),
)
def delete_credential(name: CredentialName, service: Service, caller: Admin) -> Response:
    """Forget a credential; open sessions go on, new ones of its targets are refused."""
    service.delete(name, caller.label)
    return Response(status_code=204)


def _view(row: StoredCredential) -> CredentialView:
    return CredentialView(
        name=row.name,
        username=row.username,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )
