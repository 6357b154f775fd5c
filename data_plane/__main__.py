"""``python -m data_plane --config FILE`` (also ``jitgate-relay``): run a relay.

It stops on SIGTERM and SIGINT: sessions are told and closed, recordings handed over. Exit
status 0 after such a stop, 1 where it can't run at all.
"""

from __future__ import annotations

import argparse
import logging
import resource
import signal
import sys
from pathlib import Path

import structlog
import trio

from data_plane.config import ConfigError, load
from data_plane.control import Refused
from data_plane.protocols import PROTOCOLS
from data_plane.relay import start


def main() -> int:
    """Read the arguments, run the relay, and say in one line why it can't."""
    parser = argparse.ArgumentParser(prog="jitgate-relay", description="Run a jitgate relay.")
    parser.add_argument("--config", type=Path, required=True, help="the relay's TOML file")
    arguments = parser.parse_args()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    _raise_file_limit()
    try:
        config = load(arguments.config)

        async def run() -> None:
            stop = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop_on_signal, stop)
                await start(config, PROTOCOLS, stop)
                nursery.cancel_scope.cancel()

        trio.run(run)
    except* (ConfigError, OSError, Refused) as group:
        reason: BaseException = group
        while isinstance(reason, BaseExceptionGroup):
            reason = reason.exceptions[0]
        print(f"jitgate-relay: {reason}", file=sys.stderr)
        sys.exit(1)
    return 0


async def _stop_on_signal(stop: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            stop.set()


def _raise_file_limit() -> None:
    """As many files as we may: a session needs two sockets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
