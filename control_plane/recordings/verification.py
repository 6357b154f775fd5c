"""Whether a recording's file still is what was received. Reads files, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.recordings.models import BROKEN, CLOSED, OPEN, Recording, State
from control_plane.recordings.store import RecordingFiles
from protos.chain import ChainError, check, genesis
from protos.vocabulary import EntryKind


@dataclass(frozen=True, slots=True)
class Verification:
    """What checking a recording found. ``first_bad`` is an entry's sequence.

    ``valid`` is true for one that is still open or was interrupted, too: what there is of it
    is what came. ``problem`` is empty where it is valid.
    """

    valid: bool
    state: State
    entries: int
    head: str
    first_bad: int | None
    problem: str


def verified(files: RecordingFiles, row: Recording, *, interrupted: bool) -> Verification:
    """Check the file against its own chain, and its head against what was received."""
    state: State = "interrupted" if interrupted else OPEN
    if row.state in (CLOSED, BROKEN):
        state = CLOSED if row.state == CLOSED else BROKEN
    bad, problem = _first_bad(files, row)
    if bad is None and row.state == BROKEN:
        bad, problem = row.first_bad, row.problem
    return Verification(bad is None, state, row.next_sequence, row.head.hex(), bad, problem)


def _first_bad(files: RecordingFiles, row: Recording) -> tuple[int | None, str]:
    head, closed = genesis(row.session), False
    try:
        for entry in files.entries(row.session, -1, row.size):
            if entry.session != row.session:
                return head.sequence, "it belongs to another session"
            if closed:
                return head.sequence, "it follows the entry that closed the session"
            head = check(head, entry)
            closed = entry.kind is EntryKind.CLOSED
    except ChainError as error:
        return head.sequence, error.problem
    if head.sequence < row.next_sequence:
        return head.sequence, "it is missing: the end was cut off"
    if head.hash != row.head:
        # Rewritten and chained anew: the last entry is the first that is known to differ.
        return max(0, row.next_sequence - 1), "it is not the entry that was received"
    return None, ""
