"""What an idle session costs the relay in memory: hundreds of them, logged in, saying nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests.benchmarks.ground import Ground, Route
from tests.benchmarks.processes import Process

_WORKERS = 8
_FIRST = 20


def measure(ground: Ground, *, count: int, say: Callable[[str], None]) -> dict[str, float]:
    """KiB a session by route, for those with a process in the way."""
    found: dict[str, float] = {}
    for route in (ground.pgbouncer, ground.relay):
        if route.process is None:
            continue
        _sessions(route, route.process, _FIRST)  # What the first ones need is no session's.
        ground.await_upload()
        found[route.name] = _sessions(route, route.process, count)
        ground.await_upload()
        say(f"{count} idle sessions through {route.name}: {found[route.name]:.1f} KiB each")
    return found


def _sessions(route: Route, process: Process, count: int) -> float:
    before = process.resident_kib
    with ExitStack() as stack, ThreadPoolExecutor(_WORKERS) as pool:
        for connection in pool.map(lambda _: route.connect(), range(count)):
            stack.callback(connection.close)
        return (process.resident_kib - before) / count
