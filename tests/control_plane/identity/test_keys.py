"""A key whose primes can be guessed is refused, without outside data to show it."""

from __future__ import annotations

import base64
from math import prod

import pytest

from control_plane.identity.keys import BadKey, load_key

# The primes of the known test for CVE-2017-15361.
PRIMES = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)


def key(modulus: int) -> dict[str, str]:
    def text(number: int) -> str:
        content = number.to_bytes((number.bit_length() + 7) // 8)
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    return {"kty": "RSA", "use": "sig", "kid": "k", "n": text(modulus), "e": text(65537)}


def marked() -> int:
    """An odd number of 2048 bits that is a power of 65537 modulo each of the primes."""
    product = prod(PRIMES)
    modulus = pow(65537, 4711, product) + product * ((1 << 2047) // product + 1)
    return modulus if modulus % 2 else modulus + product


def test_a_key_of_the_generator_with_guessable_primes_is_refused() -> None:
    with pytest.raises(BadKey, match="guessed"):
        load_key(key(marked()))


def test_its_neighbour_without_the_mark_is_not() -> None:
    assert load_key(key(marked() + 2)).numbers[1] == 65537
