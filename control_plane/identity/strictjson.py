"""JSON and base64url as RFC 7515 means them, and no other reading of the same bytes.

The standard library's readers are generous: they take duplicate names, ``NaN``, padding and
stray bits. Two programs that read one token differently are how forgeries pass; so what isn't
in the one canonical form is an error here. Knows nothing of tokens' claims.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NoReturn

_BASE64URL = re.compile(rb"[A-Za-z0-9_-]+")
_LONGEST_INTEGER = 18
_MOST_BRACKETS = 4000


def decode_base64url(text: bytes) -> bytes:
    """The bytes of a non-empty, canonical, unpadded base64url text; ValueError otherwise."""
    if not _BASE64URL.fullmatch(text):
        raise ValueError("not base64url")
    try:
        decoded = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("not base64url") from None
    # RFC 4648 section 3.5: unused bits must be zero, or many texts would mean the same bytes.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != text:
        raise ValueError("not canonical base64url")
    return decoded


def load_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in ``raw``; ValueError for anything else, however hostile.

    Refused are duplicate names at any depth, ``NaN`` and ``Infinity``, integers of more than
    18 digits, deep nesting and invalid UTF-8. Time is linear in the length.
    """
    # A cheap bound on nesting, before anything recursive sees the text.
    if raw.count(b"{") + raw.count(b"[") > _MOST_BRACKETS:
        raise ValueError("too deep")
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_int=_bounded,
        )
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate name")
    return found


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("not a JSON number")


def _bounded(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise ValueError("number too long")
    return int(digits)
