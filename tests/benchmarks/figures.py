"""The benchmark's arithmetic: medians, percentiles, ratios, targets, the table and the JSON.

Counterparts: the other modules here measure, :mod:`tests.benchmarks.report` says what is
compared with what. Nothing here measures, and nothing here knows what a figure is of.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from statistics import median
from typing import Any


class Met(Enum):
    """How a figure stands to its target."""

    NO = "no"
    YES = "yes"
    STRETCH = "stretch"
    NOT_MEASURED = "not measured"
    NONE = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be reached, and what would be better still. ``at_least``: more is better."""

    reach: float
    stretch: float
    at_least: bool

    def met(self, value: float) -> Met:
        """How a value stands to it."""
        if self._reached(value, self.stretch):
            return Met.STRETCH
        return Met.YES if self._reached(value, self.reach) else Met.NO

    def _reached(self, value: float, limit: float) -> bool:
        return value >= limit if self.at_least else value <= limit

    def shown(self, unit: str) -> str:
        """As the table has it: the stretch in brackets."""
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {number(self.reach)}{unit} ({number(self.stretch)}{unit})"


def at_least(reach: float, stretch: float) -> Target:
    """A target that more is better for."""
    return Target(reach, stretch, at_least=True)


def at_most(reach: float, stretch: float) -> Target:
    """A target that less is better for."""
    return Target(reach, stretch, at_least=False)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. ``value`` is None where nothing was measured."""

    what: str
    value: float | None
    unit: str = ""
    target: Target | None = None
    remark: str = ""

    @property
    def met(self) -> Met:
        """How it stands to its target, if it has one."""
        if self.value is None:
            return Met.NOT_MEASURED
        return Met.NONE if self.target is None else self.target.met(self.value)

    def cells(self) -> tuple[str, str, str, str]:
        """The four columns: what, measured, target, met?"""
        measured = "-" if self.value is None else f"{number(self.value)}{self.unit}"
        if self.remark:
            measured = f"{measured}, {self.remark}" if self.value is not None else self.remark
        target = "" if self.target is None else self.target.shown(self.unit)
        return self.what, measured, target, self.met.value


def number(value: float) -> str:
    """A number with three significant digits or so, without an exponent."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.1 else f"{value:.4f}".rstrip("0").rstrip(".")


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of all values don't exceed.

    Raises :class:`ValueError` for no values and for a share outside of 0 to 1.
    """
    ordered = sorted(values)
    if not ordered or not 0 <= share <= 1:
        raise ValueError("a percentile needs values, and a share from 0 to 1")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """The median of the rounds' ratios: each round is compared with itself only.

    So what slows a whole round down (the machine is shared) leaves its ratio as it is. Raises
    :class:`ValueError` where the two were not measured in the same rounds, or in none.
    """
    if len(of) != len(to) or not of:
        raise ValueError("a ratio is of the same rounds")
    return median(one / other for one, other in zip(of, to, strict=True))


def spread(values: Sequence[float]) -> float:
    """How far the rounds are apart: (largest - smallest) / median."""
    return (max(values) - min(values)) / median(values)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that reads well in a terminal and is Markdown."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    written = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    written.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(written)


def ratio_table(figures: Iterable[Figure]) -> str:
    """The figures against their targets."""
    return table(
        ("what", "measured", "target (stretch)", "met?"), (figure.cells() for figure in figures)
    )


def document(
    settings: Mapping[str, Any], figures: Sequence[Figure], samples: Sequence[Mapping[str, Any]]
) -> str:
    """The JSON that is written: how it was run, the figures, and every sample behind them."""
    content = {
        "format": 1,
        "settings": dict(settings),
        "figures": [{**asdict(figure), "met": figure.met.value} for figure in figures],
        "samples": [dict(sample) for sample in samples],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
