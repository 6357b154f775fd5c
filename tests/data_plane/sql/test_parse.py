"""The bounds on what is parsed, and what arbitrary texts do to the classification."""

from __future__ import annotations

import threading
from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_plane.sql import SessionState, classify
from data_plane.sql.parse import MAX_TEXT, SET, NotUnderstood, grown, parse
from protos.vocabulary import Risk


def nested_assignment(levels: int) -> str:
    text = "SELECT 1"
    for _ in range(levels):
        text = f"WITH x AS (UPDATE t SET (a, b) = ({text})) SELECT 1"
    return text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("SELECT " + "(" * 100_000 + "1" + ")" * 100_000, id="parentheses"),
        pytest.param("SELECT 1" + "+1" * 500_000, id="sum"),
        pytest.param("SELECT 1" + "+1" * 4_000, id="sum on the caller's stack"),
        pytest.param("SELECT " + "(SELECT " * 2_000 + "1" + ")" * 2_000, id="subqueries"),
        pytest.param("SELECT 1" + " UNION SELECT 1" * 50_000, id="unions"),
        pytest.param("SELECT * FROM a" + " JOIN a ON true" * 50_000, id="joins"),
        pytest.param("SELECT " + "NOT " * 9_000 + "true", id="negations"),
        pytest.param("SELECT " + "1," * 500_000 + "1", id="a wide list"),
        pytest.param("SELECT 1;" * 2_000, id="many statements"),
        pytest.param(" " * MAX_TEXT + "SELECT 1", id="too long"),
        pytest.param(nested_assignment(40), id="nested assignments"),
        pytest.param(
            nested_assignment(40).replace(")", ")/**/").replace("=", "/**/="), id="with comments"
        ),
        pytest.param(
            f"UPDATE t SET ({','.join('a' * 4000)}) = (SELECT {','.join('1' * 4000)})",
            id="a wide assignment",
        ),
        pytest.param("UPDATE t SET 'open", id="an open string"),
        pytest.param("SET (a,b)=(1,2), 'open" + "," * 100_000, id="an open string, scanned"),
        pytest.param("SELECT '\ud800'", id="half a character"),
        pytest.param("SELECT 1\0", id="NUL"),
    ],
)
def test_a_hostile_text_is_unknown_and_nothing_worse(text: str) -> None:
    found = classify(text)
    assert found.risk is Risk.UNKNOWN
    assert found.facts["unknown"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("SELECT 1" + "+1" * 100, id="a sum"),
        pytest.param("SELECT true" + " AND a = 1" * 2_000, id="a long condition"),
        pytest.param(f"SELECT '{'x' * 900_000}'", id="a large value"),
        pytest.param("SELECT 1;" * 500, id="many statements"),
    ],
)
def test_a_large_honest_text_is_read(text: str) -> None:
    assert classify(text).risk is Risk.READ


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t VALUES "
        + ",".join(["(1, 'x', now())"] * 3_000)
        + " ON CONFLICT (a) DO UPDATE SET b = excluded.b",
        "UPDATE t SET (a, b) = (1, 2) WHERE (c, d) = (3, 4)",
        f"UPDATE t SET ({','.join('a' * 50)}) = (SELECT {','.join('1' * 50)})",
        ";".join(["UPDATE t SET (a, b) = (1, 2)"] * 20),
        "UPDATE t SET a = 1 WHERE " + " OR ".join(["(b, c) = (1, 2)"] * 100),
    ],
)
def test_an_honest_assignment_is_not_taken_for_growth(text: str) -> None:
    assert classify(text).risk is Risk.WRITE


def test_growth_counts_what_multiple_assignment_repeats() -> None:
    def size(text: str) -> int:
        return grown([SET if char == "S" else ord(char) for char in text])

    assert size("S(a,b)=(x,y),z") == len("S(a,b)=(x,y),z") + len("(x,y),")
    assert size("S(a,b)=(x,S(c,d)=y)") == len("S(a,b)=(x,S(c,d)=y)") + len("(x,S(c,d)=y)") + 4
    assert size("W(a,b)=(x,y)") == len("W(a,b)=(x,y)")
    assert size(")a=b;") == 5


def test_a_thread_that_cannot_start_leaves_the_text_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(NotUnderstood, match="no memory"):
        parse("SELECT 1" + " " * 10_000)


def test_a_syntax_error_in_a_long_text_is_reported() -> None:
    with pytest.raises(NotUnderstood, match="syntax error"):
        parse("SELEC 1" + " " * 10_000)


def test_a_tree_too_deep_for_the_walk_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {"A_Const": {}}
    for _ in range(5_000):
        tree = {"CollateClause": {"arg": tree}}
    select = {"SelectStmt": {"op": "SETOP_NONE", "targetList": [{"ResTarget": {"val": tree}}]}}
    monkeypatch.setattr(import_module("data_plane.sql.classify"), "parse", lambda _: [select])
    assert (
        classify("a tree too deep for the walk").facts["unknown"] == "the text is nested too deeply"
    )


def test_the_stack_size_of_other_threads_is_left_as_it_was() -> None:
    before = threading.stack_size()
    parse("SELECT 1" + " " * 10_000)
    assert threading.stack_size() == before


VOCABULARY = """
    SELECT INSERT UPDATE DELETE MERGE INTO FROM WHERE SET VALUES WITH RECURSIVE AS ( ) , ; * . = +
    :: ' '' " $$ $a$ -- /* */ \\ E' U&' t a b c pg_class 1 NULL $1 ANALYZE EXPLAIN COPY TO STDOUT
    RETURNING ON CONFLICT DO UNION ALL JOIN USING LATERAL CREATE TABLE DROP ALTER TEMP FUNCTION
    PREPARE EXECUTE DECLARE CURSOR FOR FETCH BEGIN COMMIT LOCK GRANT [ ] ARRAY ROW CASE WHEN THEN
    END count lower json_table xmltable COLUMNS PATH ORDER BY GROUP LIMIT OVER FILTER search_path
"""
WORDS = st.sampled_from(VOCABULARY.split())


@given(st.lists(WORDS, max_size=30).map(" ".join))
@settings(max_examples=300, deadline=None)
def test_any_row_of_words_gets_a_judgement(text: str) -> None:
    found = classify(text)
    assert isinstance(found.risk, Risk)
    assert (found.risk is Risk.UNKNOWN) == ("unknown" in found.facts)
    assert found.facts.get("unknown") != "the text's tree has an unexpected form"


@given(st.text(max_size=60), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_text_gets_a_judgement(text: str, standard: bool) -> None:
    assert isinstance(classify(text, SessionState(standard_strings=standard)).risk, Risk)


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes_get_a_judgement(data: bytes) -> None:
    assert isinstance(classify(data.decode(errors="surrogateescape")).risk, Risk)


STATEMENTS = [
    "DELETE FROM orders WHERE id = 1",
    "WITH d AS (DELETE FROM orders RETURNING 1) SELECT * FROM d",
    "EXPLAIN ANALYZE UPDATE orders SET a = 1",
    "SELECT pg_terminate_backend(1)",
    "SELECT f.pg_read_file FROM unnest(ARRAY['x']) f",
    "COPY orders TO PROGRAM 'x'",
    "SET ROLE postgres",
    "SELECT * FROM pg_authid",
    "SELECT upper(email) FROM customers",
    "TRUNCATE orders",
]
GAP = st.sampled_from([" ", "\n", "\t\f ", "/**/", "/* a /* b */ ; */", "-- x\n", "\r\n"])


@given(st.sampled_from(STATEMENTS), st.data())
@settings(max_examples=200, deadline=None)
def test_case_and_space_and_comments_change_nothing(text: str, data: st.DataObject) -> None:
    plain = classify(text)
    words = []
    for word in text.split(" "):
        quoted = "'" in word
        words.append(word if quoted or data.draw(st.booleans()) else word.swapcase())
        words.append(data.draw(GAP))
    assert classify("".join(words)) == plain
