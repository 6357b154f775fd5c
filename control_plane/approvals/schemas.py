"""Approvals over REST: all that a human needs to decide."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from control_plane.approvals.models import Approval
from control_plane.approvals.rules import ApprovalState, Choice, progress
from control_plane.approvals.stored import operation_of, voices_of
from control_plane.sessions.schemas import PrincipalView
from control_plane.sessions.stored import principal_of
from protos.vocabulary import ApprovalTerms, Scope


class ResourceView(BaseModel):
    """One thing that the operation touches."""

    name: str
    kind: str
    written: bool


class OperationView(BaseModel):
    """What the agent asks for. `text` is verbatim: it is what will run."""

    protocol: str
    action: str
    resources: list[ResourceView]
    risk: str = Field(examples=["destroy"])
    text: str
    facts: dict[str, str] = Field(examples=[{"where": "absent"}])
    digest: str = Field(description="SHA-256, hexadecimal, over all that must stay equal.")


class RequirementView(BaseModel):
    """One of the requirements that must all be met, and how far it is."""

    rule: str
    groups: list[str] = Field(description="Approvers are members of any of these.")
    count: int = Field(description="How many different humans.")
    approved_by: list[str]
    met: bool


class DecisionView(BaseModel):
    """What one human decided."""

    decision: Choice
    tenant: str
    object_id: str
    name: str
    reason: str
    scope: Scope
    at: datetime


class ApprovalView(BaseModel):
    """One approval: who asks for what, where, why it is held, and who has to decide."""

    id: str = Field(examples=["apr_7k3m9qwx2d"])
    url: str
    state: ApprovalState
    principal: PrincipalView
    operation: OperationView
    target: str
    relay: str
    session: str
    rule: str = Field(description="Why it is held: `policy/rule`.")
    reason: str = Field(description="Why it is held, in the policy's words.")
    policy_version: str
    requirements: list[RequirementView]
    self_approval: bool
    reason_required: bool
    scopes: list[Scope] = Field(description="How far an approval may reach.")
    decisions: list[DecisionView]
    held: bool = Field(description="Whether the operation waits right now.")
    created_at: datetime
    hold_until: datetime
    valid_until: datetime
    deadline: datetime = Field(
        description="While it waits, the end of the hold; then, until when a decision still"
        " helps: the agent has to send the same again."
    )
    seconds_left: int = Field(description="Until the deadline; 0 once there is nothing to decide.")
    scope: Scope | None = Field(description="How far it was granted.")
    decided_at: datetime | None
    consumed_at: datetime | None
    uses: int
    closing_reason: str = Field(description="Why the agent gave it up.")
    may_decide: bool = Field(description="Whether the caller may approve it now.")

    @classmethod
    def of(
        cls,
        row: Approval,
        state: ApprovalState,
        url: str,
        moment: datetime,
        *,
        may_decide: bool,
        terms: ApprovalTerms,
    ) -> ApprovalView:
        """The view of a row at ``moment``."""
        operation = operation_of(row)
        pending = state is ApprovalState.PENDING
        held = pending and row.hold_until > moment
        deadline = row.hold_until if held else row.valid_until
        left = int((deadline - moment).total_seconds()) if pending else 0
        return cls(
            id=row.id,
            url=url,
            state=state,
            principal=PrincipalView.of(principal_of(row.principal)),
            operation=OperationView(
                protocol=operation.protocol,
                action=operation.action,
                resources=[
                    ResourceView(name=one.name, kind=one.kind, written=one.written)
                    for one in operation.resources
                ],
                risk=operation.risk.name.lower(),
                text=operation.text,
                facts=dict(operation.facts),
                digest=operation.digest.hex(),
            ),
            target=row.target,
            relay=row.relay,
            session=row.session,
            rule=row.rule,
            reason=row.reason,
            policy_version=row.policy_version,
            requirements=[
                RequirementView(
                    rule=one.requirement.rule,
                    groups=sorted(one.requirement.groups),
                    count=one.requirement.count,
                    approved_by=list(one.by),
                    met=one.met,
                )
                for one in progress(terms, voices_of(row))
            ],
            self_approval=terms.self_approval,
            reason_required=terms.reason_required,
            scopes=sorted(terms.scopes),
            decisions=[
                DecisionView(
                    decision=Choice(one.decision),
                    tenant=one.tenant,
                    object_id=one.object_id,
                    name=one.name,
                    reason=one.reason,
                    scope=Scope(one.scope),
                    at=one.at,
                )
                for one in row.decisions
            ],
            held=held,
            created_at=row.created_at,
            hold_until=row.hold_until,
            valid_until=row.valid_until,
            deadline=deadline,
            seconds_left=max(0, left),
            scope=Scope(row.scope) if row.scope else None,
            decided_at=row.decided_at,
            consumed_at=row.consumed_at,
            uses=row.uses,
            closing_reason=row.closing_reason,
            may_decide=may_decide,
        )


class DecisionInput(BaseModel):
    """A decision on exactly the operation shown."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"decision": "approve", "reason": "ticket 4711", "scope": "once"}]
        },
    )

    decision: Choice
    reason: str = Field(
        default="",
        max_length=2000,
        pattern=r"^[^\x00]*$",
        description="The agent is told, and it is kept.",
    )
    scope: Scope | None = Field(default=None, description="Absent: this operation once.")
