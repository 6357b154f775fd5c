"""Judges every kind of statement: the table of statements, and those that aren't queries.

Counterparts: :mod:`data_plane.sql.queries` has the queries; :mod:`data_plane.sql.classify`
calls :func:`judge` for each statement of a text. A statement that is in none of the tables
here is UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from data_plane.sql.copying import copy, is_off
from data_plane.sql.definitions import DEFINITIONS, define
from data_plane.sql.expressions import existing_set_config, literal, lone_set_config
from data_plane.sql.findings import Findings, strings
from data_plane.sql.parse import Tree
from data_plane.sql.queries import Queries
from data_plane.sql.scope import NOTHING, UNKNOWN_OUTPUTS, Outputs
from data_plane.sql.settings import setting_risk
from data_plane.sql.statement import (
    NameKind,
    NameUse,
    Output,
    SettingChange,
    Statement,
    StepKind,
    TransactionStep,
)
from protos.vocabulary import Risk

Inner = Callable[[Tree], Statement]
"""Judges a statement within a statement by itself."""

_STEPS: Mapping[str, tuple[StepKind, Risk]] = MappingProxyType(
    {
        "TRANS_STMT_BEGIN": (StepKind.BEGIN, Risk.READ),
        "TRANS_STMT_START": (StepKind.BEGIN, Risk.READ),
        "TRANS_STMT_COMMIT": (StepKind.COMMIT, Risk.READ),
        "TRANS_STMT_ROLLBACK": (StepKind.ROLLBACK, Risk.READ),
        "TRANS_STMT_SAVEPOINT": (StepKind.SAVEPOINT, Risk.READ),
        "TRANS_STMT_RELEASE": (StepKind.RELEASE, Risk.READ),
        "TRANS_STMT_ROLLBACK_TO": (StepKind.ROLLBACK_TO, Risk.READ),
        # They outlive the session, and may finish what another session left.
        "TRANS_STMT_PREPARE": (StepKind.PREPARE, Risk.ADMINISTER),
        "TRANS_STMT_COMMIT_PREPARED": (StepKind.COMMIT_PREPARED, Risk.ADMINISTER),
        "TRANS_STMT_ROLLBACK_PREPARED": (StepKind.ROLLBACK_PREPARED, Risk.ADMINISTER),
    }
)

# LOCK's modes (lockdefs.h): up to what SELECT takes, up to what writing takes, and beyond.
_ACCESS_SHARE, _ROW_EXCLUSIVE = 1, 3

_QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})

# The whole effect of these is in the table.
_SIMPLE: Mapping[str, tuple[str, Risk]] = MappingProxyType(
    {
        "CheckPointStmt": ("checkpoint", Risk.ADMINISTER),
        "ConstraintsSetStmt": ("set", Risk.READ),
        "UnlistenStmt": ("unlisten", Risk.READ),
        "LoadStmt": ("load", Risk.EXECUTE),
        "AlterSystemStmt": ("alter", Risk.EXECUTE),  # archive_command and its like run
    }
)


def judge(node: Tree, findings: Findings, inner: Inner) -> Outputs | None:
    """Report a whole statement's effects to ``findings``; its result columns.

    ``None`` where rows may come whose columns can't be told.
    """
    if "SelectStmt" in node:
        select = node["SelectStmt"]
        change = lone_set_config(select) or existing_set_config(select)
        if change is not None:
            _change(change, findings)
            return (Output("set_config", NOTHING),)
    return judge_inner(node, findings, inner)


def judge_inner(node: Tree, findings: Findings, inner: Inner) -> Outputs | None:
    """As :func:`judge`, for a statement within another, which runs at another time or never."""
    [(kind, body)] = node.items()
    queries = Queries(findings)
    if kind in _QUERIES:
        return queries.query(node, findings.scope())
    if kind in DEFINITIONS:
        return define(kind, body, findings, queries)
    if kind in _SIMPLE:
        verb, risk = _SIMPLE[kind]
        findings.effect(verb, risk)
        if risk is not Risk.READ:
            findings.resource("server", "server", True)
        return ()
    special = _SPECIAL.get(kind)
    if special is not None:
        return special(body, findings, queries, inner)
    findings.not_known(f"nothing is known of {kind}")
    return None


def _change(change: SettingChange, findings: Findings) -> None:
    """A setting of the session is changed."""
    findings.timeline.append(change)
    known = change.known or change.name == "timezone"
    risk = setting_risk(change.name, change.values) if known else Risk.ADMINISTER
    findings.effect("set", risk)
    if risk is not Risk.READ:
        # A rule on tables need not name what every driver sets.
        findings.resource(change.name, "setting", True)


def _set(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    kind = body["kind"]
    name = str(body.get("name", "")).lower()
    local = bool(body.get("is_local"))
    arguments: list[Tree] = body.get("args", [])
    match kind:
        case "VAR_SET_VALUE":
            values = tuple(literal(argument) for argument in arguments)
            texts = tuple(value for value in values if value is not None)
            plain = all("A_Const" in argument for argument in arguments)
            known = plain and len(texts) == len(values)
            _change(SettingChange(name, texts if known else None, local, known), findings)
        case "VAR_SET_DEFAULT" | "VAR_RESET":
            _change(SettingChange(name, None, local), findings)
        case "VAR_RESET_ALL":
            findings.timeline.append(SettingChange("all", None))
            findings.effect("reset", Risk.READ)
        case "VAR_SET_CURRENT":
            _change(SettingChange(name, None, local, known=False), findings)
        case "VAR_SET_MULTI" if name == "transaction snapshot":
            findings.effect("set", Risk.READ)
        case "VAR_SET_MULTI":
            findings.effect("set", Risk.READ)
            prefix = "default_" if name == "session characteristics" else ""
            _modes(body, findings, prefix)
        case _:
            findings.not_known(f"nothing is known of {kind}")
    return ()


def _modes(body: Tree, findings: Findings, prefix: str = "") -> None:
    """The modes of a transaction, which are settings too."""
    for node in [*body.get("options", ()), *body.get("args", ())]:
        option = node["DefElem"]
        value = literal(option.get("arg", {}))
        name = prefix + option["defname"]
        risk = setting_risk(name, None if value is None else (value,))
        if risk is not Risk.READ:
            findings.facts["mode"] = "read write"
            findings.effect("set", risk)


def _transaction(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    step = _STEPS.get(body["kind"])
    if step is None:
        findings.not_known(f"nothing is known of {body['kind']}")
        return ()
    kind, risk = step
    findings.effect(kind.value, risk)
    name = body.get("savepoint_name") or body.get("gid") or ""
    findings.timeline.append(TransactionStep(kind, name, bool(body.get("chain"))))
    if kind is StepKind.BEGIN:
        _modes(body, findings)
    return ()


def _explain(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    runs = any(
        node["DefElem"]["defname"] == "analyze" and not is_off(node["DefElem"].get("arg", {}))
        for node in body.get("options", ())
    )
    findings.effect("explain", Risk.READ)
    judge_inner(body["query"], findings, inner)
    if runs:
        findings.facts["explain"] = "analyze"
    else:
        # Nothing runs but what planning evaluates: functions.
        findings.only_planned()
    return (Output("QUERY PLAN", NOTHING),)


def _prepare(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    return _put(NameKind.PREPARE, body["name"], body["query"], findings, inner)


def _declare(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    return _put(NameKind.DECLARE, body["portalname"], body["query"], findings, inner)


def _put(kind: NameKind, name: str, query: Tree, findings: Findings, inner: Inner) -> Outputs:
    """A statement is put under a name; it counts as if it ran, since running it is to come."""
    findings.effect(kind.value, Risk.READ)
    judge_inner(query, findings, inner)
    findings.names.append(NameUse(kind, name, inner(query)))
    return ()


def _execute(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> None:
    findings.effect("execute", Risk.READ)
    for parameter in body.get("params", ()):
        findings.stored |= queries.expressions.value(parameter, findings.scope())
    findings.names.append(NameUse(NameKind.EXECUTE, body["name"]))
    findings.unresolved = True


def _fetch(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs | None:
    # A cursor's name may be that of a portal which Bind has made and nobody has run yet.
    moves = bool(body.get("ismove"))
    kind = NameKind.MOVE if moves else NameKind.FETCH
    findings.effect(kind.value, Risk.READ)
    findings.names.append(NameUse(kind, body["portalname"]))
    findings.unresolved = True
    return () if moves else None


def _deallocate(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    findings.effect("deallocate", Risk.READ)
    findings.names.append(NameUse(NameKind.DEALLOCATE, body.get("name", "")))
    return ()


def _close(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    findings.effect("close", Risk.READ)
    findings.names.append(NameUse(NameKind.CLOSE, body.get("portalname", "")))
    return ()


def _discard(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    findings.effect("discard", Risk.READ)
    findings.discards = body["target"] == "DISCARD_ALL"
    return ()


def _show(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    findings.effect("show", Risk.READ)
    name = body["name"].lower()
    if name == "all":
        return tuple(Output(column, NOTHING) for column in ("name", "setting", "description"))
    return (Output(name, NOTHING),)


def _copy(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    return copy(body, findings, queries)


def _truncate(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    findings.effect("truncate", Risk.DESTROY)
    findings.facts["where"] = "absent"
    if body.get("behavior") == "DROP_CASCADE":
        findings.facts["cascade"] = "true"
    for node in body["relations"]:
        findings.relation(node["RangeVar"], written=True)
    return ()


def _lock(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    mode = body.get("mode", 0)
    if mode == _ACCESS_SHARE:
        findings.effect("lock", Risk.READ)
    elif _ACCESS_SHARE < mode <= _ROW_EXCLUSIVE:
        findings.effect("lock", Risk.WRITE)
    else:
        findings.effect("lock", Risk.ADMINISTER)
    for node in body["relations"]:
        findings.relation(node["RangeVar"])
    return ()


def _listen(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    findings.effect("listen", Risk.READ)
    findings.resource(body["conditionname"], "channel", False)
    return ()


def _notify(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    findings.effect("notify", Risk.WRITE)
    findings.resource(body["conditionname"], "channel", True)
    return ()


def _do(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    findings.effect("do", Risk.EXECUTE)
    languages = [
        node["DefElem"]["arg"]["String"]["sval"]
        for node in body.get("args", ())
        if node["DefElem"]["defname"] == "language"
    ]
    language = ", ".join(languages) or "plpgsql"
    findings.facts["language"] = language
    findings.resource(language, "language", True)
    return ()


def _call(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> None:
    findings.effect("call", Risk.EXECUTE)
    call = body["funccall"]
    findings.resource(".".join(strings(call["funcname"])), "procedure", True)
    for argument in call.get("args", ()):
        findings.stored |= queries.expressions.value(argument, findings.scope())


def _create_as(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    target: Any = body["into"]
    outputs = judge_inner(body["query"], findings, inner)
    queries.into(target, UNKNOWN_OUTPUTS if outputs is None else outputs)
    return ()


def _refresh(body: Tree, findings: Findings, queries: Queries, inner: Inner) -> Outputs:
    findings.effect("refresh", Risk.WRITE)
    findings.relation(body["relation"], written=True)
    return ()


_SPECIAL: Mapping[str, Callable[[Tree, Findings, Queries, Inner], Outputs | None]] = (
    MappingProxyType(
        {
            "CallStmt": _call,
            "ClosePortalStmt": _close,
            "CopyStmt": _copy,
            "CreateTableAsStmt": _create_as,
            "DeallocateStmt": _deallocate,
            "DeclareCursorStmt": _declare,
            "DiscardStmt": _discard,
            "DoStmt": _do,
            "ExecuteStmt": _execute,
            "ExplainStmt": _explain,
            "FetchStmt": _fetch,
            "ListenStmt": _listen,
            "LockStmt": _lock,
            "NotifyStmt": _notify,
            "PrepareStmt": _prepare,
            "RefreshMatViewStmt": _refresh,
            "TransactionStmt": _transaction,
            "TruncateStmt": _truncate,
            "VariableSetStmt": _set,
            "VariableShowStmt": _show,
        }
    )
)
