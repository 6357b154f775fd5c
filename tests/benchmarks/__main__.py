"""``python -m tests.benchmarks``: measure the gateway against direct and pgbouncer.

Prints the figures against their targets and writes them, with every sample, as JSON. Exit
status 0 whatever the figures are, 1 where it could not be measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.demo.processes import DemoFailed
from deploy.demo.surroundings import ROOT
from tests.benchmarks import bulk, evaluation, holds, idle, throughput
from tests.benchmarks.figures import document, ratio_table
from tests.benchmarks.ground import SCALE, Ground, MissingPrograms, prepared
from tests.benchmarks.report import Results, detail, figures

PARTS = ("throughput", "bulk", "holds", "idle", "evaluation")


def main() -> int:
    """Run what is asked for."""
    arguments = _arguments()
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begun:5.0f} s] {text}", file=sys.stderr, flush=True)

    say("starting PostgreSQL, pgbouncer, the control plane and the relay")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="jitgate-bench-") as directory,
            prepared(Path(directory), plain_target=arguments.plain_target) as ground,
        ):
            settings = _settings(arguments, ground)
            results = _measure(arguments, ground, say)
    except (MissingPrograms, DemoFailed, throughput.BenchFailed, OSError, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    say("done")
    found = figures(results)
    rounds = f"{arguments.rounds} interleaved rounds" if arguments.rounds > 1 else "one round"
    leg = "TLS" if not arguments.plain_target else "plain"
    print(
        f"\nClients' leg: TLS on every route. Server's leg: {leg} for pgbouncer and relay.\n"
        "The relay classifies, judges, masks by column and records; recordings are uploaded.\n"
        f"{settings['processors']} processors for everything. Ratios: medians of "
        f"{rounds}.\n"
    )
    print(ratio_table(found))
    if results.throughput:
        print(f"\n{detail(results.throughput)}")
    settings["seconds_taken"] = round(time.monotonic() - begun)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(document(settings, found, results.samples()), encoding="utf-8")
    print(f"\nEvery sample: {arguments.json}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seconds", type=_positive, default=3, help="of each pgbench run (3)")
    parser.add_argument("--rounds", type=_positive, default=3, help="of everything (3)")
    parser.add_argument(
        "--quick", action="store_true", help="one round of two seconds, few sessions"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be repeated")
    parser.add_argument("--clients", type=_positive, action="append", help="of pgbench (1, 8, 32)")
    parser.add_argument("--plain-target", action="store_true", help="no TLS on the server's leg")
    parser.add_argument("--json", type=Path, default=ROOT / ".cache" / "bench.json", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seconds, arguments.rounds = 2, 1
    return arguments


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return number


def _measure(arguments: argparse.Namespace, ground: Ground, say: Any) -> Results:
    parts = arguments.only or PARTS
    results = Results()
    if "evaluation" in parts:
        results = replace(results, evaluations_ms=evaluation.measure(count=5_000))
    if "throughput" in parts:
        found = throughput.measure(
            ground,
            seconds=arguments.seconds,
            rounds=arguments.rounds,
            clients=arguments.clients or throughput.CLIENTS,
            say=say,
        )
        results = replace(results, throughput=found)
    if "bulk" in parts:
        readings, verified = bulk.measure(ground, rounds=arguments.rounds, say=say)
        results = replace(results, readings=readings, verified=verified)
    if "holds" in parts:
        count = 10 if arguments.quick else 50
        results = replace(results, decisions=holds.measure(ground, count=count, say=say))
    if "idle" in parts:
        count = 100 if arguments.quick else 500
        results = replace(results, idle_kib=idle.measure(ground, count=count, say=say))
    return results


def _settings(arguments: argparse.Namespace, ground: Ground) -> dict[str, Any]:
    """What a reader of the JSON has to know of how it was measured."""
    server = subprocess.run(
        [ground.programs / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    with ground.direct.connect() as connection:
        tls = connection.execute(
            "SELECT version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        ).fetchone()
    return {
        "seconds": arguments.seconds,
        "rounds": arguments.rounds,
        "scale": SCALE,
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "server": server.stdout.strip(),
        "client_tls": list(tls or ()),
        "server_leg_tls": not arguments.plain_target,
        "load_before": os.getloadavg()[0],
    }


if __name__ == "__main__":
    sys.exit(main())
