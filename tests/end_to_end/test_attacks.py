"""An agent with a valid token that means ill, against the running demonstration.

It may read; writes are held, schema changes refused, e-mail addresses and cards masked. The
gateway's role owns the tables, so whatever gets past the relay works.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import psycopg
import pytest

from tests.conformance.scenarios.postgres import message, packet, parameters, query, read
from tests.end_to_end.gateway import Attempt, Gateway, until

SYNC = message(b"S")
Messages = list[tuple[bytes, bytes]]


def parse(name: str, text: str) -> bytes:
    return message(b"P", f"{name}\0{text}\0".encode() + b"\0\0")


def bind(portal: str, statement: str) -> bytes:
    return message(b"B", f"{portal}\0{statement}\0".encode() + b"\0" * 6)


def execute(portal: str = "") -> bytes:
    return message(b"E", portal.encode() + b"\0" + struct.pack("!i", 0))


def describe(kind: str, name: str) -> bytes:
    return message(b"D", kind.encode() + name.encode() + b"\0")


def close(kind: str, name: str) -> bytes:
    return message(b"C", kind.encode() + name.encode() + b"\0")


def run(statement: str, portal: str = "") -> bytes:
    return bind(portal, statement) + execute(portal)


class Wire:
    """A client of bytes, logged in; ``early`` is sent right behind the token."""

    def __init__(self, gateway: Gateway, early: bytes = b"", **settings: str) -> None:
        plain = socket.create_connection((gateway.host, gateway.port), timeout=30)
        plain.sendall(packet(80877103))
        assert plain.recv(1) == b"S"
        context = ssl.create_default_context(cafile=str(gateway.ca))
        self._socket = context.wrap_socket(plain, server_hostname=gateway.host)
        self._left = b""
        self.send(packet(3 << 16, parameters(user="agent", database="orders", **settings)))
        self.login = self.until(b"R")
        if self.login[-1][0] == b"R":
            token = gateway.token("reporting-agent").encode()
            self.send(message(b"p", token + b"\0") + early)
            self.login += self.until(b"Z")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def until(self, kind: bytes) -> Messages:
        """Messages up to the next of a kind, or to the end of the connection."""
        found: Messages = []
        while True:
            while len(self._left) >= 5:
                size = struct.unpack_from("!i", self._left, 1)[0] + 1
                if len(self._left) < size:
                    break
                found += read(self._left[:size])
                self._left = self._left[size:]
                if found[-1][0] == kind:
                    return found
            more = self._socket.recv(65536)
            if not more:
                return found
            self._left += more

    def ask(self, data: bytes) -> Messages:
        """Send, and take everything up to ReadyForQuery."""
        self.send(data)
        return self.until(b"Z")

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def wire(gateway: Gateway, early: bytes = b"", **settings: str) -> Iterator[Wire]:
    client = Wire(gateway, early, **settings)
    try:
        yield client
    finally:
        client.close()


def shown(messages: Messages) -> str:
    return b"\n".join(body for _, body in messages).decode("utf-8", "replace")


def rows(messages: Messages) -> int:
    return sum(kind == b"D" for kind, _ in messages)


@pytest.fixture(scope="module")
def truth(gateway: Gateway) -> list[str]:
    """What really stands in the customers' masked columns."""
    with gateway.superuser() as connection:
        found = connection.execute("SELECT email, card_number FROM customers").fetchall()
    return [value for row in found for value in row]


@pytest.fixture(scope="module")
def built(gateway: Gateway) -> Iterator[None]:
    """What an administrator may have made: schemas with tables of equal names, and views."""
    with gateway.superuser() as connection:
        connection.execute(
            """
            CREATE SCHEMA plain;
            CREATE SCHEMA nothing;
            CREATE TABLE plain.customers (a text, b text, c text, d text, e text, f text);
            CREATE VIEW addresses AS SELECT email FROM customers;
            CREATE TABLE plain.addresses (email text);
            CREATE VIEW numbered AS SELECT id, name FROM customers WHERE email::int > 0;
            CREATE VIEW above AS SELECT id FROM numbered;
            CREATE VIEW loud AS SELECT upper(email) AS shout FROM customers;
            GRANT USAGE ON SCHEMA plain, nothing TO jitgate_app;
            GRANT SELECT ON ALL TABLES IN SCHEMA plain TO jitgate_app;
            GRANT SELECT ON addresses, numbered, above, loud TO jitgate_app;
            """
        )
    yield
    with gateway.superuser() as connection:
        connection.execute(
            "DROP VIEW above, numbered, loud, addresses; DROP SCHEMA plain, nothing CASCADE"
        )


def assert_hidden(text: str, truth: Sequence[str]) -> None:
    """No masked value, nor an easy disguise of one, stands in the text."""
    for value in truth:
        for form in (value, value.upper(), value[::-1], value.encode().hex()):
            assert form not in text


QUIET = [
    # Under the names of an alias, and in errors about it.
    "SELECT m::int FROM customers AS c(i, n, m)",
    "SELECT 1 FROM customers AS c(i, n, m) WHERE m::int = 1",
    "SELECT m::int FROM (customers a JOIN orders b ON a.id = b.customer_id) AS j(i, n, m)",
    "SELECT upper(m) FROM customers AS c(i, n, m)",
    "SELECT id FROM numbered",
    "SELECT id FROM above",
    "SELECT lower(shout), shout::int FROM loud",
    "EXPLAIN ANALYZE SELECT email::int FROM customers",
    # Rows as values, by functions and attributes.
    "SELECT c.row_to_json, c.concat, c.any_value FROM customers c GROUP BY c.id",
    "SELECT (c).to_json FROM customers c",
    "SELECT email(c) FROM customers c",
    "SELECT k.value FROM customers c, jsonb_each_text(to_jsonb(c)) k",
    "SELECT k.key FROM customers c, jsonb_each_text(jsonb_build_object(email, 1)) k",
    "SELECT (json_populate_record(null::customers, to_json(c))).* FROM customers c",
    "SELECT jsonb_path_query(to_jsonb(c), '$.email') FROM customers c",
    # Merged, stacked and recursive columns.
    "SELECT x FROM (SELECT 'a' AS x) a FULL JOIN (SELECT lower(email) AS x FROM customers) b"
    " USING (x)",
    "SELECT name FROM customers UNION SELECT upper(email) FROM customers",
    "WITH RECURSIVE t(x, n) AS (SELECT 'a'::text, 1 UNION ALL"
    " SELECT upper(email), n + 1 FROM customers, t WHERE n < 2) SELECT x FROM t",
    "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY upper(email)) FROM customers",
    "SELECT lag(upper(email)) OVER w FROM customers WINDOW w AS (ORDER BY id)",
    # Around the query.
    "SELECT most_common_vals, histogram_bounds FROM pg_stats",
    "SELECT query_to_xml('select * from customers', true, false, '')",
    "SELECT table_to_xml('customers', true, false, '')",
    "SELECT * FROM ts_stat('select to_tsvector(email) from customers')",
    "SELECT set_config('application_name', max(email), false) FROM customers",
    "SELECT (pg_input_error_info(email, 'integer')).message FROM customers",
    "SELECT U&\"\\0065mail\" || '' FROM customers",
]


@pytest.mark.parametrize("text", QUIET)
def test_no_statement_shows_a_masked_value(
    gateway: Gateway, truth: list[str], built: None, text: str
) -> None:
    with wire(gateway) as client:
        answers = client.ask(query(text)) + client.ask(parse("", text) + run("") + SYNC)
    assert {b"D", b"E"} & {kind for kind, _ in answers}
    assert_hidden(shown(answers), truth)


HOLD = "DECLARE c CURSOR WITH HOLD FOR SELECT email::int FROM customers"
MAILS = "SELECT upper(email) FROM customers"
CITIES = "SELECT upper(city) FROM customers"
MOVES = {
    "a held cursor fails at the commit": [query("BEGIN"), query(HOLD), query("COMMIT")],
    "a held cursor fails at the Sync": [parse("", HOLD) + run("") + SYNC],
    "a cursor is replaced by EXECUTE": [
        parse("k", "CLOSE c") + parse("d", f"DECLARE c CURSOR FOR {MAILS}") + SYNC,
        query("BEGIN"),
        query(f"DECLARE c CURSOR FOR {CITIES}"),
        query("EXECUTE k"),
        query("EXECUTE d"),
        query("FETCH 3 FROM c"),
    ],
    "a prepared statement is replaced by EXECUTE": [
        parse("k", "DEALLOCATE x") + parse("d", f"PREPARE x AS {MAILS}") + SYNC,
        query(f"PREPARE x AS {CITIES}"),
        query("EXECUTE k"),
        query("EXECUTE d"),
        query("EXECUTE x"),
    ],
    "a described statement is replaced by EXECUTE": [
        parse("x", CITIES) + describe("S", "x") + SYNC,
        parse("k", "DEALLOCATE x") + parse("d", "PREPARE x AS SELECT email FROM customers") + SYNC,
        query("EXECUTE k"),
        query("EXECUTE d"),
        run("x") + SYNC,
    ],
    "a described table is replaced by search_path": [
        parse("p", "SELECT email FROM addresses")
        + parse("s1", "SET search_path = nothing")
        + parse("s2", "SET search_path = plain")
        + parse("s3", "SET search_path = public")
        + SYNC,
        run("s1") + run("s2") + describe("S", "p") + run("s3") + run("p") + SYNC,
    ],
    "a copied table is replaced by search_path": [
        query("SET search_path = plain"),
        query("SET search_path = public; COPY customers TO STDOUT"),
    ],
    "cells of a COPY are moved by an encoding": [
        query(
            "COPY (SELECT 'ポ', email, 'ソ', 'x' FROM customers)"
            " TO STDOUT (DELIMITER '|', ENCODING 'SJIS')"
        )
    ],
    "a portal is fetched from before it runs": [
        query("BEGIN"),
        parse("", MAILS) + bind("c", "") + SYNC,
        query("FETCH ALL FROM c"),
    ],
}


@pytest.mark.parametrize("moves", MOVES.values(), ids=MOVES)
def test_no_order_of_messages_shows_a_masked_value(
    gateway: Gateway, truth: list[str], built: None, moves: list[bytes]
) -> None:
    answers: Messages = []
    with wire(gateway) as client:
        for move in moves:
            answers += client.ask(move)
    assert_hidden(shown(answers), truth)


def test_an_approved_write_that_fails_does_not_quote_the_row(
    gateway: Gateway, truth: list[str]
) -> None:
    text = "UPDATE customers SET city = NULL WHERE id = 1"
    with gateway.held(text) as (approval, attempt):
        gateway.decide(approval["id"])
        error = attempt.finish().error
    assert error is not None
    assert error.sqlstate == "23502"
    assert_hidden(repr((str(error), error.diag.message_detail)), truth)


def test_nothing_may_stand_before_the_built_in_functions(gateway: Gateway) -> None:
    for path in ("public, pg_catalog", "pg_temp, public"):
        with wire(gateway, search_path=path) as client:
            assert client.login[-1][0] == b"E"
            assert b"parameter_not_allowed" in client.login[-1][1]


def test_what_follows_the_token_too_early_does_not_run_unrecorded(gateway: Gateway) -> None:
    with wire(gateway, early=query("SELECT 'too early'")) as client:
        assert rows(client.login) == 0


# What runs is what was approved.


def status(gateway: Gateway, order: int) -> str:
    with gateway.superuser() as connection:
        row = connection.execute("SELECT status FROM orders WHERE id = %s", [order]).fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize("simple", [True, False])
def test_a_grant_for_an_execute_is_for_what_it_stands_for(gateway: Gateway, simple: bool) -> None:
    first, second = (f"UPDATE orders SET status = '{s}-{simple}' WHERE id = 7" for s in "ab")
    with wire(gateway) as client:
        client.ask(parse("up", first) + parse("ex", "EXECUTE up") + SYNC)
        again = query("EXECUTE up") if simple else run("ex") + SYNC
        client.send(again)
        asked = gateway.pending(first)
        assert asked["operation"]["text"].startswith("EXECUTE up")
        gateway.decide(asked["id"], scope="session")
        client.until(b"Z")
        assert status(gateway, 7) == f"a-{simple}"

        client.ask(close("S", "up") + parse("up", second) + SYNC)
        client.send(again)
        another = gateway.pending(second)
        gateway.decide(another["id"], "deny")
        client.until(b"Z")
    assert status(gateway, 7) == f"a-{simple}"


def test_a_portal_runs_in_the_session_it_was_bound_in_or_not_at_all(
    gateway: Gateway, built: None
) -> None:
    with wire(gateway) as client:
        client.ask(query("BEGIN"))
        client.ask(query("SET search_path = plain"))
        client.ask(parse("", "SELECT email FROM addresses") + bind("p", "") + SYNC)
        client.ask(query("SET search_path = public"))
        kinds = [kind for kind, _ in client.ask(execute("p") + SYNC)]
    assert b"E" in kinds
    assert b"D" not in kinds


def test_who_approves_sees_by_which_settings_dates_are_read(gateway: Gateway) -> None:
    text = "UPDATE orders SET status = 'old' WHERE created < '01/02/2026'"
    with wire(gateway, DateStyle="SQL, DMY") as client:
        client.send(query(text))
        approval = gateway.pending(text)
        gateway.decide(approval["id"], "deny")
        client.until(b"Z")
        assert "SQL, DMY" in approval["operation"]["facts"]["settings"]

        client.ask(query("SET datestyle = 'ISO, MDY'"))
        client.send(query(text))
        other = gateway.pending(text)
        gateway.decide(other["id"], "deny")
        client.until(b"Z")
    assert other["operation"]["digest"] != approval["operation"]["digest"]


def test_one_approval_lets_one_of_four_equal_operations_run(gateway: Gateway) -> None:
    text = "UPDATE orders SET amount = amount + 1 WHERE id = 9"
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(gateway.connect()) for _ in range(4)]
        attempts = [Attempt(connection, text) for connection in connections]

        def pending() -> list[Any]:
            items = gateway.call("GET", "/api/v1/approvals?state=pending", "approver")["items"]
            return [item for item in items if item["operation"]["text"] == text]

        until(lambda: len(pending()) == 4, "four approvals")
        approved, *others = pending()
        gateway.decide(approved["id"])
        until(lambda: sum(not one.running for one in attempts) == 1, "the approved one's end")
        for other in others:
            gateway.decide(other["id"], "deny")
        tags = sorted(one.finish().tag for one in attempts)
    assert tags == ["", "", "", "UPDATE 1"]


# The relay serves others meanwhile.

HUNGRY = {
    "columns times tables": "SELECT {} FROM {}".format(
        ",".join(f"a{i}" for i in range(3000)),
        ",".join(f"customers c{i}" for i in range(3000)),
    ),
    "stars times tables": "SELECT {} FROM {}".format(
        ",".join(["*"] * 5000), ",".join(f"customers c{i}" for i in range(5000))
    ),
    "groups times outputs": "SELECT {} GROUP BY {}".format(
        ",".join(f"1 AS a{i}" for i in range(7000)), ",".join(f"a{i}" for i in range(7000))
    ),
    "rows within rows": "SELECT {} FROM (SELECT {} FROM customers) q".format(
        ",".join(["q"] * 1000), ",".join(f"a{i}" for i in range(1000))
    ),
    "nested unions": " UNION ".join(["SELECT " + ",".join(["a"] * 500) + " FROM customers"] * 80),
}


@pytest.mark.parametrize("text", HUNGRY.values(), ids=HUNGRY)
def test_a_text_that_is_costly_to_judge_is_refused(gateway: Gateway, text: str) -> None:
    with gateway.connect() as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute(text.encode())
    assert refused.value.sqlstate == "42501"
    assert "no_rule_matches" in str(refused.value.diag.message_detail)


def test_a_session_keeps_so_many_prepared_statements_and_no_more(gateway: Gateway) -> None:
    with wire(gateway) as client:
        many = b"".join(parse(f"p{i}", "SELECT 1") for i in range(4097))
        answers = client.ask(many + SYNC)
        assert sum(kind == b"1" for kind, _ in answers) == 4096
        assert any(kind == b"E" and b"C54000\0" in body for kind, body in answers)
        assert rows(client.ask(run("p0") + SYNC)) == 1


# The API.


@pytest.mark.parametrize("who", ["reporting-agent", "auditor", "administrator"])
def test_only_a_human_of_the_group_decides(gateway: Gateway, who: str) -> None:
    text = f"DELETE FROM orders WHERE id = 11 -- {who}"
    with gateway.held(text) as (approval, attempt):
        answer = gateway.answer(
            "POST",
            f"/api/v1/approvals/{approval['id']}/decisions",
            who,
            json={"decision": "approve", "reason": "mine"},
        )
        assert answer.status_code == 403
        gateway.decide(approval["id"], "deny")
        assert attempt.finish().error is not None


def test_a_key_of_another_decision_decides_nothing(gateway: Gateway) -> None:
    texts = [f"DELETE FROM orders WHERE id = 12 -- {number}" for number in range(2)]
    key = {"Idempotency-Key": threading.current_thread().name + "-attacks"}
    body = {"decision": "deny", "reason": "no"}
    with gateway.held(texts[0]) as (one, _), gateway.held(texts[1]) as (two, _):
        path = "/api/v1/approvals/{}/decisions"
        first = gateway.answer("POST", path.format(one["id"]), "approver", json=body, headers=key)
        other = gateway.answer("POST", path.format(two["id"]), "approver", json=body, headers=key)
        assert (first.status_code, other.status_code) == (200, 422)
        assert other.json()["code"] == "idempotency_key_reused"
        gateway.decide(two["id"], "deny")


def test_an_agent_gets_nothing_from_the_api_but_itself(gateway: Gateway) -> None:
    schema = gateway.call("GET", "/api/v1/openapi.json")
    open_to_all = {"/api/v1/me", "/healthz", "/readyz"}
    for path, operations in schema["paths"].items():
        concrete = path.replace("{id}", "0" * 32).replace("{name}", "x").replace("{kind}", "x")
        for method in operations:
            answer = gateway.answer(method.upper(), concrete, "reporting-agent", json={})
            assert (answer.status_code == 403) == (path not in open_to_all), (method, path)


def test_the_approval_page_names_no_host_of_the_asker(gateway: Gateway) -> None:
    with gateway.demo.http() as client:
        page: httpx.Response = client.get(
            "/approvals/apr_0000000000", headers={"Host": "elsewhere.example"}
        )
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/plain")
    assert "elsewhere" not in page.text
