"""PostgreSQL values as text: the binary forms of the common types, everything else as hex.

The binary form of a type is what its ``send`` function writes (PostgreSQL documentation,
"Formats and Format Codes"); type oids are those of ``pg_type.dat``. Nothing here raises.
"""

from __future__ import annotations

import datetime
import struct
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType


def _number(form: str) -> Callable[[bytes], str]:
    packed = struct.Struct(form)

    def decode(data: bytes) -> str:
        return str(packed.unpack(data)[0])

    return decode


def _bool(data: bytes) -> str:
    return {b"\0": "f", b"\1": "t"}[data]


def _text(data: bytes) -> str:
    return data.decode()


def _jsonb(data: bytes) -> str:
    if data[:1] != b"\1":  # jsonb_send: a version byte, then the text
        raise ValueError
    return data[1:].decode()


def _uuid(data: bytes) -> str:
    return str(uuid.UUID(bytes=data))


def _numeric(data: bytes) -> str:
    # numeric_send: ndigits, weight, sign, dscale, then digits of base 10000.
    count, weight, sign, scale = struct.unpack_from(">HhHH", data)
    special = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}.get(sign)
    if special:
        return special
    if abs(weight) > 1000 or scale > 4000:
        raise ValueError
    digits = struct.unpack_from(f">{count}H", data, 8)
    places = [digits[i] if 0 <= i < count else 0 for i in range(weight + 1)] or [0]
    whole = "".join(f"{place:04}" for place in places).lstrip("0") or "0"
    behind = -(-scale // 4)
    indices = range(weight + 1, weight + 1 + behind)
    fraction = "".join(f"{digits[i] if 0 <= i < count else 0:04}" for i in indices)[:scale]
    return ("-" if sign == 0x4000 else "") + whole + ("." + fraction if scale else "")


_EPOCH = datetime.datetime(2000, 1, 1)  # noqa: DTZ001  # timestamp has no zone


def _timestamp(data: bytes) -> str:
    # timestamp_send: microseconds since 2000-01-01
    (microseconds,) = struct.unpack(">q", data)
    return str(_EPOCH + datetime.timedelta(microseconds=microseconds))


def _timestamptz(data: bytes) -> str:
    return _timestamp(data) + "+00"


def _date(data: bytes) -> str:
    (days,) = struct.unpack(">i", data)
    return str(_EPOCH.date() + datetime.timedelta(days=days))


_BINARY: Mapping[int, Callable[[bytes], str]] = MappingProxyType(
    {
        16: _bool,
        18: _text,  # "char"
        19: _text,  # name
        20: _number(">q"),
        21: _number(">h"),
        23: _number(">i"),
        25: _text,
        26: _number(">I"),  # oid
        114: _text,  # json
        142: _text,  # xml
        700: _number(">f"),
        701: _number(">d"),
        705: _text,  # unknown
        1042: _text,  # bpchar
        1043: _text,  # varchar
        1082: _date,
        1114: _timestamp,
        1184: _timestamptz,
        1700: _numeric,
        2950: _uuid,
        3802: _jsonb,
    }
)


def decode(data: bytes | None, oid: int, binary: bool) -> str | None:
    """A value as people read it; ``None`` is NULL. ``oid`` 0: the type isn't known."""
    if data is None:
        return None
    if not binary:
        return data.decode(errors="backslashreplace")
    try:
        return _BINARY[oid](data)
    except (KeyError, ValueError, OverflowError, struct.error):
        return "\\x" + data.hex()


def literal(value: str | None) -> str:
    """A value as it would stand in a statement."""
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"
