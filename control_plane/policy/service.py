"""Compiles Policy and Masking documents into what relays decide by.

Counterpart: :mod:`protos.policy` gives it meaning; nothing is decided here. A policy that has
run out stays in the set, because :func:`protos.policy.evaluate` knows the time and this not.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

from google.protobuf.json_format import MessageToDict
from sqlalchemy.orm import Session

from control_plane.documents.changes import Proposal
from control_plane.documents.service import DocumentStore
from control_plane.documents.validation import Document
from control_plane.policy.schemas import (
    MASKING,
    POLICY,
    ApprovalSpec,
    MaskingRuleSpec,
    MaskingSpec,
    PolicySpec,
    RuleSpec,
    SelectorSpec,
)
from control_plane.targets.schemas import TARGET
from control_plane.targets.service import record_of
from protos.policy import Masking, Policy, PolicySet, Rule, Subject, TargetSelector
from protos.vocabulary import (
    ApprovalTerms,
    MaskingRule,
    Outcome,
    PrincipalKind,
    Requirement,
    Risk,
    Scope,
    Transform,
)
from protos.wire import policies_to_wire


class PolicyService:
    """The policies in force."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self._lock = threading.Lock()
        self._cached: tuple[int, PolicySet] | None = None

    def current(self, session: Session) -> PolicySet:
        """All policies and maskings as their documents stand. Callable from any thread.

        ``version`` is a hash of the content: equal sets have equal versions, on every replica.
        Unless something changed since the last call, it costs one small query.
        """
        # The generation first: what is read after it is at least as new, so a change in
        # between is seen again at the next call and never missed.
        generation = self._documents.generation(session)
        with self._lock:
            if self._cached is not None and self._cached[0] == generation:
                return self._cached[1]
        compiled = compile_set(
            self._documents.every(session, POLICY.name),
            self._documents.every(session, MASKING.name),
        )
        with self._lock:
            if self._cached is None or self._cached[0] < generation:
                self._cached = (generation, compiled)
        return compiled


def compile_set(policies: Sequence[Document], maskings: Sequence[Document]) -> PolicySet:
    """The set that these documents say, with its version."""
    compiled = PolicySet(
        "",
        tuple(_policy(document) for document in policies),
        tuple(_masking(document) for document in maskings),
    )
    # As JSON with sorted keys: protobuf's own bytes aren't the same in every version of it.
    content = json.dumps(MessageToDict(policies_to_wire(compiled)), sort_keys=True)
    return replace(compiled, version=hashlib.sha256(content.encode()).hexdigest())


def unmatched_selectors(_session: object, proposal: Proposal) -> Iterable[str]:
    """Warns of policies and maskings that select no target that there is."""
    targets = [
        record_of(document).target
        for document in proposal.after.values()
        if document.kind is TARGET
    ]
    for document in proposal.changed:
        if document.kind in (POLICY, MASKING):
            selector = _selector(document.spec.targets)
            if not any(selector.matches(target) for target in targets):
                yield f"{document.kind.name}/{document.name}: selects no target that there is"


def _policy(document: Document) -> Policy:
    spec: PolicySpec = document.spec
    return Policy(
        name=document.name,
        subjects=tuple(
            Subject(
                groups=frozenset(subject.groups),
                roles=frozenset(subject.roles),
                clients=frozenset(subject.clients),
                kinds=frozenset(PrincipalKind(kind) for kind in subject.kinds),
            )
            for subject in spec.subjects
        ),
        targets=_selector(spec.targets),
        rules=tuple(_rule(document.name, rule) for rule in spec.rules),
        masking=_masking_rules(document.name, spec.masking),
        # A moment within a second is rounded down: rather too early than too late.
        not_after=0 if spec.not_after is None else max(1, int(spec.not_after.timestamp())),
    )


def _masking(document: Document) -> Masking:
    spec: MaskingSpec = document.spec
    return Masking(
        document.name, _selector(spec.targets), _masking_rules(document.name, spec.rules)
    )


def _selector(spec: SelectorSpec) -> TargetSelector:
    return TargetSelector(tuple(spec.names), dict(spec.labels))


def _rule(policy: str, spec: RuleSpec) -> Rule:
    return Rule(
        name=spec.name,
        outcome=Outcome(spec.outcome),
        risks=frozenset(Risk[risk.upper()] for risk in spec.risks),
        actions=tuple(spec.actions),
        resources=tuple(spec.resources),
        facts={name: tuple(patterns) for name, patterns in spec.facts.items()},
        terms=None if spec.approval is None else _terms(f"{policy}/{spec.name}", spec.approval),
        reason=spec.reason,
    )


def _terms(rule: str, spec: ApprovalSpec) -> ApprovalTerms:
    return ApprovalTerms(
        requirements=(Requirement(rule, frozenset(spec.groups), spec.count),),
        hold_seconds=spec.hold,
        validity_seconds=spec.validity,
        self_approval=spec.self_approval,
        reason_required=spec.reason_required,
        scopes=frozenset(Scope(scope) for scope in spec.scopes),
    )


def _masking_rules(document: str, rules: Sequence[MaskingRuleSpec]) -> tuple[MaskingRule, ...]:
    return tuple(
        MaskingRule(
            name=f"{document}/{rule.name}",
            transform=Transform(rule.transform),
            columns=tuple(rule.columns),
            detectors=tuple(rule.detect),
            keep=4 if rule.keep is None else rule.keep,
            constant=rule.constant or "",
        )
        for rule in rules
    )
