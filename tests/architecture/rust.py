"""Where a directory of installed packages holds Rust: three independent marks.

Works on files alone and imports none of them. It doesn't look into archives: an installed
environment holds what runs unpacked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Strings that Rust's compiler and standard library leave in what they build, stripped or not.
COMPILED = re.compile(
    rb"rustc version|/rustc/|rustc-\d|rust_eh_personality|rust_panic|rust_begin_unwind"
    rb"|__rust_(?:re|de)?alloc|RUST_BACKTRACE|core::panicking|_ZN4core9panicking"
    rb"|\.cargo/registry"
)
BUILDER = re.compile(r"^Generator:.*\b(maturin|setuptools.rust|cargo)", re.M | re.I)
CRATE = re.compile(rb"pkg:cargo/")
SBOM_NAMES = re.compile(
    r"(\.(cdx|cyclonedx)\.(json|xml)|\.spdx(\.\w+)?|\bs?bom\.(json|xml))$", re.I
)
SOURCES = {"Cargo.toml", "Cargo.lock"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One mark of Rust: which kind, in which file (relative), and what was seen."""

    kind: str
    file: Path
    mark: str


def scan(root: Path) -> Iterator[Finding]:
    """Every mark of Rust under ``root``; symbolic links aren't followed."""
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        name = path.relative_to(root)
        with path.open("rb") as file:
            if file.read(4) == b"\x7fELF" and (mark := COMPILED.search(path.read_bytes())):
                yield Finding("machine code", name, mark[0].decode())
        if path.name == "WHEEL" and (built := BUILDER.search(path.read_text())):
            yield Finding("builder", name, built[1])
        is_sbom = SBOM_NAMES.search(path.name) or path.parent.name == "sboms"
        if is_sbom and (crate := CRATE.search(path.read_bytes())):
            yield Finding("bill of materials", name, crate[0].decode())
        if path.name in SOURCES or path.suffix == ".rs":
            yield Finding("source", name, path.name)
