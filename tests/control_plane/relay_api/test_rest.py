"""Credentials, sessions and approvals over HTTP, as people and programs use them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from protos.vocabulary import PrincipalKind
from tests.control_plane.relay_api.conftest import ADMIN, Plane, agent_token
from tests.control_plane.relay_api.relay import RelayClient
from tests.control_plane.tokens import bearer, guid
from tests.control_plane.world import APPROVERS, operation

ADA = bearer(PrincipalKind.USER, "jitgate.approver", name="ada", groups=(APPROVERS,))
BOB = bearer(PrincipalKind.USER, "jitgate.approver", name="bob", groups=(APPROVERS,))
CYD = bearer(PrincipalKind.USER, "jitgate.approver", name="cyd", groups=(guid("others"),))
ROBOT = bearer(PrincipalKind.APPLICATION, "jitgate.approver", name="robot", groups=(APPROVERS,))
AUDITOR = bearer(PrincipalKind.USER, "jitgate.auditor", name="eve")


@pytest.fixture
def asked(relay: RelayClient) -> str:
    """The id of an approval that waits."""
    return relay.ask(relay.open(agent_token()).session)[0].approval_id


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_a_password_goes_in_and_never_comes_out(plane: Plane) -> None:
    secret = "s3cr3t-horse"
    path = "/api/v1/credentials/db"
    answers = [
        plane.client.put(path, json={"username": "u", "password": secret}, headers=ADMIN),
        plane.client.put(path, json={"username": "", "password": secret}, headers=ADMIN),
        plane.client.put(path, json={"username": "u", "password": [secret]}, headers=ADMIN),
        plane.client.put(path, json={"user": secret, "password": secret}, headers=ADMIN),
        plane.client.put(path, content=f'{{"password": "{secret}"', headers=ADMIN),
        plane.get("/credentials/db"),
        plane.get("/credentials", AUDITOR),
        plane.get("/audit"),
    ]
    assert [answer.status_code for answer in answers] == [200, 422, 422, 422, 422, 200, 200, 200]
    assert not any(secret in answer.text for answer in answers)
    listed = answers[6].json()["items"]
    assert [(one["name"], one["username"]) for one in listed] == [
        ("db", "u"),
        ("orders-gateway", "app"),
    ]


def test_a_deleted_credential_opens_nothing(plane: Plane, relay: RelayClient) -> None:
    path = "/api/v1/credentials/orders-gateway"
    assert plane.client.delete(path, headers=AUDITOR).status_code == 403
    assert plane.client.delete(path, headers=ADMIN).status_code == 204
    assert problem(plane.client.delete(path, headers=ADMIN)) == (404, "credential_missing")
    assert relay.open(agent_token()).denied_code == "credential_unavailable"


def test_credentials_are_paged(plane: Plane) -> None:
    for name in ("a", "b", "c"):
        body = {"username": "u", "password": "p"}
        plane.client.put(f"/api/v1/credentials/{name}", json=body, headers=ADMIN)
    names, cursor = [], ""
    while True:
        page = plane.get(f"/credentials?limit=1{cursor}").json()
        names += [one["name"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert names == ["a", "b", "c", "orders-gateway"]


def test_sessions_are_listed_filtered_and_paged(plane: Plane, relay: RelayClient) -> None:
    opened = [relay.open(agent_token(name)).session for name in ("a", "b", "c")]
    seen, cursor = [], ""
    while True:
        page = plane.get(f"/sessions?limit=2{cursor}", AUDITOR).json()
        seen += [one["id"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == opened[::-1]
    found = plane.get(f"/sessions?principal={guid('b')}&state=open&target=orders").json()
    assert [one["id"] for one in found["items"]] == [opened[1]]
    assert found["items"][0]["principal"]["object_id"] == guid("b")
    assert plane.get("/sessions?since=2999-01-01T00:00:00Z").json()["items"] == []
    for query, expected in (
        ("cursor=x", "cursor_invalid"),
        ("cursor=WyJhIiwiYiJd", "cursor_invalid"),
        ("since=2026-01-01T00:00:00", "request_invalid"),
        ("state=odd", "request_invalid"),
        ("limit=0", "request_invalid"),
    ):
        assert problem(plane.get(f"/sessions?{query}")) == (422, expected), query
    assert plane.get("/sessions", ADA).status_code == 403
    assert problem(plane.get(f"/sessions/{'0' * 32}")) == (404, "session_not_found")


def test_who_may_see_an_approval_and_who_may_decide(plane: Plane, asked: str) -> None:
    path = f"/approvals/{asked}"
    assert [plane.get(path, who).status_code for who in (ADA, ADMIN, AUDITOR, CYD)] == [
        200,
        200,
        200,
        404,
    ]
    body = {"decision": "approve"}
    refusals = [
        problem(plane.post(f"{path}/decisions", body, who))
        for who in (CYD, ADMIN, AUDITOR, ROBOT, bearer(name="nobody"))
    ]
    assert refusals == [
        (404, "approval_not_found"),
        (403, "not_an_approver"),
        (403, "role_missing"),
        (403, "humans_only"),
        (403, "role_missing"),
    ]
    assert plane.get(path, ADA).json()["may_decide"]
    assert plane.post(f"{path}/decisions", body, ADA).json()["state"] == "approved"
    assert problem(plane.post(f"{path}/decisions", body, BOB)) == (409, "approval_not_pending")


def test_an_idempotency_key_makes_a_retry_safe(plane: Plane, asked: str) -> None:
    path = f"/approvals/{asked}/decisions"
    headers = ADA | {"Idempotency-Key": "one"}
    with ThreadPoolExecutor(4) as pool:
        body = {"decision": "deny", "reason": "no"}
        answers = list(pool.map(lambda _: plane.post(path, body, headers), range(4)))
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, answers[0].text)}
    other = plane.post(path, {"decision": "approve"}, headers)
    assert problem(other) == (422, "idempotency_key_reused")
    assert problem(plane.post(path, {"decision": "deny", "reason": "no"}, ADA))[0] == 409


def test_approvals_are_listed_for_those_who_may_decide_them(
    plane: Plane, relay: RelayClient
) -> None:
    session = relay.open(agent_token()).session
    ids = [relay.ask(session, operation(str(n)))[0].approval_id for n in range(5)]
    for query in ("limit=2", "limit=2&state=pending"):
        seen, cursor = [], ""
        while True:
            page = plane.get(f"/approvals?{query}{cursor}", ADA).json()
            seen += [one["id"] for one in page["items"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert sorted(seen) == sorted(ids), query
    assert plane.get("/approvals", CYD).json()["items"] == []
    assert plane.get("/approvals?state=denied", ADA).json()["items"] == []
    for cursor in ("x", "WyJhIiwiYiIsImMiXQ"):
        refused = plane.get(f"/approvals?state=pending&cursor={cursor}", ADA)
        assert problem(refused) == (422, "cursor_invalid")


def test_the_page_behind_an_approvals_url_shows_how_to_decide_and_nothing_else(
    plane: Plane, asked: str
) -> None:
    page = plane.client.get(f"/approvals/{asked}")
    assert page.status_code == 200
    assert f"jitgate approve {asked}" in page.text
    assert f"/api/v1/approvals/{asked}/decisions" in page.text
    assert "DELETE" not in page.text
    unknown = "apr_0000000000"
    assert plane.client.get(f"/approvals/{unknown}").text == page.text.replace(asked, unknown)
    for bad in ("apr_<script>", "x", "apr_0000000000%0aX"):
        assert plane.client.get(f"/approvals/{bad}").status_code == 404


class Feed:
    """A stream of events, read in a thread."""

    def __init__(self, plane: Plane, headers: dict[str, str]) -> None:
        self._client = plane.served.new_client()
        self._response = self._client.stream("GET", "/api/v1/events", headers=headers)
        self.response = self._response.__enter__()
        self._lines = self.response.iter_lines()

    def read(self, count: int) -> list[tuple[str, str, dict[str, object]]]:
        """The next events: id, kind, data."""
        found: list[tuple[str, str, dict[str, object]]] = []
        event: dict[str, str] = {}
        for line in self._lines:
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif "event" in event:
                found.append((event["id"], event["event"], json.loads(event["data"])))
                if len(found) == count:
                    return found
                event = {}
            else:
                event = {}
        return found

    def ready(self) -> None:
        """Wait until the stream has begun."""
        for line in self._lines:
            if line.startswith(": from"):
                return

    def close(self) -> None:
        """Hang up."""
        self._response.__exit__(None, None, None)
        self._client.close()


@pytest.fixture
def feeds() -> Iterator[list[Feed]]:
    """What is put in is closed at the end."""
    opened: list[Feed] = []
    yield opened
    for feed in opened:
        feed.close()


def test_events_arrive_as_they_happen_and_resume_where_they_stopped(
    plane: Plane, relay: RelayClient, feeds: list[Feed]
) -> None:
    for headers in (AUDITOR, ADA, CYD):
        feeds.append(Feed(plane, headers))
        feeds[-1].ready()
    assert feeds[0].response.headers["content-type"].startswith("text/event-stream")
    session = relay.open(agent_token()).session
    approval = relay.ask(session)[0].approval_id
    plane.post(f"/approvals/{approval}/decisions", {"decision": "approve"}, ADA)
    plane.post(f"/sessions/{session}/end", {"reason": "x"})

    everything = feeds[0].read(4)
    kinds = ["session.opened", "approval.created", "approval.decided", "session.closed"]
    assert [kind for _, kind, _ in everything] == kinds
    assert everything[1][2]["subject"] == approval
    assert everything[2][2]["by"]
    mine = feeds[1].read(2)
    assert [kind for _, kind, _ in mine] == kinds[1:3]

    feeds.append(Feed(plane, AUDITOR | {"Last-Event-ID": everything[1][0]}))
    assert feeds[3].read(2) == everything[2:]


def test_a_stream_needs_a_role_and_an_id_that_is_one(plane: Plane) -> None:
    assert plane.get("/events", bearer(name="nobody")).status_code == 403
    for bad in ("x", "-1", "9" * 19, "1.5"):
        answer = plane.get("/events", ADA | {"Last-Event-ID": bad})
        assert problem(answer)[0] == 422, bad
