"""Runs ``jitgate`` in tests, and a small real HTTP server that says what a test wants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import typer.testing

from control_plane.cli.app import app

ROOT = Path(__file__).parents[3]
_UNSET = dict.fromkeys(
    [
        *(f"JITGATE_{name}" for name in ("API", "CA", "TOKEN", "TOKEN_URL", "SCOPE")),
        *(f"JITGATE_CLIENT_{name}" for name in ("ID", "SECRET")),
        *("FORCE_COLOR", "NO_COLOR", "COLUMNS", "TERMINAL_WIDTH"),
    ]
)


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, out of JSON."""
        return json.loads(self.out)


def jitgate(*arguments: str, input: str = "", **environment: str) -> Done:
    """Run the command in this process, with nothing of this process's environment."""
    result = typer.testing.CliRunner().invoke(
        app, list(arguments), input=input, env={**_UNSET, **environment}
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def jitgate_process(*arguments: str, input: bytes = b"", **environment: str) -> Done:
    """Run the command as a program of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in _UNSET}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "control_plane.cli", *arguments],
        input=input,
        capture_output=True,
        cwd=ROOT,
        env={**kept, "PYTHONUTF8": "1", **environment},
        timeout=60,
        check=False,
    )
    return Done(result.returncode, result.stdout.decode(), result.stderr.decode())


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer; no status: hang up without a word."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, content: Any, status: int = 200) -> Answer:
        """An answer of JSON."""
        return cls(status, json.dumps(content).encode(), {"Content-Type": "application/json"})


class Scripted:
    """A server on loopback that answers by ``script``; ``asked`` is what it was asked."""

    def __init__(self, script: Callable[[Asked], Answer]) -> None:
        self.asked: list[Asked] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _handle(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                asked = Asked(self.command, self.path, dict(self.headers), self.rfile.read(length))
                outer.asked.append(asked)
                answer = script(asked)
                self.close_connection = True
                if not answer.status:
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST = do_PUT = do_DELETE = _handle

            def log_message(self, *_: object) -> None:
                """Be silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(30)
        self._server.server_close()
