"""What a walk over one statement has found so far, and how the found names resolve.

Counterparts: :mod:`data_plane.sql.queries` and :mod:`data_plane.sql.utility` report here;
:mod:`data_plane.sql.classify` makes the :class:`~data_plane.sql.statement.Statement` of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from data_plane.sql.effects import (
    FUNCTIONS,
    NAMES_ITS_SEQUENCE,
    SYSTEM_SCHEMAS,
    is_sensitive,
)
from data_plane.sql.names import CATALOG_RELATIONS, INFORMATION_SCHEMA_FUNCTIONS, OPERATORS
from data_plane.sql.parse import Tree
from data_plane.sql.scope import Meter, Scope
from data_plane.sql.settings import plain_path
from data_plane.sql.statement import (
    CopyShape,
    NameUse,
    Output,
    SessionState,
    SettingChange,
    TransactionStep,
)
from protos.vocabulary import Resource, Risk

_MAX_FACT = 500


def strings(nodes: Sequence[Tree]) -> list[str]:
    """The values of a list of String nodes; other nodes are left out."""
    return [node["String"].get("sval", "") for node in nodes if "String" in node]


def qualified_name(schema: str, name: str) -> str:
    """``schema.name``, a part quoted where it would otherwise read as two."""
    return f"{_part(schema)}.{_part(name)}"


def _part(name: str) -> str:
    if "." in name or '"' in name:
        return '"' + name.replace('"', '""') + '"'
    return name


class Findings:
    """Collects effects; each method only ever adds, so the worst always stands."""

    def __init__(self, state: SessionState, paths: Sequence[tuple[str, ...]], meter: Meter) -> None:
        self._meter = meter
        self._catalogue = state.relations
        self._paths = paths
        self._plain = all(plain_path(path) for path in paths)
        self.effects: list[tuple[Risk, str]] = []
        self.call_risk = Risk.READ
        self.unknown: dict[str, None] = {}
        self.functions: dict[str, None] = {}
        self.resources: dict[tuple[str, str], bool] = {}
        self.facts: dict[str, str] = {}
        self.columns: set[str] = set()
        self.predicates: set[str] = set()
        self.stored: set[str] = set()
        self.timeline: list[TransactionStep | SettingChange] = []
        self.names: list[NameUse] = []
        self.copy: CopyShape | None = None
        self.creates_relations = False
        self.discards = False
        self.unresolved = False

    def scope(self) -> Scope:
        """A scope with nothing around it."""
        return Scope(meter=self._meter)

    def spend(self, outputs: Sequence[Output]) -> None:
        """Account for going through these outputs. Raises ``NotUnderstood``."""
        self._meter.spend(outputs)

    @property
    def known_risk(self) -> Risk:
        """The worst risk, leaving out what a name of the session stands for."""
        if self.unknown:
            return Risk.UNKNOWN
        return max(self.call_risk, *(risk for risk, _ in self.effects), Risk.READ)

    @property
    def risk(self) -> Risk:
        """The worst risk of all effects."""
        return Risk.UNKNOWN if self.unresolved else self.known_risk

    @property
    def action(self) -> str:
        """The verb of the worst effect, the outermost of equals."""
        return max(self.effects, key=lambda effect: effect[0])[1] if self.effects else "unknown"

    def all_facts(self) -> dict[str, str]:
        """The facts in the form that policies see."""
        facts = dict(self.facts)
        verbs = dict.fromkeys(verb for _, verb in self.effects)
        if len(verbs) > 1:
            facts["effects"] = ", ".join(verbs)
        if self.functions:
            facts["functions"] = ", ".join(self.functions)[:_MAX_FACT]
        if self.unknown or self.unresolved:
            reasons = list(self.unknown)
            if self.unresolved:
                reasons.append("what stands under the name isn't known")
            facts["unknown"] = "; ".join(reasons)[:_MAX_FACT]
        return facts

    def effect(self, verb: str, risk: Risk) -> None:
        """The statement, or a part of it, does this."""
        self.effects.append((risk, verb))

    def only_planned(self) -> None:
        """Nothing found so far runs, apart from functions that planning evaluates."""
        self.effects = [(Risk.READ, verb) for _, verb in self.effects[:1]]
        self.resources = dict.fromkeys(self.resources, False)
        self.facts = {name: "true" for name in self.facts if name == "sensitive"}
        self.stored.clear()
        self.creates_relations = False
        self.names = [use for use in self.names if use.statement is None]

    def not_known(self, reason: str) -> None:
        """Something isn't understood: the whole statement is UNKNOWN."""
        self.unknown[reason] = None

    def resource(self, name: str, kind: str, written: bool) -> None:
        """The statement touches this."""
        key = (name, kind)
        self.resources[key] = self.resources.get(key, False) or written

    def all_resources(self) -> tuple[Resource, ...]:
        """Every resource once."""
        return tuple(
            Resource(name, written, kind) for (name, kind), written in self.resources.items()
        )

    def relation(self, variable: Tree, written: bool = False, created: bool = False) -> None:
        """A RangeVar that stands for a relation is touched."""
        temporary = created and variable.get("relpersistence") == "t"
        schema = "pg_temp" if temporary else variable.get("schemaname", "")
        self.named_relation(schema, variable.get("relname", ""), written, created)

    def named_relation(
        self, schema: str, name: str, written: bool = False, created: bool = False
    ) -> None:
        """A relation is touched; an empty ``schema`` is resolved as the server would."""
        for found in self.resolved(schema, name, created):
            kind = "catalog" if found in SYSTEM_SCHEMAS else "relation"
            self.resource(qualified_name(found, name), kind, written)
            if is_sensitive(found, name):
                self.facts["sensitive"] = "true"
                self.effect("select", Risk.ADMINISTER)
            if written and found in SYSTEM_SCHEMAS:
                self.effect("alter", Risk.ADMINISTER)

    def resolved(self, schema: str, name: str, created: bool = False) -> list[str]:
        """The schemas that ``name`` may lie in; ``"?"`` where none can be told."""
        if schema:
            return [schema]
        # pg_catalog is searched first where the path doesn't name it, and plain paths don't
        # name it later; temporary tables come before it, and only hide what is hidden anyway.
        if name in CATALOG_RELATIONS and not created:
            return ["pg_catalog"]
        return list(dict.fromkeys(self._first(path, name, created) for path in self._paths))

    def _first(self, path: tuple[str, ...], name: str, created: bool) -> str:
        schemas = [schema for schema in path if schema not in {"$user", ""}]
        if self._catalogue is None or created:
            return schemas[0] if schemas else "?"
        for schema in schemas:
            if self._catalogue.holds(schema, name):
                return schema
        return "?"

    def function(self, parts: Sequence[str]) -> Risk:
        """A function of this name, qualified or not, is called."""
        match parts:
            case [name] if self._plain:
                risk = FUNCTIONS.get(name, Risk.UNKNOWN)
            case ["pg_catalog", name]:
                risk = FUNCTIONS.get(name, Risk.UNKNOWN)
            case ["information_schema", name] if name in INFORMATION_SCHEMA_FUNCTIONS:
                risk = Risk.READ
            case _:
                risk = Risk.UNKNOWN
        if risk is not Risk.READ:
            shown = ".".join(_part(part) for part in parts)
            self.functions[shown] = None
            if shown.rpartition(".")[2] not in NAMES_ITS_SEQUENCE:
                home = "" if len(parts) > 1 else "?." if risk is Risk.UNKNOWN else "pg_catalog."
                self.resource(home + shown, "function", False)
            if risk is Risk.UNKNOWN:
                self.not_known(f"nothing is known of function {shown}")
            else:
                self.call_risk = max(self.call_risk, risk)
        return risk

    def operator(self, name: Sequence[Tree]) -> None:
        """An operator is used; one that isn't built in runs somebody's function."""
        match strings(name):
            case [symbol] if self._plain and symbol in OPERATORS:
                return
            case ["pg_catalog", symbol] if symbol in OPERATORS:
                return
            case parts:
                self.not_known(f"nothing is known of operator {'.'.join(parts)}")
