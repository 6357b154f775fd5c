"""Judges COPY and says how its rows are to be read.

Counterparts: :mod:`data_plane.sql.utility` calls it; ``data_plane.protocols.postgres`` reads
the CopyData messages by the :class:`~data_plane.sql.statement.CopyShape`, whose option rules
are those of the server's COPY (ProcessCopyOptions).
"""

from __future__ import annotations

from data_plane.sql.findings import Findings, qualified_name, strings
from data_plane.sql.parse import Tree
from data_plane.sql.queries import Queries
from data_plane.sql.scope import RELATION_OUTPUTS, Outputs, Source, union
from data_plane.sql.statement import CopyDirection, CopyFormat, CopyShape, Output
from protos.vocabulary import Risk

# Options that don't change how a row reads on the connection.
_NEUTRAL = frozenset(
    """
    default force_not_null force_null force_quote freeze log_verbosity on_error reject_limit
    """.split()  # noqa: SIM905
)


def copy(body: Tree, findings: Findings, queries: Queries) -> Outputs:
    """Judge a CopyStmt; the outputs are the columns of the rows that go out."""
    inwards = bool(body.get("is_from"))
    columns = tuple(strings(body.get("attlist", ())))
    findings.columns.update(columns or ("*",))
    if body.get("is_program"):
        findings.resource(body.get("filename", ""), "program", True)
        findings.effect("copy_from" if inwards else "copy_to", Risk.EXECUTE)
    elif "filename" in body:
        findings.resource(body["filename"], "file", not inwards)
        findings.effect("copy_from" if inwards else "copy_to", Risk.EXECUTE)
    else:
        findings.effect(*(("copy_from", Risk.WRITE) if inwards else ("copy_to", Risk.READ)))
    scope = findings.scope()
    relation = ""
    if "query" in body:
        outputs = queries.query(body["query"], scope)
    else:
        variable = body["relation"]
        findings.relation(variable, written=inwards)
        scope.sources.append(Source(variable["relname"], RELATION_OUTPUTS))
        queries.expressions.test(body.get("whereClause"), scope)
        schemas = findings.resolved(variable.get("schemaname", ""), variable["relname"])
        if len(schemas) == 1:
            relation = qualified_name(schemas[0], variable["relname"])
        named = tuple(Output(name, frozenset({name}), bare=True) for name in columns)
        outputs = named or RELATION_OUTPUTS
    if "filename" in body:
        findings.stored |= frozenset() if inwards else union(outputs)
        return ()
    direction = CopyDirection.IN if inwards else CopyDirection.OUT
    findings.copy = _shape(body, direction, relation, columns)
    return () if inwards else outputs


def _shape(
    body: Tree, direction: CopyDirection, relation: str, columns: tuple[str, ...]
) -> CopyShape:
    options: dict[str, Tree] = {}
    understood = True
    for node in body.get("options", ()):
        option = node["DefElem"]
        name = option["defname"]
        # A second option of the same name is an error on the server.
        understood = understood and name not in options
        options[name] = option.get("arg", {})
    known = {"format", "header", "delimiter", "null", "quote", "escape", "encoding"}
    understood = understood and not options.keys() - known - _NEUTRAL
    try:
        form = CopyFormat(_text(options.get("format"), "text"))
    except ValueError:
        form, understood = CopyFormat.TEXT, False
    comma, empty = (",", "") if form is CopyFormat.CSV else ("\t", "\\N")
    quote = _text(options.get("quote"), '"')
    return CopyShape(
        direction,
        relation,
        columns,
        form,
        header="header" in options and _is_on(options["header"]),
        delimiter=_text(options.get("delimiter"), comma),
        null=_text(options.get("null"), empty),
        quote=quote,
        escape=_text(options.get("escape"), quote),
        encoding=_text(options.get("encoding"), ""),
        understood=understood,
    )


def _text(node: Tree | None, default: str) -> str:
    if node is None:
        return default
    return str(node.get("String", {}).get("sval", ""))


def _is_on(node: Tree) -> bool:
    """Whether a header line is there: it is for every value but a false one."""
    return not is_off(node)


def is_off(node: Tree) -> bool:
    """Whether an option's value is certainly false (defGetBoolean); without a value it is true."""
    match node:
        case {"Integer": integer}:
            return bool(integer.get("ival", 0) == 0)
        case {"String": {"sval": str(text)}}:
            return text.lower() in {"false", "off"}
        case {"Boolean": boolean}:
            return not boolean.get("boolval", False)
        case _:
            return False
