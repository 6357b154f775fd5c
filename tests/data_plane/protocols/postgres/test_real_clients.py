"""Real clients and a real server, with the conversation between them."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from protos.vocabulary import Credential, MaskingRule, Operation, Outcome, Risk, Transform, Verdict
from tests.data_plane.protocols.postgres.blocking import (
    ALLOWED,
    TOKEN,
    BlockingRelay,
    allow_all,
    refuse,
)
from tests.data_plane.protocols.postgres.conftest import ROLE
from tests.servers import PostgresServer, debian_binaries, embedded_binaries

EMAIL = MaskingRule("emails", Transform.REDACT, columns=("public.*.email",))
CARDS = MaskingRule("cards", Transform.PARTIAL, columns=("public.customers.card",))
AGE = MaskingRule("ages", Transform.REDACT, columns=("public.customers.age",))
FOUND = MaskingRule("found", Transform.REDACT, detectors=("email", "card"))
COLUMNS = (EMAIL, CARDS, AGE)


def relay(
    shop: PostgresServer,
    *masking: MaskingRule,
    gate: Callable[[Operation, bool], Verdict | None] = allow_all,
    chunk: int = 65536,
) -> BlockingRelay:
    return BlockingRelay((shop.host, shop.port), ROLE, masking=masking, gate=gate, chunk=chunk)


def hold_deletes(operation: Operation, preview: bool) -> Verdict | None:
    if operation.risk is Risk.READ or preview:
        return ALLOWED
    return None if operation.action == "delete" else refuse()


def deciding(gateway: BlockingRelay, verdict: Verdict) -> threading.Thread:
    thread = threading.Thread(target=gateway.decide, args=(verdict,))
    thread.start()
    return thread


def program(name: str) -> str:
    for place in (embedded_binaries(), debian_binaries()):
        if place is not None and (place / name).exists():
            return str(place / name)
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program(name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PGPASSWORD": TOKEN, "LC_ALL": "C"},
    )


def test_rows_pass_untouched_where_nothing_is_masked(shop: PostgresServer) -> None:
    with relay(shop) as gateway, psycopg.connect(gateway.dsn()) as client:
        rows = client.execute("SELECT name, email, age FROM customers ORDER BY id").fetchall()
    assert rows == [("Ann", "ann@example.com", 41), ("Bob", None, 42)]


def test_the_credential_reaches_nobody_but_the_target(shop: PostgresServer) -> None:
    with relay(shop) as gateway, psycopg.connect(gateway.dsn()) as client:
        client.execute("SELECT 1")
        assert client.info.parameter_status("session_authorization") == "agent"
    line = gateway.lines[0]
    assert ROLE.password.encode() not in line.to_client + line.recorded
    assert TOKEN.encode() not in line.to_target + line.recorded
    assert ROLE.username.encode() not in line.to_client


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 65536])
def test_masked_columns_are_masked_in_every_form(
    shop: PostgresServer, binary: bool, chunk: int
) -> None:
    with relay(shop, *COLUMNS, chunk=chunk) as gateway, psycopg.connect(gateway.dsn()) as client:
        cursor = client.cursor(binary=binary)
        cursor.execute("SELECT id, email AS e, card, age, name FROM customers ORDER BY 1")
        assert cursor.fetchall() == [
            (1, "****", "****1111", None, "Ann"),
            (2, None, "****0004", None, "Bob"),
        ]
    assert b"ann@example" not in gateway.lines[0].recorded


@pytest.mark.parametrize(
    "query",
    [
        "SELECT email || '' FROM customers",
        "SELECT c::text FROM customers c",
        "SELECT row_to_json(c) FROM customers c",
        "SELECT to_jsonb(c) FROM customers c",
        "SELECT (c).email FROM customers c",
        "SELECT c FROM customers c",
        "WITH x(y) AS (SELECT email FROM customers) SELECT y FROM x",
        "SELECT email FROM customers UNION SELECT 'x'",
        "SELECT max(email) FROM customers",
        "SELECT string_agg(email, ',') FROM customers",
        "SELECT mail FROM contacts",
        "SELECT loud FROM reach",
        "SELECT mail || '?' FROM contacts",
        "SELECT email FROM parts",
        "SELECT email FROM parts_1",
        "TABLE customers",
        "SELECT (SELECT email FROM customers WHERE id = 1)",
        "VALUES ((SELECT email FROM customers WHERE id = 1))",
        "UPDATE customers SET name = name WHERE id = 1 RETURNING email",
        "SELECT array_agg(email) FROM customers",
        "SELECT reverse(email) FROM customers",
    ],
)
@pytest.mark.parametrize("extended", [False, True])
def test_no_way_of_writing_it_shows_a_masked_column(
    shop: PostgresServer, query: str, extended: bool
) -> None:
    with relay(shop, *COLUMNS) as gateway, psycopg.connect(gateway.dsn()) as client:
        client.execute(query, prepare=True) if extended else client.execute(query)
        client.rollback()
    sent = bytes(gateway.lines[0].to_client)
    for secret in (b"ann@example", b"ANN@EXAMPLE", b"dora@", b"moc.elpmaxe", b"4111111"):
        assert secret not in sent
    assert gateway.lines[0].asked


def test_other_columns_of_the_same_row_stay(shop: PostgresServer) -> None:
    with relay(shop, *COLUMNS) as gateway, psycopg.connect(gateway.dsn()) as client:
        assert client.execute("SELECT mail, who FROM contacts WHERE id = 1").fetchone() == (
            "****",
            "ANN",
        )
        assert client.execute("SELECT email FROM other.customers").fetchone() == (
            "other@example.com",
        )


def test_detectors_look_into_every_kind_of_value(shop: PostgresServer) -> None:
    with relay(shop, FOUND) as gateway, psycopg.connect(gateway.dsn()) as client:
        for binary in (False, True):
            cursor = client.cursor(binary=binary)
            cursor.execute("SELECT body FROM notes WHERE id = 2")
            assert cursor.fetchone() == ("write to **** soon",)
            cursor.execute("SELECT id FROM notes WHERE id > 9")
            assert cursor.fetchone() == (None,)
            cursor.execute("SELECT doc FROM customers WHERE id = 1")
            assert cursor.fetchone() == ({"m": "****"},)
            cursor.execute("SELECT ARRAY['ann@example.com']")
            assert cursor.fetchone() == (None,)
            cursor.execute("SELECT 'ann@example.com'::bytea, 4111111111111111::numeric")
            assert cursor.fetchone() == (None, None)
            cursor.execute("SELECT body FROM notes WHERE id = 1")
            assert cursor.fetchone() == ("nothing here",)


def test_an_error_does_not_quote_a_masked_value(shop: PostgresServer) -> None:
    with relay(shop, *COLUMNS) as gateway, psycopg.connect(gateway.dsn()) as client:
        with pytest.raises(psycopg.errors.InvalidTextRepresentation) as caught:
            client.execute("SELECT email::int FROM customers")
        assert "withheld" in str(caught.value)
        client.rollback()
        with pytest.raises(psycopg.errors.UndefinedColumn, match="nonsense"):
            client.execute("SELECT nonsense FROM notes")
    assert b"ann@example" not in gateway.lines[0].to_client


def test_copy_out_is_masked_by_position(shop: PostgresServer) -> None:
    with relay(shop, *COLUMNS) as gateway, psycopg.connect(gateway.dsn()) as client:
        with client.cursor().copy("COPY customers (email, id, card, age) TO STDOUT") as copy:
            rows = list(copy.rows())
        assert rows == [("****", "1", "****1111", None), (None, "2", "****0004", None)]
        with client.cursor().copy("COPY (SELECT id, email FROM customers) TO STDOUT") as copy:
            first, *_ = copy.rows()
        assert first == ("1", None)
        for refused in (
            "COPY customers TO STDOUT (FORMAT csv)",
            "COPY customers TO STDOUT (FORMAT binary)",
            "COPY (SELECT * FROM customers) TO STDOUT (FORMAT csv)",
        ):
            client.commit()
            with (
                pytest.raises(psycopg.errors.InsufficientPrivilege, match="COPY"),
                client.cursor().copy(sql.SQL(refused)) as copy,
            ):
                list(copy)
            client.rollback()
    assert b"ann@example" not in gateway.lines[0].to_client


def test_copy_of_everything_works_in_both_directions(shop: PostgresServer) -> None:
    with relay(shop, FOUND) as gateway, psycopg.connect(gateway.dsn()) as client:
        client.execute("CREATE TEMP TABLE t (a int, b text)")
        client.commit()
        with client.cursor().copy("COPY t FROM STDIN") as copy:
            for number in range(5000):
                copy.write_row((number, "x" * 20 + "\t\\\n"))
            copy.write_row((5000, "e@example.com"))
        assert client.execute("SELECT count(*), max(length(b)) FROM t").fetchone() == (5001, 23)
        with client.cursor().copy("COPY t TO STDOUT") as copy:
            rows = list(copy.rows())
        assert len(rows) == 5001
        assert rows[0] == ("0", "x" * 20 + "\t\\\n")
        assert rows[-1] == ("5000", "****")
        client.rollback()
        with (
            pytest.raises(psycopg.errors.InvalidTextRepresentation),
            client.cursor().copy("COPY t FROM STDIN") as copy,
        ):
            copy.write(b"no number\n")
        client.rollback()
        assert client.execute("SELECT 1").fetchone() == (1,)


def test_a_masked_value_cannot_be_stored_where_it_is_not_masked(shop: PostgresServer) -> None:
    with relay(shop, *COLUMNS) as gateway, psycopg.connect(gateway.dsn()) as client:
        for statement in (
            "CREATE TEMP TABLE t AS SELECT email FROM customers",
            "INSERT INTO notes SELECT id, email FROM customers",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
                client.execute(statement)
            assert "masked_data_would_be_copied" in str(caught.value)
            client.rollback()


def test_a_table_made_in_the_session_is_known_from_then_on(shop: PostgresServer) -> None:
    with relay(shop, *COLUMNS) as gateway, psycopg.connect(gateway.dsn()) as client:
        client.execute("CREATE TEMP TABLE fresh (email text, b text)")
        client.execute("INSERT INTO fresh VALUES ('a@example.com', 'plain')")
        assert client.execute("SELECT b FROM fresh").fetchone() == ("plain",)
        client.rollback()
        with pytest.raises(psycopg.errors.UndefinedTable):
            client.execute("SELECT b FROM fresh")


def test_search_path_is_followed_and_rolled_back(shop: PostgresServer) -> None:
    asked: list[Operation] = []

    def gate(operation: Operation, preview: bool) -> Verdict:
        asked.append(operation)
        return ALLOWED

    with relay(shop, gate=gate) as gateway, psycopg.connect(gateway.dsn()) as client:
        client.execute("SET search_path TO other, public")
        client.execute("SELECT id FROM customers")
        assert asked[-1].resources[0].name == "other.customers"
        client.rollback()
        client.execute("SELECT id FROM customers")
        assert asked[-1].resources[0].name == "public.customers"
        client.execute("SET LOCAL search_path TO other")
        client.execute("SELECT id FROM customers")
        assert asked[-1].resources[0].name == "other.customers"
        client.commit()
        client.execute("SELECT id FROM customers")
        assert asked[-1].resources[0].name == "public.customers"


@pytest.mark.parametrize("parameters", [None, (100,)])
def test_a_refusal_leaves_an_idle_connection_idle(
    shop: PostgresServer, parameters: tuple[int, ...] | None
) -> None:
    with (
        relay(shop, gate=lambda op, _: refuse() if op.action == "delete" else ALLOWED) as gateway,
        psycopg.connect(gateway.dsn(), autocommit=True) as client,
    ):
        where = "%s" if parameters else "100"
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            client.execute(f"DELETE FROM orders WHERE id = {where}", parameters)
        diag = caught.value.diag
        assert diag.message_detail is not None
        assert "policy/rule" in diag.message_detail
        assert '"code":"refused_by_rule"' in diag.message_detail
        assert diag.message_hint
        assert client.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert client.execute("SELECT count(*) FROM orders").fetchone() == (20,)
    assert b"DELETE" not in gateway.lines[0].to_target


@pytest.mark.parametrize("parameters", [None, (100,)])
def test_a_refusal_aborts_an_open_transaction_as_the_server_would(
    shop: PostgresServer, parameters: tuple[int, ...] | None
) -> None:
    with (
        relay(shop, gate=lambda op, _: refuse() if op.action == "delete" else ALLOWED) as gateway,
        psycopg.connect(gateway.dsn()) as client,
    ):
        client.execute("INSERT INTO orders VALUES (99)")
        where = "%s" if parameters else "100"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            client.execute(f"DELETE FROM orders WHERE id = {where}", parameters)
        assert client.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            client.execute("SELECT 1")
        client.rollback()
        assert client.execute("SELECT count(*) FROM orders").fetchone() == (20,)
    assert b"DELETE" not in gateway.lines[0].to_target


def test_a_held_statement_says_so_and_runs_once_when_allowed(shop: PostgresServer) -> None:
    notices: list[str] = []
    with (
        relay(shop, gate=hold_deletes) as gateway,
        psycopg.connect(gateway.dsn(), autocommit=True) as client,
    ):
        client.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        thread = deciding(gateway, ALLOWED)
        assert client.execute("DELETE FROM orders WHERE id = 20").rowcount == 1
        thread.join()
        thread = deciding(gateway, Verdict(Outcome.REFUSE, "denied", "no", "p/r", None, "ap-1"))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="ap-1"):
            client.execute("DELETE FROM orders WHERE id = %s", (19,))
        thread.join()
        assert client.execute("SELECT count(*) FROM orders").fetchone() == (19,)
    shop.psql("INSERT INTO orders VALUES (20)")
    assert "ap-1" in notices[0]
    assert "https://gw/ap-1" in notices[0]


def test_a_cancel_request_withdraws_what_is_held(shop: PostgresServer) -> None:
    with (
        relay(shop, gate=hold_deletes) as gateway,
        psycopg.connect(gateway.dsn(), autocommit=True) as client,
    ):

        def cancel() -> None:
            assert gateway.held.acquire(timeout=10)
            client.cancel_safe(timeout=10)

        for parameters in (None, (1,)):
            thread = threading.Thread(target=cancel)
            thread.start()
            where = "%s" if parameters else "1"
            with pytest.raises(psycopg.errors.QueryCanceled):
                client.execute(f"DELETE FROM orders WHERE id = {where}", parameters)
            thread.join()
        assert client.execute("SELECT count(*) FROM orders").fetchone() == (20,)
    assert gateway.lines[0].withdrawn == ["cancelled", "cancelled"]


def test_a_cancel_request_stops_what_runs(shop: PostgresServer) -> None:
    running = threading.Event()

    def gate(operation: Operation, preview: bool) -> Verdict:
        running.set()
        return ALLOWED

    with relay(shop, gate=gate) as gateway, psycopg.connect(gateway.dsn()) as client:
        client.execute("SELECT 1")
        running.clear()

        def cancel() -> None:
            assert running.wait(10)
            # Until the statement has begun a cancel has no effect.
            seen = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' "
            while shop.psql(seen + "AND state = 'active' AND usename = 'gateway_role'") == "0":
                pass
            client.cancel_safe(timeout=10)

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("SELECT pg_sleep(60)")
        thread.join()


def test_a_pipeline_with_a_refused_statement_keeps_its_order(shop: PostgresServer) -> None:
    with (
        relay(shop, gate=lambda op, _: refuse() if op.action == "delete" else ALLOWED) as gateway,
        psycopg.connect(gateway.dsn(), autocommit=True) as client,
    ):
        pipeline = client.pipeline()
        pipeline.__enter__()
        first = client.execute("SELECT %s::int", (1,))
        client.execute("DELETE FROM orders WHERE id = %s", (1,))
        client.execute("SELECT %s::int", (3,))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            pipeline.__exit__(None, None, None)
        assert first.fetchone() == (1,)
        with client.pipeline():
            cursors = [client.execute("SELECT %s::int", (n,)) for n in range(50)]
        assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(50)]


def test_server_side_cursors_and_prepared_statements_work_masked(shop: PostgresServer) -> None:
    with relay(shop, *COLUMNS) as gateway, psycopg.connect(gateway.dsn()) as client:
        with client.cursor("big") as cursor:
            cursor.execute("SELECT email, email || 'x' FROM customers ORDER BY id")
            assert cursor.fetchmany(1) == [("****", "****")]
            assert cursor.fetchmany(1) == [(None, None)]
        client.execute("PREPARE s(int) AS SELECT email FROM customers WHERE id = $1")
        assert client.execute("EXECUTE s(1)").fetchone() == ("****",)
        client.execute("DEALLOCATE s")
        for _ in range(7):
            found = client.execute("SELECT email FROM customers WHERE id = %s", (1,), prepare=True)
            assert found.fetchone() == ("****",)


def test_fetching_from_a_portal_made_by_bind_is_not_a_read(shop: PostgresServer) -> None:
    """A portal that was never executed runs when it is fetched from."""
    asked: list[Operation] = []

    def gate(operation: Operation, preview: bool) -> Verdict:
        asked.append(operation)
        return ALLOWED if preview or operation.risk is Risk.READ else refuse()

    with relay(shop, gate=gate) as gateway, psycopg.connect(gateway.dsn()) as client:
        client.execute("SELECT 1")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            client.execute('FETCH ALL FROM "p"')
        assert asked[-1].risk is Risk.UNKNOWN


def test_asyncpg_works_and_its_cached_statements_are_masked(shop: PostgresServer) -> None:
    asyncpg = pytest.importorskip("asyncpg")

    async def talk(port: int) -> None:
        client = await asyncpg.connect(
            host="127.0.0.1", port=port, user="agent", password=TOKEN, database="shop", ssl=False
        )
        for _ in range(3):
            row = await client.fetchrow("SELECT email, age, name FROM customers WHERE id = $1", 1)
            assert tuple(row) == ("****", None, "Ann")
        async with client.transaction():
            cursor = await client.cursor("SELECT id FROM orders ORDER BY id")
            assert [row[0] for row in await cursor.fetch(5)] == [1, 2, 3, 4, 5]
            assert [row[0] for row in await cursor.fetch(2)] == [6, 7]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await client.execute("DELETE FROM orders")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await client.execute("DELETE FROM orders WHERE id = $1", 1)
        assert await client.fetchval("SELECT count(*) FROM orders") == 20
        await client.close()

    def gate(operation: Operation, preview: bool) -> Verdict:
        return refuse() if operation.action == "delete" else ALLOWED

    with relay(shop, *COLUMNS, gate=gate) as gateway:
        asyncio.run(talk(gateway.port))


def test_psql_shows_masked_rows_and_describes_tables(shop: PostgresServer) -> None:
    with relay(shop, *COLUMNS) as gateway:
        done = run(
            "psql",
            "-X",
            "-At",
            gateway.dsn(),
            "-c",
            "SELECT email FROM customers",
            "-c",
            r"\d orders",
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[:2] == ["****", ""]
        assert "integer" in done.stdout


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("masking", [(), COLUMNS, (FOUND,)])
def test_pgbench_runs_in_every_mode(
    shop: PostgresServer, tmp_path: Path, mode: str, masking: tuple[MaskingRule, ...]
) -> None:
    script = tmp_path / "script.sql"
    script.write_text(
        "\\set n random(1, 20)\n"
        "BEGIN;\nSELECT id FROM orders WHERE id = :n;\n"
        "UPDATE orders SET id = id WHERE id = :n;\nEND;\n"
        "SELECT email, card FROM customers;\n"
    )
    with relay(shop, *masking) as gateway:
        done = run(
            "pgbench", "-n", "-M", mode, "-c", "2", "-t", "20", "-f", str(script), gateway.dsn()
        )
        assert done.returncode == 0, done.stderr
        assert "40/40" in done.stdout


def test_a_wrong_token_and_a_wrong_credential_are_told_apart(shop: PostgresServer) -> None:
    with relay(shop) as gateway, pytest.raises(psycopg.OperationalError, match="token_invalid"):
        psycopg.connect(gateway.dsn(password="wrong"))
    broken = BlockingRelay((shop.host, shop.port), Credential("gateway_role", "changed"))
    with broken:
        with pytest.raises(psycopg.OperationalError, match="own credential") as caught:
            psycopg.connect(broken.dsn())
        assert "gateway_role" not in str(caught.value)
    with (
        BlockingRelay(("127.0.0.1", 1), ROLE) as nowhere,
        pytest.raises(psycopg.OperationalError, match="target_unreachable"),
    ):
        psycopg.connect(nowhere.dsn())


def test_a_large_value_streams_and_a_too_large_masked_one_ends_the_session(
    shop: PostgresServer,
) -> None:
    query = "SELECT repeat('x', 20000000) AS big"
    with relay(shop) as gateway, psycopg.connect(gateway.dsn()) as client:
        row = client.execute(query).fetchone()
        assert row is not None
        assert len(row[0]) == 20_000_000
    with (
        relay(shop, FOUND) as gateway,
        psycopg.connect(gateway.dsn()) as client,
        pytest.raises(psycopg.OperationalError, match="too large"),
    ):
        client.execute(query)


def test_notifications_arrive(shop: PostgresServer) -> None:
    with (
        relay(shop, FOUND) as gateway,
        psycopg.connect(gateway.dsn(), autocommit=True) as client,
    ):
        client.execute("LISTEN news")
        shop.psql("NOTIFY news, 'from ann@example.com'")
        notice = next(client.notifies(timeout=10, stop_after=1))
        assert (notice.channel, notice.payload) == ("news", "from ****")
