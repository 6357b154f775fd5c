"""How sessions and relays end, and what a relay says when it can't begin."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from control_plane.relays.authority import Authority
from deploy.demo.surroundings import ROOT
from tests.end_to_end.gateway import Attempt, Gateway, until


def end_of(gateway: Gateway, mark: str) -> dict[str, Any]:
    """The session whose first statement was ``SELECT 'mark'``, once it is closed."""

    def look() -> Any:
        for item in gateway.call("GET", "/api/v1/sessions?limit=20", "auditor")["items"]:
            if item["closed_at"] is None:
                continue
            path = f"/api/v1/sessions/{item['id']}/recording"
            if mark.encode() in gateway.answer("GET", path, "auditor").content:
                return item
        return None

    return dict(until(look, f"the end of the session of {mark}"))


def test_an_administrator_ends_a_session_within_seconds(gateway: Gateway) -> None:
    with contextlib.closing(gateway.connect()) as connection:
        connection.execute("SELECT 'to be ended'")
        attempt = Attempt(connection, "SELECT count(*) FROM generate_series(1, 100000000000)")
        session = until(
            lambda: [
                item
                for item in gateway.call("GET", "/api/v1/sessions?state=open")["items"]
                if b"to be ended"
                in gateway.answer(
                    "GET", f"/api/v1/sessions/{item['id']}/recording", "auditor"
                ).content
            ],
            "the running session",
        )[0]
        asked = time.monotonic()
        gateway.call("POST", f"/api/v1/sessions/{session['id']}/end", json={"reason": "enough"})
        error = attempt.finish(5).error
        assert error is not None
        assert error.sqlstate in ("57P01", None)
        assert "enough" in str(error) or "ended" in str(error)
        assert time.monotonic() - asked < 5
    with gateway.superuser() as direct:
        until(
            lambda: (
                not direct.execute(
                    "SELECT 1 FROM pg_stat_activity WHERE state = 'active' "
                    "AND query LIKE '%100000000000%' AND pid <> pg_backend_pid()"
                ).fetchall()
            ),
            "the end of the statement at the target",
        )
    assert end_of(gateway, "to be ended")["state"] == "ended"


MASKING = """
apiVersion: jitgate/v1
kind: Masking
metadata: {name: cities}
spec:
  targets: {labels: {env: demo}}
  rules: [{name: city, columns: [public.customers.city], transform: redact}]
"""


def test_a_change_of_masking_ends_the_sessions_it_concerns(outages: Gateway) -> None:
    gateway = outages
    connection = gateway.connect()
    assert connection.execute("SELECT city FROM customers WHERE id = 1").fetchone() != ("****",)
    gateway.apply(MASKING)
    with pytest.raises(psycopg.OperationalError):
        _ask_until_it_ends(connection)
    with gateway.connect() as again:
        assert again.execute("SELECT city FROM customers WHERE id = 1").fetchone() == ("****",)


def _ask_until_it_ends(connection: psycopg.Connection[Any]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        connection.execute("SELECT 1")


def test_a_relay_that_stops_tells_its_sessions_and_hands_over_what_it_recorded(
    outages: Gateway,
) -> None:
    gateway = outages
    connection = gateway.connect()
    connection.execute("SELECT 'when the relay stopped'")
    attempt = Attempt(connection, "DELETE FROM orders WHERE id = -31")
    approval = gateway.pending("id = -31")
    gateway.child("relay").stop()
    error = attempt.finish().error
    assert error is not None
    assert "relay is stopping" in str(error)
    gateway.start("relay")
    session = end_of(gateway, "when the relay stopped")
    assert (session["state"], session["end_code"]) == ("closed", "relay_stopping")
    until(
        lambda: gateway.call("GET", f"/api/v1/approvals/{approval['id']}")["state"] == "withdrawn",
        "the withdrawal",
    )
    path = f"/api/v1/sessions/{session['id']}/verification"
    assert gateway.call("GET", path, "auditor")["valid"]


def test_a_listener_can_have_a_certificate_of_its_own(outages: Gateway, tmp_path: Path) -> None:
    gateway = outages
    authority = Authority(tmp_path)
    issued = authority.issue(["127.0.0.1"])
    config = gateway.directory / "relay.toml"
    original = config.read_text()
    (gateway.directory / "own.pem").write_text(issued.chain_pem)
    (gateway.directory / "own.key").write_text(issued.key_pem)
    gateway.stop("relay")
    config.write_text(original + 'certificate = "own.pem"\nkey = "own.key"\n')
    (tmp_path / "authority.pem").write_text(authority.ca_pem)
    try:
        gateway.start("relay")
        own = {"sslrootcert": str(tmp_path / "authority.pem")}

        def connects() -> bool:
            try:
                gateway.connect(**own).close()
            except psycopg.OperationalError:
                return False
            return True

        until(connects, "a session under the listener's own certificate")
        with pytest.raises(psycopg.OperationalError, match="certificate"):
            gateway.connect()
    finally:
        config.write_text(original)
        gateway.stop("relay")
        gateway.start("relay")


def run_relay(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "data_plane", "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[relay]", "[relays]"), "unknown section relays"),
        (("[listen.postgres]", "[listen.oracle]"), "listen.oracle: no such protocol"),
        (('ca = "control-plane/ca.pem"', 'ca = "nowhere.pem"'), "No such file"),
        (('state_dir = "relay"', 'state_dir = "another"'), "join"),
        (('join_token_file = "relay/join-token"\n', ""), "no join token"),
    ],
)
def test_a_relay_that_cannot_begin_says_why_in_one_line(
    gateway: Gateway, tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    text = (gateway.directory / "relay.toml").read_text().replace(*change)
    if "no join token" in said:
        text = text.replace('state_dir = "relay"', 'state_dir = "third"')
    config = gateway.directory / f"other-{abs(hash(change))}.toml"
    config.write_text(text)
    done = run_relay(config)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("jitgate-relay: ")
    assert said in last
    assert "Traceback" not in done.stderr


def test_a_relay_whose_port_is_taken_says_so(gateway: Gateway) -> None:
    # The same configuration and identity, a second time.
    done = run_relay(gateway.directory / "relay.toml")
    assert done.returncode == 1
    assert "in use" in done.stderr.strip().splitlines()[-1]
