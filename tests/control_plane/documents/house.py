"""A control plane's documents, policies and relays over a real database, without its ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from control_plane.audit.models import AuditEntry
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, now
from control_plane.documents.service import DocumentStore
from control_plane.policy.explain import Explainer
from control_plane.policy.kinds import ADVISERS, KINDS
from control_plane.policy.service import PolicyService
from control_plane.relays.authority import Authority
from control_plane.relays.questions import Questions
from control_plane.relays.service import RelayService
from control_plane.targets.service import TargetService, missing_credentials
from control_plane.wakeups import Wakeups
from protos.policy import PolicySet
from protos.vocabulary import Target

GROUP = "3f1c7a52-8f0e-4a37-9a53-0c6b6f0a7d11"
APPROVERS = "a3a1c6de-54d2-4b0c-8e0a-6f0a3c1b2d22"
ADA = "Ada (6f0e7c1c-6b0e-4a77-8f0f-0d6a86c7d001)"

RELAY = """\
apiVersion: jitgate/v1
kind: Relay
metadata: {name: relay-1}
spec: {hosts: [127.0.0.1, localhost]}
"""
TARGET = """\
apiVersion: jitgate/v1
kind: Target
metadata: {name: orders, labels: {env: demo}}
spec:
  protocol: postgres
  host: 127.0.0.1
  port: 5432
  credential: orders-gateway
"""
POLICY = f"""\
apiVersion: jitgate/v1
kind: Policy
metadata: {{name: agents}}
spec:
  subjects: [{{groups: [{GROUP}]}}]
  targets: {{names: [orders]}}
  rules:
    - name: read-anything
      outcome: allow
      risks: [read]
    - name: destructive
      outcome: approve
      risks: [write, destroy]
      approval: {{groups: [{APPROVERS}]}}
  masking:
    - {{name: mail, columns: [public.customers.email], transform: partial}}
"""
MASKING = """\
apiVersion: jitgate/v1
kind: Masking
metadata: {name: cards}
spec:
  targets: {labels: {env: "*"}}
  rules: [{name: card, detect: [card], transform: redact}]
"""
ALL = "---\n".join([TARGET, POLICY, MASKING, RELAY])


class Moments:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = now()

    def __call__(self) -> datetime:
        return self.at

    def pass_by(self, **much: float) -> None:
        """Let time pass."""
        self.at += timedelta(**much)


class HeardWakeups(Wakeups):
    """Remembers what was woken, and calls ``listening`` while it is."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []
        self.listening: Callable[[], None] = lambda: None

    def wake(self, *topics: str) -> None:
        self.heard += topics
        self.listening()
        super().wake(*topics)

    def taken(self) -> list[str]:
        """What was woken since the last call."""
        heard, self.heard = self.heard, []
        return heard


@dataclass
class House:
    """Everything put together as the application does it."""

    database: Database
    directory: Path
    credentials: set[str] = field(default_factory=lambda: {"orders-gateway"})

    def __post_init__(self) -> None:
        self.clock = Moments()
        self.wakeups = HeardWakeups()
        self.audit = AuditTrail()
        self.store = DocumentStore(
            self.database,
            self.audit,
            self.wakeups,
            KINDS,
            (*ADVISERS, missing_credentials(lambda _session, name: name in self.credentials)),
            clock=self.clock,
        )
        self.targets = TargetService(self.store)
        self.policies = PolicyService(self.store)
        self.authority = Authority(self.directory)
        self.relays = RelayService(
            self.database, self.audit, self.wakeups, self.store, self.authority, clock=self.clock
        )
        self.questions = Questions(self.wakeups)
        self.explainer = Explainer(
            self.database, self.policies, self.targets, self.questions, clock=self.clock
        )

    def apply(self, *texts: str) -> None:
        """Apply documents as somebody."""
        self.store.apply("---\n".join(texts), ADA)

    def policy_set(self) -> PolicySet:
        """The policies in force."""
        with self.database.transaction() as session:
            return self.policies.current(session)

    def target(self, name: str = "orders") -> Target:
        """A target as it stands."""
        with self.database.transaction() as session:
            return self.targets.find(session, name).target

    def acts(self) -> list[tuple[str, str, str]]:
        """The audit trail: who did what to what."""
        with self.database.transaction() as session:
            rows = session.scalars(select(AuditEntry).order_by(AuditEntry.sequence)).all()
        return [(row.actor, row.action, row.subject) for row in rows]

    def bind(self) -> None:
        """Let wake-ups reach the running loop."""
        self.wakeups.bind(asyncio.get_running_loop())
