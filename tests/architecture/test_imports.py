"""The import rules hold, and each of them can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

LINT = Path(sys.executable).parent / "lint-imports"

# A rule, a file, and a line that breaks the rule there.
BREACHES = [
    ("planes", "data_plane/config.py", "import control_plane.settings"),
    ("contract", "protos/chain.py", "import data_plane.config"),
    ("rust-free", "data_plane/relay.py", "import cryptography"),
    ("sans-io", "data_plane/sql/parse.py", "import trio"),
    ("sans-io", "data_plane/masking/masker.py", "import time"),
    ("relay-layers", "data_plane/gate.py", "import data_plane.session"),
    ("relay-layers", "data_plane/newcomer.py", "x = 1"),
    ("protocols", "data_plane/protocols/newcomer.py", "import data_plane.protocols.postgres"),
    ("grpc", "data_plane/session.py", "import grpc"),
    ("control-plane-layers", "control_plane/database.py", "import control_plane.audit"),
    ("domain-layers", "control_plane/audit/service.py", "import control_plane.audit.routes"),
    ("services", "control_plane/audit/service.py", "import fastapi"),
    ("cli", "control_plane/cli/output.py", "import control_plane.database"),
]


def lint(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LINT), "--no-logo", "--no-cache", *arguments],
        cwd=where,
        env={"PATH": "", "PYTHONPATH": str(where), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )


def test_import_rules_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("rule", "file", "line"), BREACHES)
def test_a_breach_of_an_import_rule_is_found(
    rule: str, file: str, line: str, tmp_path: Path
) -> None:
    for package in ("protos", "data_plane", "control_plane"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as source:
        source.write(f"\n{line}\n")
    done = lint(tmp_path, "--contract", rule)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout
