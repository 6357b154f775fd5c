"""Deaths and restarts, in either order: what goes on, what is refused, what isn't lost."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy.demo.gateway import RELAY
from tests.end_to_end.gateway import Attempt, Gateway, until


def valid(gateway: Gateway, session: str) -> dict[str, object]:
    return dict(gateway.call("GET", f"/api/v1/sessions/{session}/verification", "auditor"))


def newest(gateway: Gateway) -> dict[str, object]:
    return dict(gateway.call("GET", "/api/v1/sessions?limit=1", "auditor")["items"][0])


def session_of(gateway: Gateway, mark: str) -> str:
    """The session in whose recording a mark was sent."""

    def look() -> str:
        for item in gateway.call("GET", "/api/v1/sessions?limit=10", "auditor")["items"]:
            text = gateway.answer(
                "GET", f"/api/v1/sessions/{item['id']}/recording", "auditor"
            ).content
            if mark.encode() in text:
                return str(item["id"])
        return ""

    return str(until(look, f"a recording with {mark}"))


def test_sessions_outlive_the_control_plane_and_new_ones_are_refused(outages: Gateway) -> None:
    gateway = outages
    with gateway.connect() as connection:
        connection.execute("SELECT 'before the outage'")
        gateway.stop("control_plane")
        assert connection.execute("SELECT 'during the outage'").fetchone()
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            connection.execute("DELETE FROM orders WHERE id = -1")
        assert "control_plane_unavailable" in (caught.value.diag.message_detail or "")
        assert connection.execute("SELECT 'after the refusal'").fetchone()
        with pytest.raises(psycopg.OperationalError, match="control plane"):
            gateway.connect()
        gateway.start("control_plane")
        assert connection.execute("SELECT 'back again'").fetchone()
    session = session_of(gateway, "during the outage")
    report = until(
        lambda: (found := valid(gateway, session))["state"] == "closed" and found,
        "the closed recording",
    )
    assert report["valid"]


def test_a_hold_survives_a_restart_of_the_control_plane(outages: Gateway) -> None:
    gateway = outages
    statement = "DELETE FROM orders WHERE id = -2001"
    with gateway.connect() as connection:
        attempt = Attempt(connection, statement)
        approval = gateway.pending(statement)
        gateway.stop("control_plane")
        gateway.start("control_plane")
        assert attempt.running
        gateway.decide(approval["id"])
        assert attempt.finish().tag == "DELETE 0"


def test_what_a_killed_relay_recorded_arrives_when_it_is_back(outages: Gateway) -> None:
    gateway = outages
    connection = gateway.connect()
    gateway.stop("control_plane")
    connection.execute("SELECT 'said before the relay died'")
    gateway.stop("relay")
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    gateway.start("control_plane")
    gateway.start("relay")
    session = session_of(gateway, "said before the relay died")
    report = until(
        lambda: (found := valid(gateway, session))["state"] == "interrupted" and found,
        "the interrupted session",
    )
    assert report["valid"]
    with gateway.connect() as again:
        assert again.execute("SELECT 1").fetchone()


def test_a_relay_that_starts_without_the_control_plane_refuses_clearly(
    outages: Gateway,
) -> None:
    gateway = outages
    gateway.stop("control_plane")
    gateway.stop("relay")
    gateway.start("relay")

    def refused() -> str:
        try:
            gateway.connect().close()
        except psycopg.OperationalError as error:
            return str(error) if "control plane" in str(error) else ""
        return ""

    assert "control_plane_unavailable" in until(refused, "a clear refusal")
    gateway.start("control_plane")

    def works() -> bool:
        try:
            with gateway.connect() as connection:
                return bool(connection.execute("SELECT 1").fetchone())
        except psycopg.OperationalError:
            return False

    assert until(works, "a session after both are back")


def test_a_full_spool_refuses_and_recovers(outages: Gateway) -> None:
    gateway = outages
    gateway.stop("relay")
    config = gateway.directory / "relay.toml"
    original = config.read_text()
    config.write_text(original + "\n[spool]\nmax_bytes = 10000000\n")
    try:
        gateway.start("relay")
        gateway.stop("control_plane")
    finally:
        config.write_text(original)
    gateway.start("control_plane")
    until(lambda: _connects(gateway), "a session")
    with gateway.connect() as connection:
        gateway.stop("control_plane")
        with pytest.raises(psycopg.Error, match="spool"):
            _ask_until_refused(connection)
    gateway.start("control_plane")
    assert until(lambda: _connects(gateway), "room again")


def _ask_until_refused(connection: psycopg.Connection[Any]) -> None:
    for _ in range(2000):
        connection.execute("SELECT repeat('x', 20000)")


def _connects(gateway: Gateway) -> bool:
    try:
        gateway.connect().close()
    except psycopg.OperationalError:
        return False
    return True


def test_a_revoked_relay_gets_nothing(outages: Gateway) -> None:
    gateway = outages
    pid = gateway.pid("relay")
    gateway.call("POST", f"/api/v1/relays/{RELAY}/revoke")
    until(lambda: not Path(f"/proc/{pid}").exists() or _zombie(pid), "the relay's end")
    (gateway.directory / "relay" / "relay.json").unlink()
    gateway.start("relay")
    assert until(lambda: _connects(gateway), "a session through the relay that joined again")


def _zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].startswith(" Z")
