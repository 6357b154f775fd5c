"""The development issuer over HTTP, at Entra's paths, for callers on this machine only."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from urllib.parse import parse_qs, unquote_plus

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from control_plane.errors import Forbidden, NotFound
from control_plane.identity.development import DevelopmentIssuer, TokenRefused

HEADER = "x-jitgate-development"
_MOST_FIELDS = 50


def warn() -> None:
    """Say loudly that the issuer is on; at start, and every hour."""
    structlog.get_logger().warning(
        "THE DEVELOPMENT ISSUER IS ON: whoever holds its file's secrets is anybody here. "
        "It is for demonstrations and tests, never for production."
    )


def _only_loopback(request: Request) -> None:
    host = request.client.host if request.client else ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise Forbidden("development_loopback_only", "the development issuer serves loopback only")


def build(issuer: DevelopmentIssuer) -> APIRouter:
    """The issuer's routes, to be mounted under ``/development``."""
    # Every handler is a coroutine: the verifier asks for keys from worker threads, so serving
    # them must not need one.
    router = APIRouter(dependencies=[Depends(_only_loopback)], include_in_schema=False)

    @router.get("/{tenant}/v2.0/.well-known/openid-configuration")
    async def metadata(tenant: str) -> JSONResponse:
        return _known(issuer.metadata(tenant))

    @router.get("/{tenant}/discovery/v2.0/keys")
    async def keys(tenant: str) -> JSONResponse:
        return _known(issuer.keys(tenant))

    @router.post("/{tenant}/oauth2/v2.0/token")
    async def token(tenant: str, request: Request) -> JSONResponse:
        try:
            form = _form(await request.body())
            client_id, secret = _client(request, form)
            if form.get("grant_type") != "client_credentials":
                raise TokenRefused(
                    400, "unsupported_grant_type", 70003, "Only client_credentials is offered."
                )
            answer = issuer.token(tenant, client_id, secret, form.get("scope", ""))
            return JSONResponse(answer, headers=_NO_STORE)
        except TokenRefused as refused:
            return JSONResponse(
                {
                    "error": refused.error,
                    "error_description": f"AADSTS{refused.number}: {refused.description}",
                    "error_codes": [refused.number],
                },
                refused.status,
                _NO_STORE,
            )

    return router


# RFC 6749 section 5.1.
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def _known(document: dict[str, object] | None) -> JSONResponse:
    if document is None:
        raise NotFound("tenant_unknown", "the development issuer has no such tenant")
    return JSONResponse(document)


def _form(body: bytes) -> dict[str, str]:
    try:
        fields = parse_qs(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise TokenRefused(400, "invalid_request", 900144, "The body is not a form.") from None
    # RFC 6749 section 3.2: a parameter given twice is an error.
    if any(len(values) > 1 for values in fields.values()):
        raise TokenRefused(400, "invalid_request", 900144, "A parameter occurs twice.")
    return {name: values[0] for name, values in fields.items()}


def _client(request: Request, form: dict[str, str]) -> tuple[str, str]:
    """The client's id and secret, from the body or, RFC 6749 section 2.3.1, by Basic."""
    given = request.headers.get("authorization", "")
    if not given:
        return form.get("client_id", ""), form.get("client_secret", "")
    scheme, _, encoded = given.partition(" ")
    try:
        pair = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        pair = ""
    name, colon, secret = pair.partition(":")
    if scheme.lower() != "basic" or not colon or "client_secret" in form:
        raise TokenRefused(401, "invalid_client", 7000215, "Invalid client credentials.")
    return unquote_plus(name), unquote_plus(secret)
