"""Documents from several files as one text, and the way back from its lines to the files.

The control plane takes all documents of one change in one text, so that all or none of them
are applied; what it finds wrong there, people want to see in their own files.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from control_plane.cli.errors import Usage

_SUFFIXES = (".yaml", ".yml", ".json")
_SEPARATOR = "---\n"
# YAML 1.2 section 9.1.2: a document that is begun explicitly needs no separator before it.
_EXPLICIT = re.compile(r"\A(?:[ \t]*(?:#.*)?\r?\n)*---(?:\s|\Z)")


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    first_line: int


@dataclass(frozen=True, slots=True)
class Sources:
    """One text out of several files."""

    text: str
    _parts: tuple[_Part, ...]

    def place(self, line: int, column: int) -> str:
        """``file:line:column`` of a place in the text."""
        part = self._parts[0]
        for candidate in self._parts:
            if candidate.first_line <= line:
                part = candidate
        return f"{part.name}:{line - part.first_line + 1}:{column}"


def gather(given: Sequence[str]) -> Sources:
    """Read the files; ``-`` is standard input, a folder its YAML and JSON files by name.

    Raises :class:`Usage` for what can't be read.
    """
    text = ""
    parts: list[_Part] = []
    for name, content in _contents(given):
        if text and not _EXPLICIT.match(content):
            text += _SEPARATOR
        parts.append(_Part(name, text.count("\n") + 1))
        # A line ends at each of the three line breaks of YAML (section 5.4); one kind is enough.
        text += content.replace("\r\n", "\n").replace("\r", "\n")
        if not text.endswith("\n"):
            text += "\n"
    if not parts:
        raise Usage("no documents were given")
    return Sources(text, tuple(parts))


def _contents(given: Sequence[str]) -> Iterable[tuple[str, str]]:
    if given.count("-") > 1:
        raise Usage("standard input can be read only once")
    for name in given:
        if name == "-":
            yield "<stdin>", _decoded("<stdin>", sys.stdin.buffer.read())
            continue
        path = Path(name)
        try:
            if not path.is_dir():
                yield name, _decoded(name, path.read_bytes())
                continue
            files = sorted(one for one in path.iterdir() if one.suffix in _SUFFIXES)
            for file in files:
                yield str(file), _decoded(str(file), file.read_bytes())
        except OSError as error:
            raise Usage(f"{name}: {error.strerror or 'it cannot be read'}") from None


def _decoded(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise Usage(f"{name}:{line}:{column}: this is not UTF-8") from None
