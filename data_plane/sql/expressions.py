"""Walks value expressions: what they call, which columns they mention and derive from.

Counterparts: :mod:`data_plane.sql.queries` hands in the expressions of a query and walks the
subqueries in them; :mod:`data_plane.sql.findings` collects. The walk fails closed: a node
type that isn't in a table here makes the statement UNKNOWN.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from data_plane.sql.effects import FUNCTIONS, NAMES_ITS_SEQUENCE
from data_plane.sql.findings import Findings, strings
from data_plane.sql.names import FIELDS
from data_plane.sql.parse import Tree
from data_plane.sql.scope import NOTHING, Columns, Nature, Outputs, Scope, union
from data_plane.sql.settings import TRACKED, parse_path, setting_risk
from data_plane.sql.statement import EVERYTHING, Output, SettingChange
from protos.vocabulary import Risk

# Nodes without anything below them that could have an effect or be a column.
_LEAVES = frozenset(
    """
    A_Const A_Star BitString Boolean CurrentOfExpr Float Integer MergeSupportFunc ParamRef
    SQLValueFunction SetToDefault String
    """.split()  # noqa: SIM905
)

# Nodes that do nothing beyond what the nodes below them do. What is computed by the server's
# own code for them (XMLELEMENT, JSON_VALUE, COALESCE, ...) changes nothing.
_PLAIN = frozenset(
    """
    A_ArrayExpr A_Indices BoolExpr BooleanTest CaseExpr CaseWhen CoalesceExpr CollateClause
    ColumnDef GroupingFunc GroupingSet JsonAggConstructor JsonArgument JsonArrayAgg
    JsonArrayConstructor JsonArrayQueryConstructor JsonBehavior JsonFormat JsonFuncExpr
    JsonIsPredicate JsonKeyValue JsonObjectAgg JsonObjectConstructor JsonOutput
    JsonParseExpr JsonReturning JsonScalarExpr JsonSerializeExpr JsonTableColumn
    JsonTablePathSpec JsonValueExpr List MinMaxExpr MultiAssignRef NamedArgExpr NullTest
    RangeTableFuncCol ResTarget RowExpr TypeCast TypeName WindowDef XmlExpr XmlSerialize
    """.split()  # noqa: SIM905
)

_BETWEEN = frozenset(
    {"AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN", "AEXPR_BETWEEN_SYM", "AEXPR_NOT_BETWEEN_SYM"}
)

# Fields of information_schema._pg_expandarray's result, which drivers' catalogue queries use.
_ARRAY_FIELDS = frozenset({"x", "n"})

_PLAIN_NAME = re.compile(r"(?:([a-z_][a-z0-9_$]{0,62})\.)?([a-z_][a-z0-9_$]{0,62})")

Query = Callable[[Tree, Scope], Outputs]


def wrapped(value: object) -> bool:
    """Whether a value in the tree is a node under its type's name."""
    return isinstance(value, dict) and len(value) == 1 and next(iter(value))[0].isupper()


def literal(node: Tree) -> str | None:
    """The text of a constant, a cast around it set aside; ``None`` if it is none, or NULL."""
    while "TypeCast" in node:
        node = node["TypeCast"].get("arg", {})
    constant = node.get("A_Const")
    if constant is None or constant.get("isnull"):
        return None
    for kind, field in (("sval", "sval"), ("fval", "fval"), ("bsval", "bsval")):
        if kind in constant:
            return str(constant[kind].get(field, ""))
    if "boolval" in constant:
        return "on" if constant["boolval"].get("boolval") else "off"
    # libpg_query leaves a zero out of its JSON.
    return str(constant.get("ival", {}).get("ival", 0))


def is_null(node: Tree) -> bool:
    """Whether a node is the constant NULL."""
    return bool(node.get("A_Const", {}).get("isnull"))


class Expressions:
    """The walk over the expressions of one statement; ``query`` walks what is below them."""

    def __init__(self, findings: Findings, query: Query) -> None:
        self._findings = findings
        self._query = query

    def test(self, node: Tree | None, scope: Scope) -> None:
        """An expression that chooses, orders or groups rows."""
        if node:
            self._findings.predicates |= self.value(node, scope)

    def test_all(self, nodes: Sequence[Tree], scope: Scope) -> None:
        """Several of them."""
        for node in nodes:
            self.test(node, scope)

    def value(self, node: Tree, scope: Scope) -> Columns:
        """The source columns that the expression's value may derive from."""
        if not node:
            return NOTHING  # a NULL in a list
        [(kind, body)] = node.items()
        if kind in _LEAVES:
            return NOTHING
        match kind:
            case "ColumnRef":
                return self._reference(body, scope)
            case "FuncCall":
                return self._call(body, scope)
            case "A_Expr":
                if body.get("kind") not in _BETWEEN:
                    self._findings.operator(body.get("name", ()))
                return self.children(body, scope)
            case "SubLink":
                if "operName" in body:
                    self._findings.operator(body["operName"])
                return self.children(body, scope)
            case "SortBy":
                if "useOp" in body:
                    self._findings.operator(body["useOp"])
                return self.children(body, scope)
            case "SelectStmt":
                return union(self._query(node, scope))
            case "A_Indirection":
                return self._indirection(body, scope)
            case _ if kind in _PLAIN:
                return self.children(body, scope)
            case _:
                self._findings.not_known(f"nothing is known of {kind}")
                return EVERYTHING

    def children(self, body: Tree, scope: Scope) -> Columns:
        """The union over all nodes below a node whose own meaning is known."""
        columns = NOTHING
        for child in body.values():
            if isinstance(child, list):
                for item in child:
                    columns |= self.value(item, scope)
            elif wrapped(child):
                columns |= self.value(child, scope)
            elif isinstance(child, dict):
                # A message of fixed type, such as a type name or an OVER clause.
                columns |= self.children(child, scope)
        return columns

    def target(self, node: Tree, scope: Scope) -> Outputs:
        """The outputs of an entry of a target list: several for a star."""
        target = node.get("ResTarget", {})
        value: Tree = target.get("val", {})
        name: str | None = target.get("name") or _implied_name(value)
        fields = value.get("ColumnRef", {}).get("fields", ())
        if fields:
            if "A_Star" in fields[-1]:
                self._findings.columns.add("*")
                return self._star(strings(fields), scope)
            output = self._column(strings(fields), scope)
            return (Output(name, output.columns, output.bare),)
        columns = self.value(value, scope)
        steps = value.get("A_Indirection", {}).get("indirection", ())
        if steps and "A_Star" in steps[-1]:
            return (Output(None, columns, star=True),)
        return (Output(name, columns),)

    def targets(self, nodes: Sequence[Tree], scope: Scope) -> Outputs:
        """The outputs of a target list."""
        outputs: list[Output] = []
        for node in nodes:
            outputs += self.target(node, scope)
        return tuple(outputs)

    def _star(self, table: Sequence[str], scope: Scope) -> Outputs:
        if not table:
            return scope.star()
        sources = scope.source(table[-1])
        if len(sources) == 1:
            return sources[0].outputs
        return (Output(None, EVERYTHING, star=True),)

    def _reference(self, body: Tree, scope: Scope) -> Columns:
        fields = body.get("fields", ())
        if "A_Star" in fields[-1]:
            self._findings.columns.add("*")
            return union(self._star(strings(fields), scope))
        return self._column(strings(fields), scope).columns

    def _column(self, parts: Sequence[str], scope: Scope) -> Output:
        name = parts[-1]
        self._findings.columns.add(name)
        if len(parts) == 1:
            if scope.source(name):
                self._findings.columns.add("*")
            output = scope.column(name)
            # Under the names of an alias it may be any column of a table.
            self._findings.columns |= output.columns
            return output
        table = parts[-2]
        for source in scope.source(table):
            if source.nature is Nature.VALUE and not source.has(name):
                named = source.value_name == name or name == "ordinality"
                if not named:
                    self._field(name)
        output = scope.qualified(table, name)
        self._findings.columns |= output.columns
        return output

    def _field(self, name: str) -> None:
        """``(value).name`` means ``name(value)`` where the value has no such field.

        The server tries a function of that name (ParseFuncOrColumn), so without the value's
        type only names that every server uses for fields are sure to be nothing else.
        """
        if FUNCTIONS.get(name, Risk.READ) is Risk.READ and (
            name in FIELDS or name in _ARRAY_FIELDS
        ):
            return
        self._findings.function([name])

    def _indirection(self, body: Tree, scope: Scope) -> Columns:
        argument: Tree = body.get("arg", {})
        steps: list[Tree] = body.get("indirection", [])
        columns = self.value(argument, scope)
        names = strings(argument.get("ColumnRef", {}).get("fields", ()))
        first = strings(steps[:1])
        if len(names) == 1 and first and scope.source(names[0]):
            # (t).f with a table's alias is t.f, and not any column, unless a column bears the
            # alias's name: then it is that column's field, or a call.
            columns = self._column([*names, *first], scope).columns | (columns - EVERYTHING)
        for step in steps:
            match step:
                case {"String": {"sval": str(name)}}:
                    self._findings.columns.add(name)
                    self._field(name)
                case {"A_Star": _}:
                    self._findings.columns.add("*")
                case _:
                    columns |= self.value(step, scope)
        return columns

    def _call(self, body: Tree, scope: Scope) -> Columns:
        parts = strings(body.get("funcname", ()))
        name = parts[-1]
        arguments: list[Tree] = body.get("args", [])
        columns = self.children(body, scope)
        if name == "set_config" and parts[:-1] in ([], ["pg_catalog"]):
            self._set_config(arguments)
            return columns
        risk = self._findings.function(parts)
        if name in NAMES_ITS_SEQUENCE and risk is not Risk.UNKNOWN:
            self._sequence(arguments, written=name != "currval")
        if risk is Risk.WRITE:
            self._findings.stored |= columns
        if name == "count" and risk is Risk.READ:
            # A number of rows holds none of their values; what chose them is a predicate.
            self._findings.predicates |= columns
            return NOTHING
        return columns

    def _sequence(self, arguments: Sequence[Tree], written: bool) -> None:
        text = literal(arguments[0]) if arguments else None
        match = _PLAIN_NAME.fullmatch(text) if text is not None else None
        if match is None:
            self._findings.resource("?.?", "sequence", written)
            return
        schema, name = match.groups()
        for found in self._findings.resolved(schema or "", name):
            self._findings.resource(f"{found}.{name}", "sequence", written)

    def _set_config(self, arguments: Sequence[Tree]) -> None:
        """A SET in the middle of a query: harmless, or not judged.

        Whether it is reached at all can't be told from the text, so what later statements
        hang on must not be set this way; :func:`lone_set_config` has the one form that can.
        """
        name = literal(arguments[0]) if arguments else None
        value = literal(arguments[1]) if len(arguments) == 3 else None
        if name is None or value is None or name.lower() in TRACKED:
            self._findings.not_known("a setting is changed in a way that can't be followed")
            return
        risk = setting_risk(name.lower(), (value,))
        if risk is not Risk.READ:
            self._findings.resource(name.lower(), "setting", True)
            self._findings.effect("set", risk)


def lone_set_config(select: Tree) -> SettingChange | None:
    """The change made by ``SELECT set_config('name', 'value', local)`` and nothing else."""
    if select.keys() - {"targetList", "limitOption", "op"} or select.get("op") != "SETOP_NONE":
        return None
    match select.get("targetList"):
        case [{"ResTarget": {"val": {"FuncCall": dict(call)}}}]:
            arguments: list[Tree] = call.get("args", [])
        case _:
            return None
    if call.keys() - {"funcname", "args", "funcformat", "location"} or len(arguments) != 3:
        return None
    if strings(call["funcname"]) not in (["set_config"], ["pg_catalog", "set_config"]):
        return None
    first, second, third = arguments
    name, value, local = literal(first), literal(second), literal(third)
    if name is None or local is None:
        return None
    name = name.lower()
    is_local = local.lower() not in {"f", "false", "off", "0", "no", "n"}
    if value is None:
        if is_null(second):
            return SettingChange(name, None, is_local)
        return None
    if name != "search_path":
        return SettingChange(name, (value,), is_local)
    path = parse_path(value)
    return SettingChange(name, path, is_local, known=path is not None)


def existing_set_config(select: Tree) -> SettingChange | None:
    """The change made by the form of ``set_config`` that sets only what the server knows.

    pg_dump asks so: ``SELECT set_config(name, 'value', false) FROM pg_settings WHERE name =
    'setting'``. Whether it sets anything isn't certain, so nothing tracked is set this way.
    """
    match select:
        case {
            "targetList": [{"ResTarget": {"val": {"FuncCall": dict(call)}}}],
            "fromClause": [{"RangeVar": {"relname": "pg_settings"} as table}],
            "whereClause": {
                "A_Expr": {
                    "kind": "AEXPR_OP",
                    "name": [{"String": {"sval": "="}}],
                    "lexpr": {"ColumnRef": {"fields": [{"String": {"sval": "name"}}]}},
                    "rexpr": dict(wanted),
                }
            },
        }:
            pass
        case _:
            return None
    if table.get("schemaname", "pg_catalog") != "pg_catalog" or "alias" in table:
        return None
    match call.get("args"):
        case [{"ColumnRef": {"fields": [{"String": {"sval": "name"}}]}}, value, local]:
            named = {**call, "args": [wanted, value, local]}
        case _:
            return None
    target = {"ResTarget": {"val": {"FuncCall": named}}}
    rest = {key: value for key, value in select.items() if key not in ("fromClause", "whereClause")}
    change = lone_set_config({**rest, "targetList": [target]})
    return None if change is None or change.name in TRACKED else change


def _implied_name(value: Tree) -> str | None:
    """The name the server gives an output without one (FigureColname), where it is certain."""
    match value:
        case {"ColumnRef": {"fields": [*_, {"String": {"sval": str(name)}}]}}:
            return name
        case {"FuncCall": {"funcname": [*_, {"String": {"sval": str(name)}}]}}:
            return name
        case {"A_Const": _} | {"A_Expr": _} | {"BoolExpr": _} | {"ParamRef": _}:
            return "?column?"
        case _:
            return None


def is_trivial(node: Tree) -> bool:
    """Whether a condition is the same for every row, as far as its form shows."""
    match node:
        case {"BoolExpr": {"boolop": "OR_EXPR", "args": list(arguments)}}:
            return any(is_trivial(argument) for argument in arguments)
        case {"BoolExpr": {"boolop": "AND_EXPR", "args": list(arguments)}}:
            return all(is_trivial(argument) for argument in arguments)
        case {
            "A_Expr": {
                "lexpr": {"ColumnRef": {"fields": left}},
                "rexpr": {"ColumnRef": {"fields": right}},
            }
        }:
            return bool(left == right)
        case _:
            return not _mentions_rows(node)


def _mentions_rows(value: Any) -> bool:
    if isinstance(value, dict):
        if "ColumnRef" in value or "CurrentOfExpr" in value:
            return True
        return any(_mentions_rows(child) for child in value.values())
    if isinstance(value, list):
        return any(_mentions_rows(child) for child in value)
    return False
