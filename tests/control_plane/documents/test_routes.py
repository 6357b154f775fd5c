from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from control_plane.documents.reader import MAX_BYTES
from protos.vocabulary import PrincipalKind
from tests.control_plane.documents.house import ALL, POLICY, RELAY, TARGET
from tests.control_plane.serving import Served
from tests.control_plane.tokens import bearer

YAML = {"Content-Type": "application/yaml"}
ROUTES = [
    ("POST", "/apply"),
    ("POST", "/diff"),
    ("GET", "/relays"),
    ("GET", "/relays/relay-1"),
    ("GET", "/relays/relay-1/history"),
    ("GET", "/relays/relay-1/history/1"),
    ("POST", "/relays/relay-1/rollback"),
    ("DELETE", "/relays/relay-1"),
    ("POST", "/relays/relay-1/join-tokens"),
    ("POST", "/relays/relay-1/revoke"),
    ("GET", "/relays/relay-1/state"),
    ("POST", "/explain"),
]


@pytest.fixture
def admin(served: Served) -> Iterator[httpx.Client]:
    with served.new_client(**bearer(PrincipalKind.USER, "jitgate.admin")) as client:
        client.base_url = f"{served.url}/api/v1"
        yield client


@pytest.fixture
def auditor(served: Served) -> Iterator[httpx.Client]:
    with served.new_client(**bearer(PrincipalKind.USER, "jitgate.auditor")) as client:
        client.base_url = f"{served.url}/api/v1"
        yield client


def _apply(client: httpx.Client, text: str, **parameters: Any) -> dict[str, Any]:
    answer = client.post("/apply", content=text, headers=YAML, params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == code, problem
    return problem


def test_documents_are_applied_listed_and_read_back(admin: httpx.Client) -> None:
    result = _apply(admin, ALL)
    assert result["dry_run"] is False
    assert [(one["kind"], one["name"], one["action"]) for one in result["changes"]] == [
        ("Target", "orders", "created"),
        ("Policy", "agents", "created"),
        ("Masking", "cards", "created"),
        ("Relay", "relay-1", "created"),
    ]
    assert "Target/orders: there is no credential orders-gateway yet" in result["warnings"]
    for plural, name in [
        ("targets", "orders"),
        ("policies", "agents"),
        ("maskings", "cards"),
        ("relays", "relay-1"),
    ]:
        page = admin.get(f"/{plural}").json()
        assert [item["name"] for item in page["items"]] == [name]
        assert page["next"] is None
        item = admin.get(f"/{plural}/{name}")
        assert item.headers["etag"] == '"1"'
        assert item.json() == page["items"][0]
        assert item.json()["document"]["metadata"]["name"] == name
        assert item.json()["author"].startswith("ada (")


def test_yaml_is_given_back_as_it_was_sent(admin: httpx.Client) -> None:
    text = "# ours\n" + RELAY
    _apply(admin, text)
    answer = admin.get("/relays/relay-1", headers={"Accept": "application/yaml"})
    assert answer.text == text
    assert answer.headers["content-type"].startswith("application/yaml")
    assert answer.headers["etag"] == '"1"'


def test_json_may_carry_documents_and_a_message(admin: httpx.Client) -> None:
    answer = admin.post("/apply", json={"documents": RELAY, "message": "first"})
    assert answer.status_code == 200
    assert admin.get("/relays/relay-1").json()["message"] == "first"
    changed = json.dumps(
        {
            "apiVersion": "jitgate/v1",
            "kind": "Relay",
            "metadata": {"name": "relay-1"},
            "spec": {"hosts": ["here"]},
        }
    )
    assert _apply(admin, changed, message="second")["changes"][0]["revision"] == 2
    assert admin.get("/relays/relay-1").json()["message"] == "second"


def test_mistakes_are_answered_with_their_places(admin: httpx.Client) -> None:
    text = TARGET + "---\n" + POLICY.replace("outcome: allow", "outcome: alow")
    problem = _problem(admin.post("/apply", content=text, headers=YAML), 422, "document_invalid")
    (error,) = problem["errors"]
    assert (error["document"], error["line"], error["column"]) == (2, 18, 16)
    assert problem["detail"].startswith("line 18, column 16: spec.rules[0].outcome:")
    _problem(admin.get("/targets/orders"), 404, "document_unknown")


@pytest.mark.parametrize(
    ("content", "media", "code"),
    [
        (b"{", "application/json", "request_invalid"),
        (b"[]", "application/json", "request_invalid"),
        (b'{"documents": 1}', "application/json; charset=utf-8", "request_invalid"),
        (b'{"documents": "", "more": 1}', "application/json", "request_invalid"),
        (b'{"documents": "\\ud800"}', "application/json", "request_invalid"),
        (b'{"documents": "", "message": "\\u0000"}', "application/json", "request_invalid"),
        (b'{"documents": ""}', "application/json", "document_missing"),
        (b"", "application/yaml", "document_missing"),
        (b"\xff\xfe", "text/plain", "document_invalid"),
        (b"\0" * 10, "application/octet-stream", "document_invalid"),
        (b"#" * (MAX_BYTES + 1), "application/yaml", "document_too_large"),
    ],
)
def test_what_is_no_document_is_refused(
    admin: httpx.Client, content: bytes, media: str, code: str
) -> None:
    answer = admin.post("/apply", content=content, headers={"Content-Type": media})
    _problem(answer, 422, code)


def test_a_dry_run_and_a_diff_change_nothing(admin: httpx.Client, auditor: httpx.Client) -> None:
    planned = _apply(admin, RELAY, dry_run=True)
    assert planned["dry_run"] is True
    assert planned["changes"][0]["action"] == "created"
    compared = auditor.post("/diff", content=RELAY, headers=YAML)
    assert compared.json() == planned
    assert admin.get("/relays").json()["items"] == []


def test_history_is_walked_newest_first_and_rolled_back(admin: httpx.Client) -> None:
    for host in ("a", "b", "c"):
        _apply(admin, RELAY.replace("localhost", host))
    page = admin.get("/relays/relay-1/history", params={"limit": 2}).json()
    assert [item["revision"] for item in page["items"]] == [3, 2]
    rest = admin.get("/relays/relay-1/history", params={"limit": 2, "cursor": page["next"]})
    assert [item["revision"] for item in rest.json()["items"]] == [1]
    assert rest.json()["next"] is None
    second = admin.get("/relays/relay-1/history/2").json()
    assert second["document"]["spec"]["hosts"] == ["127.0.0.1", "b"]
    assert "-  - a\n+  - b\n" in second["diff"]
    answer = admin.post("/relays/relay-1/rollback", json={"revision": 1, "message": "back"})
    (change,) = answer.json()["changes"]
    assert (change["action"], change["revision"]) == ("rolled_back", 4)
    assert admin.get("/relays/relay-1").json()["document"]["spec"]["hosts"] == ["127.0.0.1", "a"]
    _problem(admin.get("/relays/relay-1/history/9"), 404, "revision_unknown")
    _problem(admin.post("/relays/relay-1/rollback", json={"revision": 9}), 404, "revision_unknown")


def test_deleting_leaves_the_history(admin: httpx.Client) -> None:
    _apply(admin, RELAY)
    assert admin.delete("/relays/relay-1", params={"message": "gone"}).json()["action"] == "deleted"
    _problem(admin.get("/relays/relay-1"), 404, "document_unknown")
    _problem(admin.delete("/relays/relay-1"), 404, "document_unknown")
    newest = admin.get("/relays/relay-1/history").json()["items"][0]
    assert (newest["action"], newest["message"]) == ("deleted", "gone")
    detail = admin.get("/relays/relay-1/history/2").json()
    assert detail["document"] is None
    assert "+++ /dev/null" in detail["diff"]


@pytest.mark.parametrize(
    ("header", "ok"), [('"1"', True), ("1", True), ("*", True), ('"2"', False)]
)
def test_if_match_guards_against_another_change(admin: httpx.Client, header: str, ok: bool) -> None:
    _apply(admin, RELAY)
    changed = RELAY.replace("localhost", "here")
    answer = admin.post("/apply", content=changed, headers={**YAML, "If-Match": header})
    if ok:
        assert answer.json()["changes"][0]["revision"] == 2
    else:
        _problem(answer, 409, "revision_changed")
        _problem(
            admin.delete("/relays/relay-1", headers={"If-Match": header}), 409, "revision_changed"
        )


def test_an_if_match_that_is_no_revision_is_refused(admin: httpx.Client) -> None:
    answer = admin.post("/apply", content=RELAY, headers={**YAML, "If-Match": 'W/"x"'})
    _problem(answer, 422, "if_match_invalid")


def test_lists_are_paged_by_name(admin: httpx.Client) -> None:
    _apply(admin, "---\n".join(RELAY.replace("relay-1", f"r{number}") for number in range(5)))
    names: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = admin.get("/relays", params={"limit": 2, **cursor}).json()
        names += [item["name"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert names == [f"r{number}" for number in range(5)]
    _problem(admin.get("/relays", params={"cursor": "nonsense"}), 422, "cursor_invalid")


@pytest.mark.parametrize("name", ["Orders", "a%00b", "a%20b", "a" * 64, "%ED%A0%80"])
def test_a_name_that_can_not_be_is_refused(admin: httpx.Client, name: str) -> None:
    _problem(admin.get(f"/relays/{name}"), 422, "request_invalid")


def test_a_relay_joins_by_the_token_that_was_shown_once(
    admin: httpx.Client, served: Served
) -> None:
    _apply(admin, RELAY)
    assert admin.get("/relays/relay-1/state").json()["state"] == "new"
    answer = admin.post("/relays/relay-1/join-tokens", json={"expires_in": 60})
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json()["join_token"]
    enrolment = served.app.state.relays.enrol(join_token=token, version="0.1.0")
    state = admin.get("/relays/relay-1/state").json()
    assert (state["state"], state["version"]) == ("joined", "0.1.0")
    assert token not in str(admin.get("/audit").json())
    assert admin.post("/relays/relay-1/revoke", json={"reason": "lost"}).status_code == 204
    assert admin.post("/relays/relay-1/revoke").status_code == 204
    assert admin.get("/relays/relay-1/state").json()["state"] == "revoked"
    assert enrolment.credential not in str(admin.get("/audit").json())
    assert admin.post("/relays/relay-1/join-tokens").status_code == 201
    _problem(
        admin.post("/relays/relay-1/join-tokens", json={"expires_in": 86_401}),
        422,
        "request_invalid",
    )
    for path in ("join-tokens", "revoke"):
        _problem(admin.post(f"/relays/other/{path}"), 404, "document_unknown")
    _problem(admin.get("/relays/other/state"), 404, "document_unknown")


def test_nothing_is_explained_while_no_relay_is_connected(admin: httpx.Client) -> None:
    asked = {"target": "orders", "statement": "SELECT 1"}
    _problem(admin.post("/explain", json=asked), 404, "target_unknown")
    _apply(admin, TARGET)
    _problem(admin.post("/explain", json=asked), 503, "no_relay_connected")
    _problem(admin.post("/explain", json={**asked, "groups": ["x"]}), 422, "request_invalid")
    _problem(admin.post("/explain", json={**asked, "statement": "\0"}), 422, "request_invalid")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_asks_who_calls(served: Served, method: str, path: str) -> None:
    with served.new_client() as nobody:
        nobody.base_url = f"{served.url}/api/v1"
        _problem(nobody.request(method, path), 401, "token_missing")
    with served.new_client(**bearer(PrincipalKind.USER, "jitgate.approver")) as approver:
        approver.base_url = f"{served.url}/api/v1"
        _problem(approver.request(method, path), 403, "role_missing")


@pytest.mark.parametrize(
    ("method", "path"),
    [route for route in ROUTES if route[0] != "GET" and route[1] not in ("/diff", "/explain")],
)
def test_who_may_only_read_changes_nothing(auditor: httpx.Client, method: str, path: str) -> None:
    _problem(auditor.request(method, path), 403, "role_missing")


def test_an_auditor_reads(admin: httpx.Client, auditor: httpx.Client) -> None:
    _apply(admin, RELAY)
    for method, path in ROUTES:
        if method == "GET":
            assert auditor.get(path).status_code == 200
