"""RE2 patterns over bytes, typed.

Counterpart: the ``re2`` package, which has no types of its own. Every pattern of this package
is compiled here, as UTF-8 over bytes, so searching is linear in the text whatever the text
is, and bytes that are no UTF-8 are stepped over. This module holds no pattern of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import re2

# The set's automaton is built as texts need it, in at most this memory; it starts afresh
# when full. A set that cannot even start would match nothing, so there is room to spare.
_MEMORY = 64 << 20


class Found(Protocol):
    """One match; offsets are in bytes."""

    def span(self, group: int = 0, /) -> tuple[int, int]: ...
    def group(self, group: int = 0, /) -> bytes: ...


class Pattern(Protocol):
    """A compiled pattern."""

    def search(self, text: bytes, pos: int = 0, /) -> Found | None: ...
    def finditer(self, text: bytes, /) -> Iterator[Found]: ...


def compiled(pattern: str) -> Pattern:
    """The pattern, ready to search. ``re2.error`` where it is none."""
    regexp: Pattern = re2.compile(pattern.encode(), _options())
    return regexp


class PatternSet:
    """Many patterns looked for in one pass."""

    __slots__ = ("_set",)

    def __init__(self, patterns: Iterable[str]) -> None:
        self._set = re2.Set.SearchSet(_options())
        for pattern in patterns:
            self._set.Add(pattern.encode())
        self._set.Compile()

    def matching(self, text: bytes) -> list[int]:
        """Which patterns match anywhere in ``text``, by the order they were given in."""
        return self._set.Match(text) or []


def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    return options
