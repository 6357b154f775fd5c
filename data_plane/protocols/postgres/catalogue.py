"""What the gateway asks a target about itself, and what of it is masked.

Counterparts: :mod:`.conversation` sends :data:`CATALOGUE` and :data:`SETTINGS` on the agent's
own connection and swallows the answers; :mod:`data_plane.sql` resolves names by
:attr:`Knowledge.names`; :mod:`.rows` asks :class:`Masks` for the columns of a result.

Parsed answers are shared between sessions that got equal ones. Every operator and function
in the queries is qualified, so a search_path cannot put another one in its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from data_plane.masking import ColumnMask, Masker
from data_plane.protocols.postgres.frames import INT32, Reader
from data_plane.protocols.postgres.login import read_search_path
from data_plane.sql import (
    Catalogue,
    SessionState,
    Statement,
    align,
    classify,
    qualified_name,
)
from protos.vocabulary import MaskingRule, Risk

FIRST_USER_OID = 16384
"""Below are the server's own objects, the same in every database (FirstNormalObjectId)."""

SETTINGS = b"SHOW search_path; SHOW role; SHOW session_authorization"

CATALOGUE = b"""\
SELECT c.oid,
  CASE WHEN n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
    THEN 'pg_temp' ELSE n.nspname END,
  c.relname,
  CASE WHEN c.oid OPERATOR(pg_catalog.>=) 16384 THEN
    (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attnum, a.attname, a.atttypid)
            ORDER BY a.attnum)
     FROM pg_catalog.pg_attribute AS a
     WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid
       AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped) END,
  CASE WHEN c.oid OPERATOR(pg_catalog.>=) 16384
    AND (c.relkind OPERATOR(pg_catalog.=) 'v' OR c.relkind OPERATOR(pg_catalog.=) 'm')
    THEN pg_catalog.pg_get_viewdef(c.oid) END
FROM pg_catalog.pg_class AS c, pg_catalog.pg_namespace AS n
WHERE n.oid OPERATOR(pg_catalog.=) c.relnamespace
  AND NOT pg_catalog.pg_is_other_temp_schema(n.oid)
  AND pg_catalog.strpos('rvmfpS', c.relkind::pg_catalog.text) OPERATOR(pg_catalog.>) 0
ORDER BY c.oid USING OPERATOR(pg_catalog.<);
SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits AS i;
SELECT t.oid FROM pg_catalog.pg_type AS t
WHERE t.typcategory OPERATOR(pg_catalog.=) 'S' AND t.oid OPERATOR(pg_catalog.>=) 16384"""

Rows = list[tuple[bytes | None, ...]]


def read_results(frames: bytes) -> list[Rows]:
    """The rows of each result in a run of whole frames, in text format."""
    results: list[Rows] = []
    at = 0
    while at < len(frames):
        kind = frames[at]
        end = at + 1 + INT32.unpack_from(frames, at + 1)[0]
        if kind == 0x54:  # RowDescription
            results.append([])
        elif kind == 0x44:  # DataRow
            reader = Reader(frames[at + 5 : end])
            results[-1].append(tuple(reader.value() for _ in range(reader.count())))
        at = end
    return results


def split_answers(frames: bytes) -> tuple[bytes, bytes]:
    """Cut the answer to :data:`SETTINGS`, followed by :data:`CATALOGUE` or nothing, in two."""
    at = results = 0
    while at < len(frames) and results < 3:
        results += frames[at] == 0x43  # CommandComplete
        at += 1 + INT32.unpack_from(frames, at + 1)[0]
    return frames[:at], frames[at:]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the server says of a session. ``path`` has ``$user`` put in its place; it is empty
    where the setting was not understood, so nothing resolves."""

    path: tuple[str, ...]
    role: str


def read_settings(frames: bytes) -> Settings:
    """Read the answer to :data:`SETTINGS`."""
    shown = [(rows[0][0] or b"").decode() for rows in read_results(frames)]
    path, role, user = shown
    current = user if role == "none" else role
    entries = read_search_path(path) or ()
    return Settings(tuple(current if name == "$user" else name for name in entries), current)


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation with columns by their numbers; ``definition`` is a view's query, ``types``
    are the object ids of the columns' types."""

    schema: str
    name: str
    columns: Mapping[int, str]
    definition: str
    types: Mapping[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Knowledge:
    """A database's relations. Compared by identity; equal answers give the same object."""

    names: Catalogue
    relations: Mapping[int, Relation]
    inherits: tuple[tuple[int, int], ...]
    text_types: frozenset[int]


@lru_cache(maxsize=16)
def read_catalogue(frames: bytes) -> Knowledge:
    """Read the answer to :data:`CATALOGUE`."""
    found, inherits, types = read_results(frames)
    schemas: dict[str, set[str]] = {}
    relations: dict[int, Relation] = {}
    for oid, schema, name, columns, definition in found:
        where, what = (schema or b"").decode(), (name or b"").decode()
        schemas.setdefault(where, set()).add(what)
        if columns is not None:
            described = [
                (int(n), str(column), int(kind)) for n, column, kind in json.loads(columns)
            ]
            relations[int(oid or 0)] = Relation(
                where,
                what,
                {number: column for number, column, _ in described},
                (definition or b"").decode(),
                {number: kind for number, _, kind in described},
            )
    return Knowledge(
        Catalogue({schema: frozenset(names) for schema, names in schemas.items()}),
        relations,
        tuple((int(child or 0), int(parent or 0)) for child, parent in inherits),
        frozenset(int(row[0] or 0) for row in types),
    )


@lru_cache(maxsize=16)
def masker_for(rules: tuple[MaskingRule, ...], key: bytes) -> Masker:
    """The compiled masker of these rules. ValueError where they cannot be obeyed."""
    return Masker(rules, key)


class Masks:
    """Which columns of a database are masked, views and partitions included."""

    __slots__ = (
        "_masked",
        "_masks",
        "_quoting",
        "_redact",
        "_relations",
        "_tainted",
        "active",
        "masker",
        "text_types",
    )

    def __init__(self, knowledge: Knowledge, masker: Masker, path: tuple[str, ...]) -> None:
        self.masker = masker
        self.text_types = knowledge.text_types
        # A mask for what may be anything exists exactly where a rule speaks of columns.
        self._redact = masker.derived(frozenset({"*"}))
        self.active = self._redact is not None
        self._relations = knowledge.relations
        self._masks: dict[int, dict[int, ColumnMask]] = {}
        self._tainted: set[str] = set()
        self._masked: frozenset[str] = frozenset()
        self._quoting: frozenset[str] = frozenset()
        if self.active:
            self._build(knowledge, path)

    def column(self, relation: int, attribute: int) -> ColumnMask | None:
        """The mask of a column by its table's oid and its number.

        A relation or column that is not known was made since the catalogue was read: masked.
        """
        if relation < FIRST_USER_OID or attribute < 0:
            return None
        known = self._relations.get(relation)
        if known is None:
            return self._redact
        if attribute == 0:  # the whole row
            return self._redact if self._masks.get(relation) else None
        if attribute not in known.columns:
            return self._redact
        return self._masks.get(relation, {}).get(attribute)

    def derived(self, columns: frozenset[str]) -> ColumnMask | None:
        """The mask of a value that may derive from any of these source columns."""
        if not self.active or not columns:
            return None
        found = self.masker.derived(columns)
        if found is None and not self._tainted.isdisjoint(columns):
            return self._redact
        return found

    def unsure(self, statement: Statement) -> ColumnMask | None:
        """The mask of a value of which only the statement is known."""
        if statement.risk is Risk.UNKNOWN:
            return self._redact
        return self.derived(statement.columns)

    def quoted(self, statement: Statement) -> bool:
        """Whether an error or notice of the statement may quote a masked value.

        One about a row that is written quotes the whole row ("Failing row contains"), and a
        view computes more than it shows.
        """
        if self.unsure(statement) is not None:
            return True
        return self.active and any(
            resource.name in self._quoting
            or (resource.written and (resource.name in self._masked or resource.name[:2] == "?."))
            for resource in statement.resources
        )

    def copied(
        self, relation: str, columns: Sequence[str]
    ) -> tuple[tuple[ColumnMask | None, int], ...] | None:
        """Mask and type of a table's columns in the order COPY gives them; None: not known."""
        schema, _, name = relation.partition(".")
        for oid, known in self._relations.items():
            if known.schema == schema and known.name == name:
                numbers = {column: number for number, column in known.columns.items()}
                if any(column not in numbers for column in columns):
                    return None
                return tuple(
                    (self.column(oid, number), known.types.get(number, 0))
                    for number in ([numbers[column] for column in columns] or known.columns)
                )
        return None

    def _build(self, knowledge: Knowledge, path: tuple[str, ...]) -> None:
        views: list[tuple[int, Statement]] = []
        state = SessionState(search_path=path, relations=knowledge.names)
        for oid, relation in knowledge.relations.items():
            for number, column in relation.columns.items():
                mask = self.masker.column(relation.schema, relation.name, column)
                if mask is not None:
                    self._masks.setdefault(oid, {})[number] = mask
            if relation.definition:
                views.append((oid, classify(relation.definition, state)))
        # Views stand on views and partitions on partitions: until nothing new is found.
        changed = True
        while changed:
            changed = False
            for child, parent in knowledge.inherits:
                changed |= self._inherit(child, parent) | self._inherit(parent, child)
            for oid, statement in views:
                changed |= self._view(oid, statement)
        self._masked = self._names(self._masks)
        # A view on such a view quotes it as well.
        quoting = -1
        while quoting != len(self._quoting):
            quoting = len(self._quoting)
            self._quoting = self._names(oid for oid, query in views if self.quoted(query))

    def _names(self, oids: Iterable[int]) -> frozenset[str]:
        """The relations' names as resources have them."""
        known = (self._relations[oid] for oid in oids)
        return frozenset(qualified_name(one.schema, one.name) for one in known)

    def _inherit(self, source: int, target: int) -> bool:
        if source not in self._relations or target not in self._relations:
            return False
        names = {self._relations[source].columns[n]: m for n, m in self._masks_of(source)}
        changed = False
        for number, column in self._relations[target].columns.items():
            if column in names and number not in self._masks.get(target, {}):
                self._masks.setdefault(target, {})[number] = names[column]
                changed = True
        return changed

    def _masks_of(self, oid: int) -> Iterable[tuple[int, ColumnMask]]:
        return self._masks.get(oid, {}).items()

    def _view(self, oid: int, statement: Statement) -> bool:
        relation = self._relations[oid]
        outputs = align(statement.outputs, len(relation.columns))
        changed = False
        for index, (number, column) in enumerate(relation.columns.items()):
            if number in self._masks.get(oid, {}):
                continue
            if outputs is None or statement.risk is Risk.UNKNOWN:
                mask = self.unsure(statement)
            else:
                mask = self.derived(outputs[index].columns)
                if mask is not None and outputs[index].bare:
                    mask = self._bare(statement, outputs[index].columns) or mask
            if mask is not None:
                self._masks.setdefault(oid, {})[number] = mask
                if self.derived(frozenset({column})) is None:
                    self._tainted.add(column)
                changed = True
        return changed

    def _bare(self, statement: Statement, columns: frozenset[str]) -> ColumnMask | None:
        """The one mask that a plain column has wherever it may come from, if there is one."""
        touched = {resource.name for resource in statement.resources}
        found = {
            mask
            for oid, masks in self._masks.items()
            if f"{self._relations[oid].schema}.{self._relations[oid].name}" in touched
            for number, mask in masks.items()
            if self._relations[oid].columns[number] in columns
        }
        return found.pop() if len(found) == 1 else None


@lru_cache(maxsize=16)
def masks_for(knowledge: Knowledge, masker: Masker, path: tuple[str, ...]) -> Masks:
    """The masks of a database under these rules, shared between sessions."""
    return Masks(knowledge, masker, path)
