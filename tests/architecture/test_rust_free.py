"""The proof that a relay's installed environment holds no Rust, and that the proof can fail."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.rust import scan
from tests.architecture.tree import PACKAGES, ROOT

# Known to be Rust, and in the lock file for the control plane or for development.
CONTROLS = ("cryptography", "pydantic-core", "rpds-py")


def run(*command: str | Path, where: Path = ROOT) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=where,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def pip(environment: Path, *arguments: str | Path) -> None:
    """Run this environment's pip on another one, which so holds no pip itself."""
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *arguments)


def environment(kind: str, requirements: str) -> Path:
    """A clean environment with exactly these locked requirements; kept while they are equal."""
    digest = hashlib.sha256(f"{sys.version}\n{requirements}".encode()).hexdigest()[:16]
    place = ROOT / ".cache" / f"{kind}-{digest}"
    done = place / "complete"
    if not done.exists():
        shutil.rmtree(place, ignore_errors=True)
        run(sys.executable, "-m", "venv", "--without-pip", place)
        listed = place / "requirements.txt"
        listed.write_text(requirements)
        pip(place, "--require-hashes", "--no-deps", "--requirement", listed)
        done.touch()
    return place


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's own wheel, built from a copy so that the tree stays clean."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, copy / package, ignore=ignored)
    built = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", built)
    run(sys.executable, "-m", "pip", "wheel", *options, ".", where=copy)
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def relay_environment(wheel: Path) -> Path:
    place = environment("relay", (ROOT / "requirements-relay.lock").read_text())
    # The extra is named so that pip would fetch what the lock forgot; with no index it fails.
    pip(place, "--no-index", "--force-reinstall", "--no-deps", wheel)
    pip(place, "--no-index", f"{wheel}[relay]")
    return place


def test_relay_environment_holds_no_rust(relay_environment: Path) -> None:
    assert list((relay_environment / "lib").rglob("*.so"))
    assert list(scan(relay_environment)) == []


def test_relay_starts_from_its_own_environment_alone(
    relay_environment: Path, tmp_path: Path
) -> None:
    python = relay_environment / "bin" / "python"
    run(python, "-I", "-W", "error", "-c", "import data_plane.__main__", where=tmp_path)
    assert "--config" in run(python, "-I", "-m", "data_plane", "--help", where=tmp_path)


@pytest.fixture(scope="module")
def rusty_environment() -> Path:
    lock = (ROOT / "requirements.lock").read_text()
    blocks = []
    for name in CONTROLS:
        block = re.search(rf"^{name}==.*?(?=^\S|\Z)", lock, re.M | re.S)
        assert block, name
        blocks.append(re.sub(r"^\s*#.*\n", "", block[0], flags=re.M))
    return environment("rusty", "".join(blocks))


@pytest.mark.parametrize("name", CONTROLS)
def test_the_scan_finds_the_machine_code_of_a_package_known_to_be_rust(
    name: str, rusty_environment: Path
) -> None:
    folder = {"pydantic-core": "pydantic_core", "rpds-py": "rpds"}.get(name, name)
    found = {item.file for item in scan(rusty_environment) if item.kind == "machine code"}
    assert [file for file in found if folder in file.parts]


@pytest.mark.parametrize("kind", ["builder", "bill of materials"])
def test_the_scan_finds_the_other_marks_too(kind: str, rusty_environment: Path) -> None:
    assert kind in {item.kind for item in scan(rusty_environment)}
