"""Waiting for decisions without a thread: any number of holds, one look at the database.

Whoever waits is woken by a decision in this process. For those that come through another
replica, one query every :data:`LOOK_SECONDS` asks for all waiting approvals together.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime

from control_plane.approvals.holds import HoldService, Waiting
from control_plane.database import now
from control_plane.wakeups import Wakeups
from protos.vocabulary import Verdict

LOOK_SECONDS = 2.0
_CHUNK = 500


class WaitingRoom:
    """The holds that wait in this process. Used from one event loop."""

    def __init__(
        self,
        holds: HoldService,
        wakeups: Wakeups,
        *,
        look_seconds: float = LOOK_SECONDS,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._holds = holds
        self._wakeups = wakeups
        self._look_seconds = look_seconds
        self._clock = clock
        self.waiting: Counter[str] = Counter()
        """How many calls wait for each approval."""

    async def wait(
        self, relay: str, approval: str, hold: str, before_use: Callable[[], None]
    ) -> Verdict:
        """The answer for a hold, at the latest when the hold ends.

        ``before_use`` is called in a worker thread before each look, and raises where the
        relay may no longer be answered. A wait that is cancelled at the very moment of the
        answer may have used it; the same hold, asking again, is told so again.
        """

        def look() -> Verdict | Waiting:
            before_use()
            return self._holds.look(relay, approval, hold)

        with self._wakeups.subscribe(f"approval:{approval}") as woken:
            self.waiting[approval] += 1
            try:
                while True:
                    answer = await asyncio.to_thread(look)
                    if isinstance(answer, Verdict):
                        return answer
                    left = (answer.until - self._clock()).total_seconds()
                    await woken.wait(max(left, 0.0) + 0.01)
            finally:
                self.waiting[approval] -= 1
                if not self.waiting[approval]:
                    del self.waiting[approval]

    async def run(self) -> None:
        """Look now and then for decisions that no wake-up told of; runs until cancelled."""
        while True:
            await asyncio.sleep(self._look_seconds)
            ids = list(self.waiting)
            for start in range(0, len(ids), _CHUNK):
                chunk = ids[start : start + _CHUNK]
                settled = await asyncio.to_thread(self._holds.settled, chunk)
                self._wakeups.wake(*(f"approval:{id_}" for id_ in settled))
