import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.masking import REDACTED, ColumnMask, Masker
from data_plane.masking.transforms import mask_of, partial, pseudonym
from protos.vocabulary import MaskingRule, Transform

KEY = b"0123456789abcdef"


def mask(transform: Transform, **settings: object) -> ColumnMask:
    return mask_of(MaskingRule("rule", transform, columns=("*",), **settings), KEY)  # type: ignore[arg-type]


@given(st.binary())
def test_redact_leaves_the_same_four_stars_of_anything(value: bytes) -> None:
    assert mask(Transform.REDACT).apply(value) == REDACTED


def test_null_leaves_the_sql_null() -> None:
    assert mask(Transform.NULL).apply(b"x") is None


def test_constant_leaves_the_constant_as_utf8() -> None:
    assert mask(Transform.CONSTANT, constant="gelöscht").apply(b"x") == "gelöscht".encode()


@pytest.mark.parametrize(
    ("value", "keep", "expected"),
    [
        ("4111 1111 1111 1111", 4, "****1111"),
        ("4111-1111-1111-1111", 4, "****1111"),
        ("DE89 3704 0044 0532 0130 00", 4, "****3000"),
        ("536-90-4399", 4, "****4399"),
        ("12345678", 4, "****5678"),
        ("1234567", 4, "****"),
        ("1234567", 3, "****567"),
        ("", 4, "****"),
        ("Größe", 2, "****ße"),
        ("secret", 0, "****"),
        ("user@example.com", 0, "****"),
        ("alice@example.com", 4, "a****@example.com"),
        ("åsa.k@example.com", 4, "å****@example.com"),
        ("bob@example.com", 4, "****@example.com"),
        ("write to alice@example.com", 4, "****ecom"),
        ("two@at@example.com", 4, "****ecom"),
        ("@example", 4, "****"),
        ("example.user@", 4, "****user"),
    ],
)
def test_partial_leaves_the_end_or_the_domain_of_an_email(
    value: str, keep: int, expected: str
) -> None:
    assert mask(Transform.PARTIAL, keep=keep).apply(value.encode()) == expected.encode()


@given(st.binary(), st.integers(0, 40))
def test_partial_never_raises_and_hides_at_least_half_of_what_is_no_email(
    value: bytes, keep: int
) -> None:
    left = partial(value, keep)
    assert left.startswith(REDACTED) or b"****@" in left
    if b"@" not in value:
        told = sum(c.isalnum() for c in value.decode(errors="surrogateescape"))
        assert 2 * len(left.removeprefix(REDACTED).decode()) <= told


@given(st.binary(), st.binary())
def test_pseudonyms_are_equal_exactly_where_the_values_are(one: bytes, other: bytes) -> None:
    assert (pseudonym(KEY, one) == pseudonym(KEY, other)) == (one == other)


@given(st.binary())
def test_a_pseudonym_is_stable_letters_only_and_another_under_another_key(value: bytes) -> None:
    name = pseudonym(KEY, value)
    assert name == mask(Transform.PSEUDONYM).apply(value)
    assert name.startswith(b"anon_")
    assert name.removeprefix(b"anon_").isalpha()
    assert name != pseudonym(b"another key of sixteen", value)


def test_a_pseudonym_does_not_change_between_releases() -> None:
    assert pseudonym(KEY, b"alice@example.com") == b"anon_wdsgssrhspwmptctpgghdgan"


def test_a_short_key_makes_no_pseudonyms() -> None:
    rule = MaskingRule("who", Transform.PSEUDONYM, columns=("*",))
    with pytest.raises(ValueError, match=r"'who': pseudonyms need a key of 16 bytes"):
        Masker([rule], KEY[:-1])


def test_a_short_key_is_enough_where_nothing_becomes_a_pseudonym() -> None:
    assert Masker([MaskingRule("who", Transform.REDACT, columns=("*",))], b"").active


def test_keep_cannot_be_negative() -> None:
    rule = MaskingRule("who", Transform.PARTIAL, columns=("*",), keep=-1)
    with pytest.raises(ValueError, match="'who': keep must not be negative"):
        Masker([rule], KEY)


def test_a_key_is_in_no_repr() -> None:
    masker = Masker([MaskingRule("who", Transform.PSEUDONYM, columns=("*",))], KEY)
    column = masker.column("public", "people", "name")
    assert "0123456789abcdef" not in repr(masker) + repr(column)
    assert column is not None
    assert column.key == KEY
