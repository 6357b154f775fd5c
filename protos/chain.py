"""The form of a recording: how entries become bytes, and how they are chained.

Counterparts: :mod:`data_plane.recording` writes it, :mod:`control_plane.recordings` verifies
and keeps it, ``jitgate verify`` checks a copy anywhere. One form from the relay's spool to the
archive, so nothing is converted on the way and every holder can check it.

A frame is a fixed header, the payload, and the entry's hash::

    session 16 bytes | sequence u64 | at u64 (ns) | kind u8 | length u32 | payload | hash 32

all big-endian. The hash is SHA-256 over the hash before it, the header and the payload; the
hash before the first is SHA-256 over :data:`SEED` and the session. So an entry can't be
changed, dropped, swapped or moved to another session without breaking every hash behind it.
That the tail was not cut is seen from the ``CLOSED`` entry that ends a recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct

from protos.vocabulary import Entry, EntryKind

SEED = b"jitgate recording 1\0"
HEADER = Struct(">16sQQBI")
HASH_SIZE = 32
MAX_PAYLOAD = 16 << 20
"""Bytes; a longer payload is split by the writer, so a reader's memory is bounded."""


class ChainError(ValueError):
    """The first thing that is wrong with a recording; ``sequence`` is the entry's."""

    def __init__(self, sequence: int, problem: str) -> None:
        super().__init__(f"entry {sequence}: {problem}")
        self.sequence = sequence
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Head:
    """Where a session's chain stands: what the next entry must carry on from."""

    sequence: int
    hash: bytes


def genesis(session: str) -> Head:
    """The head of a recording without entries."""
    return Head(0, sha256(SEED + bytes.fromhex(session)).digest())


def extend(
    head: Head, session: bytes, at: int, kind: EntryKind, payload: bytes | bytearray | memoryview
) -> tuple[Head, bytes, bytes]:
    """The next head, with the frame's header and the entry's hash; ``session`` is 16 bytes.

    The frame is ``header + payload + hash``; the payload isn't copied here.
    """
    header = HEADER.pack(session, head.sequence, at, kind, len(payload))
    running = sha256(head.hash)
    running.update(header)
    running.update(payload)
    digest = running.digest()
    return Head(head.sequence + 1, digest), header, digest


def frame(entry: Entry) -> bytes:
    """The bytes of an entry as it is, hash included; nothing is checked."""
    header = HEADER.pack(
        bytes.fromhex(entry.session), entry.sequence, entry.at, entry.kind, len(entry.payload)
    )
    return header + entry.payload + entry.hash


def parse(data: bytes | memoryview, offset: int = 0) -> tuple[Entry, int] | None:
    """The entry at ``offset`` and the offset behind it, or ``None`` if it isn't all there.

    Raises :class:`ChainError` on bytes that can't be an entry. The hash isn't checked.
    """
    view = memoryview(data)
    if len(view) - offset < HEADER.size:
        return None
    session, sequence, at, kind, length = HEADER.unpack_from(view, offset)
    if length > MAX_PAYLOAD:
        raise ChainError(sequence, f"a payload of {length} bytes is beyond the limit")
    try:
        known = EntryKind(kind)
    except ValueError:
        raise ChainError(sequence, f"{kind} is no kind of entry") from None
    start = offset + HEADER.size
    end = start + length + HASH_SIZE
    if len(view) < end:
        return None
    payload = bytes(view[start : start + length])
    digest = bytes(view[start + length : end])
    return Entry(session.hex(), sequence, at, known, payload, digest), end


def check(head: Head, entry: Entry) -> Head:
    """The head behind ``entry``; raises :class:`ChainError` where it doesn't carry on."""
    if entry.sequence != head.sequence:
        raise ChainError(head.sequence, f"expected here, but entry {entry.sequence} follows")
    after, _, digest = extend(
        head, bytes.fromhex(entry.session), entry.at, entry.kind, entry.payload
    )
    if digest != entry.hash:
        raise ChainError(entry.sequence, "its hash is not that of its content and predecessor")
    return after


def read(data: bytes | memoryview) -> Iterator[Entry]:
    """The entries of a recording, each checked against the chain, up to the first bad one.

    Raises :class:`ChainError` on a broken chain, an entry of another session, and bytes left
    over at the end. It does not ask for a ``CLOSED`` entry: see :func:`verify`.
    """
    offset = 0
    head: Head | None = None
    session = ""
    while offset < len(data):
        parsed = parse(data, offset)
        expected = head.sequence if head else 0
        if parsed is None:
            raise ChainError(expected, "the recording ends in the middle of it")
        entry, offset = parsed
        if head is None:
            session = entry.session
            head = genesis(session)
        elif entry.session != session:
            raise ChainError(expected, "it belongs to another session")
        head = check(head, entry)
        yield entry


@dataclass(frozen=True, slots=True)
class Report:
    """What :func:`verify` found: ``head`` is that of the last good entry."""

    session: str
    head: Head
    closed: bool


def verify(data: bytes | memoryview) -> Report:
    """Check a whole recording; raises :class:`ChainError` naming the first bad entry.

    ``closed`` is false where no ``CLOSED`` entry ends it: either the session still runs, or
    its relay died, or the tail was cut; who holds the head that the control plane keeps can
    tell which.
    """
    last: Entry | None = None
    for entry in read(data):
        if last is not None and last.kind is EntryKind.CLOSED:
            raise ChainError(entry.sequence, "it follows the entry that closed the session")
        last = entry
    if last is None:
        raise ChainError(0, "the recording is empty")
    return Report(last.session, Head(last.sequence + 1, last.hash), last.kind is EntryKind.CLOSED)
