# ruff: noqa: RUF001 - the look-alike characters are what is tested
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.masking import REDACTED, ColumnMask, Masker
from protos.vocabulary import DETECTORS, STRENGTH, MaskingRule, Transform

KEY = b"0123456789abcdef"
CARD = b"4111 1111 1111 1111"


def masker(*rules: MaskingRule) -> Masker:
    return Masker(rules, KEY)


def over(name: str, *columns: str, by: Transform = Transform.PARTIAL, keep: int = 4) -> MaskingRule:
    return MaskingRule(name, by, columns=columns, keep=keep)


def found(name: str, *detectors: str, by: Transform = Transform.PARTIAL) -> MaskingRule:
    return MaskingRule(name, by, detectors=detectors, constant="hidden")


def named(mask: ColumnMask | None) -> tuple[str, Transform] | None:
    return None if mask is None else (mask.rule, mask.transform)


ALL = masker(found("all", *DETECTORS, by=Transform.REDACT))


class TestRules:
    def test_no_rule_masks_nothing(self) -> None:
        nothing = masker()
        assert not nothing.active
        assert not nothing.detects
        assert nothing.column("public", "people", "email") is None
        assert nothing.derived(frozenset({"*"})) is None
        assert not nothing.columns_named("email")
        assert not nothing.suspicious(b"alice@example.com")
        assert nothing.text(b"alice@example.com") == b"alice@example.com"
        assert nothing.json(b'"alice@example.com"') == b'"alice@example.com"'

    def test_a_rule_over_columns_detects_nothing(self) -> None:
        columns = masker(over("mail", "*.email"))
        assert columns.active
        assert not columns.detects
        assert not columns.suspicious("alice@example.com \u200b".encode())

    @pytest.mark.parametrize(
        "rule",
        [
            MaskingRule("odd", Transform.NULL),
            MaskingRule("odd", Transform.NULL, columns=("a",), detectors=("email",)),
        ],
    )
    def test_a_rule_has_either_columns_or_detectors(self, rule: MaskingRule) -> None:
        with pytest.raises(ValueError, match="'odd': give either columns or detectors"):
            masker(rule)

    def test_an_unknown_detector_is_refused_with_those_that_there_are(self) -> None:
        with pytest.raises(ValueError, match=r"no detector 'e-mail'; there are email, phone, card"):
            masker(found("typo", "e-mail"))


class TestColumns:
    @pytest.mark.parametrize(
        ("pattern", "masked"),
        [
            ("public.people.email", True),
            ("public.people.*", True),
            ("*.email", True),
            ("*email", True),
            ("public.p?ople.email", True),
            ("public.people.mail", False),
            ("people.email", False),
            ("PUBLIC.people.email", False),
        ],
    )
    def test_a_pattern_is_over_schema_table_and_column(self, pattern: str, masked: bool) -> None:
        rules = masker(over("mail", pattern))
        assert (rules.column("public", "people", "email") is not None) is masked

    def test_the_strongest_rule_wins_in_whatever_order_they_come(self) -> None:
        rules = [over(by.value, "*.email", by=by) for by in Transform]
        for some in itertools.permutations(rules, 3):
            strongest = max((rule.transform for rule in some), key=STRENGTH.__getitem__)
            mask = masker(*some).column("public", "people", "email")
            assert named(mask) == (strongest.value, strongest)

    def test_of_two_partial_rules_the_one_that_keeps_less_wins(self) -> None:
        rules = [over("more", "*.email", keep=6), over("less", "*.card", "*.email", keep=2)]
        for order in itertools.permutations(rules):
            assert named(masker(*order).column("s", "t", "email")) == ("less", Transform.PARTIAL)


class TestDerived:
    RULES = masker(
        over("mail", "public.people.email"),
        over("gone", "*.ssn", by=Transform.NULL),
        over("wide", "audit.c*t"),
    )

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            ({"email"}, ("mail", Transform.REDACT)),
            ({"ssn"}, ("gone", Transform.NULL)),
            ({"id", "email"}, ("mail", Transform.REDACT)),
            ({"email", "ssn"}, ("gone", Transform.NULL)),
            ({"*"}, ("gone", Transform.NULL)),
            ({"id"}, None),
            ({"ct"}, ("wide", Transform.REDACT)),
            # audit.c*t matches audit.changes.comment.
            ({"comment"}, ("wide", Transform.REDACT)),
            (set(), None),
        ],
    )
    def test_a_computed_value_is_never_shown_in_part(
        self, names: set[str], expected: tuple[str, Transform] | None
    ) -> None:
        assert named(self.RULES.derived(frozenset(names))) == expected

    @pytest.mark.parametrize(
        "pattern",
        ["public.people.email", "*.email", "*", "public*l", "p*.e????", "*[.]email", "*il"],
    )
    def test_no_masked_column_escapes_by_its_name(self, pattern: str) -> None:
        rules = masker(over("mail", pattern))
        assert rules.column("public", "people", "email") is not None
        assert rules.columns_named("email")

    @given(
        pattern=st.text("ab.*?[]!", min_size=1, max_size=8),
        schema=st.text("ab", min_size=1, max_size=2),
        table=st.text("ab", min_size=1, max_size=2),
        column=st.text("ab.", min_size=1, max_size=3),
    )
    def test_the_name_alone_never_says_less_than_the_whole_path(
        self, pattern: str, schema: str, table: str, column: str
    ) -> None:
        rules = masker(over("any", pattern))
        if rules.column(schema, table, column) is not None:
            assert rules.columns_named(column)
            assert rules.derived(frozenset({"other", column})) is not None

    def test_a_name_that_no_pattern_can_mean_is_left_alone(self) -> None:
        assert not self.RULES.columns_named("id")
        assert not masker(over("mail", "*.*.email*")).columns_named("id")
        assert masker(over("mail", "*.email*")).columns_named("id")  # public.email_log.id


class TestText:
    def test_only_what_was_found_is_replaced(self) -> None:
        text = b"Pay with " + CARD + b" or write to alice@example.com."
        assert ALL.text(text) == b"Pay with **** or write to ****."

    def test_a_value_without_finds_is_passed_on_as_it_is(self) -> None:
        for value in (
            b"",
            b"shipped",
            b"order 12 of 2024-01-01 12:34:56",
            b"a%20b",
            "a\xa0b".encode(),
        ):
            assert ALL.text(value) is value

    @pytest.mark.parametrize(
        ("by", "expected"),
        [
            (Transform.PARTIAL, b"to a****@example.com now"),
            (Transform.REDACT, b"to **** now"),
            (Transform.CONSTANT, b"to hidden now"),
            (Transform.NULL, b"to  now"),
        ],
    )
    def test_a_find_gets_the_transform_of_its_rule(self, by: Transform, expected: bytes) -> None:
        assert masker(found("r", "email", by=by)).text(b"to alice@example.com now") == expected

    def test_a_find_gets_the_pseudonym_that_a_column_gives_the_same_value(self) -> None:
        rules = masker(
            found("text", "email", by=Transform.PSEUDONYM),
            over("column", "*.email", by=Transform.PSEUDONYM),
        )
        mask = rules.column("public", "people", "email")
        assert mask is not None
        name = mask.apply(b"alice@example.com")
        assert name is not None
        assert rules.text(b"<alice@example.com>") == b"<" + name + b">"
        assert rules.text(b"<alice%40example.com>") == b"<" + name + b">"

    def test_two_rules_on_one_detector_give_the_stronger(self) -> None:
        rules = [found("weak", "email"), found("strong", "email", by=Transform.REDACT)]
        for order in itertools.permutations(rules):
            assert masker(*order).text(b"alice@example.com") == REDACTED

    def test_a_find_within_a_find_gives_one_with_the_stronger_mask(self) -> None:
        value = b"of 4111111111111111@example.com only"
        rules = [found("card", "card", by=Transform.CONSTANT), found("mail", "email")]
        assert masker(*rules).text(value) == b"of hidden only"
        assert masker(rules[1]).text(value) == b"of 4****@example.com only"

    def test_finds_that_overlap_in_part_become_one(self) -> None:
        # "u:pw" has the password from its colon on; the e-mail runs on over the host.
        rules = [found("a", "url_password"), found("b", "email", by=Transform.REDACT)]
        assert masker(*rules).text(b"see db://u:p!w@example.com/x") == b"see db://u:****/x"

    def test_a_value_with_too_many_candidates_is_redacted_whole(self) -> None:
        rules = masker(found("r", "us_ssn", by=Transform.REDACT))
        assert rules.text(b"536-90-4399 " * 50_000) == b"**** " * 50_000
        assert rules.text(b"536-90-4399 " * 50_001) == REDACTED
        assert rules.text(b"000-90-4399 " * 50_001) == REDACTED

    def test_a_value_with_too_many_disguises_is_redacted_whole(self) -> None:
        rules = masker(found("r", "us_ssn"))
        value = b"%20 " * 50_000
        assert rules.text(value) is value
        assert rules.text(b"%20 " * 50_001) == REDACTED

    def test_bytes_that_are_no_utf8_stay_as_they_are(self) -> None:
        assert ALL.text(b"\xff\xc3 alice@example.com \xe2\x80") == b"\xff\xc3 **** \xe2\x80"


FINDS = (
    "alice@example.com",
    "4111111111111111",
    "4111-1111-1111-1111",
    "DE89 3704 0044 0532 0130 00",
    "536-90-4399",
    "+49 30 901820",
    "192.0.2.17",
    "AKIAIOSFODNN7EXAMPLE",
    "bob%40example.com",
    "carol\u200b@example.com",
    "４１１１１１１１１１１１１１１１",
)
SPELLED = st.one_of(
    st.text(max_size=12).map(str.encode),
    st.binary(max_size=12),
    st.sampled_from(FINDS).map(str.encode),
    st.text("4151- .%@:\u200b０u\\&#;x+eyJA", max_size=30).map(str.encode),
)
VALUES = st.lists(SPELLED, max_size=5).map(b"".join)


class TestAnyBytes:
    @given(VALUES)
    def test_masking_never_raises_and_shows_no_find(self, value: bytes) -> None:
        ALL.text(value)
        ALL.json(value)

    @given(st.lists(VALUES, min_size=1, max_size=4), st.binary(max_size=8))
    def test_a_chunk_that_is_not_suspicious_has_no_value_that_would_change(
        self, values: list[bytes], between: bytes
    ) -> None:
        if not ALL.suspicious(between.join(values)):
            for value in values:
                assert ALL.text(value) is value
                assert ALL.json(value) is value

    @given(st.sampled_from(FINDS), st.text(" ,;<>\"'\n\t|", min_size=1, max_size=4))
    def test_a_find_is_found_between_any_delimiters(self, find: str, around: str) -> None:
        value = f"{around}{find}{around}".encode()
        masked = ALL.text(value)
        assert find.encode() not in masked
        assert masked.startswith(around.encode())
        assert masked.endswith(around.encode())

    @given(st.lists(st.sampled_from([*FINDS, "and", "the", "5"]), max_size=6).map("; ".join))
    def test_masking_what_is_masked_changes_nothing(self, text: str) -> None:
        once = ALL.text(text.encode())
        assert ALL.text(once) == once

    @given(VALUES, st.lists(st.sampled_from(DETECTORS), min_size=1, unique=True))
    def test_some_detectors_find_nothing_that_all_do_not(
        self, value: bytes, some: list[str]
    ) -> None:
        if ALL.text(value) is value:
            assert masker(found("some", *some)).text(value) is value


class TestJson:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (b'{"to": "alice@example.com", "n": 1}', b'{"to": "****", "n": 1}'),
            (b'{"alice@example.com": [true, null]}', b'{"****": [true, null]}'),
            (b'{"card": 4111111111111111}', b'{"card": "****"}'),
            (rb'["a\nalice\u0040example.com\"b"]', rb'["a\n****\"b"]'),
            (rb'["4111\/1111"]', rb'["4111\/1111"]'),
            (b'"alice@example.com', b'"****'),  # no JSON: as a text
            (b'["alice@example.com\xff"]', b'["****\xff"]'),  # no UTF-8 either
            (rb'["\ud800 alice@example.com"]', rb'["\ufffd\ufffd\ufffd ****"]'),
            (rb'["\x alice@example.com"]', rb'["\\x ****"]'),
        ],
    )
    def test_json_stays_json(self, value: bytes, expected: bytes) -> None:
        assert ALL.json(value) == expected

    def test_json_with_too_many_candidates_becomes_one_string(self) -> None:
        assert ALL.json(b"[" + b'"536-90-4399",' * 50_001 + b"0]") == b'"****"'

    @given(st.recursive(st.text() | st.sampled_from(FINDS) | st.integers(), st.lists))
    def test_masked_json_can_be_read_and_shows_no_find(self, content: object) -> None:
        for ascii_only in (True, False):
            try:
                value = json.dumps(content, ensure_ascii=ascii_only).encode()
            except UnicodeEncodeError:
                continue
            masked = ALL.json(value)
            json.loads(masked)
            assert "alice@example.com" not in str(json.loads(masked))

    def test_json_with_nothing_in_it_is_passed_on_as_it_is(self) -> None:
        for value in (b'{"a": 1.50}', rb'{"a": "\u00e9"}', b"[1, 2]"):
            assert ALL.json(value) is value
