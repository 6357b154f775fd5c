"""Who may decide, what decisions amount to, and that none is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from control_plane.approvals.rules import ApprovalState, Choice
from control_plane.approvals.service import Human, Place
from control_plane.database import Database
from control_plane.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from protos.vocabulary import Principal, PrincipalKind, Requirement, Scope
from tests.control_plane.tokens import TENANT, guid
from tests.control_plane.world import (
    APPROVERS,
    OWNERS,
    Clock,
    World,
    human,
    operation,
    terms,
)

Result = TypeVar("Result")
ADA, BOB, CYD = human("ada", APPROVERS), human("bob", APPROVERS), human("cyd", OWNERS)
BOTH = human("dan", APPROVERS, OWNERS)
ADMIN = human("root", sees_all=True)
TWO = Requirement("p/two", frozenset({APPROVERS}), 2)
OWNER = Requirement("p/owner", frozenset({OWNERS}))


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path, Clock())


def at_once(work: list[Callable[[], Result]]) -> list[Result | str]:
    """Run all in threads that begin together; an error is its code."""
    start = threading.Barrier(len(work))

    def run(one: Callable[[], Result]) -> Result | str:
        start.wait(10)
        try:
            return one()
        except DomainError as error:
            return error.code

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(run, work))


def test_two_approvers_are_two_humans(world: World) -> None:
    asked, _ = world.ask(world.open(), by=terms(TWO))
    first = world.decide(asked, ADA)
    assert (first.state, first.requirements[0].approved_by) == (ApprovalState.PENDING, ["ada"])
    with pytest.raises(Conflict) as again:
        world.decide(asked, ADA)
    assert again.value.code == "already_decided"
    assert world.decide(asked, BOB).state is ApprovalState.APPROVED


def test_one_human_counts_toward_every_requirement_of_their_groups(world: World) -> None:
    asked, _ = world.ask(world.open(), by=terms(TWO, OWNER))
    found = world.decide(asked, BOTH)
    assert [one.met for one in found.requirements] == [False, True]
    with pytest.raises(Conflict) as met:
        world.decide(asked, CYD)
    assert met.value.code == "requirement_met"
    assert world.decide(asked, ADA).state is ApprovalState.APPROVED


def test_concurrent_decisions_are_all_counted(world: World) -> None:
    by = terms(Requirement("p/many", frozenset({APPROVERS}), 4))
    asked, _ = world.ask(world.open(), by=by)
    people = [human(f"h{number}", APPROVERS) for number in range(4)]
    at_once([lambda who=who: world.decide(asked, who) for who in people])  # type: ignore[misc]
    found = world.approvals.get(asked.approval, ADMIN)
    assert found.state is ApprovalState.APPROVED
    assert sorted(one.name for one in found.decisions) == ["h0", "h1", "h2", "h3"]


def test_of_an_approval_and_a_denial_at_once_exactly_one_decides(world: World) -> None:
    session = world.open()
    for number in range(5):
        asked, _ = world.ask(session, operation(f"DELETE FROM t{number}"))
        said = at_once(
            [
                lambda asked=asked: world.decide(asked, ADA).state,  # type: ignore[misc]
                lambda asked=asked: world.decide(asked, BOB, Choice.DENY).state,  # type: ignore[misc]
            ]
        )
        found = world.approvals.get(asked.approval, ADMIN)
        assert len(found.decisions) == 1
        assert sorted(map(str, said)) == sorted(["approval_not_pending", found.state])


def test_one_human_deciding_twice_at_once_is_counted_once(world: World) -> None:
    asked, _ = world.ask(world.open(), by=terms(TWO))
    said = at_once([lambda: world.decide(asked, ADA).state] * 4)
    assert sorted(map(str, said)) == ["already_decided"] * 3 + ["pending"]


def test_any_denial_ends_it(world: World) -> None:
    asked, _ = world.ask(world.open(), by=terms(TWO, OWNER))
    world.decide(asked, ADA)
    assert world.decide(asked, CYD, Choice.DENY, "no").state is ApprovalState.DENIED
    with pytest.raises(Conflict) as late:
        world.decide(asked, BOB)
    assert late.value.code == "approval_not_pending"


@pytest.mark.parametrize("kind", [k for k in PrincipalKind if k is not PrincipalKind.USER])
def test_machines_never_decide(world: World, kind: PrincipalKind) -> None:
    asked, _ = world.ask(world.open())
    with pytest.raises(Forbidden) as refused:
        world.decide(asked, human("robot", APPROVERS, sees_all=True, kind=kind))
    assert refused.value.code == "humans_only"


def test_who_is_in_none_of_the_groups_does_not_even_see_it(world: World) -> None:
    asked, _ = world.ask(world.open())
    for act in (
        lambda: world.decide(asked, CYD),
        lambda: world.approvals.get(asked.approval, CYD),
    ):
        with pytest.raises(NotFound):
            act()
    assert world.approvals.page(None, CYD, None, 10) == ([], None)


def test_an_administrator_outside_the_groups_sees_and_may_not_approve(world: World) -> None:
    asked, _ = world.ask(world.open())
    assert not world.approvals.get(asked.approval, ADMIN).may_decide
    with pytest.raises(Forbidden) as refused:
        world.decide(asked, ADMIN)
    assert refused.value.code == "not_an_approver"


def requester(name: str = "agent-one") -> Human:
    who = Principal(
        TENANT, guid(name), guid("cli"), PrincipalKind.USER, name, groups=frozenset({APPROVERS})
    )
    return Human(who, name)


def test_nobody_approves_or_denies_their_own_request(world: World) -> None:
    asked, _ = world.ask(world.open("agent-one"))
    assert not world.approvals.get(asked.approval, requester()).may_decide
    for choice in Choice:
        with pytest.raises(Forbidden) as refused:
            world.decide(asked, requester(), choice)
        assert refused.value.code == "self_approval"


def test_terms_can_permit_self_approval(world: World) -> None:
    asked, _ = world.ask(world.open("agent-one"), by=terms(self_approval=True))
    assert world.decide(asked, requester()).state is ApprovalState.APPROVED


def test_the_same_object_id_in_another_tenant_is_somebody_else(world: World) -> None:
    asked, _ = world.ask(world.open("agent-one"))
    who = Principal(
        guid("other tenant"),
        guid("agent-one"),
        guid("cli"),
        PrincipalKind.USER,
        groups=frozenset({APPROVERS}),
    )
    assert world.decide(asked, Human(who, "x")).state is ApprovalState.APPROVED


def test_a_reason_is_required_where_the_terms_say_so(world: World) -> None:
    asked, _ = world.ask(world.open(), by=terms(reason_required=True))
    for choice in Choice:
        with pytest.raises(Invalid) as refused:
            world.decide(asked, ADA, choice, "  ")
        assert refused.value.code == "reason_required"
    assert world.decide(asked, ADA, reason="ok").state is ApprovalState.APPROVED


def test_only_the_scopes_that_the_terms_offer_can_be_granted(world: World) -> None:
    asked, _ = world.ask(world.open(), by=terms(scopes=frozenset({Scope.ONCE, Scope.SESSION})))
    for choice, scope in ((Choice.APPROVE, Scope.WINDOW), (Choice.DENY, Scope.ONCE)):
        with pytest.raises(Invalid) as refused:
            world.decide(asked, ADA, choice, scope=scope)
        assert refused.value.code == "scope_not_offered"
    assert world.decide(asked, ADA, scope=Scope.SESSION).scope is Scope.SESSION


def test_a_decision_after_the_end_comes_too_late(world: World) -> None:
    asked, _ = world.ask(world.open())
    world.clock.advance(3600)
    with pytest.raises(Conflict, match="expired"):
        world.decide(asked, ADA)


def test_a_retry_under_the_same_key_is_the_same_decision(world: World) -> None:
    asked, hold = world.ask(world.open(), by=terms(TWO))
    first = world.decide(asked, ADA, reason="ok", key="k1")
    world.decide(asked, BOB)
    world.look(asked, hold)
    assert world.decide(asked, ADA, reason="ok", key="k1") == first
    assert len(world.approvals.get(asked.approval, ADA).decisions) == 2
    for reason, choice in (("other", Choice.APPROVE), ("ok", Choice.DENY)):
        with pytest.raises(Invalid) as refused:
            world.decide(asked, ADA, choice, reason, key="k1")
        assert refused.value.code == "idempotency_key_reused"


def test_another_human_may_use_the_same_key(world: World) -> None:
    asked, _ = world.ask(world.open(), by=terms(TWO))
    world.decide(asked, ADA, key="k1")
    assert world.decide(asked, BOB, key="k1").state is ApprovalState.APPROVED


def test_one_key_on_two_approvals_at_once_decides_one(world: World) -> None:
    session = world.open()
    both = [world.ask(session, operation(f"DELETE FROM t{n}"))[0] for n in range(2)]
    said = at_once(
        [lambda one=one: world.decide(one, ADA, key="k").state for one in both]  # type: ignore[misc]
    )
    assert sorted(map(str, said)) == ["approved", "idempotency_key_reused"]


def test_racing_retries_under_one_key_all_get_the_one_answer(world: World) -> None:
    asked, _ = world.ask(world.open(), by=terms(TWO))
    said = at_once([lambda: world.decide(asked, ADA, key="k").model_dump_json()] * 4)
    assert len(set(said)) == 1
    assert len(world.approvals.get(asked.approval, ADA).decisions) == 1


def test_keys_are_forgotten_after_a_day(world: World) -> None:
    asked, _ = world.ask(world.open(), by=terms(TWO))
    world.decide(asked, ADA, key="k1")
    world.clock.advance(90_000)
    world.approvals.sweep()
    with pytest.raises(Conflict):
        world.decide(asked, ADA, key="k1")


def test_the_sweep_writes_down_what_expired_once(world: World) -> None:
    session = world.open()
    world.ask(session)
    granted, _ = world.ask(session, operation("x"))
    world.decide(granted, ADA)
    kept, hold = world.ask(session, operation("y"), by=terms(scopes=frozenset({Scope.SESSION})))
    world.decide(kept, ADA, scope=Scope.SESSION)
    world.look(kept, hold)
    assert world.approvals.sweep() == 0
    world.clock.advance(3600)
    assert world.approvals.sweep() == 2
    assert world.approvals.sweep() == 0
    assert world.told().count("approval.expired") == 2


def test_every_decision_is_in_the_audit_trail(world: World) -> None:
    asked, _ = world.ask(world.open(), by=terms(TWO))
    world.decide(asked, ADA, reason="ticket")
    world.decide(asked, BOB, Choice.DENY, "no")
    found = [entry for entry in world.audited() if entry[0] == "approval.decided"]
    assert [actor for _, actor, _ in found] == [ADA.label, BOB.label]
    assert '"decision":"deny"' in found[1][2]
    assert operation().digest.hex() in found[0][2]


def test_an_approval_shows_who_what_where_and_why(world: World) -> None:
    session = world.open("agent-one")
    asked, _ = world.ask(session)
    world.clock.advance(100)
    found = world.approvals.get(asked.approval, ADA)
    assert found.principal.object_id == guid("agent-one")
    assert found.operation.text == "DELETE FROM orders"
    assert (found.operation.action, found.operation.risk) == ("delete", "destroy")
    assert found.operation.resources[0].name == "public.orders"
    assert found.operation.facts == {"where": "absent"}
    assert (found.target, found.relay, found.session) == ("orders", "relay-1", session)
    assert (found.rule, found.reason) == ("analysts/destructive", "it deletes everything")
    assert (found.held, found.seconds_left, found.may_decide) == (True, 200, True)
    assert found.deadline == asked.hold_until
    world.clock.advance(200)
    found = world.approvals.get(asked.approval, ADA)
    assert (found.held, found.seconds_left) == (False, 3300)
    assert found.deadline == asked.valid_until


def test_pending_approvals_come_by_deadline_and_page_by_page(world: World) -> None:
    session = world.open()
    by = {"late": terms(hold=900), "soon": terms(hold=100), "gone": terms(hold=10, validity=500)}
    ids = {name: world.ask(session, operation(name), by=t)[0].approval for name, t in by.items()}
    world.clock.advance(20)
    seen: list[str] = []
    place: Place | None = None
    while True:
        views, place = world.approvals.page(ApprovalState.PENDING, ADA, place, 1)
        seen += [view.id for view in views]
        # What happens meanwhile moves nothing.
        world.clock.advance(30)
        if place is None:
            break
    assert seen == [ids["soon"], ids["gone"], ids["late"]]


def test_other_lists_are_newest_first_and_walk_without_repeating(world: World) -> None:
    session = world.open()
    made: list[str] = []
    for number in range(5):
        asked, _ = world.ask(session, operation(str(number)))
        made.append(asked.approval)
        if number % 2:
            world.clock.advance(1)
    seen: list[str] = []
    place: Place | None = None
    while True:
        views, place = world.approvals.page(None, ADA, place, 2)
        seen += [view.id for view in views]
        if place is None:
            break
    assert sorted(seen) == sorted(made)
    assert seen[0] == made[-1]


def test_a_list_by_state_never_shows_as_pending_what_is_over(world: World) -> None:
    asked, _ = world.ask(world.open())
    world.clock.advance(3600)
    assert world.approvals.page(ApprovalState.PENDING, ADA, None, 10)[0] == []
    views, _ = world.approvals.page(ApprovalState.EXPIRED, ADA, None, 10)
    assert [view.id for view in views] == [asked.approval]
