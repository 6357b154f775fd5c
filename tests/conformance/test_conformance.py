"""What every protocol must keep. A protocol takes part by its scenario and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_plane.conversation import (
    Ask,
    Authenticate,
    CancelAsked,
    Close,
    Closed,
    Decided,
    Denied,
    Ended,
    Held,
    Received,
    Send,
    Side,
    Unreachable,
    Withdraw,
)
from data_plane.protocols import PROTOCOLS
from protos.vocabulary import Outcome, Verdict
from tests.conformance.playbook import Playbook
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios.postgres import Postgres

SCENARIOS: dict[str, Scenario] = {"postgres": Postgres()}
ALLOW = Decided(Verdict(Outcome.ALLOW, "allowed_by_rule", ""))
REFUSE = Decided(Verdict(Outcome.REFUSE, "refused_by_rule", "it may not", "policy/rule"))
HELD = Held("ap-1", "https://gateway/ap-1", "2030-01-01T00:00:00Z", 299, "needs a human")

every_protocol = pytest.mark.parametrize("name", sorted(PROTOCOLS))


def session(name: str) -> tuple[Playbook, Scenario]:
    """A playbook in which a session has just begun."""
    scenario = SCENARIOS[name]
    play = Playbook(PROTOCOLS[name].converse())
    effects = play.feed(*scenario.greet())
    asked = effects[-1]
    assert isinstance(asked, Authenticate)
    assert asked.token == scenario.token
    play.feed(*scenario.enter())
    for sent in play.sent.values():
        sent.clear()
    return play, scenario


def asks(play: Playbook) -> int:
    return sum(isinstance(effect, Ask) for effect in play.seen)


@every_protocol
def test_every_protocol_has_a_scenario(name: str) -> None:
    assert SCENARIOS[name].name == PROTOCOLS[name].name == name


@every_protocol
def test_nothing_reaches_the_target_before_it_is_allowed(name: str) -> None:
    play, scenario = session(name)
    play.feed(Received(Side.CLIENT, scenario.harmful), HELD, HELD)
    play.feed(Received(Side.CLIENT, scenario.harmless))
    assert asks(play) == 1
    assert not play.sent[Side.TARGET]
    play.feed(ALLOW)
    assert bytes(play.sent[Side.TARGET]) == scenario.harmful


@every_protocol
def test_a_refusal_is_native_and_the_connection_stays_usable(name: str) -> None:
    play, scenario = session(name)
    play.feed(Received(Side.CLIENT, scenario.harmful), REFUSE)
    said = scenario.read(bytes(play.sent[Side.CLIENT]))
    assert (said.refusals, said.complete) == (1, 1)
    assert b"policy/rule" in said.text
    assert b'"code":"refused_by_rule"' in said.text
    assert not play.sent[Side.TARGET]
    play.feed(Received(Side.CLIENT, scenario.harmless), ALLOW)
    play.feed(Received(Side.TARGET, scenario.answer))
    assert bytes(play.sent[Side.TARGET]) == scenario.harmless
    assert scenario.read(bytes(play.sent[Side.CLIENT])).complete == 2


@every_protocol
def test_nothing_unmasked_is_sent_or_recorded(name: str) -> None:
    play, scenario = session(name)
    play.feed(Received(Side.CLIENT, scenario.harmless), ALLOW)
    play.feed(Received(Side.TARGET, scenario.answer))
    assert scenario.read(bytes(play.sent[Side.CLIENT])).complete == 1
    assert scenario.secret not in play.sent[Side.CLIENT] + play.recorded


@every_protocol
def test_the_credential_and_the_token_stay_on_their_side(name: str) -> None:
    scenario = SCENARIOS[name]
    play = Playbook(PROTOCOLS[name].converse())
    play.feed(*scenario.greet(), *scenario.enter())
    play.feed(Received(Side.CLIENT, scenario.harmless), ALLOW)
    play.feed(Received(Side.TARGET, scenario.answer), Ended("revoked", "access was revoked"))
    password = scenario.granted.credential.password.encode()
    assert password not in play.sent[Side.CLIENT] + play.recorded
    assert scenario.token.encode() not in play.sent[Side.TARGET] + play.recorded
    for effect in play.seen:
        if isinstance(effect, Send) and effect.side is Side.TARGET and password in effect.data:
            assert effect.secret
        assert password.decode() not in repr(effect)
        assert scenario.token not in repr(effect)


@every_protocol
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_split_of_the_stream_gives_the_same_bytes(name: str, data: st.DataObject) -> None:
    whole, scenario = session(name)
    split, _ = session(name)
    stream = scenario.harmless * 2 + scenario.harmful + scenario.harmless
    answers = scenario.answer * 3
    play_all(whole, stream, answers, [])
    cuts = data.draw(st.lists(st.integers(1, len(answers) + len(stream)), max_size=12))
    play_all(split, stream, answers, sorted(cuts))
    assert whole.sent == split.sent
    assert whole.recorded == split.recorded
    assert asks(whole) == asks(split) == 4
    assert scenario.read(bytes(split.sent[Side.CLIENT])).complete == 4


def play_all(play: Playbook, stream: bytes, answers: bytes, cuts: list[int]) -> None:
    """Play a client's stream, judged as it comes, then the target's answers."""
    verdicts = iter((ALLOW, ALLOW, ALLOW, ALLOW))
    for side, data in ((Side.CLIENT, stream), (Side.TARGET, answers)):
        at = 0
        for cut in [*(c for c in cuts if c < len(data)), len(data)]:
            before = asks(play)
            play.feed(Received(side, data[at:cut]))
            at = cut
            while asks(play) > before:
                before = asks(play)
                play.feed(next(verdicts))
    play.feed(Received(Side.TARGET, answers[: len(answers) // 3]))


@every_protocol
def test_an_unknown_frame_ends_the_session(name: str) -> None:
    play, scenario = session(name)
    play.feed(Received(Side.CLIENT, scenario.unknown_frame + scenario.harmless))
    assert scenario.read(bytes(play.sent[Side.CLIENT])).refusals == 1
    assert isinstance(play.seen[-1], Close)
    assert not play.sent[Side.TARGET]
    assert not play.feed(Received(Side.CLIENT, scenario.harmless))


@every_protocol
def test_a_frame_that_is_too_large_is_refused_at_its_header(name: str) -> None:
    play, scenario = session(name)
    play.feed(Received(Side.CLIENT, scenario.oversized))
    assert scenario.read(bytes(play.sent[Side.CLIENT])).refusals == 1
    assert isinstance(play.seen[-1], Close)


@every_protocol
def test_the_backlog_is_told_while_a_verdict_is_awaited(name: str) -> None:
    play, scenario = session(name)
    assert play.conversation.backlog == 0
    play.feed(Received(Side.CLIENT, scenario.harmful + scenario.harmless))
    assert play.conversation.backlog == len(scenario.harmless)
    play.feed(ALLOW, ALLOW)
    assert play.conversation.backlog == 0


@every_protocol
def test_a_hold_is_told_to_the_client_in_its_own_protocol(name: str) -> None:
    play, scenario = session(name)
    play.feed(Received(Side.CLIENT, scenario.harmful), HELD)
    said = scenario.read(bytes(play.sent[Side.CLIENT]))
    for word in (b"ap-1", b"https://gateway/ap-1", b"2030-01-01T00:00:00Z"):
        assert word in said.text
    assert (said.refusals, said.complete) == (0, 0)


@every_protocol
def test_a_hold_is_not_told_once_it_is_over(name: str) -> None:
    play, scenario = session(name)
    play.feed(Received(Side.CLIENT, scenario.harmful), HELD, ALLOW)
    play.sent[Side.CLIENT].clear()
    play.feed(HELD)
    assert not play.sent[Side.CLIENT]


@every_protocol
def test_a_client_that_hangs_up_withdraws_what_is_held(name: str) -> None:
    play, scenario = session(name)
    play.feed(Received(Side.CLIENT, scenario.harmful), HELD)
    effects = play.feed(Closed(Side.CLIENT))
    assert [type(effect) for effect in effects] == [Withdraw, Close]
    assert not play.sent[Side.TARGET]


@every_protocol
def test_a_cancel_withdraws_what_is_held_and_the_connection_stays_usable(name: str) -> None:
    play, scenario = session(name)
    play.feed(Received(Side.CLIENT, scenario.harmful), HELD)
    effects = play.feed(CancelAsked())
    assert any(isinstance(effect, Withdraw) for effect in effects)
    said = scenario.read(bytes(play.sent[Side.CLIENT]))
    assert (said.refusals, said.complete) == (1, 1)
    play.feed(Received(Side.CLIENT, scenario.harmless))
    assert asks(play) == 2


@every_protocol
def test_the_gateway_can_end_a_session_at_any_step(name: str) -> None:
    scenario = SCENARIOS[name]
    steps = [*scenario.greet(), *scenario.enter(), Received(Side.CLIENT, scenario.harmful)]
    for count in range(len(steps) + 1):
        play = Playbook(PROTOCOLS[name].converse())
        play.feed(*steps[:count])
        effects = play.feed(Ended("revoked", "access was revoked"))
        assert isinstance(effects[-1], Close)
        assert not play.feed(Received(Side.CLIENT, scenario.harmless))


@every_protocol
def test_a_refused_login_is_told(name: str) -> None:
    scenario = SCENARIOS[name]
    for event in (Denied("token_expired", "the token has expired"), Unreachable("timed out")):
        play = Playbook(PROTOCOLS[name].converse())
        play.feed(*scenario.greet())
        if isinstance(event, Unreachable):
            play.feed(scenario.granted)
        play.sent[Side.CLIENT].clear()
        effects = play.feed(event)
        assert isinstance(effects[-1], Close)
        said = scenario.read(bytes(play.sent[Side.CLIENT]))
        assert said.refusals == 1
        assert b"token_expired" in said.text or b"timed out" in said.text
        assert not play.sent[Side.TARGET]


@every_protocol
def test_bytes_of_another_protocol_end_at_once_and_bounded(name: str) -> None:
    scenario = SCENARIOS[name]
    for garbage in scenario.not_the_protocol:
        play = Playbook(PROTOCOLS[name].converse())
        play.feed(Received(Side.CLIENT, garbage))
        assert isinstance(play.seen[-1], Close), garbage
        assert play.conversation.backlog == 0


@every_protocol
@settings(max_examples=150, deadline=None)
@given(garbage=st.binary(max_size=200))
def test_no_bytes_make_it_raise(name: str, garbage: bytes) -> None:
    scenario = SCENARIOS[name]
    Playbook(PROTOCOLS[name].converse()).feed(Received(Side.CLIENT, garbage))
    for side in Side:
        play, _ = session(name)
        play.feed(Received(Side.CLIENT, scenario.harmless), ALLOW, Received(side, garbage))


@every_protocol
def test_a_target_that_hangs_up_is_told_to_the_client(name: str) -> None:
    play, scenario = session(name)
    play.feed(Received(Side.CLIENT, scenario.harmful), Closed(Side.TARGET))
    assert isinstance(play.seen[-1], Close)
    assert scenario.read(bytes(play.sent[Side.CLIENT])).refusals == 1


@every_protocol
def test_a_statement_can_be_judged_outside_of_a_session(name: str) -> None:
    operation = PROTOCOLS[name].classify("not a statement \ud800")
    assert operation.protocol == name
    assert len(operation.digest) == 32
