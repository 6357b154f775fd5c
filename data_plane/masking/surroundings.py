"""What stands around a candidate, where that tells what the candidate is not.

Counterparts: the checks in :mod:`data_plane.masking.detectors` and
:mod:`data_plane.masking.identifiers`. All of them look a bounded way to either side.
"""

from __future__ import annotations

_SEPARATORS = b" .-_/()\t"
_HEXADECIMAL = frozenset(b"0123456789abcdefABCDEF-")
_DIGEST = 32  # the least of a UUID or a digest: 128 bits in hexadecimal


def compact(number: bytes) -> str:
    """The number without its separators. It must be ASCII, as all patterns of numbers are."""
    return number.translate(None, _SEPARATORS).decode("ascii")


def in_number(text: bytes, start: int, end: int) -> bool:
    """Whether the candidate is only a part of a longer number, decimals included."""
    return (
        text[max(start - 1, 0) : start].isdigit()
        or text[end : end + 1].isdigit()
        or (
            text[max(start - 1, 0) : start] == b"."
            and text[max(start - 2, 0) : start - 1].isdigit()
        )
        or (text[end : end + 1] == b"." and text[end + 1 : end + 2].isdigit())
    )


def in_word(text: bytes, start: int, end: int) -> bool:
    """Whether an ASCII letter or digit stands right before or after the candidate."""
    return text[max(start - 1, 0) : start].isalnum() or text[end : end + 1].isalnum()


def in_hexadecimal(text: bytes, start: int, end: int) -> bool:
    """Whether the candidate is part of a UUID or a digest that has a letter in it."""
    first, last = start, end
    while first > max(start - _DIGEST, 0) and text[first - 1] in _HEXADECIMAL:
        first -= 1
    while last < min(end + _DIGEST, len(text)) and text[last] in _HEXADECIMAL:
        last += 1
    token = text[first:last].replace(b"-", b"")
    return len(token) >= _DIGEST and not token.isdigit()
