"""Receives recordings, keeps them, and says whether what is kept is what came.

Counterparts: the relay's spool sends frames of many sessions in the order they were written,
again from an earlier point after every break; :mod:`protos.chain` is the form. Each session's
entries carry on from the head that its row holds, or the recording is broken from there on:
what doesn't fit is put aside, audited once, and the stream goes on, so that one bad session
doesn't hold up the others.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from control_plane.audit.service import AuditTrail
from control_plane.database import Database, now
from control_plane.errors import Invalid, NotFound, Unavailable
from control_plane.recordings.models import BROKEN, CLOSED, OPEN, Recording
from control_plane.recordings.store import RecordingFiles
from control_plane.recordings.verification import Verification, verified
from control_plane.sessions.events import EventFeed
from control_plane.sessions.models import AgentSession, SessionState
from control_plane.sessions.service import SessionService
from control_plane.wakeups import Wakeups
from protos.chain import (
    HASH_SIZE,
    HEADER,
    MAX_PAYLOAD,
    ChainError,
    Head,
    check,
    genesis,
    parse,
)
from protos.vocabulary import Entry, EntryKind

_MAX_STRANGERS = 10_000

Item = tuple[Entry | ChainError, bytes]
"""An entry, or why the bytes are none, and the bytes."""


class RecordingService:
    """Recordings of sessions."""

    def __init__(
        self,
        database: Database,
        wakeups: Wakeups,
        audit: AuditTrail,
        sessions: SessionService,
        events: EventFeed,
        files: RecordingFiles,
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database = database
        self._wakeups = wakeups
        self._audit = audit
        self._sessions = sessions
        self._events = events
        self._files = files
        self._clock = clock
        self._strangers: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def append(self, relay: str, frames: bytes) -> None:
        """Keep a batch of whole frames, durably when it returns. Frames already here are
        ignored, so a batch can be sent again.

        Raises Invalid (``batch_invalid``) for bytes that are no frames, and Unavailable
        (``recordings_unwritable``) where the disk fails; then nothing of it counts as kept.
        """
        batch = _by_session(frames)
        with self._database.transaction() as session:
            try:
                # In one order everywhere, so that two streams never wait for each other.
                touched = [self._take(session, relay, id_, batch[id_]) for id_ in sorted(batch)]
            except OSError as error:
                raise Unavailable(
                    "recordings_unwritable", f"recordings can't be written: {error.strerror}"
                ) from None
            # The audit trail's lock comes behind every recording's, the events' behind it.
            for finish in touched:
                finish.audit(session)
            for finish in touched:
                finish.tell(session)
        if any(finish.matters for finish in touched):
            self._wakeups.wake("sessions")

    def _take(self, session: Session, relay: str, id_: str, items: list[Item]) -> _Finish:
        finish = _Finish(self, relay, id_)
        owner = session.get(AgentSession, id_)
        if owner is None or owner.relay != relay:
            # Never stored: a relay writes its own sessions' recordings only.
            finish.stranger = self._first_time(relay, id_)
            return finish
        row = self._locked(session, id_)
        fresh: list[tuple[Entry, bytes]] = []
        head = Head(row.next_sequence, row.head)
        closed = row.state == CLOSED
        if row.state == BROKEN:
            self._reject(id_, items, finish)
            return finish
        for position, (item, frame) in enumerate(items):
            try:
                if isinstance(item, ChainError):
                    raise ChainError(head.sequence, item.problem)
                if item.sequence < head.sequence:
                    self._recheck(row, fresh, item)
                    continue
                if closed:
                    raise ChainError(head.sequence, "it follows the entry that closed the session")
                head = check(head, item)
            except ChainError as error:
                row.state, row.first_bad, row.problem = BROKEN, error.sequence, error.problem
                finish.broken = error
                self._reject(id_, items[position:], finish)
                break
            fresh.append((item, frame))
            if item.kind is EntryKind.CLOSED:
                closed, finish.closing = True, item
        if fresh:
            row.size = self._files.append(id_, row.size, row.next_sequence, fresh)
            row.next_sequence, row.head = head.sequence, head.hash
        if closed and row.state == OPEN:
            row.state = CLOSED
        row.updated_at = self._clock()
        return finish

    def _reject(self, id_: str, items: Sequence[Item], finish: _Finish) -> None:
        self._files.reject(id_, b"".join(frame for _, frame in items))
        for item, _ in items:
            # What it says doesn't count as recorded, but the session is over.
            if isinstance(item, Entry) and item.kind is EntryKind.CLOSED:
                finish.closing = finish.closing or item

    def _recheck(self, row: Recording, fresh: list[tuple[Entry, bytes]], entry: Entry) -> None:
        """An entry that is here already must be the one that is here."""
        if entry.sequence >= row.next_sequence:
            kept: bytes | None = fresh[entry.sequence - row.next_sequence][0].hash
        elif entry.sequence == row.next_sequence - 1:
            kept = row.head
        else:
            kept = self._files.hash_of(row.session, entry.sequence, row.size)
        if kept != entry.hash:
            raise ChainError(entry.sequence, "it came again, and is not the one that came first")

    def _locked(self, session: Session, id_: str) -> Recording:
        # The session's row is locked and not its recording's, which may not exist yet.
        session.get(AgentSession, id_, with_for_update=True, populate_existing=True)
        row = session.get(Recording, id_, populate_existing=True)
        if row is None:
            start = genesis(id_)
            row = Recording(
                session=id_,
                next_sequence=start.sequence,
                head=start.hash,
                size=0,
                state=OPEN,
                updated_at=self._clock(),
            )
            session.add(row)
        return row

    def _first_time(self, relay: str, id_: str) -> bool:
        with self._lock:
            if (relay, id_) in self._strangers or len(self._strangers) >= _MAX_STRANGERS:
                return False
            self._strangers.add((relay, id_))
            return True

    def find(self, id_: str) -> tuple[AgentSession, Recording]:
        """A session and its recording. Raises NotFound where either is missing."""
        with self._database.transaction() as session:
            owner = self._sessions.find(session, id_)
            row = session.get(Recording, id_)
        if row is None:
            raise NotFound("recording_not_found", "nothing of the session was recorded yet")
        return owner, row

    def content(self, id_: str) -> tuple[int, Iterator[bytes]]:
        """How many bytes there are of a recording, and they. Raises NotFound."""
        _, row = self.find(id_)
        length = self._files.length(id_, row.size)
        return length, self._files.content(id_, length)

    def entries(self, id_: str, after: int, limit: int, max_bytes: int) -> list[Entry]:
        """Entries behind sequence ``after``: at most ``limit``, about ``max_bytes``, and at
        least one where there is one. Raises NotFound, and Invalid (``recording_damaged``)
        where the next one can't be read.
        """
        _, row = self.find(id_)
        found: list[Entry] = []
        left = max_bytes
        try:
            for entry in self._files.entries(id_, after, row.size):
                left -= len(entry.payload)
                if found and left < 0:
                    break
                found.append(entry)
                if len(found) >= limit:
                    break
        except ChainError as error:
            if not found:
                raise Invalid("recording_damaged", str(error)) from None
        return found

    def verify(self, id_: str) -> Verification:
        """Read the whole recording again and compare it with what was received.

        Time is linear in its size, memory is not. Raises NotFound.
        """
        owner, row = self.find(id_)
        interrupted = owner.state == SessionState.INTERRUPTED
        return verified(self._files, row, interrupted=interrupted)


class _Finish:
    """What is left to do for one session of a batch once every row is locked."""

    def __init__(self, service: RecordingService, relay: str, id_: str) -> None:
        self._service = service
        self._relay = relay
        self._id = id_
        self.stranger = False
        self.broken: ChainError | None = None
        self.closing: Entry | None = None

    @property
    def matters(self) -> bool:
        """Whether anybody is told."""
        return self.broken is not None or self.closing is not None

    def audit(self, session: Session) -> None:
        """Write down what was wrong."""
        record = self._service._audit.record
        actor = f"relay {self._relay}"
        if self.stranger:
            details = {"reason": "it is no session of this relay"}
            record(session, actor, "recording.refused", self._id, details)
        if self.broken is not None:
            found = {"first_bad": self.broken.sequence, "problem": self.broken.problem}
            record(session, actor, "recording.broken", self._id, found)

    def tell(self, session: Session) -> None:
        """Close the session, emit the events."""
        if self.broken is not None:
            data = {"first_bad": self.broken.sequence, "problem": self.broken.problem}
            self._service._events.emit(session, "recording.broken", self._id, data)
        if self.closing is not None:
            code, reason = _why_closed(self.closing.payload)
            # By our clock: a relay's may be wrong, and its own time is in the recording.
            self._service._sessions.close(session, self._id, self._service._clock(), code, reason)


def _by_session(frames: bytes) -> dict[str, list[Item]]:
    batch: dict[str, list[Item]] = {}
    offset, sequence, raw = 0, 0, b""
    while offset < len(frames):
        if len(frames) - offset < HEADER.size:
            if not batch:
                raise Invalid("batch_invalid", "this is no batch of entries")
            # What led here was read wrongly already: it belongs to that.
            batch[raw.hex()].append((ChainError(sequence, "it is cut off"), frames[offset:]))
            break
        raw, sequence, _, _, length = HEADER.unpack_from(frames, offset)
        end = offset + HEADER.size + length + HASH_SIZE
        item: Entry | ChainError
        try:
            parsed = parse(frames, offset)
            item = parsed[0] if parsed else ChainError(sequence, "it is cut off")
        except ChainError as error:
            item = error
        # Behind a wrong length nothing can be found any more: all of it is this session's.
        end = end if end <= len(frames) and length <= MAX_PAYLOAD else len(frames)
        batch.setdefault(raw.hex(), []).append((item, frames[offset:end]))
        offset = end
    return batch


def _why_closed(payload: bytes) -> tuple[str, str]:
    try:
        said = json.loads(payload)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        return "", ""
    return (
        str(said.get("code", "")).replace("\0", "?"),
        str(said.get("reason", "")).replace("\0", "?"),
    )
