"""The life of an approval, seen from the relay: asked, waited for, used, given up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from control_plane.approvals.holds import Asked, HoldRequest, Waiting
from control_plane.approvals.rules import ApprovalState, Choice
from control_plane.database import Database
from control_plane.errors import Conflict, Invalid, NotFound
from protos.vocabulary import ApprovalTerms, Outcome, Requirement, Scope, Verdict
from tests.control_plane.world import (
    APPROVERS,
    DOCUMENTS,
    Clock,
    World,
    human,
    operation,
    terms,
)

Result = TypeVar("Result")
ADA = human("ada", APPROVERS)


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path, Clock())


def at_once(count: int, work: Callable[[int], Result]) -> list[Result]:
    """Run ``work`` in so many threads that begin together."""
    start = threading.Barrier(count)

    def run(number: int) -> Result:
        start.wait(10)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def outcome(answer: Verdict | Waiting) -> str:
    return "waiting" if isinstance(answer, Waiting) else answer.code


def state(world: World, asked: Asked) -> ApprovalState:
    return world.approvals.get(asked.approval, ADA).state


def test_a_held_operation_waits_is_approved_and_runs_once(world: World) -> None:
    asked, hold = world.ask(world.open())
    assert asked.url == f"https://gate.example/approvals/{asked.approval}"
    assert outcome(world.look(asked, hold)) == "waiting"

    world.decide(asked, ADA, reason="ticket 4711")

    verdict = world.look(asked, hold)
    assert verdict == Verdict(
        Outcome.ALLOW,
        "approved",
        "ticket 4711",
        "analysts/destructive",
        approval_id=asked.approval,
        decided_by="ada",
    )
    assert state(world, asked) is ApprovalState.CONSUMED
    assert world.told()[-3:] == ["approval.created", "approval.decided", "approval.consumed"]


def test_telling_the_same_hold_again_uses_nothing_more(world: World) -> None:
    asked, hold = world.ask(world.open())
    world.decide(asked, ADA)
    first, second = world.look(asked, hold), world.look(asked, hold)
    assert first == second
    assert world.approvals.get(asked.approval, ADA).uses == 1


def test_asking_again_under_the_same_hold_gives_the_same_approval(world: World) -> None:
    session = world.open()
    first, hold = world.ask(session)
    assert world.ask(session, hold_id=hold)[0] == first
    assert world.told().count("approval.created") == 1


def test_one_hold_registered_by_two_calls_at_once_is_one_approval(world: World) -> None:
    session = world.open()
    found = at_once(4, lambda _: world.ask(session, hold_id="h" * 32)[0])
    assert len(set(found)) == 1


def test_a_hold_id_is_for_one_operation_of_one_session(world: World) -> None:
    session = world.open()
    _, hold = world.ask(session)
    with pytest.raises(Conflict, match="another operation"):
        world.ask(session, operation("DELETE FROM customers"), hold_id=hold)
    with pytest.raises(Conflict, match="another session"):
        world.ask(world.open(), hold_id=hold)


def test_a_denial_refuses_with_the_humans_reason(world: World) -> None:
    asked, hold = world.ask(world.open())
    world.decide(asked, ADA, Choice.DENY, "not on a Friday")
    verdict = world.look(asked, hold)
    assert isinstance(verdict, Verdict)
    assert (verdict.outcome, verdict.code) == (Outcome.REFUSE, "denied")
    assert (verdict.reason, verdict.decided_by) == ("not on a Friday", "ada")


def test_the_hold_runs_out_and_the_approval_goes_on(world: World) -> None:
    session = world.open()
    asked, hold = world.ask(session)
    world.clock.advance(300)
    verdict = world.look(asked, hold)
    assert isinstance(verdict, Verdict)
    assert (verdict.code, verdict.approval_id) == ("hold_expired", asked.approval)
    assert state(world, asked) is ApprovalState.PENDING

    world.decide(asked, ADA)
    # The operation that was refused doesn't run after all.
    assert outcome(world.look(asked, hold)) == "hold_expired"

    again, second = world.ask(session)
    assert again.approval == asked.approval
    assert outcome(world.look(again, second)) == "approved"
    assert state(world, asked) is ApprovalState.CONSUMED

    fresh, third = world.ask(session)
    assert fresh.approval != asked.approval
    assert outcome(world.look(fresh, third)) == "waiting"


def test_the_same_operation_sent_again_waits_for_the_approval_that_is_pending(
    world: World,
) -> None:
    session = world.open()
    asked, hold = world.ask(session)
    world.clock.advance(301)
    world.look(asked, hold)
    again, second = world.ask(session)
    assert again.approval == asked.approval
    assert world.approvals.get(asked.approval, ADA).held
    world.decide(asked, ADA)
    assert outcome(world.look(asked, hold)) == "hold_expired"
    assert outcome(world.look(again, second)) == "approved"


def test_two_equal_operations_at_the_same_time_are_two_approvals(world: World) -> None:
    session = world.open()
    assert world.ask(session)[0].approval != world.ask(session)[0].approval


def test_of_two_racing_resubmissions_one_gets_the_grant(world: World) -> None:
    session = world.open()
    asked, hold = world.ask(session)
    world.clock.advance(301)
    world.look(asked, hold)
    world.decide(asked, ADA)

    holds = at_once(4, lambda _: world.ask(session))
    answers = at_once(4, lambda number: outcome(world.look(*holds[number])))

    assert sorted(answers) == ["approved", "waiting", "waiting", "waiting"]
    assert len({one.approval for one, _ in holds}) == 4
    assert world.approvals.get(asked.approval, ADA).uses == 1


def test_one_hold_asked_about_by_many_calls_uses_the_grant_once(world: World) -> None:
    asked, hold = world.ask(world.open())
    world.decide(asked, ADA)
    answers = at_once(6, lambda _: outcome(world.look(asked, hold)))
    assert answers == ["approved"] * 6
    assert world.approvals.get(asked.approval, ADA).uses == 1


def test_a_grant_of_a_session_that_is_gone_can_be_used_in_the_next(world: World) -> None:
    session = world.open()
    asked, _ = world.ask(session)
    world.decide(asked, ADA)
    world.sessions.reconcile("relay-1", "boot-2", [])
    again, second = world.ask(world.open(boot="boot-2"))
    assert again.approval == asked.approval
    assert outcome(world.look(again, second)) == "approved"


@pytest.mark.parametrize("other", ["text", "principal", "target"])
def test_a_grant_is_for_equal_operations_of_the_same_principal_only(
    world: World, other: str
) -> None:
    session = world.open()
    asked, hold = world.ask(session)
    world.clock.advance(301)
    world.look(asked, hold)
    world.decide(asked, ADA)
    match other:
        case "text":
            fresh, _ = world.ask(session, operation("DELETE FROM orders "))
        case "principal":
            fresh, _ = world.ask(world.open("agent-two"))
        case _:
            same = replace(operation(), digest=b"t" * 32)
            fresh, _ = world.ask(session, same)
    assert fresh.approval != asked.approval


def test_a_grant_that_nobody_used_in_time_is_over(world: World) -> None:
    session = world.open()
    asked, hold = world.ask(session)
    world.clock.advance(301)
    world.look(asked, hold)
    world.decide(asked, ADA)
    world.clock.advance(3600)
    fresh, _ = world.ask(session)
    assert fresh.approval != asked.approval
    assert state(world, asked) is ApprovalState.EXPIRED


def test_an_approval_that_nobody_decided_in_time_is_over(world: World) -> None:
    asked, hold = world.ask(world.open(), by=terms(hold=60, validity=60))
    world.clock.advance(60)
    assert outcome(world.look(asked, hold)) == "approval_expired"
    assert "approval.expired" in world.told()


def test_a_withdrawn_operation_is_over_for_everybody(world: World) -> None:
    session = world.open()
    asked, hold = world.ask(session)
    world.holds.withdraw("relay-1", asked.approval, hold, "the agent hung up")
    world.holds.withdraw("relay-1", asked.approval, hold, "the agent hung up")
    assert outcome(world.look(asked, hold)) == "withdrawn"
    with pytest.raises(Conflict, match="withdrawn"):
        world.decide(asked, ADA)
    assert world.ask(session)[0].approval != asked.approval
    assert world.told().count("approval.withdrawn") == 1


def test_what_was_granted_stays_when_the_agent_hangs_up_before_it_ran(world: World) -> None:
    session = world.open()
    asked, hold = world.ask(session)
    world.decide(asked, ADA)
    world.holds.withdraw("relay-1", asked.approval, hold, "the agent hung up")
    assert outcome(world.look(asked, hold)) == "hold_expired"
    again, second = world.ask(session)
    assert outcome(world.look(again, second)) == "approved"


def test_a_decision_and_a_withdrawal_at_once_end_in_one_of_both(world: World) -> None:
    session = world.open()
    for _ in range(5):
        asked, hold = world.ask(session)

        def race(number: int, asked: Asked = asked, hold: str = hold) -> str:
            if number:
                world.holds.withdraw("relay-1", asked.approval, hold, "")
                return "withdrawn"
            try:
                world.decide(asked, ADA)
            except Conflict:
                return "too late"
            return "approved"

        said = at_once(2, race)
        expected = {"too late": ApprovalState.WITHDRAWN, "approved": ApprovalState.APPROVED}
        assert state(world, asked) is expected[said[0]]
        if said[0] == "approved":
            world.look(*world.ask(session))


def test_a_grant_for_the_session_is_used_as_often_as_the_session_likes(world: World) -> None:
    by = terms(validity=600, scopes=frozenset({Scope.ONCE, Scope.SESSION}))
    session = world.open()
    asked, hold = world.ask(session, by=by)
    world.decide(asked, ADA, scope=Scope.SESSION)
    assert outcome(world.look(asked, hold)) == "approved"
    world.clock.advance(1000)
    for _ in range(3):
        again, another = world.ask(session, by=by)
        assert again.approval == asked.approval
        assert outcome(world.look(again, another)) == "approved"
    assert world.approvals.get(asked.approval, ADA).uses == 4
    assert world.ask(world.open(), by=by)[0].approval != asked.approval


def test_a_grant_for_a_window_holds_in_other_sessions_until_the_window_ends(
    world: World,
) -> None:
    by = terms(validity=600, scopes=frozenset({Scope.WINDOW}))
    asked, hold = world.ask(world.open(), by=by)
    world.decide(asked, ADA, scope=Scope.WINDOW)
    assert outcome(world.look(asked, hold)) == "approved"
    again, another = world.ask(world.open(), by=by)
    assert (again.approval, outcome(world.look(again, another))) == (asked.approval, "approved")
    assert world.ask(world.open("agent-two"), by=by)[0].approval != asked.approval
    late, last = world.ask(world.open(), by=by)
    world.clock.advance(600)
    assert outcome(world.look(late, last)) == "approval_expired"
    assert world.ask(world.open(), by=by)[0].approval != asked.approval


def test_an_ended_session_runs_nothing_more(world: World) -> None:
    session = world.open()
    asked, hold = world.ask(session)
    world.decide(asked, ADA)
    world.sessions.end(session, "admin", "enough")
    assert outcome(world.look(asked, hold)) == "session_ended"
    with pytest.raises(Conflict, match="ended"):
        world.ask(session)


def test_a_relay_asks_for_its_own_sessions_and_holds_only(world: World) -> None:
    session = world.open()
    with pytest.raises(NotFound):
        world.ask(session, relay="relay-2")
    with pytest.raises(NotFound):
        world.ask("0" * 32)
    asked, hold = world.ask(session)
    other, second = world.ask(session, operation("DELETE FROM customers"))
    for relay, approval, one in (
        ("relay-2", asked.approval, hold),
        ("relay-1", other.approval, hold),
        ("relay-1", asked.approval, "x" * 32),
        ("relay-1", "apr_0000000000", hold),
    ):
        with pytest.raises(NotFound):
            world.holds.look(relay, approval, one)
        with pytest.raises(NotFound):
            world.holds.withdraw(relay, approval, one, "")
    assert outcome(world.look(other, second)) == "waiting"


def test_what_was_approved_for_one_relay_is_not_for_another(world: World) -> None:
    served_by_any = DOCUMENTS.replace(", relays: [relay-1]", "")
    assert world.documents.apply(served_by_any, "test").changes
    asked, hold = world.ask(world.open())
    world.clock.advance(400)
    world.look(asked, hold)
    world.decide(asked, ADA)
    elsewhere = world.open(relay="relay-2")
    other, second = world.ask(elsewhere, relay="relay-2")
    assert other.approval != asked.approval
    assert outcome(world.holds.look("relay-2", other.approval, second)) == "waiting"
    again, third = world.ask(world.open())
    assert again.approval == asked.approval
    assert outcome(world.look(again, third)) == "approved"


@pytest.mark.parametrize(
    "bad",
    [
        ApprovalTerms(()),
        ApprovalTerms((Requirement("p/r", frozenset()),)),
        ApprovalTerms((Requirement("p/r", frozenset({APPROVERS}), 0),)),
        terms(hold=0),
        terms(validity=10**9),
    ],
)
def test_terms_that_nobody_could_meet_are_refused(world: World, bad: ApprovalTerms) -> None:
    with pytest.raises(Invalid):
        world.ask(world.open(), by=bad)


def test_what_could_not_be_approved_with_open_eyes_is_refused(world: World) -> None:
    session = world.open()
    for what in (
        replace(operation(), digest=b""),
        replace(operation(), text="x" * (1 << 20 | 1)),
    ):
        with pytest.raises(Invalid):
            world.ask(session, what)
    with pytest.raises(Invalid):
        world.ask(session, hold_id="short")
    allowed = Verdict(Outcome.ALLOW, "allowed_by_rule", "")
    with pytest.raises(Invalid):
        world.holds.request("relay-1", HoldRequest("h" * 32, session, operation(), allowed, "v1"))
