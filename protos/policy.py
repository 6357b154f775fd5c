"""What policies mean: pure functions from (policies, principal, target, operation) to a verdict.

The relay enforces with :func:`evaluate`; the control plane explains, simulates and back-tests
with the same function. Parsing and validating documents is the control plane's work
(:mod:`control_plane.policy`); nothing here reads a file, a clock or a database.

How rules compose
-----------------
A policy *applies* when one of its subjects matches the principal and its target selector the
target. The rules of all policies that apply form one set, without order:

1. a matching ``refuse`` rule wins over everything;
2. otherwise every matching ``approve`` rule must be satisfied: requirements add up, and of
   the other terms the strictest counts;
3. otherwise a matching ``allow`` rule allows;
4. otherwise the operation is refused (``no_rule_matches``).

``refuse`` and ``approve`` match when *any* resource of the operation matches; ``allow`` only
when *every* resource does. ``Risk.UNKNOWN`` is matched by an ``allow`` rule only where the
rule names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache

from protos.vocabulary import (
    ApprovalTerms,
    MaskingRule,
    Operation,
    Outcome,
    Principal,
    PrincipalKind,
    Requirement,
    Risk,
    Scope,
    Target,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Subject:
    """Matches a principal when every field that is not empty holds one of its values."""

    groups: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    clients: frozenset[str] = frozenset()
    kinds: frozenset[PrincipalKind] = frozenset()

    def matches(self, principal: Principal) -> bool:
        """Whether the principal is meant; a subject without any field matches nobody."""
        if not (self.groups or self.roles or self.clients or self.kinds):
            return False
        return (
            (not self.groups or not self.groups.isdisjoint(principal.groups))
            and (not self.roles or not self.roles.isdisjoint(principal.roles))
            and (not self.clients or principal.client_id in self.clients)
            and (not self.kinds or principal.kind in self.kinds)
        )


@dataclass(frozen=True, slots=True)
class TargetSelector:
    """Matches a target by name pattern and by labels; each that is not empty must match."""

    names: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def matches(self, target: Target) -> bool:
        """Whether the target is meant; a selector without any field matches none."""
        if not (self.names or self.labels):
            return False
        return (not self.names or any_matches(self.names, target.name)) and all(
            key in target.labels and pattern_matches(pattern, target.labels[key])
            for key, pattern in self.labels.items()
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """One sentence of a policy. An empty field says nothing; see the module on matching."""

    name: str
    outcome: Outcome
    risks: frozenset[Risk] = frozenset()
    actions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    terms: ApprovalTerms | None = None
    reason: str = ""

    def matches(self, operation: Operation) -> bool:
        """Whether this rule speaks of the operation."""
        if self.risks:
            if operation.risk not in self.risks:
                return False
        elif operation.risk is Risk.UNKNOWN and self.outcome is Outcome.ALLOW:
            return False
        if self.actions and not any_matches(self.actions, operation.action):
            return False
        if self.resources:
            hits = (any_matches(self.resources, r.name) for r in operation.resources)
            if not (all(hits) if self.outcome is Outcome.ALLOW else any(hits)):
                return False
        return all(
            name in operation.facts and any_matches(patterns, operation.facts[name])
            for name, patterns in self.facts.items()
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may do what where, and what of the answers they see.

    ``not_after`` is seconds since the epoch from which the policy no longer applies; 0: never.
    """

    name: str
    subjects: tuple[Subject, ...]
    targets: TargetSelector
    rules: tuple[Rule, ...]
    masking: tuple[MaskingRule, ...] = ()
    not_after: int = 0


@dataclass(frozen=True, slots=True)
class Masking:
    """Masking that applies to everybody who reaches the selected targets."""

    name: str
    targets: TargetSelector
    rules: tuple[MaskingRule, ...]


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Everything a relay decides by. ``version`` changes whenever the content does."""

    version: str
    policies: tuple[Policy, ...] = ()
    maskings: tuple[Masking, ...] = ()


@lru_cache(maxsize=4096)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)))


def pattern_matches(pattern: str, name: str) -> bool:
    """Shell-style match of the whole name, case-sensitive: ``public.*`` matches ``public.t``."""
    return any_matches((pattern,), name)


def any_matches(patterns: tuple[str, ...], name: str) -> bool:
    """Whether one of the patterns, of which there is at least one, matches the name."""
    return _compiled(patterns).match(name) is not None


def applicable(
    policies: PolicySet, principal: Principal, target: Target, at: int
) -> tuple[Policy, ...]:
    """The policies that apply; none means that the principal has no business at the target."""
    return tuple(
        policy
        for policy in policies.policies
        if not (policy.not_after and at >= policy.not_after)
        and policy.targets.matches(target)
        and any(subject.matches(principal) for subject in policy.subjects)
    )


def masking_for(
    policies: PolicySet, principal: Principal, target: Target, at: int
) -> tuple[MaskingRule, ...]:
    """The masking rules for this principal at this target, in no meaningful order."""
    return tuple(
        rule
        for masking in policies.maskings
        if masking.targets.matches(target)
        for rule in masking.rules
    ) + tuple(
        rule for policy in applicable(policies, principal, target, at) for rule in policy.masking
    )


def judge(applying: Sequence[Policy], operation: Operation) -> Verdict:
    """The verdict of policies already narrowed by :func:`applicable`: the relay's hot path."""
    approving: list[tuple[Policy, Rule]] = []
    allowing: tuple[Policy, Rule] | None = None
    for policy in applying:
        for rule in policy.rules:
            if not rule.matches(operation):
                continue
            if rule.outcome is Outcome.REFUSE:
                return Verdict(
                    Outcome.REFUSE,
                    "refused_by_rule",
                    rule.reason or "the policy forbids this operation",
                    f"{policy.name}/{rule.name}",
                )
            if rule.outcome is Outcome.APPROVE:
                approving.append((policy, rule))
            elif allowing is None:
                allowing = (policy, rule)
    if approving:
        return _approve(approving)
    if allowing is not None:
        policy, rule = allowing
        return Verdict(Outcome.ALLOW, "allowed_by_rule", rule.reason, f"{policy.name}/{rule.name}")
    if not applying:
        return Verdict(Outcome.REFUSE, "no_policy_applies", "no policy lets you use this target")
    return Verdict(Outcome.REFUSE, "no_rule_matches", "no rule of your policies allows this")


def evaluate(
    policies: PolicySet, principal: Principal, target: Target, operation: Operation, at: int
) -> Verdict:
    """The verdict on one operation at ``at`` (seconds since the epoch). Pure and total."""
    return judge(applicable(policies, principal, target, at), operation)


def _approve(approving: Sequence[tuple[Policy, Rule]]) -> Verdict:
    """Every approve rule has to be satisfied; of what cannot add up, the strictest counts."""
    terms = [rule.terms or ApprovalTerms(()) for _, rule in approving]
    requirements: list[Requirement] = []
    for (policy, rule), term in zip(approving, terms, strict=True):
        name = f"{policy.name}/{rule.name}"
        requirements.extend(
            Requirement(name, requirement.groups, requirement.count)
            for requirement in term.requirements
        )
    scopes = frozenset.intersection(*(term.scopes for term in terms)) | {Scope.ONCE}
    policy, rule = approving[0]
    return Verdict(
        Outcome.APPROVE,
        "approval_required",
        rule.reason or "this operation needs a human's approval",
        " + ".join(f"{policy.name}/{rule.name}" for policy, rule in approving),
        ApprovalTerms(
            requirements=tuple(requirements),
            hold_seconds=min(term.hold_seconds for term in terms),
            validity_seconds=min(term.validity_seconds for term in terms),
            self_approval=all(term.self_approval for term in terms),
            reason_required=any(term.reason_required for term in terms),
            scopes=scopes,
        ),
    )
