"""``python -m deploy.demo [--once]``: start everything, play the tour, stay up or tear it down.

Exit status 0 when every step held and everything was stopped in order, 1 when not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import httpx
import psycopg

from deploy.demo import target as targets
from deploy.demo.farewell import describe, explain, write_profiles
from deploy.demo.gateway import Gateway
from deploy.demo.people import cast
from deploy.demo.processes import Child, DemoFailed
from deploy.demo.screen import Screen
from deploy.demo.surroundings import (
    ROOT,
    choose_ports,
    claim,
    clean_environment,
    clear,
    write_private,
)
from deploy.demo.tour import Tour


class _Stopped(BaseException):
    """A signal says to stop; raised in the main thread wherever it is."""


def main() -> int:
    """Play the demonstration."""
    parser = argparse.ArgumentParser(prog="make demo", description="Play the demonstration.")
    parser.add_argument("--once", action="store_true", help="play the tour, stop, and say how")
    parser.add_argument("--directory", type=Path, help="where its files go; default .demo")
    arguments = parser.parse_args()
    directory = arguments.directory or ROOT / ".demo" / ("once" if arguments.once else "")
    screen = Screen()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        with ExitStack() as stack:
            _run(screen, directory.resolve(), stack, once=arguments.once)
            _ignore_signals()
        screen.say(f"All {screen.checked} checks held; everything is stopped.")
    except _Stopped:
        screen.say("Stopped.")
        return 1 if arguments.once else 0
    except (DemoFailed, psycopg.Error, httpx.HTTPError, OSError) as error:
        screen.error(f"The demonstration failed: {error}")
        screen.say(f"Logs are in {directory}.")
        return 1
    return 0


def _run(screen: Screen, directory: Path, stack: ExitStack, *, once: bool) -> None:
    lock = claim(directory)
    stack.callback(os.close, lock)
    os.umask(0o077)
    if once:
        stack.push(lambda kind, *_: None if kind else clear(directory))
    ports = choose_ports(os.environ)
    environment = clean_environment()
    gateway = Gateway(directory, ports, cast(), environment)

    def running(child: Child) -> Child:
        stack.callback(_stop_child, child)
        return child

    screen.title("Starting")
    place = targets.place(directory / "target")
    target = targets.Target(ports.target, place, gateway.log("target"))
    if directory not in target.directory.parents:
        stack.callback(shutil.rmtree, target.directory, ignore_errors=True)
    running(targets.start(target, environment))
    targets.fill(target)
    screen.say(f"PostgreSQL, with a small shop's data, on 127.0.0.1:{ports.target}")
    children = [running(gateway.start_control_plane())]
    screen.say(f"the control plane, on SQLite, at {gateway.api_url}")
    screen.got("with the development issuer in Entra's place: for this machine only", "yellow")
    screen.does(gateway.cast.administrator.name, f"jitgate apply -f {directory / 'documents'}")
    screen.got("\n".join(gateway.configure(target)))
    children.append(running(gateway.start_relay(children)))
    screen.say(f"a relay, for PostgreSQL, on 127.0.0.1:{ports.relay}")
    Tour(gateway, target, screen).play()
    for child in children:
        child.check()
    screen.title("The end of the tour")
    if once:
        return
    write_profiles(gateway)
    write_private(directory / "env.json", json.dumps(describe(gateway, target), indent=2) + "\n")
    stack.callback((directory / "env.json").unlink, missing_ok=True)
    explain(screen, gateway)
    while True:
        signal.pause()


def _stop_child(child: Child) -> None:
    # Nothing interrupts the stopping.
    _ignore_signals()
    child.stop()


def _stop(number: int, _: FrameType | None) -> None:
    _ignore_signals()
    raise _Stopped(number)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
