"""Judges what defines, changes and drops things: DDL, rights, roles, maintenance.

Counterpart: :mod:`data_plane.sql.utility` calls :func:`define` for what :data:`DEFINITIONS`
lists. Queries and calls anywhere inside such a statement are walked as well, since some run
at once (a default of a new column) and the others later.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from data_plane.sql.expressions import wrapped
from data_plane.sql.findings import Findings, qualified_name, strings
from data_plane.sql.parse import Tree
from data_plane.sql.queries import Queries
from data_plane.sql.scope import Outputs, union
from protos.vocabulary import Risk

_ADMINISTER = {
    "alter": """
        AlterCollationStmt AlterDatabaseRefreshCollStmt AlterDatabaseSetStmt
        AlterDatabaseStmt AlterDefaultPrivilegesStmt AlterDomainStmt AlterEnumStmt
        AlterEventTrigStmt AlterExtensionContentsStmt AlterExtensionStmt AlterFdwStmt
        AlterForeignServerStmt AlterFunctionStmt AlterObjectDependsStmt
        AlterObjectSchemaStmt AlterOpFamilyStmt AlterOperatorStmt AlterOwnerStmt
        AlterPolicyStmt AlterPublicationStmt AlterRoleSetStmt AlterRoleStmt AlterSeqStmt
        AlterStatsStmt AlterSubscriptionStmt AlterTSConfigurationStmt
        AlterTSDictionaryStmt AlterTableMoveAllStmt AlterTableSpaceOptionsStmt
        AlterTableStmt AlterTypeStmt AlterUserMappingStmt RenameStmt
    """,
    "create": """
        CompositeTypeStmt CreateAmStmt CreateCastStmt CreateConversionStmt CreateDomainStmt
        CreateEnumStmt CreateExtensionStmt CreateFdwStmt CreateForeignServerStmt
        CreateForeignTableStmt CreateOpClassStmt CreateOpFamilyStmt CreatePolicyStmt
        CreatePublicationStmt CreateRangeStmt CreateRoleStmt CreateSchemaStmt
        CreateSeqStmt CreateStatsStmt CreateStmt CreateSubscriptionStmt
        CreateTableSpaceStmt CreateTransformStmt CreateUserMappingStmt CreatedbStmt
        DefineStmt ImportForeignSchemaStmt IndexStmt ViewStmt
    """,
    "drop": """
        DropOwnedStmt DropRoleStmt DropSubscriptionStmt DropTableSpaceStmt
        DropUserMappingStmt DropdbStmt
    """,
    "comment": "CommentStmt",
    "security_label": "SecLabelStmt",
    "reassign": "ReassignOwnedStmt",
    "vacuum": "VacuumStmt",
    "reindex": "ReindexStmt",
    "cluster": "ClusterStmt",
}


def _table() -> dict[str, tuple[str, Risk]]:
    table = {
        kind: (verb, Risk.ADMINISTER)
        for verb, kinds in _ADMINISTER.items()
        for kind in kinds.split()
    }
    table["DropStmt"] = ("drop", Risk.DESTROY)
    table["GrantStmt"] = table["GrantRoleStmt"] = ("grant", Risk.ADMINISTER)
    # What they make runs whenever something else happens.
    for kind in (
        "CreateEventTrigStmt",
        "CreateFunctionStmt",
        "CreatePLangStmt",
        "CreateTrigStmt",
        "RuleStmt",
    ):
        table[kind] = ("create", Risk.EXECUTE)
    return table


DEFINITIONS: Mapping[str, tuple[str, Risk]] = MappingProxyType(_table())
"""Verb and least risk of each statement that defines something."""

# What holds rows, or a name for them; dropping any other thing takes a rule, a right or a
# protection away, which is administration.
_DROPPED_DATA = {
    "OBJECT_TABLE": "relation",
    "OBJECT_VIEW": "relation",
    "OBJECT_MATVIEW": "relation",
    "OBJECT_FOREIGN_TABLE": "relation",
    "OBJECT_INDEX": "relation",
    "OBJECT_SEQUENCE": "sequence",
    "OBJECT_SCHEMA": "schema",
    "OBJECT_TYPE": "type",
    "OBJECT_DOMAIN": "type",
}

_RELATIONS = frozenset({"CreateStmt", "ViewStmt", "CreateSeqStmt", "CreateForeignTableStmt"})

_WALKED = frozenset(
    """
    A_ArrayExpr A_Expr A_Indirection CaseExpr CoalesceExpr FuncCall
    JsonFuncExpr MinMaxExpr RowExpr SubLink TypeCast XmlExpr
    """.split()  # noqa: SIM905
)
_QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


def define(kind: str, body: Tree, findings: Findings, queries: Queries) -> Outputs:
    """Judge a statement that :data:`DEFINITIONS` lists."""
    verb, risk = DEFINITIONS[kind]
    if kind == "DropStmt":
        risk = _drop(body, findings)
    elif kind in ("GrantStmt", "GrantRoleStmt") and not body.get("is_grant"):
        verb = "revoke"
    elif kind == "AlterTableStmt":
        risk = _alter_table(body, findings)
    elif kind == "VacuumStmt" and not body.get("is_vacuumcmd"):
        verb = "analyze"
    elif kind in _RELATIONS and _is_temporary(body):
        risk = Risk.WRITE
    if body.get("behavior") == "DROP_CASCADE":
        findings.facts["cascade"] = "true"
    findings.effect(verb, risk)
    findings.creates_relations |= verb in ("create", "alter", "drop")
    _names(kind, body, findings)
    _Walk(findings, queries, created=kind in _RELATIONS).visit(body)
    if not findings.resources:
        # A rule that allows by resource must not match for want of one.
        findings.resource("?", "object", True)
    return ()


def _is_temporary(body: Tree) -> bool:
    target = body.get("relation") or body.get("view") or body.get("sequence") or {}
    return bool(target.get("relpersistence") == "t" or target.get("schemaname") == "pg_temp")


def _drop(body: Tree, findings: Findings) -> Risk:
    kind = _DROPPED_DATA.get(body["removeType"])
    for node in body["objects"]:
        if kind in ("relation", "sequence"):
            parts = strings(node["List"]["items"])
            findings.named_relation(parts[-2] if len(parts) > 1 else "", parts[-1], written=True)
        else:
            findings.resource(_any_name(node), kind or "object", True)
    return Risk.ADMINISTER if kind is None else Risk.DESTROY


def _any_name(node: Tree) -> str:
    match node:
        case {"String": {"sval": str(name)}}:
            return name
        case {"List": {"items": list(items)}}:
            return ".".join(strings(items)) or "?"
        case {"TypeName": {"names": list(names)}} | {"ObjectWithArgs": {"objname": list(names)}}:
            return ".".join(strings(names))
        case _:
            return "?"


def _alter_table(body: Tree, findings: Findings) -> Risk:
    commands = [node["AlterTableCmd"] for node in body.get("cmds", ())]
    dropped = [c.get("name", "") for c in commands if c.get("subtype") == "AT_DropColumn"]
    if dropped:
        findings.facts["drops"] = ", ".join(dropped)
        findings.columns.update(dropped)
    return Risk.DESTROY if len(dropped) == len(commands) else Risk.ADMINISTER


def _names(kind: str, body: Tree, findings: Findings) -> None:
    """Things other than relations that a statement names in a field of its own."""
    match kind, body:
        case "CreateSchemaStmt", {"schemaname": str(name)}:
            findings.resource(name, "schema", True)
        case ("CreateRoleStmt", {"role": str(name)}):
            findings.resource(name, "role", True)
        case ("AlterRoleStmt" | "AlterRoleSetStmt", {"role": {"rolename": str(name)}}):
            findings.resource(name, "role", True)
        case ("CreatedbStmt" | "DropdbStmt" | "AlterDatabaseStmt", {"dbname": str(name)}):
            findings.resource(name, "database", True)
        case "CreateExtensionStmt", {"extname": str(name)}:
            findings.resource(name, "extension", True)
        case "CreateFunctionStmt", {"funcname": list(names)}:
            parts = strings(names)
            shown = qualified_name(parts[-2], parts[-1]) if len(parts) > 1 else "?." + parts[-1]
            findings.resource(shown, "function", True)
        case ("CommentStmt" | "SecLabelStmt", {"object": dict(node)}):
            findings.resource(_any_name(node), "object", True)


class _Walk:
    """Visits everything below a definition for relations, queries, calls and secrets."""

    def __init__(self, findings: Findings, queries: Queries, created: bool) -> None:
        self._findings = findings
        self._queries = queries
        self._created = created

    def visit(self, value: Any) -> None:
        """Visit a value of the tree, whatever it is."""
        if isinstance(value, list):
            for item in value:
                self.visit(item)
        elif wrapped(value):
            [(kind, body)] = value.items()
            if kind in _QUERIES:
                outputs = self._queries.query(value, self._findings.scope())
                self._findings.stored |= union(outputs)
            elif kind in _WALKED:
                self._queries.expressions.value(value, self._findings.scope())
            elif kind == "DefElem":
                self._option(body)
            else:
                self.visit(body)
        elif isinstance(value, dict):
            if "relname" in value:
                self._findings.relation(value, written=True, created=self._created)
                # Whatever else stands in the statement isn't what it creates.
                self._created = False
            for child in value.values():
                self.visit(child)

    def _option(self, option: Tree) -> None:
        if "password" in option.get("defname", "") or option.get("defname") == "connection":
            self._findings.facts.setdefault("secret", "in text")
        self.visit(option.get("arg"))
