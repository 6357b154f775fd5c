"""A running gateway: the demonstration's parts, driven through their public interfaces.

Real processes, the public REST API, real clients and signals; nothing of the planes is imported.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from deploy.demo.gateway import Gateway as DemoGateway
from deploy.demo.people import Person, cast
from deploy.demo.processes import Child
from deploy.demo.surroundings import choose_ports, clean_environment
from deploy.demo.target import Target, fill, place
from deploy.demo.target import start as start_target

PATIENCE = 30.0


def until(look: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """What ``look`` gives once it is true; fails after ``seconds``, saying ``what`` is missing."""
    deadline = time.monotonic() + seconds
    waiting = threading.Event()
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not seen within {seconds} s: {what}")
        waiting.wait(0.05)
    return seen


class Gateway:
    """The demonstration's parts, each of which can be stopped and started again.

    ``demo`` starts them as its operator would; what is asked of them afterwards goes through
    the public API and through real clients.
    """

    def __init__(self, directory: Path) -> None:
        directory.chmod(0o711)
        self.directory = directory
        self._environment = clean_environment()
        ports = choose_ports({})
        self.demo = DemoGateway(directory, ports, cast(), self._environment)
        self.target = Target(ports.target, place(directory / "target"), directory / "target.log")
        self.port = ports.relay
        self.host = "127.0.0.1"
        self.ca = self.demo.ca_file
        self._children: dict[str, Child] = {}
        self._tokens: dict[str, str] = {}

    def start(self, part: str) -> None:
        """Start ``target``, ``control_plane`` or ``relay``."""
        if part in self._children:
            self._children.pop(part).stop()
        match part:
            case "target":
                self._children[part] = start_target(self.target, self._environment)
            case "control_plane":
                self._children[part] = self.demo.start_control_plane()
                self._tokens.clear()  # The development issuer makes a new key at every start.
            case "relay":
                self._children[part] = self.demo.start_relay()
            case _:
                raise ValueError(part)

    def stop(self, part: str) -> None:
        """Kill a part without warning."""
        self._children[part].kill()

    def child(self, part: str) -> Child:
        """The process of a part, to be stopped in order."""
        return self._children[part]

    def pid(self, part: str) -> int:
        """The process of a part."""
        return self._children[part].pid

    def close(self) -> None:
        """Stop everything, in the reverse order of starting."""
        for child in reversed(self._children.values()):
            child.stop()
        # As root it can be elsewhere: see deploy.demo.target.place.
        shutil.rmtree(self.target.directory, ignore_errors=True)

    def identity(self, name: str) -> Person:
        """Somebody of the demonstration by name, or by part: ``approver``, ``auditor``..."""
        everybody = self.demo.cast
        match name:
            case "administrator":
                return everybody.administrator
            case "auditor":
                return everybody.auditor
            case "approver":
                return everybody.approvers[0]
            case "second-approver":
                return everybody.approvers[1]
        return next(agent for agent in everybody.agents if agent.name == name)

    def token(self, name: str) -> str:
        """An access token, by client credentials; asked for once."""
        if name not in self._tokens:
            self._tokens[name] = self.demo.token(self.identity(name))
        return self._tokens[name]

    def call(self, method: str, path: str, who: str = "administrator", **kwargs: Any) -> Any:
        """A call of the API that must succeed; its JSON."""
        answer = self.answer(method, path, who, **kwargs)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def answer(
        self, method: str, path: str, who: str = "administrator", **kwargs: Any
    ) -> httpx.Response:
        """A call of the API."""
        headers = {"Authorization": f"Bearer {self.token(who)}", **kwargs.pop("headers", {})}
        with self.demo.http() as client:
            return client.request(method, path, headers=headers, **kwargs)

    def apply(self, documents: str) -> Any:
        """Apply documents as the administrator."""
        return self.call(
            "POST",
            "/api/v1/apply",
            content=documents,
            headers={"Content-Type": "application/yaml"},
        )

    def parameters(self, agent: str, database: str = "orders", **more: Any) -> dict[str, Any]:
        """Connection parameters as an agent."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": database,
            "user": agent,
            "password": self.token(agent),
            "sslmode": "verify-full",
            "sslrootcert": str(self.ca),
            "connect_timeout": 15,
            **more,
        }

    def connect(
        self, agent: str = "reporting-agent", database: str = "orders", **more: Any
    ) -> psycopg.Connection[Any]:
        """A connection through the relay, in autocommit unless said otherwise."""
        autocommit = more.pop("autocommit", True)
        return psycopg.connect(**self.parameters(agent, database, **more), autocommit=autocommit)

    def superuser(self) -> psycopg.Connection[Any]:
        """A connection to the target itself, past the gateway."""
        return self.target.connect()

    def pending(self, text: str, who: str = "approver") -> dict[str, Any]:
        """The pending approval of an operation with this text, once there is one."""

        def look() -> Any:
            items = self.call("GET", "/api/v1/approvals?state=pending&limit=200", who)["items"]
            return [item for item in items if text in json.dumps(item)]

        return dict(until(look, f"a pending approval of {text!r}")[0])

    def decide(
        self, approval_id: str, decision: str = "approve", who: str = "approver", **more: Any
    ) -> Any:
        """Approve or deny."""
        return self.call(
            "POST",
            f"/api/v1/approvals/{approval_id}/decisions",
            who,
            json={"decision": decision, "reason": "tested", **more},
        )

    @contextmanager
    def held(
        self, statement: str, agent: str = "reporting-agent", **more: Any
    ) -> Iterator[tuple[dict[str, Any], Attempt]]:
        """A statement that waits for a human, on a connection and a thread of its own."""
        with self.connect(agent, **more) as connection:
            attempt = Attempt(connection, statement)
            try:
                yield self.pending(statement), attempt
            finally:
                attempt.finish()


class Attempt:
    """A statement being executed in a thread: its result or error, and its notices."""

    def __init__(
        self, connection: psycopg.Connection[Any], statement: str, values: Sequence[Any] = ()
    ) -> None:
        self.connection = connection
        self.notices: list[str] = []
        self.tag = ""
        self.error: psycopg.Error | None = None
        connection.add_notice_handler(
            lambda notice: self.notices.append(f"{notice.message_primary} {notice.message_detail}")
        )
        self._thread = threading.Thread(target=self._run, args=(statement, values), daemon=True)
        self._thread.start()

    def _run(self, statement: str, values: Sequence[Any]) -> None:
        try:
            cursor = self.connection.execute(statement.encode(), values or None)
            self.tag = cursor.statusmessage or ""
        except psycopg.Error as error:
            self.error = error

    @property
    def running(self) -> bool:
        """Whether it still waits."""
        return self._thread.is_alive()

    def finish(self, seconds: float = PATIENCE) -> Attempt:
        """Wait for its end."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the statement still waits"
        return self


@contextmanager
def running(directory: Path) -> Iterator[Gateway]:
    """A gateway with the demonstration's data and policies; stopped at the end."""
    gateway = Gateway(directory)
    try:
        gateway.start("target")
        fill(gateway.target)
        gateway.start("control_plane")
        gateway.demo.configure(gateway.target)
        gateway.start("relay")
        yield gateway
    finally:
        gateway.close()
