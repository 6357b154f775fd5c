"""What names stand for inside a query: tables, subqueries and CTEs in nested scopes.

Counterpart: :mod:`data_plane.sql.queries` builds scopes as it walks a tree and asks them what
a column reference may derive from. Every answer is an over-approximation: where two things
could be meant, both are given. Nothing here judges risk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from data_plane.sql.names import ROW_FUNCTIONS
from data_plane.sql.parse import NotUnderstood, Tree
from data_plane.sql.statement import EVERYTHING, Output

Columns = frozenset[str]
NOTHING: Columns = frozenset()
Outputs = tuple[Output, ...]

MAX_WORK = 200_000
"""Steps of looking up what the names of one text may be: a tenth of a second or so."""


@dataclass(slots=True)
class Meter:
    """What is left of the work that one text may cause.

    Names times tables, and columns times columns, grow faster than the text that they stand
    in; all sessions of a relay wait while one text is judged.
    """

    left: int = MAX_WORK

    def spend(self, outputs: Sequence[Output]) -> None:
        """Account for going through these outputs. Raises :class:`NotUnderstood`."""
        self.left -= 1 + len(outputs)
        for output in outputs:
            self.left -= len(output.columns)
        if self.left < 0:
            raise NotUnderstood("the text is too complex")


UNKNOWN_OUTPUTS: Outputs = (Output(None, EVERYTHING, star=True),)
RELATION_OUTPUTS: Outputs = (Output(None, EVERYTHING, bare=True, star=True),)
"""A table whose columns aren't known: any number, each of them a column of that name."""


def union(outputs: Sequence[Output]) -> Columns:
    """Everything that any of the outputs derives from."""
    return NOTHING.union(*(output.columns for output in outputs))


def renamed(outputs: Outputs, names: Sequence[str]) -> Outputs:
    """The outputs under the column names of an alias, which may be fewer."""
    if not names:
        return outputs
    if not any(output.star for output in outputs):
        fresh = [
            Output(name, output.columns, output.bare)
            for name, output in zip(names, outputs, strict=False)
        ]
        return (*fresh, *outputs[len(names) :])
    # Which column gets which name can't be told behind a star.
    whole = union(outputs)
    bare = all(output.bare for output in outputs)
    return (
        *(Output(name, whole, bare) for name in names),
        Output(None, whole, bare, star=True),
    )


def combined(left: Outputs, right: Outputs) -> Outputs:
    """The outputs of a set operation: by position, named after the left side."""
    stars = any(output.star for output in (*left, *right))
    if stars or len(left) != len(right):
        return (Output(None, union((*left, *right)), star=True),)
    return tuple(
        Output(one.name, one.columns | other.columns)
        for one, other in zip(left, right, strict=True)
    )


class Nature(Enum):
    """What ``t.f`` can mean where ``t`` has no column ``f``: the server then tries f(t)."""

    ROW = auto()
    """``t`` is a row: only functions that take rows can be meant."""
    VALUE = auto()
    """``t`` is a function's result, perhaps a single value: any function can be meant."""


@dataclass(slots=True)
class Source:
    """Something in FROM. ``name`` is its alias; ``unlisted`` keeps it out of ``*``."""

    name: str
    outputs: Outputs
    nature: Nature = Nature.ROW
    value_name: str = ""
    unlisted: bool = False

    def has(self, name: str) -> bool:
        """Whether there certainly is a column of this name."""
        return any(not output.star and output.name == name for output in self.outputs)

    def column(self, name: str) -> list[Output]:
        """All that the column ``name`` may be; empty where there can't be one."""
        found = []
        for output in self.outputs:
            if output.star:
                columns = frozenset({name}) if output.bare else output.columns
                found.append(Output(name, columns, output.bare))
            elif output.name is None or output.name == name:
                found.append(output)
        return found


@dataclass(slots=True)
class Cte:
    """A WITH query: not looked at yet, being looked at, or done (``outputs`` is set)."""

    node: Tree
    scope: Scope
    recursive: bool = False
    outputs: Outputs | None = None
    active: bool = False


@dataclass(slots=True)
class Scope:
    """One query's names; what isn't found here is looked for further out."""

    parent: Scope | None = None
    sources: list[Source] = field(default_factory=list)
    ctes: dict[str, Cte] = field(default_factory=dict)
    merged: bool = False
    """Whether a USING or NATURAL join puts the columns of ``*`` in another order."""
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        if self.parent is not None:
            self.meter = self.parent.meter

    def outwards(self) -> Iterator[Scope]:
        """This scope and those around it, from the inside out."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def cte(self, name: str) -> Cte | None:
        """The innermost WITH query of this name."""
        for scope in self.outwards():
            self.meter.spend(())
            if name in scope.ctes:
                return scope.ctes[name]
        return None

    def source(self, name: str) -> list[Source]:
        """The sources with this alias in the innermost scope that has one."""
        for scope in self.outwards():
            self.meter.left -= 1 + len(scope.sources)
            found = [source for source in scope.sources if source.name == name]
            if found:
                return found
        return []

    def column(self, name: str) -> Output:
        """What an unqualified ``name`` derives from: columns, or the whole row of an alias."""
        found: list[Output] = []
        for scope in self.outwards():
            self.meter.spend(())
            for source in scope.sources:
                self.meter.spend(source.outputs)
                found += source.column(name)
                if source.name == name:
                    found.append(Output(name, union(source.outputs) | {name}))
        if not found:
            whole = (union(source.outputs) for s in self.outwards() for source in s.sources)
            return Output(name, NOTHING.union({name}, *whole))
        return Output(name, union(found), all(output.bare for output in found))

    def qualified(self, table: str, name: str) -> Output:
        """What ``table.name`` derives from."""
        found: list[Output] = []
        for source in self.source(table):
            self.meter.spend(source.outputs)
            columns = source.column(name)
            if not columns:
                columns = [Output(name, union(source.outputs))]
            found += columns
            # t.to_jsonb is to_jsonb(t), the whole row, unless t has such a column.
            if name in ROW_FUNCTIONS and not source.has(name):
                found.append(Output(name, union(source.outputs)))
        if not found:
            return Output(name, frozenset({name}))
        return Output(name, union(found), all(output.bare for output in found))

    def star(self) -> Outputs:
        """The outputs of ``*``."""
        for source in self.sources:
            self.meter.spend(source.outputs)
        listed = [output for s in self.sources if not s.unlisted for output in s.outputs]
        if self.merged:
            bare = all(output.bare for output in listed)
            return (Output(None, union(listed), bare, star=True),)
        return tuple(listed)
