from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from control_plane.database import Database
from control_plane.documents.reader import read
from control_plane.documents.validation import Document, Documents
from control_plane.errors import Invalid
from control_plane.policy.kinds import KINDS
from control_plane.policy.schemas import KindName, RiskName, ScopeName
from control_plane.policy.service import compile_set
from protos.policy import Masking, Policy, PolicySet, Rule, Subject, TargetSelector, evaluate
from protos.vocabulary import (
    DETECTORS,
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
    Transform,
)
from protos.wire import policies_from_wire, policies_to_wire
from tests.control_plane.documents.house import (
    ADA,
    APPROVERS,
    GROUP,
    MASKING,
    POLICY,
    TARGET,
    House,
)


@pytest.fixture
def house(database: Database, tmp_path: Path) -> House:
    return House(database, tmp_path / "authority")


def _check(text: str) -> list[tuple[int, int, str]]:
    (source,) = read(text)
    checked = Documents(KINDS).check(source)
    if isinstance(checked, Document):
        return []
    return [(error.line, error.column, error.message) for error in checked]


def _document(text: str) -> Document:
    (source,) = read(text)
    checked = Documents(KINDS).check(source)
    assert isinstance(checked, Document), checked
    return checked


FULL = f"""\
apiVersion: jitgate/v1
kind: Policy
metadata: {{name: full}}
spec:
  subjects:
    - groups: [{GROUP.upper()}]
      roles: [agents.read]
      clients: [{APPROVERS}]
      kinds: [application, managed_identity, agent]
  targets: {{names: ["orders*"], labels: {{env: "d?mo"}}}}
  rules:
    - name: everything
      outcome: approve
      risks: [read, write, destroy, administer, execute, unknown]
      actions: [select, "del*"]
      resources: ["public.*"]
      facts: {{where: absent, limit: [present, "1?"]}}
      reason: somebody has to look
      approval:
        groups: [{APPROVERS}]
        count: 2
        hold: 1m30s
        validity: 2h
        self_approval: true
        reason_required: true
        scopes: [once, session, window]
    - {{name: never, outcome: refuse}}
  masking:
    - {{name: mail, columns: [public.customers.email], transform: partial, keep: 2}}
    - {{name: word, columns: ["*.secret"], transform: constant, constant: ""}}
    - {{name: nothing, detect: [card, email], transform: null}}
    - {{name: quoted, detect: [card], transform: "null"}}
  not_after: 2027-01-01T02:00:00.9+02:00
"""


def test_every_field_of_a_policy_reaches_the_relays() -> None:
    compiled = compile_set([_document(FULL)], [_document(MASKING)])
    assert compiled == PolicySet(
        compiled.version,
        (
            Policy(
                name="full",
                subjects=(
                    Subject(
                        frozenset({GROUP}),
                        frozenset({"agents.read"}),
                        frozenset({APPROVERS}),
                        frozenset(
                            {
                                PrincipalKind.APPLICATION,
                                PrincipalKind.MANAGED_IDENTITY,
                                PrincipalKind.AGENT,
                            }
                        ),
                    ),
                ),
                targets=TargetSelector(("orders*",), {"env": "d?mo"}),
                rules=(
                    Rule(
                        "everything",
                        Outcome.APPROVE,
                        frozenset(Risk),
                        ("select", "del*"),
                        ("public.*",),
                        {"where": ("absent",), "limit": ("present", "1?")},
                        ApprovalTerms(
                            (Requirement("full/everything", frozenset({APPROVERS}), 2),),
                            90,
                            7200,
                            True,
                            True,
                            frozenset(Scope),
                        ),
                        "somebody has to look",
                    ),
                    Rule("never", Outcome.REFUSE),
                ),
                masking=(
                    MaskingRule(
                        "full/mail", Transform.PARTIAL, ("public.customers.email",), keep=2
                    ),
                    MaskingRule("full/word", Transform.CONSTANT, ("*.secret",), constant=""),
                    MaskingRule("full/nothing", Transform.NULL, detectors=("card", "email")),
                    MaskingRule("full/quoted", Transform.NULL, detectors=("card",)),
                ),
                not_after=1798761600,
            ),
        ),
        (
            Masking(
                "cards",
                TargetSelector((), {"env": "*"}),
                (MaskingRule("cards/card", Transform.REDACT, detectors=("card",)),),
            ),
        ),
    )
    assert policies_from_wire(policies_to_wire(compiled)) == compiled


def test_what_is_left_out_of_an_approval_is_the_safe_choice() -> None:
    (policy,) = compile_set([_document(POLICY)], []).policies
    assert policy.rules[1].terms == ApprovalTerms(
        (Requirement("agents/destructive", frozenset({APPROVERS}), 1),)
    )
    assert policy.not_after == 0


def test_a_policy_that_ended_before_the_epoch_has_ended() -> None:
    text = POLICY + "  not_after: 1960-01-01T00:00:00Z\n"
    assert compile_set([_document(text)], []).policies[0].not_after == 1


def test_the_words_of_documents_are_the_words_of_the_contract() -> None:
    assert set(get_args(KindName)) == {kind.value for kind in PrincipalKind}
    assert set(get_args(RiskName)) == {risk.name.lower() for risk in Risk}
    assert set(get_args(ScopeName)) == {scope.value for scope in Scope}
    for detector in DETECTORS:
        assert _check(MASKING.replace("[card]", f"[{detector}]")) == []
    for transform in set(Transform) - {Transform.CONSTANT}:
        assert _check(MASKING.replace("redact", transform)) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "word"),
    [
        (f"[{GROUP}]", "[admins]", 5, 24, "spec.subjects[0].groups[0]: must be a GUID"),
        (f"groups: [{GROUP}]", "groups: []", 5, 14, "would match nobody"),
        (f"groups: [{GROUP}]", "kinds: [robot]", 5, 23, "spec.subjects[0].kinds[0]"),
        (f"subjects: [{{groups: [{GROUP}]}}]", "subjects: []", 5, 13, "at least 1 item"),
        ("names: [orders]", "names: []", 6, 3, "names or labels"),
        ("names: [orders]", "nmes: [orders]", 6, 13, "there is no such field"),
        ("names: [orders]", "labels: {env: 1}", 6, 27, "spec.targets.labels.env"),
        ("name: destructive", "name: read-anything", 8, 5, "two rules have the name"),
        ("outcome: allow", "outcome: maybe", 9, 16, "'allow', 'approve' or 'refuse'"),
        ("outcome: allow", "outcome: approve", 8, 7, "needs approval"),
        ("outcome: approve", "outcome: allow", 11, 7, "no meaning with outcome allow"),
        ("risks: [read]", "risks: [reed]", 10, 15, "spec.rules[0].risks[0]"),
        ("risks: [read]", "risks: read", 10, 14, "valid array"),
        ("risks: [read]", "resources: ['']", 10, 19, "at least 1 character"),
        ("risks: [read]", "facts: {where: []}", 10, 22, "at least 1 item"),
        ("risks: [read]", "facts: {where: [1]}", 10, 23, "valid string"),
        ("risks: [read]", "facts: {where: 1}", 10, 22, "valid array"),
        (f"approval: {{groups: [{APPROVERS}]}}", "approval: {}", 14, 7, "groups: field required"),
        (f"{{groups: [{APPROVERS}]", "{groups: []", 14, 26, "at least 1 item"),
        (f"{APPROVERS}]}}", f"{APPROVERS}], hold: 5}}", 14, 72, "must be a duration"),
        (f"{APPROVERS}]}}", f"{APPROVERS}], hold: 5 m}}", 14, 72, "must be a duration"),
        (f"{APPROVERS}]}}", f"{APPROVERS}], hold: m}}", 14, 72, "must be a duration"),
        (f"{APPROVERS}]}}", f"{APPROVERS}], hold: ''}}", 14, 72, "must be a duration"),
        (f"{APPROVERS}]}}", f"{APPROVERS}], hold: 0s}}", 14, 72, "greater than or equal to 1"),
        (f"{APPROVERS}]}}", f"{APPROVERS}], hold: 25h}}", 14, 72, "less than or equal to 86400"),
        (f"{APPROVERS}]}}", f"{APPROVERS}], hold: 2h}}", 14, 7, "validity is shorter than hold"),
        (f"{APPROVERS}]}}", f"{APPROVERS}], count: 0}}", 14, 73, "greater than or equal to 1"),
        (f"{APPROVERS}]}}", f"{APPROVERS}], scopes: []}}", 14, 74, "at least 1 item"),
        (f"{APPROVERS}]}}", f"{APPROVERS}], scopes: [ever]}}", 14, 75, "'once', 'session'"),
        (f"{APPROVERS}]}}", f"{APPROVERS}], self_approval: 1}}", 14, 81, "valid boolean"),
        ("columns: [public.customers.email], ", "", 16, 7, "either columns or detect"),
        ("columns: [public", "detect: [card], columns: [public", 16, 7, "either columns or"),
        ("public.customers.email", "email", 16, 30, "schema.table.column"),
        ("columns: [public.customers.email]", "detect: [crd]", 16, 29, "'email', 'phone'"),
        ("transform: partial", "transform: hide", 16, 66, "'partial', 'pseudonym'"),
        ("transform: partial", "keep: 1, transform: redact", 16, 7, "keep belongs to"),
        ("transform: partial", "transform: constant", 16, 7, "constant and transform constant"),
        ("transform: partial", "transform: null, constant: x", 16, 7, "belong together"),
        (", transform: partial", "", 16, 7, "spec.masking[0].transform: field required"),
        ("  masking:", "  not_after: 2027-01-01T00:00:00\n  masking:", 15, 14, "timezone"),
        ("  masking:", "  not_after: soon\n  masking:", 15, 14, "spec.not_after"),
    ],
)
def test_a_mistake_in_a_policy_is_pointed_at(
    old: str, new: str, line: int, column: int, word: str
) -> None:
    assert old in POLICY
    errors = _check(POLICY.replace(old, new, 1))
    assert [error[:2] for error in errors] == [(line, column)]
    assert word in errors[0][2]


def test_a_policy_has_to_say_something() -> None:
    text = POLICY[: POLICY.index("  rules:")]
    assert _check(text) == [(4, 1, "spec: has neither rules nor masking")]


@settings(max_examples=300)
@given(st.text(min_size=1, max_size=30))
def test_any_pattern_that_is_accepted_can_be_matched(pattern: str) -> None:
    text = json.dumps(
        {
            "apiVersion": "jitgate/v1",
            "kind": "Policy",
            "metadata": {"name": "any"},
            "spec": {
                "subjects": [{"kinds": ["agent"]}],
                "targets": {"names": ["*"]},
                "rules": [{"name": "any", "outcome": "refuse", "resources": [pattern]}],
            },
        },
        ensure_ascii=False,
    )
    try:
        read(text)
    except Invalid:
        return
    (policy,) = compile_set([_document(text)], []).policies
    operation = Operation("postgres", "select", (Resource("public.t"),), Risk.READ, "")
    assert policy.rules[0].matches(operation) in (True, False)


def test_an_equal_set_has_an_equal_version_and_another_another(house: House) -> None:
    house.apply(TARGET, POLICY)
    first = house.policy_set()
    house.apply(POLICY.replace("[read]", "[write]"))
    second = house.policy_set()
    house.store.roll_back("Policy", "agents", 1, ADA)
    assert house.policy_set().version == first.version != second.version
    # The order in which words stand in a set changes nothing.
    house.apply(POLICY.replace("[write, destroy]", "[destroy, write]"))
    assert house.policy_set().version == first.version
    # What is no policy doesn't either.
    house.apply(TARGET.replace("5432", "5433"))
    assert house.policy_set().version == first.version


def test_a_change_is_in_force_at_once_and_for_every_replica(house: House, tmp_path: Path) -> None:
    other = House(house.database, tmp_path / "authority")
    assert other.policy_set().policies == ()
    house.apply(TARGET, POLICY, MASKING)
    assert [policy.name for policy in other.policy_set().policies] == ["agents"]
    assert [masking.name for masking in other.policy_set().maskings] == ["cards"]
    assert other.policy_set().version == house.policy_set().version
    house.store.delete("Policy", "agents", ADA)
    assert other.policy_set().policies == ()


def test_an_unchanged_set_is_not_compiled_again(house: House) -> None:
    house.apply(POLICY)
    assert house.policy_set() is house.policy_set()


def test_readers_never_see_a_set_older_than_a_finished_change(house: House) -> None:
    def change(number: int) -> None:
        house.apply(POLICY.replace("name: agents", f"name: agents-{number}"))
        assert f"agents-{number}" in {policy.name for policy in house.policy_set().policies}

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(change, range(12)))
    assert len(house.policy_set().policies) == 12


def test_a_slow_reader_does_not_put_an_old_set_in_place_of_a_newer(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.apply(POLICY)
    every = house.store.every
    newer: list[PolicySet] = []

    def slowly(session: Session, kind: str) -> tuple[Document, ...]:
        found = every(session, kind)
        if kind == "Masking" and not newer:
            newer.append(PolicySet("newer"))
            # Another thread read, compiled and kept a later generation meanwhile.
            house.policies._cached = (99, newer[0])
        return found

    monkeypatch.setattr(house.store, "every", slowly)
    assert house.policy_set().policies[0].name == "agents"
    assert house.policies._cached == (99, newer[0])


def test_documents_decide_as_they_read(house: House) -> None:
    house.apply(TARGET, POLICY)
    policies, target = house.policy_set(), house.target()
    agent = Principal("t", "o", "c", PrincipalKind.AGENT, groups=frozenset({GROUP}))
    stranger = Principal("t", "o", "c", PrincipalKind.AGENT)

    def outcome(principal: Principal, action: str, risk: Risk) -> tuple[str, str]:
        operation = Operation("postgres", action, (Resource("public.orders"),), risk, "")
        verdict = evaluate(policies, principal, target, operation, 0)
        return verdict.outcome, verdict.rule

    assert outcome(agent, "select", Risk.READ) == ("allow", "agents/read-anything")
    assert outcome(agent, "delete", Risk.DESTROY) == ("approve", "agents/destructive")
    assert outcome(agent, "copy", Risk.EXECUTE) == ("refuse", "")
    assert outcome(stranger, "select", Risk.READ) == ("refuse", "")
