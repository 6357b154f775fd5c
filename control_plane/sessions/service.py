"""Opens sessions, knows which are open, and ends them.

Counterparts: :mod:`control_plane.relay_api` asks for an agent that stands at a relay's door;
:mod:`control_plane.recordings` says when a session's last entry arrived. It judges no
operation: that is the relay's gate, by the same policies.

A session is ``open`` until its recording's last entry arrives (``closed``), an administrator
ends it (``ended``), or its relay no longer knows it (``interrupted``). An ended session keeps
that state; ``closed_at`` is set once the relay has obeyed.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from control_plane.audit.service import AuditTrail
from control_plane.credentials.service import CredentialService
from control_plane.database import Database, now
from control_plane.errors import Conflict, DomainError, NotFound, Unauthenticated
from control_plane.identity.service import Verifier
from control_plane.policy.service import PolicyService
from control_plane.sessions.events import EventFeed
from control_plane.sessions.models import AgentSession, SessionState
from control_plane.sessions.stored import principal_of, stored_principal
from control_plane.targets.service import TargetService
from control_plane.wakeups import Wakeups
from protos.policy import applicable
from protos.vocabulary import Credential, Principal, Target

YOUNG = timedelta(seconds=30)
"""A session this young may still be on its way to the relay that opened it."""
OVERDUE = timedelta(hours=1)
"""An open session whose end is so long past, and whose relay doesn't come back, is given up."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that was opened, and what the relay needs for it."""

    session: str
    principal: Principal
    target: Target
    credential: Credential
    expires_at: int  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Denial:
    """No session, and why, in words for the agent. ``code`` is stable."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A session that its relay has to end."""

    session: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions are wanted; an empty field says nothing. ``principal``: an object id."""

    state: SessionState | None = None
    target: str = ""
    principal: str = ""
    since: datetime | None = None


class SessionService:
    """Sessions of agents."""

    def __init__(
        self,
        database: Database,
        wakeups: Wakeups,
        audit: AuditTrail,
        verifier: Verifier,
        targets: TargetService,
        policies: PolicyService,
        credentials: CredentialService,
        events: EventFeed,
        longest_seconds: int,
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database = database
        self._wakeups = wakeups
        self._audit = audit
        self._verifier = verifier
        self._targets = targets
        self._policies = policies
        self._credentials = credentials
        self._events = events
        self._longest_seconds = longest_seconds
        self._clock = clock

    def open(
        self,
        token: str,
        target: str,
        protocol: str,
        client_address: str,
        relay: str,
        boot: str = "",
    ) -> Opened | Denial:
        """Verify who asks, and open a session if any policy gives them business there.

        A target that doesn't exist and one that the agent may not use get the same answer, so
        that names can't be found out; the audit trail keeps the difference.
        """
        address = client_address.replace("\0", "?")[:200]
        try:
            principal = self._verifier.verify(token)
        except Unauthenticated as error:
            denial = Denial(error.code, error.message)
            self._audit_denial("unauthenticated", denial, error.code, target, relay, address)
            return denial
        opened = self._open(principal, target, protocol, address, relay, boot)
        match opened:
            case (denial, cause):
                self._audit_denial(_label(principal), denial, cause, target, relay, address)
                return denial
            case Opened():
                self._wakeups.wake("sessions")
                return opened

    def _open(
        self, principal: Principal, name: str, protocol: str, address: str, relay: str, boot: str
    ) -> Opened | tuple[Denial, str]:
        """The session, or why not: what the agent is told, and what the audit trail is."""
        unknown = Denial("target_not_available", "there is no such target that you may use")
        moment = self._clock()
        seconds = int(moment.timestamp())
        if not _NAME.fullmatch(name):
            return unknown, "target_unknown"
        with self._database.transaction() as session:
            try:
                record = self._targets.find(session, name)
            except NotFound:
                return unknown, "target_unknown"
            policies = self._policies.current(session)
            if not applicable(policies, principal, record.target, seconds):
                return unknown, "no_policy_applies"
            # From here on the agent has business at the target and may know what is wrong.
            if record.target.relays and relay not in record.target.relays:
                reason = "this relay does not serve the target; another one does"
                return Denial("wrong_relay", reason), "wrong_relay"
            if record.target.protocol != protocol:
                reason = f"the target speaks {record.target.protocol}"
                return Denial("wrong_protocol", reason), "wrong_protocol"
            expires_at = seconds + self._longest_seconds
            if principal.expires_at:
                expires_at = min(expires_at, principal.expires_at)
            if expires_at <= seconds:
                return Denial("token_expired", "the access token has expired"), "token_expired"
            try:
                credential = self._credentials.lease(session, record.credential)
            except DomainError as error:
                reason = "the gateway has no usable credential for the target"
                return Denial("credential_unavailable", reason), error.code
            row = AgentSession(
                id=uuid.uuid4().hex,
                tenant=principal.tenant,
                object_id=principal.object_id,
                principal=stored_principal(principal),
                target=name,
                relay=relay,
                boot=boot,
                protocol=protocol,
                client_address=address,
                opened_at=moment,
                expires_at=datetime.fromtimestamp(expires_at, UTC),
                state=SessionState.OPEN,
            )
            session.add(row)
            session.flush()
            self._events.emit(session, "session.opened", row.id, _told(row, principal))
        return Opened(row.id, principal, record.target, credential, expires_at)

    def find(self, session: Session, id_: str, *, relay: str | None = None) -> AgentSession:
        """The session; raises NotFound, also where ``relay`` is given and another's it is."""
        row = session.get(AgentSession, id_) if re.fullmatch("[0-9a-f]{32}", id_) else None
        if row is None or (relay is not None and row.relay != relay):
            raise NotFound("session_not_found", "there is no such session")
        return row

    def get(self, id_: str) -> AgentSession:
        """The session as it is now. Raises NotFound."""
        with self._database.transaction() as session:
            return self.find(session, id_)

    def page(
        self, wanted: SessionFilter, before: tuple[datetime, str] | None, limit: int
    ) -> Sequence[AgentSession]:
        """Up to ``limit`` sessions, newest first, older than ``before`` (time and id)."""
        query = select(AgentSession).order_by(AgentSession.opened_at.desc(), AgentSession.id.desc())
        if wanted.state is not None:
            query = query.where(AgentSession.state == wanted.state)
        if wanted.target:
            query = query.where(AgentSession.target == wanted.target)
        if wanted.principal:
            query = query.where(AgentSession.object_id == wanted.principal)
        if wanted.since is not None:
            query = query.where(AgentSession.opened_at >= wanted.since)
        if before is not None:
            at, id_ = before
            query = query.where(
                or_(
                    AgentSession.opened_at < at,
                    and_(AgentSession.opened_at == at, AgentSession.id < id_),
                )
            )
        with self._database.transaction() as session:
            return session.scalars(query.limit(limit)).all()

    def end(self, id_: str, actor: str, reason: str) -> AgentSession:
        """Have the relay end it now. Raises NotFound, Conflict (``session_not_open``)."""
        with self._database.transaction() as session:
            row = self._locked(session, id_)
            if row is None:
                raise NotFound("session_not_found", "there is no such session")
            if row.state != SessionState.OPEN:
                raise Conflict("session_not_open", f"the session is {row.state}")
            row.state = SessionState.ENDED
            row.end_code, row.end_reason, row.ended_by = "ended_by_administrator", reason, actor
            self._audit.record(session, actor, "session.ended", id_, {"reason": reason})
            self._tell_closed(session, row)
        self._wakeups.wake(f"relay:{row.relay}", "sessions")
        return row

    def to_end(self, relay: str) -> tuple[Ended, ...]:
        """What the relay has been, or is to be, told to end and hasn't yet."""
        query = select(AgentSession).where(
            AgentSession.relay == relay,
            AgentSession.state == SessionState.ENDED,
            AgentSession.closed_at.is_(None),
        )
        with self._database.transaction() as session:
            return tuple(
                Ended(row.id, row.end_code, row.end_reason) for row in session.scalars(query)
            )

    def reconcile(self, relay: str, boot: str, live: Collection[str]) -> tuple[Ended, ...]:
        """Compare with what a relay says is open; what the relay has to end that we don't know.

        Its sessions that it no longer has are interrupted, save those so young that it may be
        opening them right now; one that it still has is open again.
        """
        moment = self._clock()
        known = set(live)
        changed = False
        strangers = set(known)
        with self._database.transaction() as session:
            query = select(AgentSession).where(
                AgentSession.relay == relay,
                AgentSession.closed_at.is_(None) | (AgentSession.state == SessionState.INTERRUPTED),
                AgentSession.opened_at > moment - timedelta(days=30),
            )
            for row in session.scalars(query.order_by(AgentSession.id).with_for_update()):
                strangers.discard(row.id)
                if row.id in known:
                    if row.state == SessionState.INTERRUPTED:
                        row.state, row.closed_at = SessionState.OPEN, None
                        row.end_code = row.end_reason = ""
                    continue
                young = row.opened_at > moment - YOUNG and row.boot == boot
                if row.state == SessionState.ENDED:
                    row.closed_at = moment
                elif row.state == SessionState.OPEN and not young:
                    self._interrupt(session, row, moment)
                    changed = True
        if changed:
            self._wakeups.wake("sessions")
        return tuple(
            Ended(id_, "session_unknown", "the control plane doesn't know this session")
            for id_ in sorted(strangers)
        )

    def close(self, session: Session, id_: str, at: datetime, code: str, reason: str) -> None:
        """The recording's last entry arrived. The caller wakes ``sessions`` after its commit."""
        row = self._locked(session, id_)
        if row is None or row.state == SessionState.CLOSED:
            return
        row.closed_at = at
        if row.state != SessionState.ENDED:
            row.state = SessionState.CLOSED
            row.end_code, row.end_reason = code[:64], reason[:2000]
        self._tell_closed(session, row)

    def sweep(self) -> int:
        """Give up open sessions that are long overdue; how many."""
        moment = self._clock()
        query = (
            select(AgentSession)
            .where(
                AgentSession.state == SessionState.OPEN,
                AgentSession.expires_at < moment - OVERDUE,
            )
            .order_by(AgentSession.id)
            .with_for_update()
        )
        with self._database.transaction() as session:
            rows = session.scalars(query).all()
            for row in rows:
                self._interrupt(session, row, moment)
        if rows:
            self._wakeups.wake("sessions")
        return len(rows)

    def _interrupt(self, session: Session, row: AgentSession, at: datetime) -> None:
        row.state, row.closed_at = SessionState.INTERRUPTED, at
        row.end_code, row.end_reason = "relay_lost", "the relay no longer knows the session"
        self._tell_closed(session, row)

    def _tell_closed(self, session: Session, row: AgentSession) -> None:
        told = _told(row, principal_of(row.principal))
        told["code"], told["reason"] = row.end_code, row.end_reason
        self._events.emit(session, "session.closed", row.id, told)

    def _locked(self, session: Session, id_: str) -> AgentSession | None:
        return session.get(AgentSession, id_, with_for_update=True, populate_existing=True)

    def _audit_denial(
        self, actor: str, denial: Denial, cause: str, target: str, relay: str, address: str
    ) -> None:
        details = {
            "code": denial.code,
            "cause": cause,
            "relay": relay,
            "client_address": address,
        }
        with self._database.transaction() as session:
            self._audit.record(session, actor, "session.denied", target[:200], details)


def _label(principal: Principal) -> str:
    return f"{principal.name or principal.kind} ({principal.object_id})"


def _told(row: AgentSession, principal: Principal) -> dict[str, Any]:
    return {
        "state": row.state,
        "target": row.target,
        "relay": row.relay,
        "principal": {
            "object_id": principal.object_id,
            "name": principal.name,
            "kind": str(principal.kind),
        },
    }
