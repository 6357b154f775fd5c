"""The relay's side of approvals: a held operation asks, waits, uses, gives up.

Theory of operation
-------------------
A *hold* is one operation that a relay keeps back, named by the relay. An *approval* is what
humans decide on; it names the one hold that may use it, its *holder*. Asking again under the
same hold id gives the same answer. A new hold for an equal digest of the same principal

- uses a grant for the session or for a window, as often as it likes while that lasts;
- else takes over an approval, decided or still pending, whose holder is gone: timed out,
  given up, or of a session that is no more;
- else gets an approval of its own.

Taking over and using both happen under the approval's row lock, so of two equal operations
only one gets a single grant. A grant is used at the moment the relay is told of it, and telling
the same hold again uses nothing more.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from control_plane.approvals.ledger import Ledger
from control_plane.approvals.models import Approval, ApprovalGroup, ApprovalHold
from control_plane.approvals.rules import ApprovalState, Choice, approvable, named_groups
from control_plane.approvals.stored import stored_operation, stored_terms
from control_plane.database import Database, now
from control_plane.errors import Conflict, Invalid, NotFound
from control_plane.sessions.events import EventFeed
from control_plane.sessions.models import AgentSession, SessionState
from control_plane.sessions.service import SessionService
from control_plane.wakeups import Wakeups
from protos.vocabulary import ApprovalTerms, Operation, Outcome, Scope, Verdict

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: no i, l, o, u to misread.
_MAX_TEXT = 1 << 20
_MAX_SECONDS = 31 * 86400
# An interrupted session is one whose relay was away; if it still asks, it is back.
_LIVING = (SessionState.OPEN, SessionState.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """What a relay asks for one held operation; the digest is the gate's."""

    hold_id: str
    session: str
    operation: Operation
    verdict: Verdict
    policy_version: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The approval that a hold waits for."""

    approval: str
    url: str
    hold_until: datetime
    valid_until: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """There is no answer yet; ``until`` is when the hold ends."""

    until: datetime


class HoldService:
    """Registers holds and answers them."""

    def __init__(
        self,
        database: Database,
        wakeups: Wakeups,
        sessions: SessionService,
        events: EventFeed,
        url: str,
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._ledger = Ledger(events, wakeups, url, clock)

    def request(self, relay: str, asked: HoldRequest) -> Asked:
        """The approval that this hold waits for or may use. Idempotent by ``hold_id``.

        Raises NotFound for a session that isn't this relay's, Conflict for one that is over,
        Invalid for what can't be asked.
        """
        terms = _checked(asked)
        try:
            return self._request(relay, asked, terms)
        except IntegrityError:
            # The same hold was registered at the same moment, by the same relay trying again.
            return self._request(relay, asked, terms)

    def _request(self, relay: str, asked: HoldRequest, terms: ApprovalTerms) -> Asked:
        with self._database.transaction() as session:
            known = session.get(ApprovalHold, asked.hold_id)
            if known is not None:
                if (known.session, known.relay) != (asked.session, relay):
                    raise Conflict("hold_id_reused", "this hold belongs to another session")
                row = session.get(Approval, known.approval)
                assert row is not None
                if row.digest != asked.operation.digest:
                    raise Conflict("hold_id_reused", "this hold is for another operation")
                return self._asked(row, known)
            owner = self._sessions.find(session, asked.session, relay=relay)
            if owner.state not in _LIVING:
                raise Conflict("session_not_open", f"the session is {owner.state}")
            moment = self._ledger.clock()
            usable = self._usable(session, owner, asked.operation.digest)
            found = usable or self._created(session, owner, asked, terms, moment)
            hold = ApprovalHold(
                hold_id=asked.hold_id,
                approval=found.id,
                session=owner.id,
                relay=relay,
                hold_until=min(
                    moment + timedelta(seconds=terms.hold_seconds),
                    # A grant for the session outlives its validity; its uses don't wait.
                    max(found.valid_until, moment + timedelta(seconds=1)),
                ),
            )
            session.add(hold)
            if found.scope in ("", Scope.ONCE):
                found.holder, found.hold_until = hold.hold_id, hold.hold_until
            session.flush()
            if usable is None:
                self._ledger.tell(session, "approval.created", found, {})
            elif found.state == ApprovalState.PENDING:
                self._ledger.tell(session, "approval.resumed", found, {})
            asked_for = self._asked(found, hold)
        self._ledger.wake(found.id)
        return asked_for

    def _usable(self, session: Session, owner: AgentSession, digest: bytes) -> Approval | None:
        """An approval that a new hold of ``owner`` may use, its row locked."""
        query = (
            select(Approval)
            .where(
                Approval.tenant == owner.tenant,
                Approval.object_id == owner.object_id,
                Approval.digest == digest,
                Approval.target == owner.target,
                # Text and digest are a relay's word: what one asked for is not for another.
                Approval.relay == owner.relay,
                Approval.state.in_((ApprovalState.PENDING, ApprovalState.APPROVED)),
            )
            .order_by(Approval.id)
            .with_for_update()
        )
        rows = [
            row
            for row in session.scalars(query)
            if self._ledger.state(row) in (ApprovalState.PENDING, ApprovalState.APPROVED)
        ]
        # What was already decided comes first: a human needn't be asked twice.
        for row in sorted(rows, key=lambda row: (row.state != ApprovalState.APPROVED, row.id)):
            if row.scope not in ("", Scope.ONCE):
                if _reusable(row, owner.id):
                    return row
            elif self._abandoned(session, row):
                return row
        return None

    def _abandoned(self, session: Session, row: Approval) -> bool:
        hold = session.get(ApprovalHold, row.holder)
        if hold is None or hold.ended_at is not None:
            return True
        if self._ledger.clock() >= hold.hold_until:
            return True
        owner = session.get(AgentSession, hold.session)
        return owner is None or owner.state != SessionState.OPEN

    def _created(
        self,
        session: Session,
        owner: AgentSession,
        asked: HoldRequest,
        terms: ApprovalTerms,
        moment: datetime,
    ) -> Approval:
        valid_seconds = max(terms.validity_seconds, terms.hold_seconds)
        row = Approval(
            id="apr_" + "".join(secrets.choice(_ALPHABET) for _ in range(10)),
            session=owner.id,
            tenant=owner.tenant,
            object_id=owner.object_id,
            principal=owner.principal,
            target=owner.target,
            relay=owner.relay,
            operation=stored_operation(asked.operation),
            digest=asked.operation.digest,
            policy_version=asked.policy_version[:128],
            rule=asked.verdict.rule,
            reason=asked.verdict.reason,
            terms=stored_terms(terms),
            state=ApprovalState.PENDING,
            created_at=moment,
            hold_until=moment + timedelta(seconds=terms.hold_seconds),
            valid_until=moment + timedelta(seconds=valid_seconds),
            holder=asked.hold_id,
            groups=[ApprovalGroup(group=group) for group in sorted(named_groups(terms))],
        )
        session.add(row)
        session.flush()
        return row

    def look(self, relay: str, approval_id: str, hold_id: str) -> Verdict | Waiting:
        """The answer for a hold, if there is one; an approval is used by giving it.

        Idempotent: a hold that was let through once is told so again. Raises NotFound for
        what isn't this relay's.
        """
        with self._database.transaction() as session:
            row = self._ledger.locked(session, approval_id)
            hold = session.get(ApprovalHold, hold_id, populate_existing=True)
            if hold is None or hold.approval != approval_id or hold.relay != relay:
                raise NotFound("hold_not_found", "there is no such hold")
            before = row.state
            answer = self._answer(session, row, hold)
            moment = self._ledger.clock()
            if isinstance(answer, Verdict) and answer.outcome is Outcome.ALLOW:
                if hold.used_at is None:
                    self._use(row, hold, moment)
            elif isinstance(answer, Verdict) and hold.ended_at is None:
                self._end(row, hold, moment)
            changed = row.state != before
            if changed:
                self._ledger.tell(session, f"approval.{row.state}", row, {})
        if changed:
            self._ledger.wake(approval_id)
        return answer

    def _answer(self, session: Session, row: Approval, hold: ApprovalHold) -> Verdict | Waiting:
        if hold.used_at is not None:
            return _allowed(row)
        owner = session.get(AgentSession, hold.session)
        if owner is None or owner.state not in _LIVING:
            return _refused(row, "session_ended", "the session was ended")
        match self._ledger.state(row):
            case ApprovalState.WITHDRAWN:
                return _refused(row, "withdrawn", "the operation was given up")
            case ApprovalState.DENIED:
                last = row.decisions[-1]
                reason = last.reason or "denied without a reason"
                return _refused(row, "denied", reason, last.name)
            case ApprovalState.EXPIRED:
                row.state = ApprovalState.EXPIRED
                reason = "nobody decided in time; send it again to ask anew"
                return _refused(row, "approval_expired", reason)
            case ApprovalState.CONSUMED:
                return _refused(row, "approval_used", "the approval was used by another operation")
            case ApprovalState.APPROVED if hold.ended_at is None:
                mine = row.holder == hold.hold_id if row.scope == Scope.ONCE else True
                if mine and (row.scope == Scope.ONCE or _reusable(row, hold.session)):
                    return _allowed(row)
            case ApprovalState.PENDING if hold.ended_at is None and row.holder == hold.hold_id:
                if self._ledger.clock() < hold.hold_until:
                    return Waiting(hold.hold_until)
            case _:
                pass
        reason = "nobody decided while it was held; send the same again once it is approved"
        return _refused(row, "hold_expired", reason)

    def _use(self, row: Approval, hold: ApprovalHold, moment: datetime) -> None:
        hold.used_at = moment
        row.uses += 1
        if row.scope == Scope.ONCE:
            row.state = ApprovalState.CONSUMED
            row.consumed_at, row.consumed_by = moment, hold.hold_id

    def _end(self, row: Approval, hold: ApprovalHold, moment: datetime) -> None:
        hold.ended_at = moment
        if row.holder == hold.hold_id:
            row.hold_until = min(row.hold_until, moment)

    def withdraw(self, relay: str, approval_id: str, hold_id: str, reason: str) -> None:
        """The agent gave the operation up. Idempotent; raises NotFound as :meth:`look`.

        An approval that nobody decided yet is over; one already granted stays, for the same
        operation sent again in time.
        """
        with self._database.transaction() as session:
            row = self._ledger.locked(session, approval_id)
            hold = session.get(ApprovalHold, hold_id, populate_existing=True)
            if hold is None or hold.approval != approval_id or hold.relay != relay:
                raise NotFound("hold_not_found", "there is no such hold")
            if hold.used_at is not None or hold.ended_at is not None:
                return
            self._end(row, hold, self._ledger.clock())
            if row.holder == hold_id and self._ledger.state(row) is ApprovalState.PENDING:
                row.state = ApprovalState.WITHDRAWN
                row.closing_reason = reason.replace("\0", "?")[:1000]
                self._ledger.tell(
                    session, "approval.withdrawn", row, {"reason": row.closing_reason}
                )
        self._ledger.wake(approval_id)

    def settled(self, ids: list[str]) -> list[str]:
        """Which of these are no longer pending: those whose waiting holds should look."""
        query = select(Approval.id).where(
            Approval.id.in_(ids), Approval.state != ApprovalState.PENDING
        )
        with self._database.transaction() as session:
            return list(session.scalars(query))

    def _asked(self, row: Approval, hold: ApprovalHold) -> Asked:
        return Asked(row.id, self._ledger.url(row.id), hold.hold_until, row.valid_until)


def _checked(asked: HoldRequest) -> ApprovalTerms:
    terms = asked.verdict.terms
    if asked.verdict.outcome is not Outcome.APPROVE or terms is None or not approvable(terms):
        raise Invalid("terms_invalid", "the terms name nobody who could approve")
    if not (0 < terms.hold_seconds <= _MAX_SECONDS and 0 < terms.validity_seconds <= _MAX_SECONDS):
        raise Invalid("terms_invalid", "hold and validity are 1 second to 31 days")
    if not 16 <= len(asked.operation.digest) <= 64:
        raise Invalid("digest_invalid", "an operation is approved by its digest")
    if not 16 <= len(asked.hold_id) <= 64 or "\0" in asked.hold_id:
        raise Invalid("hold_id_invalid", "a hold id is 16 to 64 characters")
    if len(asked.operation.text) > _MAX_TEXT:
        raise Invalid("operation_too_large", "nobody can read so long a text and approve it")
    return terms


def _reusable(row: Approval, session: str) -> bool:
    """Whether a grant beyond once covers an operation of this session; validity is checked."""
    return row.scope == Scope.WINDOW or (row.scope == Scope.SESSION and row.session == session)


def _allowed(row: Approval) -> Verdict:
    approvals = [one for one in row.decisions if one.decision == Choice.APPROVE]
    return Verdict(
        Outcome.ALLOW,
        "approved",
        "; ".join(one.reason for one in approvals if one.reason),
        row.rule,
        approval_id=row.id,
        decided_by=", ".join(one.name for one in approvals),
    )


def _refused(row: Approval, code: str, reason: str, by: str = "") -> Verdict:
    return Verdict(Outcome.REFUSE, code, reason, row.rule, approval_id=row.id, decided_by=by)
