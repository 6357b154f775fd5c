"""The application: every service built and connected, every router mounted, start and stop.

Nothing is decided here. Services are on ``app.state`` under their domain's name, which is where
routes find them; each got its collaborators from here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import text
from sqlalchemy.orm import Session
from starlette.datastructures import State

from control_plane import problems
from control_plane.approvals import routes as approval_routes
from control_plane.approvals.holds import HoldService
from control_plane.approvals.service import ApprovalService
from control_plane.audit import routes as audit_routes
from control_plane.audit.service import AuditTrail
from control_plane.credentials import routes as credential_routes
from control_plane.credentials.keys import MasterKeys
from control_plane.credentials.models import StoredCredential
from control_plane.credentials.service import CredentialService
from control_plane.database import Database
from control_plane.documents import routes as document_routes
from control_plane.documents.service import DocumentStore
from control_plane.errors import Unavailable
from control_plane.exchange import Exchange
from control_plane.identity import development, development_routes
from control_plane.identity import routes as identity_routes
from control_plane.identity.access import Access, Role, require
from control_plane.identity.service import Verifier, accepted, entra_verifier
from control_plane.policy import routes as policy_routes
from control_plane.policy.explain import Explainer
from control_plane.policy.kinds import ADVISERS, KINDS
from control_plane.policy.service import PolicyService
from control_plane.recordings import routes as recording_routes
from control_plane.recordings.service import RecordingService
from control_plane.recordings.store import RecordingFiles
from control_plane.relay_api.gateway import Services
from control_plane.relay_api.server import serve
from control_plane.relays import routes as relay_routes
from control_plane.relays.authority import Authority, serving
from control_plane.relays.questions import Questions
from control_plane.relays.service import RelayService
from control_plane.sessions import event_routes
from control_plane.sessions import routes as session_routes
from control_plane.sessions.events import EventFeed
from control_plane.sessions.service import SessionService
from control_plane.settings import Settings
from control_plane.targets.service import TargetService, missing_credentials
from control_plane.wakeups import Wakeups
from migrations.upgrade import upgrade

API = "/api/v1"
PUBLIC = frozenset({"/healthz", "/readyz", f"{API}/openapi.json"})
"""Paths that answer anybody: they hold nothing of anybody's."""
_HOUR = 3600.0

_DESCRIPTION = """
Just-in-time access of autonomous agents to infrastructure: policies, approvals, sessions and
recordings.

Every call carries an Entra access token for this API. What a caller may do is said by the app
roles in it. Errors are `application/problem+json` with a stable `code`. Lists are walked by
`limit` and `cursor`.
"""


def create_app(settings: Settings, *, verifier: Verifier | None = None) -> FastAPI:
    """The application for these settings; it opens files, but no port and no connection.

    Served by ASGI, with its lifespan: that brings the database to the newest schema and starts
    the relays' gRPC server. ``verifier`` stands in for the one that the settings describe.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    app = FastAPI(
        title="jitgate",
        version=_version(),
        description=_DESCRIPTION,
        openapi_url=f"{API}/openapi.json",
        # Their pages load scripts from elsewhere, which our headers forbid.
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        lifespan=_lifespan,
    )
    state = app.state
    state.settings = settings
    state.database = Database(settings.sqlalchemy_url)
    state.wakeups = Wakeups()
    state.audit = AuditTrail()
    state.authority = Authority(settings.data_dir)
    extra: dict[str, str] = {}
    if settings.development_issuer is None:
        # Not in development: a browser would keep it for everything else on this machine.
        extra["strict-transport-security"] = "max-age=31536000"
    if settings.development_issuer is None:
        state.verifier = verifier or entra_verifier(accepted(settings))
    else:
        file = development.read(settings.development_issuer)
        what = accepted(
            settings,
            tenants=frozenset({file.tenant}),
            audiences=frozenset({file.audience}),
        )
        state.verifier = verifier or entra_verifier(what, trusted=state.authority.ca_path)
        issuer = development.DevelopmentIssuer(file, what.cloud)
        app.include_router(development_routes.build(issuer), prefix="/development")
        extra[development_routes.HEADER] = "true"
    state.access = Access.of(state.verifier, settings)

    _add_services(state, settings)
    routers = (
        identity_routes.router,
        audit_routes.build(require(Role.ADMIN, Role.AUDITOR)),
        document_routes.build(KINDS),
        relay_routes.router,
        policy_routes.router,
        credential_routes.router,
        session_routes.router,
        event_routes.router,
        approval_routes.router,
        recording_routes.router,
    )
    for router in routers:
        app.include_router(router, prefix=API)
    app.include_router(approval_routes.pages)
    _add_health(app)
    problems.install(app)
    app.add_middleware(Exchange, extra=extra)
    setattr(app, "openapi", _openapi(app))  # noqa: B010  # FastAPI's own way to replace it
    return app


def _add_services(state: State, settings: Settings) -> None:
    """Build every domain's services, lowest layer first, each with what it stands on."""
    database: Database = state.database
    wakeups: Wakeups = state.wakeups
    audit: AuditTrail = state.audit
    advisers = (*ADVISERS, missing_credentials(_credential_exists))
    state.documents = DocumentStore(database, audit, wakeups, KINDS, advisers)
    state.targets = TargetService(state.documents)
    state.relays = RelayService(database, audit, wakeups, state.documents, state.authority)
    state.questions = Questions(wakeups)
    state.policies = PolicyService(state.documents)
    state.explainer = Explainer(database, state.policies, state.targets, state.questions)
    keys = MasterKeys.load(settings.master_key_file or settings.data_dir / "master.key")
    state.credentials = CredentialService(database, audit, keys)
    state.events = EventFeed(database)
    state.sessions = SessionService(
        database,
        wakeups,
        audit,
        state.verifier,
        state.targets,
        state.policies,
        state.credentials,
        state.events,
        settings.session_seconds,
    )
    state.holds = HoldService(database, wakeups, state.sessions, state.events, settings.url)
    state.approvals = ApprovalService(database, wakeups, audit, state.events, settings.url)
    files = RecordingFiles(settings.recordings)
    state.recordings = RecordingService(
        database, wakeups, audit, state.sessions, state.events, files
    )
    # What the relays' calls are answered by.
    state.relay_services = Services(
        database=database,
        wakeups=wakeups,
        relays=state.relays,
        questions=state.questions,
        policies=state.policies,
        credentials=state.credentials,
        sessions=state.sessions,
        holds=state.holds,
        recordings=state.recordings,
    )


def _credential_exists(session: Session, name: str) -> bool:
    return session.get(StoredCredential, name) is not None


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state = app.state
    state.wakeups.bind(asyncio.get_running_loop())
    try:
        await asyncio.to_thread(upgrade, state.database.engine)
        certificate = await asyncio.to_thread(serving, state.settings, state.authority)
        state.relay_server = await serve(
            state.relay_services, state.approvals, state.events, state.settings, certificate
        )
        reminder = asyncio.create_task(_remind(state.settings))
        try:
            yield
        finally:
            reminder.cancel()
            await state.relay_server.stop()
    finally:
        state.database.close()


async def _remind(settings: Settings) -> None:
    while settings.development_issuer is not None:
        development_routes.warn()
        await asyncio.sleep(_HOUR)


def _add_health(app: FastAPI) -> None:
    @app.get("/healthz", tags=["health"], operation_id="getLiveness", summary="It runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["health"],
        operation_id="getReadiness",
        summary="It can answer: the database can be reached",
        responses=problems.problems(503),
    )
    def readyz() -> dict[str, str]:
        database: Database = app.state.database
        try:
            with database.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except Exception as error:  # A probe: whatever it is, not ready.
            raise Unavailable("database_unavailable", "the database can't be reached") from error
        return {"status": "ok"}


def _operation_id(route: APIRoute) -> str:
    return route.name


def _openapi(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The schema, with every error as what it is: a problem."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = plain()
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            problem = problems.Problem.model_json_schema(
                ref_template="#/components/schemas/{model}"
            )
            schemas.update(problem.pop("$defs", {}))
            schemas["Problem"] = problem
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            for path in schema["paths"].values():
                for operation in path.values():
                    for status, response in operation["responses"].items():
                        if status.startswith(("4", "5")):
                            response["content"] = content
            app.openapi_schema = schema
        return app.openapi_schema

    return described


def _version() -> str:
    try:
        return version("jitgate")
    except PackageNotFoundError:
        return "0"
