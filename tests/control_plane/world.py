"""A control plane without its doors: every service, real, on a test's database and clock."""

from __future__ import annotations

import hashlib
import itertools
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from control_plane.approvals.holds import Asked, HoldRequest, HoldService, Waiting
from control_plane.approvals.rules import Choice
from control_plane.approvals.schemas import ApprovalView
from control_plane.approvals.service import ApprovalService, Human, Statement
from control_plane.audit.service import AuditTrail
from control_plane.credentials.keys import MasterKeys
from control_plane.credentials.service import CredentialService
from control_plane.database import Database
from control_plane.documents.service import DocumentStore
from control_plane.policy.kinds import KINDS
from control_plane.policy.service import PolicyService
from control_plane.recordings.service import RecordingService
from control_plane.recordings.store import RecordingFiles
from control_plane.sessions.events import EventFeed
from control_plane.sessions.service import Opened, SessionService
from control_plane.targets.service import TargetService
from control_plane.wakeups import Wakeups
from protos.chain import extend, genesis
from protos.vocabulary import (
    ApprovalTerms,
    Credential,
    EntryKind,
    Operation,
    Outcome,
    Principal,
    PrincipalKind,
    Requirement,
    Resource,
    Risk,
    Scope,
    Verdict,
)
from tests.control_plane.tokens import TENANT, claims, guid, sign, verifier

ANALYSTS = guid("analysts")
APPROVERS = guid("approvers")
OWNERS = guid("owners")
URL = "https://gate.example"

DOCUMENTS = f"""
apiVersion: jitgate/v1
kind: Relay
metadata: {{name: relay-1}}
spec: {{hosts: [127.0.0.1, localhost]}}
---
apiVersion: jitgate/v1
kind: Relay
metadata: {{name: relay-2}}
spec: {{hosts: [127.0.0.1]}}
---
apiVersion: jitgate/v1
kind: Target
metadata: {{name: orders}}
spec: {{protocol: postgres, host: 127.0.0.1, port: 5432, database: shop,
  tls: {{mode: disable}}, credential: orders-gateway, relays: [relay-1]}}
---
apiVersion: jitgate/v1
kind: Target
metadata: {{name: vault}}
spec: {{protocol: postgres, host: 127.0.0.1, port: 5432, credential: orders-gateway}}
---
apiVersion: jitgate/v1
kind: Target
metadata: {{name: empty}}
spec: {{protocol: postgres, host: 127.0.0.1, port: 5432, credential: nothing-here}}
---
apiVersion: jitgate/v1
kind: Policy
metadata: {{name: analysts}}
spec:
  subjects: [{{groups: [{ANALYSTS}]}}]
  targets: {{names: [orders, empty]}}
  rules:
    - {{name: read, outcome: allow, risks: [read]}}
    - name: destructive
      outcome: approve
      risks: [write, destroy]
      approval: {{groups: [{APPROVERS}]}}
"""


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        """This moment."""
        return self.moment

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.moment += timedelta(seconds=seconds)


def human(
    name: str, *groups: str, sees_all: bool = False, kind: PrincipalKind = PrincipalKind.USER
) -> Human:
    """Somebody with a token."""
    who = Principal(TENANT, guid(name), guid("cli"), kind, name, groups=frozenset(groups))
    return Human(who, f"{name} ({who.object_id})", sees_all)


def terms(
    *requirements: Requirement,
    hold: int = 300,
    validity: int = 3600,
    self_approval: bool = False,
    reason_required: bool = False,
    scopes: frozenset[Scope] = frozenset({Scope.ONCE}),
) -> ApprovalTerms:
    """Terms; without requirements, one approver."""
    return ApprovalTerms(
        requirements or (Requirement("analysts/destructive", frozenset({APPROVERS})),),
        hold,
        validity,
        self_approval,
        reason_required,
        scopes,
    )


def operation(text: str = "DELETE FROM orders") -> Operation:
    """A held operation; equal texts have equal digests."""
    return Operation(
        "postgres",
        "delete",
        (Resource("public.orders", written=True),),
        Risk.DESTROY,
        text,
        hashlib.sha256(text.encode()).digest(),
        {"where": "absent"},
    )


@dataclass
class Chain:
    """A session's recording, as its relay writes it."""

    session: str
    frames: list[bytes] = field(default_factory=list)
    at: int = 1_770_000_000_000_000_000

    def __post_init__(self) -> None:
        self._head = genesis(self.session)

    def add(self, kind: EntryKind, payload: bytes) -> bytes:
        """The next frame."""
        self.at += 1_000_000
        raw = bytes.fromhex(self.session)
        self._head, header, digest = extend(self._head, raw, self.at, kind, payload)
        self.frames.append(header + payload + digest)
        return self.frames[-1]

    @classmethod
    def whole(cls, session: str, requests: int = 3) -> Chain:
        """A complete recording."""
        chain = cls(session)
        chain.add(EntryKind.OPENED, b'{"target":"orders"}')
        for number in range(requests):
            chain.add(EntryKind.REQUEST, b"Q%d" % number)
            chain.add(EntryKind.ANSWER, b"A%d" % number * 10)
        chain.add(EntryKind.CLOSED, b'{"code":"client_closed","reason":"the agent left"}')
        return chain

    @property
    def bytes(self) -> bytes:
        """All frames."""
        return b"".join(self.frames)


class World:
    """All services, connected as the application connects them."""

    def __init__(self, database: Database, directory: Path, clock: Clock) -> None:
        self.database = database
        self.directory = directory
        self.clock = clock
        self.wakeups = Wakeups()
        self.audit = AuditTrail(clock=clock)
        self.documents = DocumentStore(database, self.audit, self.wakeups, KINDS, clock=clock)
        self.documents.apply(DOCUMENTS, "test")
        keys = MasterKeys.load(directory / "master.key")
        self.credentials = CredentialService(database, self.audit, keys, clock=clock)
        self.credentials.put("orders-gateway", Credential("app", "hunter2"), "test")
        self.events = EventFeed(database, clock=clock)
        self.sessions = SessionService(
            database,
            self.wakeups,
            self.audit,
            verifier(clock=lambda: clock().timestamp()),
            TargetService(self.documents),
            PolicyService(self.documents),
            self.credentials,
            self.events,
            8 * 3600,
            clock=clock,
        )
        self.approvals = ApprovalService(
            database, self.wakeups, self.audit, self.events, URL, clock=clock
        )
        self.holds = HoldService(
            database, self.wakeups, self.sessions, self.events, URL, clock=clock
        )
        self.files = RecordingFiles(directory / "recordings")
        self.recordings = RecordingService(
            database,
            self.wakeups,
            self.audit,
            self.sessions,
            self.events,
            self.files,
            clock=clock,
        )
        self._numbers = itertools.count()

    def token(
        self,
        name: str = "agent-one",
        *groups: str,
        kind: PrincipalKind = PrincipalKind.AGENT,
        **changes: object,
    ) -> str:
        """An access token; of the analysts unless groups are given."""
        return sign(
            claims(
                kind,
                at=self.clock().timestamp(),
                name=name,
                groups=list(groups or (ANALYSTS,)),
                **changes,
            )
        )

    def open(self, name: str = "agent-one", relay: str = "relay-1", boot: str = "boot-1") -> str:
        """The id of a session opened for an agent at ``orders``."""
        opened = self.sessions.open(
            self.token(name), "orders", "postgres", "127.0.0.1:5000", relay, boot
        )
        assert isinstance(opened, Opened), opened
        return opened.session

    def ask(
        self,
        session: str,
        what: Operation | None = None,
        *,
        by: ApprovalTerms | None = None,
        hold_id: str = "",
        relay: str = "relay-1",
    ) -> tuple[Asked, str]:
        """Register a held operation; the approval, and the hold's id."""
        hold_id = hold_id or secrets.token_hex(16)
        verdict = Verdict(
            Outcome.APPROVE,
            "approval_required",
            "it deletes everything",
            "analysts/destructive",
            by or terms(),
        )
        request = HoldRequest(hold_id, session, what or operation(), verdict, "v1")
        return self.holds.request(relay, request), hold_id

    def look(self, asked: Asked, hold_id: str) -> Verdict | Waiting:
        """What the relay would be told now."""
        return self.holds.look("relay-1", asked.approval, hold_id)

    def decide(
        self,
        asked: Asked,
        who: Human,
        choice: Choice = Choice.APPROVE,
        reason: str = "",
        scope: Scope | None = None,
        key: str | None = None,
    ) -> ApprovalView:
        """One human's decision."""
        return self.approvals.decide(asked.approval, who, Statement(choice, reason, scope), key)

    def audited(self) -> list[tuple[str, str, str]]:
        """Action, actor and details of the audit trail, oldest first."""
        with self.database.transaction() as session:
            rows = self.audit.page(session, before=None, limit=1000)
        return [(row.action, row.actor, row.details) for row in reversed(rows)]

    def told(self) -> list[str]:
        """The kinds of all events."""
        return [event.kind for event in self.events.after(0, 10_000).events]
