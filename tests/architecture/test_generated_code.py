"""The generated code of the contract is what its ``.proto`` files say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.architecture.tree import ROOT


def test_generated_code_is_current(tmp_path: Path) -> None:
    sources = sorted(path.relative_to(ROOT) for path in (ROOT / "protos").rglob("*.proto"))
    assert sources
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}",
            f"--pyi_out={tmp_path}", *map(str, sources),
        ],
        cwd=ROOT,
        check=True,
    )  # fmt: skip
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2.py*")}
    committed = {
        path.relative_to(ROOT): path.read_text()
        for suffix in ("py", "pyi")
        for path in (ROOT / "protos").rglob(f"*_pb2.{suffix}")
    }
    assert made.keys() == committed.keys()
    stale = [str(name) for name in made if made[name] != committed[name]]
    assert stale == [], "make protos"
