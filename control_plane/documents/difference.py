"""Unified diffs of texts, in bounded time: documents are compared while others wait."""

from __future__ import annotations

import difflib

MAX_LINES = 2_000
_CONTEXT = 3


def difference(old: str, new: str, old_title: str, new_title: str) -> str:
    """What turns ``old`` into ``new``, as a unified diff; empty if they are equal.

    Of texts beyond :data:`MAX_LINES` lines it is one hunk, from the first line that differs to
    the last: right, but not the shortest.
    """
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    if before == after:
        return ""
    if max(len(before), len(after)) <= MAX_LINES:
        return "".join(difflib.unified_diff(before, after, old_title, new_title))
    # difflib takes time quadratic in the lines, or worse.
    shorter = min(len(before), len(after))
    head = 0
    while head < shorter and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < shorter - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    start = max(0, head - _CONTEXT)
    leading = before[start:head]
    removed, added = before[head : len(before) - tail], after[head : len(after) - tail]
    trailing = before[len(before) - tail :][:_CONTEXT]
    kept = len(leading) + len(trailing)
    # An empty side counts from line 0, as with every unified diff.
    places = [
        f"{start + 1 if whole else 0},{len(changed) + kept}"
        for whole, changed in ((before, removed), (after, added))
    ]
    return "".join(
        [
            f"--- {old_title}\n+++ {new_title}\n@@ -{places[0]} +{places[1]} @@\n",
            *(" " + line for line in leading),
            *("-" + line for line in removed),
            *("+" + line for line in added),
            *(" " + line for line in trailing),
        ]
    )
