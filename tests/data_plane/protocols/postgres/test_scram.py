"""SCRAM-SHA-256 against the example of RFC 7677 and against a lying server."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from data_plane.protocols.postgres.scram import ScramClient, ScramError, saslprep

NONCE = b"rOprNGfwEbeRWgbNEkqO"
FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"


def test_the_exchange_proves_both_sides() -> None:
    client = ScramClient("pencil", NONCE)
    assert client.first() == b"n,,n=,r=" + NONCE
    final = client.final(FIRST)
    assert final.startswith(b"c=biws,r=" + NONCE)
    # The user is empty here (PostgreSQL ignores it), so the proof is not that of RFC 7677.
    client.verify(b"v=" + signature(client))


def signature(client: ScramClient) -> bytes:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", salt, 4096)
    key = hmac.digest(salted, b"Server Key", "sha256")
    without_proof = b"c=biws,r=" + FIRST.split(b",")[0][2:]
    auth = b"n=,r=" + NONCE + b"," + FIRST + b"," + without_proof
    return base64.b64encode(hmac.digest(key, auth, "sha256"))


@pytest.mark.parametrize(
    "first",
    [
        b"r=somebody-elses,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=" + NONCE + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=" + NONCE + b"x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
        b"r=" + NONCE + b"x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=99999999",
        b"r=" + NONCE + b"x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=-1",
        b"r=" + NONCE + b"x,s=!!!,i=4096",
        b"",
    ],
)
def test_a_malformed_server_first_is_refused(first: bytes) -> None:
    with pytest.raises(ScramError):
        ScramClient("pencil", NONCE).final(first)


def test_a_server_that_does_not_know_the_password_is_refused() -> None:
    client = ScramClient("pencil", NONCE)
    with pytest.raises(ScramError):
        client.verify(b"v=")
    client.final(FIRST)
    with pytest.raises(ScramError):
        client.verify(b"v=AAAA")


@pytest.mark.parametrize(
    ("given", "prepared"),
    [
        ("plain", "plain"),
        ("I\u00adX", "IX"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u00ad", "\u00ad"),
        ("\u0007\u00e9", "\u0007\u00e9"),
        ("\u0627\u0031", "\u0627\u0031"),
        ("\u0627a\u0628", "\u0627a\u0628"),
        ("\u0627\u0031\u0628", "\u0627\u0031\u0628"),
    ],
)
def test_passwords_are_prepared_or_used_as_they_are(given: str, prepared: str) -> None:
    assert saslprep(given) == prepared
