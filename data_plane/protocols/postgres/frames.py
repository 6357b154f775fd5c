"""Frames of the PostgreSQL protocol 3.0: cutting them out of a stream, and building them.

Counterparts: :mod:`.conversation` reads the client's stream with :class:`FrameBuffer`,
:mod:`.results` the target's. Nothing here knows what a frame is for. Layouts follow chapter
"Frontend/Backend Protocol", section "Message Formats", of the PostgreSQL manual.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

INT16 = Struct("!h")
INT32 = Struct("!i")
UINT32 = Struct("!I")
_HEADER = Struct("!ci")

PROTOCOL_3_0 = 3 << 16
CANCEL_REQUEST = (1234 << 16) | 5678
SSL_REQUEST = (1234 << 16) | 5679
GSSENC_REQUEST = (1234 << 16) | 5680

MAX_FRAME = 16 * 1024 * 1024
"""Bytes of one frame from a client that are held; more is refused. CopyData is not held."""
MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of one frame from a target that are held where it has to be seen whole."""
MAX_STARTUP = 10_000
MAX_PASSWORD = 64 * 1024
MAX_COPY_DATA = 0x3FFFFFFF

SYNC = b"S\x00\x00\x00\x04"
FLUSH = b"H\x00\x00\x00\x04"
TERMINATE = b"X\x00\x00\x00\x04"


class FrameError(Exception):
    """The stream breaks the protocol; the text may be shown to the side that sent it."""


class FrameBuffer:
    """Bytes that arrived and are not consumed yet. ``start`` is where the next frame begins."""

    __slots__ = ("data", "start")

    def __init__(self) -> None:
        self.data = bytearray()
        self.start = 0

    def __len__(self) -> int:
        return len(self.data) - self.start

    def feed(self, data: bytes) -> None:
        """Append bytes; what was consumed is let go of."""
        if self.start:
            del self.data[: self.start]
            self.start = 0
        self.data += data

    def clear(self) -> None:
        """Forget everything."""
        self.data = bytearray()
        self.start = 0

    def header(self) -> tuple[int, int] | None:
        """Type and whole size (type byte included) of the next frame, once known."""
        if len(self.data) - self.start < 5:
            return None
        length = INT32.unpack_from(self.data, self.start + 1)[0]
        if length < 4:
            raise FrameError("a frame's length is impossible")
        return self.data[self.start], length + 1

    def take(self, size: int) -> bytes:
        """Consume exactly ``size`` bytes, which must be there."""
        end = self.start + size
        taken = bytes(memoryview(self.data)[self.start : end])
        self.start = end
        return taken


class Reader:
    """Reads the fields of one frame's body; running past its end is a :class:`FrameError`."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def text(self) -> bytes:
        """A zero-terminated string, without its zero."""
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise FrameError("a string is not terminated")
        value = self.data[self.at : end]
        self.at = end + 1
        return value

    def int16(self) -> int:
        """A 16-bit integer."""
        return self._number(INT16)

    def int32(self) -> int:
        """A 32-bit integer."""
        return self._number(INT32)

    def uint32(self) -> int:
        """An object id."""
        return self._number(UINT32)

    def _number(self, form: Struct) -> int:
        if self.at + form.size > len(self.data):
            raise FrameError("a frame ends too early")
        value: int = form.unpack_from(self.data, self.at)[0]
        self.at += form.size
        return value

    def count(self) -> int:
        """A 16-bit count, which cannot be negative."""
        number = self.int16()
        if number < 0:
            raise FrameError("a count is negative")
        return number

    def value(self) -> bytes | None:
        """A value with its 32-bit length in front; -1 is NULL."""
        length = self.int32()
        if length == -1:
            return None
        if length < 0 or self.at + length > len(self.data):
            raise FrameError("a value ends outside its frame")
        value = self.data[self.at : self.at + length]
        self.at += length
        return value

    def byte(self) -> bytes:
        """One byte."""
        if self.at >= len(self.data):
            raise FrameError("a frame ends too early")
        self.at += 1
        return self.data[self.at - 1 : self.at]

    def finish(self) -> None:
        """Nothing may be left."""
        if self.at != len(self.data):
            raise FrameError("a frame has bytes behind its end")


def frame(kind: bytes, body: bytes = b"") -> bytes:
    """One frame with its type and length."""
    return _HEADER.pack(kind, len(body) + 4) + body


def untyped(body: bytes) -> bytes:
    """A start-up frame: a length, no type."""
    return INT32.pack(len(body) + 4) + body


def query(text: bytes) -> bytes:
    """Query."""
    return frame(b"Q", text + b"\0")


def parse(name: bytes, text: bytes) -> bytes:
    """Parse without parameter types."""
    return frame(b"P", name + b"\0" + text + b"\0\0\0")


def describe_portal(name: bytes) -> bytes:
    """Describe of a portal."""
    return frame(b"D", b"P" + name + b"\0")


def startup(parameters: Iterable[tuple[str, str]]) -> bytes:
    """StartupMessage of protocol 3.0."""
    body = bytearray(INT32.pack(PROTOCOL_3_0))
    for name, value in parameters:
        body += name.encode() + b"\0" + value.encode() + b"\0"
    return untyped(bytes(body) + b"\0")


def cancel_request(key: bytes) -> bytes:
    """CancelRequest for a backend's key (process id and secret)."""
    return untyped(INT32.pack(CANCEL_REQUEST) + key)


def ready(status: bytes) -> bytes:
    """ReadyForQuery with the transaction status ``I``, ``T`` or ``E``."""
    return frame(b"Z", status)
