"""From a text to the server's own parse trees, within bounds of memory, stack and time.

Counterpart: :mod:`data_plane.sql.classify` walks what this returns. The grammar is
PostgreSQL's (libpg_query, through postgast); this module adds nothing to it but bounds, and
judges nothing.

Theory of operation
-------------------
libpg_query's JSON form is used rather than its protobuf form: it is about a third faster to
get into Python, and its depth is not limited to a hundred messages. Three things in the C
code have no bound of their own, and a hostile text can reach each of them:

* The tree is written by recursive functions that don't watch the stack, and a chain such as
  ``1+1+1...`` makes a tree as deep as the text is long. It takes at most 70 bytes of stack a
  byte of text (measured; two characters a level at 133 bytes), so a longer text is parsed on
  a thread whose stack is large enough for any text of that length.
* ``SET (a, b, ...) = (source)`` repeats the source once for each column, and such sources can
  nest. What a text grows to is therefore estimated from its tokens first.
* A tree is many times larger than its text, so its size is bounded as well.

Python's own recursion limit bounds the depth of what remains; it shows as ``RecursionError``,
which becomes :class:`NotUnderstood` like everything else.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

# Imported by name, for the stubs of its protobuf module aren't valid and stop a type checker.
_postgast: Any = import_module("postgast")
_lib: Any = import_module("postgast.native").lib

Tree = dict[str, Any]
"""A node of the tree in libpg_query's JSON form."""

MAX_TEXT = 1 << 20
"""Bytes of UTF-8 in a text."""
MAX_TREE = 8 << 20
"""Bytes of a text's tree in JSON."""
MAX_STATEMENTS = 1000
MAX_TOKENS = 150_000
"""Tokens of a text after the repetition that multiple assignment brings."""

_SHALLOW = 8 << 10
_STACK_BASE = 16 << 20
_STACK_PER_BYTE = 256
_SET = re.compile(r"set", re.IGNORECASE)


class NotUnderstood(Exception):
    """The text has no tree here; the message says why, for the one who sent the text."""


def parse(text: str) -> list[Tree]:
    """The statements of a text, each as ``{"NodeType": {...}}``, in their order.

    Raises :class:`NotUnderstood`, and nothing else, whatever the text is.
    """
    if "\0" in text:
        raise NotUnderstood("the text holds a NUL")
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise NotUnderstood("the text is not valid Unicode") from None
    if len(data) > MAX_TEXT:
        raise NotUnderstood(f"the text is longer than {MAX_TEXT} bytes")
    _check_growth(text)
    tree = _tree(data) if len(data) <= _SHALLOW else _tree_on_large_stack(data)
    if len(tree) > MAX_TREE:
        raise NotUnderstood("the text is too complex")
    try:
        statements = json.loads(tree).get("stmts", [])
    except RecursionError:
        raise NotUnderstood("the text is nested too deeply") from None
    if len(statements) > MAX_STATEMENTS:
        raise NotUnderstood(f"the text has more than {MAX_STATEMENTS} statements")
    return [statement["stmt"] for statement in statements]


def _tree(data: bytes) -> bytes:
    result = _lib.pg_query_parse(data)
    try:
        if result.error:
            message: bytes = result.error.contents.message
            raise NotUnderstood(message.decode(errors="replace"))
        tree: bytes = result.parse_tree
        return tree
    finally:
        _lib.pg_query_free_parse_result(result)


def _tree_on_large_stack(data: bytes) -> bytes:
    """As :func:`_tree`, on a stack that no text of this length can exhaust."""
    answers: list[bytes | NotUnderstood] = []

    def run() -> None:
        try:
            answers.append(_tree(data))
        except NotUnderstood as error:
            answers.append(error)

    # The size holds for all threads that start meanwhile; larger than needed harms none,
    # since a stack only takes the memory that it uses.
    before = threading.stack_size(_STACK_BASE + _STACK_PER_BYTE * len(data))
    try:
        worker = threading.Thread(target=run, name="sql-parser")
        worker.start()
    except RuntimeError:
        raise NotUnderstood("no memory to parse so long a text") from None
    finally:
        threading.stack_size(before)
    worker.join()
    [answer] = answers
    if isinstance(answer, NotUnderstood):
        raise answer
    return answer


def _check_growth(text: str) -> None:
    """Refuse a text whose multiple assignments would repeat their sources too often."""
    levels = len(_SET.findall(text))
    if not levels:
        return
    # Each level repeats at most once a comma; the product is greatest where they share them.
    if levels <= 8 and len(text) * (text.count(",") / levels + 1) ** levels <= MAX_TOKENS:
        return
    try:
        tokens = _postgast.scan(text).tokens
    except _postgast.PgQueryError as error:
        raise NotUnderstood(error.message) from None
    if grown(token.token for token in tokens) > MAX_TOKENS:
        raise NotUnderstood("the text is too complex")


# The scanner gives single characters as their ASCII codes (pg_query.proto, enum Token).
_COMMA = 0x2C
_TOKENS: Any = import_module("postgast.pg_query_pb2").Token
_COMMENTS = frozenset({_TOKENS.Value("SQL_COMMENT"), _TOKENS.Value("C_COMMENT")})
SET: int = _TOKENS.Value("SET")
"""The token of the keyword."""


@dataclass(slots=True)
class _Level:
    """What is known of the inside of a pair of parentheses."""

    base: int
    factor: int  # what a token counts for
    assigns: bool  # whether it may hold the columns of an assignment
    commas: int = 0


def grown(tokens: Iterable[int]) -> int:
    """How many tokens the text comes to when ``SET (a, b) = source`` repeats its source.

    An upper bound: a comparison of rows behind a comma looks the same, and counts the same.
    """
    total = 0
    levels = [_Level(1, 1, assigns=False)]
    before = 0
    columns = 0  # columns in the parentheses closed just before, 0 if none were
    for token in tokens:
        if token in _COMMENTS:
            continue
        level = levels[-1]
        total += level.factor
        if total > MAX_TOKENS:
            break
        closed = 0
        match token:
            case 0x28:  # (
                levels.append(_Level(level.factor, level.factor, before in (SET, _COMMA)))
            case 0x29 if len(levels) > 1:  # )
                levels.pop()
                closed = level.commas + 1 if level.assigns else 0
            case 0x2C | 0x3B:  # , ;
                level.commas += 1
                level.factor = level.base
            case 0x3D if columns:  # =
                level.factor *= columns
        before, columns = token, closed
    return total
