"""What Policy and Masking documents hold, and what explaining takes and gives."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    StringConstraints,
    model_validator,
)

from control_plane.documents.validation import Kind, Labels, Name, Strict
from protos.vocabulary import DETECTORS

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
LONGEST_HOLD = 86_400
LONGEST_VALIDITY = 30 * 86_400


def _guid(value: str) -> str:
    # Entra writes GUIDs in lower case; people paste them in either.
    lowered = value.lower()
    if not _GUID.fullmatch(lowered):
        raise ValueError("must be a GUID: an object id of Entra, not a name")
    return lowered


def _column(value: str) -> str:
    # Without a wildcard for the rest, less than three parts match no column at all.
    if value.count(".") < 2 and "*" not in value:
        raise ValueError("must be schema.table.column, or have * for what is left out")
    return value


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        parts = list(_DURATION.finditer(value))
        if parts and "".join(part[0] for part in parts) == value:
            return sum(int(part[1]) * _UNITS[part[2]] for part in parts)
    raise ValueError('must be a duration: "90s", "5m", "1h30m", "7d"')


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _null_word(value: Any) -> Any:
    # In YAML the word null is no string; here it names the transform.
    return "null" if value is None else value


Guid = Annotated[str, StringConstraints(max_length=36), AfterValidator(_guid)]
# Every text is a pattern: what could be none, such as an unclosed [, stands for itself.
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Seconds = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=str)]
Patterns = Annotated[list[Pattern], Field(max_length=500)]
Guids = Annotated[list[Guid], Field(max_length=500)]
KindName = Literal[
    "application", "managed_identity", "user", "agent", "agent_on_behalf", "agent_user"
]
ScopeName = Literal["once", "session", "window"]
RiskName = Literal["read", "write", "destroy", "administer", "execute", "unknown"]


def _only_once() -> list[ScopeName]:
    return ["once"]


class SubjectSpec(Strict):
    """Who is meant: every field that is given must hold one of the principal's values."""

    groups: Guids = Field(default_factory=list)
    roles: Annotated[list[Word], Field(max_length=500)] = Field(default_factory=list)
    clients: Guids = Field(default_factory=list)
    kinds: list[KindName] = Field(default_factory=list)

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not (self.groups or self.roles or self.clients or self.kinds):
            raise ValueError("needs groups, roles, clients or kinds: it would match nobody")
        return self


class SelectorSpec(Strict):
    """Which targets are meant: by name and by labels, both as patterns."""

    names: Patterns = Field(default_factory=list)
    labels: Labels = Field(default_factory=dict)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.names or self.labels):
            raise ValueError('needs names or labels: names: ["*"] selects every target')
        return self


class ApprovalSpec(Strict):
    """What it takes for a human to let an operation through."""

    groups: Annotated[Guids, Field(min_length=1)]
    count: Annotated[int, Field(ge=1, le=20)] = 1
    hold: Annotated[Seconds, Field(ge=1, le=LONGEST_HOLD)] = 300
    validity: Annotated[Seconds, Field(ge=1, le=LONGEST_VALIDITY)] = 3600
    self_approval: bool = False
    reason_required: bool = False
    scopes: Annotated[list[ScopeName], Field(min_length=1)] = Field(default_factory=_only_once)

    @model_validator(mode="after")
    def _valid_while_held(self) -> Self:
        if self.validity < self.hold:
            raise ValueError("validity is shorter than hold: it would end while held")
        return self


class RuleSpec(Strict):
    """One sentence of a policy; an absent field says nothing."""

    name: Name
    outcome: Literal["allow", "approve", "refuse"]
    risks: list[RiskName] = Field(default_factory=list)
    actions: Patterns = Field(default_factory=list)
    resources: Patterns = Field(default_factory=list)
    facts: Annotated[
        dict[Word, Annotated[Patterns, BeforeValidator(_listed), Field(min_length=1)]],
        Field(max_length=50),
    ] = Field(default_factory=dict)
    approval: ApprovalSpec | None = None
    reason: Annotated[str, StringConstraints(max_length=500)] = ""

    @model_validator(mode="after")
    def _approval_belongs(self) -> Self:
        if self.outcome == "approve" and self.approval is None:
            raise ValueError("outcome approve needs approval, with the groups that may approve")
        if self.outcome != "approve" and self.approval is not None:
            raise ValueError(f"approval has no meaning with outcome {self.outcome}")
        return self


class MaskingRuleSpec(Strict):
    """What of an answer is masked, and how."""

    name: Name
    transform: Annotated[
        Literal["partial", "pseudonym", "constant", "redact", "null"], BeforeValidator(_null_word)
    ]
    columns: Annotated[list[Annotated[Pattern, AfterValidator(_column)]], Field(max_length=500)] = (
        Field(default_factory=list)
    )
    # The names are data of the contract; a checker wants them written out.
    detect: list[Literal[DETECTORS]] = Field(default_factory=list)  # type: ignore[valid-type]
    keep: Annotated[int, Field(ge=0, le=64)] | None = None
    constant: Annotated[str, StringConstraints(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.columns) == bool(self.detect):
            raise ValueError("needs either columns or detect")
        if self.keep is not None and self.transform != "partial":
            raise ValueError("keep belongs to transform partial")
        if (self.constant is not None) != (self.transform == "constant"):
            raise ValueError("constant and transform constant belong together")
        return self


def _distinct(rules: list[Any]) -> list[Any]:
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            raise ValueError(f"two rules have the name {rule.name}")
        seen.add(rule.name)
    return rules


MaskingRules = Annotated[list[MaskingRuleSpec], Field(max_length=500), AfterValidator(_distinct)]


class PolicySpec(Strict):
    """Who may do what where, and what of the answers they see."""

    subjects: Annotated[list[SubjectSpec], Field(min_length=1, max_length=500)]
    targets: SelectorSpec
    rules: Annotated[list[RuleSpec], Field(max_length=500), AfterValidator(_distinct)] = Field(
        default_factory=list
    )
    masking: MaskingRules = Field(default_factory=list)
    not_after: AwareDatetime | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.rules or self.masking):
            raise ValueError("has neither rules nor masking")
        return self


class MaskingSpec(Strict):
    """Masking for everybody who reaches the selected targets."""

    targets: SelectorSpec
    rules: Annotated[MaskingRules, Field(min_length=1)]


POLICY = Kind("Policy", "policies", PolicySpec)
MASKING = Kind("Masking", "maskings", MaskingSpec)
