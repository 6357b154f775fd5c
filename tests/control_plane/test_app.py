"""The whole application over TLS: who gets in, what errors look like, what it tells."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from openapi_spec_validator import validate
from pydantic import SecretStr
from starlette.routing import BaseRoute, Match
from structlog.testing import capture_logs

from control_plane.app import PUBLIC, create_app
from control_plane.settings import Settings
from protos.vocabulary import PrincipalKind
from tests.control_plane.serving import Served, eventually
from tests.control_plane.tokens import BLUEPRINT, bearer, claims, sign, verifier

ADMIN = ("jitgate.admin",)
APPROVAL_PAGE = "/approvals/{id}"
"""Public as well: it is the same text for everybody."""
ANYBODY_AUTHENTICATED = {"/api/v1/me"}


def flat(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, APIRoute]]:
    """Every route with its whole path, through included routers."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield prefix + route.path, route
        else:
            inner = getattr(route, "original_router", None)
            assert inner is not None or not hasattr(route, "routes"), route
            if inner is not None:
                context = route.include_context  # type: ignore[attr-defined]
                yield from flat(inner.routes, prefix + context.prefix)


def operations(app: FastAPI) -> list[tuple[str, str]]:
    """Every method and path that the application answers, from its router and its schema."""
    found = {
        (method, path) for path, route in flat(list(app.router.routes)) for method in route.methods
    }
    described = {
        (method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item
    }
    assert described <= found
    return sorted(found)


def concrete(path: str) -> str:
    """The path with something in the place of its parameters."""
    return re.sub(r"\{[^}]*\}", "x1", path)


def guarded(app: FastAPI) -> list[tuple[str, str]]:
    return [
        (method, path)
        for method, path in operations(app)
        if path not in PUBLIC and path != APPROVAL_PAGE
    ]


def test_there_are_routes_to_guard(app: FastAPI) -> None:
    paths = {path for _, path in guarded(app)}
    assert {"/api/v1/me", "/api/v1/audit", "/api/v1/apply", "/api/v1/approvals/{id}"} <= paths
    assert len(guarded(app)) > 30


def test_every_route_refuses_who_has_no_token(app: FastAPI, client: httpx.Client) -> None:
    for method, path in guarded(app):
        answer = client.request(method, concrete(path))
        assert (answer.status_code, answer.json()["code"]) == (401, "token_missing"), path
        assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_every_route_refuses_who_has_no_role(app: FastAPI, client: httpx.Client) -> None:
    for method, path in guarded(app):
        answer = client.request(method, concrete(path), headers=bearer(PrincipalKind.USER, "other"))
        if path in ANYBODY_AUTHENTICATED:
            assert answer.status_code == 200
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "role_missing"), path


@pytest.mark.parametrize(
    "kind", [PrincipalKind.AGENT, PrincipalKind.AGENT_ON_BEHALF, PrincipalKind.AGENT_USER]
)
def test_no_agent_has_a_role_whatever_its_token_says(
    app: FastAPI, client: httpx.Client, kind: PrincipalKind
) -> None:
    roles = ("jitgate.admin", "jitgate.approver", "jitgate.auditor")
    for method, path in guarded(app):
        if path in ANYBODY_AUTHENTICATED:
            continue
        answer = client.request(method, concrete(path), headers=bearer(kind, *roles))
        assert (answer.status_code, answer.json()["code"]) == (403, "role_missing"), path


@pytest.mark.parametrize("kind", [PrincipalKind.USER, PrincipalKind.APPLICATION])
def test_an_administrator_reads_the_audit_trail(client: httpx.Client, kind: PrincipalKind) -> None:
    answer = client.get("/api/v1/audit", headers=bearer(kind, *ADMIN))
    assert (answer.status_code, answer.json()) == (200, {"items": [], "next": None})


def test_an_approver_may_not_read_the_audit_trail(client: httpx.Client) -> None:
    headers = bearer(PrincipalKind.USER, "jitgate.approver")
    assert client.get("/api/v1/audit", headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([("authorization", "Bearer")], "token_malformed"),
        ([("authorization", "")], "token_malformed"),
        ([("authorization", "Basic YTpi")], "token_malformed"),
        ([("authorization", "Bearer a b")], "token_malformed"),
        ([("authorization", "Bearer x.y.z")], "token_malformed"),
        ([("authorization", "Bearer x"), ("authorization", "Bearer y")], "token_malformed"),
        ([("cookie", "token=x")], "token_missing"),
    ],
)
def test_a_strange_authorization_header_is_refused(
    client: httpx.Client, headers: list[tuple[str, str]], code: str
) -> None:
    answer = client.get("/api/v1/me", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, code)


def test_a_token_in_the_query_counts_for_nothing(client: httpx.Client) -> None:
    token = bearer(PrincipalKind.USER, *ADMIN)["Authorization"].removeprefix("Bearer ")
    assert client.get("/api/v1/me", params={"access_token": token}).status_code == 401


def test_the_caller_is_told_who_they_are(client: httpx.Client) -> None:
    told = client.get("/api/v1/me", headers=bearer(PrincipalKind.USER, *ADMIN, "x")).json()
    assert told["name"] == "ada"
    assert told["roles"] == ["admin"]
    assert told["app_roles"] == ["jitgate.admin", "x"]
    assert told["expires_at"].endswith("Z")


def test_a_refusal_carries_the_code_of_the_check(client: httpx.Client) -> None:
    token = sign(claims(PrincipalKind.APPLICATION, xms_par_app_azp=BLUEPRINT))
    answer = client.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["code"] == "agent_facets_missing"
    assert answer.headers["content-type"] == "application/problem+json"


def test_acts_appear_in_the_audit_trail_and_can_be_paged_and_verified(served: Served) -> None:
    client = served.client
    with served.app.state.database.transaction() as session:
        for number in range(5):
            served.app.state.audit.record(session, "Ada", "act", f"thing-{number}", {"n": number})
    headers = bearer(PrincipalKind.USER, "jitgate.auditor")
    seen: list[int] = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        page = client.get("/api/v1/audit", params={"limit": 2, **cursor}, headers=headers).json()
        seen += [item["sequence"] for item in page["items"]]
        cursor = {"cursor": page["next"]} if page["next"] else {}
    assert seen == [5, 4, 3, 2, 1]
    assert cursor == {}
    verification = client.get("/api/v1/audit/verification", headers=headers).json()
    assert verification["valid"] is True
    assert verification["entries"] == 5
    found = client.get("/api/v1/audit", params={"subject": "thing-3"}, headers=headers).json()
    assert [item["details"] for item in found["items"]] == [{"n": 3}]


def test_it_brings_an_empty_database_to_its_schema_and_works_on_it(
    empty_database_url: str, settings: Settings
) -> None:
    chosen = settings.model_copy(update={"database_url": SecretStr(empty_database_url)})
    headers = bearer(PrincipalKind.USER, *ADMIN)
    relay = "apiVersion: jitgate/v1\nkind: Relay\nmetadata: {name: r1}\nspec: {hosts: [localhost]}"
    with Served(create_app(chosen, verifier=verifier()), chosen) as served:
        answer = served.client.post("/api/v1/apply", content=relay, headers=headers)
        assert answer.status_code == 200, answer.text
    with Served(create_app(chosen, verifier=verifier()), chosen) as again:
        trail = again.client.get("/api/v1/audit", headers=headers).json()["items"]
        assert trail[0]["actor"].startswith("ada (")
        verification = again.client.get("/api/v1/audit/verification", headers=headers).json()
        assert verification["valid"] is True


@pytest.mark.parametrize(
    "cursor",
    ["x", "bm9wZQ", "WzEsMl0", "WyJhIl0", "W3RydWVd", "e30", "W10", "WzFlMV0", "é", "W" * 900,
     "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OTld"],
)  # fmt: skip
def test_a_made_up_cursor_is_refused(client: httpx.Client, cursor: str) -> None:
    answer = client.get(
        "/api/v1/audit", params={"cursor": cursor}, headers=bearer(PrincipalKind.USER, *ADMIN)
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "cursor_invalid")


@pytest.mark.parametrize("limit", ["0", "201", "x", "-1"])
def test_a_limit_out_of_bounds_is_refused_without_repeating_it(
    client: httpx.Client, limit: str
) -> None:
    answer = client.get(
        "/api/v1/audit", params={"limit": limit}, headers=bearer(PrincipalKind.USER, *ADMIN)
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert answer.json()["errors"][0]["field"] == "query.limit"
    assert '"input"' not in answer.text


def test_unknown_paths_and_methods_are_problems_too(client: httpx.Client) -> None:
    missing = client.get("/nowhere")
    assert (missing.status_code, missing.json()["code"]) == (404, "no_such_route")
    wrong = client.delete("/healthz")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET"


def test_every_answer_has_security_headers_and_an_id(client: httpx.Client) -> None:
    for path in ("/healthz", "/nowhere", "/api/v1/me"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "max-age" in headers["strict-transport-security"]
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers
        assert "x-jitgate-development" not in headers
        assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])


def test_a_request_id_is_kept_if_it_is_harmless(client: httpx.Client) -> None:
    kept = client.get("/healthz", headers={"x-request-id": "abc-1"})
    assert kept.headers["x-request-id"] == "abc-1"
    replaced = client.get("/healthz", headers={"x-request-id": "a b"})
    assert re.fullmatch("[0-9a-f]{32}", replaced.headers["x-request-id"])


def test_a_request_that_is_too_large_is_refused_announced_or_not(client: httpx.Client) -> None:
    headers = bearer(PrincipalKind.USER, *ADMIN)
    announced = client.put("/api/v1/credentials/x", content=b"x" * 9_000_000, headers=headers)
    assert (announced.status_code, announced.json()["code"]) == (413, "request_too_large")

    def pieces() -> Iterator[bytes]:
        for _ in range(160):
            yield b"x" * 65536

    streamed = client.put("/api/v1/credentials/x", content=pieces(), headers=headers)
    assert (streamed.status_code, streamed.json()["code"]) == (413, "request_too_large")


def test_an_error_of_ours_is_a_problem_and_its_message_goes_nowhere(
    app: FastAPI, served: Served
) -> None:
    def broken() -> None:
        raise RuntimeError("hunter2")

    app.add_api_route("/broken", broken)
    with capture_logs() as logs:
        answer = served.client.get("/broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "hunter2" not in answer.text
    assert "hunter2" not in str(logs)
    failed = [entry for entry in logs if entry["event"] == "request failed"]
    assert failed[0]["error"] == "RuntimeError"
    assert failed[0]["place"].endswith("broken")


def test_a_response_that_breaks_off_is_logged_and_not_completed(
    app: FastAPI, served: Served
) -> None:
    def halves() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("hunter2")

    app.add_api_route("/half", lambda: StreamingResponse(halves()), response_model=None)
    with capture_logs() as logs, pytest.raises(httpx.RemoteProtocolError):
        served.client.get("/half")
    assert "hunter2" not in str(logs)


def test_a_database_that_is_away_is_unavailable_not_a_crash(served: Served) -> None:
    class Away:
        def connect(self) -> object:
            raise ConnectionError

    ready = served.client.get("/readyz")
    assert ready.status_code == 200
    served.app.state.database.engine, kept = Away(), served.app.state.database.engine
    try:
        answer = served.client.get("/readyz")
    finally:
        served.app.state.database.engine = kept
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert answer.headers["retry-after"] == "5"


def test_a_failing_query_is_unavailable(served: Served) -> None:
    with served.app.state.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_entries RENAME TO gone")
    answer = served.client.get("/api/v1/audit", headers=bearer(PrincipalKind.USER, *ADMIN))
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")


def test_the_log_holds_no_token_and_no_query(client: httpx.Client) -> None:
    headers = bearer(PrincipalKind.USER, *ADMIN)
    with capture_logs() as logs:
        client.get("/api/v1/audit", params={"subject": "hunter2"}, headers=headers)
        # The line is written when the answer is out already.
        eventually(lambda: any(entry["event"] == "request" for entry in logs))
    lines = [entry for entry in logs if entry["event"] == "request"]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("GET", "/api/v1/audit", 200)
    ]
    assert "hunter2" not in str(logs)
    assert "eyJ" not in str(logs)


def test_the_schema_is_valid_and_complete(app: FastAPI, client: httpx.Client) -> None:
    schema = client.get("/api/v1/openapi.json").json()
    validate(schema)
    seen: set[str] = set()
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            name = operation["operationId"]
            assert re.fullmatch("[a-z][A-Za-z]+", name), (path, name)
            assert name not in seen
            seen.add(name)
            assert operation.get("tags"), path
            assert operation.get("summary"), path
            if path in PUBLIC:
                continue
            assert operation["security"] == [{"entra": []}], path
            assert "401" in operation["responses"], (method, path)
            if path not in ANYBODY_AUTHENTICATED:
                assert "403" in operation["responses"], (method, path)
            for status, response in operation["responses"].items():
                if status.startswith(("4", "5")):
                    assert list(response["content"]) == ["application/problem+json"]
    assert "HTTPValidationError" not in schema["components"]["schemas"]


def test_no_route_shadows_another(app: FastAPI) -> None:
    for method, path in operations(app):
        scope = {"type": "http", "method": method, "path": concrete(path)}
        matching = [
            other
            for other, route in flat(list(app.router.routes))
            if method in route.methods
            and re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", other), concrete(path))
        ]
        assert matching[0] == path, (scope, matching, Match.FULL)
