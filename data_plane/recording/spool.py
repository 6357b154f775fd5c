"""The spool: recordings on the relay's disk, until the control plane has acknowledged them.

A log of frames (:mod:`protos.chain`) of all sessions, in the order they were written, cut into
segment files that are named by the position of their first byte. A *position* counts the bytes
ever spooled; it only grows, also over restarts. Counterpart: :mod:`data_plane.recording.upload`
reads it and releases what is acknowledged. It knows no session and checks no chain.

``append`` returns when the kernel has the bytes, so they survive the relay's own death; with
``durability="disk"`` when the disk has them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from protos.chain import HASH_SIZE, HEADER, ChainError, parse

SEGMENT_BYTES = 16 << 20
FAREWELL_BYTES = 4 << 20
"""Room kept for the last entries of sessions that end because the spool is full."""


class RecordingFailed(Exception):
    """There is no durable record, so nothing may be forwarded."""


class Spool:
    """An append-only log with a limit. One writer, one reader, one thread."""

    def __init__(
        self,
        directory: Path,
        max_bytes: int,
        *,
        to_disk: bool = False,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._max_bytes = max_bytes
        self._to_disk = to_disk
        self._segment_bytes = segment_bytes
        self._starts: list[int] = sorted(
            int(path.stem) for path in directory.glob("*.spool") if path.stem.isdigit()
        )
        self.start = self._starts[0] if self._starts else 0
        """The position of the first byte that is still here."""
        self.position = self._recover()
        """The position behind the last byte written."""
        self._file = self._open_segment()

    @property
    def used(self) -> int:
        """Bytes on disk that wait for an acknowledgement, or for their segment's others."""
        return self.position - self.start

    @property
    def has_room(self) -> bool:
        """Whether new sessions may start."""
        return self.used + 2 * FAREWELL_BYTES < self._max_bytes

    def append(
        self, parts: Sequence[bytes | bytearray | memoryview], *, last: bool = False
    ) -> None:
        """Write one frame, given in parts, whole or not at all.

        Raises :class:`RecordingFailed` where the limit or the disk is reached. ``last`` may
        use the room that is kept for the entries that end a session.
        """
        size = sum(len(part) for part in parts)
        limit = self._max_bytes if last else self._max_bytes - FAREWELL_BYTES
        if self.used + size > limit:
            raise RecordingFailed("the relay's spool is full")
        try:
            if self.position - self._starts[-1] >= self._segment_bytes:
                os.close(self._file)
                self._file = self._open_segment()
            written = os.writev(self._file, parts)
            if written != size:
                # What is there of the frame would look like a broken chain: take it back.
                os.ftruncate(self._file, self.position - self._starts[-1])
                raise RecordingFailed("the relay's disk is full")
            if self._to_disk:
                os.fdatasync(self._file)
        except OSError as error:
            raise RecordingFailed(f"the relay's spool can't be written: {error.strerror}") from None
        self.position += size

    def read(self, position: int, size: int) -> bytes:
        """Whole frames from ``position``: about ``size`` bytes, at least one frame if any."""
        if position >= self.position:
            return b""
        index = max(i for i, start in enumerate(self._starts) if start <= position)
        start = self._starts[index]
        with self._path(start).open("rb", buffering=0) as file:
            file.seek(position - start)
            data = file.read(size)
            whole = _whole_frames(data)
            if whole == 0 and len(data) >= HEADER.size:
                length = HEADER.unpack_from(data)[4] + HEADER.size + HASH_SIZE
                file.seek(position - start)
                data = file.read(length)
                whole = _whole_frames(data)
        return data[:whole]

    def release(self, position: int) -> None:
        """Forget what lies before ``position``, a segment at a time."""
        while len(self._starts) > 1 and self._starts[1] <= position:
            self._path(self._starts.pop(0)).unlink(missing_ok=True)
            self.start = self._starts[0]
        if position >= self.position > self._starts[-1]:
            # All of it is acknowledged: begin a new segment, so that the old one can go.
            os.close(self._file)
            self._file = self._open_segment()
            self.release(position)

    def close(self) -> None:
        """Close the segment being written."""
        os.close(self._file)

    def _path(self, start: int) -> Path:
        return self._directory / f"{start:020d}.spool"

    def _open_segment(self) -> int:
        if not self._starts or self._starts[-1] != self.position:
            self._starts.append(self.position)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self._path(self.position), flags, 0o600)

    def _recover(self) -> int:
        """The position behind the last whole frame; a torn one at the end is cut off."""
        if not self._starts:
            return 0
        path = self._path(self._starts[-1])
        data = path.read_bytes()
        whole = _whole_frames(data)
        if whole < len(data):
            os.truncate(path, whole)
        return self._starts[-1] + whole


def _whole_frames(data: bytes) -> int:
    """How many bytes at the start of ``data`` are whole frames."""
    offset = 0
    try:
        while parsed := parse(data, offset):
            offset = parsed[1]
    except ChainError:
        pass  # Bytes that are no frame end what can be used.
    return offset
