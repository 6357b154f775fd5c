"""Queries a second and processor time a query, by pgbench, route after route in each round.

Counterparts: pgbench's own report (its manual, section "Per-Second Progress" and the summary),
and :mod:`tests.benchmarks.processes` for the time of what stands in between. Connecting is not
measured: the first second of a run isn't counted for processor time, and pgbench leaves it out
of its rate.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from deploy.demo.surroundings import ROOT, clean_environment
from tests.benchmarks.ground import Ground, Route
from tests.benchmarks.processes import Process

MODES = ("simple", "prepared")
CLIENTS = (1, 8, 32)

_PROGRESS = re.compile(r"progress: ([0-9.]+) s, ([0-9.]+) tps")
_RATE = re.compile(r"^tps = ([0-9.]+) \(without initial connection time\)", re.MULTILINE)
_LATENCY = re.compile(r"^latency average = ([0-9.]+) ms", re.MULTILINE)


class BenchFailed(Exception):
    """pgbench failed, or reported what can't be read; the message has its words."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """One run of pgbench through one route. Times in microseconds a query; 0 for no proxy."""

    route: str
    mode: str
    clients: int
    round: int
    tps: float
    latency_ms: float
    proxy_us: float
    control_plane_us: float


def measure(
    ground: Ground,
    *,
    seconds: int,
    rounds: int,
    modes: Sequence[str] = MODES,
    clients: Sequence[int] = CLIENTS,
    say: Callable[[str], None],
) -> list[Throughput]:
    """All routes in all combinations, interleaved."""
    for route in ground.routes:
        for mode in modes:
            run(ground, route, mode, 2, 1, 0)  # Fills the caches that a running gateway has.
    ground.await_upload()
    found: list[Throughput] = []
    for number in range(1, rounds + 1):
        for mode in modes:
            for count in clients:
                line: list[str] = []
                for route in ground.routes:
                    result = run(ground, route, mode, count, seconds, number)
                    ground.await_upload()
                    found.append(result)
                    line.append(f"{route.name} {result.tps:.0f}")
                say(f"round {number}, {mode}, {count} clients, TPS: {', '.join(line)}")
    return found


def run(
    ground: Ground, route: Route, mode: str, clients: int, seconds: int, number: int
) -> Throughput:
    """One run; raises :class:`BenchFailed`."""
    command = [
        str(ground.programs / "pgbench"), "-S", "-n", "-M", mode, "-c", str(clients),
        "-j", str(min(clients, 2)), "-T", str(seconds + 1), "-P", "1", route.dsn,
    ]  # fmt: skip
    environment = {**clean_environment(), "PGPASSWORD": route.parameters["password"]}
    watched = (route.process, ground.control_plane)
    progress: list[tuple[float, float]] = []
    times: list[tuple[float, ...]] = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if seen := _PROGRESS.match(line):
                progress.append((float(seen[1]), float(seen[2])))
                times.append(tuple(_cpu(one) for one in watched))
        report = process.stdout.read()
    rate, latency = _RATE.search(report), _LATENCY.search(report)
    if process.returncode != 0 or rate is None or latency is None:
        raise BenchFailed(f"pgbench through {route.name}: {''.join(said)[-2000:]}{report[-2000:]}")
    proxy, control_plane = a_query(progress, times)
    return Throughput(
        route.name, mode, clients, number, float(rate[1]), float(latency[1]), proxy, control_plane
    )


def a_query(
    progress: Sequence[tuple[float, float]], times: Iterable[Sequence[float]]
) -> tuple[float, ...]:
    """Microseconds a query for each process between the first and the last progress line.

    ``progress`` has the second of the line and the rate since the one before, ``times`` each
    process' seconds of processor time then. Zeros where there are not two lines.
    """
    marks = list(times)
    queries = sum((at - before) * rate for (before, _), (at, rate) in pairwise(progress))
    if len(marks) < 2 or not queries:
        return tuple(0.0 for _ in (marks[0] if marks else (0.0, 0.0)))
    return tuple(
        (last - first) / queries * 1e6 for first, last in zip(marks[0], marks[-1], strict=True)
    )


def _cpu(process: Process | None) -> float:
    return 0.0 if process is None else process.cpu_seconds
