"""Prints a transcript as it happened: who said what, when, and what was decided."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from control_plane.cli.output import Printer
from control_plane.recordings.transcript import Direction, Line, Table

_MARKS: Mapping[Direction, tuple[str, str]] = MappingProxyType(
    {
        Direction.REQUEST: (">", "cyan"),
        Direction.ANSWER: ("<", "green"),
        Direction.GATE: ("*", "yellow"),
    }
)
_KIND_WIDTH = 10
_INDENT = 27
_LONGEST_CELL = 60
_LONGEST_TEXT = 2000


class Replay:
    """Prints lines. ``speed`` scales the gaps between them; None: no waiting.

    Without ``full``, routine messages are left out and long texts and cells are abridged.
    """

    def __init__(
        self,
        printer: Printer,
        *,
        speed: float | None,
        full: bool,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._printer = printer
        self._speed = speed
        self._full = full
        self._wait = wait

    def play(self, lines: Iterable[Line]) -> None:
        """Print all lines; raises what they raise, after the ones before it."""
        offset = 0
        for line in lines:
            if line.routine and not self._full:
                continue
            if self._speed is not None and line.offset > offset:
                self._wait((line.offset - offset) / 1e9 / self._speed)
            # A clock that was set back doesn't make the next gap longer.
            offset = max(offset, line.offset)
            self._print(line)

    def _print(self, line: Line) -> None:
        mark, style = _MARKS[line.direction]
        text = line.text if self._full else abridged(line.text, _LONGEST_TEXT)
        first, *more = text.split("\n")
        seconds = max(0, line.offset) / 1e9
        self._printer.line(
            (f"{seconds:10.3f} {line.sequence:>5} ", "dim"),
            (f"{mark} {line.kind:{_KIND_WIDTH if first else 0}}", _style(line, style)),
            f" {first}" if first else "",
        )
        for rest in more:
            self._printer.line(" " * (_INDENT + 4), rest)
        if line.table is not None:
            self._table(line.table)

    def _table(self, table: Table) -> None:
        self._printer.table(
            table.columns,
            (
                [
                    cell if cell is None or self._full else abridged(cell, _LONGEST_CELL)
                    for cell in row
                ]
                for row in table.rows
            ),
            ruled=True,
            indent=_INDENT,
        )
        if table.omitted:
            self._printer.line(" " * _INDENT, (f" ... {table.omitted} more; see --full", "dim"))


def abridged(text: str, longest: int) -> str:
    """``text``, or its beginning and how much is left out."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}... ({len(text) - longest} more characters)"


def as_data(line: Line) -> dict[str, object]:
    """A line for programs."""
    return {
        "at": line.at,
        "offset": line.offset,
        "sequence": line.sequence,
        "direction": line.direction.value,
        "kind": line.kind,
        "text": line.text,
        "routine": line.routine,
        "table": None
        if line.table is None
        else {
            "columns": list(line.table.columns),
            "rows": [list(row) for row in line.table.rows],
            "omitted": line.table.omitted,
        },
    }


def _style(line: Line, style: str) -> str:
    if line.kind == "error":
        return "bold red"
    if line.direction is Direction.GATE:
        return "bold yellow"
    return style
