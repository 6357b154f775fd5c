"""The tour: what an agent, a human who decides and an auditor meet, each step checked.

Everything goes through real clients: psycopg and psql towards the relay, HTTP and the
``jitgate`` command towards the control plane. Only the checks look at the target directly.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from deploy.demo import data
from deploy.demo.agents import Psql, Waiting, claims, connect, refused_login, unsigned
from deploy.demo.gateway import Gateway
from deploy.demo.people import Person
from deploy.demo.processes import DemoFailed
from deploy.demo.recording import tampered
from deploy.demo.screen import Screen
from deploy.demo.target import GATEWAY_ROLE, SUPERUSER, Target

READ = "SELECT id, name, email, card_number, national_id, city FROM customers ORDER BY id LIMIT 5"
DELETE = "DELETE FROM orders WHERE status = 'cancelled'"
DELETE_ALL = "DELETE FROM orders"
DROP = "DROP TABLE orders"
DENIAL = "orders are kept for ten years"


class Tour:
    """One run of the tour; :meth:`play` raises :class:`DemoFailed` where a step fails."""

    def __init__(self, gateway: Gateway, target: Target, screen: Screen) -> None:
        self._gateway = gateway
        self._target = target
        self._screen = screen
        self._agent = gateway.cast.reporting
        self._owner, self._second_owner = gateway.cast.approvers
        self._token = ""
        self._session = ""

    def play(self) -> None:
        """All steps in order, most of them in one session of one agent."""
        self._token = self._gateway.token(self._agent)
        connection = self._first_connection()
        with connection:
            self._reads(connection)
            self._deletes_with_consent(connection)
            self._is_denied(connection)
            self._may_not_drop(connection)
        self._strangers_stay_out()
        self._what_the_target_saw()
        self._replay()

    # a

    def _first_connection(self) -> psycopg.Connection:
        """Connect; the relay may still be waiting for its first policy."""
        screen = self._screen
        screen.title("a. An agent reads, and sees what it may see")
        screen.say(
            f"{self._agent.name} gets an access token by client credentials, as it would from "
            "Entra. The token is its password; it has no other."
        )
        shown = claims(self._token)
        screen.got(
            json.dumps({k: shown.get(k) for k in ("tid", "oid", "azp", "groups", "idtyp", "exp")})
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                return connect(self._gateway, self._agent, self._token)
            except psycopg.OperationalError as error:
                if "control_plane_unavailable" not in str(error) or time.monotonic() > deadline:
                    raise DemoFailed(f"{self._agent.name} can't connect: {error}") from None
                time.sleep(0.1)

    def _reads(self, connection: psycopg.Connection) -> None:
        screen = self._screen
        screen.does(self._agent.name, READ)
        began = time.monotonic()
        cursor = connection.execute(READ)
        rows = cursor.fetchall()
        took = time.monotonic() - began
        screen.rows([column.name for column in cursor.description or ()], rows)
        real = {row[0]: row for row in data.customers()}
        screen.check(len(rows) == 5, f"it ran at once ({took * 1000:.0f} ms)")
        screen.check(
            all(
                row[2] != real[row[0]][2]
                and row[2].endswith("@" + real[row[0]][2].partition("@")[2])
                and "****" in row[2]
                for row in rows
            ),
            "e-mail addresses are masked, down to their domain",
        )
        screen.check(
            all(row[3] == "****" + real[row[0]][3][-4:] for row in rows),
            "card numbers are masked, down to their last four digits",
        )
        untouched = [(row[0], row[1], row[4], row[5]) for row in rows]
        expected = [
            (real[row[0]][0], real[row[0]][1], real[row[0]][4], real[row[0]][5]) for row in rows
        ]
        screen.check(untouched == expected, "the other columns are as they are in the table")
        psql = Psql.find(self._gateway, self._agent, self._token)
        if psql is None:
            screen.say("psql isn't installed here; it would show the same.")
            return
        statement = "SELECT name, email FROM customers WHERE city = 'Wien' ORDER BY id LIMIT 2"
        screen.does("psql", statement)
        done = psql.run(statement)
        screen.got(done.stdout)
        screen.check(done.returncode == 0 and "****" in done.stdout, "psql gets the same answer")

    # b

    def _deletes_with_consent(self, connection: psycopg.Connection) -> None:
        screen = self._screen
        screen.title("b. What changes data waits for a human")
        cancelled = sum(1 for order in data.orders() if order[4] == "cancelled")
        before = self._target.count("orders")
        notices: list[tuple[str, str]] = []

        # Kept as text: the notice itself ends with the call.
        def note(notice: psycopg.errors.Diagnostic) -> None:
            notices.append((notice.message_primary or "", notice.message_hint or ""))

        connection.add_notice_handler(note)
        screen.does(self._agent.name, DELETE)
        waiting = Waiting(lambda: connection.execute(DELETE).statusmessage)
        approval = self._pending(waiting, DELETE)
        # The row is there before the agent is told.
        self._until(lambda: bool(notices), "the notice to the agent")
        primary, hint = notices[0]
        screen.say("The connection stays open. The agent's own client is told:")
        screen.got(f"NOTICE:  {primary}", "yellow")
        screen.got(f"HINT:  {hint}", "yellow")
        screen.check(
            approval["id"] in primary and approval["url"] in primary and " until " in primary,
            "the notice names the approval, its URL and the deadline",
            primary,
        )
        screen.say(f"{self._owner.name} looks at what waits (GET /api/v1/approvals):")
        self._show(approval)
        operation = approval["operation"]
        screen.check(
            approval["principal"]["object_id"] == self._agent.object_id
            and operation["text"] == DELETE
            and [one["name"] for one in operation["resources"]] == ["public.orders"]
            and operation["risk"] in ("write", "destroy")
            and approval["target"] == "orders"
            and approval["rule"] == "analysts/change-data"
            and bool(approval["reason"])
            and approval["held"] is True,
            "who, what, where, why, tables, risk and the exact text are there",
            approval,
        )
        screen.check(
            self._target.count("orders") == before and waiting.waits,
            "nothing has reached the target",
        )
        self._decide("approve", approval["id"], "the shop agrees")
        status = waiting.result()
        screen.got(str(status), "bold")
        screen.check(status == f"DELETE {cancelled}", f"the agent's client sees {status}")
        screen.check(
            self._target.count("orders") == before - cancelled
            and self._statements("DELETE FROM orders") == 1,
            "the statement ran once",
            self._statements("DELETE FROM orders"),
        )
        connection.remove_notice_handler(note)
        self._session = approval["session"]

    def _pending(self, waiting: Waiting[Any], text: str) -> Mapping[str, Any]:
        """The approval that a human finds for a statement that waits."""
        found: list[Mapping[str, Any]] = []

        def look() -> bool:
            if not waiting.waits:
                raise DemoFailed(f"{text} was not held: {waiting.result()!r}")
            items = self._gateway.get(self._owner, "approvals", state="pending")["items"]
            found.extend(item for item in items if item["operation"]["text"] == text)
            return bool(found)

        self._until(look, f"the hold of {text}")
        return found[0]

    def _show(self, approval: Mapping[str, Any]) -> None:
        operation = approval["operation"]
        tables = ", ".join(one["name"] for one in operation["resources"])
        for name, value in (
            ("who", f"{approval['principal']['name']} ({approval['principal']['kind']})"),
            ("what", f"{operation['text']}   [{operation['action']}, risk {operation['risk']}]"),
            ("tables", tables),
            ("where", f"target {approval['target']}, relay {approval['relay']}"),
            ("why", f"{approval['rule']}: {approval['reason']}"),
            ("until", f"{approval['deadline']} ({approval['seconds_left']} s left)"),
        ):
            self._screen.got(f"{name:8}{value}", "none")

    def _decide(self, what: str, approval: str, reason: str, who: Person | None = None) -> None:
        human = who or self._owner
        self._screen.does(human.name, f'jitgate {what} {approval} --reason "{reason}"')
        self._screen.got(self._gateway.jitgate(human, what, approval, "--reason", reason))

    # c

    def _is_denied(self, connection: psycopg.Connection) -> None:
        screen = self._screen
        screen.title("c. A human says no, and the agent learns why")
        before = self._target.count("orders")
        screen.does(self._agent.name, DELETE_ALL)
        waiting = Waiting(lambda: connection.execute(DELETE_ALL).statusmessage)
        approval = self._pending(waiting, DELETE_ALL)
        self._decide("deny", approval["id"], DENIAL, self._second_owner)
        error = _error(waiting.result)
        self._show_error(error)
        screen.check(error.sqlstate == "42501", "a native error: SQLSTATE 42501")
        detail = error.diag.message_detail or ""
        screen.check(
            "analysts/change-data" in detail and DENIAL in detail,
            "DETAIL names the rule and gives the human's reason",
            detail,
        )
        screen.check(bool(error.diag.message_hint), "HINT says what is possible")
        screen.check(
            connection.info.transaction_status == TransactionStatus.IDLE
            and connection.execute("SELECT 1").fetchone() == (1,)
            and self._target.count("orders") == before,
            "nothing ran, and the connection goes on",
        )
        psql = Psql.find(self._gateway, self._agent, self._token)
        if psql is not None:
            screen.say("The same with psql:")
            self._denied_psql(psql)

    def _denied_psql(self, psql: Psql) -> None:
        text = DELETE_ALL + " WHERE amount < 50"
        self._screen.does("psql", text)
        waiting = Waiting(lambda: psql.run(text))
        approval = self._pending(waiting, text)
        self._decide("deny", approval["id"], DENIAL)
        done = waiting.result()
        self._screen.got(done.stdout, "yellow")
        self._screen.check(
            done.returncode == 1
            and f"NOTICE:  held for approval {approval['id']}" in done.stdout
            and "ERROR:" in done.stdout
            and DENIAL in done.stdout,
            "psql shows the notice, the error and the reason",
            done.stdout,
        )

    def _show_error(self, error: psycopg.Error) -> None:
        diag = error.diag
        self._screen.got(f"ERROR:  {diag.sqlstate}: {diag.message_primary}", "red")
        self._screen.got(f"DETAIL:  {diag.message_detail}", "red")
        self._screen.got(f"HINT:  {diag.message_hint}", "red")

    # d

    def _may_not_drop(self, connection: psycopg.Connection) -> None:
        screen = self._screen
        screen.title("d. What policy refuses, and who doesn't get in")
        screen.say("In a transaction:")
        for statement in ("BEGIN", "SELECT count(*) FROM orders"):
            screen.does(self._agent.name, statement)
            connection.execute(statement)
        screen.does(self._agent.name, DROP)
        error = _error(lambda: connection.execute(DROP))
        self._show_error(error)
        screen.check(
            error.sqlstate == "42501"
            and "analysts/no-schema-changes" in (error.diag.message_detail or ""),
            f"{DROP} is refused by policy, though the database would let this role do it",
        )
        in_error = connection.info.transaction_status
        connection.execute("ROLLBACK")
        screen.check(
            in_error == TransactionStatus.INERROR
            and connection.info.transaction_status == TransactionStatus.IDLE
            and connection.execute("SELECT 1").fetchone() == (1,),
            "the transaction has failed, as it would without a gateway; ROLLBACK ends it",
            (in_error, connection.info.transaction_status),
        )

    def _strangers_stay_out(self) -> None:
        cast = self._gateway.cast
        token = self._gateway.token
        self._stays_out(cast.intern, token(cast.intern), "is in no group", set())
        self._stays_out(
            cast.expired, token(cast.expired), "shows an expired token", {"token_expired"}
        )
        self._stays_out(
            cast.foreign, token(cast.foreign), "is of another tenant", {"tenant_not_accepted"}
        )
        self._stays_out(
            self._agent,
            unsigned(self._token),
            "shows its claims without a signature",
            {"alg_not_allowed", "token_malformed"},
        )

    def _stays_out(self, person: Person, token: str, why: str, codes: set[str]) -> None:
        screen = self._screen
        screen.say(f"{person.name} {why}:")
        try:
            connect(self._gateway, person, token).close()
        except psycopg.OperationalError as error:
            text = str(error)
        else:
            raise DemoFailed(f"{person.name} was let in")
        screen.got(text[text.find("FATAL") :], "red")
        fields = refused_login(self._gateway, person, token)
        detail = fields.get("D", "")
        code = detail.partition(":")[0]
        screen.check(
            fields.get("C") == "28000" and (code in codes or not codes) and bool(detail),
            f"refused at login with SQLSTATE 28000, reason {code}",
            fields,
        )

    # e

    def _what_the_target_saw(self) -> None:
        screen = self._screen
        screen.title("e. What the target saw, and what the agent could see")
        log = self._target.log.read_text(errors="replace")
        users = {
            line.split("] ", 1)[1].partition("@")[0]
            for line in log.splitlines()
            if "] " in line and "@" in line.split("] ", 1)[1].partition(" ")[0]
        }
        others = users - {"", "[unknown]", SUPERUSER}
        screen.check(others == {GATEWAY_ROLE}, f"its log knows one role: {GATEWAY_ROLE}", others)
        signature = self._token.rpartition(".")[2]
        screen.check(
            self._token not in log and signature not in log and self._agent.name not in log,
            "the agent's token is nowhere in it, nor is its name",
        )
        screen.check(
            self._statements(DELETE_ALL + "\n") == 0 and DROP not in log,
            "what was denied or refused never reached it",
        )
        received = self._recording().read_bytes()
        password = self._target.gateway_password.encode()
        screen.check(
            password not in received,
            "nothing that the agent received holds the gateway's password",
        )
        mails = [row[2].encode() for row in data.customers()]
        cards = [row[3].encode() for row in data.customers()]
        screen.check(
            self._token.encode() not in received
            and not any(value in received for value in (*mails, *cards)),
            "its recording holds no token, no unmasked address and no unmasked card number",
        )
        logs = [path.read_bytes() for path in self._gateway.directory.glob("*.log")]
        screen.check(
            not any(secret in text for text in logs for secret in (password, signature.encode())),
            "neither secret is in any log of the gateway",
        )

    # f

    def _replay(self) -> None:
        screen = self._screen
        auditor = self._gateway.cast.auditor
        screen.title("f. What happened, exactly, and proof of it")
        self._until(
            lambda: self._gateway.get(auditor, f"sessions/{self._session}")["state"] == "closed",
            "the close of the session",
        )
        screen.does(auditor.name, "jitgate sessions")
        listed = self._gateway.jitgate(auditor, "sessions")
        screen.got(listed)
        screen.check(self._session in listed, "the session is listed")
        screen.does(auditor.name, f"jitgate replay {self._session}")
        replayed = self._gateway.jitgate(auditor, "replay", self._session, "--instant")
        screen.got(replayed)
        order = [READ, DELETE, DELETE_ALL, DENIAL, DROP]
        places = [replayed.find(part) for part in order]
        screen.check(
            -1 not in places and places == sorted(places) and "****" in replayed,
            "requests, decisions and answers, in order, as the agent saw them",
            places,
        )
        screen.does(auditor.name, f"jitgate verify {self._session}")
        verified = self._gateway.jitgate(auditor, "verify", self._session)
        screen.got(verified)
        screen.check(verified.startswith("valid"), "the recording is whole")
        screen.say("Copies of it that somebody tampered with:")
        copy = self._recording()
        for what, content, entry in tampered(copy.read_bytes()):
            path = copy.with_name(f"{what.replace(' ', '-')}.jgr")
            path.write_bytes(content)
            screen.does(auditor.name, f"jitgate verify --file {path.name}      ({what})")
            said = self._gateway.jitgate(auditor, "verify", "--file", path, fails=True)
            screen.got(said, "yellow")
            screen.check(f"entry {entry}" in said, f"{what}: found, at entry {entry}", said)

    def _recording(self) -> Path:
        """A copy of the session's recording, downloaded once."""
        path = self._gateway.directory / "recordings" / "copy.jgr"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            auditor = self._gateway.cast.auditor
            self._until(
                lambda: (
                    self._gateway.get(auditor, f"sessions/{self._session}/verification")["state"]
                    == "closed"
                ),
                "the arrival of the recording",
            )
            self._gateway.jitgate(auditor, "sessions", "download", self._session, "--file", path)
        return path

    def _statements(self, text: str) -> int:
        """How often the target ran a statement that begins so, through the gateway."""
        lines = self._target.log.read_text(errors="replace").splitlines(keepends=True)
        ran = (line for line in lines if f"] {GATEWAY_ROLE}@" in line)
        return sum(1 for line in ran if f": {text}" in line)

    def _until(self, ready: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise DemoFailed(f"{what} did not come within {seconds:.0f} s")
            time.sleep(0.1)


def _error(action: Callable[[], object]) -> psycopg.Error:
    try:
        result = action()
    except psycopg.Error as error:
        return error
    raise DemoFailed(f"an error was expected, and it gave {result!r}")
