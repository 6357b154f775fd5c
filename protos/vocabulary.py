"""The words both planes use: enums and frozen values, without behaviour that needs I/O.

Counterparts: :mod:`protos.policy` gives them meaning, :mod:`protos.wire` their protobuf
form. Everything here is immutable, so a value can be shared between tasks and kept in a
recording as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from types import MappingProxyType


class Risk(IntEnum):
    """What an operation can do at worst; the greater value wins, ``UNKNOWN`` beats all."""

    READ = 1
    WRITE = 2
    DESTROY = 3
    ADMINISTER = 4
    EXECUTE = 5
    UNKNOWN = 9


class Outcome(StrEnum):
    """What a policy, or a human, says of an operation."""

    ALLOW = "allow"
    APPROVE = "approve"
    REFUSE = "refuse"


class PrincipalKind(StrEnum):
    """The kinds of Entra identity a token can stand for; exactly one applies."""

    APPLICATION = "application"
    MANAGED_IDENTITY = "managed_identity"
    USER = "user"
    AGENT = "agent"
    AGENT_ON_BEHALF = "agent_on_behalf"
    AGENT_USER = "agent_user"


class Scope(StrEnum):
    """How far one human decision reaches. The operation's digest must be equal in each."""

    ONCE = "once"
    SESSION = "session"
    WINDOW = "window"


class EntryKind(IntEnum):
    """What an entry of a recording holds. The numbers are part of the recording format."""

    OPENED = 1
    REQUEST = 2
    ANSWER = 3
    JUDGED = 4
    HELD = 5
    DECIDED = 6
    CLOSED = 7


class Transform(StrEnum):
    """What masking leaves of a value, weakest first (see ``STRENGTH``)."""

    PARTIAL = "partial"
    PSEUDONYM = "pseudonym"
    CONSTANT = "constant"
    REDACT = "redact"
    NULL = "null"


STRENGTH: Mapping[Transform, int] = MappingProxyType(
    {transform: rank for rank, transform in enumerate(Transform)}
)
"""Where two masking rules meet on one value, the transform of the greater rank applies."""

DETECTORS: tuple[str, ...] = (
    "email",
    "phone",
    "card",
    "iban",
    "ip_address",
    "jwt",
    "aws_access_key",
    "private_key",
    "secret_token",
    "url_password",
    "us_ssn",
    "ca_sin",
    "gb_nhs",
    "au_tfn",
    "de_idnr",
    "fr_nir",
    "es_dni",
    "it_codicefiscale",
    "nl_bsn",
    "be_nn",
    "ch_ahv",
    "pl_pesel",
    "se_personnummer",
    "no_fodselsnummer",
    "fi_hetu",
    "br_cpf",
    "in_aadhaar",
)
"""What a masking rule may name under ``detectors``; :mod:`data_plane.masking` has them."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing an operation touches, e.g. ``public.orders``; ``kind`` says what it is."""

    name: str
    written: bool = False
    kind: str = "relation"


_NOTHING: Mapping[str, str] = MappingProxyType({})


def _nothing() -> Mapping[str, str]:
    return _NOTHING


@dataclass(frozen=True, slots=True)
class Operation:
    """What an agent asks for, as judged by policy and shown to a human.

    ``text`` is verbatim. ``digest`` is SHA-256 over everything in the protocol that must be
    equal for an approval to hold: the bytes that will be sent, bind values and prepared text
    included, and the session state that changes their meaning. The gate extends it by
    principal, target and policy version before it is used (:mod:`data_plane.gate`).
    """

    protocol: str
    action: str
    resources: tuple[Resource, ...]
    risk: Risk
    text: str
    digest: bytes = b""
    facts: Mapping[str, str] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who presented a verified token. The key of an identity is (``tenant``, ``object_id``).

    ``expires_at`` is the token's end in seconds since the epoch. ``name`` is for people to
    read and never for a decision.
    """

    tenant: str
    object_id: str
    client_id: str
    kind: PrincipalKind
    name: str = ""
    roles: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    expires_at: int = 0


@dataclass(frozen=True, slots=True)
class Requirement:
    """``count`` distinct humans out of any of ``groups`` must approve; ``rule`` says so."""

    rule: str
    groups: frozenset[str]
    count: int = 1


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """Under which terms an operation may be approved. All ``requirements`` must be met.

    ``hold_seconds``: how long the live operation waits. ``validity_seconds``: how long after
    the request a decision may come and be used by the same operation sent again.
    """

    requirements: tuple[Requirement, ...]
    hold_seconds: int = 300
    validity_seconds: int = 3600
    self_approval: bool = False
    reason_required: bool = False
    scopes: frozenset[Scope] = frozenset({Scope.ONCE})


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome with who or what decided it, in words that an agent may read.

    ``code`` is stable and meant for programs. ``rule`` is ``policy/rule``, or empty where no
    rule spoke. ``terms`` is set exactly where ``outcome`` is ``APPROVE``; after a human
    decided, ``outcome`` is ``ALLOW`` or ``REFUSE`` and ``approval_id`` and ``decided_by`` are
    set.
    """

    outcome: Outcome
    code: str
    reason: str
    rule: str = ""
    terms: ApprovalTerms | None = None
    approval_id: str = ""
    decided_by: str = ""


@dataclass(frozen=True, slots=True)
class MaskingRule:
    """What of an answer is masked, and how.

    Exactly one of ``columns`` and ``detectors`` is set. ``columns`` are patterns over
    ``schema.table.column`` (``fnmatch``, case-sensitive); ``detectors`` are names known to
    :mod:`data_plane.masking`. ``keep`` is the number of trailing characters that ``PARTIAL``
    leaves; ``constant`` is what ``CONSTANT`` puts instead. ``name`` identifies the rule in
    recordings.
    """

    name: str
    transform: Transform
    columns: tuple[str, ...] = ()
    detectors: tuple[str, ...] = ()
    keep: int = 4
    constant: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A place that agents reach through a relay. It holds no credential.

    ``tls`` is ``disable``, ``require``, ``verify-ca`` or ``verify-full``; ``ca`` is PEM, empty
    for the system's authorities. ``relays`` names the relays that serve it; empty means any.
    """

    name: str
    protocol: str
    host: str
    port: int
    database: str = ""
    labels: Mapping[str, str] = field(default_factory=_nothing)
    tls: str = "verify-full"
    ca: str = ""
    relays: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Credential:
    """What the gateway shows a target. Leased to a relay for one session, never shown on."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """One link of a session's recording; see :mod:`protos.chain` for its bytes and its hash.

    ``session`` is a UUID's 32 hexadecimal digits, ``sequence`` counts from 0 without a gap,
    ``at`` is nanoseconds since the epoch.
    """

    session: str
    sequence: int
    at: int
    kind: EntryKind
    payload: bytes = field(repr=False)
    hash: bytes = field(repr=False)
