"""Sessions: who gets one, what a denial says and doesn't, and how they end."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from control_plane.database import Database
from control_plane.errors import Conflict, NotFound
from control_plane.sessions.models import SessionState
from control_plane.sessions.service import Denial, Opened, SessionFilter
from protos.vocabulary import Credential, PrincipalKind
from tests.control_plane.tokens import guid
from tests.control_plane.world import ANALYSTS, Clock, World


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path, Clock())


def open_(world: World, token: str, target: str = "orders", **changes: str) -> Opened | Denial:
    asked = {"protocol": "postgres", "relay": "relay-1"} | changes
    return world.sessions.open(
        token, target, asked["protocol"], "10.0.0.7:5432", asked["relay"], "boot-1"
    )


def test_a_permitted_agent_gets_a_session_and_the_relay_the_credential(world: World) -> None:
    opened = open_(world, world.token("agent-one"))
    assert isinstance(opened, Opened)
    assert opened.credential == Credential("app", "hunter2")
    assert (opened.target.name, opened.target.port) == ("orders", 5432)
    assert opened.principal.object_id == guid("agent-one")
    assert opened.principal.kind is PrincipalKind.AGENT
    row = world.sessions.get(opened.session)
    assert (row.state, row.relay, row.client_address) == ("open", "relay-1", "10.0.0.7:5432")
    assert world.told() == ["session.opened"]
    assert "hunter2" not in repr(opened)


def test_a_session_ends_with_the_token_and_at_the_latest_with_the_limit(world: World) -> None:
    at = int(world.clock().timestamp())
    short = open_(world, world.token())
    long = open_(world, world.token(exp=at + 86_400))
    assert isinstance(short, Opened)
    assert isinstance(long, Opened)
    assert (short.expires_at, long.expires_at) == (at + 3600, at + 8 * 3600)


def test_an_unknown_and_a_forbidden_target_cannot_be_told_apart(world: World) -> None:
    intern = world.token("intern", guid("interns"))
    answers = [
        open_(world, intern, "orders"),
        open_(world, intern, "nowhere"),
        open_(world, intern, "orders", protocol="mysql"),
        open_(world, intern, "orders", relay="relay-2"),
        open_(world, world.token(), "vault"),
        open_(world, world.token(), "nowhere"),
        open_(world, world.token(), "no\0where'; --"),
        open_(world, world.token(), "x" * 100_000),
    ]
    assert {str(answer) for answer in answers} == {
        str(Denial("target_not_available", "there is no such target that you may use"))
    }


def test_the_audit_trail_keeps_why_it_was_denied(world: World) -> None:
    open_(world, world.token("intern", guid("interns")))
    open_(world, world.token(), "nowhere")
    open_(world, "garbage")
    found = [(actor, json.loads(d)) for action, actor, d in world.audited() if "denied" in action]
    assert [details["cause"] for _, details in found[:2]] == [
        "no_policy_applies",
        "target_unknown",
    ]
    assert guid("intern") in found[0][0]
    assert found[2][0] == "unauthenticated"
    assert found[2][1]["code"] == found[2][1]["cause"] == "token_malformed"


def test_who_may_use_a_target_is_told_what_is_wrong(world: World) -> None:
    found = [
        open_(world, world.token(), relay="relay-2"),
        open_(world, world.token(), protocol="mysql"),
        open_(world, world.token(), "empty"),
    ]
    assert [one.code for one in found if isinstance(one, Denial)] == [
        "wrong_relay",
        "wrong_protocol",
        "credential_unavailable",
    ]


def test_an_expired_or_malformed_token_gets_nothing(world: World) -> None:
    at = int(world.clock().timestamp())
    for token, code in (
        (world.token(iat=at - 900, nbf=at - 900, exp=at - 600), "token_expired"),
        ("a.b", "token_malformed"),
    ):
        denied = open_(world, token)
        assert isinstance(denied, Denial)
        assert denied.code == code
    assert world.told() == []


def test_an_administrator_ends_a_session_and_its_relay_is_told_until_it_obeys(
    world: World,
) -> None:
    session = world.open()
    world.sessions.end(session, "admin (1)", "enough")
    assert [one.session for one in world.sessions.to_end("relay-1")] == [session]
    assert world.sessions.to_end("relay-2") == ()
    with pytest.raises(Conflict):
        world.sessions.end(session, "admin (1)", "again")
    with world.database.transaction() as transaction:
        world.sessions.close(transaction, session, world.clock(), "ended", "")
    assert world.sessions.to_end("relay-1") == ()
    row = world.sessions.get(session)
    assert (row.state, row.end_reason, row.ended_by) == ("ended", "enough", "admin (1)")
    assert row.closed_at == world.clock()


def test_what_does_not_exist_cannot_be_ended(world: World) -> None:
    with pytest.raises(NotFound):
        world.sessions.end("0" * 32, "admin", "x")


def test_sessions_that_a_restarted_relay_no_longer_has_are_interrupted(world: World) -> None:
    gone, kept, other = world.open(), world.open(), world.open(relay="relay-1")
    assert world.sessions.reconcile("relay-1", "boot-2", [kept]) == ()
    states = {id_: world.sessions.get(id_).state for id_ in (gone, kept, other)}
    assert states == {gone: "interrupted", kept: "open", other: "interrupted"}
    assert world.told().count("session.closed") == 2


def test_a_session_that_the_relay_may_be_opening_right_now_is_left_alone(world: World) -> None:
    session = world.open()
    world.sessions.reconcile("relay-1", "boot-1", [])
    assert world.sessions.get(session).state == "open"
    world.clock.advance(31)
    world.sessions.reconcile("relay-1", "boot-1", [])
    assert world.sessions.get(session).state == "interrupted"


def test_an_interrupted_session_that_comes_back_is_open_again(world: World) -> None:
    session = world.open()
    world.sessions.reconcile("relay-1", "boot-2", [])
    world.sessions.reconcile("relay-1", "boot-1", [session])
    row = world.sessions.get(session)
    assert (row.state, row.closed_at, row.end_code) == ("open", None, "")


def test_a_relay_is_told_to_end_what_is_not_its_own(world: World) -> None:
    mine, stranger = world.open(), "f" * 32
    ended = world.sessions.reconcile("relay-2", "boot-1", [mine, stranger])
    assert {one.session for one in ended} == {mine, stranger}
    assert world.sessions.get(mine).state == "open"


def test_a_relay_that_forgot_an_ended_session_has_obeyed(world: World) -> None:
    session = world.open()
    world.sessions.end(session, "admin", "enough")
    world.sessions.reconcile("relay-1", "boot-2", [])
    assert world.sessions.to_end("relay-1") == ()
    assert world.sessions.get(session).state == "ended"


def test_a_session_that_a_relay_never_closed_is_given_up_long_after_its_end(
    world: World,
) -> None:
    session = world.open()
    world.clock.advance(2 * 3600 - 1)
    assert world.sessions.sweep() == 0
    world.clock.advance(2)
    assert (world.sessions.sweep(), world.sessions.sweep()) == (1, 0)
    assert world.sessions.get(session).state == "interrupted"


def test_sessions_are_found_by_what_is_known_of_them(world: World) -> None:
    first = world.open("agent-one")
    world.clock.advance(60)
    second = world.open("agent-two")
    world.sessions.end(first, "admin", "x")

    def found(**wanted: object) -> list[str]:
        rows = world.sessions.page(SessionFilter(**wanted), None, 10)  # type: ignore[arg-type]
        return [row.id for row in rows]

    assert found() == [second, first]
    assert found(state=SessionState.ENDED) == [first]
    assert found(principal=guid("agent-two")) == [second]
    assert found(target="vault") == []
    assert found(since=world.clock() - timedelta(seconds=1)) == [second]
    page = world.sessions.page(SessionFilter(), None, 1)
    rest = world.sessions.page(SessionFilter(), (page[0].opened_at, page[0].id), 1)
    assert [page[0].id, rest[0].id] == [second, first]


def test_a_policy_that_ran_out_opens_nothing(world: World) -> None:
    world.documents.apply(
        f"""
apiVersion: jitgate/v1
kind: Policy
metadata: {{name: analysts}}
spec:
  subjects: [{{groups: [{ANALYSTS}]}}]
  targets: {{names: [orders]}}
  not_after: 2026-03-01T12:00:10Z
  rules: [{{name: read, outcome: allow, risks: [read]}}]
""",
        "test",
    )
    assert isinstance(open_(world, world.token()), Opened)
    world.clock.advance(10)
    assert isinstance(open_(world, world.token()), Denial)
