"""What is looked for in free text: a pattern that proposes, and a check that confirms.

Counterparts: :mod:`data_plane.masking.identifiers` has the checks of national numbers;
:mod:`data_plane.masking.masker` searches. A detector sees bytes of UTF-8 and knows nothing of
columns, transforms or disguises. Patterns are not guesses alone: what has a check digit is
masked only where it is right.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import phonenumbers
from stdnum import iban, luhn, numdb

from data_plane.masking.identifiers import IDENTIFIERS, Identifier
from data_plane.masking.patterns import Pattern, compiled
from data_plane.masking.surroundings import compact, in_hexadecimal, in_number, in_word

Confirm = Callable[[bytes, int, int], int | None]
"""Where the find that starts at ``start`` ends, at most at ``end``; None: there is none."""


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of thing to find.

    ``pattern`` is leftmost-first and without an edge; where it has a group, the group is the
    find. ``hint`` matches in every text in which ``pattern`` does, and is cheaper.
    """

    name: str
    pattern: Pattern
    hint: str
    group: int
    confirm: Confirm

    def finds(self, text: bytes) -> Iterator[tuple[int, int] | None]:
        """The spans found, from left to right, none overlapping the one before.

        None stands for a candidate that was refused, so that effort can be counted.
        """
        position = 0
        while match := self.pattern.search(text, position):
            start, end = match.span(self.group)
            confirmed = self.confirm(text, start, end)
            if confirmed is not None:
                yield start, confirmed
                position = confirmed
                continue
            # Another candidate may begin inside this one, so go on a byte later; but none
            # begins amid digits. All patterns that are ever refused are bounded, which keeps
            # this linear.
            yield None
            position = match.span()[0]
            digits = _DIGITS.search(text, position) if text[position] in b"0123456789" else None
            position = digits.span()[1] if digits else position + 1


_DIGITS = compiled("[0-9]+")


def _always(_text: bytes, _start: int, end: int) -> int | None:
    return end


def _whole_word(text: bytes, start: int, end: int) -> int | None:
    return None if in_word(text, start, end) else end


# E-mail: RFC 5322 section 3.4.1 dot-atoms, with the letters of RFC 6531 for alphabets that
# put spaces between words (others would take the sentence around the address with them).
_ALPHA = r"A-Za-z\p{Latin}\p{Greek}\p{Cyrillic}\p{Arabic}\p{Hebrew}\p{Devanagari}"
_LETTER = rf"0-9{_ALPHA}"
_EMAIL = (
    rf"[{_LETTER}_.%+\-]+(?:'[{_LETTER}_.%+\-]+)*@"
    rf"(?:(?:[{_LETTER}](?:[{_LETTER}\-]*[{_LETTER}])?\.)+[{_ALPHA}][{_LETTER}\-]*[{_LETTER}]"
    r"|\[[0-9A-Fa-f:.]+\])"
)
_EMAIL_HINT = rf"[{_LETTER}_.%+\-]@[{_LETTER}\[]"

# Card: ISO/IEC 7812-1, 12 to 19 digits that end in a Luhn check digit, written in one or in
# the groups that are embossed.
_GAP = r"[ .\-_]{1,3}"
_CARD = (
    r"[2-9][0-9]{11,18}"
    rf"|[2-9][0-9]{{3}}(?:{_GAP}[0-9]{{4}}){{3}}(?:{_GAP}[0-9]{{3}})?"
    rf"|3[0-9]{{3}}{_GAP}[0-9]{{6}}{_GAP}[0-9]{{4,5}}"
)
_CARD_HINT = rf"[2-9][0-9]{{11}}|[2-9][0-9]{{3}}{_GAP}[0-9]{{4}}"

# Who issues cards in which range, and how long those are: (first, last, lengths).
_ISSUERS: tuple[tuple[str, str, range], ...] = (
    ("4", "4", range(13, 20, 3)),  # Visa
    ("51", "55", range(16, 17)),  # Mastercard
    ("2221", "2720", range(16, 17)),
    ("34", "34", range(15, 16)),  # American Express
    ("37", "37", range(15, 16)),
    ("300", "305", range(14, 20)),  # Diners Club
    ("36", "36", range(14, 20)),
    ("38", "39", range(14, 20)),
    ("3528", "3589", range(16, 20)),  # JCB
    ("6011", "6011", range(16, 20)),  # Discover
    ("644", "659", range(16, 20)),
    ("60", "60", range(16, 17)),  # RuPay
    ("81", "82", range(16, 20)),
    ("62", "62", range(16, 20)),  # UnionPay
    ("2200", "2204", range(16, 20)),  # Mir
    ("9792", "9792", range(16, 17)),  # Troy
    ("5018", "5038", range(12, 20)),  # Maestro
    ("56", "58", range(12, 20)),
    ("6304", "6304", range(12, 20)),
    ("6759", "6763", range(12, 20)),
)


def _issued(digits: str) -> bool:
    return any(
        first <= digits[: len(first)] <= last and len(digits) in lengths
        for first, last, lengths in _ISSUERS
    )


def _card(text: bytes, start: int, end: int) -> int | None:
    if in_number(text, start, end) or in_hexadecimal(text, start, end):
        return None
    digits = compact(text[start:end])
    return end if _issued(digits) and luhn.is_valid(digits) else None


# IBAN: ISO 13616, two letters of a country, two check digits, 11 to 30 more by the country.
_BBAN_FIELD = re.compile(r"(\d+)!")


def _iban_lengths() -> Mapping[str, int]:
    countries = map("".join, itertools.product(string.ascii_uppercase, repeat=2))
    registry = numdb.get("iban")
    structures = ((country, registry.info(country)[0][1].get("bban")) for country in countries)
    return MappingProxyType(
        {
            country: 4 + sum(map(int, _BBAN_FIELD.findall(structure)))
            for country, structure in structures
            if structure
        }
    )


_IBAN_LENGTHS = _iban_lengths()
_IBAN_HEAD = rf"(?i:{'|'.join(_IBAN_LENGTHS)})[ .\-]?[0-9][ .\-]?[0-9]"
_IBAN_HINT = rf"{_IBAN_HEAD}(?:[ .\-]?[0-9A-Za-z]){{4}}"
_IBAN = rf"{_IBAN_HEAD}(?:[ .\-]?[0-9A-Za-z]){{11,30}}"


def _iban(text: bytes, start: int, end: int) -> int | None:
    # The pattern takes what follows the number with it; the country says where to cut.
    length = _IBAN_LENGTHS[text[start : start + 2].decode().upper()]
    cut = start
    for cut in range(start, end):
        length -= text[cut : cut + 1].isalnum()
        if not length:
            break
    cut += 1
    if length or in_word(text, start, cut):
        return None
    return cut if iban.is_valid(compact(text[start:cut]), check_country=False) else None


# Phone: ITU-T E.164 numbers with the international prefix; without it only the forms that
# the North American plan prints with punctuation, as bare digits may be anything.
_PHONE = (
    r"(?:\+|00)[ (]?[1-9](?:[ ().\-/]{0,3}[0-9]){6,14}"
    r"|\(?[2-9][0-9]{2}\)?[ .\-][2-9][0-9]{2}[ .\-][0-9]{4}"
    r"|\([2-9][0-9]{2}\)[2-9][0-9]{2}[ .\-][0-9]{4}"
)
_PHONE_HINT = (
    r"(?:\+|00)[ (]?[1-9](?:[ ().\-/]{0,3}[0-9]){3}"
    r"|[2-9][0-9]{2}\)?[ .\-]?[2-9][0-9]{2}[ .\-][0-9]{4}"
)
# How many groups of digits are given back that may follow a number without belonging to it.
_PHONE_TRIES = 3


def _phone(text: bytes, start: int, end: int) -> int | None:
    if text[max(start - 1, 0) : start].isdigit():
        return None
    for _ in range(_PHONE_TRIES):
        if not text[end : end + 1].isdigit() and _callable_number(compact(text[start:end])):
            return end
        shorter = text[start:end].rstrip(b"0123456789").rstrip(b" ().-/")
        if len(shorter) < 2:
            return None
        end = start + len(shorter)
    return None


def _callable_number(number: str) -> bool:
    international = "+" + number[2:] if number.startswith("00") else number
    try:
        parsed = phonenumbers.parse(international, "US")
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_valid_number(parsed)


_IPV4 = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
# RFC 4291 section 2.2: eight groups, or fewer around one "::".
_HEX = "[0-9A-Fa-f]{1,4}"
_IP = (
    rf"(?:{_HEX}(?::{_HEX}){{0,6}})?::(?:(?:{_HEX}:){{0,6}}(?:{_IPV4}|{_HEX}))?"
    rf"|(?:{_HEX}:){{6}}(?:{_IPV4}|{_HEX}:{_HEX})|{_IPV4}"
)


def _ip(text: bytes, start: int, end: int) -> int | None:
    address = text[start:end]
    if in_word(text, start, end) or in_number(text, start, end):
        return None
    if not any(48 <= byte <= 57 for byte in address):
        return None  # "::" in a program's text
    try:
        ipaddress.ip_address(address.decode("ascii"))
    except ValueError:
        return None
    return end


# RFC 7515 section 3.1 and RFC 7516 section 3.1; the header is JSON, so it starts with eyJ.
_JWT = r"eyJ[0-9A-Za-z_\-]{8,}\.[0-9A-Za-z_\-]{8,}(?:\.[0-9A-Za-z_\-]*)+"

_AWS_KEY = r"(?:A3T[0-9A-Z]|AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AIPA|ANPA|ANVA|AROA)[0-9A-Z]{16}"

# RFC 7468 and the older forms of OpenSSL and OpenPGP. A block cut off is taken to the end.
_PEM_BEGIN = r"-----BEGIN [0-9A-Z ]*PRIVATE KEY(?: BLOCK)?-----"
_PEM = rf"{_PEM_BEGIN}\C*?(?:-----END [0-9A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\z)"

# Secrets that their issuers mark, so that they can be found, and the credentials of
# RFC 6750 section 2.1.
_SECRET = "|".join(
    (
        r"gh[oprsu]_[0-9A-Za-z]{20,}",
        r"github_pat_[0-9A-Za-z_]{20,}",
        r"glpat-[0-9A-Za-z_\-]{20,}",
        r"xox[abeoprs]-[0-9A-Za-z\-]{10,}",
        r"[rs]k_(?:live|test)_[0-9A-Za-z]{10,}",
        r"sk-[0-9A-Za-z_\-]{20,}",
        r"AIza[0-9A-Za-z_\-]{35,}",
        r"ya29\.[0-9A-Za-z_\-]{20,}",
        r"npm_[0-9A-Za-z]{30,}",
        r"pypi-[0-9A-Za-z_\-]{30,}",
        r"dckr_pat_[0-9A-Za-z_\-]{20,}",
        r"hv[bs]\.[0-9A-Za-z_\-]{20,}",
        r"SG\.[0-9A-Za-z_\-]{16,}\.[0-9A-Za-z_\-]{16,}",
        r"shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{32,}",
        r"do[opr]_v1_[0-9a-f]{32,}",
        r"[0-9A-Za-z_~.\-]{3}[0-9]Q~[0-9A-Za-z_~.\-]{31,34}",
        r"(?i:AccountKey|SharedAccessKey|sig)=[0-9A-Za-z+/%]{40,}={0,2}",
        r"(?i:bearer) +[0-9A-Za-z_.~+/\-]{16,}={0,2}",
    )
)

# RFC 3986 section 3.2.1: user:password before the host; the password alone is the find.
_URL_USERINFO = r"://[^\s/?#@:\"'<>\\]*:([^\s/?#\"'<>\\]+)@"


def _detector(
    name: str, pattern: str, confirm: Confirm, *, hint: str = "", group: int = 0
) -> Detector:
    return Detector(name, compiled(pattern), hint or pattern, group, confirm)


def _identifier(name: str, identifier: Identifier) -> Detector:
    def confirm(text: bytes, start: int, end: int) -> int | None:
        within = in_word if identifier.lettered else in_number
        if within(text, start, end) or in_hexadecimal(text, start, end):
            return None
        number = text[start:end].decode() if identifier.verbatim else compact(text[start:end])
        return end if identifier.is_valid(number.upper()) else None

    return _detector(name, identifier.layout, confirm)


_ALL = (
    _detector("email", _EMAIL, _always, hint=_EMAIL_HINT),
    _detector("phone", _PHONE, _phone, hint=_PHONE_HINT),
    _detector("card", _CARD, _card, hint=_CARD_HINT),
    _detector("iban", _IBAN, _iban, hint=_IBAN_HINT),
    _detector("ip_address", _IP, _ip),
    _detector("jwt", _JWT, _always),
    _detector("aws_access_key", _AWS_KEY, _whole_word),
    _detector("private_key", _PEM, _always, hint=_PEM_BEGIN),
    _detector("secret_token", _SECRET, _always),
    _detector("url_password", _URL_USERINFO, _always, group=1),
    *(_identifier(name, identifier) for name, identifier in IDENTIFIERS.items()),
)

DETECTORS: Mapping[str, Detector] = MappingProxyType({each.name: each for each in _ALL})
"""Every detector by its name. The names are those of :data:`protos.vocabulary.DETECTORS`."""
