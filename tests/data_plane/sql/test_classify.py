"""What statements are judged to do."""

from __future__ import annotations

from importlib import import_module

import pytest

from data_plane.sql import (
    Catalogue,
    NameKind,
    SessionState,
    SettingChange,
    Statement,
    StepKind,
    TransactionStep,
    classify,
    resolve,
)
from data_plane.sql.classify import CACHED_LENGTH
from protos.vocabulary import Resource, Risk

# The function of the same name hides the module in its package.
MODULE = import_module("data_plane.sql.classify")


EXISTING = "SELECT set_config(name, 'a', false) FROM {1} WHERE name = '{0}'"


def names(statement: Statement) -> set[str]:
    return {resource.name for resource in statement.resources}


@pytest.mark.parametrize(
    ("text", "action", "risk"),
    [
        ("SELECT 1", "select", Risk.READ),
        ("TABLE t", "select", Risk.READ),
        ("VALUES (1)", "select", Risk.READ),
        ("SELECT random(), now(), clock_timestamp(), pg_sleep(1)", "select", Risk.READ),
        ("SELECT pg_advisory_unlock_all()", "select", Risk.READ),
        ("INSERT INTO t DEFAULT VALUES", "insert", Risk.WRITE),
        ("UPDATE t SET a = 1 WHERE id = 2", "update", Risk.WRITE),
        ("DELETE FROM t WHERE id = 2", "delete", Risk.DESTROY),
        (
            "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN UPDATE SET b = 1",
            "merge",
            Risk.WRITE,
        ),
        ("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE", "merge", Risk.DESTROY),
        (
            "MERGE INTO t USING u ON true WHEN NOT MATCHED THEN INSERT VALUES (u.a)",
            "merge",
            Risk.WRITE,
        ),
        ("TRUNCATE t", "truncate", Risk.DESTROY),
        ("COPY t TO STDOUT", "copy_to", Risk.READ),
        ("COPY t FROM STDIN", "copy_from", Risk.WRITE),
        ("COPY t FROM STDIN WHERE a > 1", "copy_from", Risk.WRITE),
        ("DROP TABLE t", "drop", Risk.DESTROY),
        ("DROP SCHEMA s CASCADE", "drop", Risk.DESTROY),
        ("DROP TYPE s.color", "drop", Risk.DESTROY),
        ("DROP FUNCTION f(int)", "drop", Risk.ADMINISTER),
        ("DROP CAST (a AS b)", "drop", Risk.ADMINISTER),
        ("DROP TRIGGER x ON t", "drop", Risk.ADMINISTER),
        ("DROP ROLE r", "drop", Risk.ADMINISTER),
        ("DROP OWNED BY r", "drop", Risk.ADMINISTER),
        ("DROP DATABASE d", "drop", Risk.ADMINISTER),
        ("CREATE TABLE t (a int DEFAULT 1 + 1 CHECK (a > 0))", "create", Risk.ADMINISTER),
        ("CREATE TEMP TABLE t (a int)", "create", Risk.WRITE),
        ("CREATE TABLE pg_temp.t (a int)", "create", Risk.WRITE),
        ("CREATE TEMP VIEW v AS SELECT 1", "create", Risk.WRITE),
        ("CREATE TEMP SEQUENCE v", "create", Risk.WRITE),
        ("CREATE TABLE t AS SELECT 1", "create", Risk.ADMINISTER),
        ("CREATE TEMP TABLE t AS SELECT 1", "create", Risk.WRITE),
        ("SELECT 1 INTO pg_temp.x", "create", Risk.WRITE),
        ("CREATE VIEW v AS SELECT 1", "create", Risk.ADMINISTER),
        ("CREATE SCHEMA s", "create", Risk.ADMINISTER),
        ("CREATE ROLE r PASSWORD 'x'", "create", Risk.ADMINISTER),
        ("CREATE EXTENSION x", "create", Risk.ADMINISTER),
        ("CREATE FUNCTION a.f() RETURNS int LANGUAGE sql RETURN 1", "create", Risk.EXECUTE),
        ("ALTER TABLE t ADD b int", "alter", Risk.ADMINISTER),
        ("ALTER TABLE t DROP b", "alter", Risk.DESTROY),
        ("ALTER TABLE t DROP b, ADD c int", "alter", Risk.ADMINISTER),
        ("ALTER ROLE r SUPERUSER", "alter", Risk.ADMINISTER),
        ("ALTER SYSTEM SET work_mem = 1", "alter", Risk.EXECUTE),
        ("GRANT SELECT ON t TO r", "grant", Risk.ADMINISTER),
        ("REVOKE SELECT ON t FROM r", "revoke", Risk.ADMINISTER),
        ("GRANT a TO b", "grant", Risk.ADMINISTER),
        ("COMMENT ON TABLE t IS 'x'", "comment", Risk.ADMINISTER),
        ("COMMENT ON COLUMN t.a IS 'x'", "comment", Risk.ADMINISTER),
        ("VACUUM t", "vacuum", Risk.ADMINISTER),
        ("ANALYZE t", "analyze", Risk.ADMINISTER),
        ("REFRESH MATERIALIZED VIEW v", "refresh", Risk.WRITE),
        ("SELECT information_schema._pg_expandarray(a) FROM t", "select", Risk.READ),
        ("SELECT information_schema.evil(a) FROM t", "select", Risk.UNKNOWN),
        (
            "SELECT a BETWEEN 1 AND 2, a = ANY (SELECT 1) FROM t ORDER BY a USING <",
            "select",
            Risk.READ,
        ),
        ("SELECT 1 FROM t FOR SHARE", "select", Risk.WRITE),
        ("LOCK TABLE t IN ACCESS SHARE MODE", "lock", Risk.READ),
        ("LOCK TABLE t IN ROW EXCLUSIVE MODE", "lock", Risk.WRITE),
        ("LOCK TABLE t", "lock", Risk.ADMINISTER),
        ("LISTEN c", "listen", Risk.READ),
        ("UNLISTEN *", "unlisten", Risk.READ),
        ("NOTIFY c, 'x'", "notify", Risk.WRITE),
        ("CHECKPOINT", "checkpoint", Risk.ADMINISTER),
        ("SET CONSTRAINTS ALL DEFERRED", "set", Risk.READ),
        ("DO 'x'", "do", Risk.EXECUTE),
        ("CALL p(1)", "call", Risk.EXECUTE),
        ("SHOW work_mem", "show", Risk.READ),
        ("SHOW ALL", "show", Risk.READ),
        ("DISCARD ALL", "discard", Risk.READ),
        ("DISCARD TEMP", "discard", Risk.READ),
        ("CLOSE c", "close", Risk.READ),
        ("DEALLOCATE p", "deallocate", Risk.READ),
        ("EXPLAIN SELECT 1", "explain", Risk.READ),
        ("EXPLAIN ANALYZE SELECT 1", "explain", Risk.READ),
        ("EXPLAIN ANALYZE DELETE FROM t", "delete", Risk.DESTROY),
        ("EXPLAIN (ANALYZE 0, VERBOSE) DELETE FROM t", "explain", Risk.READ),
        ("", "empty", Risk.READ),
        ("-- nothing", "empty", Risk.READ),
        ("SELECT 1; SELECT 2", "select", Risk.READ),
        ("SELECT 1; TRUNCATE t", "multiple", Risk.DESTROY),
    ],
)
def test_a_statement_has_the_risk_of_its_worst_effect(text: str, action: str, risk: Risk) -> None:
    found = classify(text)
    assert (found.action, found.risk) == (action, risk), found.facts


@pytest.mark.parametrize(
    ("text", "risk"),
    [
        ("SET application_name = 'x'", Risk.READ),
        ("SET DateStyle = ISO", Risk.READ),
        ("SET enable_seqscan TO off", Risk.READ),
        ("SET TIME ZONE INTERVAL '1' HOUR", Risk.READ),
        ("SET extra_float_digits = 3", Risk.READ),
        ("SET row_security = off", Risk.READ),
        ("SET client_encoding = 'UTF8'", Risk.READ),
        ("SET standard_conforming_strings = on", Risk.READ),
        ("SET standard_conforming_strings TO DEFAULT", Risk.READ),
        ("SET search_path TO a, b", Risk.READ),
        ("SET search_path TO pg_catalog, a", Risk.READ),
        ("SET search_path TO a, pg_catalog", Risk.ADMINISTER),
        ("SET search_path FROM CURRENT", Risk.ADMINISTER),
        ("RESET search_path", Risk.READ),
        ("RESET ALL", Risk.READ),
        ("RESET ROLE", Risk.ADMINISTER),
        ("SET ROLE NONE", Risk.ADMINISTER),
        ("SET statement_timeout = 0", Risk.READ),
        ("SET transaction_read_only = off", Risk.WRITE),
        ("SET default_transaction_read_only = off", Risk.ADMINISTER),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY", Risk.READ),
        ("SET TRANSACTION READ WRITE", Risk.WRITE),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", Risk.ADMINISTER),
        ("SET TRANSACTION SNAPSHOT '1'", Risk.READ),
        ("SET mystery = 1", Risk.ADMINISTER),
        ("SELECT set_config('application_name', 'x', false), 1", Risk.READ),
        ("SELECT set_config('mystery', 'x', false), 1", Risk.ADMINISTER),
        ("SELECT set_config('search_path', 'a', false), 1", Risk.UNKNOWN),
        ("SELECT set_config(name, 'a', false) FROM t", Risk.UNKNOWN),
        ("SELECT set_config()", Risk.UNKNOWN),
        (EXISTING.format("work_mem", "pg_settings"), Risk.READ),
        (EXISTING.format("work_mem", "pg_catalog.pg_settings"), Risk.READ),
        (EXISTING.format("work_mem", "evil.pg_settings"), Risk.UNKNOWN),
        (EXISTING.format("work_mem", "t"), Risk.UNKNOWN),
        (EXISTING.format("mystery", "pg_settings"), Risk.ADMINISTER),
        (EXISTING.format("search_path", "pg_settings"), Risk.UNKNOWN),
        (EXISTING.format("work_mem", "pg_settings") + " LIMIT 1", Risk.UNKNOWN),
        ("SELECT set_config('a', 'b', false) FROM pg_settings WHERE name = 'a'", Risk.ADMINISTER),
        ("SELECT set_config('role', 'a', false)", Risk.ADMINISTER),
        ("SELECT set_config('search_path', 'a b', false)", Risk.ADMINISTER),
        ("SELECT set_config('search_path', x, false)", Risk.UNKNOWN),
        ("SELECT set_config('application_name', x, false)", Risk.UNKNOWN),
        ("SELECT set_config('application_name', 'x', false) OVER ()", Risk.READ),
        ("SELECT evil.set_config('application_name', 'x', false)", Risk.UNKNOWN),
    ],
)
def test_a_setting_is_harmless_only_where_it_is_known_to_be(text: str, risk: Risk) -> None:
    assert classify(text).risk is risk


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("SET search_path = a, 'B'", (SettingChange("search_path", ("a", "B")),)),
        ("SET LOCAL search_path = a", (SettingChange("search_path", ("a",), local=True),)),
        ('SET "Search_Path" = a', (SettingChange("search_path", ("a",)),)),
        ("RESET search_path", (SettingChange("search_path", None),)),
        ("RESET ALL", (SettingChange("all", None),)),
        ("SET work_mem = 1.5", (SettingChange("work_mem", ("1.5",)),)),
        ("SET ROLE r", (SettingChange("role", ("r",)),)),
        (
            "SELECT set_config('Search_Path', 'a, \"B c\"', true)",
            (SettingChange("search_path", ("a", "B c"), local=True),),
        ),
        (
            "SELECT pg_catalog.set_config('search_path', '', 'f')",
            (SettingChange("search_path", ()),),
        ),
        ("SELECT set_config('work_mem', NULL, false)", (SettingChange("work_mem", None),)),
        (
            "SELECT set_config('work_mem', '1', false)",
            (SettingChange("work_mem", ("1",)),),
        ),
        ("SELECT set_config('work_mem', '1', false) FROM t", ()),
        ("SELECT set_config('work_mem', '1', false), 2", ()),
        ("SELECT set_config('work_mem', '1', $1)", ()),
        ("SELECT set_config('work_mem')", ()),
        ("SELECT lower('work_mem', '1', false)", ()),
        ("SELECT 'work_mem'", ()),
        ("SHOW work_mem", ()),
        ("EXPLAIN SELECT set_config('work_mem', '1', false)", ()),
        ("PREPARE p AS SELECT set_config('work_mem', '1', false)", ()),
        ("DECLARE c CURSOR FOR SELECT set_config('work_mem', '1', false)", ()),
    ],
)
def test_a_change_of_a_setting_is_reported_where_it_is_certain(
    text: str, changes: tuple[SettingChange, ...]
) -> None:
    assert classify(text).settings == changes


def test_steps_and_settings_keep_their_order() -> None:
    assert classify("BEGIN; SET search_path = a; ROLLBACK").timeline == (
        TransactionStep(StepKind.BEGIN),
        SettingChange("search_path", ("a",)),
        TransactionStep(StepKind.ROLLBACK),
    )


def test_a_search_path_that_cannot_be_told_is_reported_as_such() -> None:
    [change] = classify("SELECT set_config('search_path', 'a b', false)").settings
    assert not change.known
    [change] = classify("SET search_path FROM CURRENT").settings
    assert not change.known


def test_a_transactions_steps_are_reported_in_order() -> None:
    found = classify("BEGIN; SAVEPOINT a; ROLLBACK TO a; RELEASE a; COMMIT AND CHAIN; ROLLBACK")
    assert found.risk is Risk.READ
    assert found.steps == (
        TransactionStep(StepKind.BEGIN),
        TransactionStep(StepKind.SAVEPOINT, "a"),
        TransactionStep(StepKind.ROLLBACK_TO, "a"),
        TransactionStep(StepKind.RELEASE, "a"),
        TransactionStep(StepKind.COMMIT, chained=True),
        TransactionStep(StepKind.ROLLBACK),
    )
    assert found.facts["statements"] == "6"
    assert found.timeline == found.steps
    assert found.count == 6
    assert classify("COMMIT PREPARED 'x'").steps == (
        TransactionStep(StepKind.COMMIT_PREPARED, "x"),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT * FROM orders", {"public.orders"}),
        ("SELECT * FROM s.orders", {"s.orders"}),
        ('SELECT * FROM "S"."Or.ders"', {'S."Or.ders"'}),
        ("SELECT * FROM pg_class", {"pg_catalog.pg_class"}),
        (
            "SELECT * FROM a JOIN b USING (id), LATERAL (SELECT * FROM c) x",
            {"public.a", "public.b", "public.c"},
        ),
        (
            "SELECT (SELECT 1 FROM a) FROM b WHERE EXISTS (TABLE c) LIMIT (SELECT 1 FROM d)",
            {"public.a", "public.b", "public.c", "public.d"},
        ),
        ("WITH a AS (SELECT 1) SELECT * FROM a", set()),
        ("WITH a AS (SELECT * FROM a) SELECT * FROM a", {"public.a"}),
        ("WITH a AS (SELECT 1) SELECT * FROM public.a", {"public.a"}),
        ("WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a", set()),
        ("WITH a AS (SELECT 1) INSERT INTO a SELECT * FROM a", {"public.a"}),
        ("SELECT * FROM a UNION SELECT * FROM b", {"public.a", "public.b"}),
        ("DELETE FROM a USING b WHERE a.id = b.id", {"public.a", "public.b"}),
        ("UPDATE a SET x = 1 FROM b", {"public.a", "public.b"}),
        ("DROP TABLE a, s.b", {"public.a", "s.b"}),
        ("DROP SEQUENCE q", {"public.q"}),
        ("TRUNCATE a, b", {"public.a", "public.b"}),
        ("CREATE TEMP TABLE a AS SELECT * FROM b", {"pg_temp.a", "public.b"}),
        ("CREATE TABLE a PARTITION OF b DEFAULT", {"public.a", "public.b"}),
        ("CREATE TABLE pg_class (a int)", {"public.pg_class"}),
        ("ALTER TABLE s.a RENAME TO b", {"s.a"}),
        ("SELECT nextval('s.q'), currval('q')", {"s.q", "public.q"}),
        ("SELECT nextval($1)", {"?.?"}),
        ("SELECT nextval('\"Q\"')", {"?.?"}),
        ("SELECT nextval()", {"?.?"}),
        ("COPY a (x) TO STDOUT", {"public.a"}),
        ("NOTIFY c", {"c"}),
        ("CREATE FUNCTION a.f() RETURNS int LANGUAGE sql RETURN 1", {"a.f"}),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1", {"?.f"}),
        ("DROP SCHEMA s", {"s"}),
        ("DROP FUNCTION a.f(int)", {"a.f"}),
        ("DROP TYPE s.t", {"s.t"}),
        ("DROP TRIGGER x ON t", {"t.x"}),
        ("DROP CAST (a AS b)", {"?"}),
        ("DROP OPERATOR CLASS a USING btree", {"btree.a"}),
        ("CREATE ROLE r", {"r"}),
        ("ALTER ROLE r SET a = b", {"r"}),
        ("CREATE DATABASE d", {"d"}),
        ("CREATE EXTENSION e", {"e"}),
        ("COMMENT ON TABLE a.b IS ''", {"a.b"}),
        ("COMMENT ON ROLE r IS ''", {"r"}),
        ("COMMENT ON LARGE OBJECT 1 IS ''", {"?"}),
        ("VACUUM", {"?"}),
        ("LOAD 'x'", {"server"}),
        ("DO 'x' LANGUAGE plperlu", {"plperlu"}),
        ("CALL a.p()", {"a.p"}),
        ("SELECT f()", {"?.f"}),
        ("SELECT a.f()", {"a.f"}),
        ("SELECT lo_unlink(1)", {"pg_catalog.lo_unlink"}),
    ],
)
def test_what_is_touched_is_named_as_the_server_resolves_it(text: str, expected: set[str]) -> None:
    assert names(classify(text)) == expected


def test_what_is_written_is_marked() -> None:
    found = classify("INSERT INTO a SELECT * FROM b")
    assert set(found.resources) == {Resource("public.a", True), Resource("public.b")}
    found = classify("EXPLAIN INSERT INTO a SELECT * FROM b")
    assert set(found.resources) == {Resource("public.a"), Resource("public.b")}
    found = classify("SELECT * FROM a; DELETE FROM a")
    assert found.resources == (Resource("public.a", True),)


def test_writing_to_a_system_catalogue_is_administration() -> None:
    assert classify("UPDATE pg_class SET relname = 'x'").risk is Risk.ADMINISTER


def test_names_resolve_along_the_search_path() -> None:
    catalogue = Catalogue({"a": frozenset({"x"}), "b": frozenset({"x", "y"})})
    state = SessionState(("$user", "a", "b"), catalogue)
    assert names(classify("SELECT * FROM x", state)) == {"a.x"}
    assert names(classify("SELECT * FROM y", state)) == {"b.y"}
    assert names(classify("SELECT * FROM z", state)) == {"?.z"}
    assert names(classify("SELECT * FROM b.x", state)) == {"b.x"}
    assert names(classify("CREATE TABLE z ()", state)) == {"a.z"}
    assert names(classify("SELECT * FROM z", SessionState(("$user", "s")))) == {"s.z"}
    assert names(classify("SELECT * FROM z", SessionState(()))) == {"?.z"}


def test_behind_a_new_search_path_both_meanings_are_named() -> None:
    found = classify("SET search_path = a; SELECT * FROM t")
    assert {r.name for r in found.resources if r.kind == "relation"} == {"public.t", "a.t"}
    state = SessionState(("a",), default_path=("home",))
    for reset in ("RESET search_path", "RESET ALL"):
        assert names(classify(f"{reset}; SELECT * FROM t", state)) == {"a.t", "home.t"}
    assert names(classify("SET search_path = a; SELECT * FROM t", state)) == {"a.t"}


def test_where_the_catalogue_is_not_searched_first_no_unqualified_function_is_trusted() -> None:
    state = SessionState(("evil", "pg_catalog"))
    assert classify("SELECT lower('x')", state).risk is Risk.UNKNOWN
    assert classify("SELECT 1 + 1", state).risk is Risk.UNKNOWN
    assert classify("SELECT pg_catalog.lower('x')", state).risk is Risk.READ
    assert classify("SELECT 1 OPERATOR(pg_catalog.+) 1", state).risk is Risk.READ


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("DELETE FROM t", "absent"),
        ("UPDATE t SET a = 1", "absent"),
        ("DELETE FROM t WHERE true", "trivial"),
        ("DELETE FROM t WHERE 1 = 1 AND 'a' = 'a'", "trivial"),
        ("DELETE FROM t WHERE id = 1 OR true", "trivial"),
        ("DELETE FROM t WHERE id = id", "trivial"),
        ("DELETE FROM t WHERE id = 1 AND true", None),
        ("DELETE FROM t WHERE id = 1", None),
        ("DELETE FROM t WHERE NOT id = 1", None),
        ("DELETE FROM t WHERE f.a IN (SELECT 1)", None),
        ("DELETE FROM t WHERE CURRENT OF c", None),
        ("DELETE FROM t WHERE true; DELETE FROM t", "absent"),
        ("TRUNCATE t", "absent"),
    ],
)
def test_a_missing_or_empty_condition_is_a_fact(text: str, where: str | None) -> None:
    assert classify(text).facts.get("where") == where


@pytest.mark.parametrize(
    ("text", "fact", "value"),
    [
        ("TRUNCATE t CASCADE", "cascade", "true"),
        ("DROP TABLE t CASCADE", "cascade", "true"),
        ("SELECT 1; SELECT 2", "statements", "2"),
        ("WITH d AS (DELETE FROM t) INSERT INTO u VALUES (1)", "effects", "insert, delete, select"),
        ("EXPLAIN ANALYZE SELECT 1", "explain", "analyze"),
        ("SELECT 1 FROM t FOR UPDATE", "lock", "rows"),
        ("SELECT nextval('a'), setval('a', 1)", "functions", "nextval, setval"),
        (
            "SELECT nextval('a'); SELECT setval('a', 1); SELECT nextval('b')",
            "functions",
            "nextval, setval",
        ),
        ("ALTER TABLE t DROP a, DROP b", "drops", "a, b"),
        ("CREATE ROLE r PASSWORD 'x'", "secret", "in text"),
        ("CREATE USER MAPPING FOR r SERVER s OPTIONS (password 'x')", "secret", "in text"),
        ("BEGIN READ WRITE", "mode", "read write"),
        ("DO LANGUAGE sql 'x'", "language", "sql"),
        ("DO 'x'", "language", "plpgsql"),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT (a) WHERE b > 1 DO UPDATE SET a = 1",
            "on_conflict",
            "update",
        ),
        ("SELECT * FROM pg_stats", "sensitive", "true"),
        ("EXPLAIN SELECT * FROM pg_stats", "sensitive", "true"),
        ("SELEC", "unknown", 'syntax error at or near "SELEC"'),
        ("SELECT app.f()", "unknown", "nothing is known of function app.f"),
        ("COPY t TO STDOUT; COPY t TO STDOUT", "unknown", "several COPY statements in one text"),
    ],
)
def test_facts_say_what_a_policy_or_a_human_wants_to_know(text: str, fact: str, value: str) -> None:
    assert classify(text).facts[fact] == value


def test_a_statement_that_may_define_relations_says_so() -> None:
    for text in ("CREATE TABLE t ()", "SELECT 1 INTO t", "DROP TABLE t", "SELECT f()"):
        assert classify(text).creates_relations, text
    assert not classify("SELECT 1").creates_relations
    assert classify("DISCARD ALL").discards
    assert not classify("DISCARD PLANS").discards


def test_what_is_prepared_is_judged_and_kept_under_its_name() -> None:
    found = classify("PREPARE p AS DELETE FROM orders RETURNING email")
    assert (found.action, found.risk) == ("delete", Risk.DESTROY)
    assert found.outputs == ()
    [use] = found.names
    assert (use.kind, use.name) == (NameKind.PREPARE, "p")
    assert use.statement is not None
    assert use.statement.outputs is not None
    assert [output.name for output in use.statement.outputs] == ["email"]


def test_execute_is_unknown_until_its_name_is_resolved() -> None:
    prepared = classify("DELETE FROM orders")
    found = classify("EXECUTE p(nextval('q'))")
    assert found.risk is Risk.UNKNOWN
    assert found.outputs is None
    assert found.unresolved is Risk.WRITE
    resolved = resolve(found, prepared)
    assert (resolved.action, resolved.risk) == ("delete", Risk.DESTROY)
    assert names(resolved) == {"public.orders", "public.q"}
    assert resolved.facts["where"] == "absent"
    assert resolved.facts["execute"] == "p"
    assert "unknown" not in resolved.facts


def test_what_resolves_to_something_unknown_stays_unknown() -> None:
    assert resolve(classify("EXECUTE p"), classify("SELECT f()")).risk is Risk.UNKNOWN
    found = resolve(classify("EXECUTE p(f())"), classify("SELECT 1"))
    assert found.risk is Risk.UNKNOWN
    assert found.facts["unknown"]


def test_fetch_reads_what_the_cursor_was_declared_for() -> None:
    declared = classify("DECLARE c CURSOR FOR SELECT email FROM customers")
    assert declared.risk is Risk.READ
    [use] = declared.names
    assert use.statement is not None
    found = classify("FETCH ALL FROM c")
    assert (found.action, found.risk, found.outputs) == ("fetch", Risk.UNKNOWN, None)
    resolved = resolve(found, use.statement)
    assert (resolved.action, resolved.risk) == ("fetch", Risk.READ)
    assert resolved.outputs == use.statement.outputs
    moved = resolve(classify("MOVE ALL IN c"), use.statement)
    assert (moved.action, moved.risk, moved.outputs) == ("move", Risk.READ, ())


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "EXECUTE p; EXECUTE p",
        "EXPLAIN EXECUTE p",
        "EXPLAIN ANALYZE EXECUTE p",
        "CREATE TEMP TABLE t AS EXECUTE p",
    ],
)
def test_only_a_lone_execute_or_fetch_is_resolved(text: str) -> None:
    found = classify(text)
    assert resolve(found, classify("SELECT 1")) == found


def test_several_statements_are_unresolved_together() -> None:
    found = classify("SELECT 1; EXECUTE p")
    assert found.risk is Risk.UNKNOWN
    assert found.unresolved is Risk.UNKNOWN


def test_explain_of_a_statement_that_prepares_leaves_no_name() -> None:
    assert classify("EXPLAIN DECLARE c CURSOR FOR SELECT 1").names == ()


@pytest.mark.parametrize(
    ("state", "text", "risk"),
    [
        (SessionState(encoding="LATIN1"), "SELECT 'é'", Risk.UNKNOWN),
        (SessionState(encoding="LATIN1"), "SELECT 'e'", Risk.READ),
        (SessionState(standard_strings=False), r"SELECT '\x'", Risk.UNKNOWN),
        (SessionState(standard_strings=False), "SELECT 'x'", Risk.READ),
        (SessionState(), r"SELECT '\x'", Risk.READ),
    ],
)
def test_a_text_that_the_session_may_read_otherwise_is_unknown(
    state: SessionState, text: str, risk: Risk
) -> None:
    assert classify(text, state).risk is risk


def test_a_long_text_is_judged_like_a_short_one() -> None:
    padding = " " * CACHED_LENGTH
    assert classify("DELETE FROM t" + padding) == classify("DELETE FROM t")


def test_a_tree_of_unexpected_form_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    for trees in (
        [{"SelectStmt": {"op": "SETOP_UNION"}}],
        [{"FutureStmt": {}}],
        [{"SelectStmt": {"op": "SETOP_NONE", "futureClause": 1}}],
        [{"DeleteStmt": {"relation": {"relname": "t"}, "futureClause": 1}}],
        [{"SelectStmt": {"op": "SETOP_NONE", "targetList": [{"ResTarget": {"val": {"New": {}}}}]}}],
        [{"SelectStmt": {"op": "SETOP_NONE", "fromClause": [{"RangeNew": {}}]}}],
        [{"TransactionStmt": {"kind": "TRANS_STMT_NEW"}}],
        [{"VariableSetStmt": {"kind": "VAR_NEW"}}],
        [{"ExplainStmt": {"query": {"FutureStmt": {}}}}],
        [{"CopyStmt": {"query": {"FutureStmt": {}}}}],
    ):
        monkeypatch.setattr(MODULE, "parse", lambda _, trees=trees: trees)
        found = classify("x" * (CACHED_LENGTH + 1))
        assert found.risk is Risk.UNKNOWN
        assert found.facts["unknown"]
        assert found.outputs is None
