"""The project's own files, as the architecture tests see them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MADE = [".git"] + [
    line.rstrip("/")
    for line in (ROOT / ".gitignore").read_text().splitlines()
    if line and not line.startswith("#")
]
PACKAGES = ("protos", "data_plane", "control_plane", "migrations")


def project_files() -> list[Path]:
    """Every file that is, or would be, committed; relative to the root.

    Git says which; in a tree that was unpacked without its history, everything that isn't
    made by the project's own commands.
    """
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return sorted(_unpacked(ROOT))
    names = {Path(name.decode()) for name in listed.split(b"\0") if name}
    return sorted(name for name in names if (ROOT / name).is_file())


def _unpacked(directory: Path) -> Iterator[Path]:
    for path in directory.iterdir():
        if any(path.match(pattern) for pattern in MADE):
            continue
        if path.is_dir():
            yield from _unpacked(path)
        else:
            yield path.relative_to(ROOT)


def modules() -> list[Path]:
    """The packages' Python files without the generated ones, relative to the root."""
    return [
        name
        for name in project_files()
        if name.suffix == ".py" and name.parts[0] in PACKAGES and not name.stem.endswith("_pb2")
    ]
