"""What was measured, against what is to be reached: the figures of one run.

Counterparts: the measuring modules give the samples, :mod:`tests.benchmarks.figures` does the
arithmetic. Targets are here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tests.benchmarks.bulk import Reading, Verified
from tests.benchmarks.figures import (
    Figure,
    at_least,
    at_most,
    number,
    percentile,
    ratio,
    spread,
    table,
)
from tests.benchmarks.holds import Decision
from tests.benchmarks.throughput import Throughput

TPS_TO_PGBOUNCER = at_least(0.75, 0.95)
CPU_TO_PGBOUNCER = at_most(1.6, 1.25)
TPS_TO_DIRECT = at_least(0.50, 0.65)
BULK_RECORDED = at_least(0.85, 0.95)
BULK_MASKED = at_least(0.70, 0.90)
BULK_MIB = at_most(64, 45)
IDLE_KIB = at_most(40, 28)
DECISION_P50_MS = at_most(3, 1.5)
DECISION_P99_MS = at_most(10, 5)
EVALUATION_P99_MS = at_most(0.1, 0.02)
HTTP_TO_NGINX = at_least(0.30, 0.50)
HELD = at_least(1000, 10_000)

_TARGETED_CLIENTS = 8
"""Fewer measure latency: there is no target for them."""


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that one run measured; what was left out is empty."""

    throughput: Sequence[Throughput] = ()
    readings: Sequence[Reading] = ()
    verified: Verified | None = None
    decisions: Sequence[Decision] = ()
    idle_kib: Mapping[str, float] | None = None
    evaluations_ms: Sequence[float] = ()

    def samples(self) -> list[dict[str, Any]]:
        """Every sample by itself, for the JSON."""
        return [
            *({"kind": "throughput", **asdict(one)} for one in self.throughput),
            *({"kind": "bulk", **asdict(one)} for one in self.readings),
            *({"kind": "decision", **asdict(one)} for one in self.decisions),
            *({"kind": "idle", "route": k, "kib": v} for k, v in (self.idle_kib or {}).items()),
        ]


def figures(results: Results) -> list[Figure]:
    """The lines of the table, in the order of the targets."""
    return [
        *_throughput(results.throughput),
        *_bulk(results.readings, results.verified),
        *_idle(results.idle_kib or {}),
        *_times(results.decisions, results.evaluations_ms),
        Figure("HTTP 1 KiB JSON / nginx", None, "", HTTP_TO_NGINX, "no HTTP yet"),
        Figure("held statements at once, 30 min", None, "", HELD, "takes longer than this"),
    ]


def _throughput(found: Sequence[Throughput]) -> list[Figure]:
    kinds = list(dict.fromkeys((one.mode, one.clients) for one in found))

    def compared(
        what: str,
        value: Callable[[Throughput], float],
        other: str,
        target: Any,
    ) -> list[Figure]:
        lines = []
        for mode, clients in kinds:
            ours = [value(one) for one in _of(found, "relay", mode, clients)]
            theirs = [value(one) for one in _of(found, other, mode, clients)]
            known = bool(ours) and all(theirs)
            lines.append(
                Figure(
                    f"{what}, {mode}, {clients} client{'s' if clients > 1 else ''}",
                    ratio(ours, theirs) if known else None,
                    "",
                    target if clients >= _TARGETED_CLIENTS else None,
                )
            )
        return lines

    return [
        *compared("TPS / pgbouncer", lambda one: one.tps, "pgbouncer", TPS_TO_PGBOUNCER),
        *compared(
            "relay CPU a query / pgbouncer's",
            lambda one: one.proxy_us,
            "pgbouncer",
            CPU_TO_PGBOUNCER,
        ),
        *compared("TPS / direct", lambda one: one.tps, "direct", TPS_TO_DIRECT),
    ]


def _of(found: Sequence[Throughput], route: str, mode: str, clients: int) -> list[Throughput]:
    chosen = [o for o in found if (o.route, o.mode, o.clients) == (route, mode, clients)]
    return sorted(chosen, key=lambda one: one.round)


def _bulk(readings: Sequence[Reading], verified: Verified | None) -> list[Figure]:
    def seconds(name: str) -> list[float]:
        chosen = sorted((one for one in readings if one.name == name), key=lambda one: one.round)
        return [one.seconds for one in chosen]

    def compared(what: str, name: str, target: Any) -> Figure:
        # Rates, so that more is better: the same bytes in the other's time.
        rates = ratio(seconds("direct"), seconds(name)) if seconds(name) else None
        return Figure(what, rates, "", target)

    checked = (
        f"{verified.sessions} recordings of {verified.answer_bytes / 1e6:.0f} MB verified"
        if verified
        else ""
    )
    relayed = [one for one in readings if one.relay_peak_kib]
    masked = [one for one in relayed if one.name != "recorded and searched"]
    peak = max((one.relay_peak_kib for one in masked), default=0) / 1024
    growth = max((one.relay_peak_kib - one.relay_before_kib for one in masked), default=0) / 1024
    return [
        compared("130 MB read, recorded / direct", "recorded", BULK_RECORDED),
        compared("the same, one column masked by rule", "recorded and masked", BULK_MASKED),
        compared("the same, two detectors instead", "recorded and searched", None),
        compared("the same through pgbouncer", "pgbouncer", None),
        Figure("relay memory during it, peak", peak or None, " MiB", BULK_MIB, checked),
        Figure("relay memory during it, growth", growth if masked else None, " MiB"),
    ]


def _idle(idle_kib: Mapping[str, float]) -> list[Figure]:
    return [
        Figure("an idle session, TLS on both legs", idle_kib.get("relay"), " KiB", IDLE_KIB),
        Figure("the same at pgbouncer", idle_kib.get("pgbouncer"), " KiB"),
    ]


def _times(decisions: Sequence[Decision], evaluations_ms: Sequence[float]) -> list[Figure]:
    def at(values: Sequence[float], share: float) -> float | None:
        return percentile(values, share) if values else None

    resumed = [one.resumed_ms for one in decisions]
    answered = [one.answered_ms for one in decisions]
    held = f"of {len(decisions)} holds" if decisions else ""
    decided = "decision POST to statement's end"
    rules = "policy evaluation, 100 rules, CPU"
    return [
        Figure(f"{decided}, p50", at(resumed, 0.5), " ms", DECISION_P50_MS, held),
        Figure(f"{decided}, p99", at(resumed, 0.99), " ms", DECISION_P99_MS, held),
        Figure("the POST's own answer, p50", at(answered, 0.5), " ms"),
        Figure(f"{rules}, p50", at(evaluations_ms, 0.5), " ms"),
        Figure(f"{rules}, p99", at(evaluations_ms, 0.99), " ms", EVALUATION_P99_MS),
    ]


def detail(found: Sequence[Throughput]) -> str:
    """The rates and times behind the ratios: medians over the rounds, and their spread."""
    rows: list[tuple[str, ...]] = []
    for mode, clients in dict.fromkeys((one.mode, one.clients) for one in found):
        for route in dict.fromkeys(one.route for one in found):
            chosen = _of(found, route, mode, clients)
            if not chosen:
                continue
            proxy = median(one.proxy_us for one in chosen)
            rows.append(
                (
                    f"{mode}, {clients}",
                    route,
                    number(median(one.tps for one in chosen)),
                    f"{spread([one.tps for one in chosen]):.0%}",
                    number(median(one.latency_ms for one in chosen)),
                    number(proxy) if proxy else "-",
                    number(median(one.control_plane_us for one in chosen)),
                )
            )
    header = (
        "mode, clients",
        "route",
        "TPS",
        "spread",
        "latency ms",
        "proxy µs/query",
        "control plane µs/query",
    )
    return table(header, rows)
