"""Pages of a list, and the opaque cursor that leads to the next one.

A list is walked by keyset: its order ends in a unique column and the cursor holds the last
row's values, so that rows added meanwhile neither shift nor repeat what follows. The cursor is
opaque to clients and holds nothing that they haven't seen.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field

from control_plane.errors import Invalid

Item = TypeVar("Item")
Row = TypeVar("Row")

Limit = Annotated[int, Query(ge=1, le=200, description="How many items at most.")]
Cursor = Annotated[
    str | None,
    Query(max_length=1000, description="`next` of the page before; absent: the first page."),
]
DEFAULT_LIMIT = 50


class Page(BaseModel, Generic[Item]):
    """Some items of a list, and where the next ones are."""

    items: list[Item]
    next: str | None = Field(default=None, description="The next page's cursor; null: no more.")


def encode_cursor(*values: str | int) -> str:
    """The cursor after a row with these values in the list's order."""
    text = json.dumps(values, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str | None, *types: type[str] | type[int]) -> tuple[Any, ...] | None:
    """The values in a cursor, or None for the first page.

    Raises :class:`Invalid` (``cursor_invalid``) unless it holds exactly values of ``types``.
    """
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        values = json.loads(raw)
    except (binascii.Error, ValueError, RecursionError):
        values = None
    if (
        not isinstance(values, list)
        or [type(value) for value in values] != list(types)
        or any(isinstance(value, int) and abs(value) >= 2**63 for value in values)
    ):
        raise Invalid("cursor_invalid", "this cursor didn't come from this list")
    return tuple(values)


def page_of(
    rows: Sequence[Row],
    limit: int,
    present: Callable[[Row], Item],
    position: Callable[[Row], tuple[str | int, ...]],
) -> Page[Item]:
    """A page out of up to ``limit + 1`` rows; the one too many only says that there are more."""
    shown = rows[:limit]
    more = len(rows) > limit
    return Page[Any](
        items=[present(row) for row in shown],
        next=encode_cursor(*position(shown[-1])) if more and shown else None,
    )
