"""Questions to relays: only they can classify a statement, because only they hold the parsers.

Counterparts: :mod:`control_plane.policy` asks, :mod:`control_plane.relay_api` carries questions
out and answers in. Nothing is kept in the database: an answer is worth a few seconds, and a
question can reach only the relays whose stream this process serves.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from control_plane.errors import Unavailable
from control_plane.wakeups import Wakeups
from protos.vocabulary import Operation

# A stream looks for questions when woken and at least every ten seconds.
_CONNECTED_SECONDS = 15.0
_MOST_OPEN = 200


@dataclass(frozen=True, slots=True)
class Question:
    """How would this text be classified? ``id`` is unguessable."""

    id: str
    protocol: str
    target: str
    text: str


@dataclass(slots=True)
class _Asked:
    question: Question
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Operation]
    waiting: set[str] = field(default_factory=set)
    """Relays that it is yet to be given to."""
    given: set[str] = field(default_factory=set)


class Questions:
    """The open questions of this process. Every method but :meth:`ask` suits any thread."""

    def __init__(self, wakeups: Wakeups, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._wakeups = wakeups
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}
        self._asked: dict[str, _Asked] = {}

    async def ask(
        self,
        relay_filter: Callable[[str], bool],
        protocol: str,
        target: str,
        text: str,
        seconds: float = 5.0,
    ) -> Operation:
        """The first answer of a connected relay whose name ``relay_filter`` accepts.

        It is put to all of them, so that one that hangs costs nothing. Raises Unavailable
        (``no_relay_connected``, ``relay_did_not_answer``, ``too_many_questions``).
        Cancelling it withdraws the question.
        """
        loop = asyncio.get_running_loop()
        question = Question(secrets.token_hex(16), protocol, target, text)
        with self._lock:
            relays = {name for name in self._connected() if relay_filter(name)}
            if not relays:
                raise Unavailable(
                    "no_relay_connected", "no relay that serves this target is connected"
                )
            if len(self._asked) >= _MOST_OPEN:
                raise Unavailable("too_many_questions", "too many questions wait for relays")
            asked = _Asked(question, loop, loop.create_future(), set(relays))
            self._asked[question.id] = asked
        self._wakeups.wake(*(f"relay:{name}" for name in sorted(relays)))
        try:
            async with asyncio.timeout(seconds):
                return await asked.answer
        except TimeoutError:
            raise Unavailable("relay_did_not_answer", "no relay answered in time") from None
        finally:
            with self._lock:
                del self._asked[question.id]

    def pending(self, relay: str) -> list[Question]:
        """The questions that this relay has not been given yet; each is given to it once.

        A relay counts as connected while its stream keeps asking for this.
        """
        with self._lock:
            self._seen[relay] = self._clock()
            mine = [asked for asked in self._asked.values() if relay in asked.waiting]
            for asked in mine:
                asked.waiting.discard(relay)
                asked.given.add(relay)
            return [asked.question for asked in mine]

    def answer(self, id: str, operation: Operation, relay: str | None = None) -> None:
        """Take an answer; one too many or too late is dropped, and so is one to a question
        that ``relay``, where it is named, was never given.
        """
        with self._lock:
            asked = self._asked.get(id)
            if asked is None or (relay is not None and relay not in asked.given):
                return
        asked.loop.call_soon_threadsafe(_settle, asked.answer, operation)

    def disconnected(self, relay: str) -> None:
        """Its stream has ended: don't wait for it any more. Optional; else it is forgotten."""
        with self._lock:
            self._seen.pop(relay, None)

    def _connected(self) -> list[str]:
        oldest = self._clock() - _CONNECTED_SECONDS
        self._seen = {name: at for name, at in self._seen.items() if at >= oldest}
        return list(self._seen)


def _settle(answer: asyncio.Future[Operation], operation: Operation) -> None:
    if not answer.done():
        answer.set_result(operation)
