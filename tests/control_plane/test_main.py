"""The program as an operator starts it."""

from __future__ import annotations

import os
import signal
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.control_plane.serving import eventually
from tests.servers import free_port

ROOT = Path(__file__).parents[2]


def environment(**changes: str) -> dict[str, str]:
    """No JITGATE_ variable but these."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("JITGATE_")}
    return plain | {f"JITGATE_{name.upper()}": value for name, value in changes.items()}


@contextmanager
def running(log: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "control_plane"],
            cwd=ROOT,
            env=environment(**settings),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def test_it_starts_serves_over_tls_and_stops_on_a_signal(tmp_path: Path) -> None:
    data = tmp_path / "data"
    port = free_port()
    log = tmp_path / "log"
    with running(
        log, data_dir=str(data), api_port=str(port), grpc_port=str(free_port())
    ) as process:
        eventually(lambda: process.poll() is not None or '"serving"' in log.read_text(), 30)

        def answers() -> bool:
            if process.poll() is not None:
                pytest.fail(log.read_text())
            context = ssl.create_default_context(cafile=str(data / "ca.pem"))
            try:
                with httpx.Client(verify=context, trust_env=False) as client:
                    return client.get(f"https://127.0.0.1:{port}/readyz").status_code == 200
            except httpx.ConnectError:
                return False

        eventually(answers, 30)
        assert stat.S_IMODE((data / "api.key").stat().st_mode) == 0o600
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(data / "ca.pem")
        assert ssl.get_server_certificate(("127.0.0.1", port))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
        assert time.monotonic() - began < 15
    text = log.read_text()
    assert "Traceback" not in text
    assert "PRIVATE" not in text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"api_port": "hunter2"}, "api_port"),
        ({"development_issuer": "/nowhere.json"}, "development"),
        ({"development_issuer": "/nowhere.json", "cloud": "development"}, "/nowhere.json"),
        ({"tls_certificate": "/x"}, "tls_key"),
    ],
)
def test_wrong_settings_end_it_with_a_word_and_no_value(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    log = tmp_path / "log"
    secret = {"database_url": "postgresql+psycopg://u:hunter2@127.0.0.1:1/x"}
    with running(log, data_dir=str(tmp_path / "data"), **(secret | settings)) as process:
        assert process.wait(30) == 2
    assert said in log.read_text()
    assert "hunter2" not in log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_database_that_is_not_there_ends_it_without_its_password(tmp_path: Path) -> None:
    log = tmp_path / "log"
    url = f"postgresql+psycopg://u:hunter2@127.0.0.1:{free_port()}/x"
    with running(
        log,
        data_dir=str(tmp_path / "data"),
        database_url=url,
        api_port=str(free_port()),
        grpc_port=str(free_port()),
    ) as process:
        assert process.wait(30) == 1
    assert "the database can't be used" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert "hunter2" not in log.read_text()
