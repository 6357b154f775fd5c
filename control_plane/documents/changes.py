"""What an apply changes, and what it would be like after it: values, without a database.

Counterpart: :mod:`control_plane.documents.service` plans with them and then writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from control_plane.documents.difference import difference
from control_plane.documents.validation import Document, presented
from control_plane.errors import Location


@dataclass(frozen=True, slots=True)
class Change:
    """What an apply does to one document. ``diff`` is a unified diff, empty if unchanged.

    ``action`` is ``created``, ``changed``, ``unchanged``, ``rolled_back`` or ``deleted``.
    """

    kind: str
    name: str
    action: str
    revision: int
    diff: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did, or would do, and what looks like a mistake without being one."""

    changes: tuple[Change, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """The documents that an apply changes, and all as they would be after it."""

    changed: Sequence[Document]
    after: Mapping[tuple[str, str], Document]


Adviser = Callable[[Session, Proposal], Iterable[str]]
"""Gives warnings about a proposal; it must not refuse it."""


def dangling(proposal: Proposal) -> list[Location]:
    """What the changed documents name that wouldn't exist."""
    return [
        document.complaint(reference.place, f"there is no {reference.kind}/{reference.name}")
        for document in proposal.changed
        for reference in document.kind.references(document.spec)
        if (reference.kind, reference.name) not in proposal.after
    ]


def planned(document: Document, old: str | None, revision: int, action: str) -> Change:
    """What putting ``document`` in place of the content ``old`` is.

    ``revision`` is its newest, 0 where there never was one; ``action`` names the change where
    it isn't just an apply.
    """
    kind, name = document.key
    if old == document.content:
        return Change(kind, name, "unchanged", revision, "")
    diff = diff_of(kind, name, old, document.content, revision + 1)
    plain = "created" if old is None else "changed"
    return Change(kind, name, action or plain, revision + 1, diff)


def diff_of(kind: str, name: str, old: str | None, new: str | None, revision: int) -> str:
    """What turns content ``old`` into ``new``, which is ``revision``, as a unified diff."""

    def title(content: str | None, number: int) -> str:
        return "/dev/null" if content is None else f"{kind}/{name} (revision {number})"

    return difference(
        presented(old), presented(new), title(old, revision - 1), title(new, revision)
    )
