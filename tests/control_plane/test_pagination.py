"""Cursors go out and come back, and nothing else comes back as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import Invalid
from control_plane.pagination import decode_cursor, encode_cursor, page_of


@given(st.text(), st.integers(-(2**63) + 1, 2**63 - 1))
def test_a_cursor_comes_back_as_it_went(text: str, number: int) -> None:
    assert decode_cursor(encode_cursor(text, number), str, int) == (text, number)


@given(st.text(max_size=100))
def test_anything_else_is_refused_and_nothing_crashes(text: str) -> None:
    try:
        found = decode_cursor(text, int)
    except Invalid:
        return
    assert found is not None
    assert isinstance(found[0], int)


def test_a_cursor_of_another_list_is_refused() -> None:
    with pytest.raises(Invalid):
        decode_cursor(encode_cursor("a"), int)
    with pytest.raises(Invalid):
        decode_cursor(encode_cursor(2**63), int)


def test_the_row_too_many_only_says_that_there_are_more() -> None:
    full = page_of([1, 2, 3], 2, str, lambda row: (row,))
    assert (full.items, decode_cursor(full.next, int)) == (["1", "2"], (2,))
    assert page_of([1, 2], 2, str, lambda row: (row,)).next is None
    assert page_of([], 2, str, lambda row: (row,)).next is None
    assert decode_cursor(None, int) is None
