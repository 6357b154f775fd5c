"""Project Wycheproof's vectors for signatures and keys, against the checks before the claims.

They are read from $JITGATE_TEST_DATA/vectors; by default that is beside the repository.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from control_plane.errors import Unauthenticated
from control_plane.identity.entra import check_header, parse
from control_plane.identity.keys import BadKey, SigningKey, load_key

ROOT = Path(__file__).parents[3]
VECTORS = Path(os.environ.get("JITGATE_TEST_DATA", ROOT.parent / "shared")) / "vectors"
# Marked invalid, but the padding that made them so was lost: ordinary valid signatures.
MARKED_INVALID_BUT_VALID = {367, 370}
# Marked valid though they hold a character that base64url does not have.
MARKED_VALID_BUT_INVALID = {372, 373}
# A valid signature over nothing at all: no token has an empty payload, so none is read.
VALID_BUT_NO_TOKEN = {259}


def vectors(name: str) -> dict[str, Any]:
    path = VECTORS / name
    if not path.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{path} is missing")
        pytest.skip(f"{path} is missing; set JITGATE_TEST_DATA")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def usable(key: Any) -> SigningKey | None:
    """The key as the gateway would load it; the vectors leave out ids and ``use``."""
    if not isinstance(key, dict):
        return None
    try:
        return load_key({"use": "sig", "kid": "any"} | key)
    except BadKey:
        return None


def accepts(token: str, key: SigningKey | None) -> bool:
    try:
        compact = parse(token)
        # Entra always sets both; the vectors don't.
        check_header({"typ": "JWT", "kid": "any"} | dict(compact.header))
    except Unauthenticated:
        return False
    return key is not None and key.verifies(compact.signed, compact.signature)


def test_every_forged_signature_is_refused_and_every_plain_one_accepted() -> None:
    accepted: set[int] = set()
    invalid: set[int] = set()
    expected: set[int] = set()
    for group in vectors("json_web_signature_test.json")["testGroups"]:
        public = group.get("public") or group.get("private")
        key = usable(public)
        for case in group["tests"]:
            token = case["jws"]
            number = case["tcId"]
            if case["result"] == "invalid":
                invalid.add(number)
            elif key is not None and _alg(token) == "RS256":
                expected.add(number)
            if isinstance(token, str) and accepts(token, key):
                accepted.add(number)
    assert len(invalid) > 350
    assert accepted & invalid <= MARKED_INVALID_BUT_VALID
    assert accepted - invalid == expected - MARKED_VALID_BUT_INVALID - VALID_BUT_NO_TOKEN
    assert accepted - invalid


def _alg(token: Any) -> str:
    try:
        return str(parse(token).header.get("alg"))
    except Unauthenticated:
        return "RS256"


def test_no_weak_key_is_loaded() -> None:
    refused = 0
    for group in vectors("json_web_key_test.json")["testGroups"]:
        for case in group["tests"]:
            public = group.get("public") or group.get("private") or {}
            keys = public.get("keys", [public]) if isinstance(public, dict) else [public]
            for key in keys:
                loaded = usable(key)
                if loaded is None:
                    refused += 1
                elif case["result"] == "invalid":
                    # A sound RSA key in a set that is bad for another reason, or another
                    # algorithm's: it verifies nothing but its own RS256 signatures.
                    assert loaded.numbers[0].bit_length() >= 2048
                    assert not accepts(case.get("jws", ""), loaded)
    assert refused > 0
