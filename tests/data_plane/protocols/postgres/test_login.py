"""The login of both sides, byte for byte."""

from __future__ import annotations

import struct

import pytest

from data_plane.conversation import (
    Authenticate,
    CancelAsked,
    CancelSession,
    Close,
    Closed,
    Decided,
    Dial,
    Dialed,
    Granted,
    Received,
    Secured,
    Send,
    Side,
    StartTLS,
)
from data_plane.protocols.postgres.conversation import PostgresConversation
from data_plane.protocols.postgres.login import read_search_path
from protos.vocabulary import Credential, MaskingRule, Outcome, Target, Transform, Verdict
from tests.conformance.playbook import Playbook
from tests.conformance.scenarios.postgres import (
    PASSWORD,
    SSL_REQUEST,
    Postgres,
    catalogue,
    error,
    greeting,
    message,
    packet,
    parameters,
    read,
    ready,
    settings,
)

NONCE = "fixed-nonce"


def fresh() -> Playbook:
    return Playbook(PostgresConversation(nonce=lambda: NONCE))


def secured() -> Playbook:
    play = fresh()
    play.feed(Received(Side.CLIENT, SSL_REQUEST), Secured(Side.CLIENT))
    play.sent[Side.CLIENT].clear()
    return play


def started(**values: str) -> Playbook:
    play = secured()
    body = parameters(**{"user": "agent", "database": "shop", **values})
    play.feed(Received(Side.CLIENT, packet(3 << 16, body)))
    return play


def granted(tls: str = "disable", **values: str) -> Playbook:
    play = started(**values)
    play.feed(Received(Side.CLIENT, message(b"p", b"token\0")))
    target = Target("shop", "postgres", "db", 5432, database="main", tls=tls)
    play.feed(Granted(target, Credential("gateway_role", PASSWORD), (), b"\0\0\0\7rlay"))
    play.feed(Dialed())
    return play


def told(play: Playbook) -> bytes:
    return read(bytes(play.sent[Side.CLIENT]).removeprefix(b"S"))[-1][1]


def test_the_whole_login_step_by_step() -> None:
    scenario = Postgres()
    play = fresh()
    play >> Received(Side.CLIENT, packet(80877104)) << Send(Side.CLIENT, b"N")
    play >> Received(Side.CLIENT, SSL_REQUEST) << Send(Side.CLIENT, b"S") << StartTLS(Side.CLIENT)
    play >> Secured(Side.CLIENT)
    start = packet(3 << 16, parameters(user="agent", database="shop/other"))
    play >> Received(Side.CLIENT, start) << Send(Side.CLIENT, message(b"R", b"\0\0\0\3"))
    play >> Received(Side.CLIENT, message(b"p", b"the-token\0"))
    play << Authenticate("shop", "the-token", "other")
    play >> scenario.granted << Dial()
    sent = packet(
        3 << 16, parameters(user="gateway_role", database="other", client_encoding="UTF8")
    )
    play >> Dialed() << Send(Side.TARGET, sent, secret=True)
    play >> Received(Side.TARGET, greeting()) << Send
    play >> Received(Side.TARGET, settings() + catalogue() + ready())
    play << (lambda effect: isinstance(effect, Send) and effect.secret)
    play.done()
    kinds = read(bytes(play.sent[Side.CLIENT])[2:])
    assert [kind for kind, _ in kinds] == [b"R", b"R", b"S", b"S", b"S", b"S", b"K", b"Z"]
    assert (b"K", b"\0\0\0\7rlay") in kinds
    assert (b"S", b"session_authorization\0agent\0") in kinds


def test_clear_bytes_behind_a_request_for_tls_are_an_attack() -> None:
    play = fresh()
    play.feed(Received(Side.CLIENT, SSL_REQUEST + b"x"))
    assert isinstance(play.seen[-1], Close)
    assert not play.sent[Side.CLIENT]
    play = fresh()
    play.feed(Received(Side.CLIENT, SSL_REQUEST))
    assert play.feed(Received(Side.CLIENT, b"x")) == [
        Close("bytes in clear behind a request for TLS")
    ]


@pytest.mark.parametrize("secure", [False, True])
def test_a_cancel_request_is_passed_with_its_key_and_never_answered(secure: bool) -> None:
    play = secured() if secure else fresh()
    play >> Received(Side.CLIENT, packet(80877102, b"12345678"))
    play << CancelSession(b"12345678") << Close
    play.done()
    play = fresh()
    play >> Received(Side.CLIENT, packet(80877102, b"short")) << Close
    play.done()


def test_tls_is_required() -> None:
    play = fresh()
    play.feed(Received(Side.CLIENT, packet(3 << 16, parameters(user="a", database="b"))))
    assert b"C28000\0" in told(play)
    assert b"TLS is required" in told(play)


@pytest.mark.parametrize("code", [2 << 16, 4 << 16, 80877103])
def test_other_versions_of_the_protocol_are_refused(code: int) -> None:
    play = secured()
    play.feed(Received(Side.CLIENT, packet(code, b"\0")))
    assert b"C0A000\0" in told(play)


def test_a_newer_minor_version_is_negotiated_down() -> None:
    play = secured()
    body = parameters(**{"user": "a", "database": "b", "_pq_.wish": "1"})
    play.feed(Received(Side.CLIENT, packet((3 << 16) | 2, body)))
    kinds = read(bytes(play.sent[Side.CLIENT]).replace(b"v", b"N", 1))
    assert kinds[0] == (b"N", struct.pack("!ii", 3 << 16, 1) + b"_pq_.wish\0")
    assert kinds[1][0] == b"R"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("replication", "database"),
        ("session_preload_libraries", "x"),
        ("client_encoding", "LATIN1"),
        ("search_path", "a;b"),
        ("search_path", "a,"),
        ("default_transaction_read_only", "off"),
        ("standard_conforming_strings", "off"),
        ("options", "-c role=postgres"),
        ("options", "-d 5"),
        ("options", "-c"),
        ("options", "-c novalue"),
        ("options", "trailing\\"),
        ("role", "postgres"),
    ],
)
def test_a_parameter_that_is_not_allowed_refuses_the_login(name: str, value: str) -> None:
    play = started(**{name: value})
    assert b"C0A000\0" in told(play)
    assert isinstance(play.seen[-1], Close)


def test_allowed_parameters_reach_the_target() -> None:
    play = granted(
        application_name="tool",
        datestyle="ISO",
        search_path='"$user", Public',
        client_encoding="'utf-8'",
        options="-c statement_timeout=5s --lock-timeout=1s -cextra_float_digits=2",
        default_transaction_read_only="on",
    )
    sent = bytes(play.sent[Side.TARGET])
    for pair in (
        b"application_name\0tool\0",
        b"DateStyle\0ISO\0",
        b'search_path\0"$user", Public\0',
        b"statement_timeout\x005s\0",
        b"lock_timeout\x001s\0",
        b"extra_float_digits\x002\0",
        b"database\0main\0",
        b"default_transaction_read_only\0on\0",
    ):
        assert pair in sent


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ('"$user", public', ("$user", "public")),
        ("A, b", ("a", "b")),
        ('"A b"', ("A b",)),
        ("", ()),
        ('""', ()),
        ("a b", None),
        ("a,,b", None),
    ],
)
def test_a_search_path_is_read_as_the_server_does(value: str, path: tuple[str, ...] | None) -> None:
    assert read_search_path(value) == path


@pytest.mark.parametrize(
    "body",
    [
        b"user\0a\0user\0b\0\0",
        b"user\0a",
        b"user\0\xff\0\0",
        b"user\0a\0\0more",
        parameters(user="", database=""),
        parameters(user="a", database="/x"),
    ],
)
def test_a_malformed_start_is_refused(body: bytes) -> None:
    play = secured()
    play.feed(Received(Side.CLIENT, packet(3 << 16, body)))
    assert isinstance(play.seen[-1], Close)
    assert read(bytes(play.sent[Side.CLIENT]))[0][0] == b"E"


@pytest.mark.parametrize(
    "answer",
    [
        message(b"Q", b"select 1\0"),
        message(b"p", b"no end"),
        message(b"p", b"two\0ends\0"),
        b"p\x7f\xff\xff\xff",
        b"p\0\0\0\1",
    ],
)
def test_a_password_that_is_none_ends_the_login(answer: bytes) -> None:
    play = started()
    play.feed(Received(Side.CLIENT, answer))
    assert b"C08P01\0" in told(play)


def test_a_client_may_leave_instead_of_giving_a_password() -> None:
    play = started()
    assert play.feed(Received(Side.CLIENT, message(b"X"))) == [Close("client terminated")]


def test_a_password_that_is_no_ascii_is_an_empty_token() -> None:
    play = started()
    play.feed(Received(Side.CLIENT, message(b"p", b"\xff\0")))
    assert play.seen[-1] == Authenticate("shop", "", "")


def test_masking_that_cannot_be_obeyed_refuses_the_login() -> None:
    play = started()
    play.feed(Received(Side.CLIENT, message(b"p", b"t\0")))
    rule = MaskingRule("p", Transform.PSEUDONYM, columns=("a.b.c",))
    play.feed(Granted(Target("t", "postgres", "h", 1), Credential("u", "p"), (rule,)))
    assert b"masking_invalid" in told(play)


def test_the_target_must_offer_tls_with_one_byte() -> None:
    for reply in (b"N", b"SS", b"E"):
        play = granted(tls="require")
        assert bytes(play.sent[Side.TARGET]) == SSL_REQUEST
        play.feed(Received(Side.TARGET, reply))
        assert b"C08001\0" in told(play)
        assert bytes(play.sent[Side.TARGET]) == SSL_REQUEST
    play = granted(tls="verify-full")
    assert play.feed(Received(Side.TARGET, b"S")) == [StartTLS(Side.TARGET)]
    play.feed(Secured(Side.TARGET))
    assert b"gateway_role" in play.sent[Side.TARGET]
    play.sent[Side.TARGET].clear()
    play.feed(Received(Side.TARGET, message(b"R", b"\0\0\0\3")))
    assert bytes(play.sent[Side.TARGET]) == message(b"p", PASSWORD.encode() + b"\0")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (message(b"R", b"\0\0\0\3"), b"without TLS"),
        (message(b"R", b"\0\0\0\5salt"), b"MD5"),
        (message(b"R", b"\0\0\0\7"), b"not supported"),
        (message(b"R", b"\0\0\0\nSCRAM-SHA-1\0\0"), b"no SCRAM-SHA-256"),
        (message(b"R", b"\0\0\0\x0b"), b"not supported"),
        (message(b"R", b"\0"), b"broke the protocol"),
        (message(b"Z", b"I"), b"broke the protocol"),
        (message(b"R", b"\0\0\0\0") + message(b"D", b""), b"broke the protocol"),
        (message(b"R", b"\0\0\0\0") + ready(b"T"), b"broke the protocol"),
        (b"R\0\0\0\1", b"broke the protocol"),
        (b"R\x7f\xff\xff\xff", b"broke the protocol"),
        (error("28P01", 'password of "gateway_role" is wrong', "FATAL"), b"own credential"),
        (error("53300", "too many gateway_role", "FATAL"), b"no room"),
        (error("3D000", "no database gateway_role", "FATAL"), b"no such database"),
        (error("57P03", "starting gateway_role", "FATAL"), b"starting up"),
        (error("XX000", "gateway_role", "FATAL"), b"refused the gateway"),
    ],
)
def test_a_target_that_does_not_let_the_gateway_in_is_told_without_its_role(
    answer: bytes, said: bytes
) -> None:
    play = granted()
    play.feed(Received(Side.TARGET, answer))
    assert said in told(play)
    assert b"gateway_role" not in told(play)
    assert b"target_login_failed" in told(play)
    assert isinstance(play.seen[-1], Close)


def scram(play: Playbook, *answers: bytes) -> None:
    play.feed(Received(Side.TARGET, message(b"R", b"\0\0\0\nSCRAM-SHA-256\0\0")))
    for answer in answers:
        play.feed(Received(Side.TARGET, answer))


def test_a_target_that_skips_its_own_proof_is_refused() -> None:
    first = message(b"R", b"\0\0\0\x0br=" + NONCE.encode() + b"x,s=AAAA,i=1")
    for answers in (
        (first, message(b"R", b"\0\0\0\0")),
        (message(b"R", b"\0\0\0\0"),),
        (first, message(b"R", b"\0\0\0\x0cv=AAAA")),
        (message(b"R", b"\0\0\0\x0br=bad"),),
    ):
        play = granted()
        scram(play, *answers)
        assert b"target_login_failed" in told(play)


def test_a_side_that_hangs_up_during_the_login_ends_it() -> None:
    play = granted()
    play.feed(Closed(Side.TARGET))
    assert b"target_login_failed" in told(play)
    play = granted()
    assert play.feed(Closed(Side.CLIENT)) == [Close("client hung up")]


def test_events_at_the_wrong_time_change_nothing() -> None:
    play = fresh()
    scenario = Postgres()
    verdict = Decided(Verdict(Outcome.ALLOW, "x", ""))
    assert not play.feed(scenario.granted, Dialed(), Secured(Side.TARGET), verdict, CancelAsked())
    assert isinstance(play.feed(Received(Side.TARGET, b"x"))[-1], Close)


def test_nothing_is_taken_before_the_session_is_granted_and_on_record() -> None:
    scenario = Postgres()
    apart = fresh()
    apart.feed(*scenario.greet(), Received(Side.CLIENT, scenario.harmless))
    *start, password = scenario.greet()
    assert isinstance(password, Received)
    together = fresh()
    together.feed(*start, Received(Side.CLIENT, password.data + scenario.harmless))
    for play in (apart, together):
        assert isinstance(play.seen[-1], Close)
        said = b"".join(e.data for e in play.seen if isinstance(e, Send) and e.side is Side.CLIENT)
        assert b"08P01" in said
        assert not play.feed(scenario.granted)


def test_what_a_client_sends_ahead_of_the_target_waits_for_it() -> None:
    scenario = Postgres()
    play = fresh()
    granted, *rest = scenario.enter()
    play.feed(*scenario.greet(), granted, Received(Side.CLIENT, scenario.harmless))
    assert play.conversation.backlog == len(scenario.harmless)
    effects = play.feed(*rest)
    assert [type(effect).__name__ for effect in effects[-2:]] == ["Send", "Ask"]
    assert play.conversation.backlog == 0


def test_a_target_whose_catalogue_cannot_be_read_ends_the_session() -> None:
    scenario = Postgres()
    for answer in (error("42501", "denied"), ready(b"E"), message(b"C", b"x\0") + message(b"s")):
        play = fresh()
        play.feed(*scenario.greet(), *scenario.enter()[:-1], Received(Side.TARGET, answer))
        assert isinstance(play.seen[-1], Close)
