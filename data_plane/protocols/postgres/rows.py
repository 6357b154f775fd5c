"""Masking of values where they stand in the protocol: cells of DataRow, lines of COPY.

Counterparts: :mod:`data_plane.masking` says what becomes of a value, :mod:`.catalogue` which
column it came from, :mod:`.results` hands over rows. Nothing here decides whether a statement
may run.

What cannot be written in the column's type goes out as NULL: a masked number, a hit inside an
array or a document. Where the origin of a column cannot be told, it is taken for a masked one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_plane.masking import ColumnMask, Masker
from data_plane.protocols.postgres.catalogue import Masks
from data_plane.protocols.postgres.frames import INT16, INT32, FrameError, Reader
from data_plane.sql import CopyFormat, CopyShape, Statement, align

# Object ids of built-in types, from pg_type.dat; they never change.
_BOOL, _BYTEA, _INT8, _JSON, _XML, _JSONB, _NUMERIC = 16, 17, 20, 114, 142, 3802, 1700
_TEXTS = frozenset({25, 1043, 1042, 19, 705, 2275})
_BINARY_IS_TEXT = _TEXTS | {_XML}
# Types whose text form is too short or too regular to hold what a detector looks for.
_HARMLESS = frozenset(
    {_BOOL, 21, 23, 26, 700, 701, 1082, 1083, 1114, 1184, 1186, 1266, 2278, 2950, 18}
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a RowDescription. ``format`` is 0 for text and 1 for binary."""

    relation: int
    attribute: int
    type: int
    format: int


def read_fields(body: bytes) -> tuple[Field, ...]:
    """The fields of a RowDescription."""
    reader = Reader(body)
    fields = []
    for _ in range(reader.count()):
        reader.text()
        relation, attribute, kind = reader.uint32(), reader.int16(), reader.uint32()
        reader.int16()
        reader.int32()
        fields.append(Field(relation, attribute, kind, reader.int16()))
    reader.finish()
    return tuple(fields)


def with_formats(fields: tuple[Field, ...], formats: Sequence[int]) -> tuple[Field, ...]:
    """The fields of a statement as a Bind's result formats make them (section "Bind")."""
    if len(formats) > 1 and len(formats) != len(fields):
        raise FrameError("the result formats do not fit the columns")
    wanted = (
        list(formats) * len(fields) if len(formats) == 1 else list(formats) or [0] * len(fields)
    )
    return tuple(
        Field(field.relation, field.attribute, field.type, form)
        for field, form in zip(fields, wanted, strict=True)
    )


_UTF8 = frozenset({"utf8", "unicode"})
_KEEP, _APPLY, _NULL, _DETECT, _WHOLE, _HEX, _INT8_DIGITS, _NUMERIC_DIGITS = range(8)
_IN_JSON, _IN_JSONB = 8, 9


@dataclass(frozen=True, slots=True)
class RowPlan:
    """What is done to each cell of a result. ``every_row``: rows are rewritten without asking
    the detectors first, because a mask applies or a value hides from a look at its bytes."""

    actions: tuple[tuple[int, ColumnMask | None], ...]
    every_row: bool

    def mask(self, row: bytes, start: int, stop: int, masker: Masker) -> bytes | None:
        """The DataRow in ``row[start:stop]``, rewritten; None where nothing changes."""
        count = INT16.unpack_from(row, start + 5)[0]
        if count != len(self.actions):
            raise FrameError("a row does not have the columns that were announced")
        at = start + 7
        copied = start + 5
        parts: list[bytes] = []
        for action, mask in self.actions:
            if at + 4 > stop:
                raise FrameError("a row ends too early")
            length = INT32.unpack_from(row, at)[0]
            at += 4
            if length < 0:
                continue
            end = at + length
            if end > stop:
                raise FrameError("a value ends outside its row")
            if action != _KEEP:
                value = bytes(row[at:end])
                shown = _shown(action, mask, value, masker)
                if shown is not value:
                    parts.append(row[copied : at - 4])
                    parts.append(
                        b"\xff\xff\xff\xff" if shown is None else INT32.pack(len(shown)) + shown
                    )
                    copied = end
            at = end
        if at != stop:
            raise FrameError("a row has bytes behind its end")
        if not parts:
            return None
        parts.append(row[copied:at])
        body = b"".join(parts)
        return b"D" + INT32.pack(len(body) + 4) + body


def _shown(action: int, mask: ColumnMask | None, value: bytes, masker: Masker) -> bytes | None:
    if action == _APPLY and mask is not None:
        return mask.apply(value)
    if action == _DETECT:
        return masker.text(value)
    if action == _NULL:
        return None
    if action == _IN_JSON:
        return masker.json(value)
    if action == _IN_JSONB and value[:1] == b"\x01":  # the version of jsonb's binary form
        document = value[1:]
        shown = masker.json(document)
        return value if shown is document else b"\x01" + shown
    seen = value
    if action == _HEX:
        seen = _unhex(value)
    elif action == _INT8_DIGITS:
        seen = str(int.from_bytes(value, "big", signed=True)).encode()
    elif action == _NUMERIC_DIGITS:
        seen = _numeric(value)
    return value if masker.text(seen) is seen else None


def _unhex(value: bytes) -> bytes:
    """bytea in its text form, as bytes (section "bytea Hex Format")."""
    if value[:2] == b"\\x":
        try:
            return bytes.fromhex(value[2:].decode("ascii"))
        except ValueError:
            return value
    return value


def _numeric(value: bytes) -> bytes:
    """The digits of a binary numeric: 16-bit count, weight, sign, scale, base-10000 digits."""
    if len(value) < 8:
        return value
    count, weight = INT16.unpack_from(value, 0)[0], INT16.unpack_from(value, 2)[0]
    if not 0 <= count <= 64 or len(value) < 8 + 2 * count:
        return value
    digits = [f"{INT16.unpack_from(value, 8 + 2 * i)[0]:04d}" for i in range(count)]
    digits += ["0000"] * max(0, min(weight, 64) + 1 - count)
    return "".join(digits).lstrip("0").encode()


def plan_rows(
    fields: tuple[Field, ...], statement: Statement, masker: Masker, masks: Masks
) -> RowPlan | None:
    """The plan for a result with these fields; None where nothing can be masked in it."""
    outputs = align(statement.outputs, len(fields)) if masks.active else None
    actions: list[tuple[int, ColumnMask | None]] = []
    for index, field in enumerate(fields):
        mask: ColumnMask | None = None
        if masks.active:
            if field.relation:
                mask = masks.column(field.relation, field.attribute)
            elif outputs is not None:
                mask = masks.derived(outputs[index].columns)
            else:
                mask = masks.unsure(statement)
        text = field.type in _TEXTS or field.type in masks.text_types
        if mask is not None:
            actions.append((_APPLY, mask) if text else (_NULL, None))
        elif masker.detects:
            actions.append((_detection(field, text), None))
        else:
            actions.append((_KEEP, None))
    if all(action == _KEEP for action, _ in actions):
        return None
    looks = (_KEEP, _DETECT, _WHOLE, _IN_JSON, _IN_JSONB)
    return RowPlan(tuple(actions), any(action not in looks for action, _ in actions))


def _detection(field: Field, text: bool) -> int:
    if field.type in _HARMLESS:
        return _KEEP
    if field.type == _JSON or (field.type == _JSONB and field.format == 0):
        return _IN_JSON
    if field.type == _JSONB:
        return _IN_JSONB
    if field.format == 0:
        if field.type == _BYTEA:
            return _HEX
        return _DETECT if text else _WHOLE
    if text or field.type in _BINARY_IS_TEXT:
        return _DETECT
    if field.type == _INT8:
        return _INT8_DIGITS
    return _NUMERIC_DIGITS if field.type == _NUMERIC else _WHOLE


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """What is done to the cells of a line of COPY TO STDOUT in text format; an empty
    ``masks`` leaves the cells to the detectors alone. ``texts`` says which can hold a mask."""

    masks: tuple[ColumnMask | None, ...]
    texts: tuple[bool, ...]
    delimiter: bytes
    null: bytes
    header: bool

    def line(self, line: bytes, masker: Masker) -> bytes:
        """One line without its end, masked (manual of COPY, section "Text Format")."""
        if any(self.masks):
            cells = _cells(line, self.delimiter)
            if len(cells) != len(self.masks):
                raise FrameError("a line does not have the columns that were announced")
            line = self.delimiter.join(
                self._cell(cell, mask, text)
                for cell, mask, text in zip(cells, self.masks, self.texts, strict=True)
            )
        return masker.text(line) if masker.detects else line

    def _cell(self, cell: bytes, mask: ColumnMask | None, text: bool) -> bytes:
        if mask is None or cell == self.null:
            return cell
        shown = mask.apply(_unescape(cell)) if text else None
        return self.null if shown is None else _escape(shown, self.delimiter)


_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def _cells(line: bytes, delimiter: bytes) -> list[bytes]:
    """Cut at delimiters that no backslash stands before."""
    if b"\\" not in line:
        return line.split(delimiter)
    cells: list[bytes] = []
    start = at = 0
    while at < len(line):
        if line[at] == 0x5C:
            at += 2
            continue
        if line[at] == delimiter[0]:
            cells.append(line[start:at])
            start = at + 1
        at += 1
    cells.append(line[start:])
    return cells


def _unescape(cell: bytes) -> bytes:
    if b"\\" not in cell:
        return cell
    first, *rest = cell.split(b"\\")
    value = bytearray(first)
    parts = iter(rest)
    for part in parts:
        if part:
            value += _ESCAPES.get(part[:1], part[:1]) + part[1:]
        else:  # an escaped backslash: what follows stands for itself
            value += b"\\" + next(parts, b"")
    return bytes(value)


def _escape(value: bytes, delimiter: bytes) -> bytes:
    value = value.replace(b"\\", b"\\\\")
    for letter, char in _ESCAPES.items():
        value = value.replace(char, b"\\" + letter)
    return value.replace(delimiter, b"\\" + delimiter)


class CopyObjection(Exception):
    """A COPY whose rows could not be masked; the text says what would work."""


def plan_copy(
    shape: CopyShape, statement: Statement, masker: Masker, masks: Masks
) -> CopyPlan | None:
    """The plan for COPY TO STDOUT; None where nothing can be masked in it."""
    found: list[ColumnMask | None] = []
    texts: list[bool] = []
    if masks.active:
        if shape.relation:
            columns = masks.copied(shape.relation, shape.columns)
            if columns is None:
                raise CopyObjection("name the columns of a table that exists")
            found = [mask for mask, _ in columns]
            texts = [kind in _TEXTS or kind in masks.text_types for _, kind in columns]
        elif statement.outputs is None or any(output.star for output in statement.outputs):
            if masks.unsure(statement) is not None:
                raise CopyObjection("name the columns in the query instead of a star")
        else:
            # The types of a query's columns are not known, so no mask may stand in them but
            # the one that fits every type.
            found = [masks.derived(output.columns) for output in statement.outputs]
            texts = [False] * len(found)
    if not any(found):
        found = []
        if not masker.detects:
            return None
    if shape.format is CopyFormat.BINARY:
        raise CopyObjection("use the text format")
    if shape.encoding and re.sub("[^a-z0-9]", "", shape.encoding.lower()) not in _UTF8:
        # In SJIS, BIG5 and their like the second byte of a letter may look like a delimiter or
        # a backslash, and the server does not escape it: cells could be moved.
        raise CopyObjection("leave out the encoding")
    if found and (shape.format is not CopyFormat.TEXT or not shape.understood):
        raise CopyObjection("use the text format, or leave out the masked columns")
    return CopyPlan(
        tuple(found), tuple(texts), shape.delimiter.encode(), shape.null.encode(), shape.header
    )
