"""What explaining takes and gives over HTTP."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from control_plane.documents.validation import Name
from control_plane.policy.explain import Explanation
from control_plane.policy.schemas import Guid, Word
from protos.vocabulary import ApprovalTerms, Principal, PrincipalKind

NOBODY = "00000000-0000-0000-0000-000000000000"
MAX_STATEMENT = 200_000


class ExplainRequest(BaseModel):
    """An agent, as its token would describe it, a target and a statement."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "target": "orders",
                    "statement": "DELETE FROM orders",
                    "groups": ["3f1c7a52-8f0e-4a37-9a53-0c6b6f0a7d11"],
                    "kind": "application",
                }
            ]
        },
    )

    target: Name
    statement: Annotated[
        str, StringConstraints(min_length=1, max_length=MAX_STATEMENT, pattern=r"^[^\x00]*$")
    ]
    client_id: Guid = NOBODY
    groups: Annotated[list[Guid], Field(max_length=500)] = Field(default_factory=list)
    roles: Annotated[list[Word], Field(max_length=500)] = Field(default_factory=list)
    kind: PrincipalKind = PrincipalKind.APPLICATION

    @property
    def principal(self) -> Principal:
        """Whom it asks about."""
        return Principal(
            tenant=NOBODY,
            object_id=NOBODY,
            client_id=self.client_id,
            kind=self.kind,
            roles=frozenset(self.roles),
            groups=frozenset(self.groups),
        )


class ExplainedResource(BaseModel):
    """Something that the statement touches."""

    name: str
    written: bool
    kind: str


class ExplainedOperation(BaseModel):
    """How the relay would classify the statement."""

    protocol: str
    action: str
    risk: str
    resources: list[ExplainedResource]
    facts: dict[str, str]


class ExplainedRequirement(BaseModel):
    """Who would have to approve."""

    rule: str
    groups: list[str]
    count: int


class ExplainedTerms(BaseModel):
    """Under which terms it could be approved."""

    requirements: list[ExplainedRequirement]
    hold_seconds: int
    validity_seconds: int
    self_approval: bool
    reason_required: bool
    scopes: list[str]

    @classmethod
    def of(cls, terms: ApprovalTerms) -> ExplainedTerms:
        """Terms as they are shown."""
        return cls(
            requirements=[
                ExplainedRequirement(rule=one.rule, groups=sorted(one.groups), count=one.count)
                for one in terms.requirements
            ],
            hold_seconds=terms.hold_seconds,
            validity_seconds=terms.validity_seconds,
            self_approval=terms.self_approval,
            reason_required=terms.reason_required,
            scopes=sorted(terms.scopes),
        )


class ExplainedVerdict(BaseModel):
    """What would happen."""

    outcome: str
    code: str
    reason: str
    rule: str
    terms: ExplainedTerms | None


class MatchingRule(BaseModel):
    """A rule that speaks of the statement, whether or not it decided."""

    policy: str
    rule: str
    outcome: str
    reason: str


class ApplyingMask(BaseModel):
    """A masking rule for what the agent would see at this target."""

    rule: str
    transform: str
    columns: list[str]
    detect: list[str]


class Explained(BaseModel):
    """What would happen, and why."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "policy_version": "9f86d081884c7d65",
                    "operation": {
                        "protocol": "postgres",
                        "action": "delete",
                        "risk": "destroy",
                        "resources": [
                            {"name": "public.orders", "written": True, "kind": "relation"}
                        ],
                        "facts": {"where": "absent"},
                    },
                    "verdict": {
                        "outcome": "approve",
                        "code": "approval_required",
                        "reason": "this operation needs a human's approval",
                        "rule": "agents/destructive",
                        "terms": {
                            "requirements": [
                                {
                                    "rule": "agents/destructive",
                                    "groups": ["a3a1c6de-54d2-4b0c-8e0a-6f0a3c1b2d22"],
                                    "count": 1,
                                }
                            ],
                            "hold_seconds": 300,
                            "validity_seconds": 3600,
                            "self_approval": False,
                            "reason_required": False,
                            "scopes": ["once"],
                        },
                    },
                    "policies": ["agents"],
                    "matching": [
                        {
                            "policy": "agents",
                            "rule": "destructive",
                            "outcome": "approve",
                            "reason": "",
                        }
                    ],
                    "masking": [
                        {
                            "rule": "agents/mail",
                            "transform": "partial",
                            "columns": ["public.customers.email"],
                            "detect": [],
                        }
                    ],
                }
            ]
        }
    )

    policy_version: str
    operation: ExplainedOperation
    verdict: ExplainedVerdict
    policies: list[str] = Field(description="The policies that apply to the agent there.")
    matching: list[MatchingRule]
    masking: list[ApplyingMask]

    @classmethod
    def of(cls, explanation: Explanation) -> Explained:
        """An explanation as it is shown."""
        operation, verdict = explanation.operation, explanation.verdict
        return cls(
            policy_version=explanation.version,
            operation=ExplainedOperation(
                protocol=operation.protocol,
                action=operation.action,
                risk=operation.risk.name.lower(),
                resources=[
                    ExplainedResource(name=one.name, written=one.written, kind=one.kind)
                    for one in operation.resources
                ],
                facts=dict(operation.facts),
            ),
            verdict=ExplainedVerdict(
                outcome=verdict.outcome,
                code=verdict.code,
                reason=verdict.reason,
                rule=verdict.rule,
                terms=None if verdict.terms is None else ExplainedTerms.of(verdict.terms),
            ),
            policies=list(explanation.policies),
            matching=[
                MatchingRule(
                    policy=policy.name, rule=rule.name, outcome=rule.outcome, reason=rule.reason
                )
                for policy, rule in explanation.matching
            ],
            masking=[
                ApplyingMask(
                    rule=rule.name,
                    transform=rule.transform,
                    columns=list(rule.columns),
                    detect=list(rule.detectors),
                )
                for rule in explanation.masking
            ],
        )
