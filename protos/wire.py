"""The one converter between the vocabulary and its protobuf form.

Counterparts: :mod:`protos.vocabulary`, :mod:`protos.policy` and the generated messages. A
value survives the way there and back unchanged. What arrives with an enum value that this
version doesn't know raises :class:`ValueError`: a peer that says something we can't read is
not obeyed.
"""

from __future__ import annotations

from protos.jitgate.v1 import gateway_pb2 as pb
from protos.policy import Masking, Policy, PolicySet, Rule, Subject, TargetSelector
from protos.vocabulary import (
    ApprovalTerms,
    Credential,
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
    Verdict,
)


def operation_to_wire(operation: Operation) -> pb.Operation:
    return pb.Operation(
        protocol=operation.protocol,
        action=operation.action,
        resources=[
            pb.Resource(name=r.name, written=r.written, kind=r.kind) for r in operation.resources
        ],
        risk=int(operation.risk),  # type: ignore[arg-type]  # an open enum takes its number
        text=operation.text,
        digest=operation.digest,
        facts=dict(operation.facts),
    )


def operation_from_wire(message: pb.Operation) -> Operation:
    return Operation(
        protocol=message.protocol,
        action=message.action,
        resources=tuple(Resource(r.name, r.written, r.kind) for r in message.resources),
        risk=Risk(message.risk),
        text=message.text,
        digest=message.digest,
        facts=dict(message.facts),
    )


def principal_to_wire(principal: Principal) -> pb.Principal:
    return pb.Principal(
        tenant=principal.tenant,
        object_id=principal.object_id,
        client_id=principal.client_id,
        kind=principal.kind,
        name=principal.name,
        roles=sorted(principal.roles),
        groups=sorted(principal.groups),
        expires_at=principal.expires_at,
    )


def principal_from_wire(message: pb.Principal) -> Principal:
    return Principal(
        tenant=message.tenant,
        object_id=message.object_id,
        client_id=message.client_id,
        kind=PrincipalKind(message.kind),
        name=message.name,
        roles=frozenset(message.roles),
        groups=frozenset(message.groups),
        expires_at=message.expires_at,
    )


def terms_to_wire(terms: ApprovalTerms) -> pb.ApprovalTerms:
    return pb.ApprovalTerms(
        requirements=[
            pb.Requirement(rule=r.rule, groups=sorted(r.groups), count=r.count)
            for r in terms.requirements
        ],
        hold_seconds=terms.hold_seconds,
        validity_seconds=terms.validity_seconds,
        self_approval=terms.self_approval,
        reason_required=terms.reason_required,
        scopes=sorted(terms.scopes),
    )


def terms_from_wire(message: pb.ApprovalTerms) -> ApprovalTerms:
    return ApprovalTerms(
        requirements=tuple(
            Requirement(r.rule, frozenset(r.groups), r.count) for r in message.requirements
        ),
        hold_seconds=message.hold_seconds,
        validity_seconds=message.validity_seconds,
        self_approval=message.self_approval,
        reason_required=message.reason_required,
        scopes=frozenset(Scope(scope) for scope in message.scopes),
    )


def verdict_to_wire(verdict: Verdict) -> pb.Verdict:
    return pb.Verdict(
        outcome=verdict.outcome,
        code=verdict.code,
        reason=verdict.reason,
        rule=verdict.rule,
        terms=terms_to_wire(verdict.terms) if verdict.terms else None,
        approval_id=verdict.approval_id,
        decided_by=verdict.decided_by,
    )


def verdict_from_wire(message: pb.Verdict) -> Verdict:
    return Verdict(
        outcome=Outcome(message.outcome),
        code=message.code,
        reason=message.reason,
        rule=message.rule,
        terms=terms_from_wire(message.terms) if message.HasField("terms") else None,
        approval_id=message.approval_id,
        decided_by=message.decided_by,
    )


def target_to_wire(target: Target) -> pb.Target:
    return pb.Target(
        name=target.name,
        protocol=target.protocol,
        host=target.host,
        port=target.port,
        database=target.database,
        labels=dict(target.labels),
        tls=target.tls,
        ca=target.ca,
        relays=sorted(target.relays),
    )


def target_from_wire(message: pb.Target) -> Target:
    return Target(
        name=message.name,
        protocol=message.protocol,
        host=message.host,
        port=message.port,
        database=message.database,
        labels=dict(message.labels),
        tls=message.tls,
        ca=message.ca,
        relays=frozenset(message.relays),
    )


def credential_to_wire(credential: Credential) -> pb.Credential:
    return pb.Credential(username=credential.username, password=credential.password)


def credential_from_wire(message: pb.Credential) -> Credential:
    return Credential(message.username, message.password)


def policies_to_wire(policies: PolicySet) -> pb.PolicySet:
    return pb.PolicySet(
        version=policies.version,
        policies=[_policy_to_wire(policy) for policy in policies.policies],
        maskings=[
            pb.Masking(
                name=masking.name,
                targets=_selector_to_wire(masking.targets),
                rules=[_masking_rule_to_wire(rule) for rule in masking.rules],
            )
            for masking in policies.maskings
        ],
    )


def policies_from_wire(message: pb.PolicySet) -> PolicySet:
    return PolicySet(
        version=message.version,
        policies=tuple(_policy_from_wire(policy) for policy in message.policies),
        maskings=tuple(
            Masking(
                masking.name,
                _selector_from_wire(masking.targets),
                tuple(_masking_rule_from_wire(rule) for rule in masking.rules),
            )
            for masking in message.maskings
        ),
    )


def _policy_to_wire(policy: Policy) -> pb.Policy:
    return pb.Policy(
        name=policy.name,
        subjects=[
            pb.Subject(
                groups=sorted(subject.groups),
                roles=sorted(subject.roles),
                clients=sorted(subject.clients),
                kinds=sorted(subject.kinds),
            )
            for subject in policy.subjects
        ],
        targets=_selector_to_wire(policy.targets),
        rules=[_rule_to_wire(rule) for rule in policy.rules],
        masking=[_masking_rule_to_wire(rule) for rule in policy.masking],
        not_after=policy.not_after,
    )


def _policy_from_wire(message: pb.Policy) -> Policy:
    return Policy(
        name=message.name,
        subjects=tuple(
            Subject(
                frozenset(subject.groups),
                frozenset(subject.roles),
                frozenset(subject.clients),
                frozenset(PrincipalKind(kind) for kind in subject.kinds),
            )
            for subject in message.subjects
        ),
        targets=_selector_from_wire(message.targets),
        rules=tuple(_rule_from_wire(rule) for rule in message.rules),
        masking=tuple(_masking_rule_from_wire(rule) for rule in message.masking),
        not_after=message.not_after,
    )


def _selector_to_wire(selector: TargetSelector) -> pb.TargetSelector:
    return pb.TargetSelector(names=selector.names, labels=dict(selector.labels))


def _selector_from_wire(message: pb.TargetSelector) -> TargetSelector:
    return TargetSelector(tuple(message.names), dict(message.labels))


def _rule_to_wire(rule: Rule) -> pb.Rule:
    return pb.Rule(
        name=rule.name,
        outcome=rule.outcome,
        risks=sorted(rule.risks),  # type: ignore[arg-type]  # an open enum takes its number
        actions=rule.actions,
        resources=rule.resources,
        facts={name: pb.Patterns(patterns=patterns) for name, patterns in rule.facts.items()},
        terms=terms_to_wire(rule.terms) if rule.terms else None,
        reason=rule.reason,
    )


def _rule_from_wire(message: pb.Rule) -> Rule:
    return Rule(
        name=message.name,
        outcome=Outcome(message.outcome),
        risks=frozenset(Risk(risk) for risk in message.risks),
        actions=tuple(message.actions),
        resources=tuple(message.resources),
        facts={name: tuple(patterns.patterns) for name, patterns in message.facts.items()},
        terms=terms_from_wire(message.terms) if message.HasField("terms") else None,
        reason=message.reason,
    )


def _masking_rule_to_wire(rule: MaskingRule) -> pb.MaskingRule:
    return pb.MaskingRule(
        name=rule.name,
        transform=rule.transform,
        columns=rule.columns,
        detectors=rule.detectors,
        keep=rule.keep,
        constant=rule.constant,
    )


def _masking_rule_from_wire(message: pb.MaskingRule) -> MaskingRule:
    return MaskingRule(
        name=message.name,
        transform=Transform(message.transform),
        columns=tuple(message.columns),
        detectors=tuple(message.detectors),
        keep=message.keep,
        constant=message.constant,
    )
