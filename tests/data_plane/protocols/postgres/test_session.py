"""A session against a target of bytes, also one that misbehaves."""

from __future__ import annotations

import struct

import pytest

from data_plane.conversation import (
    Ask,
    CancelAsked,
    Close,
    Closed,
    Decided,
    Ended,
    Held,
    Received,
    Send,
    SendAside,
    Side,
)
from data_plane.protocols.postgres.conversation import PostgresConversation
from protos.vocabulary import Outcome, Verdict
from tests.conformance.playbook import Playbook
from tests.conformance.scenarios.postgres import (
    Postgres,
    catalogue,
    complete,
    error,
    fields,
    message,
    packet,
    query,
    read,
    ready,
    row,
    settings,
)

ALLOW = Decided(Verdict(Outcome.ALLOW, "allowed_by_rule", ""))
HELD = Held("ap-1", "https://gw/ap-1", "2030-01-01T00:00:00Z", 9, "")
EXPIRED = Decided(Verdict(Outcome.REFUSE, "hold_expired", "nobody answered", "p/r", None, "ap-1"))


def session(masked: bool = True) -> Playbook:
    scenario = Postgres(masked)
    play = Playbook(PostgresConversation())
    play.feed(*scenario.greet(), *scenario.enter())
    for sent in play.sent.values():
        sent.clear()
    return play


def client(data: bytes) -> Received:
    return Received(Side.CLIENT, data)


def target(data: bytes) -> Received:
    return Received(Side.TARGET, data)


def kinds(play: Playbook) -> bytes:
    return b"".join(kind for kind, _ in read(bytes(play.sent[Side.CLIENT])))


def digest(play: Playbook) -> bytes:
    return next(
        effect.operation.digest for effect in reversed(play.seen) if isinstance(effect, Ask)
    )


@pytest.mark.parametrize(
    "answer",
    [
        message(b"W", b"\0\0\0"),
        message(b"1"),
        message(b"V", b""),
        message(b"t", b"\0\0"),
        ready(b"X"),
        ready(b"II"),
        b"D\0\0\0\5\0",
        b"Z\0\0\0\1",
        b"T\x7f\xff\xff\xff",
        row(b"1"),
        message(b"H", b"\0\0\0"),
        fields(("email", 16400, 2, 25)) + row(b"1", b"2"),
        ready() + ready(),
        ready() + error("XX000", "late"),
    ],
)
def test_a_target_that_breaks_the_protocol_ends_the_session(answer: bytes) -> None:
    play = session()
    play.feed(client(query("SELECT id, email FROM customers")), ALLOW, target(answer))
    assert isinstance(play.seen[-1], Close)
    assert kinds(play)[-1:] == b"E"
    assert not play.feed(target(ready()), client(query("SELECT 1")))


def test_a_copy_that_was_not_asked_for_ends_the_session() -> None:
    for answer in (message(b"H", b"\0\0\0"), message(b"d", b"x\n")):
        play = session()
        play.feed(client(query("COPY customers FROM STDIN")), ALLOW, target(answer))
        assert isinstance(play.seen[-1], Close)


def test_a_fatal_error_of_the_target_is_passed_on_and_ends_the_session() -> None:
    play = session()
    play.feed(target(error("57P01", "terminating", "FATAL")))
    assert kinds(play) == b"E"
    assert play.feed(Closed(Side.TARGET)) == [Close("target ended the session")]


def test_notices_of_a_hold_wait_for_the_end_of_a_row() -> None:
    play = session(masked=False)
    play.feed(client(query("SELECT id FROM orders") * 2), ALLOW)
    first = fields(("id", 16410, 1, 23)) + row(b"x" * 100)
    play.feed(target(first[:-40]), ALLOW, client(query("DELETE FROM orders")), HELD)
    assert b"ap-1" not in play.sent[Side.CLIENT]
    play.feed(target(first[-40:] + complete("SELECT 1") + ready()))
    assert kinds(play) == b"TDNCZ"


def test_an_end_in_the_middle_of_a_row_says_nothing_more() -> None:
    play = session(masked=False)
    play.feed(client(query("SELECT id FROM orders")), ALLOW)
    play.feed(target(fields(("id", 16410, 1, 23)) + row(b"x" * 100)[:-40]))
    before = bytes(play.sent[Side.CLIENT])
    effects = play.feed(Ended("revoked", "access was revoked"))
    assert [type(effect) for effect in effects] == [SendAside, Close]
    assert bytes(play.sent[Side.CLIENT]) == before


def test_an_end_cancels_what_runs_with_the_targets_own_key() -> None:
    play = session()
    play.feed(client(query("SELECT id FROM orders")), ALLOW)
    cancel = SendAside(packet(80877102, struct.pack("!ii", 42, 4242)))
    assert play.feed(CancelAsked()) == [cancel]
    assert cancel in play.feed(Ended("revoked", "access was revoked"))
    assert session().feed(CancelAsked()) == []


def test_a_hold_that_ran_out_says_how_to_go_on() -> None:
    play = session()
    play.feed(client(query("DELETE FROM orders")), HELD, EXPIRED)
    text = bytes(play.sent[Side.CLIENT])
    assert b"approval ap-1" in text
    assert b'"retry":true' in text
    assert b"Send the same statement again" in text
    before = digest(play)
    play.feed(client(query("DELETE FROM orders")))
    assert digest(play) == before


def test_the_digest_covers_text_transaction_and_values() -> None:
    seen = set()
    for frames in (
        query("DELETE FROM orders"),
        query("DELETE FROM orders "),
        message(b"P", b"\0DELETE FROM orders\0\0\0") + message(b"S"),
        message(b"P", b"\0DELETE FROM orders\0\0\1\0\0\0\x17") + message(b"S"),
    ):
        play = session()
        play.feed(client(frames))
        seen.add(digest(play))
    play = session()
    play.feed(client(query("BEGIN")), ALLOW, target(complete("BEGIN") + ready(b"T")))
    play.feed(client(query("DELETE FROM orders")))
    seen.add(digest(play))
    for value in (b"1", b"2"):
        for rows in (0, 5):
            play = session()
            bind = b"\0\0\0\0\0\1" + struct.pack("!i", 1) + value + b"\0\0"
            play.feed(client(message(b"P", b"\0DELETE FROM orders WHERE id = $1\0\0\0")), ALLOW)
            play.feed(client(message(b"B", bind) + message(b"E", b"\0" + struct.pack("!i", rows))))
            seen.add(digest(play))
    assert len(seen) == 9


def test_the_values_of_a_bind_are_shown_to_whoever_approves() -> None:
    play = session()
    parse = message(b"P", b"\0DELETE FROM orders WHERE id = $1\0\0\2\0\0\0\x17\0\0\0\x19")
    values = [struct.pack("!i", 7), b"it's", None, b"\xff", b"x" * 300]
    body = b"\0\0" + struct.pack("!h5h", 5, 1, 0, 0, 1, 0) + struct.pack("!h", 5)
    for value in values:
        body += struct.pack("!i", -1 if value is None else len(value)) + (value or b"")
    play.feed(client(parse), ALLOW)
    play.feed(client(message(b"B", body + b"\0\0") + message(b"E", b"\0\0\0\0\0")))
    asked = play.seen[-1]
    assert isinstance(asked, Ask)
    shown = asked.operation.facts["parameters"]
    assert shown.startswith("$1 = 7, $2 = 'it''s', $3 = NULL, $4 = \\xff, $5 = 'xxx")
    assert shown.endswith("...")


def test_a_table_that_is_not_known_is_looked_up_once() -> None:
    play = session()
    effects = play.feed(client(query("SELECT id FROM newcomer")))
    assert [type(effect) for effect in effects] == [Send]
    assert b"pg_class" in play.sent[Side.TARGET]
    assert play.conversation.backlog > 0
    effects = play.feed(target(settings() + catalogue() + ready()))
    assert [type(effect) for effect in effects] == [Ask]


def test_what_changes_the_session_is_asked_for_before_the_client_goes_on() -> None:
    play = session()
    play.feed(client(query("SET search_path TO other") + query("SELECT id FROM t")), ALLOW)
    assert play.conversation.backlog > 0
    play.sent[Side.TARGET].clear()
    play.feed(target(complete("SET") + ready()))
    assert bytes(play.sent[Side.TARGET]).startswith(b"Q")
    assert b"SHOW search_path" in play.sent[Side.TARGET]
    assert kinds(play) == b"C"
    play.feed(target(settings(b"other") + ready()))
    assert kinds(play) == b"CZ"


def test_a_large_copy_goes_through_in_pieces() -> None:
    play = session(masked=False)
    play.feed(client(query("COPY orders FROM STDIN")), ALLOW, target(message(b"G", b"\0\0\0")))
    play.sent[Side.TARGET].clear()
    head = b"d" + struct.pack("!i", 4 + (1 << 29))
    for piece in (head + b"x" * 100, b"x" * 1000):
        effects = play.feed(client(piece))
        assert effects == [Send(Side.TARGET, piece)]
        assert play.conversation.backlog == 0
    play = session(masked=False)
    play.feed(client(message(b"P", b"\0DROP TABLE orders\0\0\0")))
    play.feed(Decided(Verdict(Outcome.REFUSE, "x", "no")), client(head + b"x"), client(b"x" * 9))
    assert not play.sent[Side.TARGET]
    assert play.conversation.backlog == 0


def test_copy_lines_that_are_cut_anywhere_are_masked_whole() -> None:
    play = session()
    play.feed(client(query("COPY customers TO STDOUT")), ALLOW)
    play.feed(target(message(b"H", b"\0\0\2\0\0\0\0")))
    for piece in (b"1\tann@exam", b"ple.com\n2\tbob@", b"example.com"):
        play.feed(target(message(b"d", piece)))
    play.feed(target(message(b"c") + complete("COPY 2") + ready()))
    data = b"".join(body for kind, body in read(bytes(play.sent[Side.CLIENT])) if kind == b"d")
    assert data == b"1\t****\n2\t****\n"
    assert kinds(play)[-3:] == b"cCZ"


def test_a_row_without_a_description_never_passes() -> None:
    play = session()
    frames = message(b"P", b"s\0SELECT email FROM customers\0\0\0") + message(b"S")
    play.feed(client(frames), ALLOW, target(message(b"1") + ready()))
    play.feed(client(message(b"B", b"\0s\0" + b"\0" * 6) + message(b"E", b"\0" * 5)), ALLOW)
    sent = bytes(play.sent[Side.TARGET])
    assert message(b"D", b"P\0") in sent
    play.feed(target(message(b"2") + message(b"n") + row(b"ann@example.com")))
    assert isinstance(play.seen[-1], Close)
    assert b"ann@" not in play.sent[Side.CLIENT]


def test_discard_all_forgets_every_name() -> None:
    play = session(masked=False)
    frames = message(b"P", b"s\0SELECT 1\0\0\0") + message(b"S")
    play.feed(client(frames), ALLOW, target(message(b"1") + ready()))
    play.feed(client(query("DISCARD ALL")), ALLOW)
    play.feed(target(complete("DISCARD ALL") + ready()), target(settings() + catalogue() + ready()))
    play.sent[Side.CLIENT].clear()
    play.feed(client(message(b"B", b"\0s\0" + b"\0" * 6)))
    assert b"C26000\0" in play.sent[Side.CLIENT]
