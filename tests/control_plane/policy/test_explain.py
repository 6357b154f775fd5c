from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from control_plane.database import Database
from control_plane.errors import NotFound, Unavailable
from control_plane.policy.answers import Explained, ExplainRequest
from control_plane.policy.explain import Explanation
from protos.vocabulary import Operation, Principal, PrincipalKind, Resource, Risk
from tests.control_plane.documents.house import APPROVERS, GROUP, MASKING, POLICY, TARGET, House

AGENT = Principal("t", "o", "c", PrincipalKind.APPLICATION, groups=frozenset({GROUP}))
STRANGER = Principal("t", "o", "c", PrincipalKind.APPLICATION)
DELETE = Operation(
    "postgres",
    "delete",
    (Resource("public.orders", written=True),),
    Risk.DESTROY,
    "DELETE FROM orders",
    facts={"where": "absent"},
)


@pytest.fixture
def house(database: Database, tmp_path: Path) -> House:
    return House(database, tmp_path / "authority")


def _explain(
    house: House, principal: Principal, operation: Operation, relay: str = "relay-1"
) -> Explanation:
    """What is explained while a relay is connected that classifies everything so."""

    async def run() -> Explanation:
        house.bind()
        house.questions.pending(relay)
        answering = asyncio.create_task(answer())
        try:
            return await house.explainer.explain(principal, "orders", operation.text)
        finally:
            answering.cancel()

    async def answer() -> None:
        with house.wakeups.subscribe(f"relay:{relay}") as subscription:
            while True:
                for question in house.questions.pending(relay):
                    assert (question.protocol, question.target) == ("postgres", "orders")
                    house.questions.answer(question.id, operation, relay)
                await subscription.wait(10)

    return asyncio.run(run())


def test_an_explanation_names_the_verdict_and_every_rule_that_speaks(house: House) -> None:
    never = POLICY.replace("name: agents", "name: more").replace("[read]", "[destroy, read]")
    house.apply(TARGET, POLICY, never, MASKING)
    found = _explain(house, AGENT, DELETE)
    assert found.verdict.outcome == "approve"
    assert found.verdict.rule == "agents/destructive + more/destructive"
    assert found.policies == ("agents", "more")
    assert [(policy.name, rule.name) for policy, rule in found.matching] == [
        ("agents", "destructive"),
        ("more", "read-anything"),
        ("more", "destructive"),
    ]
    assert {rule.name for rule in found.masking} == {"agents/mail", "more/mail", "cards/card"}
    assert found.version == house.policy_set().version


def test_who_has_no_business_at_a_target_is_told_so(house: House) -> None:
    house.apply(TARGET, POLICY, MASKING)
    found = _explain(house, STRANGER, DELETE)
    assert found.verdict.code == "no_policy_applies"
    assert (found.policies, found.matching, found.masking) == ((), (), ())


def test_a_policy_that_has_run_out_explains_nothing_any_more(house: House) -> None:
    house.apply(TARGET, POLICY + "  not_after: 2020-01-01T00:00:00Z\n")
    assert _explain(house, AGENT, DELETE).verdict.code == "no_policy_applies"


def test_only_a_relay_that_serves_the_target_is_asked(house: House) -> None:
    relay = "apiVersion: jitgate/v1\nkind: Relay\nmetadata: {name: relay-2}\nspec: {hosts: [x]}\n"
    house.apply(TARGET + "  relays: [relay-2]\n", relay)
    with pytest.raises(Unavailable) as caught:
        _explain(house, AGENT, DELETE)
    assert caught.value.code == "no_relay_connected"
    assert _explain(house, AGENT, DELETE, "relay-2").operation == DELETE


def test_an_unknown_target_is_not_found(house: House) -> None:
    with pytest.raises(NotFound):
        _explain(house, AGENT, DELETE)


def test_an_explanation_is_shown_in_full(house: House) -> None:
    house.apply(TARGET, POLICY)
    shown = Explained.of(_explain(house, AGENT, DELETE)).model_dump()
    assert shown["operation"] == {
        "protocol": "postgres",
        "action": "delete",
        "risk": "destroy",
        "resources": [{"name": "public.orders", "written": True, "kind": "relation"}],
        "facts": {"where": "absent"},
    }
    assert shown["verdict"]["terms"] == {
        "requirements": [{"rule": "agents/destructive", "groups": [APPROVERS], "count": 1}],
        "hold_seconds": 300,
        "validity_seconds": 3600,
        "self_approval": False,
        "reason_required": False,
        "scopes": ["once"],
    }
    assert shown["matching"] == [
        {"policy": "agents", "rule": "destructive", "outcome": "approve", "reason": ""}
    ]
    assert shown["masking"] == [
        {
            "rule": "agents/mail",
            "transform": "partial",
            "columns": ["public.customers.email"],
            "detect": [],
        }
    ]
    read = Operation("postgres", "select", (Resource("public.orders"),), Risk.READ, "x")
    assert Explained.of(_explain(house, AGENT, read)).verdict.terms is None


def test_the_agent_is_as_the_question_describes_it() -> None:
    asked = ExplainRequest(
        target="orders",
        statement="SELECT 1",
        client_id=GROUP.upper(),
        groups=[APPROVERS],
        roles=["r"],
        kind=PrincipalKind.AGENT,
    ).principal
    assert asked.client_id == GROUP
    assert asked.groups == {APPROVERS}
    assert asked.roles == {"r"}
    assert asked.kind is PrincipalKind.AGENT
