"""How much of each part of the source the tests must run, and how much they did.

A part is the longest listed prefix of a file's path, or else its directory. Reads what
pytest-cov wrote; generated code isn't measured.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage

COMPLETE = (
    "control_plane/identity",
    "data_plane/gate.py",
    "data_plane/masking",
    "data_plane/sql",
    "protos",
)
ELSEWHERE = 90.0


@dataclass(frozen=True, slots=True)
class Share:
    """How much of one part was run: lines and branches together, in percent."""

    part: str
    percent: float
    wanted: float
    missing: tuple[str, ...]
    """The files of the part that aren't covered wholly, with the lines."""

    @property
    def met(self) -> bool:
        """Whether it is enough."""
        return self.percent >= self.wanted

    def __str__(self) -> str:
        mark = "" if self.met else "  TOO LITTLE"
        return f"{self.percent:6.1f} % of {self.wanted:5.1f} %  {self.part}{mark}"


def part_of(file: str) -> str:
    """The part that a file is counted in."""
    for part in COMPLETE:
        if file == part or file.startswith(part + "/"):
            return part
    return str(Path(file).parent)


def shares() -> list[Share]:
    """The parts' shares, from the data file of the run that ends now."""
    measured = coverage.Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        measured.json_report(outfile=str(report))
        files: dict[str, Any] = json.loads(report.read_text())["files"]
    parts: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
    for name, file in files.items():
        parts[part_of(name)].append((name, file))
    return [_share(part, parts[part]) for part in sorted(parts)]


def _share(part: str, files: list[tuple[str, Any]]) -> Share:
    summaries = [file["summary"] for _, file in files]
    wanted = 100.0 if part in COMPLETE else ELSEWHERE
    total = sum(item["num_statements"] + item["num_branches"] for item in summaries)
    run = sum(item["covered_lines"] + item["covered_branches"] for item in summaries)
    missing = tuple(
        f"{name}: lines {file['missing_lines']}, branches {file['missing_branches']}"
        for name, file in sorted(files)
        if file["missing_lines"] or file["missing_branches"]
    )
    return Share(part, 100.0 * run / total if total else 100.0, wanted, missing)
