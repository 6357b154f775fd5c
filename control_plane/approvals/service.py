"""The humans' side of approvals: what waits for whom, and decisions.

Counterparts: :mod:`control_plane.approvals.holds` is the relay's side,
:mod:`control_plane.approvals.rules` says what decisions amount to. Who may decide is checked
here, at the moment of deciding and from the token presented then: a human, of a group that the
terms name, who isn't the one who asks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, case, delete, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from control_plane.approvals.ledger import Ledger
from control_plane.approvals.models import (
    Approval,
    ApprovalDecision,
    ApprovalGroup,
    IdempotencyKey,
)
from control_plane.approvals.rules import ApprovalState, Choice, granted, named_groups, needed
from control_plane.approvals.schemas import ApprovalView
from control_plane.approvals.stored import terms_of, voices_of
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, now
from control_plane.errors import Conflict, Forbidden, Invalid, NotFound
from control_plane.sessions.events import EventFeed
from control_plane.wakeups import Wakeups
from protos.vocabulary import Principal, PrincipalKind, Scope

KEYS_KEPT = timedelta(days=1)
"""How long a retry under the same idempotency key is recognised."""


@dataclass(frozen=True, slots=True)
class Human:
    """Who looks or decides. ``sees_all``: an administrator or auditor, whatever the groups."""

    principal: Principal
    label: str
    sees_all: bool = False

    @property
    def groups(self) -> frozenset[str]:
        """The groups that the token names."""
        return self.principal.groups


@dataclass(frozen=True, slots=True)
class Statement:
    """What a human says. ``scope`` None: this operation once, where it is an approval."""

    choice: Choice
    reason: str = ""
    scope: Scope | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of a list begins: behind the row with this key, as it was ``as_of``."""

    as_of: datetime
    key: datetime
    id: str


class ApprovalService:
    """Lists approvals and takes decisions."""

    def __init__(
        self,
        database: Database,
        wakeups: Wakeups,
        audit: AuditTrail,
        events: EventFeed,
        url: str,
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._ledger = Ledger(events, wakeups, url, clock)

    def get(self, id_: str, human: Human) -> ApprovalView:
        """One approval. Raises NotFound, also for who may not see it."""
        with self._database.transaction() as session:
            row = session.get(Approval, id_)
            if row is None or not _may_see(row, human):
                raise NotFound("approval_not_found", "there is no such approval")
            return self._view(row, human)

    def page(
        self, state: ApprovalState | None, human: Human, after: Place | None, limit: int
    ) -> tuple[list[ApprovalView], Place | None]:
        """Up to ``limit`` approvals that ``human`` may see, and where the next ones are.

        Pending ones come by deadline, the nearest first; others newest first.
        """
        as_of = after.as_of if after else self._clock()
        # While an operation waits, its hold is what is urgent; then the approval's own end.
        deadline = case(
            (Approval.hold_until > as_of, Approval.hold_until), else_=Approval.valid_until
        )
        query = select(Approval)
        if state is not None:
            query = query.where(Approval.state == state)
        if not human.sees_all:
            mine = select(ApprovalGroup.approval).where(
                ApprovalGroup.group.in_(sorted(human.groups))
            )
            query = query.where(Approval.id.in_(mine))
        if state is ApprovalState.PENDING:
            query = query.order_by(deadline, Approval.id)
            if after:
                later = and_(deadline == after.key, Approval.id > after.id)
                query = query.where(or_(deadline > after.key, later))
        else:
            query = query.order_by(Approval.created_at.desc(), Approval.id.desc())
            if after:
                earlier = and_(Approval.created_at == after.key, Approval.id < after.id)
                query = query.where(or_(Approval.created_at < after.key, earlier))
        with self._database.transaction() as session:
            expired = [row.id for row in self._ledger.expire_overdue(session)]
            rows = session.scalars(query.limit(limit + 1)).all()
            views = [self._view(row, human) for row in rows[:limit]]
            following: Place | None = None
            if len(rows) > limit:
                last = rows[limit - 1]
                key = last.created_at
                if state is ApprovalState.PENDING:
                    key = last.hold_until if last.hold_until > as_of else last.valid_until
                following = Place(as_of, key, last.id)
        self._ledger.wake(*expired)
        return views, following

    def decide(
        self, id_: str, human: Human, statement: Statement, key: str | None = None
    ) -> ApprovalView:
        """Take one human's decision; with ``key``, once, however often it is sent.

        Raises NotFound, Forbidden (``humans_only``, ``self_approval``, ``not_an_approver``),
        Conflict (``approval_not_pending``, ``already_decided``, ``requirement_met``) and
        Invalid (``reason_required``, ``scope_not_offered``, ``idempotency_key_reused``).
        """
        who = human.principal
        if who.kind is not PrincipalKind.USER:
            raise Forbidden("humans_only", "only a human decides, with a token of their own")
        try:
            with self._database.transaction() as session:
                row = self._ledger.locked(session, id_)
                if not _may_see(row, human):
                    raise NotFound("approval_not_found", "there is no such approval")
                fingerprint = _fingerprint(id_, statement)
                if key is not None:
                    known = session.get(IdempotencyKey, (who.tenant, who.object_id, key))
                    if known is not None:
                        if known.fingerprint != fingerprint:
                            raise Invalid(
                                "idempotency_key_reused", "the key was used for another decision"
                            )
                        return ApprovalView.model_validate(known.answer)
                self._check(row, human, statement)
                self._decide(session, row, human, statement)
                answer = self._view(row, human)
                if key is not None:
                    session.add(
                        IdempotencyKey(
                            tenant=who.tenant,
                            object_id=who.object_id,
                            key=key,
                            approval=id_,
                            fingerprint=fingerprint,
                            answer=answer.model_dump(mode="json"),
                            at=self._clock(),
                        )
                    )
        except IntegrityError:
            # Only a key can clash: decisions on one approval wait for each other, decisions
            # on two of them under one key don't.
            raise Invalid(
                "idempotency_key_reused", "the key was used for another decision"
            ) from None
        self._ledger.wake(id_)
        return answer

    def _check(self, row: Approval, human: Human, statement: Statement) -> None:
        who, terms = human.principal, terms_of(row)
        state = self._ledger.state(row)
        if state is not ApprovalState.PENDING:
            raise Conflict("approval_not_pending", f"the approval is {state}")
        # An agent that acts for a user carries the user's object id, so this is about the
        # user behind it, too.
        if not terms.self_approval and (who.tenant, who.object_id) == (row.tenant, row.object_id):
            raise Forbidden("self_approval", "nobody approves what they ask for themselves")
        if named_groups(terms).isdisjoint(human.groups):
            raise Forbidden("not_an_approver", "you are in none of the groups that may decide")
        if any((one.tenant, one.object_id) == (who.tenant, who.object_id) for one in row.decisions):
            raise Conflict("already_decided", "you have already decided on this")
        if terms.reason_required and not statement.reason.strip():
            raise Invalid("reason_required", "the policy asks for a reason")
        match statement.choice:
            case Choice.APPROVE:
                if not needed(terms, voices_of(row), human.groups):
                    raise Conflict(
                        "requirement_met", "enough of your groups' members have approved"
                    )
                if (statement.scope or Scope.ONCE) not in terms.scopes | {Scope.ONCE}:
                    raise Invalid("scope_not_offered", "the policy doesn't offer this scope")
            case Choice.DENY:
                if statement.scope is not None:
                    raise Invalid("scope_not_offered", "a denial has no scope")

    def _decide(self, session: Session, row: Approval, human: Human, statement: Statement) -> None:
        who, terms, moment = human.principal, terms_of(row), self._clock()
        row.decisions.append(
            ApprovalDecision(
                tenant=who.tenant,
                object_id=who.object_id,
                number=len(row.decisions) + 1,
                name=(who.name or who.object_id)[:256],
                decision=statement.choice,
                reason=statement.reason,
                scope=statement.scope or Scope.ONCE,
                groups=sorted(named_groups(terms) & human.groups),
                at=moment,
            )
        )
        if statement.choice is Choice.DENY:
            row.state, row.decided_at = ApprovalState.DENIED, moment
        elif (scope := granted(terms, voices_of(row))) is not None:
            row.state, row.decided_at, row.scope = ApprovalState.APPROVED, moment, scope
        session.flush()
        details = {
            "decision": statement.choice,
            "reason": statement.reason,
            "scope": statement.scope or Scope.ONCE,
            "state": row.state,
            "digest": row.digest.hex(),
            "session": row.session,
            "target": row.target,
        }
        self._audit.record(session, human.label, "approval.decided", row.id, details)
        told = {"decision": statement.choice, "by": who.name or who.object_id}
        self._ledger.tell(session, "approval.decided", row, told)

    def sweep(self) -> int:
        """Write down what expired, and forget old idempotency keys; how many expired."""
        with self._database.transaction() as session:
            old = IdempotencyKey.at < self._clock() - KEYS_KEPT
            session.execute(delete(IdempotencyKey).where(old))
            expired: Sequence[str] = [row.id for row in self._ledger.expire_overdue(session)]
        self._ledger.wake(*expired)
        return len(expired)

    def _view(self, row: Approval, human: Human) -> ApprovalView:
        return ApprovalView.of(
            row,
            self._ledger.state(row),
            self._ledger.url(row.id),
            self._clock(),
            may_decide=self._may_decide(row, human),
            terms=terms_of(row),
        )

    def _may_decide(self, row: Approval, human: Human) -> bool:
        if human.principal.kind is not PrincipalKind.USER:
            return False
        try:
            self._check(row, human, Statement(Choice.APPROVE, "some reason"))
        except (Conflict, Forbidden):
            return False
        return True


def _may_see(row: Approval, human: Human) -> bool:
    return human.sees_all or any(one.group in human.groups for one in row.groups)


def _fingerprint(id_: str, statement: Statement) -> bytes:
    said = json.dumps([id_, statement.choice, statement.reason, statement.scope])
    return hashlib.sha256(said.encode()).digest()
