"""How long policies of a hundred rules take to judge one operation.

Processor time of the judging thread: what else the machine does in between is not in it.
"""

from __future__ import annotations

import time

from protos.policy import Policy, PolicySet, Rule, Subject, TargetSelector, evaluate
from protos.vocabulary import (
    Operation,
    Outcome,
    Principal,
    PrincipalKind,
    Resource,
    Risk,
    Target,
)

RULES = 100
_POLICIES = 10


def measure(*, count: int) -> list[float]:
    """Milliseconds of each of ``count`` judgements; only the last of the rules matches."""
    policies = _policies()
    principal = Principal(
        tenant="t",
        object_id="o",
        client_id="c",
        kind=PrincipalKind.AGENT,
        name="agent",
        groups=frozenset({"analysts"}),
        roles=frozenset(),
    )
    target = Target("orders", "postgres", "127.0.0.1", 5432)
    operation = Operation(
        "postgres",
        "select",
        (Resource("public.orders", False), Resource("public.customers", False)),
        Risk.READ,
        "SELECT 1",
        b"\0" * 32,
        {},
    )
    verdict = evaluate(policies, principal, target, operation, 0)
    if verdict.rule != f"policy-{_POLICIES - 1}/rule-{RULES - 1}":
        raise RuntimeError(f"the wrong rule decided: {verdict.rule or verdict.code}")
    found: list[float] = []
    clock = time.thread_time_ns
    for _ in range(count):
        begun = clock()
        evaluate(policies, principal, target, operation, 0)
        found.append((clock() - begun) / 1e6)
    return found


def _policies() -> PolicySet:
    """Ten policies that apply; their rules look at risks, actions and resource patterns."""
    rules = [
        Rule(
            f"rule-{number}",
            Outcome.ALLOW if number % 2 else Outcome.REFUSE,
            risks=frozenset({Risk.READ}),
            actions=("select", "fetch"),
            resources=(f"schema_{number}.*", f"public.table_{number}"),
        )
        for number in range(RULES - 1)
    ]
    rules.append(
        Rule(
            f"rule-{RULES - 1}",
            Outcome.ALLOW,
            risks=frozenset({Risk.READ}),
            resources=("public.orders", "public.customers"),
        )
    )
    each = RULES // _POLICIES
    return PolicySet(
        "1",
        tuple(
            Policy(
                f"policy-{number}",
                (Subject(groups=frozenset({"analysts"})),),
                TargetSelector(names=("orders",)),
                tuple(rules[number * each : (number + 1) * each]),
            )
            for number in range(_POLICIES)
        ),
    )
