"""What the tree as a whole keeps to."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.tree import PACKAGES, ROOT, modules, project_files

TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "control_plane",
    "data_plane",
    "deploy",
    "docs",
    "migrations",
    "protos",
    "pyproject.toml",
    "requirements-relay.lock",
    "requirements.lock",
    "tests",
}

# Written apart, so that this file doesn't name them itself.
MACHINE_BOUND = [
    re.compile(pattern)
    for pattern in (
        r"pypi" r"\.org",
        r"python" r"hosted\.org",
        r"registry\." r"npmjs",
        r"^--(extra-)?index-" r"url",
        r"^--find-" r"links",
        r"(?<![\w.])/(work|root|home/\w+)" r"/\w",
        r"\.py" r"env/",
    )
]
WEAK_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}


def test_nothing_unexpected_lies_at_the_top() -> None:
    assert {path.parts[0] for path in project_files()} <= TOP_LEVEL


def test_no_file_names_a_package_registry_or_a_path_of_one_machine() -> None:
    found = []
    for path in project_files():
        try:
            lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path}:{number}: {line.strip()[:80]}"
            for number, line in enumerate(lines, 1)
            if any(pattern.search(line) for pattern in MACHINE_BOUND)
        ]
    assert found == []


def test_every_module_says_what_it_is_for() -> None:
    silent = []
    for path in modules():
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        if tree.body and ast.get_docstring(tree) is None:
            silent.append(str(path))
    assert silent == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [str(path) for path in modules() if WEAK_NAMES & {path.stem, *path.parts}] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_imports_without_a_warning_and_starts_nothing(package: str) -> None:
    names = [
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in modules()
        # Alembic's environment runs the migrations where it is loaded: its way, not ours.
        if path.parts[0] == package and path != Path("migrations/env.py")
    ]
    assert names
    program = (
        "import importlib, sys, threading\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made where such pages are shown."""
    headings = re.findall(r"^#{1,6}\s+(.+?)\s*#*$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and pictures that point into the project."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z][a-z0-9+.-]*:", target):
            yield target


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    pages = [ROOT / path for path in project_files() if path.suffix == ".md"]
    assert pages
    broken = []
    for page in pages:
        for link in links(page):
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            if not target.exists() or (
                anchor and target.suffix == ".md" and anchor not in anchors(target)
            ):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []
