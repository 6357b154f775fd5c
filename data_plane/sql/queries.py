"""Walks SELECT, INSERT, UPDATE, DELETE and MERGE, wherever they stand.

Counterparts: :mod:`data_plane.sql.utility` has the other statements and calls in here for the
queries inside them; :mod:`data_plane.sql.expressions` walks expressions. Scoping follows the
server's; where it would take more than the text to know what a name stands for, everything
that it could be is reported.
"""

from __future__ import annotations

from collections.abc import Sequence

from data_plane.sql.expressions import Expressions, is_trivial
from data_plane.sql.findings import Findings, strings
from data_plane.sql.parse import Tree
from data_plane.sql.scope import (
    NOTHING,
    RELATION_OUTPUTS,
    UNKNOWN_OUTPUTS,
    Columns,
    Cte,
    Nature,
    Outputs,
    Scope,
    Source,
    combined,
    renamed,
    union,
)
from data_plane.sql.statement import Output
from protos.vocabulary import Risk

_SELECT_FIELDS = frozenset(
    """
    all distinctClause fromClause groupClause groupDistinct havingClause intoClause larg
    limitCount limitOffset limitOption lockingClause op rarg sortClause targetList
    valuesLists whereClause windowClause withClause
    """.split()  # noqa: SIM905
)
_WRITING_FIELDS = frozenset(
    """
    cols fromClause joinCondition mergeWhenClauses onConflictClause override relation
    returningClause selectStmt sourceRelation targetList usingClause whereClause withClause
    """.split()  # noqa: SIM905
)
_SAMPLING = frozenset({"system", "bernoulli"})


def _alias(body: Tree, default: str = "") -> tuple[str, list[str]]:
    alias = body.get("alias", {})
    return alias.get("aliasname", default), strings(alias.get("colnames", ()))


class Queries:
    """The walk over the queries of one statement."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.expressions = Expressions(findings, self.query)

    def query(self, node: Tree, parent: Scope) -> Outputs:
        """Any of the five, as a node under its type's name; its result columns."""
        match node:
            case {"SelectStmt": body}:
                return self._select(body, parent)
            case {"InsertStmt": body}:
                return self._insert(body, parent)
            case {"UpdateStmt": body}:
                return self._update(body, parent)
            case {"DeleteStmt": body}:
                return self._delete(body, parent)
            case {"MergeStmt": body}:
                return self._merge(body, parent)
            case _:
                self._findings.not_known(f"nothing is known of {next(iter(node), 'a query')}")
                return UNKNOWN_OUTPUTS

    # SELECT, VALUES, TABLE and set operations

    def _select(self, body: Tree, parent: Scope, recursive: Cte | None = None) -> Outputs:
        self._findings.effect("select", Risk.READ)
        self._only(body, _SELECT_FIELDS)
        scope = Scope(parent)
        self._with(body, scope)
        if body.get("op", "SETOP_NONE") != "SETOP_NONE":
            left = self._select(body["larg"], scope)
            if recursive is not None:
                recursive.outputs = left
            right = self._select(body["rarg"], scope)
            self._findings.spend((*left, *right))
            outputs = combined(left, right)
            scope.sources.append(Source("", outputs))
        elif "valuesLists" in body:
            outputs = self._values(body["valuesLists"], scope)
        else:
            for item in body.get("fromClause", ()):
                scope.sources += self._from(item, scope)
            outputs = self.expressions.targets(body.get("targetList", ()), scope)
        self.expressions.test(body.get("whereClause"), scope)
        self.expressions.test(body.get("havingClause"), scope)
        for clause in ("distinctClause", "groupClause", "sortClause"):
            for node in body.get(clause, ()):
                self._order(node, scope, outputs)
        self.expressions.test_all(body.get("windowClause", ()), scope)
        self.expressions.test(body.get("limitCount"), scope)
        self.expressions.test(body.get("limitOffset"), scope)
        if "lockingClause" in body:
            # The server asks for the right to update as well.
            self._findings.facts["lock"] = "rows"
            self._findings.effect("select", Risk.WRITE)
        if "intoClause" in body:
            self.into(body["intoClause"], outputs)
            return ()
        return outputs

    def into(self, clause: Tree, outputs: Outputs) -> None:
        """A new table is made of a query's rows."""
        target = clause["rel"]
        temporary = target.get("relpersistence") == "t" or target.get("schemaname") == "pg_temp"
        self._findings.relation(target, written=True, created=True)
        self._findings.effect("create", Risk.WRITE if temporary else Risk.ADMINISTER)
        self._findings.creates_relations = True
        self._findings.stored |= union(outputs)

    def _order(self, node: Tree, scope: Scope, outputs: Outputs) -> None:
        """An entry of ORDER BY, GROUP BY or DISTINCT ON, which may name or number an output."""
        if "GroupingSet" in node:
            for item in node["GroupingSet"].get("content", ()):
                self._order(item, scope, outputs)
            return
        self._findings.spend(outputs)
        inner = node.get("SortBy", {}).get("node", node)
        self.expressions.test(node, scope)
        match inner:
            case {"A_Const": {"ival": {"ival": int(position)}}}:
                starred = any(output.star for output in outputs[:position])
                within = not starred and position <= len(outputs)
                chosen = outputs[position - 1 : position] if within else outputs
                self._findings.predicates |= union(chosen)
            case {"ColumnRef": {"fields": [{"String": {"sval": str(name)}}]}}:
                same = [output for output in outputs if output.name in (name, None)]
                self._findings.predicates |= union(same)

    def _values(self, rows: Sequence[Tree], scope: Scope) -> Outputs:
        columns: list[Columns] = []
        for row in rows:
            for index, item in enumerate(row["List"]["items"]):
                if index == len(columns):
                    columns.append(NOTHING)
                columns[index] |= self.expressions.value(item, scope)
        return tuple(Output(f"column{index}", one) for index, one in enumerate(columns, 1))

    # WITH

    def _with(self, body: Tree, scope: Scope) -> None:
        clause = body.get("withClause")
        if clause is None:
            return
        nodes = [node["CommonTableExpr"] for node in clause["ctes"]]
        if clause.get("recursive"):
            # Each may refer to itself and to those behind it.
            for node in nodes:
                scope.ctes[node["ctename"]] = Cte(node, scope, recursive=True)
            for node in nodes:
                self._outputs_of(scope.ctes[node["ctename"]])
            return
        for node in nodes:
            cte = Cte(node, scope)
            self._outputs_of(cte)
            scope.ctes[node["ctename"]] = cte

    def _outputs_of(self, cte: Cte) -> Outputs:
        names = strings(cte.node.get("aliascolnames", ()))
        if cte.active:
            # It refers to itself: to what its first part gave, if that has been seen.
            return renamed(UNKNOWN_OUTPUTS if cte.outputs is None else cte.outputs, names)
        if cte.outputs is not None:
            return cte.outputs
        cte.active = True
        query: Tree = cte.node["ctequery"]
        if "SelectStmt" in query:
            outputs = self._select(query["SelectStmt"], cte.scope, cte if cte.recursive else None)
        else:
            outputs = self.query(query, cte.scope)
        if cte.outputs is not None:
            # Values may have moved between the columns from one round to the next.
            whole = union((*cte.outputs, *outputs))
            outputs = tuple(Output(o.name, whole, star=o.star) for o in outputs)
        outputs = renamed(outputs, names)
        cte.active = False
        cte.outputs = outputs + self._added(cte.node, outputs)
        return cte.outputs

    def _added(self, node: Tree, outputs: Outputs) -> Outputs:
        """The columns that SEARCH and CYCLE add."""
        search, cycle = node.get("search_clause", {}), node.get("cycle_clause", {})
        added = [search.get("search_seq_column")]
        added += [cycle.get("cycle_mark_column"), cycle.get("cycle_path_column")]
        for name in ("cycle_mark_value", "cycle_mark_default"):
            self.expressions.value(cycle.get(name, {}), self._findings.scope())
        return tuple(Output(name, union(outputs)) for name in added if name)

    # FROM

    def _from(self, node: Tree, scope: Scope) -> list[Source]:
        [(kind, body)] = node.items()
        name, columns = _alias(body)
        match kind:
            case "RangeVar":
                return [self._table(body, scope)]
            case "RangeSubselect":
                outputs = self.query(body["subquery"], scope)
                return [Source(name, renamed(outputs, columns))]
            case "RangeFunction":
                return [self._function(body, scope)]
            case "RangeTableSample":
                method = strings(body.get("method", ()))
                if method[-1] not in _SAMPLING or method[:-1] not in ([], ["pg_catalog"]):
                    self._findings.not_known(f"nothing is known of {'.'.join(method)}")
                self.expressions.test_all(body.get("args", ()), scope)
                self.expressions.test(body.get("repeatable"), scope)
                return self._from(body["relation"], scope)
            case "RangeTableFunc" | "JsonTable":
                derived = self.expressions.children(body, scope)
                star = (Output(None, derived, star=True),)
                return [Source(name, renamed(star, columns))]
            case "JoinExpr":
                return self._join(body, scope)
            case _:
                self._findings.not_known(f"nothing is known of {kind}")
                return [Source("", UNKNOWN_OUTPUTS)]

    def _table(self, body: Tree, scope: Scope) -> Source:
        relation: str = body["relname"]
        name, columns = _alias(body, relation)
        cte = None if body.get("schemaname") else scope.cte(relation)
        if cte is not None:
            return Source(name, renamed(self._outputs_of(cte), columns))
        self._findings.relation(body)
        return Source(name, renamed(RELATION_OUTPUTS, columns))

    def _function(self, body: Tree, scope: Scope) -> Source:
        derived = NOTHING
        called = ""
        defined: list[Tree] = list(body.get("coldeflist", ()))
        for entry in body["functions"]:
            call, definitions = entry["List"]["items"]
            derived |= self.expressions.value(call, scope)
            called = _called(call)
            if definitions:
                defined += definitions["List"]["items"]
        for node in defined:
            self.expressions.value(node, scope)
        name, columns = _alias(body, called)
        named = columns or [node["ColumnDef"]["colname"] for node in defined]
        star = (Output(None, derived, star=True),)
        # A single value's only column bears the alias, unless it is given a name.
        value_name = "" if named else name
        return Source(name, renamed(star, named), Nature.VALUE, value_name)

    def _join(self, body: Tree, scope: Scope) -> list[Source]:
        sources = self._from(body["larg"], scope)
        # The right side may be LATERAL, and the condition sees both.
        self._findings.spend([output for source in sources for output in source.outputs])
        inner = Scope(scope, list(sources))
        right = self._from(body["rarg"], inner)
        inner.sources += right
        sources += right
        self.expressions.test(body.get("quals"), inner)
        shared = strings(body.get("usingClause", ()))
        self._findings.columns.update(shared)
        for column in shared:
            self._findings.predicates |= inner.column(column).columns
        merges = bool(shared) or bool(body.get("isNatural"))
        if merges or inner.merged:
            scope.merged = True
        if body.get("isNatural"):
            self._findings.predicates |= union([o for s in sources for o in s.outputs])
        if "join_using_alias" in body:
            every = tuple(o for s in sources for o in s.outputs)
            alias = body["join_using_alias"]["aliasname"]
            sources.append(Source(alias, every, unlisted=True))
        if "alias" in body:
            name, columns = _alias(body)
            inner.merged = scope.merged
            inner.sources = sources
            return [Source(name, renamed(inner.star(), columns))]
        return sources

    # Writing

    def _insert(self, body: Tree, parent: Scope) -> Outputs:
        self._findings.effect("insert", Risk.WRITE)
        scope = Scope(parent)
        self._with(body, scope)
        self._assigned(body.get("cols", ()), scope)
        if "selectStmt" in body:
            self._findings.stored |= union(self.query(body["selectStmt"], scope))
        scope.sources.append(self._written(body["relation"]))
        scope.sources.append(Source("excluded", RELATION_OUTPUTS, unlisted=True))
        conflict = body.get("onConflictClause", {})
        inference = conflict.get("infer", {})
        for element in inference.get("indexElems", ()):
            self.expressions.test(element["IndexElem"].get("expr"), scope)
        self.expressions.test(inference.get("whereClause"), scope)
        if conflict.get("action") == "ONCONFLICT_UPDATE":
            self._findings.facts["on_conflict"] = "update"
        self._assigned(conflict.get("targetList", ()), scope)
        self.expressions.test(conflict.get("whereClause"), scope)
        return self._returning(body, scope)

    def _update(self, body: Tree, parent: Scope) -> Outputs:
        self._findings.effect("update", Risk.WRITE)
        scope = Scope(parent)
        self._with(body, scope)
        scope.sources.append(self._written(body["relation"]))
        for item in body.get("fromClause", ()):
            scope.sources += self._from(item, scope)
        self._assigned(body.get("targetList", ()), scope)
        self._where(body, scope)
        return self._returning(body, scope)

    def _delete(self, body: Tree, parent: Scope) -> Outputs:
        self._findings.effect("delete", Risk.DESTROY)
        scope = Scope(parent)
        self._with(body, scope)
        scope.sources.append(self._written(body["relation"]))
        for item in body.get("usingClause", ()):
            scope.sources += self._from(item, scope)
        self._where(body, scope)
        return self._returning(body, scope)

    def _merge(self, body: Tree, parent: Scope) -> Outputs:
        self._findings.effect("merge", Risk.WRITE)
        scope = Scope(parent)
        self._with(body, scope)
        target = self._written(body["relation"])
        # RETURNING * has the source's columns first.
        scope.sources += self._from(body["sourceRelation"], scope)
        scope.sources.append(target)
        self.expressions.test(body.get("joinCondition"), scope)
        for node in body.get("mergeWhenClauses", ()):
            clause = node["MergeWhenClause"]
            if clause.get("commandType") == "CMD_DELETE":
                self._findings.effect("merge", Risk.DESTROY)
                self._findings.facts["merge"] = "delete"
            self.expressions.test(clause.get("condition"), scope)
            self._assigned(clause.get("targetList", ()), scope)
            for value in clause.get("values", ()):
                self._findings.stored |= self.expressions.value(value, scope)
        return self._returning(body, scope)

    def _only(self, body: Tree, known: frozenset[str]) -> None:
        """A clause that isn't known here may do anything."""
        strange = body.keys() - known
        if strange:
            self._findings.not_known(f"nothing is known of {', '.join(sorted(strange))}")

    def _written(self, variable: Tree) -> Source:
        """The table that is written; a WITH query of its name is not meant."""
        self._findings.relation(variable, written=True)
        name, columns = _alias(variable, variable["relname"])
        return Source(name, renamed(RELATION_OUTPUTS, columns))

    def _assigned(self, targets: Sequence[Tree], scope: Scope) -> None:
        for node in targets:
            target = node["ResTarget"]
            self._findings.columns.add(target.get("name", "*"))
            for step in target.get("indirection", ()):
                # A field or a subscript on the left is written to: it is no call.
                self.expressions.value(step, scope)
            self._findings.stored |= self.expressions.value(target.get("val", {}), scope)

    def _where(self, body: Tree, scope: Scope) -> None:
        condition = body.get("whereClause")
        self.expressions.test(condition, scope)
        if condition is None:
            self._findings.facts["where"] = "absent"
        elif is_trivial(condition):
            self._findings.facts.setdefault("where", "trivial")

    def _returning(self, body: Tree, scope: Scope) -> Outputs:
        self._only(body, _WRITING_FIELDS)
        clause = body.get("returningClause", {})
        for option in clause.get("options", ()):
            alias = option["ReturningOption"]["value"]
            scope.sources.append(Source(alias, RELATION_OUTPUTS, unlisted=True))
        for alias in ("old", "new"):
            if not scope.source(alias):
                scope.sources.append(Source(alias, RELATION_OUTPUTS, unlisted=True))
        return self.expressions.targets(clause.get("exprs", ()), scope)


def _called(call: Tree) -> str:
    """The name of a function in FROM, by which it goes without an alias."""
    return (strings(call.get("FuncCall", {}).get("funcname", ())) or [""])[-1]
