from __future__ import annotations

import asyncio
import threading

import pytest

from control_plane.errors import Unavailable
from control_plane.relays.questions import Question, Questions
from protos.vocabulary import Operation, Risk
from tests.control_plane.documents.house import HeardWakeups

READ = Operation("postgres", "select", (), Risk.READ, "SELECT 1")


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def _anybody(_relay: str) -> bool:
    return True


async def _asked(wakeups: HeardWakeups) -> None:
    """Until a question has been put."""
    async with asyncio.timeout(10):
        while not wakeups.heard:
            await asyncio.sleep(0)


def _code(error: BaseException) -> str:
    assert isinstance(error, Unavailable)
    return error.code


def test_a_connected_relay_is_asked_and_its_answer_given_back() -> None:
    async def run() -> None:
        wakeups = HeardWakeups()
        questions = Questions(wakeups)
        assert questions.pending("relay-1") == []
        asking = asyncio.create_task(questions.ask(_anybody, "postgres", "orders", "SELECT 1"))
        await _asked(wakeups)
        assert wakeups.heard == ["relay:relay-1"]
        (question,) = questions.pending("relay-1")
        assert question == Question(question.id, "postgres", "orders", "SELECT 1")
        # Each is given to a relay once.
        assert questions.pending("relay-1") == []
        # The answer comes from a thread of its own.
        answering = threading.Thread(target=questions.answer, args=(question.id, READ))
        answering.start()
        assert await asking == READ
        answering.join()

    asyncio.run(run())


def test_without_a_relay_that_may_be_asked_there_is_no_answer() -> None:
    async def run() -> None:
        questions = Questions(HeardWakeups())
        with pytest.raises(Unavailable) as caught:
            await questions.ask(_anybody, "postgres", "orders", "x")
        assert _code(caught.value) == "no_relay_connected"
        questions.pending("relay-1")
        with pytest.raises(Unavailable) as caught:
            await questions.ask(lambda relay: relay == "relay-2", "postgres", "orders", "x")
        assert _code(caught.value) == "no_relay_connected"

    asyncio.run(run())


def test_a_relay_that_stopped_asking_is_connected_no_more() -> None:
    async def run() -> None:
        clock = Clock()
        questions = Questions(HeardWakeups(), clock=clock)
        questions.pending("relay-1")
        questions.pending("relay-2")
        questions.disconnected("relay-2")
        questions.disconnected("never-seen")
        clock.at += 16
        with pytest.raises(Unavailable) as caught:
            await questions.ask(_anybody, "postgres", "orders", "x")
        assert _code(caught.value) == "no_relay_connected"

    asyncio.run(run())


def test_all_relays_that_may_answer_are_asked_and_the_first_answer_counts() -> None:
    async def run() -> None:
        wakeups = HeardWakeups()
        questions = Questions(wakeups)
        for relay in ("a", "b", "c"):
            questions.pending(relay)
        asking = asyncio.create_task(
            questions.ask(lambda relay: relay != "c", "postgres", "orders", "x")
        )
        await _asked(wakeups)
        assert wakeups.heard == ["relay:a", "relay:b"]
        assert questions.pending("c") == []
        (question,) = questions.pending("b")
        # What a relay was never asked, it can't answer.
        questions.answer(question.id, READ, "c")
        questions.answer(question.id, READ, "a")
        questions.answer(question.id, READ, "b")
        questions.answer(question.id, Operation("", "", (), Risk.UNKNOWN, ""), "b")
        assert await asking == READ
        questions.answer(question.id, READ)
        assert questions.pending("a") == []

    asyncio.run(run())


def test_an_answer_to_nothing_is_dropped() -> None:
    Questions(HeardWakeups()).answer("unknown", READ)


def test_a_relay_that_does_not_answer_is_waited_for_so_long_only() -> None:
    async def run() -> None:
        questions = Questions(HeardWakeups())
        questions.pending("relay-1")
        with pytest.raises(Unavailable) as caught:
            await questions.ask(_anybody, "postgres", "orders", "x", seconds=0.01)
        assert _code(caught.value) == "relay_did_not_answer"
        assert questions.pending("relay-1") == []

    asyncio.run(run())


def test_whoever_gives_up_withdraws_the_question() -> None:
    async def run() -> None:
        wakeups = HeardWakeups()
        questions = Questions(wakeups)
        questions.pending("relay-1")
        asking = asyncio.create_task(questions.ask(_anybody, "postgres", "orders", "x"))
        await _asked(wakeups)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert questions.pending("relay-1") == []

    asyncio.run(run())


def test_open_questions_are_bounded() -> None:
    async def run() -> None:
        questions = Questions(HeardWakeups())
        questions.pending("relay-1")
        async with asyncio.TaskGroup() as tasks:
            asking = [
                tasks.create_task(questions.ask(_anybody, "postgres", "orders", "x"))
                for _ in range(200)
            ]
            await asyncio.sleep(0)
            with pytest.raises(Unavailable) as caught:
                await questions.ask(_anybody, "postgres", "orders", "x")
            assert _code(caught.value) == "too_many_questions"
            for question in questions.pending("relay-1"):
                questions.answer(question.id, READ)
        assert all(task.result() == READ for task in asking)

    asyncio.run(run())
