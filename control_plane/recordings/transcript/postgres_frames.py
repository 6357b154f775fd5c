"""PostgreSQL messages out of recorded bytes, in whatever pieces those come.

A message after login is a type byte, a length that counts itself, and the payload
(PostgreSQL documentation, "Message Formats"). Bytes that can't be one end the decoding of
their direction: after them nothing says where a message begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 16 << 20
"""Bytes; the payload of a longer message isn't kept."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message; ``payload`` is None where it was too long to keep."""

    code: str
    size: int
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class Lost:
    """Bytes that are no messages."""

    size: int


class Frames:
    """One direction. ``codes`` are the type bytes that may come."""

    def __init__(self, codes: str) -> None:
        self._codes = codes.encode()
        self._buffer = bytearray()
        self._skip = 0
        self._lost = False

    @property
    def waiting(self) -> int:
        """Bytes of a message that isn't all there."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Message | Lost]:
        """The messages that are complete with ``data``."""
        if self._lost:
            yield Lost(len(data))
            return
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._buffer += memoryview(data)[skipped:]
        offset = 0
        try:
            while len(self._buffer) - offset >= 5:
                code = self._buffer[offset]
                size = int.from_bytes(self._buffer[offset + 1 : offset + 5], "big", signed=True)
                if code not in self._codes or size < 4:
                    self._lost = True
                    lost = len(self._buffer) - offset
                    offset = len(self._buffer)
                    yield Lost(lost)
                    return
                end = offset + 1 + size
                if size > LONGEST:
                    self._skip = max(0, end - len(self._buffer))
                    offset = min(end, len(self._buffer))
                    yield Message(chr(code), size - 4, None)
                elif end > len(self._buffer):
                    return
                else:
                    payload = bytes(self._buffer[offset + 5 : end])
                    offset = end
                    yield Message(chr(code), size - 4, payload)
        finally:
            del self._buffer[:offset]


class Malformed(ValueError):
    """A payload that isn't what its type says."""


class Reader:
    """Reads the fields of one payload; raises :class:`Malformed` where they don't fit."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._offset = 0

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self._payload) - self._offset

    def take(self, size: int) -> bytes:
        """``size`` raw bytes."""
        if size < 0 or size > self.left:
            raise Malformed
        start = self._offset
        self._offset += size
        return self._payload[start : self._offset]

    def number(self, size: int, *, signed: bool = True) -> int:
        """A big-endian integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big", signed=signed)

    def character(self) -> str:
        """One byte as the character that it stands for."""
        return chr(self.take(1)[0])

    def string(self) -> str:
        """A string that ends in a zero byte."""
        end = self._payload.find(b"\0", self._offset)
        if end < 0:
            raise Malformed
        text = self._payload[self._offset : end].decode(errors="backslashreplace")
        self._offset = end + 1
        return text

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)

    def value(self) -> bytes | None:
        """A value with its length before it; -1 is NULL."""
        size = self.number(4)
        return None if size == -1 else self.take(size)

    def numbers(self, size: int, *, signed: bool = True) -> tuple[int, ...]:
        """A 16-bit count and as many integers."""
        return tuple(self.number(size, signed=signed) for _ in range(self.number(2, signed=False)))
