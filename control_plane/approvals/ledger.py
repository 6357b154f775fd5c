"""What the two sides of an approval share: locking its row, ending it, and telling of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from control_plane.approvals.models import Approval
from control_plane.approvals.rules import ApprovalState, state_at
from control_plane.approvals.stored import operation_of
from control_plane.errors import NotFound
from control_plane.sessions.events import EventFeed
from control_plane.sessions.stored import principal_of
from control_plane.wakeups import Wakeups
from protos.vocabulary import Scope


class Ledger:
    """Approvals' rows and their events."""

    def __init__(
        self, events: EventFeed, wakeups: Wakeups, url: str, clock: Callable[[], datetime]
    ) -> None:
        self._events = events
        self._wakeups = wakeups
        self._url = url
        self.clock = clock

    def url(self, id_: str) -> str:
        """Where a person can see the approval."""
        return f"{self._url}/approvals/{id_}"

    def locked(self, session: Session, id_: str) -> Approval:
        """The row, locked until the transaction ends. Raises NotFound."""
        row = session.get(Approval, id_, with_for_update=True, populate_existing=True)
        if row is None:
            raise NotFound("approval_not_found", "there is no such approval")
        return row

    def state(self, row: Approval) -> ApprovalState:
        """The state now."""
        return state_at(row.state, row.scope, row.valid_until, self.clock())

    def expire_overdue(self, session: Session, limit: int = 200) -> Sequence[Approval]:
        """Write down that the time of some is over. The caller wakes for them after commit."""
        query = (
            select(Approval)
            .where(
                Approval.valid_until <= self.clock(),
                or_(
                    Approval.state == ApprovalState.PENDING,
                    and_(
                        Approval.state == ApprovalState.APPROVED,
                        Approval.scope != Scope.SESSION,
                    ),
                ),
            )
            .order_by(Approval.id)
            .limit(limit)
            # Somebody who has one locked is about to find out by themselves.
            .with_for_update(skip_locked=True)
        )
        rows = session.scalars(query).all()
        for row in rows:
            row.state = ApprovalState.EXPIRED
            self.tell(session, "approval.expired", row, {})
        return rows

    def tell(self, session: Session, kind: str, row: Approval, more: Mapping[str, Any]) -> None:
        """Emit an event about the approval, for those who may decide on it."""
        operation = operation_of(row)
        principal = principal_of(row.principal)
        data = {
            "state": row.state,
            "session": row.session,
            "target": row.target,
            "principal": {
                "object_id": principal.object_id,
                "name": principal.name,
                "kind": str(principal.kind),
            },
            "action": operation.action,
            "risk": operation.risk.name.lower(),
            "hold_until": row.hold_until.isoformat(),
            "valid_until": row.valid_until.isoformat(),
            **more,
        }
        groups = frozenset(group.group for group in row.groups)
        self._events.emit(session, kind, row.id, data, groups)

    def wake(self, *ids: str) -> None:
        """Wake whoever waits for these approvals; called after the commit."""
        if ids:
            self._wakeups.wake("approvals", *(f"approval:{id_}" for id_ in ids))
