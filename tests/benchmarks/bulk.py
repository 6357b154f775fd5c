"""A read of a million rows, about 130 MB: direct, recorded, and recorded and masked.

The client is libpq itself, taking rows in chunks as they come: it keeps nothing, so it is a
fast one, and what a gateway costs isn't hidden behind it. What was recorded is downloaded and
verified afterwards.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from psycopg import pq

from protos import chain
from protos.vocabulary import EntryKind
from tests.benchmarks.ground import ROWS, Ground, Route
from tests.benchmarks.processes import PeakMemory, Process
from tests.end_to_end.gateway import until

CHUNK_ROWS = 2000
_FEW_ROWS = 100
# What stands before the @ is what the mask takes away; the name has a space in it.
_ADDRESS = re.compile(rb"person[0-9]{7}@")


@dataclass(frozen=True, slots=True)
class Reading:
    """One read. Memory is the relay's, in KiB, 0 where it isn't in the way; time in seconds."""

    name: str
    round: int
    seconds: float
    relay_cpu_seconds: float
    relay_before_kib: int
    relay_peak_kib: int


@dataclass(frozen=True, slots=True)
class Verified:
    """What became of the recordings of the reads."""

    sessions: int
    answer_bytes: int


def measure(
    ground: Ground, *, rounds: int, say: Callable[[str], None]
) -> tuple[list[Reading], Verified]:
    """All ways, interleaved; then the recordings. Raises where a recording doesn't verify."""
    ways: tuple[tuple[str, Route, str], ...] = (
        ("direct", ground.direct, "plain_people"),
        ("pgbouncer", ground.pgbouncer, "plain_people"),
        ("recorded", ground.relay, "plain_people"),
        ("recorded and masked", ground.relay, "masked_people"),
        ("recorded and searched", ground.detecting, "plain_people"),
    )
    for _, route, table in ways:
        _read(route, f"SELECT * FROM {table} LIMIT {_FEW_ROWS}")
    before = _sessions(ground)
    found: list[Reading] = []
    for number in range(1, rounds + 1):
        line: list[str] = []
        for name, route, table in ways:
            relay = None if route in (ground.direct, ground.pgbouncer) else route.process
            reading = _measured(name, route, table, number, relay)
            ground.await_upload()
            found.append(reading)
            line.append(f"{name} {reading.seconds:.2f}")
        say(f"round {number}, 130 MB, seconds: {', '.join(line)}")
    return found, _verify(ground, _sessions(ground) - before)


def _measured(name: str, route: Route, table: str, number: int, relay: Process | None) -> Reading:
    statement = f"SELECT id, name, email, note FROM {table}"
    if relay is None:
        return Reading(name, number, _whole(route, statement), 0.0, 0, 0)
    with PeakMemory(relay) as memory:
        cpu = relay.cpu_seconds
        seconds = _whole(route, statement)
        cpu = relay.cpu_seconds - cpu
    return Reading(name, number, seconds, cpu, memory.before_kib, memory.peak_kib)


def _whole(route: Route, statement: str) -> float:
    rows, seconds = _read(route, statement)
    if rows != ROWS:
        raise RuntimeError(f"{rows} rows came through {route.name}, not {ROWS}")
    return seconds


def _read(route: Route, statement: str) -> tuple[int, float]:
    """Run a statement and drop its rows: how many there were, and in how many seconds."""
    with route.connect() as connection:
        wire = connection.pgconn
        begun = time.perf_counter()
        wire.send_query(statement.encode())
        wire.set_chunked_rows_mode(CHUNK_ROWS)
        rows = 0
        while (result := wire.get_result()) is not None:
            if result.status not in (pq.ExecStatus.TUPLES_CHUNK, pq.ExecStatus.TUPLES_OK):
                raise RuntimeError(
                    f"the read through {route.name} failed: {result.error_message!r}"
                )
            rows += result.ntuples
        return rows, time.perf_counter() - begun


def _sessions(ground: Ground) -> set[str]:
    page = ground.gateway.call("GET", "/api/v1/sessions?limit=200", "auditor")
    return {str(item["id"]) for item in page["items"]}


def _verify(ground: Ground, sessions: set[str]) -> Verified:
    """Each recording as the control plane keeps it, checked here entry by entry."""
    size = 0
    for session in sorted(sessions):
        path = f"/api/v1/sessions/{session}/recording"

        def complete(path: str = path) -> bytes:
            content = ground.gateway.answer("GET", path, "auditor").content
            return content if content and chain.verify(content).closed else b""

        content = until(complete, "the end of a recording", 120)
        answers = [entry.payload for entry in chain.read(content) if entry.kind is EntryKind.ANSWER]
        size += sum(len(answer) for answer in answers)
        asked = any(
            b"masked_people" in entry.payload[:200]
            for entry in chain.read(content)
            if entry.kind is EntryKind.REQUEST
        )
        if asked and any(_ADDRESS.search(answer) for answer in answers):
            raise RuntimeError("a value that a rule masks was recorded")
    return Verified(len(sessions), size)
