"""What the kernel says of a process: processor time and memory, all threads together (Linux).

Counterpart: proc(5). It starts and stops nothing.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_CLEAR_PEAK = "5"


@dataclass(frozen=True, slots=True)
class Process:
    """A running process; reading of one that has ended raises :class:`OSError`."""

    pid: int

    @property
    def cpu_seconds(self) -> float:
        """User and system time until now; the kernel counts in hundredths of a second."""
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace")
        # The second field is the program's name in brackets, and may hold anything.
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def resident_kib(self) -> int:
        """Resident memory, in KiB."""
        return self._memory("VmRSS")

    @property
    def peak_kib(self) -> int:
        """The most there was resident since the start, or since :meth:`forget_peak`, in KiB."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        """Let the peak begin anew at what is resident now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text(_CLEAR_PEAK, encoding="ascii")

    def _memory(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise ProcessLookupError(f"process {self.pid} has no {name}")


class PeakMemory:
    """The most memory that a process has while the context is entered.

    By the kernel's own mark where it may be reset, and by looking every few milliseconds
    otherwise.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self.before_kib = 0
        self.peak_kib = 0
        self._sampling = threading.Thread(target=self._sample, daemon=True)
        self._over = threading.Event()
        self._marked = True

    @property
    def growth_kib(self) -> int:
        """The peak over what was there before."""
        return self.peak_kib - self.before_kib

    def __enter__(self) -> Self:
        self.before_kib = self._process.resident_kib
        try:
            self._process.forget_peak()
        except OSError:
            self._marked = False
            self._sampling.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._marked:
            self.peak_kib = self._process.peak_kib
        else:
            self._over.set()
            self._sampling.join()

    def _sample(self) -> None:
        while not self._over.wait(0.005):
            self.peak_kib = max(self.peak_kib, self._process.resident_kib)
