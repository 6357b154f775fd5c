"""The client's half of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding.

Counterpart: the target, through :mod:`.login`. It never speaks as a server. Passwords are
prepared by SASLprep (RFC 4013); one that SASLprep forbids is used as it is, as PostgreSQL does.
"""

from __future__ import annotations

import hashlib
import hmac
import stringprep
import unicodedata
from base64 import b64decode, b64encode
from binascii import Error as Base64Error

MECHANISM = b"SCRAM-SHA-256"
MAX_ITERATIONS = 600_000
"""A target that asks for more would only burn the relay's time."""

_GS2_HEADER = b"n,,"  # RFC 5802 section 7: the client supports no channel binding


class ScramError(Exception):
    """The exchange failed; the text names neither user nor password."""


class ScramClient:
    """One exchange: :meth:`first`, :meth:`final`, :meth:`verify`, in this order."""

    __slots__ = ("_auth", "_first_bare", "_nonce", "_password", "_salted")

    def __init__(self, password: str, nonce: bytes) -> None:
        self._password = saslprep(password).encode()
        self._nonce = nonce
        # PostgreSQL takes the user of the startup packet and ignores this one.
        self._first_bare = b"n=,r=" + nonce
        self._salted = b""
        self._auth = b""

    def first(self) -> bytes:
        """client-first-message."""
        return _GS2_HEADER + self._first_bare

    def final(self, server_first: bytes) -> bytes:
        """client-final-message that answers the server's first."""
        fields = _attributes(server_first)
        nonce, salt, rounds = fields.get(b"r", b""), fields.get(b"s", b""), fields.get(b"i", b"")
        # RFC 5802 section 5.1: the server's nonce continues the client's.
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise ScramError("the target's nonce is not ours continued")
        if not rounds.isdigit() or not 1 <= int(rounds) <= MAX_ITERATIONS:
            raise ScramError("the target's iteration count is out of bounds")
        try:
            raw_salt = b64decode(salt, validate=True)
        except Base64Error:
            raise ScramError("the target's salt is not base64") from None
        self._salted = hashlib.pbkdf2_hmac("sha256", self._password, raw_salt, int(rounds))
        without_proof = b"c=" + b64encode(_GS2_HEADER) + b",r=" + nonce
        self._auth = self._first_bare + b"," + server_first + b"," + without_proof
        client_key = hmac.digest(self._salted, b"Client Key", "sha256")
        stored_key = hashlib.sha256(client_key).digest()
        signature = hmac.digest(stored_key, self._auth, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return without_proof + b",p=" + b64encode(proof)

    def verify(self, server_final: bytes) -> None:
        """Prove that the target knows the password too."""
        if not self._auth:
            raise ScramError("the target ended the exchange before it began")
        server_key = hmac.digest(self._salted, b"Server Key", "sha256")
        expected = b64encode(hmac.digest(server_key, self._auth, "sha256"))
        if not hmac.compare_digest(_attributes(server_final).get(b"v", b""), expected):
            raise ScramError("the target could not prove that it knows the password")


def _attributes(message: bytes) -> dict[bytes, bytes]:
    return {part[:1]: part[2:] for part in message.split(b",") if part[1:2] == b"="}


def saslprep(text: str) -> str:
    """SASLprep (RFC 4013); what it forbids comes back unchanged."""
    if text.isascii():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char
        for char in text
        if not stringprep.in_table_b1(char)
    )
    normal = unicodedata.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_a1,
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    if not normal or any(table(char) for char in normal for table in prohibited):
        return text
    # RFC 3454 section 6: text with right-to-left characters starts and ends with one.
    if any(stringprep.in_table_d1(char) for char in normal) and (
        any(stringprep.in_table_d2(char) for char in normal)
        or not stringprep.in_table_d1(normal[0])
        or not stringprep.in_table_d1(normal[-1])
    ):
        return text
    return normal
