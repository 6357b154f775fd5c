"""What a recording's transcript says."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.recordings.transcript import Direction, Line, transcribe
from protos.vocabulary import Entry, EntryKind
from tests.control_plane.recordings.transcript import wire
from tests.control_plane.recordings.transcript.wire import START, entries

REQUEST, ANSWER = EntryKind.REQUEST, EntryKind.ANSWER

HELD_DELETE: list[tuple[EntryKind, bytes | dict[str, Any]]] = [
    (EntryKind.OPENED, wire.OPENED),
    (REQUEST, wire.query("DELETE FROM orders")),
    (EntryKind.JUDGED, wire.judged("approve")),
    (
        EntryKind.HELD,
        {"approval_id": "apr_x", "url": "https://g/approvals/apr_x", "hold_until": 1700000300},
    ),
    (ANSWER, wire.report("N", S="NOTICE", V="NOTICE", C="01000", M="held for approval apr_x")),
    (
        EntryKind.DECIDED,
        {
            "verdict": {
                "outcome": "allow",
                "code": "approved",
                "reason": "fine",
                "rule": "agents/destructive",
                "approval_id": "apr_x",
                "decided_by": "Ada",
            }
        },
    ),
    (ANSWER, wire.complete("DELETE 3") + wire.ready()),
    (REQUEST, wire.message("X")),
    (EntryKind.CLOSED, {"code": "client_closed", "reason": "the client hung up"}),
]


def said(made: list[Entry], **options: Any) -> list[tuple[str, str, str]]:
    return [
        (line.direction.value, line.kind, line.text)
        for line in transcribe(made, **options)
        if not line.routine
    ]


def answers(data: bytes, request: bytes = b"", **options: Any) -> list[Line]:
    parts: list[tuple[EntryKind, bytes | dict[str, Any]]] = [(REQUEST, request)] if request else []
    lines = transcribe(entries(*parts, (ANSWER, data)), **options)
    return [line for line in lines if line.direction is Direction.ANSWER]


def table(lines: list[Line]) -> tuple[tuple[str, ...], tuple[tuple[str | None, ...], ...]]:
    (found,) = [line.table for line in lines if line.table is not None]
    return found.columns, found.rows


def test_a_held_statement_reads_as_the_sequence_of_what_happened() -> None:
    assert said(entries(*HELD_DELETE)) == [
        (
            "gate",
            "opened",
            "r2 (agent) to orders from 127.0.0.1:5000 under policy abcdef012345",
        ),
        ("request", "query", "DELETE FROM orders"),
        (
            "gate",
            "judged",
            "delete written public.orders [destroy where=absent]: "
            "approve by rule agents/destructive: a human decides (approval_required)",
        ),
        ("gate", "held", "for approval apr_x until 2023-11-14T22:18:20Z https://g/approvals/apr_x"),
        ("answer", "notice", "NOTICE 01000: held for approval apr_x"),
        (
            "gate",
            "decided",
            "allow by rule agents/destructive, decided by Ada (approval apr_x): fine (approved)",
        ),
        ("answer", "complete", "DELETE 3"),
        ("answer", "ready", "idle"),
        ("request", "terminate", ""),
        ("gate", "closed", "the client hung up (client_closed)"),
    ]


def test_each_line_has_its_entry_and_its_time() -> None:
    lines = list(transcribe(entries(*HELD_DELETE)))
    assert [(line.sequence, line.offset, line.at) for line in lines][:3] == [
        (number, number * 10**9, START + number * 10**9) for number in range(3)
    ]


def test_rows_become_a_table_under_their_columns() -> None:
    data = (
        wire.columns(("id", 23, 0), ("email", 25, 0))
        + wire.row(b"1", b"a@example.org")
        + wire.row(b"2", None)
        + wire.complete("SELECT 2")
        + wire.ready()
    )
    lines = answers(data, wire.query("SELECT"))
    assert table(lines) == (("id", "email"), (("1", "a@example.org"), ("2", None)))
    assert [line.kind for line in lines] == ["columns", "rows", "complete", "ready"]
    assert lines[1].text == "2 rows"


def test_the_extended_protocol_finds_columns_described_with_the_statement() -> None:
    request = wire.parse("s", "SELECT $1", 23) + wire.describe("S", "s") + wire.SYNC
    request += wire.bind("", "s", [b"\0\0\0\x07"], (1,), (1,)) + wire.execute() + wire.SYNC
    answer = wire.message("1") + wire.message("t", b"\0\1\0\0\0\x17")
    answer += wire.columns(("n", 23, 0)) + wire.ready()
    answer += wire.message("2") + wire.row(b"\0\0\0\x07") + wire.complete("SELECT 1") + wire.ready()
    made = entries((REQUEST, request), (ANSWER, answer))
    assert table(answers(answer, request)) == (("n",), (("7",),))
    assert ("request", "bind", "the unnamed portal to statement s: $1 = '7'") in said(made)
    assert ("request", "parse", "statement s: SELECT $1") in said(made)


def test_the_extended_protocol_finds_columns_described_with_the_portal() -> None:
    request = wire.parse("", "SELECT") + wire.bind("p", "") + wire.describe("P", "p")
    request += wire.execute("p", 1) + wire.SYNC
    answer = wire.message("1") + wire.message("2") + wire.columns(("ok", 16, 1))
    answer += wire.row(b"\1") + wire.message("s") + wire.ready("T")
    assert table(answers(answer, request)) == (("ok",), (("t",),))
    assert ("answer", "ready", "in transaction") in said(
        entries((REQUEST, request), (ANSWER, answer))
    )
    assert ("request", "execute", "portal p, at most 1 rows") in said(entries((REQUEST, request)))


def test_after_an_error_the_next_answers_belong_to_what_follows_the_sync() -> None:
    request = wire.parse("", "bad") + wire.bind("", "") + wire.describe("P") + wire.execute()
    request += wire.SYNC + wire.parse("", "SELECT") + wire.bind("", "") + wire.describe("P")
    request += wire.execute() + wire.SYNC
    answer = wire.report("E", S="ERROR", V="ERROR", C="42601", M="syntax error", H="try harder")
    answer += wire.ready() + wire.message("1") + wire.message("2") + wire.columns(("x", 25, 0))
    answer += wire.row(b"y") + wire.complete("SELECT 1") + wire.ready()
    lines = answers(answer, request)
    assert table(lines) == (("x",), (("y",),))
    assert lines[0].text == "ERROR 42601: syntax error\nHINT: try harder"


def test_rows_beyond_the_limit_are_counted() -> None:
    data = wire.columns(("n", 23, 0)) + b"".join(wire.row(b"%d" % n) for n in range(50))
    (rows,) = [line for line in answers(data + wire.complete("SELECT 50"), rows=3) if line.table]
    assert rows.text == "50 rows"
    assert rows.table is not None
    assert (len(rows.table.rows), rows.table.omitted) == (3, 47)


def test_without_a_limit_every_row_is_kept_in_tables_of_a_thousand() -> None:
    data = wire.columns(("n", 23, 0)) + b"".join(wire.row(b"%d" % n) for n in range(2500))
    tables = [line.table for line in answers(data, rows=None) if line.table]
    assert [len(one.rows) for one in tables] == [1000, 1000, 500]
    assert {one.columns for one in tables} == {("n",)}
    assert [one.rows[0][0] for one in tables] == ["0", "1000", "2000"]


def test_rows_whose_columns_nobody_described_are_numbered() -> None:
    assert table(answers(wire.row(b"a", b"\xff"))) == (
        ("column 1", "column 2"),
        (("a", "\\xff"),),
    )


@pytest.mark.parametrize(
    ("oid", "data", "shown"),
    [
        (16, b"\0", "f"),
        (20, b"\0\0\0\0\0\0\0\2", "2"),
        (21, b"\xff\xff", "-1"),
        (25, "é".encode(), "é"),
        (701, b"\x3f\xf8\0\0\0\0\0\0", "1.5"),
        (1082, b"\0\0\0\1", "2000-01-02"),
        (1114, b"\0\0\0\0\0\x0f\x42\x40", "2000-01-01 00:00:01"),
        (1184, b"\0\0\0\0\0\x0f\x42\x40", "2000-01-01 00:00:01+00"),
        (1184, b"\x7f\xff\xff\xff\xff\xff\xff\xff", "\\x7fffffffffffffff"),
        (1700, b"\0\2\0\0\0\0\0\2\0\x0c\x0d\x48", "12.34"),
        (1700, b"\0\1\0\1\x40\0\0\0\0\1", "-10000"),
        (1700, b"\0\1\xff\xff\0\0\0\4\0\5", "0.0005"),
        (1700, b"\0\0\0\0\xc0\0\0\0", "NaN"),
        (1700, b"\xff\xff\0\0\0\0\0\0", "\\xffff000000000000"),
        (2950, bytes(16), "00000000-0000-0000-0000-000000000000"),
        (3802, b'\1{"a":1}', '{"a":1}'),
        (3802, b"\2{}", "\\x027b7d"),
        (23, b"\0", "\\x00"),
        (25, b"\xff", "\\xff"),
        (9999, b"ab", "\\x6162"),
    ],
)
def test_binary_values_are_shown_as_their_type_is_written(
    oid: int, data: bytes, shown: str
) -> None:
    assert table(answers(wire.columns(("v", oid, 1)) + wire.row(data)))[1] == ((shown,),)


def test_copy_shows_its_first_lines_and_how_much_there_was() -> None:
    out = wire.message("H", b"\0\0\1\0\0")
    out += b"".join(wire.message("d", b"line %d\n" % n) for n in range(9)) + wire.message("c")
    (data,) = [line for line in answers(out) if line.kind == "copy data"]
    assert data.text == "63 bytes in 9 messages\nline 0\nline 1\nline 2\nline 3\nline 4\n..."
    request = wire.message("d", b"only\n") + wire.message("f", b"enough\0")
    assert said(entries((REQUEST, request))) == [
        ("request", "copy data", "5 bytes in 1 messages\nonly"),
        ("request", "copy failed", "enough"),
    ]


def test_secrets_of_the_protocol_are_not_shown() -> None:
    request = wire.message("p", b"hunter2\0")
    answer = wire.message("K", b"\0\0\0\x09SECR")
    lines = list(transcribe(entries((REQUEST, request), (ANSWER, answer))))
    assert "hunter2" not in repr(lines)
    assert "SECR" not in repr(lines)
    assert "process 9" in lines[1].text


def test_other_messages_have_their_words() -> None:
    request = wire.message("H") + wire.message("C", b"Sname\0") + wire.message("c")
    request += wire.message("F", b"\0\0\0\x05\0\0")
    answer = (
        wire.message("3") + wire.message("n") + wire.message("I") + wire.message("W", b"\1\0\0")
    )
    answer += wire.message("S", b"TimeZone\0UTC\0") + wire.message("V", wire.value(b"r"))
    answer += wire.message("A", b"\0\0\0\x07chan\0hello\0") + wire.message("R", b"\0\0\0\0")
    answer += wire.message("G", b"\0\0\0") + wire.message("c") + wire.ready("?")
    lines = transcribe(entries((REQUEST, request), (ANSWER, answer)))
    assert [(line.kind, line.text) for line in lines] == [
        ("flush", ""),
        ("close", "statement name"),
        ("copy done", ""),
        ("function call", "of function oid 5"),
        ("close complete", ""),
        ("no data", ""),
        ("empty query", ""),
        ("copy both", "binary format"),
        ("parameter", "TimeZone = UTC"),
        ("function result", "r"),
        ("notification", "on chan from process 7: hello"),
        ("login", "message 'R'"),
        ("copy in", "text format"),
        ("copy done", ""),
        ("ready", "unknown status '?'"),
    ]


def test_garbage_is_called_garbage_and_the_rest_goes_on() -> None:
    made = entries(
        (REQUEST, b"GET / HTTP/1.1\r\n"),
        (REQUEST, b"more"),
        (ANSWER, wire.row(b"a") + b"\0\0\0\0\0\0"),
        (EntryKind.JUDGED, b"\xff{"),
        (EntryKind.DECIDED, b"[1]"),
        (EntryKind.CLOSED, {"reason": 1}),
    )
    assert said(made) == [
        ("request", "garbage", "16 bytes that are no PostgreSQL messages"),
        ("request", "garbage", "4 bytes that are no PostgreSQL messages"),
        ("answer", "rows", "1 row"),
        ("answer", "garbage", "6 bytes that are no PostgreSQL messages"),
        ("gate", "judged", "(2 bytes that are no JSON object)"),
        ("gate", "decided", "(3 bytes that are no JSON object)"),
        ("gate", "closed", ""),
    ]


def test_a_message_that_is_not_what_its_type_says_is_malformed() -> None:
    assert said(entries((REQUEST, wire.message("Q", b"no end") + wire.query("ok")))) == [
        ("request", "malformed", "a message 'Q' of 6 bytes"),
        ("request", "query", "ok"),
    ]


def test_an_unfinished_message_is_named_at_the_end() -> None:
    made = entries((REQUEST, wire.query("SELECT 1")[:-3]), (ANSWER, wire.ready()[:2]))
    assert said(made) == [
        ("answer", "incomplete", "11 bytes of an unfinished request"),
        ("answer", "incomplete", "2 bytes of an unfinished answer"),
    ]


def test_a_message_too_long_to_keep_is_skipped_whole() -> None:
    size = (16 << 20) + 100
    data = wire.query("x" * size)
    half = len(data) // 2
    made = entries((REQUEST, data[:half]), (REQUEST, data[half:] + wire.query("next")))
    assert said(made) == [
        ("request", "too long", f"a message 'Q' of {size + 1} bytes"),
        ("request", "query", "next"),
    ]


def test_an_unknown_protocol_is_told_in_bytes() -> None:
    made = entries(
        (EntryKind.OPENED, wire.OPENED | {"protocol": "gopher"}), (REQUEST, b"abc"), (ANSWER, b"d")
    )
    assert said(made)[1:] == [("request", "bytes", "3 bytes"), ("answer", "bytes", "1 bytes")]


def test_a_preview_is_routine_and_says_so() -> None:
    (line,) = transcribe(entries((EntryKind.JUDGED, wire.judged("allow", preview=True))))
    assert line.routine
    assert ": preview, allow by rule" in line.text


def test_resources_and_facts_of_another_shape_do_no_harm() -> None:
    made = entries(
        (EntryKind.JUDGED, wire.judged("allow", resources=["public.x"], facts=None)),
        (EntryKind.JUDGED, wire.judged("allow", resources=7, action=None)),
        (EntryKind.OPENED, {"target": {"name": "t"}, "relay": "relay-1"}),
        (EntryKind.HELD, {"approval_id": "a", "hold_until": "soon"}),
        (EntryKind.HELD, {"approval_id": "a", "hold_until": 10**30}),
    )
    assert [text.partition(":")[0] for _, _, text in said(made)] == [
        "delete public.x [destroy]",
        "? [destroy where=absent]",
        "somebody to t through relay-1",
        "for approval a until soon",
        f"for approval a until {10**30}",
    ]


SESSION_BYTES = (
    wire.parse("s", "SELECT $1", 25)
    + wire.bind("", "s", [b"x", None])
    + wire.describe("P")
    + wire.execute()
    + wire.SYNC,
    wire.message("1")
    + wire.message("2")
    + wire.columns(("a", 25, 0))
    + wire.row(b"x")
    + wire.complete("SELECT 1")
    + wire.ready(),
)


@given(st.lists(st.integers(0, 200), max_size=20))
def test_however_the_bytes_were_recorded_the_same_was_said(cuts: list[int]) -> None:
    def pieces(data: bytes) -> list[bytes]:
        places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
        return [data[a:b] for a, b in pairwise(places)]

    request, answer = SESSION_BYTES
    made = entries(
        *[(REQUEST, piece) for piece in pieces(request)],
        *[(ANSWER, piece) for piece in pieces(answer)],
    )
    whole = entries((REQUEST, request), (ANSWER, answer))
    assert [(line.kind, line.text, line.table) for line in transcribe(made)] == [
        (line.kind, line.text, line.table) for line in transcribe(whole)
    ]


@given(st.lists(st.tuples(st.sampled_from(list(EntryKind)), st.binary(max_size=200)), max_size=10))
def test_no_content_makes_it_fail(parts: list[tuple[EntryKind, bytes]]) -> None:
    for line in transcribe(entries(*parts)):
        assert line.kind


@given(
    st.lists(
        st.tuples(
            st.sampled_from([REQUEST, ANSWER]),
            st.sampled_from("QPBEDCSHXdcfFpTINAZK123ntsGWVRv"),
            st.binary(max_size=60),
        ),
        max_size=20,
    )
)
def test_no_message_makes_it_fail(parts: list[tuple[EntryKind, str, bytes]]) -> None:
    made = entries(*[(kind, wire.message(code, payload)) for kind, code, payload in parts])
    for line in transcribe(made, rows=None):
        assert line.kind
