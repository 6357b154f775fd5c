"""From YAML text to nodes that know where they stand; what they mean is not known here.

Counterpart: :mod:`control_plane.documents.validation`. The language is YAML 1.2's core schema
(so ``no`` and ``on`` are words, not booleans) without tags and directives. JSON is a subset.
What is read is bounded in bytes, depth and nodes, aliases counted as often as they are used,
so a small text can't become a large value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from control_plane.errors import Invalid, Location

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 50_000
MAX_DOCUMENTS = 1_000

Value = bool | int | float | str | list["Value"] | dict[str, "Value"] | None


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value; ``line`` and ``column`` count from 1, as in every node."""

    line: int
    column: int
    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Items:
    """A sequence."""

    line: int
    column: int
    items: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping: by key, the key's own node and the value's."""

    line: int
    column: int
    fields: dict[str, tuple[Scalar, Node]] = field(default_factory=dict)


Node = Scalar | Items | Fields


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """One document of a text: ``number`` counts from 1, ``source`` is its part of the text."""

    number: int
    root: Node
    source: str

    @property
    def value(self) -> Value:
        """The document without its places."""
        return plain(self.root)


def read(data: bytes | str) -> tuple[SourceDocument, ...]:
    """The documents of a text; empty ones are left out.

    Raises :class:`Invalid`, and nothing else, with the place of the first thing that is wrong.
    """
    text = _decoded(data)
    documents: list[SourceDocument] = []
    # Where each document's part of the text begins; the first has also what is before it.
    starts: list[int] = []
    roots: list[Node | None] = []
    composer = _Composer(_events(text, starts, roots))
    composer.run(roots)
    lines = re.split(r"(?<=\n)|(?<=\r)(?!\n)", text)
    for index, root in enumerate(roots):
        if root is None:
            continue
        start = 0 if index == 0 else starts[index]
        end = starts[index + 1] if index + 1 < len(roots) else len(lines)
        source = "".join(lines[start:end])
        documents.append(SourceDocument(index + 1, root, _without_marks(source)))
    return tuple(documents)


def plain(node: Node) -> Value:
    """The node's value, without places."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return {key: plain(value) for key, (_, value) in node.fields.items()}


def refused(message: str, line: int = 1, column: int = 1, document: int = 1) -> Invalid:
    """The error for a text that can't be read."""
    return Invalid(
        "document_invalid",
        f"line {line}, column {column}: {message}",
        errors=[Location(line, column, message, document)],
    )


# YAML 1.2 section 10.3.2: how the core schema resolves a plain scalar.
_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_TRUE = re.compile(r"(?:true|True|TRUE)\Z")
_FALSE = re.compile(r"(?:false|False|FALSE)\Z")
_INTEGER = re.compile(r"[-+]?[0-9]+\Z", re.ASCII)
_OTHER_INTEGER = re.compile(r"0(?:o[0-7]+|x[0-9a-fA-F]+)\Z", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z", re.ASCII)
_LONGEST_NUMBER = 18
# Line breaks of YAML 1.1 that no editor counts as one, what no database stores, and byte order
# marks, which are in no place but the first.
_UNWANTED = re.compile("[\0\x85\u2028\u2029\ufeff\ud800-\udfff]")
# YAML 1.2 section 9.1.2: the marks around a document.
_START_MARK = re.compile(r"\A---(?:[ \t]*\r?\n|[ \t]+|\Z)")


def _decoded(data: bytes | str) -> str:
    try:
        raw = data.encode() if isinstance(data, str) else data
    except UnicodeEncodeError:
        raise refused("this is no valid Unicode") from None
    if len(raw) > MAX_BYTES:
        raise Invalid("document_too_large", f"the documents are larger than {MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig")
        raise refused("this is not UTF-8", *_place(before, len(before))) from None
    if found := _UNWANTED.search(text):
        raise refused("this character can't stand here", *_place(text, found.start()))
    return text


def _place(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset].replace("\r\n", "\n").replace("\r", "\n")
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _events(
    text: str, starts: list[int], roots: list[Node | None]
) -> Iterator[tuple[yaml.Event, int]]:
    """The parser's events, each with its document's number; notes where documents start."""
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.DocumentStartEvent):
                if event.version or event.tags:
                    raise _at(event, "directives aren't understood here", len(starts) + 1)
                if len(starts) >= MAX_DOCUMENTS:
                    raise _at(event, f"more than {MAX_DOCUMENTS} documents", len(starts) + 1)
                starts.append(_mark(event)[0] - 1)
            yield event, len(starts)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = error.problem or "this is no YAML"
        raise refused(problem, *place, max(len(starts), 1)) from None
    except yaml.reader.ReaderError as error:
        # libyaml counts the bytes before the character.
        before = text.encode()[: error.position or 0].decode(errors="ignore")
        raise refused("this character can't stand here", *_place(before, len(before))) from None


def _at(event: yaml.Event, message: str, document: int) -> Invalid:
    return refused(message, *_mark(event), document)


def _mark(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    assert mark is not None
    return mark.line + 1, mark.column + 1


def _without_marks(source: str) -> str:
    return _START_MARK.sub("", source, count=1)


class _Composer:
    """Builds nodes out of events, within the bounds."""

    def __init__(self, events: Iterator[tuple[yaml.Event, int]]) -> None:
        self._events = events
        self._nodes = 0
        # Of each anchor: the node, how many nodes it holds, and how deep it is.
        self._anchors: dict[str, tuple[Node, int, int] | None] = {}

    def run(self, roots: list[Node | None]) -> None:
        for event, number in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                node, _ = self._node(*next(self._events), depth=1)
                empty = isinstance(node, Scalar) and node.value is None
                roots.append(None if empty else node)
                assert number == len(roots)

    def _node(self, event: yaml.Event, document: int, depth: int) -> tuple[Node, int]:
        """The node that begins with ``event``, and how many levels it has."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, document, depth)
        assert isinstance(
            event, yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent
        )
        self._count(event, document, 1)
        if depth > MAX_DEPTH:
            raise _at(event, f"nested deeper than {MAX_DEPTH} levels", document)
        if event.tag is not None:
            raise _at(event, "tags aren't understood here", document)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        before = self._nodes
        node: Node
        line, column = _mark(event)
        levels = 1
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(line, column, _resolved(event, document))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Items(line, column)
            while not isinstance((inner := next(self._events))[0], yaml.SequenceEndEvent):
                item, below = self._node(*inner, depth + 1)
                node.items.append(item)
                levels = max(levels, below + 1)
        else:
            node = Fields(line, column)
            levels = self._fields(node, document, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._nodes - before + 1, levels)
        return node, levels

    def _fields(self, node: Fields, document: int, depth: int) -> int:
        levels = 1
        while not isinstance((inner := next(self._events))[0], yaml.MappingEndEvent):
            key, _ = self._node(*inner, depth + 1)
            if not (isinstance(key, Scalar) and isinstance(key.value, str)):
                raise _at(inner[0], "a key must be a word; put it in quotes", document)
            if key.value in node.fields:
                message = f"the key {key.value[:60]!r} is here a second time"
                raise _at(inner[0], message, document)
            value, below = self._node(*next(self._events), depth=depth + 1)
            node.fields[key.value] = (key, value)
            levels = max(levels, below + 1)
        return levels

    def _alias(self, event: yaml.AliasEvent, document: int, depth: int) -> tuple[Node, int]:
        anchored = self._anchors.get(event.anchor or "")
        if anchored is None:
            raise _at(event, "this alias stands for nothing before it", document)
        node, nodes, levels = anchored
        # Counted as if written out: what an alias multiplies is bounded all the same.
        self._count(event, document, nodes)
        if depth + levels - 1 > MAX_DEPTH:
            raise _at(event, f"nested deeper than {MAX_DEPTH} levels", document)
        return node, levels

    def _count(self, event: yaml.Event, document: int, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _at(event, f"more than {MAX_NODES} values", document)


def _resolved(event: yaml.ScalarEvent, document: int) -> bool | int | float | str | None:
    text: str = event.value
    if _UNWANTED.search(text):
        raise _at(event, "this value holds a character that can't be stored", document)
    if not event.implicit[0]:
        return text  # quoted, or a block: a string whatever it looks like
    if _NULL.match(text):
        return None
    if _TRUE.match(text):
        return True
    if _FALSE.match(text):
        return False
    if _INTEGER.match(text) or _OTHER_INTEGER.match(text):
        if len(text) > _LONGEST_NUMBER:
            raise _at(event, "this number is too long; put it in quotes", document)
        return int(text, 10) if _INTEGER.match(text) else int(text, 0)
    if _FLOAT.match(text):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise _at(event, "this number is too large; put it in quotes", document)
        return value
    return text
