from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Risk(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RISK_UNSPECIFIED: _ClassVar[Risk]
    RISK_READ: _ClassVar[Risk]
    RISK_WRITE: _ClassVar[Risk]
    RISK_DESTROY: _ClassVar[Risk]
    RISK_ADMINISTER: _ClassVar[Risk]
    RISK_EXECUTE: _ClassVar[Risk]
    RISK_UNKNOWN: _ClassVar[Risk]
RISK_UNSPECIFIED: Risk
RISK_READ: Risk
RISK_WRITE: Risk
RISK_DESTROY: Risk
RISK_ADMINISTER: Risk
RISK_EXECUTE: Risk
RISK_UNKNOWN: Risk

class Resource(_message.Message):
    __slots__ = ("name", "written", "kind")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    name: str
    written: bool
    kind: str
    def __init__(self, name: _Optional[str] = ..., written: _Optional[bool] = ..., kind: _Optional[str] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("protocol", "action", "resources", "risk", "text", "digest", "facts")
    class FactsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    RISK_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    protocol: str
    action: str
    resources: _containers.RepeatedCompositeFieldContainer[Resource]
    risk: Risk
    text: str
    digest: bytes
    facts: _containers.ScalarMap[str, str]
    def __init__(self, protocol: _Optional[str] = ..., action: _Optional[str] = ..., resources: _Optional[_Iterable[_Union[Resource, _Mapping]]] = ..., risk: _Optional[_Union[Risk, str]] = ..., text: _Optional[str] = ..., digest: _Optional[bytes] = ..., facts: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Principal(_message.Message):
    __slots__ = ("tenant", "object_id", "client_id", "kind", "name", "roles", "groups", "expires_at")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    object_id: str
    client_id: str
    kind: str
    name: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    groups: _containers.RepeatedScalarFieldContainer[str]
    expires_at: int
    def __init__(self, tenant: _Optional[str] = ..., object_id: _Optional[str] = ..., client_id: _Optional[str] = ..., kind: _Optional[str] = ..., name: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., groups: _Optional[_Iterable[str]] = ..., expires_at: _Optional[int] = ...) -> None: ...

class Requirement(_message.Message):
    __slots__ = ("rule", "groups", "count")
    RULE_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    rule: str
    groups: _containers.RepeatedScalarFieldContainer[str]
    count: int
    def __init__(self, rule: _Optional[str] = ..., groups: _Optional[_Iterable[str]] = ..., count: _Optional[int] = ...) -> None: ...

class ApprovalTerms(_message.Message):
    __slots__ = ("requirements", "hold_seconds", "validity_seconds", "self_approval", "reason_required", "scopes")
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    HOLD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    VALIDITY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SELF_APPROVAL_FIELD_NUMBER: _ClassVar[int]
    REASON_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    requirements: _containers.RepeatedCompositeFieldContainer[Requirement]
    hold_seconds: int
    validity_seconds: int
    self_approval: bool
    reason_required: bool
    scopes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, requirements: _Optional[_Iterable[_Union[Requirement, _Mapping]]] = ..., hold_seconds: _Optional[int] = ..., validity_seconds: _Optional[int] = ..., self_approval: _Optional[bool] = ..., reason_required: _Optional[bool] = ..., scopes: _Optional[_Iterable[str]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("outcome", "code", "reason", "rule", "terms", "approval_id", "decided_by")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    outcome: str
    code: str
    reason: str
    rule: str
    terms: ApprovalTerms
    approval_id: str
    decided_by: str
    def __init__(self, outcome: _Optional[str] = ..., code: _Optional[str] = ..., reason: _Optional[str] = ..., rule: _Optional[str] = ..., terms: _Optional[_Union[ApprovalTerms, _Mapping]] = ..., approval_id: _Optional[str] = ..., decided_by: _Optional[str] = ...) -> None: ...

class Subject(_message.Message):
    __slots__ = ("groups", "roles", "clients", "kinds")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedScalarFieldContainer[str]
    roles: _containers.RepeatedScalarFieldContainer[str]
    clients: _containers.RepeatedScalarFieldContainer[str]
    kinds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, groups: _Optional[_Iterable[str]] = ..., roles: _Optional[_Iterable[str]] = ..., clients: _Optional[_Iterable[str]] = ..., kinds: _Optional[_Iterable[str]] = ...) -> None: ...

class TargetSelector(_message.Message):
    __slots__ = ("names", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAMES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    def __init__(self, names: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Patterns(_message.Message):
    __slots__ = ("patterns",)
    PATTERNS_FIELD_NUMBER: _ClassVar[int]
    patterns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, patterns: _Optional[_Iterable[str]] = ...) -> None: ...

class Rule(_message.Message):
    __slots__ = ("name", "outcome", "risks", "actions", "resources", "facts", "terms", "reason")
    class FactsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Patterns
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Patterns, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    RISKS_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    outcome: str
    risks: _containers.RepeatedScalarFieldContainer[Risk]
    actions: _containers.RepeatedScalarFieldContainer[str]
    resources: _containers.RepeatedScalarFieldContainer[str]
    facts: _containers.MessageMap[str, Patterns]
    terms: ApprovalTerms
    reason: str
    def __init__(self, name: _Optional[str] = ..., outcome: _Optional[str] = ..., risks: _Optional[_Iterable[_Union[Risk, str]]] = ..., actions: _Optional[_Iterable[str]] = ..., resources: _Optional[_Iterable[str]] = ..., facts: _Optional[_Mapping[str, Patterns]] = ..., terms: _Optional[_Union[ApprovalTerms, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class MaskingRule(_message.Message):
    __slots__ = ("name", "transform", "columns", "detectors", "keep", "constant")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    DETECTORS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    CONSTANT_FIELD_NUMBER: _ClassVar[int]
    name: str
    transform: str
    columns: _containers.RepeatedScalarFieldContainer[str]
    detectors: _containers.RepeatedScalarFieldContainer[str]
    keep: int
    constant: str
    def __init__(self, name: _Optional[str] = ..., transform: _Optional[str] = ..., columns: _Optional[_Iterable[str]] = ..., detectors: _Optional[_Iterable[str]] = ..., keep: _Optional[int] = ..., constant: _Optional[str] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("name", "subjects", "targets", "rules", "masking", "not_after")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    MASKING_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    name: str
    subjects: _containers.RepeatedCompositeFieldContainer[Subject]
    targets: TargetSelector
    rules: _containers.RepeatedCompositeFieldContainer[Rule]
    masking: _containers.RepeatedCompositeFieldContainer[MaskingRule]
    not_after: int
    def __init__(self, name: _Optional[str] = ..., subjects: _Optional[_Iterable[_Union[Subject, _Mapping]]] = ..., targets: _Optional[_Union[TargetSelector, _Mapping]] = ..., rules: _Optional[_Iterable[_Union[Rule, _Mapping]]] = ..., masking: _Optional[_Iterable[_Union[MaskingRule, _Mapping]]] = ..., not_after: _Optional[int] = ...) -> None: ...

class Masking(_message.Message):
    __slots__ = ("name", "targets", "rules")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    name: str
    targets: TargetSelector
    rules: _containers.RepeatedCompositeFieldContainer[MaskingRule]
    def __init__(self, name: _Optional[str] = ..., targets: _Optional[_Union[TargetSelector, _Mapping]] = ..., rules: _Optional[_Iterable[_Union[MaskingRule, _Mapping]]] = ...) -> None: ...

class PolicySet(_message.Message):
    __slots__ = ("version", "policies", "maskings")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    MASKINGS_FIELD_NUMBER: _ClassVar[int]
    version: str
    policies: _containers.RepeatedCompositeFieldContainer[Policy]
    maskings: _containers.RepeatedCompositeFieldContainer[Masking]
    def __init__(self, version: _Optional[str] = ..., policies: _Optional[_Iterable[_Union[Policy, _Mapping]]] = ..., maskings: _Optional[_Iterable[_Union[Masking, _Mapping]]] = ...) -> None: ...

class Target(_message.Message):
    __slots__ = ("name", "protocol", "host", "port", "database", "labels", "tls", "ca", "relays")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    CA_FIELD_NUMBER: _ClassVar[int]
    RELAYS_FIELD_NUMBER: _ClassVar[int]
    name: str
    protocol: str
    host: str
    port: int
    database: str
    labels: _containers.ScalarMap[str, str]
    tls: str
    ca: str
    relays: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., protocol: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., database: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., tls: _Optional[str] = ..., ca: _Optional[str] = ..., relays: _Optional[_Iterable[str]] = ...) -> None: ...

class Credential(_message.Message):
    __slots__ = ("username", "password")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    username: str
    password: str
    def __init__(self, username: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class EnrolRequest(_message.Message):
    __slots__ = ("join_token", "credential", "hosts", "version")
    JOIN_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    join_token: str
    credential: str
    hosts: _containers.RepeatedScalarFieldContainer[str]
    version: str
    def __init__(self, join_token: _Optional[str] = ..., credential: _Optional[str] = ..., hosts: _Optional[_Iterable[str]] = ..., version: _Optional[str] = ...) -> None: ...

class Enrolment(_message.Message):
    __slots__ = ("relay", "credential", "certificate", "private_key", "certificate_expires_at")
    RELAY_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_KEY_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    relay: str
    credential: str
    certificate: str
    private_key: str
    certificate_expires_at: int
    def __init__(self, relay: _Optional[str] = ..., credential: _Optional[str] = ..., certificate: _Optional[str] = ..., private_key: _Optional[str] = ..., certificate_expires_at: _Optional[int] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("boot_id", "version", "protocols", "sessions")
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOLS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    boot_id: str
    version: str
    protocols: _containers.RepeatedScalarFieldContainer[str]
    sessions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, boot_id: _Optional[str] = ..., version: _Optional[str] = ..., protocols: _Optional[_Iterable[str]] = ..., sessions: _Optional[_Iterable[str]] = ...) -> None: ...

class PolicyUpdate(_message.Message):
    __slots__ = ("policies", "ended", "question", "console_url", "masking_key")
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    CONSOLE_URL_FIELD_NUMBER: _ClassVar[int]
    MASKING_KEY_FIELD_NUMBER: _ClassVar[int]
    policies: PolicySet
    ended: _containers.RepeatedCompositeFieldContainer[EndSession]
    question: ClassifyQuestion
    console_url: str
    masking_key: bytes
    def __init__(self, policies: _Optional[_Union[PolicySet, _Mapping]] = ..., ended: _Optional[_Iterable[_Union[EndSession, _Mapping]]] = ..., question: _Optional[_Union[ClassifyQuestion, _Mapping]] = ..., console_url: _Optional[str] = ..., masking_key: _Optional[bytes] = ...) -> None: ...

class EndSession(_message.Message):
    __slots__ = ("session", "code", "reason")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    session: str
    code: str
    reason: str
    def __init__(self, session: _Optional[str] = ..., code: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ClassifyQuestion(_message.Message):
    __slots__ = ("id", "protocol", "target", "text")
    ID_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    id: str
    protocol: str
    target: str
    text: str
    def __init__(self, id: _Optional[str] = ..., protocol: _Optional[str] = ..., target: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class ClassifyAnswer(_message.Message):
    __slots__ = ("id", "operation")
    ID_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    id: str
    operation: Operation
    def __init__(self, id: _Optional[str] = ..., operation: _Optional[_Union[Operation, _Mapping]] = ...) -> None: ...

class Answered(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ("token", "target", "protocol", "client_address")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    token: str
    target: str
    protocol: str
    client_address: str
    def __init__(self, token: _Optional[str] = ..., target: _Optional[str] = ..., protocol: _Optional[str] = ..., client_address: _Optional[str] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("session", "principal", "target", "credential", "expires_at", "denied_code", "denied_reason")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    DENIED_CODE_FIELD_NUMBER: _ClassVar[int]
    DENIED_REASON_FIELD_NUMBER: _ClassVar[int]
    session: str
    principal: Principal
    target: Target
    credential: Credential
    expires_at: int
    denied_code: str
    denied_reason: str
    def __init__(self, session: _Optional[str] = ..., principal: _Optional[_Union[Principal, _Mapping]] = ..., target: _Optional[_Union[Target, _Mapping]] = ..., credential: _Optional[_Union[Credential, _Mapping]] = ..., expires_at: _Optional[int] = ..., denied_code: _Optional[str] = ..., denied_reason: _Optional[str] = ...) -> None: ...

class ApprovalRequest(_message.Message):
    __slots__ = ("hold_id", "session", "operation", "verdict", "policy_version")
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    hold_id: str
    session: str
    operation: Operation
    verdict: Verdict
    policy_version: str
    def __init__(self, hold_id: _Optional[str] = ..., session: _Optional[str] = ..., operation: _Optional[_Union[Operation, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., policy_version: _Optional[str] = ...) -> None: ...

class Approval(_message.Message):
    __slots__ = ("approval_id", "url", "hold_until", "valid_until")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    HOLD_UNTIL_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_FIELD_NUMBER: _ClassVar[int]
    approval_id: str
    url: str
    hold_until: int
    valid_until: int
    def __init__(self, approval_id: _Optional[str] = ..., url: _Optional[str] = ..., hold_until: _Optional[int] = ..., valid_until: _Optional[int] = ...) -> None: ...

class AwaitRequest(_message.Message):
    __slots__ = ("approval_id", "hold_id")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    approval_id: str
    hold_id: str
    def __init__(self, approval_id: _Optional[str] = ..., hold_id: _Optional[str] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("verdict",)
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    def __init__(self, verdict: _Optional[_Union[Verdict, _Mapping]] = ...) -> None: ...

class Withdrawal(_message.Message):
    __slots__ = ("approval_id", "hold_id", "reason")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    approval_id: str
    hold_id: str
    reason: str
    def __init__(self, approval_id: _Optional[str] = ..., hold_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Withdrawn(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RecordBatch(_message.Message):
    __slots__ = ("position", "frames")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    position: int
    frames: bytes
    def __init__(self, position: _Optional[int] = ..., frames: _Optional[bytes] = ...) -> None: ...

class RecordAck(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...
