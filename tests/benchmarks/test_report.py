"""What is compared with what. Nothing here is timed."""

from __future__ import annotations

from tests.benchmarks.bulk import Reading, Verified
from tests.benchmarks.figures import Figure, Met
from tests.benchmarks.holds import Decision
from tests.benchmarks.report import Results, detail, figures
from tests.benchmarks.throughput import Throughput, a_query


def run(route: str, number: int, tps: float, proxy_us: float = 0.0) -> Throughput:
    return Throughput(route, "simple", 8, number, tps, 1.0, proxy_us, 0.0)


# The second round is twice as slow on every route.
RUNS = (
    run("direct", 1, 1000),
    run("pgbouncer", 1, 800, 30),
    run("relay", 1, 600, 45),
    run("direct", 2, 500),
    run("pgbouncer", 2, 400, 60),
    run("relay", 2, 300, 90),
)


def found(results: Results) -> dict[str, Figure]:
    return {figure.what: figure for figure in figures(results)}


def test_throughput_is_compared_within_each_round() -> None:
    lines = found(Results(throughput=RUNS))
    assert lines["TPS / pgbouncer, simple, 8 clients"].value == 0.75
    assert lines["TPS / pgbouncer, simple, 8 clients"].met is Met.YES
    assert lines["TPS / direct, simple, 8 clients"].value == 0.6
    assert lines["relay CPU a query / pgbouncer's, simple, 8 clients"].value == 1.5


def test_the_order_of_the_samples_means_nothing() -> None:
    assert figures(Results(throughput=RUNS[::-1])) == figures(Results(throughput=RUNS))


def test_processor_time_that_was_not_measured_gives_no_ratio() -> None:
    runs = (run("pgbouncer", 1, 800, 0), run("relay", 1, 600, 45), run("direct", 1, 1000))
    line = found(Results(throughput=runs))["relay CPU a query / pgbouncer's, simple, 8 clients"]
    assert line.met is Met.NOT_MEASURED


def test_one_client_has_no_target() -> None:
    runs = [
        Throughput(route, "simple", 1, 1, 100, 1.0, 1.0, 0.0)
        for route in ("direct", "pgbouncer", "relay")
    ]
    assert found(Results(throughput=runs))["TPS / direct, simple, 1 client"].met is Met.NONE


def test_bulk_reads_are_compared_by_rate_and_have_the_relays_peak() -> None:
    readings = [
        Reading("direct", 1, 1.0, 0.0, 0, 0),
        Reading("recorded", 1, 1.25, 1.0, 30 * 1024, 40 * 1024),
        Reading("recorded and masked", 1, 2.0, 1.5, 40 * 1024, 44 * 1024),
        Reading("recorded and searched", 1, 2.0, 1.5, 40 * 1024, 90 * 1024),
        Reading("pgbouncer", 1, 1.0, 0.0, 0, 0),
    ]
    lines = found(Results(readings=readings, verified=Verified(3, 390_000_000)))
    assert lines["130 MB read, recorded / direct"].value == 0.8
    assert lines["the same, one column masked by rule"].value == 0.5
    peak = lines["relay memory during it, peak"]
    assert peak.value == 44
    assert peak.remark == "3 recordings of 390 MB verified"
    assert lines["relay memory during it, growth"].value == 10


def test_decisions_have_their_median_and_their_tail() -> None:
    decisions = [Decision(1.0, float(number)) for number in range(1, 101)]
    lines = found(Results(decisions=decisions))
    assert lines["decision POST to statement's end, p50"].value == 50
    assert lines["decision POST to statement's end, p99"].value == 99
    assert lines["the POST's own answer, p50"].value == 1


def test_an_empty_run_says_of_everything_that_it_was_not_measured() -> None:
    assert {figure.met for figure in figures(Results())} == {Met.NOT_MEASURED}


def test_processor_time_a_query_leaves_the_first_second_out() -> None:
    progress = [(1.0, 9999.0), (2.0, 100.0), (4.0, 200.0)]
    assert a_query(progress, [(5.0, 1.0), (5.1, 1.0), (5.5, 2.0)]) == (1000.0, 2000.0)


def test_processor_time_of_a_run_without_progress_is_none() -> None:
    assert a_query([(1.0, 10.0)], [(5.0, 1.0)]) == (0.0, 0.0)
    assert a_query([], []) == (0.0, 0.0)


def test_the_detail_has_the_medians_of_every_route() -> None:
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in detail(RUNS).splitlines()
    ]
    assert lines[2:] == [
        ["simple, 8", "direct", "750", "67%", "1", "-", "0"],
        ["simple, 8", "pgbouncer", "600", "67%", "1", "45", "0"],
        ["simple, 8", "relay", "450", "67%", "1", "67.5", "0"],
    ]


def test_every_sample_is_kept() -> None:
    results = Results(throughput=RUNS[:1], decisions=[Decision(1.0, 2.0)], idle_kib={"relay": 40.0})
    assert results.samples() == [
        {
            "kind": "throughput",
            "route": "direct",
            "mode": "simple",
            "clients": 8,
            "round": 1,
            "tps": 1000,
            "latency_ms": 1.0,
            "proxy_us": 0.0,
            "control_plane_us": 0.0,
        },
        {"kind": "decision", "answered_ms": 1.0, "resumed_ms": 2.0},
        {"kind": "idle", "route": "relay", "kib": 40.0},
    ]
