"""``make demo`` as a person or a script meets it: the tour, what it leaves, how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from deploy.demo.surroundings import ROOT
from tests.end_to_end.gateway import until

PATIENCE = 120.0


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not pytest's own: as root, PostgreSQL's user must be able to pass through it.
    made = Path(tempfile.mkdtemp(prefix="jitgate-test-demo-"))
    made.chmod(0o711)
    yield made / "demo"
    shutil.rmtree(made)


def start(directory: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.demo", "--directory", str(directory), *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(demo: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        output, _ = demo.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        demo.terminate()
        output, _ = demo.communicate()
        pytest.fail(f"the demonstration doesn't end:\n{output}")
    return demo.returncode, output


def processes_of(directory: Path) -> list[str]:
    """Command lines and working directories that name the demonstration's directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            variables = (process / "environ").read_bytes().decode(errors="replace")
            working = str((process / "cwd").readlink())
        except OSError:
            continue
        if process.name != str(os.getpid()) and any(
            str(directory) in text for text in (command, variables, working)
        ):
            found.append(f"{process.name} {command}")
    return found


def environment(demo: subprocess.Popen[str], directory: Path) -> dict[str, Any]:
    """What the demonstration writes once it stays up."""
    file = directory / "env.json"
    until(lambda: file.exists() or demo.poll() is not None, "env.json", PATIENCE)
    if demo.poll() is not None:
        pytest.fail(f"the demonstration ended:\n{demo.communicate()[0]}")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    described: dict[str, Any] = json.loads(file.read_text())
    return described


def token(env: dict[str, Any], who: dict[str, Any]) -> str:
    answer = httpx.post(
        who["token_endpoint"],
        data={
            "grant_type": "client_credentials",
            "client_id": who["client_id"],
            "client_secret": who["client_secret"],
            "scope": env["scope"],
        },
        verify=trust(env),
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def trust(env: dict[str, Any]) -> Any:
    import ssl

    return ssl.create_default_context(cafile=env["ca_file"])


def test_the_tour_holds_and_leaves_nothing_behind(directory: Path) -> None:
    status, output = finish(start(directory, "--once"))
    assert status == 0, output
    for part in "abcdef":
        assert f"\n{part}. " in output
    assert output.rstrip().endswith("checks held; everything is stopped.")
    assert processes_of(directory) == []
    assert [path.name for path in directory.iterdir()] == ["lock"]


def test_a_running_demonstration_can_be_driven_by_what_it_writes(directory: Path) -> None:
    demo = start(directory)
    try:
        env = environment(demo, directory)
        admin = {"Authorization": f"Bearer {token(env, env['administrator'])}"}
        api = httpx.Client(base_url=env["api_url"] + "/api/v1", headers=admin, verify=trust(env))
        with (
            api,
            psycopg.connect(
                host=env["target"]["host"],
                port=env["target"]["port"],
                dbname=env["target"]["database"],
                user=env["target"]["superuser"],
                password=env["target"]["password"],
                autocommit=True,
            ) as target,
        ):
            target.execute("CREATE ROLE second LOGIN PASSWORD 'second-password'")
            target.execute("CREATE DATABASE second OWNER second")
            stored = api.put(
                "/credentials/second",
                json={"username": "second", "password": "second-password"},
            )
            assert stored.is_success, stored.text
            documents = f"""
apiVersion: jitgate/v1
kind: Target
metadata: {{name: second}}
spec:
  protocol: postgres
  host: {env["target"]["host"]}
  port: {env["target"]["port"]}
  database: second
  tls: {{mode: disable}}
  credential: second
  relays: [{env["relay"]["name"]}]
---
apiVersion: jitgate/v1
kind: Policy
metadata: {{name: second}}
spec:
  subjects: [{{groups: [{env["groups"]["analysts"]}]}}]
  targets: {{names: [second]}}
  rules: [{{name: read, outcome: allow, risks: [read]}}]
"""
            applied = api.post("/apply", json={"documents": documents, "message": "a second one"})
            assert applied.is_success, applied.text
        agent = env["agents"][0]

        def look() -> Any:
            try:
                with psycopg.connect(
                    host=env["relay"]["host"],
                    port=env["relay"]["ports"]["postgres"],
                    dbname="second",
                    user=agent["name"],
                    password=token(env, agent),
                    sslmode="verify-full",
                    sslrootcert=env["ca_file"],
                ) as connection:
                    return connection.execute("SELECT current_database(), current_user").fetchone()
            except psycopg.Error:
                return None  # the relay hasn't heard of the new policy yet

        assert until(look, "the second target") == ("second", "second")
        for who in (*env["approvers"], env["auditor"]):
            bearer = {"Authorization": f"Bearer {token(env, who)}"}
            seen = httpx.get(
                env["api_url"] + "/api/v1/approvals", headers=bearer, verify=trust(env)
            )
            assert seen.status_code == 200
        status, output = finish(start(directory))
        assert status == 1
        assert "already runs" in output
    finally:
        demo.send_signal(signal.SIGTERM)
        status, output = finish(demo)
    assert status == 0, output
    assert processes_of(directory) == []
    assert not (directory / "env.json").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for it")
def test_killing_the_demonstration_takes_its_servers_along(directory: Path) -> None:
    demo = start(directory)
    port = environment(demo, directory)["target"]["port"]
    demo.kill()
    demo.communicate()
    until(lambda: not processes_of(directory), "the end of the servers")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


def test_a_failure_stops_everything_and_is_told(directory: Path) -> None:
    demo = start(directory, "--once")
    config = directory / "relay.toml"
    until(lambda: config.exists() or demo.poll() is not None, "the start of the relay", PATIENCE)
    control_plane = next(
        line
        for line in until(lambda: processes_of(directory), "processes")
        if "control_plane" in line
    )
    os.kill(int(control_plane.partition(" ")[0]), signal.SIGKILL)
    status, output = finish(demo)
    assert status == 1
    assert "The demonstration failed" in output
    assert processes_of(directory) == []


def test_a_port_that_is_taken_is_named(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        began = time.monotonic()
        status, output = finish(start(directory, "--once", JITGATE_DEMO_RELAY_PORT=str(port)))
    assert status == 1
    assert f"RELAY_PORT: {port}" in output
    assert time.monotonic() - began < PATIENCE
