"""The audit trail: every administrative act, written in the act's own transaction.

Entries form a hash chain, so that a changed, missing or swapped one is found. Who can rewrite
the whole table can rewrite the chain as well; against them the head's hash is to be kept
elsewhere (``GET /api/v1/audit/verification`` gives it).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from control_plane.audit.models import AuditEntry, AuditHead
from control_plane.database import now

GENESIS = bytes(32)
REDACTED = "(redacted)"
# A detail whose name holds one of these is never written, whatever its value.
_SECRET_NAMES = ("password", "secret", "token", "private", "authorization", "cookie")
_LONGEST_DETAILS = 64 * 1024


@dataclass(frozen=True, slots=True)
class Verification:
    """What checking the chain found. ``first_bad`` is the first sequence that doesn't fit."""

    entries: int
    head: str
    first_bad: int | None
    problem: str

    @property
    def valid(self) -> bool:
        """Whether every entry fits and none is missing at the end."""
        return self.first_bad is None


class AuditTrail:
    """Appends to the trail, reads it and checks it."""

    def __init__(self, *, clock: Callable[[], datetime] = now) -> None:
        self._clock = clock

    def record(
        self,
        session: Session,
        actor: str,
        action: str,
        subject: str,
        details: Mapping[str, Any],
    ) -> None:
        """Append one act: it is in the trail exactly if ``session``'s transaction commits.

        ``action`` is a stable word, ``policy.applied``; ``details`` must be JSON values and is
        redacted by name. It locks the trail until the transaction ends, so record last, after
        the rows decided on are locked.
        """
        head = self._locked_head(session)
        at = self._clock().astimezone(UTC)
        text = _canonical(_redacted(details))
        if len(text) > _LONGEST_DETAILS:
            text = _canonical({"truncated": text[: _LONGEST_DETAILS // 2]})
        entry = AuditEntry(
            sequence=head.sequence + 1,
            at=at,
            actor=_storable(actor)[:500],
            action=_storable(action)[:100],
            subject=_storable(subject)[:500],
            details=text,
            previous=head.hash,
        )
        entry.hash = _hash(entry)
        session.add(entry)
        head.sequence, head.hash = entry.sequence, entry.hash
        session.flush()

    def page(
        self,
        session: Session,
        *,
        before: int | None,
        limit: int,
        actor: str = "",
        action: str = "",
        subject: str = "",
    ) -> Sequence[AuditEntry]:
        """Up to ``limit`` entries, newest first, older than sequence ``before``."""
        query = select(AuditEntry).order_by(AuditEntry.sequence.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditEntry.sequence < before)
        if actor:
            query = query.where(AuditEntry.actor.contains(actor, autoescape=True))
        if action:
            query = query.where(AuditEntry.action == action)
        if subject:
            query = query.where(AuditEntry.subject == subject)
        return session.scalars(query).all()

    def verify(self, session: Session) -> Verification:
        """Walk the whole chain; constant memory, time linear in the entries."""
        # Locked, so that no append comes between the walk and the look at the head.
        head = self._locked_head(session)
        expected, previous = 1, GENESIS
        query = select(AuditEntry).order_by(AuditEntry.sequence).execution_options(yield_per=500)
        with contextlib.closing(session.scalars(query)) as entries:
            for entry in entries:
                if entry.sequence != expected:
                    return Verification(expected - 1, previous.hex(), expected, "entry is missing")
                if entry.previous != previous or entry.hash != _hash(entry):
                    return Verification(expected - 1, previous.hex(), expected, "entry was changed")
                previous, expected = entry.hash, expected + 1
                session.expunge(entry)
        if (head.sequence, head.hash) != (expected - 1, previous):
            return Verification(expected - 1, previous.hex(), expected, "the end is missing")
        return Verification(expected - 1, previous.hex(), None, "")

    def _locked_head(self, session: Session) -> AuditHead:
        session.flush()
        head = session.get(AuditHead, 1, with_for_update=True)
        if head is not None:
            return head
        try:
            with session.begin_nested():
                session.add(AuditHead(id=1, sequence=0, hash=GENESIS))
        except IntegrityError:
            # Another transaction was first and has committed: its row is there now.
            pass
        head = session.get(AuditHead, 1, with_for_update=True)
        assert head is not None
        return head


def _redacted(value: Any) -> Any:
    match value:
        case Mapping():
            return {
                str(name): (
                    REDACTED
                    if any(word in str(name).lower() for word in _SECRET_NAMES)
                    else _redacted(inner)
                )
                for name, inner in value.items()
            }
        case list() | tuple() | set() | frozenset():
            inner = [_redacted(one) for one in value]
            return sorted(inner, key=str) if isinstance(value, set | frozenset) else inner
        case None | bool() | int():
            return value
        case _:
            text = _storable(str(value))
            # A token is recognised by its shape as well: base64url of '{"'.
            return REDACTED if text.startswith("eyJ") and text.count(".") >= 2 else text


def _storable(text: str) -> str:
    """Neither lone surrogates nor NUL can be stored by every database."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def _canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True)


def _hash(entry: AuditEntry) -> bytes:
    """SHA-256 over everything in the entry, unambiguously: one JSON array, then the link."""
    fields = _canonical(
        [
            entry.sequence,
            entry.at.isoformat(timespec="microseconds"),
            entry.actor,
            entry.action,
            entry.subject,
            entry.details,
        ]
    )
    return hashlib.sha256(entry.previous + fields.encode()).digest()
