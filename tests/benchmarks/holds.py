"""From a human's decision to the statement's end at the agent.

A statement is held, as for an agent; the approval is decided over the REST API on a connection
that stands already; the clock runs from before the request is sent until the agent's client
has the statement's result, so the target's own time is in it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from tests.benchmarks.ground import Ground
from tests.end_to_end.gateway import PATIENCE

_APPROVAL = re.compile(r"held for approval (\S+) until")


@dataclass(slots=True)
class _Agent:
    """A client whose statements are held; it tells the approval's id from the notice."""

    connection: psycopg.Connection[tuple[object, ...]]
    held: threading.Event = field(default_factory=threading.Event)
    resumed: threading.Event = field(default_factory=threading.Event)
    approval: str = ""
    at: float = 0.0
    failure: str = ""

    def notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if seen := _APPROVAL.search(diagnostic.message_primary or ""):
            self.approval = seen[1]
            self.held.set()

    def run(self, number: int) -> None:
        try:
            self.connection.execute(b"DELETE FROM held WHERE id = %d" % number)
            self.at = time.perf_counter()
        except psycopg.Error as error:
            self.failure = str(error)
        self.held.set()
        self.resumed.set()


@dataclass(frozen=True, slots=True)
class Decision:
    """Milliseconds from the decision's request to its answer, and to the statement's end."""

    answered_ms: float
    resumed_ms: float


def measure(ground: Ground, *, count: int, say: Callable[[str], None]) -> list[Decision]:
    """``count`` holds, one after another."""
    found: list[Decision] = []
    gateway = ground.gateway
    headers = {"Authorization": f"Bearer {gateway.token('approver')}"}
    with ground.relay.connect() as connection, gateway.demo.http() as client:
        for number in range(count + 1):
            agent = _Agent(connection)
            connection.add_notice_handler(agent.notice)
            thread = threading.Thread(target=agent.run, args=(number,), daemon=True)
            thread.start()
            if not agent.held.wait(PATIENCE) or not agent.approval:
                raise RuntimeError(f"a statement was not held: {agent.failure}")
            begun = time.perf_counter()
            answer = client.post(
                f"/api/v1/approvals/{agent.approval}/decisions",
                headers=headers,
                json={"decision": "approve", "reason": "measured"},
            )
            answered = time.perf_counter()
            if not answer.is_success:
                raise RuntimeError(f"a decision was not taken: {answer.status_code} {answer.text}")
            if not agent.resumed.wait(PATIENCE) or agent.failure:
                raise RuntimeError(f"a decided statement did not run: {agent.failure}")
            thread.join(PATIENCE)
            connection.remove_notice_handler(agent.notice)
            # The first one makes the connection to the API.
            if number:
                found.append(Decision((answered - begun) * 1000, (agent.at - begun) * 1000))
    ground.await_upload()
    say(f"{len(found)} holds decided")
    return found
