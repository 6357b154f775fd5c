"""The feed: in order, none lost, none doubled, and to those only who may see it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from control_plane.database import Database
from control_plane.sessions.event_routes import events
from control_plane.sessions.events import EventFeed
from control_plane.wakeups import Wakeups
from tests.control_plane.world import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def feed(database: Database, clock: Clock) -> EventFeed:
    return EventFeed(database, clock=clock)


def emit(database: Database, feed: EventFeed, kind: str, *groups: str) -> None:
    with database.transaction() as session:
        feed.emit(session, kind, "s", {"a": 1}, frozenset(groups))


def test_a_reader_beside_many_writers_sees_every_event_once(
    database: Database, feed: EventFeed
) -> None:
    writers, each = 4, 15
    begin = threading.Barrier(writers + 1)

    def write(number: int) -> None:
        begin.wait(10)
        for one in range(each):
            emit(database, feed, f"{number}.{one}")

    seen: list[str] = []
    with ThreadPoolExecutor(writers) as pool:
        done = [pool.submit(write, number) for number in range(writers)]
        begin.wait(10)
        position = 0
        while len(seen) < writers * each:
            assert not any(one.done() and one.exception() for one in done)
            batch = feed.after(position, limit=7)
            position = batch.last
            seen += [event.kind for event in batch.events]
    assert sorted(seen) == sorted(f"{w}.{e}" for w in range(writers) for e in range(each))
    assert feed.after(position).events == ()


def test_a_rolled_back_event_never_happened(database: Database, feed: EventFeed) -> None:
    emit(database, feed, "one")
    with database.transaction() as session:
        feed.emit(session, "two", "s", {})
        session.rollback()
    emit(database, feed, "three")
    assert [(event.id, event.kind) for event in feed.after(0).events] == [(1, "one"), (2, "three")]


def test_approvers_see_the_events_of_their_groups_and_move_past_the_others(
    database: Database, feed: EventFeed
) -> None:
    emit(database, feed, "mine", "a", "b")
    emit(database, feed, "theirs", "c")
    emit(database, feed, "nobody's")
    batch = feed.after(0, groups=frozenset({"a"}))
    assert ([event.kind for event in batch.events], batch.last) == (["mine"], 3)
    assert [event.kind for event in feed.after(0).events] == ["mine", "theirs", "nobody's"]


def test_who_was_away_too_long_is_told_of_the_gap(
    database: Database, feed: EventFeed, clock: Clock
) -> None:
    emit(database, feed, "old")
    clock.advance(8 * 86_400)
    emit(database, feed, "new")
    assert (feed.prune(), feed.prune()) == (1, 0)
    assert feed.after(0).gap
    assert [event.kind for event in feed.after(0).events] == ["new"]
    assert not feed.after(1).gap
    assert feed.position() == 2


def test_a_feed_without_events_begins_at_nothing(feed: EventFeed) -> None:
    assert feed.position() == 0
    assert feed.after(0).last == 0
    assert feed.prune() == 0


async def taken(stream: AsyncIterator[str], until: str) -> str:
    text = ""
    async for part in stream:
        text += part
        if until in text:
            return text
    return text


def test_the_stream_tells_what_is_new_and_can_be_resumed(
    database: Database, feed: EventFeed
) -> None:
    async def run() -> None:
        wakeups = Wakeups()
        wakeups.bind(asyncio.get_running_loop())
        emit(database, feed, "before")
        stream = events(feed, wakeups, 1, None, lambda: False, 60)
        assert "before" not in await taken(stream, "from 1")

        def later() -> None:
            emit(database, feed, "after")
            wakeups.wake("sessions")

        async with asyncio.timeout(20):
            waiting = asyncio.create_task(taken(stream, "event: after"))
            await asyncio.to_thread(later)
            assert 'id: 2\nevent: after\ndata: {"subject": "s"' in await waiting
            again = events(feed, wakeups, 0, None, lambda: False, 60)
            text = await taken(again, "event: after")
            assert text.index("event: before") < text.index("event: after")
            await again.aclose()  # type: ignore[attr-defined]
            await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(run())


def test_the_stream_ends_with_the_callers_token(feed: EventFeed) -> None:
    async def run() -> str:
        over = iter([False, True])
        stream = events(feed, Wakeups(), 0, None, lambda: next(over), 0.01)
        async with asyncio.timeout(20):
            return "".join([part async for part in stream])

    assert asyncio.run(run()) == "retry: 2000\n: from 0\n\n"


def test_a_quiet_stream_shows_that_it_lives_and_a_gap_that_there_was_one(
    database: Database, feed: EventFeed, clock: Clock
) -> None:
    emit(database, feed, "old")
    clock.advance(8 * 86_400)
    feed.prune()

    async def run() -> str:
        stream = events(feed, Wakeups(), 0, frozenset({"a"}), lambda: False, 0.01)
        async with asyncio.timeout(20):
            return await taken(stream, "still here")

    text = asyncio.run(run())
    assert "event: stream.gap" in text
    assert "id: 1\n\n" in text
