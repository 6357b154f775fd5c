"""What a text of SQL would do: from the text and the session's state to a judgement.

Counterparts: :mod:`data_plane.sql.parse` reads the text, :mod:`data_plane.sql.utility` and
:mod:`data_plane.sql.queries` walk its statements; ``data_plane.protocols.postgres`` asks
here before anything goes to the target. It doesn't know policies, the catalogue's functions
or what triggers, views and defaults of the target do when they are reached.

The hot path is the cache by exact text. A cache by the text's fingerprint would be wrong for
all that looks at literals (a setting's value, a sequence's name, ``WHERE 1 = 1``), so there
is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import MappingProxyType

from data_plane.sql.findings import Findings
from data_plane.sql.parse import NotUnderstood, Tree, parse
from data_plane.sql.scope import Meter, Outputs
from data_plane.sql.statement import NameKind, SessionState, SettingChange, Statement
from data_plane.sql.utility import judge, judge_inner
from protos.vocabulary import Resource, Risk

DEFAULT = SessionState()

CACHED_LENGTH = 4096
"""Characters; longer texts are judged anew each time, so that the cache stays small."""
CACHED_TEXTS = 4096

_RESOLVABLE = frozenset({NameKind.EXECUTE, NameKind.FETCH, NameKind.MOVE})


def classify(text: str, state: SessionState = DEFAULT) -> Statement:
    """Judge a text of any number of statements as the server will run them in this state.

    Never raises: whatever isn't understood is ``Risk.UNKNOWN``, with the reason under
    ``facts["unknown"]``. The answer depends on nothing but the arguments.
    """
    if len(text) > CACHED_LENGTH:
        return _classify(text, state)
    return _remembered(text, state)


def resolve(statement: Statement, named: Statement) -> Statement:
    """The judgement of EXECUTE, FETCH or MOVE, given what stands under the name it uses.

    EXECUTE does what the prepared statement does. FETCH and MOVE read from a cursor that was
    judged when it was declared; pass only what DECLARE put there, since the name of a portal
    made by Bind runs that portal. A statement that isn't just one of the three is returned
    as it is.
    """
    if statement.unresolved is None or statement.count != 1 or len(statement.names) != 1:
        return statement
    use = statement.names[0]
    if use.kind not in _RESOLVABLE or statement.action not in _RESOLVABLE:
        return statement
    facts = {**named.facts, **statement.facts, use.kind.value: use.name}
    del facts["unknown"]
    executes = use.kind is NameKind.EXECUTE
    risk = max(statement.unresolved, named.risk if executes else Risk.READ)
    if risk is Risk.UNKNOWN:
        facts["unknown"] = named.facts.get("unknown", statement.facts["unknown"])
    return Statement(
        action=named.action if executes else statement.action,
        risk=risk,
        resources=_merged([*statement.resources, *named.resources]),
        facts=MappingProxyType(facts),
        outputs=() if use.kind is NameKind.MOVE else named.outputs,
        columns=statement.columns | named.columns,
        predicates=statement.predicates | named.predicates,
        stored=statement.stored | named.stored,
        timeline=named.timeline if executes else (),
        names=statement.names,
        creates_relations=named.creates_relations,
    )


def _unknown(reason: str) -> Statement:
    facts = MappingProxyType({"unknown": reason})
    return Statement("unknown", Risk.UNKNOWN, facts=facts, outputs=None)


def _classify(text: str, state: SessionState) -> Statement:
    if state.encoding != "UTF8" and not text.isascii():
        return _unknown("the session's encoding isn't UTF-8")
    if not state.standard_strings and "\\" in text:
        return _unknown("a backslash, while standard_conforming_strings is off")
    try:
        nodes = parse(text)
        if not nodes:
            return Statement("empty", Risk.READ, count=0)
        paths = [state.search_path]
        parts: list[Statement] = []
        meter = Meter()
        for node in nodes:
            part = _judged(node, state, paths, meter)
            parts.append(part)
            # Whether a change holds for the statements behind it is left open.
            for change in part.settings:
                path = _path(change, state)
                if path is not None and path not in paths:
                    paths.append(path)
    except NotUnderstood as error:
        return _unknown(str(error))
    except RecursionError:
        return _unknown("the text is nested too deeply")
    except (LookupError, TypeError, ValueError, AttributeError):
        # The tree isn't of the form that the grammar promises: a defect here, and no reason
        # to let the statement pass.
        return _unknown("the text's tree has an unexpected form")
    return parts[0] if len(parts) == 1 else _together(parts)


_remembered = lru_cache(CACHED_TEXTS)(_classify)


def _path(change: SettingChange, state: SessionState) -> tuple[str, ...] | None:
    if change.name == "all" or (change.name == "search_path" and change.values is None):
        return state.default_path
    return change.values if change.name == "search_path" else None


def _judged(
    node: Tree, state: SessionState, paths: Sequence[tuple[str, ...]], meter: Meter
) -> Statement:
    findings = Findings(state, paths, meter)

    def inner(within: Tree) -> Statement:
        nested = Findings(state, paths, meter)
        return _statement(nested, judge_inner(within, nested, inner))

    return _statement(findings, judge(node, findings, inner))


def _statement(findings: Findings, outputs: Outputs | None) -> Statement:
    unknown = bool(findings.unknown)
    return Statement(
        action=findings.action,
        risk=findings.risk,
        resources=findings.all_resources(),
        facts=MappingProxyType(findings.all_facts()),
        outputs=None if unknown else outputs,
        columns=frozenset(findings.columns),
        predicates=frozenset(findings.predicates),
        stored=frozenset(findings.stored),
        timeline=tuple(findings.timeline),
        names=tuple(findings.names),
        copy=findings.copy,
        creates_relations=findings.creates_relations or unknown,
        discards=findings.discards,
        unresolved=findings.known_risk if findings.unresolved else None,
    )


def _merged(resources: Sequence[Resource]) -> tuple[Resource, ...]:
    """Every resource once, written if any of them is."""
    written: dict[tuple[str, str], bool] = {}
    for one in resources:
        key = (one.name, one.kind)
        written[key] = written.get(key, False) or one.written
    return tuple(Resource(name, is_written, kind) for (name, kind), is_written in written.items())


def _together(parts: Sequence[Statement]) -> Statement:
    """One judgement for all statements of a text: they come in one message."""
    actions = {part.action for part in parts}
    answering = [part for part in parts if part.outputs != () and part.copy is None]
    copies = [part.copy for part in parts if part.copy is not None]
    facts: dict[str, str] = {}
    for part in parts:
        for name, value in part.facts.items():
            known = facts.setdefault(name, value)
            if name == "where":
                facts[name] = min(known, value)  # "absent" before "trivial"
            elif value not in known.split(", "):
                facts[name] = f"{known}, {value}"[:500]
    facts["statements"] = str(len(parts))
    risk = max(part.risk for part in parts)
    if len(copies) > 1:
        risk = Risk.UNKNOWN
        facts["unknown"] = "several COPY statements in one text"
    # With both rows and a copy, or rows twice, an answer can't be told from the other's.
    outputs = parts[0].outputs if len(parts) == 1 else ()
    if len(answering) + len(copies) == 1:
        outputs = next(p.outputs for p in parts if p in answering or p.copy is not None)
    elif answering or copies:
        outputs = None
    return Statement(
        action=actions.pop() if len(actions) == 1 else "multiple",
        risk=risk,
        resources=_merged([resource for part in parts for resource in part.resources]),
        facts=MappingProxyType(facts),
        outputs=outputs,
        columns=frozenset().union(*(part.columns for part in parts)),
        predicates=frozenset().union(*(part.predicates for part in parts)),
        stored=frozenset().union(*(part.stored for part in parts)),
        timeline=tuple(one for part in parts for one in part.timeline),
        names=tuple(use for part in parts for use in part.names),
        copy=copies[0] if len(copies) == 1 else None,
        count=len(parts),
        creates_relations=any(part.creates_relations for part in parts),
        discards=any(part.discards for part in parts),
        unresolved=risk if any(part.unresolved is not None for part in parts) else None,
    )
