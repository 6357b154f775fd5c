"""One signing key out of a key document: checked and made ready when it is loaded.

What isn't a plain RSA signing key of at least 2048 bits is refused here, so that verification
never meets it. Only RS256: Entra signs with nothing else.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwk
from jose.backends.base import Key

from control_plane.identity.strictjson import decode_base64url

ALGORITHM = "RS256"
_LEAST_BITS = 2048
# A larger key only costs time; Entra uses 2048 bits.
_MOST_BITS = 8192
_LONGEST_TEXT = 16 * 1024
_ROCA_PRIMES = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)


class BadKey(Exception):
    """This key can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An RSA public key. ``issuer`` is the key document's own claim whose it is, or empty."""

    kid: str
    numbers: tuple[int, int]
    issuer: str
    _key: Key = field(repr=False)

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this key's over ``signed`` (RSASSA-PKCS1-v1_5, SHA-256)."""
        # RFC 8017 section 8.2.2 step 1: exactly the modulus' length.
        if len(signature) != (self.numbers[0].bit_length() + 7) // 8:
            return False
        return bool(self._key.verify(signed, signature))


def load_key(value: object, *, issuer_of: Callable[[str], str] = str) -> SigningKey:
    """The signing key in one member of a key document; raises :class:`BadKey`.

    ``issuer_of`` completes the key's ``issuer`` with the tenant.
    """
    if not isinstance(value, Mapping):
        raise BadKey("not an object")
    if value.get("kty") != "RSA":
        raise BadKey("not an RSA key")
    if value.get("use") != "sig":
        raise BadKey("not for signatures")
    if value.get("alg", ALGORITHM) != ALGORITHM:
        raise BadKey("for another algorithm")
    if value.get("key_ops", ["verify"]) != ["verify"] or "d" in value:
        raise BadKey("not a public key for verification")
    kid = _text(value, "kid")
    if len(kid) > 128:
        raise BadKey("its id is too long")
    modulus = int.from_bytes(_bytes(value, "n"))
    exponent = int.from_bytes(_bytes(value, "e"))
    if not _LEAST_BITS <= modulus.bit_length() <= _MOST_BITS:
        raise BadKey("too short or too long")
    if not 3 <= exponent < 2**32 or exponent % 2 == 0 or modulus % 2 == 0:
        raise BadKey("its numbers are no RSA key's")
    if _made_by_roca(modulus):
        raise BadKey("its primes can be guessed")
    numbers = (modulus, exponent)
    if "x5c" in value and _certified(value["x5c"]) != numbers:
        raise BadKey("its certificate is another key's")
    try:
        key = jwk.construct({name: value[name] for name in ("kty", "n", "e")}, ALGORITHM)
    except Exception as error:  # Whatever the backend has against it.
        raise BadKey("not accepted by the library") from error
    issuer = issuer_of(_text(value, "issuer")) if "issuer" in value else ""
    return SigningKey(kid, numbers, issuer, key)


def _made_by_roca(modulus: int) -> bool:
    """Whether a modulus has the mark of CVE-2017-15361's key generator.

    Its primes are powers of 65537 modulo many small primes, so their product is one too; of
    sound moduli one in about ten million looks so by chance.
    """
    return all(
        modulus % prime in {pow(65537, power, prime) for power in range(prime)}
        for prime in _ROCA_PRIMES
    )


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text or len(text) > _LONGEST_TEXT:
        raise BadKey(f"{name} is missing or no text")
    return text


def _bytes(value: Mapping[str, Any], name: str) -> bytes:
    try:
        return decode_base64url(_text(value, name).encode())
    except ValueError:
        raise BadKey(f"{name} is not base64url") from None


def _certified(chain: object) -> tuple[int, int]:
    """The key in a chain's first certificate: it must be the one beside it (RFC 7517, 4.7)."""
    if not isinstance(chain, list) or not chain or not isinstance(chain[0], str):
        raise BadKey("its certificate chain is no list of texts")
    try:
        der = base64.b64decode(chain[0], validate=True)
        public = x509.load_der_x509_certificate(der).public_key()
    except (binascii.Error, ValueError) as error:
        raise BadKey("its certificate is none") from error
    if not isinstance(public, rsa.RSAPublicKey):
        raise BadKey("its certificate is another key's")
    numbers = public.public_numbers()
    return numbers.n, numbers.e
