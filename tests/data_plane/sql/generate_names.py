"""Writes ``data_plane/sql/names.py`` from what real servers have in ``pg_catalog``.

Run with a connection string for each server version to be supported::

    python tests/data_plane/sql/generate_names.py "host=... port=..." "host=... port=..."

The servers must be fresh: what stands in their ``pg_catalog`` is what is trusted. A function
name counts as harmless where every overload on every server is immutable or stable; what is
stable and yet dangerous is in ``data_plane/sql/effects.py``, which is asked first.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import psycopg

HEADER = '''"""Names found in ``pg_catalog`` of fresh PostgreSQL servers. Generated: do not edit.

Written by ``tests/data_plane/sql/generate_names.py`` from PostgreSQL {versions}.
Counterpart: :mod:`data_plane.sql.effects`, which is asked first and holds the judgement.
"""

from __future__ import annotations
'''

# What SQL can't call (internal arguments) or has no reason to is left out.
FUNCTIONS = """
SELECT proname FROM pg_proc p
WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind <> 'p'
GROUP BY proname
HAVING bool_and(provolatile <> 'v')
   AND NOT bool_and(
       proargtypes::oid[] && ARRAY['internal'::regtype, 'cstring'::regtype]::oid[]
       OR prorettype = ANY (ARRAY['internal', 'cstring', 'trigger', 'event_trigger',
            'index_am_handler', 'table_am_handler', 'tsm_handler', 'fdw_handler',
            'language_handler']::regtype[]))
"""
VOLATILE = """
SELECT DISTINCT proname FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace AND (provolatile = 'v' OR prokind = 'p')
"""
# t.f means f(t) where t has no column f, so these give a row away under a column's name.
ROW_FUNCTIONS = """
SELECT DISTINCT proname FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace
  AND pronargs >= 1 AND pronargs - pronargdefaults <= 1
  AND proargtypes[0] = ANY (ARRAY['record', 'anyelement', '"any"', 'anynonarray',
        'anycompatible', 'anycompatiblenonarray']::regtype[]::oid[])
  AND proname NOT IN ('count', 'num_nonnulls', 'num_nulls', 'pg_typeof', 'pg_column_size',
        'pg_column_compression', 'pg_column_toast_chunk_id', 'pg_collation_for', 'rank',
        'dense_rank', 'percent_rank', 'cume_dist')
  AND proname NOT LIKE 'any%\\_out'
"""
FIELDS = """
SELECT DISTINCT name FROM pg_proc p, unnest(proargnames, proargmodes) AS a(name, mode)
WHERE pronamespace = 'pg_catalog'::regnamespace AND mode IN ('o', 't', 'b') AND name <> ''
"""
INFORMATION_SCHEMA = """
SELECT DISTINCT proname FROM pg_proc
WHERE pronamespace = 'information_schema'::regnamespace AND provolatile <> 'v'
"""
OPERATORS = """
SELECT DISTINCT oprname FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace
"""
RELATIONS = """
SELECT relname FROM pg_class
WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v', 'm')
"""


def names(connection: psycopg.Connection, query: str) -> set[str]:
    """The first column of a query's rows."""
    return {row[0] for row in connection.execute(query)}


def block(constant: str, doc: str, values: set[str]) -> str:
    """A constant that holds the values, wrapped to the line length."""
    lines = textwrap.wrap(
        " ".join(sorted(values)), 96, break_long_words=False, break_on_hyphens=False
    )
    body = "\n".join(f"    {line}" for line in lines).replace("\\", "\\\\")
    split = '"""\n' + body + '\n    """.split()  # noqa: SIM905'
    return f'\n{constant} = frozenset(\n    {split}\n)\n"""{doc}"""\n'


def main() -> None:
    """Ask every server and write the module."""
    found: dict[str, list[set[str]]] = {}
    versions: list[str] = []
    for conninfo in sys.argv[1:]:
        with psycopg.connect(conninfo, dbname="template1") as connection:
            versions.append(str(connection.info.server_version // 10000))
            for key, query in (
                ("functions", FUNCTIONS),
                ("volatile", VOLATILE),
                ("row", ROW_FUNCTIONS),
                ("fields", FIELDS),
                ("information", INFORMATION_SCHEMA),
                ("operators", OPERATORS),
                ("relations", RELATIONS),
            ):
                found.setdefault(key, []).append(names(connection, query))
    union = {key: set().union(*sets) for key, sets in found.items()}
    text = HEADER.format(versions=" and ".join(sorted(versions)))
    text += block(
        "STEADY_FUNCTIONS",
        "No overload on any server is volatile.",
        union["functions"] - union["volatile"],
    )
    text += block(
        "VOLATILE_FUNCTIONS", "Some overload on some server is volatile.", union["volatile"]
    )
    text += block(
        "ROW_FUNCTIONS", "Take a whole row as their only argument and show it.", union["row"]
    )
    text += block("FIELDS", "Columns of what functions return.", union["fields"])
    text += block(
        "INFORMATION_SCHEMA_FUNCTIONS", "Of ``information_schema``.", union["information"]
    )
    text += block("OPERATORS", "Every operator's symbol.", union["operators"])
    text += block("CATALOG_RELATIONS", "Tables and views of ``pg_catalog``.", union["relations"])
    Path(__file__).parents[3].joinpath("data_plane/sql/names.py").write_text(text)


if __name__ == "__main__":
    main()
