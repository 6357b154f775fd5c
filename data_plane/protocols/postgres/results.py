"""What the target answers: attributed to what was asked, masked, and passed to the client.

Counterparts: :mod:`.conversation` says what was sent to the target (:meth:`Answers.expect`)
and feeds what comes back; :mod:`.rows` masks cells.

Theory of operation. Every frame sent to the target that makes it answer puts one
:class:`Expected` into a queue, and every answer must fit the head of the queue, or the session
ends: so an answer can never be taken for another statement's, whose masks would be others. An
error in the extended protocol makes the target skip to the next Sync (section "Pipelining"),
and the queue does the same. Bytes in which nothing is masked are passed on as they came, and a
row that nobody has to look into is passed on before its end has arrived.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from data_plane.masking import Masker
from data_plane.protocols.postgres.catalogue import Masks
from data_plane.protocols.postgres.frames import INT32, MAX_ANSWER, FrameError, frame
from data_plane.protocols.postgres.login import error_fields
from data_plane.protocols.postgres.operations import READS_VALUES, Portal, Prepared
from data_plane.protocols.postgres.rows import (
    CopyObjection,
    CopyPlan,
    RowPlan,
    plan_copy,
    plan_rows,
    read_fields,
    with_formats,
)
from data_plane.sql import CopyDirection, NameKind, Statement

_ROW, _COPY_DATA, _ERROR, _READY, _FIELDS = 0x44, 0x64, 0x45, 0x5A, 0x54


class Unmaskable(Exception):
    """Something that might have to be masked cannot be; it must not go out."""


class Kind(IntEnum):
    """What was sent to the target."""

    QUERY = 1
    PARSE = 2
    BIND = 3
    CLOSE = 4
    DESCRIBE_STATEMENT = 5
    DESCRIBE_PORTAL = 6
    EXECUTE = 7
    SYNC = 8
    INTERNAL = 9


_FITS = {
    Kind.QUERY: frozenset(b"TDCIEGHdcZ"),
    Kind.PARSE: frozenset(b"1E"),
    Kind.BIND: frozenset(b"2E"),
    Kind.CLOSE: frozenset(b"3E"),
    Kind.DESCRIBE_STATEMENT: frozenset(b"tTnE"),
    Kind.DESCRIBE_PORTAL: frozenset(b"TnE"),
    Kind.EXECUTE: frozenset(b"DCIsEGHdc"),
    Kind.SYNC: frozenset(b"EZ"),
    Kind.INTERNAL: frozenset(b"TDCEZ"),
}


@dataclass(slots=True, eq=False)
class Expected:
    """An answer to come. ``refusal`` replaces the error that it is sure to be; with
    ``swallow`` it is not the client's; ``undo`` runs if it fails or is skipped, ``done`` if it
    succeeds."""

    kind: Kind
    statement: Statement | None = None
    prepared: Prepared | None = None
    portal: Portal | None = None
    refusal: bytes = b""
    swallow: bool = False
    undo: Callable[[], None] | None = None
    done: Callable[[], None] | None = None


class Answers:
    """The target's half of a session. ``status`` is the transaction status last reported;
    ``reported`` is kept as the target says."""

    def __init__(
        self,
        masker: Masker,
        user: str,
        on_ready: Callable[[bytes], bool],
        reported: dict[str, str],
    ) -> None:
        self._reported = reported
        self.queue: deque[Expected] = deque()
        self.status = b"I"
        self.skipping = False
        self.copy_in = False
        self.fatal = False
        self.ready_held = False
        self.internal = bytearray()
        self.encoding = "UTF8"
        self.standard_strings = True
        self.masks: Masks | None = None
        self._masker = masker
        self._on_ready = on_ready
        self._user = user.encode()
        self._detects = masker.detects
        self._touched = False
        self._current: Expected | None = None
        self._plan: RowPlan | None = None
        self._copy: CopyPlan | None = None
        self._line = bytearray()
        self._header = False
        self._copying = False
        self._pass = 0
        self._pending = bytearray()
        self._need = 0
        self._later = bytearray()

    @property
    def _column_masks(self) -> bool:
        return self.masks is not None and self.masks.active

    @property
    def idle(self) -> bool:
        """Whether nothing is outstanding and no transaction is open."""
        return not self.queue and self.status == b"I" and not self.skipping

    @property
    def masking(self) -> bool:
        """Whether rows may only pass once the target has described them."""
        return self._column_masks or self._detects

    def expect(self, expected: Expected) -> None:
        """A frame that makes the target answer was sent."""
        if expected.kind in (Kind.SYNC, Kind.QUERY):
            self.skipping = False
        statement = expected.statement
        if statement is not None and self.masks is not None and self._column_masks:
            written = any(resource.written for resource in statement.resources)
            declared = any(use.kind is NameKind.DECLARE for use in statement.names)
            # A deferred constraint speaks up at the end of the transaction, and a cursor that
            # outlives it is run to its end there.
            late = written or declared
            self._touched |= late and self.masks.quoted(statement)
        self.queue.append(expected)

    def say(self, data: bytes, out: bytearray) -> None:
        """Send the gateway's own frame, as soon as no frame is half sent."""
        if self._pass:
            self._later += data
        else:
            out += data

    @property
    def mid_frame(self) -> bool:
        """Whether the client has seen the beginning of a frame and not its end."""
        return self._pass > 0

    def feed(self, data: bytes, out: bytearray) -> None:
        """Take bytes of the target; what the client may see is appended to ``out``.

        Raises :class:`FrameError` and :class:`Unmaskable`, after which the session must end.
        """
        if self._pass:
            taken = min(self._pass, len(data))
            out += data[:taken]
            self._pass -= taken
            if self._pass:
                return
            out += self._later
            self._later.clear()
            data = data[taken:]
        if self._pending:
            self._pending += data
            if len(self._pending) < self._need:
                return
            data = bytes(self._pending)
            self._pending = bytearray()
        at = start = 0
        size = len(data)
        while size - at >= 5:
            kind = data[at]
            end = at + 1 + INT32.unpack_from(data, at + 1)[0]
            if end < at + 5:
                raise FrameError("a frame's length is impossible")
            if kind == _ROW:
                out += data[start:at]
                start = at = self._rows(data, at, out)
                if size - at < 5 or data[at] != _ROW:
                    continue
                # A row is cut off here.
                size_of_row = 1 + INT32.unpack_from(data, at + 1)[0]
                if self._streams(kind):
                    out += data[at:]
                    self._pass = at + size_of_row - size
                    return
                self._wait(size_of_row)
                break
            if end > size:
                if kind == _COPY_DATA and self._streams(kind):
                    self._fit(kind)
                    out += data[start:]
                    self._pass = end - size
                    return
                self._wait(end - at)
                break
            shown = self._take(kind, data, at, end)
            if shown is not None:
                out += data[start:at]
                out += shown
                start = end
            at = end
        out += data[start:at]
        if at < size:
            self._pending += data[at:]
            if size - at < 5:
                self._need = 5

    def _wait(self, size: int) -> None:
        if size > MAX_ANSWER:
            raise Unmaskable("a value is too large to be looked into")
        self._need = size

    def _streams(self, kind: int) -> bool:
        """Whether a frame of this kind may go out before its end is here."""
        head = self._fit(kind)
        if head.kind is Kind.INTERNAL:
            return False
        if kind == _ROW:
            return self._plan_for(head) is None
        return self._copying and self._copy is None

    def _fit(self, kind: int) -> Expected:
        if not self.queue or kind not in _FITS[self.queue[0].kind]:
            raise FrameError("the target answered what was not asked")
        return self.queue[0]

    def _rows(self, data: bytes, at: int, out: bytearray) -> int:
        """Pass the whole rows that begin at ``at``; gives the end of the last of them."""
        head = self._fit(_ROW)
        internal = head.kind is Kind.INTERNAL
        plan = None if internal else self._plan_for(head)
        size = len(data)
        first = at
        unpack = INT32.unpack_from
        ends: list[int] = []
        while size - at >= 5 and data[at] == _ROW:
            end = at + 1 + unpack(data, at + 1)[0]
            if end < at + 7:
                raise FrameError("a frame's length is impossible")
            if end > size:
                break
            at = end
            if plan is not None:
                ends.append(end)
        if internal:
            self.internal += data[first:at]
            self._bound_internal()
        elif plan is None or not (plan.every_row or self._masker.suspicious(data[first:at])):
            out += data[first:at]
        else:
            row = first
            for stop in ends:
                shown = plan.mask(data, row, stop, self._masker)
                out += data[row:stop] if shown is None else shown
                row = stop
        return at

    def _plan_for(self, head: Expected) -> RowPlan | None:
        if not (self._column_masks or self._detects):
            return None
        if self._current is head:
            return self._plan
        portal = head.portal
        # Rows without a description come only for Execute.
        if head.kind is not Kind.EXECUTE or portal is None or head.statement is None:
            raise Unmaskable("rows came without a description")
        fields = portal.fields
        if fields is None and portal.prepared.fields is not None:
            fields = with_formats(portal.prepared.fields, portal.formats)
        if fields is None or self.masks is None:
            raise Unmaskable("rows came without a description")
        self._current = head
        self._plan = plan_rows(fields, head.statement, self._masker, self.masks)
        return self._plan

    def _take(self, kind: int, data: bytes, at: int, end: int) -> bytes | None:
        """Take one whole frame; gives what to send instead, None for the frame itself."""
        if kind == 0x4E:  # N, NoticeResponse
            return self._spoken(b"N", data[at + 5 : end], self.queue[0] if self.queue else None)
        if kind == 0x53:  # S, ParameterStatus
            return self._parameter(data[at + 5 : end])
        if kind == 0x41:  # A, NotificationResponse
            if self._detects and self._masker.suspicious(data[at:end]):
                channel, _, payload = data[at + 9 : end - 1].partition(b"\0")
                payload = self._masker.text(payload)
                return frame(b"A", data[at + 5 : at + 9] + channel + b"\0" + payload + b"\0")
            return None
        if kind == _ERROR:
            return self._error(data[at + 5 : end])
        head = self._fit(kind)
        if head.kind is Kind.INTERNAL:
            return self._take_internal(kind, data, at, end)
        shown: bytes | None = None  # what goes out instead
        match kind:
            case 0x54:  # T, RowDescription
                self._described(head, data[at + 5 : end])
            case 0x6E:  # n, NoData
                self._pop()
            case 0x31 | 0x32 | 0x33:  # ParseComplete, BindComplete, CloseComplete
                self._pop()
            case 0x43 | 0x49:  # C, CommandComplete; I, EmptyQueryResponse
                self._current = self._plan = None
                self.copy_in = False
                if head.kind is Kind.EXECUTE:
                    self._pop()
            case 0x73:  # s, PortalSuspended
                self._pop()
            case 0x47:  # G, CopyInResponse
                self._copy_begins()
            case 0x48:  # H, CopyOutResponse
                self._copy_out(head)
            case 0x64 | 0x63 if not self._copying:
                raise FrameError("the target answered what was not asked")
            case 0x64:  # d, CopyData
                return self._copy_data(data[at + 5 : end]) if self._copy is not None else None
            case 0x63:  # c, CopyDone
                self._copying = False
                if self._copy is not None and self._line:
                    shown = self._copy_data(b"\n") + data[at:end]
                self._copy = None
            case 0x5A:  # Z, ReadyForQuery
                return self._ready(data[at + 5 : end])
            case _:  # t, ParameterDescription: the description of the rows follows
                pass
        return b"" if head.swallow else shown

    def _pop(self) -> None:
        head = self.queue.popleft()
        if head.done is not None:
            head.done()

    def _described(self, head: Expected, body: bytes) -> None:
        if not (self._column_masks or self._detects):
            if head.kind is not Kind.QUERY:
                self._pop()
            return
        fields = read_fields(body)
        if head.kind is Kind.QUERY:
            if head.statement is None or self.masks is None:
                raise Unmaskable("rows came that nothing is known of")
            self._current = head
            self._plan = plan_rows(fields, head.statement, self._masker, self.masks)
            return
        if head.prepared is not None:
            head.prepared.fields = fields
        if head.portal is not None:
            head.portal.fields = fields
        self._pop()

    def _error(self, body: bytes) -> bytes | None:
        fields = error_fields(body)
        head = self.queue[0] if self.queue else None
        if fields.get(b"V", fields.get(b"S")) in (b"FATAL", b"PANIC"):
            self.fatal = True
            return self._spoken(b"E", body, head)
        if head is None:
            raise FrameError("the target answered what was not asked")
        if head.kind is Kind.INTERNAL:
            raise Unmaskable("the target did not describe its tables")
        shown = head.refusal or self._spoken(b"E", body, head)
        self.copy_in = False
        self._current = self._plan = self._copy = None
        self._line.clear()
        self._copying = False
        if head.kind is Kind.QUERY:
            if head.undo is not None:
                head.undo()
                head.undo = None
        elif head.kind is not Kind.SYNC:
            self._skip()
        return shown

    def _skip(self) -> None:
        """After an error in the extended protocol nothing is answered until Sync."""
        dropped: list[Expected] = []
        while self.queue and self.queue[0].kind is not Kind.SYNC:
            dropped.append(self.queue.popleft())
        for expected in reversed(dropped):
            if expected.undo is not None:
                expected.undo()
        self.skipping = not self.queue

    def _ready(self, body: bytes) -> bytes | None:
        if len(body) != 1 or body not in b"ITE":
            raise FrameError("the target's status is unknown")
        self.status = body
        self._current = self._plan = self._copy = None
        self.copy_in = False
        self._pop()
        if body == b"I" and not self.queue:
            self._touched = False
        if not self.queue and self._on_ready(body):
            self.ready_held = True
            return b""
        return None

    def _take_internal(self, kind: int, data: bytes, at: int, end: int) -> bytes:
        if kind == _READY:
            if data[at + 5 : end] != self.status:
                raise Unmaskable("the target did not describe its tables")
            self._pop()
        else:
            self.internal += data[at:end]
            self._bound_internal()
        return b""

    def _bound_internal(self) -> None:
        if len(self.internal) > 4 * MAX_ANSWER:
            raise Unmaskable("the target has too many tables")

    def _parameter(self, body: bytes) -> bytes | None:
        name, _, value = body[:-1].partition(b"\0")
        if name == b"client_encoding":
            self.encoding = value.decode("ascii", "replace")
        elif (told := name.decode("utf-8", "replace")) in READS_VALUES:
            self._reported[told] = value.decode("utf-8", "replace")
        elif name == b"standard_conforming_strings":
            self.standard_strings = value == b"on"
        elif name == b"session_authorization":
            # It names the gateway's role at the target; the agent knows itself by its own.
            return frame(b"S", name + b"\0" + self._user + b"\0")
        return None

    def _spoken(self, kind: bytes, body: bytes, head: Expected | None) -> bytes | None:
        """An error or notice, with what it may quote of masked data taken out."""
        if self.masks is not None and self._column_masks:
            statement = head.statement if head is not None else None
            quotes = statement is not None and self.masks.quoted(statement)
            if quotes or self._touched:
                fields = error_fields(body)
                kept = b"".join(
                    code + fields[code] + b"\0" for code in (b"S", b"V", b"C") if code in fields
                )
                said = b"Mmessage withheld by the gateway: it may quote masked data\0"
                return frame(kind, kept + said + b"\0")
        if self._detects and self._masker.suspicious(body):
            fields = error_fields(body)
            shown = b"".join(
                code + self._masker.text(value) + b"\0" for code, value in fields.items()
            )
            return frame(kind, shown + b"\0")
        return None

    def _copy_begins(self) -> None:
        # Section "COPY Operations": Sync and Flush are ignored during COPY, so the Sync behind
        # the Execute gets no ReadyForQuery; the one behind CopyDone does.
        self.copy_in = True
        head = self.queue.popleft()
        while self.queue and self.queue[0].kind is Kind.SYNC and head.kind is Kind.EXECUTE:
            self.queue.popleft()
        self.queue.appendleft(head)

    def _copy_out(self, head: Expected) -> None:
        self._copy = None
        self._line.clear()
        self._copying = True
        if not (self._column_masks or self._detects):
            return
        shape = head.statement.copy if head.statement is not None else None
        if head.statement is None or shape is None or self.masks is None:
            raise Unmaskable("a COPY began that nothing is known of")
        if shape.direction is not CopyDirection.OUT:
            raise Unmaskable("a COPY began that nothing is known of")
        try:
            self._copy = plan_copy(shape, head.statement, self._masker, self.masks)
        except CopyObjection as objection:
            raise Unmaskable(str(objection)) from None
        self._header = self._copy is not None and self._copy.header

    def _copy_data(self, piece: bytes) -> bytes:
        """Whole lines of COPY data, masked; the rest waits for its end."""
        copy = self._copy
        if copy is None:
            raise Unmaskable("COPY data came that nothing is known of")
        self._line += piece
        if len(self._line) > MAX_ANSWER:
            raise Unmaskable("a line is too large to be looked into")
        last = self._line.rfind(b"\n") + 1
        if not last:
            return b""
        whole = bytes(self._line[: last - 1])
        del self._line[:last]
        shown = bytearray()
        for line in whole.split(b"\n"):
            if self._header:
                self._header = False
                shown += line
            else:
                shown += copy.line(line, self._masker)
            shown += b"\n"
        return frame(b"d", bytes(shown))
