"""Other ways to write the same text, undone: look-alike characters, invisible ones, escapes.

Counterpart: :mod:`data_plane.masking.masker` searches the views made here and puts what it
finds back to its place in the value. A view is for looking only; nothing of it is ever sent.

Undone are: digits of any script, full-width and other compatibility forms of ASCII, unusual
spaces, dashes and full stops, characters without width or ink, percent escapes, ``\\uXXXX``
and numeric HTML references. Not undone are: letters of another alphabet that look alike,
words ("at", "dot"), line breaks inside a number, base64 and any other encoding.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from urllib.parse import unquote_to_bytes

from data_plane.masking.patterns import Found, compiled

# Characters that show nothing by themselves though Unicode does not call them format
# characters (category Cf): fillers, selectors, joiners (DerivedCoreProperties.txt,
# Default_Ignorable_Code_Point), and marks drawn over or around the character before.
_INVISIBLE = (
    (0x034F, 0x034F),
    (0x0334, 0x0338),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x20D0, 0x20F0),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0xE0000, 0xE0FFF),
)
_SPACES = frozenset({"Zs", "Zl", "Zp"})
_MINUS = 0x2212
_STOPS = frozenset({0x3002, 0xFF61})  # ideographic full stops: "。" is a dot to IDNA as well
# Compatibility forms matter only where what they stand for can be part of a find.
_TELLING = frozenset("@.-+:/_ ")
# Common in prose and expanding to what no detector needs, so they'd only cost time.
_PROSE = frozenset({0x2026, 0x2122, 0x2120, 0x2116})


def _plain(code: int) -> str | None:
    """What the character is a spelling of, or None where it stands for itself."""
    character = chr(code)
    category = unicodedata.category(character)
    if category == "Cs" or code in _PROSE:
        return None
    if category == "Cf" or any(first <= code <= last for first, last in _INVISIBLE):
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category in _SPACES or code == 0x85:
        return " "
    if category == "Pd" or code == _MINUS:
        return "-"
    if code in _STOPS:
        return "."
    folded = unicodedata.normalize("NFKC", character)
    if folded.isascii() and any(c.isalnum() or c in _TELLING for c in folded):
        return folded
    return None


# Where to look. Left out are the large blocks that hold nothing to fold, to start faster:
# Han, Yi and Hangul, what is private or a surrogate, and all planes but the first two and
# the block of tags and selectors.
_BLOCKS = (
    (0x80, 0x3400),
    (0xA4D0, 0xAC00),
    (0xF900, 0x17000),
    (0x18D00, 0x20000),
    (0xE0000, 0xE1000),
)


def _folding() -> Mapping[str, bytes]:
    codes = (code for first, last in _BLOCKS for code in range(first, last))
    plain = ((chr(code), _plain(code)) for code in codes)
    return MappingProxyType({c: p.encode() for c, p in plain if p is not None})


_FOLDING = _folding()


def _class(characters: Mapping[str, bytes]) -> str:
    """A pattern for any one of the characters."""
    ranges: list[list[int]] = []
    for code in sorted(map(ord, characters)):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in ranges) + "]"


_CHARACTER = _class(_FOLDING)
_ESCAPE = r"(?:%[0-9A-Fa-f]{2})+|\\u[0-9A-Fa-f]{4}|&#(?:[0-9]{1,7}|[Xx][0-9A-Fa-f]{1,6});"
DISGUISES = f"{_CHARACTER}|{_ESCAPE}"
"""Matches where a value has views beyond itself. Without an edge."""

_ANYTHING = compiled(DISGUISES)


@dataclass(frozen=True, slots=True)
class View:
    """A reading of a value: its text, and the place in the value of each part of it.

    ``edges`` holds, a part, where the part starts in ``text``, where it starts and ends in
    the value, and whether it stands there byte for byte.
    """

    text: bytes = field(repr=False)
    starts: Sequence[int] = field(repr=False)
    edges: Sequence[tuple[int, int, bool]] = field(repr=False)

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The span of the value that ``text[start:end]``, not empty, was read from."""
        return self._at(start)[0], self._at(end - 1)[1]

    def _at(self, position: int) -> tuple[int, int]:
        index = bisect_right(self.starts, position) - 1
        first, last, verbatim = self.edges[index]
        if verbatim:
            first += position - self.starts[index]
            return first, first + 1
        return first, last


def views(value: bytes, most: int) -> Sequence[View] | None:
    """The readings of ``value`` that differ from it: disguises folded, then escapes as well.

    None where there are more than ``most`` disguises.
    """
    anything = list(islice(_ANYTHING.finditer(value), most + 1))
    if len(anything) > most:
        return None
    characters = [find for find in anything if value[find.span()[0]] >= 0x80]
    readings = [_read(value, characters)] if characters else []
    if len(anything) > len(characters):
        readings.append(_read(value, anything))
    return readings


def _read(value: bytes, finds: Sequence[Found]) -> View:
    parts: list[bytes] = []
    starts: list[int] = []
    edges: list[tuple[int, int, bool]] = []
    length = done = 0
    for find in finds:
        first, last = find.span()
        for piece, start, end, verbatim in (
            (value[done:first], done, first, True),
            (_resolve(value[first:last]), first, last, False),
        ):
            if piece:
                parts.append(piece)
                starts.append(length)
                edges.append((start, end, verbatim))
                length += len(piece)
        done = last
    if done < len(value):
        parts.append(value[done:])
        starts.append(length)
        edges.append((done, len(value), True))
    return View(b"".join(parts), starts, edges)


def _resolve(disguised: bytes) -> bytes:
    match disguised[:1]:
        case b"%":
            return _fold(unquote_to_bytes(disguised))
        case b"\\":
            return _character(int(disguised[2:], 16), disguised)
        case b"&" if disguised[2:3] in b"xX":
            return _character(int(disguised[3:-1], 16), disguised)
        case b"&":
            return _character(int(disguised[2:-1]), disguised)
        case _:
            return _FOLDING[disguised.decode()]


def _character(code: int, disguised: bytes) -> bytes:
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        return disguised
    return _fold(chr(code).encode())


def _fold(text: bytes) -> bytes:
    characters = text.decode(errors="surrogateescape")
    return b"".join(_FOLDING.get(c, c.encode(errors="surrogateescape")) for c in characters)
