"""The files of recordings: appended, cut back to what is committed, read in pieces.

A recording is ``{first two digits}/{session}.jgr``: frames of :mod:`protos.chain` and nothing
else. Beside it lies ``.index``, an offset and a hash an entry, which is only ever a shortcut:
it is made anew from the frames whenever it doesn't fit, and no verification trusts it. What
doesn't fit the chain is kept apart in ``.rejected``. Knows no database.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from protos.chain import HASH_SIZE, HEADER, MAX_PAYLOAD, ChainError, parse
from protos.vocabulary import Entry

_INDEX = Struct(f">Q{HASH_SIZE}s")
MAX_REJECTED = 64 << 20
"""Bytes of evidence kept of a broken recording."""
_PIECE = 256 << 10


class RecordingFiles:
    """The files under one directory. Writers of one session must exclude each other."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, session: str, suffix: str = ".jgr") -> Path:
        """Where a session's file is; ``session`` is 32 hexadecimal digits."""
        return self._directory / session[:2] / (session + suffix)

    def append(
        self, session: str, size: int, sequence: int, entries: Sequence[tuple[Entry, bytes]]
    ) -> int:
        """Write entries with their frames behind the first ``size`` bytes; the new size.

        What lies behind ``size`` was never committed and is cut off first. The frames are on
        disk when it returns. ``sequence`` is the first entry's. Raises OSError.
        """
        path = self.path(session)
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _sync_directory(path.parent.parent)
        created = not path.exists()
        index = bytearray()
        with open(_opened(path), "r+b", buffering=0) as file:
            file.truncate(size)
            file.seek(size)
            for entry, frame in entries:
                index += _INDEX.pack(size, entry.hash)
                size += _write_all(file.fileno(), frame)
            os.fdatasync(file.fileno())
        if created:
            _sync_directory(path.parent)
        with open(_opened(self.path(session, ".index")), "r+b", buffering=0) as file:
            # Filled by zeros where it was short, which no hash is: found when it is used.
            file.truncate(sequence * _INDEX.size)
            file.seek(sequence * _INDEX.size)
            _write_all(file.fileno(), bytes(index))
        return size

    def reject(self, session: str, frames: bytes) -> None:
        """Keep, within a bound, what didn't fit; never part of the recording."""
        path = self.path(session, ".rejected")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(_opened(path), "ab", buffering=0) as file:
            room = MAX_REJECTED - file.tell()
            if room > 0:
                _write_all(file.fileno(), frames[:room])
                os.fdatasync(file.fileno())

    def length(self, session: str, size: int) -> int:
        """How many of the first ``size`` bytes there are."""
        try:
            return min(size, self.path(session).stat().st_size)
        except FileNotFoundError:
            return 0

    def content(self, session: str, length: int) -> Iterator[bytes]:
        """The first ``length`` bytes, in pieces."""
        with self._reading(session) as file:
            while length > 0 and (piece := file.read(min(length, _PIECE))):
                length -= len(piece)
                yield piece

    def hash_of(self, session: str, sequence: int, size: int) -> bytes | None:
        """The hash of the entry with this sequence, read from the frame itself."""
        for entry in self.entries(session, sequence - 1, size):
            return entry.hash if entry.sequence == sequence else None
        return None

    def entries(self, session: str, after: int, size: int) -> Iterator[Entry]:
        """Entries behind sequence ``after`` of the first ``size`` bytes; hashes unchecked.

        Memory is that of one entry. Raises :class:`ChainError` at bytes that are no entry.
        """
        with self._reading(session) as file:
            if after >= 0 and not self._seek(file, session, after, size):
                for entry in _frames(file, size):
                    if entry.sequence >= after:
                        break
            yield from _frames(file, size)

    def _reading(self, session: str) -> BinaryIO:
        try:
            return self.path(session).open("rb")
        except FileNotFoundError:
            return io.BytesIO()

    def _seek(self, file: BinaryIO, session: str, sequence: int, size: int) -> bool:
        """Go behind an entry by the index, if that is right about it."""
        try:
            with self.path(session, ".index").open("rb") as index:
                index.seek(sequence * _INDEX.size)
                row = index.read(_INDEX.size)
        except FileNotFoundError:
            return False
        if len(row) == _INDEX.size:
            offset, digest = _INDEX.unpack(row)
            if offset < size:
                file.seek(offset)
                try:
                    entry = next(_frames(file, size), None)
                except ChainError:
                    entry = None
                if entry and (entry.session, entry.sequence, entry.hash) == (
                    session,
                    sequence,
                    digest,
                ):
                    return True
        file.seek(0)
        return False


def _frames(file: BinaryIO, size: int) -> Iterator[Entry]:
    sequence = 0
    while (left := size - file.tell()) > 0:
        frame = file.read(min(HEADER.size, left))
        if not frame:
            return
        if len(frame) == HEADER.size:
            _, sequence, _, _, length = HEADER.unpack(frame)
            frame += file.read(min(length, MAX_PAYLOAD) + HASH_SIZE)
        parsed = parse(frame)
        if parsed is None or file.tell() > size:
            raise ChainError(sequence, "the recording ends in the middle of it")
        yield parsed[0]
        sequence = parsed[0].sequence + 1


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _write_all(descriptor: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(data)


def _sync_directory(path: Path) -> None:
    # A new file's name is durable only once its directory is.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
