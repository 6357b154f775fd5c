"""Which source columns the columns of a result derive from."""

from __future__ import annotations

import pytest

from data_plane.sql import EVERYTHING, Output, align, classify

Shown = list[tuple[str | None, set[str]]]


def shown(text: str) -> Shown | None:
    outputs = classify(text).outputs
    return None if outputs is None else [(o.name, set(o.columns)) for o in outputs]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT email FROM c", [("email", {"email"})]),
        ("SELECT c.email AS x FROM c", [("x", {"email"})]),
        ("SELECT s.c.email FROM s.c", [("email", {"email"})]),
        ("SELECT email || name AS x FROM c", [("x", {"email", "name"})]),
        ("SELECT upper(email) FROM c", [("upper", {"email"})]),
        ("SELECT CASE WHEN email = '' THEN 1 ELSE a END FROM c", [(None, {"email", "a"})]),
        ("SELECT count(*), count(email) FROM c", [("count", set()), ("count", set())]),
        (
            "SELECT 1, $1, a = b, a AND b",
            [
                ("?column?", set()),
                ("?column?", set()),
                ("?column?", {"a", "b"}),
                ("?column?", {"a", "b"}),
            ],
        ),
        ("SELECT x FROM (SELECT email FROM c) s(x)", [("x", {"email"})]),
        ("SELECT s.upper FROM (SELECT upper(email) FROM c) s", [("upper", {"email"})]),
        ("SELECT s.a FROM (SELECT ARRAY[email] FROM c) s", [("a", {"email"})]),
        ("SELECT nothing FROM (SELECT email AS x) s", [("nothing", {"email", "nothing"})]),
        ("SELECT s.nothing FROM (SELECT email AS x) s", [("nothing", {"email"})]),
        ("SELECT t.nothing FROM (SELECT email AS x) s", [("nothing", {"nothing"})]),
        ("SELECT * FROM (SELECT email AS x, 1) s", [("x", {"email"}), ("?column?", set())]),
        ("SELECT s.* FROM (SELECT email AS x) s", [("x", {"email"})]),
        ("SELECT t.* FROM (SELECT email AS x) s", [(None, {"*"})]),
        ("SELECT x FROM (SELECT *, email || '' AS x FROM c) s", [("x", {"email", "x"})]),
        ("SELECT a FROM (SELECT * FROM c) s(a, b)", [("a", {"*", "a"})]),
        ("SELECT z FROM (SELECT * FROM c) s(a, b)", [("z", {"z"})]),
        ("SELECT a FROM c AS t(a)", [("a", {"*", "a"})]),
        ("WITH s(x) AS (SELECT email FROM c) SELECT x || '' AS y FROM s", [("y", {"email"})]),
        ("WITH s AS (DELETE FROM c RETURNING email) SELECT email FROM s", [("email", {"email"})]),
        ("SELECT a FROM t UNION SELECT email FROM c ORDER BY 1", [("a", {"a", "email"})]),
        ("SELECT * FROM t UNION SELECT email FROM c", [(None, {"*", "email"})]),
        ("SELECT a, b FROM t UNION SELECT email FROM c", [(None, {"a", "b", "email"})]),
        ("SELECT x FROM (SELECT * FROM t UNION SELECT * FROM c) s", [("x", {"*"})]),
        (
            "VALUES ((SELECT email FROM c), 1), (2, (SELECT a FROM t))",
            [("column1", {"email"}), ("column2", {"a"})],
        ),
        (
            "SELECT column1 FROM c, LATERAL (VALUES (c.email)) v",
            [("column1", {"email", "column1"})],
        ),
        ("SELECT v.column1 FROM c, LATERAL (VALUES (c.email)) v", [("column1", {"email"})]),
        ("SELECT v FROM c, unnest(c.email) v", [("v", {"email", "v"})]),
        ("SELECT g.g FROM generate_series(1, 2) g", [("g", set())]),
        (
            "SELECT g.ordinality FROM generate_series(1, 2) WITH ORDINALITY g",
            [("ordinality", set())],
        ),
        ("SELECT t.a FROM c, json_to_record(c.email) AS t(a text, b int)", [("a", {"email"})]),
        ("SELECT r.key FROM c, json_each(c.email) r", [("key", {"email"})]),
        (
            "SELECT r.a FROM ROWS FROM (json_to_record('{}') AS (a text), json_to_record('')"
            " AS (b text)) r",
            [("a", set())],
        ),
        (
            "SELECT x.a FROM c, xmltable('/a' PASSING c.email COLUMNS a text PATH 'a') x",
            [("a", {"email"})],
        ),
        (
            "SELECT x.a FROM c, json_table(c.email, '$' COLUMNS (a text PATH '$')) x",
            [("a", {"email"})],
        ),
        ("SELECT x FROM t TABLESAMPLE system (1) REPEATABLE (2)", [("x", {"x"})]),
        ("SELECT c FROM c", [("c", {"*", "c"})]),
        ("SELECT c.to_json FROM c", [("to_json", {"*", "to_json"})]),
        ("SELECT s.max FROM (SELECT 1 AS max, email FROM c) s", [("max", set())]),
        ("SELECT (c).data FROM c", [(None, {"data", "c"})]),
        ("SELECT (c).data FROM (SELECT email AS c FROM t) c", [(None, {"c", "email"})]),
        ("SELECT (c).to_json FROM c", [(None, {"*", "c", "to_json"})]),
        ("SELECT (f).n FROM (SELECT email AS f FROM c) s", [(None, {"email"})]),
        ("SELECT (c.email).* FROM c", [(None, {"email"})]),
        ("SELECT email[a] FROM c", [(None, {"email", "a"})]),
        ("SELECT row(c.*) FROM c", [(None, {"*"})]),
        ("SELECT (SELECT email FROM c), EXISTS (SELECT 1)", [(None, {"email"}), (None, set())]),
        ("SELECT json_array(SELECT email FROM c)", [(None, {"email"})]),
        ("SELECT rank() OVER (ORDER BY email) FROM c", [("rank", {"email"})]),
        (
            "SELECT string_agg(a, b ORDER BY d) FILTER (WHERE e) FROM c",
            [("string_agg", {"a", "b", "d", "e"})],
        ),
        ("SELECT * FROM a JOIN b USING (id)", [(None, {"*"})]),
        ("SELECT * FROM a NATURAL JOIN b", [(None, {"*"})]),
        ("SELECT * FROM a, b", [(None, {"*"}), (None, {"*"})]),
        ("SELECT j.email FROM (a JOIN b USING (id)) j", [("email", {"email"})]),
        ("SELECT j.x FROM (a CROSS JOIN b) AS j(x)", [("x", {"*", "x"})]),
        ("SELECT u.id FROM a JOIN b USING (id) AS u", [("id", {"id"})]),
        ("SELECT * FROM x, (a CROSS JOIN (b JOIN c USING (id)))", [(None, {"*"})]),
        (
            "INSERT INTO t VALUES (1) RETURNING email, old.a || ''",
            [("email", {"email"}), ("?column?", {"a"})],
        ),
        ("UPDATE t SET a = 1 RETURNING WITH (OLD AS o) o.email", [("email", {"email"})]),
        ("UPDATE t AS old SET a = 1 RETURNING old.email", [("email", {"email"})]),
        ("DELETE FROM t AS x RETURNING x.*", [(None, {"*"})]),
        (
            "MERGE INTO t USING (SELECT email AS e) s ON true WHEN MATCHED THEN DELETE RETURNING *",
            [("e", {"email"}), (None, {"*"})],
        ),
        (
            "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE RETURNING merge_action()",
            [(None, set())],
        ),
        ("COPY (SELECT email AS x FROM c) TO STDOUT", [("x", {"email"})]),
        ("COPY c (email) TO STDOUT", [("email", {"email"})]),
        ("COPY c TO STDOUT", [(None, {"*"})]),
        ("COPY c FROM STDIN", []),
        ("EXPLAIN SELECT email FROM c", [("QUERY PLAN", set())]),
        ("SHOW work_mem", [("work_mem", set())]),
        ("CREATE TABLE x AS SELECT email FROM c", []),
        ("SELECT 1; SELECT email FROM c", None),
        ("BEGIN; SELECT email FROM c; COMMIT", [("email", {"email"})]),
        ("BEGIN; COPY c (email) TO STDOUT; COMMIT", [("email", {"email"})]),
        ("COPY c TO STDOUT; SELECT 1", None),
        ("CALL p()", None),
        ("SELECT f()", None),
    ],
)
def test_outputs_are_traced_to_source_columns(text: str, expected: Shown | None) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "SELECT a, b FROM (SELECT email AS a, 1 AS b FROM c UNION ALL SELECT b, a FROM t) s",
            {"email", "b", "a"},
        ),
        (
            "WITH RECURSIVE r(a, b) AS (SELECT '', email FROM c UNION ALL SELECT b, a FROM r)"
            " SELECT a FROM r",
            {"email"},
        ),
        (
            "WITH RECURSIVE r AS (SELECT id, boss FROM c UNION SELECT c.id, c.boss FROM c"
            " JOIN r ON r.id = c.boss) SEARCH DEPTH FIRST BY id SET o"
            " CYCLE id SET y USING p SELECT o, y, p FROM r",
            {"id", "boss"},
        ),
        ("WITH RECURSIVE r AS (SELECT * FROM r) SELECT a FROM r", {"*"}),
        ("WITH RECURSIVE r AS (SELECT 1 UNION SELECT x FROM r) SELECT r.x FROM r", {"x"}),
    ],
)
def test_what_moves_between_columns_is_found_in_each(text: str, expected: set[str]) -> None:
    outputs = classify(text).outputs
    assert outputs is not None
    assert set().union(*(output.columns for output in outputs)) == expected


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("SELECT email FROM c", True),
        ("SELECT x FROM (SELECT email AS x FROM c) s", True),
        ("SELECT * FROM c", True),
        ("SELECT email FROM a JOIN b ON true", True),
        ("SELECT email || '' FROM c", False),
        ("SELECT x FROM (SELECT email || '' AS x FROM c) s", False),
        ("SELECT a FROM c UNION SELECT b FROM c", False),
        ("SELECT c FROM c", False),
        ("SELECT v FROM unnest(ARRAY[1]) v", False),
        ("SELECT * FROM (SELECT email || '' AS x FROM c) s NATURAL JOIN c", False),
    ],
)
def test_only_a_plain_column_of_a_table_is_bare(text: str, bare: bool) -> None:
    outputs = classify(text).outputs
    assert outputs is not None
    assert outputs[0].bare is bare


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT a FROM t WHERE b = 1 AND upper(d) = 'X'", {"b", "d"}),
        (
            "SELECT a FROM t GROUP BY b HAVING max(d) > 1 ORDER BY e LIMIT (SELECT f)",
            {"b", "d", "e", "f"},
        ),
        ("SELECT email AS x FROM t ORDER BY x", {"email", "x"}),
        ("SELECT a, email AS x FROM t ORDER BY 2", {"email"}),
        ("SELECT *, email AS x FROM t ORDER BY 2", {"*", "email"}),
        ("SELECT email FROM t ORDER BY 7", {"email"}),
        ("SELECT DISTINCT ON (email) a FROM t", {"email"}),
        ("SELECT DISTINCT a FROM t", set()),
        ("SELECT a, email FROM t GROUP BY ROLLUP (2), ()", {"email"}),
        ("SELECT 1 FROM a JOIN b ON a.email = b.x", {"email", "x"}),
        ("SELECT 1 FROM a JOIN b USING (email)", {"email"}),
        ("SELECT 1 FROM a NATURAL JOIN b", {"*"}),
        ("SELECT count(*) FILTER (WHERE email = '') FROM t", {"email"}),
        ("SELECT sum(a) OVER w FROM t WINDOW w AS (ORDER BY email)", {"email"}),
        ("SELECT EXISTS (SELECT 1 FROM t WHERE email = '')", {"email"}),
        ("DELETE FROM t WHERE email = ''", {"email"}),
        (
            "MERGE INTO t USING u ON t.email = u.x WHEN MATCHED AND t.a THEN DELETE",
            {"email", "x", "a"},
        ),
        ("SELECT x FROM (SELECT email AS x FROM t) s WHERE x = ''", {"email"}),
        ("COPY t FROM STDIN WHERE email = ''", {"email"}),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT (lower(email)) WHERE a"
            " DO UPDATE SET b = 1 WHERE d",
            {"email", "a", "d"},
        ),
    ],
)
def test_columns_that_choose_or_order_rows_are_predicates(text: str, expected: set[str]) -> None:
    assert classify(text).predicates == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("INSERT INTO t SELECT email || '' FROM c", {"email"}),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.email", {"email"}),
        ("UPDATE t SET note = email", {"email"}),
        ("UPDATE t SET (a, b) = (SELECT email, 1)", {"email"}),
        ("UPDATE t SET a[(SELECT 1)] = b", {"b"}),
        ("MERGE INTO t USING c ON true WHEN NOT MATCHED THEN INSERT VALUES (c.email)", {"email"}),
        ("CREATE TABLE t AS SELECT email AS x FROM c", {"email"}),
        ("CREATE VIEW v AS SELECT email AS x FROM c", {"email"}),
        ("SELECT email AS x INTO t FROM c", {"email"}),
        ("SELECT pg_notify('c', email) FROM c", {"email"}),
        ("COPY (SELECT email FROM c) TO '/tmp/x'", {"email"}),
        ("COPY c FROM '/tmp/x'", set()),
        ("CREATE TABLE t AS EXECUTE p", {"*"}),
        ("SELECT email FROM c", set()),
    ],
)
def test_columns_whose_values_are_stored_are_named(text: str, expected: set[str]) -> None:
    assert classify(text).stored == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT a, t.b FROM t WHERE d = 1", {"a", "b", "d"}),
        ("SELECT * FROM t", {"*"}),
        ("SELECT t FROM t", {"t", "*"}),
        ("SELECT count(t.*) FROM t", {"*"}),
        ("SELECT (x.y).z FROM x", {"y", "z"}),
        ("INSERT INTO t (a) VALUES (1)", {"a"}),
        ("COPY t (a) TO STDOUT", {"a"}),
        ("COPY t TO STDOUT", {"*"}),
        ("ALTER TABLE t DROP email", {"email"}),
        ("SELECT 1 FROM a JOIN b USING (id)", {"id"}),
    ],
)
def test_every_column_that_is_mentioned_is_named(text: str, expected: set[str]) -> None:
    assert classify(text).columns == expected


def columns(*names: str) -> tuple[Output, ...]:
    return tuple(
        Output(None, EVERYTHING, bare=True, star=True)
        if name == "*"
        else Output(name, frozenset({name}))
        for name in names
    )


def test_outputs_line_up_with_the_columns_that_the_server_announces() -> None:
    assert align(None, 1) is None
    assert align(columns("a", "b"), 2) == columns("a", "b")
    assert align(columns("a"), 2) is None
    filler = Output(None, EVERYTHING, bare=True)
    assert align(columns("a", "*", "b"), 4) == (*columns("a"), filler, filler, *columns("b"))
    assert align(columns("*"), 0) == ()
    assert align(columns("a", "*"), 0) is None
    assert align((), 0) == ()


def test_between_two_stars_every_position_may_be_anything() -> None:
    mixed = Output(None, EVERYTHING | {"x"})
    assert align(columns("*", "x", "*"), 3) == (mixed, mixed, mixed)
    assert align(columns("*", "x", "*"), 0) is None
