"""The demonstration's child processes: started, watched, and stopped whatever happens.

Each child writes to a log file and dies with us, also when we are killed: the kernel is asked
to end it then (Linux). Stopping goes in the reverse order of starting, politely first.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1


class DemoFailed(Exception):
    """The demonstration can't go on; the message is for the person who started it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a child runs as, where that isn't us: PostgreSQL refuses to run as root."""

    user: int
    group: int


class Child:
    """One running program. ``stop_signal`` is what ends it in order."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        directory: Path,
        environment: Mapping[str, str],
        identity: Identity | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._stop_signal = stop_signal
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=dict(environment),
                # A terminal's Ctrl-C is for us alone: we stop the children, in order.
                start_new_session=True,
                preexec_fn=_die_with_parent(stop_signal),
                user=identity.user if identity else None,
                group=identity.group if identity else None,
                extra_groups=[] if identity else None,
            )

    def check(self) -> None:
        """Raise :class:`DemoFailed` with the log's end if it isn't running."""
        status = self._process.poll()
        if status is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise DemoFailed(
                f"{self.name} ended with status {status}; {self.log} ends with:\n{tail}"
            )

    def wait_until(
        self,
        ready: Callable[[], bool],
        what: str,
        needed: Sequence[Child] = (),
        seconds: float = 60.0,
    ) -> None:
        """Ask ``ready`` until it is true.

        Raises :class:`DemoFailed` after ``seconds``, and as soon as this child or one of those
        that it needs has ended.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            for child in (self, *needed):
                child.check()
            if time.monotonic() > deadline:
                raise DemoFailed(f"{what} did not happen within {seconds:.0f} s; see {self.log}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it: in order, or after some seconds by force. Its whole group goes."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._signal_group(signal.SIGKILL)
                self._process.wait()
        self._signal_group(signal.SIGKILL)

    @property
    def pid(self) -> int:
        """Its process."""
        return int(self._process.pid)

    def kill(self) -> None:
        """End it without warning."""
        self._process.kill()
        self._process.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return


def _die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number))

    return ask
