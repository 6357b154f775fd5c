"""Wake-ups between threads and the event loop: a hint that a row in the database changed.

The row is the truth: whoever waits looks again when woken and, because a hint can come from
another replica that this process doesn't hear, also now and then without one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict


class Wakeups:
    """Named topics (``"policy"``, ``"approval:ID"``) that tasks of one event loop wait for."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which loop the waiting tasks run in; done once, at start."""
        self._loop = loop

    def wake(self, *topics: str) -> None:
        """Wake all who wait for any of the topics. Callable from every thread, never blocks."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, topics)

    def _wake(self, topics: tuple[str, ...]) -> None:
        for topic in topics:
            for waiting in self._waiting.get(topic, ()):
                waiting.set()

    def subscribe(self, *topics: str) -> Subscription:
        """Start listening now, so that nothing between a look and a wait is missed."""
        return Subscription(self, topics)

    def _add(self, topics: tuple[str, ...], event: asyncio.Event) -> None:
        for topic in topics:
            self._waiting[topic].add(event)

    def _remove(self, topics: tuple[str, ...], event: asyncio.Event) -> None:
        for topic in topics:
            self._waiting[topic].discard(event)
            if not self._waiting[topic]:
                del self._waiting[topic]


class Subscription:
    """A context in which wake-ups aren't missed; used by one task."""

    def __init__(self, wakeups: Wakeups, topics: tuple[str, ...]) -> None:
        self._wakeups = wakeups
        self._topics = topics
        self._event = asyncio.Event()

    def __enter__(self) -> Subscription:
        self._wakeups._add(self._topics, self._event)
        return self

    def __exit__(self, *_: object) -> None:
        self._wakeups._remove(self._topics, self._event)

    async def wait(self, seconds: float) -> bool:
        """Return true when woken (also since the last call), false after ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
