"""What one operation goes through, with real clients, a real server and a real human's calls."""

import asyncio
import contextlib
from typing import Any

import psycopg
import pytest
from psycopg import sql

from deploy.demo.people import GROUPS
from tests.end_to_end.gateway import Attempt, Gateway, until


def rows(connection: psycopg.Connection[Any], query: str, **more: Any) -> list[Any]:
    return connection.execute(query.encode(), **more).fetchall()


def orders(gateway: Gateway) -> int:
    with gateway.superuser() as connection:
        return int(rows(connection, "SELECT count(*) FROM orders")[0][0])


@pytest.fixture
def truth(gateway: Gateway) -> dict[str, list[str]]:
    """What really stands in the customers' sensitive columns."""
    with gateway.superuser() as connection:
        found = rows(connection, "SELECT email, card_number FROM customers")
    return {"email": [row[0] for row in found], "card": [row[1] for row in found]}


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    "query",
    [
        "SELECT email, card_number FROM customers",
        "SELECT email AS note, card_number AS remark FROM customers",
        "SELECT * FROM customers",
        "SELECT c FROM customers c",
        "SELECT row_to_json(c) FROM customers c",
        "SELECT c::text FROM customers c",
        "SELECT upper(email), email || '' FROM customers",
        "SELECT string_agg(card_number, ',') FROM customers",
        "WITH x AS (SELECT email AS e FROM customers) SELECT e, e || '!' FROM x",
        "SELECT x FROM (SELECT card_number FROM customers) AS t(x)",
        "SELECT email FROM customers UNION ALL SELECT card_number FROM customers",
        "SELECT (SELECT max(email) FROM customers)",
        "SELECT array_agg(email) FROM customers",
        "SELECT substr(card_number, 1, 8), substr(card_number, 9) FROM customers",
        "SELECT reverse(email) FROM customers",
        "SELECT encode(convert_to(email, 'UTF8'), 'hex') FROM customers",
        "TABLE customers",
        "SELECT (customers).email FROM customers",
        "SELECT json_agg(x) FROM (SELECT * FROM customers) x",
        "SELECT first_value(email) OVER () FROM customers",
        "SELECT unnest(array_agg(card_number)) FROM customers",
        "SELECT format('%s', c) FROM customers c",
        "SELECT x.* FROM customers, LATERAL (SELECT email AS z) x",
        "SELECT string_agg(chr(ascii(substr(email, n, 1))), '') FROM customers, "
        "generate_series(1, 40) n GROUP BY id",
        "WITH RECURSIVE r(v, n) AS (SELECT max(email), 1 FROM customers UNION ALL "
        "SELECT v || '', n + 1 FROM r WHERE n < 3) SELECT v FROM r",
        "VALUES ((SELECT min(card_number) FROM customers))",
        "SELECT xmlforest(email AS e) FROM customers",
        "SELECT jsonb_path_query(to_jsonb(c), '$.email') FROM customers c",
        "SELECT a.email FROM customers a NATURAL JOIN customers b",
        "SELECT mode() WITHIN GROUP (ORDER BY email) FROM customers",
        "SELECT e FROM customers AS c(i, n, e, k)",
        "SELECT COALESCE(NULL, email, card_number) FROM customers",
        "SELECT GREATEST(email, '') FROM customers GROUP BY email",
    ],
)
def test_masked_columns_stay_masked_however_they_are_asked_for(
    gateway: Gateway, truth: dict[str, list[str]], query: str, binary: bool
) -> None:
    with gateway.connect() as connection:
        cursor = connection.cursor(binary=binary)
        try:
            answer = repr(cursor.execute(query.encode()).fetchall())
        except psycopg.Error as error:
            answer = repr((str(error), error.diag.message_primary, error.diag.message_detail))
    for value in truth["email"] + truth["card"]:
        assert value not in answer
        assert value.upper() not in answer
        assert value[::-1] not in answer
        assert value.encode().hex() not in answer


@pytest.mark.parametrize("options", ["", "WITH (FORMAT csv)", "WITH (FORMAT binary)"])
@pytest.mark.parametrize("source", ["customers", "customers (email)", "(SELECT * FROM customers)"])
def test_copy_gives_no_masked_value_away(
    gateway: Gateway, truth: dict[str, list[str]], source: str, options: str
) -> None:
    data = b""
    with gateway.connect() as connection:
        query = f"COPY {source} TO STDOUT {options}".encode()
        with (
            contextlib.suppress(psycopg.errors.InsufficientPrivilege),
            connection.cursor().copy(query) as copy,
        ):
            for block in copy:
                data += bytes(block)
        assert rows(connection, "SELECT 1") == [(1,)]
    for value in truth["email"] + truth["card"]:
        assert value.encode() not in data


def test_an_error_gives_no_masked_value_away(gateway: Gateway, truth: dict[str, list[str]]) -> None:
    with gateway.connect() as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute("SELECT email::int FROM customers")
    said = repr((str(caught.value), caught.value.diag.message_primary))
    assert not [value for value in truth["email"] if value in said]


def test_a_view_gives_no_masked_value_away(gateway: Gateway, truth: dict[str, list[str]]) -> None:
    with gateway.superuser() as connection:
        connection.execute(
            "CREATE OR REPLACE VIEW mail_list AS SELECT id, lower(email) AS address FROM customers"
        )
        connection.execute("GRANT SELECT ON mail_list TO PUBLIC")
    with gateway.connect() as connection:
        answer = repr(rows(connection, "SELECT * FROM mail_list"))
    assert not [value for value in truth["email"] if value in answer]


def test_columns_without_a_rule_are_untouched(gateway: Gateway) -> None:
    query = "SELECT id, name, city FROM customers ORDER BY id"
    with gateway.superuser() as direct, gateway.connect() as through:
        assert rows(through, query) == rows(direct, query)


def test_a_held_statement_runs_once_after_approval(gateway: Gateway) -> None:
    before = orders(gateway)
    statement = "DELETE FROM orders WHERE id = (SELECT max(id) FROM orders)"
    with gateway.held(statement) as (approval, attempt):
        assert attempt.running
        assert orders(gateway) == before
        until(lambda: attempt.notices, "a notice")
        assert approval["id"] in attempt.notices[0]
        gateway.decide(approval["id"])
        assert attempt.finish().tag == "DELETE 1"
    assert orders(gateway) == before - 1


def test_a_denial_is_native_and_leaves_the_connection_usable(gateway: Gateway) -> None:
    before = orders(gateway)
    with gateway.held("DELETE FROM orders WHERE id > 0") as (approval, attempt):
        gateway.decide(approval["id"], "deny", reason="not today")
        error = attempt.finish().error
        assert error is not None
        assert error.sqlstate == "42501"
        assert "not today" in (error.diag.message_detail or "")
        assert error.diag.message_hint
        assert rows(attempt.connection, "SELECT 1") == [(1,)]
    assert orders(gateway) == before


def test_a_denial_inside_a_transaction_aborts_it_as_an_error_does(gateway: Gateway) -> None:
    with gateway.connect(autocommit=False) as connection:
        connection.execute("SELECT 1")
        attempt = Attempt(connection, "DELETE FROM orders WHERE id > 1")
        gateway.decide(gateway.pending("id > 1")["id"], "deny")
        assert attempt.finish().error is not None
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        assert rows(connection, "SELECT 2") == [(2,)]


def test_a_changed_value_asks_again(gateway: Gateway) -> None:
    seen = set()
    for number in (900001, 900002):
        with gateway.connect() as connection:
            attempt = Attempt(connection, "DELETE FROM orders WHERE id = %s", (number,))
            approval = gateway.pending("DELETE FROM orders WHERE id =")
            seen.add(approval["id"])
            gateway.decide(approval["id"])
            assert attempt.finish().tag == "DELETE 0"
    assert len(seen) == 2


def test_a_cancel_during_a_hold_withdraws_it(gateway: Gateway) -> None:
    statement = "DELETE FROM orders WHERE id = -77"
    with gateway.connect() as connection:
        attempt = Attempt(connection, statement)
        approval = gateway.pending(statement)
        connection.cancel_safe()
        error = attempt.finish().error
        assert error is not None
        assert error.sqlstate == "57014"
    until(
        lambda: gateway.call("GET", f"/api/v1/approvals/{approval['id']}")["state"] == "withdrawn",
        "the withdrawal",
    )


BRIEF = """
apiVersion: jitgate/v1
kind: Target
metadata: {name: brief}
spec:
  protocol: postgres
  host: 127.0.0.1
  port: %d
  database: shop
  tls: {mode: disable}
  credential: orders-gateway
---
apiVersion: jitgate/v1
kind: Policy
metadata: {name: brief}
spec:
  subjects: [{groups: [%s]}]
  targets: {names: [brief]}
  rules:
    - {name: read, outcome: allow, risks: [read]}
    - name: change
      outcome: approve
      actions: [insert, delete]
      approval: {groups: [%s], hold: 2s, validity: 10m, scopes: [once, session, window]}
    - name: twice
      outcome: approve
      risks: [destroy]
      actions: [truncate]
      approval: {groups: [%s], count: 2, hold: 1m, validity: 10m}
"""


@pytest.fixture(scope="module")
def brief(gateway: Gateway) -> str:
    """A target whose operations are held for a moment only."""
    analysts, approvers = GROUPS["analysts"], GROUPS["approvers"]
    gateway.apply(BRIEF % (gateway.target.port, analysts, approvers, approvers))

    def known() -> bool:
        try:
            gateway.connect(database="brief").close()
        except psycopg.OperationalError:
            return False
        return True

    until(known, "the new target at the relay")
    return "brief"


def test_what_is_approved_late_runs_once_when_it_is_sent_again(
    gateway: Gateway, brief: str
) -> None:
    with gateway.superuser() as direct:
        direct.execute("CREATE TABLE IF NOT EXISTS ledger (n int)")
        direct.execute("GRANT ALL ON ledger TO PUBLIC")
        direct.execute("TRUNCATE ledger")
    statement = "INSERT INTO ledger VALUES (42)"
    with gateway.connect(database=brief) as connection:
        error = Attempt(connection, statement).finish().error
        assert error is not None
        assert "hold_expired" in (error.diag.message_detail or "")
        approval = gateway.pending(statement)
        assert approval["id"] in (error.diag.message_detail or "")
        gateway.decide(approval["id"])
    # Two connections of the same agent race for the one approval.
    first, second = gateway.connect(database=brief), gateway.connect(database=brief)
    with first, second:
        attempts = [Attempt(first, statement), Attempt(second, statement)]
        done = [attempt.finish() for attempt in attempts]
        assert sorted(attempt.tag for attempt in done) == ["", "INSERT 0 1"]
    with gateway.superuser() as direct:
        assert rows(direct, "SELECT count(*) FROM ledger") == [(1,)]


def test_an_approval_for_the_session_holds_for_the_same_operation_there_alone(
    gateway: Gateway, brief: str
) -> None:
    statement = "DELETE FROM ledger WHERE n = -1"
    with gateway.connect(database=brief) as connection:
        attempt = Attempt(connection, statement)
        gateway.decide(gateway.pending(statement)["id"], scope="session")
        assert attempt.finish().tag == "DELETE 0"
        assert Attempt(connection, statement).finish().tag == "DELETE 0"
        assert Attempt(connection, statement + "1").finish().error is not None
    with gateway.connect(database=brief) as connection:
        assert Attempt(connection, statement).finish().error is not None


def test_two_humans_are_two_humans(gateway: Gateway, brief: str) -> None:
    with gateway.superuser() as direct:
        direct.execute("CREATE TABLE IF NOT EXISTS scratch (n int)")
        direct.execute("GRANT ALL ON scratch TO PUBLIC")
    with gateway.held("TRUNCATE scratch", database=brief) as (approval, attempt):
        gateway.decide(approval["id"])
        again = gateway.answer(
            "POST",
            f"/api/v1/approvals/{approval['id']}/decisions",
            "approver",
            json={"decision": "approve", "reason": "again"},
        )
        assert again.status_code == 409
        assert again.json()["code"] == "already_decided"
        assert attempt.running
        assert gateway.call("GET", f"/api/v1/approvals/{approval['id']}")["state"] == "pending"
        gateway.decide(approval["id"], who="second-approver")
        assert attempt.finish().tag == "TRUNCATE TABLE"
    assert gateway.call("GET", f"/api/v1/approvals/{approval['id']}")["state"] == "consumed"


def test_what_policy_forbids_is_refused_outright(gateway: Gateway) -> None:
    with gateway.connect() as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            connection.execute("DROP TABLE orders")
        assert "rule" in (caught.value.diag.message_detail or "")
        assert rows(connection, "SELECT 1") == [(1,)]
    assert orders(gateway) > 0


def test_a_hang_up_withdraws(gateway: Gateway) -> None:
    statement = "DELETE FROM orders WHERE id = -4711"
    connection = gateway.connect()
    attempt = Attempt(connection, statement)
    approval = gateway.pending(statement)
    connection.close()
    attempt.finish()
    until(
        lambda: gateway.call("GET", f"/api/v1/approvals/{approval['id']}")["state"] == "withdrawn",
        "the withdrawal",
    )
    answer = gateway.answer(
        "POST",
        f"/api/v1/approvals/{approval['id']}/decisions",
        "approver",
        json={"decision": "approve", "reason": "late"},
    )
    assert answer.status_code == 409


def test_an_agent_decides_nothing(gateway: Gateway) -> None:
    with gateway.held("DELETE FROM orders WHERE id = -5") as (approval, attempt):
        path = f"/api/v1/approvals/{approval['id']}/decisions"
        answer = gateway.answer("POST", path, "reporting-agent", json={"decision": "approve"})
        assert answer.status_code == 403
        assert answer.headers["content-type"].startswith("application/problem+json")
        gateway.decide(approval["id"], "deny")
        attempt.finish()


def test_copy_in_and_out_pass_where_policy_lets_them(gateway: Gateway) -> None:
    with gateway.superuser() as connection:
        expected = rows(connection, "SELECT id, item FROM orders ORDER BY id")
    with (
        gateway.connect() as connection,
        connection.cursor().copy(
            "COPY (SELECT id, item FROM orders ORDER BY id) TO STDOUT"
        ) as copy,
    ):
        copy.set_types(["int4", "text"])
        assert list(copy.rows()) == expected


def test_pipelines_keep_their_order_and_errors_their_place(gateway: Gateway) -> None:
    with gateway.connect() as connection:
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(20)]
            assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(20)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            _in_one_pipeline(connection, "SELECT 1", "DROP TABLE orders", "SELECT 2")
        assert rows(connection, "SELECT 3") == [(3,)]


def _in_one_pipeline(connection: psycopg.Connection[Any], *statements: str) -> None:
    with connection.pipeline():
        for statement in statements:
            connection.execute(statement.encode())


def test_server_side_cursors_and_large_results_stream(gateway: Gateway) -> None:
    with gateway.connect(autocommit=False) as connection, connection.cursor("c") as cursor:
        cursor.execute("SELECT n, repeat('x', 200) FROM generate_series(1, 50000) n")
        assert sum(1 for _ in cursor) == 50000


def test_notifications_are_passed_on(gateway: Gateway) -> None:
    with gateway.connect() as connection:
        connection.execute("LISTEN news")
        with gateway.superuser() as other:
            other.execute("NOTIFY news, 'hello'")
        assert next(connection.notifies(timeout=10)).payload == "hello"


def test_a_running_statement_can_be_cancelled(gateway: Gateway) -> None:
    heavy = "SELECT count(*) FROM generate_series(1, 100000000000)"
    with gateway.connect() as connection:
        attempt = Attempt(connection, heavy)
        with gateway.superuser() as direct:
            until(
                lambda: rows(
                    direct,
                    "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE "
                    "'%100000000000%' AND pid <> pg_backend_pid()",
                ),
                "the running statement",
            )
        connection.cancel_safe()
        error = attempt.finish().error
        assert isinstance(error, psycopg.errors.QueryCanceled)


def test_asynchronous_clients_work(gateway: Gateway) -> None:
    async def run() -> list[Any]:
        async with await psycopg.AsyncConnection.connect(
            **gateway.parameters("reporting-agent"), autocommit=True
        ) as connection:
            cursor = await connection.execute("SELECT count(*) FROM orders")
            return await cursor.fetchall()

    assert asyncio.run(run())[0][0] > 0


def test_prepared_statements_are_masked_and_held_too(
    gateway: Gateway, truth: dict[str, list[str]]
) -> None:
    with gateway.connect(prepare_threshold=0) as connection:
        for _ in range(3):
            answer = repr(
                connection.execute(
                    "SELECT email FROM customers WHERE id >= %s", (1,), prepare=True
                ).fetchall()
            )
            assert not [value for value in truth["email"] if value in answer]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DROP TABLE orders", prepare=True)


@pytest.mark.parametrize(
    ("who", "sqlstate"),
    [
        ("intern-agent", "28000"),
        ("sleepy-agent", "28000"),
        ("stranger-agent", "28000"),
    ],
)
def test_who_may_not_is_refused_at_login_with_a_reason(
    gateway: Gateway, who: str, sqlstate: str
) -> None:
    with pytest.raises(psycopg.OperationalError) as caught:
        gateway.connect(who)
    message = str(caught.value)
    assert "FATAL" in message
    assert gateway.token(who) not in message


def _passwords(gateway: Gateway) -> list[str]:
    return ["", "x", "eyJhbGciOiJub25lIn0.e30.", gateway.token("reporting-agent")[:-5] + "AAAAA"]


@pytest.mark.parametrize("number", range(4))
def test_what_is_no_token_of_ours_is_refused(gateway: Gateway, number: int) -> None:
    password = _passwords(gateway)[number]
    with pytest.raises(psycopg.OperationalError):
        gateway.connect(password=password or "-")


@pytest.mark.parametrize("database", ["nowhere", "orders/../x", "", "orders/none"])
def test_a_target_that_is_not_there_is_refused(gateway: Gateway, database: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        gateway.connect(database=database)


def test_another_database_of_a_target_can_be_named(gateway: Gateway) -> None:
    name = "shop"
    with gateway.connect(database=f"orders/{name}") as connection:
        assert rows(connection, "SELECT current_database()") == [(name,)]


def test_explain_says_what_happens(gateway: Gateway) -> None:
    who = gateway.identity("reporting-agent")
    answer = gateway.call(
        "POST",
        "/api/v1/explain",
        json={
            "target": "orders",
            "statement": "WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x",
            "client_id": who.client_id,
            "groups": [GROUPS[group] for group in who.groups],
        },
    )
    assert answer["operation"]["risk"] == "destroy"
    assert answer["verdict"]["outcome"] == "approve"


def test_identifiers_are_quoted_not_trusted(gateway: Gateway) -> None:
    with gateway.superuser() as connection:
        connection.execute('CREATE TABLE IF NOT EXISTS "odd;-- name" (id int)')
        connection.execute('GRANT ALL ON "odd;-- name" TO PUBLIC')
    with gateway.connect() as connection:
        query = sql.SQL("SELECT * FROM {}").format(sql.Identifier("odd;-- name"))
        assert connection.execute(query).fetchall() == []
