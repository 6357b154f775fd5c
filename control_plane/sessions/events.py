"""The feed: what happened to approvals and sessions, in order, none lost and none doubled.

An event is written in the transaction of what it tells. Its id comes from a row that stays
locked until the commit, so a reader that has seen an id has seen every smaller one; a plain
sequence would let a slow transaction's smaller id appear behind the reader. Counterpart:
:mod:`control_plane.sessions.event_routes` streams it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from control_plane.database import Database, now
from control_plane.sessions.models import Event, EventHead

KEPT = timedelta(days=7)
"""How long a client can have been away and still resume without a gap."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a reader gets: ``last`` is where to go on, also where nothing was for the reader.

    ``gap`` says that events between the reader's position and the first one were pruned.
    """

    events: tuple[Event, ...]
    last: int
    gap: bool


class EventFeed:
    """Adds events, reads them from a position, and prunes old ones."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = now) -> None:
        self._database = database
        self._clock = clock

    def emit(
        self,
        session: Session,
        kind: str,
        subject: str,
        data: Mapping[str, Any],
        groups: Set[str] = frozenset(),
    ) -> None:
        """Add an event to ``session``'s transaction; ``data`` is JSON and holds no secret.

        It locks the feed until the transaction ends. So that two transactions never wait for
        each other, an act is audited before its event is emitted.
        """
        head = self._locked_head(session)
        head.last += 1
        session.add(
            Event(
                id=head.last,
                at=self._clock(),
                kind=kind,
                subject=subject,
                data=dict(data),
                groups=sorted(groups),
            )
        )
        session.flush()

    def position(self) -> int:
        """The id of the last event that there is."""
        with self._database.transaction() as session:
            return session.scalar(select(EventHead.last)) or 0

    def after(self, position: int, limit: int = 200, groups: Set[str] | None = None) -> Batch:
        """Events behind ``position``, at most ``limit`` looked at.

        With ``groups`` only those that approvers of one of them may see.
        """
        with self._database.transaction() as session:
            query = select(Event).where(Event.id > position).order_by(Event.id).limit(limit)
            rows: Sequence[Event] = session.scalars(query).all()
            pruned = session.scalar(select(EventHead.pruned)) or 0
        visible = tuple(row for row in rows if groups is None or not groups.isdisjoint(row.groups))
        last = rows[-1].id if rows else max(position, pruned)
        return Batch(visible, last, gap=position < pruned)

    def prune(self) -> int:
        """Forget events older than :data:`KEPT`; how many."""
        with self._database.transaction() as session:
            head = self._locked_head(session)
            newest = session.scalar(
                select(func.max(Event.id)).where(Event.at < self._clock() - KEPT)
            )
            if newest is None:
                return 0
            before, head.pruned = head.pruned, newest
            session.execute(delete(Event).where(Event.id <= newest))
            return newest - before

    def _locked_head(self, session: Session) -> EventHead:
        session.flush()
        head = session.get(EventHead, 1, with_for_update=True, populate_existing=True)
        if head is None:
            try:
                with session.begin_nested():
                    session.add(EventHead(id=1, last=0, pruned=0))
            except IntegrityError:
                pass  # Another transaction was first; its row is there now.
            head = session.get(EventHead, 1, with_for_update=True, populate_existing=True)
        assert head is not None
        return head
