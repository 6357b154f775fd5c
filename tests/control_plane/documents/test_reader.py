from __future__ import annotations

import json
import time

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from control_plane.documents.reader import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_DOCUMENTS,
    MAX_NODES,
    Fields,
    Items,
    Scalar,
    read,
)
from control_plane.errors import Invalid


def _place(text: str | bytes) -> tuple[int, int, int]:
    with pytest.raises(Invalid) as caught:
        read(text)
    (error,) = caught.value.errors
    assert caught.value.code == "document_invalid"
    return error.document, error.line, error.column


def test_documents_of_a_stream_come_in_order_and_empty_ones_are_left_out() -> None:
    documents = read("---\na: 1\n---\n---\n# nothing\n---\nb: [x, 2]\n")
    assert [document.value for document in documents] == [{"a": 1}, {"b": ["x", 2]}]
    assert [document.number for document in documents] == [1, 4]


def test_no_document_is_no_error() -> None:
    assert read("") == ()
    assert read("# only a comment\n") == ()


def test_json_is_yaml() -> None:
    value = {"a": [1, -2.5, True, False, None, "x\u00e9\U0001f600"], "b": {"": "c"}}
    assert [document.value for document in read(json.dumps(value, ensure_ascii=False))] == [value]
    assert read(json.dumps(value, indent=2, ensure_ascii=False))[0].value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("Null", None),
        ("'null'", "null"),
        ('"5"', "5"),
        ("017", 17),
        ("0x1F", 31),
        ("0o17", 15),
        ("-3", -3),
        ("+3", 3),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("2027-01-01", "2027-01-01"),
        ("2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("=", "="),
        ("<<", "<<"),
        ("\u0663", "\u0663"),
        ("|\n  5\n", "5\n"),
    ],
)
def test_scalars_are_what_the_core_schema_of_yaml_1_2_says(text: str, value: object) -> None:
    (document,) = read(f"v: {text}")
    assert isinstance(document.value, dict)
    assert document.value["v"] == value
    assert type(document.value["v"]) is type(value)


def test_nodes_know_their_line_and_column() -> None:
    (document,) = read("# first\n---\na: \U0001f600 b\nc:\n  - x\n  - {d: e}\n")
    assert isinstance(document.root, Fields)
    key, value = document.root.fields["c"]
    assert (key.line, key.column) == (4, 1)
    assert isinstance(value, Items)
    assert (value.line, value.column) == (5, 3)
    inner = value.items[1]
    assert isinstance(inner, Fields)
    assert (inner.line, inner.column) == (6, 5)
    assert inner.fields["d"][1] == Scalar(6, 9, "e")


def test_columns_count_characters_and_not_bytes() -> None:
    assert _place("{\u00e9\U0001f600: 1, \u00e9\U0001f600: 2}") == (1, 1, 9)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_lines_are_counted_with_every_line_ending(ending: str) -> None:
    text = ending.join(["a: 1", "b: 2", "---", "c: 3", "c: 4", ""])
    assert _place(text) == (2, 5, 1)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\na: 2\n", (1, 2, 1)),
        ("a: {b: 1, b: 2}\n", (1, 1, 11)),
        ("a: 1\n---\nb: 1\n'b': 2\n", (2, 4, 1)),
        ("a: b: c\n", (1, 1, 5)),
        ("a: [1,\n", (1, 2, 1)),
        ("a: 'b\n", (1, 2, 1)),
        ("a: *b\n", (1, 1, 4)),
        ("a: &x [*x]\n", (1, 1, 8)),
        ("a: &x 1\n---\nb: *x\n", (2, 3, 4)),
        ("a: !!python/object:os.system x\n", (1, 1, 4)),
        ("a: !!str 1\n", (1, 1, 4)),
        ("a: ! 1\n", (1, 1, 4)),
        ("%YAML 1.1\n---\na: 1\n", (1, 1, 1)),
        ("%TAG ! tag:x,2000:\n---\na: 1\n", (1, 1, 1)),
        ("%YAML 9.1\n---\na: 1\n", (1, 1, 1)),
        ("1: a\n", (1, 1, 1)),
        ("a: 1\ntrue: b\n", (1, 2, 1)),
        ("null: b\n", (1, 1, 1)),
        ("? [a]\n: b\n", (1, 1, 3)),
        ("a: 1234567890123456789\n", (1, 1, 4)),
        ("a: 1e999\n", (1, 1, 4)),
        ("a: -1e999\n", (1, 1, 4)),
        ('a: "x\\0y"\n', (1, 1, 4)),
        ('a: "x\\u2028y"\n', (1, 1, 4)),
        ("a: 1\nb: x\0y\n", (1, 2, 5)),
        ("a: 1\nb: x\x01y\n", (1, 2, 5)),
        ("\u00e9: 1\nb: \u00e9\x07y\n", (1, 2, 5)),
        ("a: 1\nb: x\x85y\n", (1, 2, 5)),
        ("a\n\tb: c\n", (1, 2, 3)),
        ("@: 1\n", (1, 1, 1)),
    ],
)
def test_what_is_wrong_is_pointed_at(text: str, place: tuple[int, int, int]) -> None:
    assert _place(text) == place


def test_what_is_no_utf_8_is_pointed_at() -> None:
    assert _place(b"a: 1\nb: \xc3\xa9\xff\n") == (1, 2, 5)
    assert _place("a: \ud800") == (1, 1, 1)


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert read(b"\xef\xbb\xbfa: 1\n")[0].value == {"a": 1}


def test_an_alias_stands_for_what_it_names() -> None:
    (document,) = read("a: &x [1, {b: c}]\nd: *x\ne: [*x, *x]\nf: &x 2\ng: *x\n")
    inner = [1, {"b": "c"}]
    assert document.value == {"a": inner, "d": inner, "e": [inner, inner], "f": 2, "g": 2}


def test_aliases_that_multiply_are_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    started = time.perf_counter()
    assert _place("\n".join(lines))[1] == 5
    assert time.perf_counter() - started < 2


def test_aliases_can_not_deepen_what_is_bounded() -> None:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{level}: &a{level} [*a{level - 1}]" for level in range(1, 40)]
    # The document itself is a level, and so is each item under it.
    assert _place("\n".join(lines))[1] == MAX_DEPTH - 1


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_depth_is_bounded(opening: str, closing: str) -> None:
    allowed = MAX_DEPTH - 1
    assert read(opening * allowed + "x" + closing * allowed)
    deep = 150_000
    assert _place(opening * deep)[1] == 1
    assert _place("- " * deep)[2] == MAX_DEPTH * 2 + 1


def test_values_are_bounded_in_number() -> None:
    assert read("- x\n" * (MAX_NODES - 1))
    assert _place("- x\n" * MAX_NODES) == (1, MAX_NODES, 3)
    assert _place("--- x\n" * (MAX_DOCUMENTS + 1))[1] == MAX_DOCUMENTS + 1


def test_bytes_are_bounded() -> None:
    assert read("#" * MAX_BYTES) == ()
    with pytest.raises(Invalid) as caught:
        read("#" * (MAX_BYTES + 1))
    assert caught.value.code == "document_too_large"
    with pytest.raises(Invalid):
        read("\u00e9" * (MAX_BYTES // 2 + 1))


def test_the_source_of_each_document_is_its_part_of_the_text() -> None:
    text = "# top\na: 1\n---\n# second\nb: 2\n--- {c: 3} # third\n...\n---\nd: 4"
    sources = [document.source for document in read(text)]
    assert sources == [
        "# top\na: 1\n",
        "# second\nb: 2\n",
        "{c: 3} # third\n...\n",
        "d: 4",
    ]


_scalars = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=12)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
_pieces = ["a", "b: ", "- ", "? ", ": ", "[", "]", "{", "}", ",", "&x ", "*x", "!t ", "|", ">"]
_pieces += ["'", '"', "\n", "\r", "\r\n", "  ", "\t", "---", "...", "%YAML 1.2\n", "#", "~", "1"]
_pieces += ["\\u", "\\0", "\0", "\x85", "\u2028", "\ufeff", "\ud800", "\u00e9", "\U0001f600"]
_pieces += ["@", "`", "<<"]
_fragments = st.lists(st.sampled_from(_pieces), max_size=40).map("".join)


@settings(max_examples=500)
@given(_fragments | st.text(max_size=60))
@example("\ufeff---\ufeff")
@example("--- |\n a\n--- >\n b\n")
@example("? \n? \n")
@example("- \n...\n...\n")
@example("a: &x\nb: *x")
def test_any_text_is_read_or_refused_at_a_place_in_it(text: str) -> None:
    try:
        documents = read(text)
    except Invalid as refusal:
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for error in refusal.errors:
            assert 1 <= error.line <= len(lines) + 1
            assert 1 <= error.column <= max(len(line) for line in lines) + 2
    else:
        for document in documents:
            json.dumps(document.value, allow_nan=False).encode()


@settings(max_examples=500)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    refusal = None
    try:
        read(data)
    except Invalid as error:
        refusal = error
    assert refusal is None or (refusal.code == "document_invalid" and refusal.errors)


_clean = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"))


@given(st.lists(st.dictionaries(_clean, _clean | st.lists(_clean), min_size=1), max_size=4))
def test_what_a_yaml_writer_quoted_is_read_as_it_was(values: list[dict[str, object]]) -> None:
    # Unquoted, YAML 1.1 and 1.2 take some words differently.
    text = yaml.safe_dump_all(values, allow_unicode=True, explicit_start=True, default_style='"')
    assert [document.value for document in read(text)] == values


@settings(max_examples=300)
@given(_fragments)
def test_each_document_is_the_same_when_read_from_its_own_source(text: str) -> None:
    try:
        documents = read(text)
    except Invalid:
        return
    for document in documents:
        assert [again.value for again in read(document.source)] == [document.value]


@given(_values)
def test_json_is_read_as_it_was_written(value: object) -> None:
    text = json.dumps({"v": value}, ensure_ascii=False)
    try:
        documents = read(text)
    except Invalid:
        # Such as NUL, which JSON escapes and no database stores.
        assert "\\u" in text or not text.isprintable()
    else:
        assert documents[0].value == {"v": value}
