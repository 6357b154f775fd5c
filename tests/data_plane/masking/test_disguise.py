# ruff: noqa: RUF001 - the look-alike characters are what is tested
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.masking import Masker
from data_plane.masking.disguise import DISGUISES, views
from data_plane.masking.patterns import compiled
from protos.vocabulary import MaskingRule, Transform

MASKER = Masker(
    [MaskingRule("all", Transform.REDACT, detectors=("email", "card", "iban", "us_ssn"))], b""
)

FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
ARABIC = {0x30 + digit: 0x660 + digit for digit in range(10)}
BOLD = {0x30 + digit: 0x1D7CE + digit for digit in range(10)}


@pytest.mark.parametrize(
    "disguised",
    [
        "alice＠example.com",
        "alice@example．com",
        "alice@example。com",
        "alice@example.com".translate(FULL_WIDTH),
        "ali\u200bce@exam\u00adple.com",
        "alice\u2060@\ufeffexample.com",
        "alice%40example.com",
        "%61%6c%69%63%65%40%65%78%61%6d%70%6c%65%2e%63%6f%6d",
        "alice%EF%BC%A0example%2Ecom",
        r"alice\u0040example.com",
        r"alice\uff20example\u002ecom",
        "alice&#64;example.com",
        "alice&#x40;example&#X2E;com",
        "ALICE@EXAMPLE.COM",
        "4111\u00a01111\u20091111\u30001111",
        "4111\u20111111–1111−1111",
        "4\u200c1\u200c1\u200c11111\u200d11111111",
        "4111111111111111".translate(FULL_WIDTH),
        "4111111111111111".translate(ARABIC),
        "4111111111111111".translate(BOLD),
        "4️⃣1️⃣1️⃣1️⃣1️⃣1️⃣1️⃣1️⃣1️⃣1️⃣1️⃣1️⃣1️⃣1️⃣1️⃣1",
        "4111%201111%201111%201111",
        "ＤＥ89 3704 0044 0532 0130 00",
        "536‐90‐4399",
    ],
)
def test_a_disguised_find_is_masked_whole(disguised: str) -> None:
    for around in ("", " ", "(", "é "):
        value = f"{around}{disguised}{around[::-1]}".encode()
        assert MASKER.suspicious(value)
        assert MASKER.text(value) == f"{around}****{around[::-1]}".encode()


@pytest.mark.parametrize(
    "limit",
    [
        "alice at example dot com",
        "alice (at) example (dot) com",
        "4111\n1111\n1111\n1111",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "YWxpY2VAZXhhbXBsZS5jb20=",
        "616c696365406578616d706c652e636f6d",
        "4111 1111 1111 llll",
        "four one one one",
        "alice@\nexample.com",
    ],
)
def test_the_limits_are_as_documented(limit: str) -> None:
    value = limit.encode()
    assert MASKER.text(value) is value


@pytest.mark.parametrize(
    "value",
    [r"\ud83d\ude00", "&#9999999;", "&#xD800;", "100%ab", "%zz", "&#;", "%ff%fe", "…™"],
)
def test_what_only_looks_like_an_escape_stays(value: str) -> None:
    text = f"{value} and".encode()
    assert MASKER.text(text) is text
    assert MASKER.text(text + b" alice@example.com") == text + b" ****"


def test_digits_read_apart_from_a_percent_escape_are_found_either_way() -> None:
    assert MASKER.text(b"100%4111111111111111") == b"100%****"
    assert MASKER.text(b"x%204111111111111111") == b"x%20****"


def test_a_view_gives_every_span_its_place() -> None:
    value = "a\u200bb%40c４".encode()
    readings = views(value, 10)
    assert readings is not None
    assert [view.text for view in readings] == [b"ab%40c4", b"ab@c4"]
    resolved = readings[-1]
    for reading, place in {
        "a": "a",
        "ab": "a\u200bb",
        "b@": "b%40",
        "@c": "%40c",
        "4": "４",
    }.items():
        start = resolved.text.index(reading.encode())
        first, last = resolved.origin(start, start + len(reading))
        assert value[first:last] == place.encode()


@given(st.text())
def test_a_text_has_views_exactly_where_the_pattern_says(text: str) -> None:
    value = text.encode()
    assert bool(views(value, 100)) == (compiled(DISGUISES).search(value) is not None)


@given(st.characters(categories=["Nd", "Cf", "Zs", "Pd"], min_codepoint=0x80))
def test_every_digit_space_dash_and_invisible_character_is_folded(character: str) -> None:
    readings = views(character.encode(), 1)
    assert readings is not None
    [view] = readings
    expected = {"Nd": str(unicodedata.decimal(character, "")), "Cf": "", "Zs": " ", "Pd": "-"}
    assert view.text.decode() == expected[unicodedata.category(character)]
