"""What is left of one value under one rule.

Counterpart: :mod:`data_plane.masking.masker` chooses the rule. This module does not look for
anything: it is given the whole of what must not be seen.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import assert_never

from protos.vocabulary import STRENGTH, MaskingRule, Transform

REDACTED = b"****"
"""What REDACT leaves of any value. Always as long as this, so a length tells nothing."""

PSEUDONYM_PREFIX = b"anon_"
KEY_BYTES = 16
"""The least length of a key for pseudonyms: with less, they could be reversed by trying."""

# A pseudonym is written in letters only, so that no detector takes it for a number again.
_LETTERS = bytes.maketrans(b"0123456789abcdef", b"abcdefghkmnprstw")
_PSEUDONYM_DIGITS = 24  # hexadecimal: 96 bits, so two values of a column never meet by chance
# An e-mail's first letter is shown only where at least this many characters stand before "@".
_LOCAL_FLOOR = 4


@dataclass(frozen=True, slots=True)
class ColumnMask:
    """What the rule named ``rule`` does to a value: one of a column, or one found in a text.

    The value is UTF-8 text; bytes that are not are tolerated, never an error. Whether the
    result fits the column's type is the caller's to know: where it does not (a number, a
    date), NULL goes out instead.
    """

    rule: str
    transform: Transform
    keep: int = 4
    constant: bytes = b""
    key: bytes = field(default=b"", repr=False)

    def apply(self, value: bytes) -> bytes | None:
        """What may be seen of ``value``; None is the SQL NULL. Never raises."""
        match self.transform:
            case Transform.REDACT:
                return REDACTED
            case Transform.NULL:
                return None
            case Transform.CONSTANT:
                return self.constant
            case Transform.PSEUDONYM:
                return pseudonym(self.key, value)
            case Transform.PARTIAL:
                return partial(value, self.keep)
            case _:  # pragma: no cover
                assert_never(self.transform)


def mask_of(rule: MaskingRule, key: bytes) -> ColumnMask:
    """The mask of a rule. ValueError where the rule cannot be obeyed as it stands."""
    if rule.keep < 0:
        raise ValueError(f"masking rule {rule.name!r}: keep must not be negative")
    if rule.transform is Transform.PSEUDONYM and len(key) < KEY_BYTES:
        raise ValueError(
            f"masking rule {rule.name!r}: pseudonyms need a key of {KEY_BYTES} bytes or more"
        )
    return ColumnMask(rule.name, rule.transform, rule.keep, rule.constant.encode(), key)


def rank(mask: ColumnMask) -> tuple[int, int, str, bytes]:
    """Orders masks, the strongest last, the same way whatever order the rules came in."""
    return STRENGTH[mask.transform], -mask.keep, mask.rule, mask.constant


def pseudonym(key: bytes, value: bytes) -> bytes:
    """A name for ``value``: equal bytes get equal names under one key, and only then.

    HMAC-SHA-256, cut to 96 bits. Without the key it cannot be reversed; with it, any value
    that can be guessed can be confirmed.
    """
    digest = hmac.digest(key, value, "sha256").hex()[:_PSEUDONYM_DIGITS]
    return PSEUDONYM_PREFIX + digest.encode().translate(_LETTERS)


def partial(value: bytes, keep: int) -> bytes:
    """``****`` and the last ``keep`` letters and digits, without what stood between them.

    A value with fewer than twice ``keep`` letters and digits is redacted whole, so at least
    half of them are always hidden. An e-mail address keeps its domain instead, and the first
    character of what stands before it where that is four characters or more.
    """
    if keep == 0:
        return REDACTED
    local, _, domain = value.rpartition(b"@")
    if local and domain and b"@" not in local and value.split() == [value]:
        return _first(local) + REDACTED + b"@" + domain
    shown = [
        character for character in value.decode(errors="surrogateescape") if character.isalnum()
    ]
    if len(shown) < 2 * keep:
        return REDACTED
    return REDACTED + "".join(shown[-keep:]).encode()


def _first(local: bytes) -> bytes:
    text = local.decode(errors="surrogateescape")
    return text[0].encode(errors="surrogateescape") if len(text) >= _LOCAL_FLOOR else b""
