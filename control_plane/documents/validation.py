"""From nodes to documents: which kinds there are, what each must hold, and what they refer to.

Counterparts: :mod:`control_plane.documents.reader` gives the nodes; targets, relays and policy
say what their kinds are (:class:`Kind`). Every complaint carries the place in the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from control_plane.documents.reader import Fields, Items, Node, Scalar, SourceDocument, plain
from control_plane.errors import Location

API_VERSION = "jitgate/v1"
NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
MAX_ERRORS = 50

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=63)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=100)]
LabelValue = Annotated[str, StringConstraints(max_length=200)]
Labels = Annotated[dict[Label, LabelValue], Field(max_length=50)]

Spec = TypeVar("Spec", bound=BaseModel)
Place = tuple[str | int, ...]


class Strict(BaseModel):
    """The base of what documents hold: nothing unknown, nothing converted, nothing echoed."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class Metadata(Strict):
    """What every document has: a name, unique in its kind, and labels to select by."""

    name: Name
    labels: Labels = Field(default_factory=dict)


class Envelope(Strict, Generic[Spec]):
    """The form of every document."""

    api_version: Literal["jitgate/v1"] = Field(alias="apiVersion")
    kind: str
    metadata: Metadata
    spec: Spec


@dataclass(frozen=True, slots=True)
class Reference:
    """That a document names another one, at ``place`` in it."""

    kind: str
    name: str
    place: Place


def no_references(_spec: Any) -> tuple[Reference, ...]:
    """Most kinds refer to nothing by name."""
    return ()


def only_policy(_name: str) -> tuple[str, ...]:
    """Whom a change concerns that isn't about one relay."""
    return ("policy",)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of document: ``schema`` is its ``spec``'s; ``topics`` are woken by a change."""

    name: str
    plural: str
    schema: type[BaseModel]
    references: Callable[[Any], Sequence[Reference]] = no_references
    topics: Callable[[str], tuple[str, ...]] = only_policy


@dataclass(frozen=True, slots=True)
class Document:
    """A document that is valid in itself. ``spec`` is its kind's schema.

    ``content`` is canonical JSON: documents that say the same have the same.
    """

    kind: Kind
    name: str
    spec: Any
    content: str
    source: str
    labels: Mapping[str, str] = field(default_factory=dict)
    node: Node | None = None
    number: int = 1

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by."""
        return self.kind.name, self.name

    def complaint(self, place: Place, message: str, *, at_key: bool = False) -> Location:
        """That something at ``place`` is wrong, with its line and column where known."""
        line, column = (1, 1) if self.node is None else _locate(self.node, place, at_key)
        return Location(line, column, f"{_path(place)}: {message}", self.number)


class Documents:
    """The kinds that there are, and the check of texts against them."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self.kinds: Mapping[str, Kind] = {kind.name: kind for kind in kinds}

    def check(self, source: SourceDocument) -> Document | list[Location]:
        """The document, or everything that is wrong with it."""
        root = source.root
        if not isinstance(root, Fields):
            message = "a document is a mapping with apiVersion, kind, metadata and spec"
            return [Location(root.line, root.column, message, source.number)]
        kind_node = root.fields["kind"][1] if "kind" in root.fields else None
        kind = None
        if isinstance(kind_node, Scalar) and isinstance(kind_node.value, str):
            kind = self.kinds.get(kind_node.value)
        if kind is None:
            place: Place = ("kind",) if kind_node is not None else ()
            line, column = _locate(root, place, False)
            message = f"kind: must be one of {', '.join(self.kinds)}"
            return [Location(line, column, message, source.number)]
        content = canonical(plain(root))
        try:
            envelope = _envelope(kind, content)
        except ValidationError as error:
            return [_location(root, one, source.number) for one in error.errors()[:MAX_ERRORS]]
        return Document(
            kind,
            envelope.metadata.name,
            envelope.spec,
            content,
            source.source,
            envelope.metadata.labels,
            root,
            source.number,
        )

    def stored(self, kind: str, content: str, source: str = "") -> Document:
        """A document out of the content that was kept of it."""
        found = self.kinds[kind]
        envelope = _envelope(found, content)
        metadata = envelope.metadata
        return Document(found, metadata.name, envelope.spec, content, source, metadata.labels)


def canonical(value: Any) -> str:
    """JSON that is equal exactly for equal values."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def presented(content: str | None) -> str:
    """A document's content as YAML in a fixed order, for people and for comparison."""
    if content is None:
        return ""
    return yaml.dump(
        json.loads(content),
        Dumper=yaml.CSafeDumper,
        allow_unicode=True,
        default_flow_style=False,
        width=100,
    )


def _envelope(kind: Kind, content: str) -> Envelope[Any]:
    # From JSON, so that strict types still take a list for a tuple and a word for an enum. The
    # type is known at run time alone, which a checker can't follow.
    return Envelope[kind.schema].model_validate_json(content)  # type: ignore[name-defined]


def _location(root: Node, error: Any, number: int) -> Location:
    place: Place = error["loc"]
    unknown = error["type"] == "extra_forbidden"
    line, column = _locate(root, place, unknown)
    message = "there is no such field" if unknown else _lowered(error["msg"])
    return Location(line, column, f"{_path(place)}: {message}", number)


def _lowered(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _locate(root: Node, place: Iterable[str | int], at_key: bool) -> tuple[int, int]:
    """Where ``place`` is, or, where there is nothing, what should hold it.

    A mapping is pointed at by its key, where it has one: the first line of its content says
    little of what is missing in it.
    """
    node, named = root, None
    parts = list(place)
    for index, part in enumerate(parts):
        inner: Node
        if isinstance(node, Fields) and part in node.fields:
            key, inner = node.fields[str(part)]
            if at_key and index == len(parts) - 1:
                return key.line, key.column
            named = key
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
            inner, named = node.items[part], None
        else:
            return (named or node).line, (named or node).column
        node = inner
    place_of = named if named is not None and isinstance(node, Fields) else node
    return place_of.line, place_of.column


_WORD = re.compile(r"[A-Za-z0-9_-]+\Z")


def _path(place: Place) -> str:
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _WORD.match(part):
            text += f".{part}"
        else:
            text += f"[{part[:60]!r}]"
    return text.removeprefix(".") or "document"
