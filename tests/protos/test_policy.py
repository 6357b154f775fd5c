from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.policy import (
    Masking,
    Policy,
    PolicySet,
    Rule,
    Subject,
    TargetSelector,
    applicable,
    evaluate,
    judge,
    masking_for,
    pattern_matches,
)
from protos.vocabulary import (
    ApprovalTerms,
    MaskingRule,
    Operation,
    Outcome,
    Principal,
    PrincipalKind,
    Requirement,
    Resource,
    Risk,
    Scope,
    Target,
    Transform,
)
from tests.protos import values

AGENT = Principal(
    "tenant",
    "object",
    "client",
    PrincipalKind.AGENT,
    roles=frozenset({"reader"}),
    groups=frozenset({"group"}),
)
TARGET = Target("orders", "postgres", "127.0.0.1", 5432, labels={"env": "demo", "tier": "1"})
EVERYBODY = (Subject(groups=frozenset({"group"})),)
EVERYWHERE = TargetSelector(("*",))
READ = Operation("postgres", "select", (Resource("public.orders"),), Risk.READ, "SELECT")
DELETE = Operation(
    "postgres",
    "delete",
    (Resource("public.orders", written=True), Resource("public.customers")),
    Risk.DESTROY,
    "DELETE",
    facts={"where": "absent"},
)
UNKNOWN = replace(READ, risk=Risk.UNKNOWN)
MASK = MaskingRule("mail", Transform.REDACT, columns=("public.customers.email",))


def _rule(outcome: Outcome, name: str = "rule", **fields: Any) -> Rule:
    return Rule(name, outcome, **fields)


def _policy(*rules: Rule, name: str = "policy", **fields: Any) -> Policy:
    return Policy(name, EVERYBODY, EVERYWHERE, rules, **fields)


def _terms(group: str = "approvers", **fields: Any) -> ApprovalTerms:
    return ApprovalTerms((Requirement("given", frozenset({group})),), **fields)


ALLOW = _rule(Outcome.ALLOW, "allowing")
APPROVE = _rule(Outcome.APPROVE, "approving", terms=_terms())
REFUSE = _rule(Outcome.REFUSE, "refusing")


# Who is meant


@pytest.mark.parametrize(
    ("subject", "meant"),
    [
        (Subject(), False),
        (Subject(groups=frozenset({"group", "other"})), True),
        (Subject(groups=frozenset({"other"})), False),
        (Subject(roles=frozenset({"reader"})), True),
        (Subject(roles=frozenset({"writer"})), False),
        (Subject(clients=frozenset({"client"})), True),
        (Subject(clients=frozenset({"other"})), False),
        (Subject(kinds=frozenset({PrincipalKind.AGENT})), True),
        (Subject(kinds=frozenset({PrincipalKind.USER})), False),
        (Subject(groups=frozenset({"group"}), roles=frozenset({"writer"})), False),
        (Subject(groups=frozenset({"group"}), clients=frozenset({"other"})), False),
        (Subject(groups=frozenset({"group"}), kinds=frozenset({PrincipalKind.USER})), False),
        (
            Subject(
                frozenset({"group"}),
                frozenset({"reader"}),
                frozenset({"client"}),
                frozenset({PrincipalKind.AGENT}),
            ),
            True,
        ),
    ],
)
def test_a_subject_means_who_has_a_value_of_every_field(subject: Subject, meant: bool) -> None:
    assert subject.matches(AGENT) is meant


@pytest.mark.parametrize(
    ("selector", "meant"),
    [
        (TargetSelector(), False),
        (TargetSelector(("orders",)), True),
        (TargetSelector(("other", "ord*")), True),
        (TargetSelector(("Orders",)), False),
        (TargetSelector(("order",)), False),
        (TargetSelector(labels={"env": "demo"}), True),
        (TargetSelector(labels={"env": "d*", "tier": "?"}), True),
        (TargetSelector(labels={"env": "demo", "tier": "2"}), False),
        (TargetSelector(labels={"zone": "*"}), False),
        (TargetSelector(("orders",), {"env": "prod"}), False),
        (TargetSelector(("other",), {"env": "demo"}), False),
    ],
)
def test_a_selector_means_targets_that_match_all_of_it(
    selector: TargetSelector, meant: bool
) -> None:
    assert selector.matches(TARGET) is meant


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("public.*", "public.t", True),
        ("public.*", "public.a.b", True),
        ("public.*", "public", False),
        ("public.t", "public.t\n", False),
        ("*", "", True),
        ("", "", True),
        ("", "a", False),
        ("?", "a", True),
        ("[ab]", "b", True),
        ("[!ab]", "b", False),
        ("[", "[", True),
        ("a.c", "abc", False),
        ("(a)+$^\\", "(a)+$^\\", True),
        ("T", "t", False),
        ("*", "a\nb", True),
    ],
)
def test_patterns_are_of_the_shell_and_match_the_whole_name(
    pattern: str, name: str, matches: bool
) -> None:
    assert pattern_matches(pattern, name) is matches


@settings(max_examples=300)
@given(st.text(st.sampled_from("[]!^-&~|ab*?\\.(){}$+\n"), max_size=14), st.text(max_size=6))
def test_every_text_is_a_pattern(pattern: str, name: str) -> None:
    assert pattern_matches(pattern, name) in (True, False)


def test_a_policy_applies_to_its_subjects_at_its_targets_until_it_ends() -> None:
    policy = _policy(ALLOW, not_after=100)
    elsewhere = replace(policy, targets=TargetSelector(("other",)))
    others = replace(policy, subjects=(Subject(groups=frozenset({"other"})),))
    either = replace(policy, subjects=(*others.subjects, *EVERYBODY))
    nobody = replace(policy, subjects=())
    policies = PolicySet("1", (policy, elsewhere, others, either, nobody))
    assert applicable(policies, AGENT, TARGET, 99) == (policy, either)
    assert applicable(policies, AGENT, TARGET, 100) == ()
    forever = PolicySet("1", (_policy(ALLOW),))
    assert applicable(forever, AGENT, TARGET, 2**62) == forever.policies


# Which rules speak


@pytest.mark.parametrize(
    ("fields", "operation", "speaks"),
    [
        ({}, READ, True),
        ({"risks": frozenset({Risk.READ})}, READ, True),
        ({"risks": frozenset({Risk.WRITE})}, READ, False),
        ({"actions": ("select",)}, READ, True),
        ({"actions": ("insert", "sel*")}, READ, True),
        ({"actions": ("delete",)}, READ, False),
        ({"resources": ("public.*",)}, READ, True),
        ({"resources": ("private.*",)}, READ, False),
        ({"facts": {"where": ("absent",)}}, DELETE, True),
        ({"facts": {"where": ("present", "abs*")}}, DELETE, True),
        ({"facts": {"where": ("present",)}}, DELETE, False),
        ({"facts": {"limit": ("*",)}}, DELETE, False),
        ({"facts": {"where": ("*",), "limit": ("*",)}}, DELETE, False),
        ({"risks": frozenset({Risk.DESTROY}), "actions": ("select",)}, DELETE, False),
    ],
)
@pytest.mark.parametrize("outcome", Outcome)
def test_a_rule_speaks_where_every_field_matches(
    outcome: Outcome, fields: dict[str, Any], operation: Operation, speaks: bool
) -> None:
    assert _rule(outcome, **fields).matches(operation) is speaks


def test_allowing_needs_every_resource_and_the_others_any() -> None:
    one: dict[str, Any] = {"resources": ("public.orders",)}
    assert not _rule(Outcome.ALLOW, **one).matches(DELETE)
    assert _rule(Outcome.APPROVE, **one).matches(DELETE)
    assert _rule(Outcome.REFUSE, **one).matches(DELETE)
    both: dict[str, Any] = {"resources": ("public.orders", "public.cust*")}
    assert _rule(Outcome.ALLOW, **both).matches(DELETE)


def test_what_touches_nothing_is_allowed_by_a_rule_for_resources_but_caught_by_none() -> None:
    nothing = replace(READ, resources=())
    rules = {outcome: _rule(outcome, resources=("public.*",)) for outcome in Outcome}
    assert rules[Outcome.ALLOW].matches(nothing)
    assert not rules[Outcome.APPROVE].matches(nothing)
    assert not rules[Outcome.REFUSE].matches(nothing)


def test_the_unknown_is_allowed_by_name_only() -> None:
    assert not _rule(Outcome.ALLOW).matches(UNKNOWN)
    assert not _rule(Outcome.ALLOW, actions=("*",), resources=("*",)).matches(UNKNOWN)
    assert _rule(Outcome.ALLOW, risks=frozenset({Risk.UNKNOWN})).matches(UNKNOWN)
    assert _rule(Outcome.APPROVE).matches(UNKNOWN)
    assert _rule(Outcome.REFUSE).matches(UNKNOWN)


# How rules compose


@pytest.mark.parametrize("order", list(itertools.permutations([ALLOW, APPROVE, REFUSE])))
def test_refusing_beats_approving_beats_allowing_in_any_order(order: tuple[Rule, ...]) -> None:
    for rules in (order, [rule for rule in order if rule is not REFUSE], [ALLOW]):
        names = {rule.name for rule in rules}
        expected = next(rule for rule in (REFUSE, APPROVE, ALLOW) if rule.name in names)
        together = judge([_policy(*rules)], READ)
        apart = judge([_policy(rule, name=rule.name) for rule in rules], READ)
        assert together.outcome is apart.outcome is expected.outcome
        assert together.rule == f"policy/{expected.name}"
        assert apart.rule == f"{expected.name}/{expected.name}"


def test_nothing_is_allowed_that_no_rule_allows() -> None:
    assert evaluate(PolicySet("0"), AGENT, TARGET, READ, 0).code == "no_policy_applies"
    silent = PolicySet("1", (_policy(_rule(Outcome.ALLOW, actions=("insert",))),))
    verdict = evaluate(silent, AGENT, TARGET, READ, 0)
    assert (verdict.outcome, verdict.code, verdict.rule) == (
        Outcome.REFUSE,
        "no_rule_matches",
        "",
    )
    assert verdict.terms is None


def test_codes_and_reasons_are_those_of_the_rule() -> None:
    refused = judge([_policy(replace(REFUSE, reason="never"))], READ)
    assert (refused.code, refused.reason) == ("refused_by_rule", "never")
    assert judge([_policy(REFUSE)], READ).reason == "the policy forbids this operation"
    allowed = judge([_policy(replace(ALLOW, reason="fine"), ALLOW)], READ)
    assert (allowed.code, allowed.reason) == ("allowed_by_rule", "fine")
    held = judge([_policy(replace(APPROVE, reason="look"))], READ)
    assert (held.code, held.reason) == ("approval_required", "look")
    assert judge([_policy(APPROVE)], READ).reason.endswith("needs a human's approval")


def test_requirements_add_up_and_the_strictest_terms_count() -> None:
    first = _rule(
        Outcome.APPROVE,
        "first",
        terms=_terms(
            "a",
            hold_seconds=60,
            validity_seconds=900,
            self_approval=True,
            scopes=frozenset({Scope.ONCE, Scope.SESSION}),
        ),
    )
    second = _rule(
        Outcome.APPROVE,
        "second",
        terms=_terms(
            "b",
            hold_seconds=300,
            validity_seconds=600,
            reason_required=True,
            scopes=frozenset({Scope.SESSION, Scope.WINDOW}),
        ),
    )
    verdict = judge([_policy(first, name="x"), _policy(ALLOW, second, name="y")], READ)
    assert verdict.rule == "x/first + y/second"
    assert verdict.terms == ApprovalTerms(
        (Requirement("x/first", frozenset({"a"})), Requirement("y/second", frozenset({"b"}))),
        hold_seconds=60,
        validity_seconds=600,
        self_approval=False,
        reason_required=True,
        scopes=frozenset({Scope.ONCE, Scope.SESSION}),
    )


def test_approving_without_terms_still_approves_and_once_is_always_possible() -> None:
    verdict = judge([_policy(replace(APPROVE, terms=None))], READ)
    assert verdict.outcome is Outcome.APPROVE
    assert verdict.terms == ApprovalTerms(())
    only_window = replace(APPROVE, terms=_terms(scopes=frozenset({Scope.WINDOW})))
    only_session = replace(APPROVE, terms=_terms(scopes=frozenset({Scope.SESSION})))
    terms = judge([_policy(only_window, only_session)], READ).terms
    assert terms is not None
    assert terms.scopes == {Scope.ONCE}


def test_masking_is_for_everybody_at_a_target_and_for_whom_a_policy_applies() -> None:
    everybody = Masking("all", EVERYWHERE, (MASK,))
    elsewhere = Masking("other", TargetSelector(("other",)), (replace(MASK, name="no"),))
    mine = replace(MASK, name="mine")
    policies = PolicySet(
        "1",
        (
            _policy(ALLOW, masking=(mine,)),
            replace(_policy(ALLOW, masking=(replace(MASK, name="no"),)), subjects=()),
        ),
        (everybody, elsewhere),
    )
    assert set(masking_for(policies, AGENT, TARGET, 0)) == {MASK, mine}
    stranger = replace(AGENT, groups=frozenset())
    assert masking_for(policies, stranger, TARGET, 0) == (MASK,)


_SEVERITY = {Outcome.ALLOW: 0, Outcome.APPROVE: 1, Outcome.REFUSE: 2}


@settings(max_examples=200)
@given(st.lists(values.policies, max_size=4), values.operations, st.randoms())
def test_verdicts_do_not_depend_on_the_order_of_policies(
    policies: list[Policy], operation: Operation, random: Any
) -> None:
    shuffled = [
        replace(policy, rules=tuple(random.sample(policy.rules, len(policy.rules))))
        for policy in random.sample(policies, len(policies))
    ]
    one, other = judge(policies, operation), judge(shuffled, operation)
    assert (one.outcome, one.code) == (other.outcome, other.code)
    assert (one.terms is None) == (other.terms is None)
    if one.terms is not None and other.terms is not None:
        # Requirements add up, so the same ones stand there, in another order.
        assert set(one.terms.requirements) == set(other.terms.requirements)
        assert replace(one.terms, requirements=()) == replace(other.terms, requirements=())
        assert one.terms.hold_seconds == min(
            (rule.terms or ApprovalTerms(())).hold_seconds
            for policy in policies
            for rule in policy.rules
            if rule.outcome is Outcome.APPROVE and rule.matches(operation)
        )
    assert (one.outcome is Outcome.APPROVE) == (one.terms is not None)


@settings(max_examples=200)
@given(st.lists(values.policies, max_size=3), values.rules, values.operations)
def test_a_rule_that_refuses_never_makes_a_verdict_milder(
    policies: list[Policy], rule: Rule, operation: Operation
) -> None:
    before = judge(policies, operation)
    stricter = replace(rule, outcome=Outcome.REFUSE)
    after = judge([*policies, _policy(stricter)], operation)
    assert _SEVERITY[after.outcome] >= _SEVERITY[before.outcome]


@settings(max_examples=100)
@given(values.policy_sets, values.principals, values.targets, values.operations, values.moments)
def test_every_question_has_an_answer(
    policies: PolicySet, principal: Principal, target: Target, operation: Operation, at: int
) -> None:
    verdict = evaluate(policies, principal, target, operation, at)
    assert verdict.code in {
        "allowed_by_rule",
        "approval_required",
        "refused_by_rule",
        "no_policy_applies",
        "no_rule_matches",
    }
    assert verdict == evaluate(policies, principal, target, operation, at)
