"""The demonstration's control plane and relay, and the two ways to talk to them.

They are started as an operator would start them: settings in the environment, a file of TOML,
documents applied by the ``jitgate`` command, a join token. Nothing is reached behind the API.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import httpx

from deploy.demo.people import AUDIENCE, TENANT, Cast, Person
from deploy.demo.processes import Child, DemoFailed
from deploy.demo.surroundings import ROOT, Ports, write_private
from deploy.demo.target import GATEWAY_ROLE, Target

RELAY = "relay-1"
CREDENTIAL = "orders-gateway"
DOCUMENTS = Path(__file__).parent / "documents"


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where everything of one demonstration is."""

    directory: Path
    ports: Ports
    cast: Cast
    environment: Mapping[str, str]

    @property
    def api_url(self) -> str:
        """The control plane's URL."""
        return f"https://127.0.0.1:{self.ports.api}"

    @property
    def ca_file(self) -> Path:
        """The authority behind every certificate of the demonstration."""
        return self.directory / "control-plane" / "ca.pem"

    @property
    def scope(self) -> str:
        """What tokens are asked for."""
        return f"{AUDIENCE}/.default"

    def token_endpoint(self, tenant: str = TENANT) -> str:
        """Where tokens come from."""
        return f"{self.api_url}/development/{tenant}/oauth2/v2.0/token"

    def log(self, name: str) -> Path:
        """A child's log file."""
        return self.directory / f"{name}.log"

    # Two ways to talk to it

    def http(self) -> httpx.Client:
        """An HTTP client that trusts the demonstration's authority and nothing else."""
        return httpx.Client(
            base_url=self.api_url,
            verify=ssl.create_default_context(cafile=str(self.ca_file)),
            trust_env=False,
            timeout=30,
        )

    def token(self, person: Person) -> str:
        """A fresh access token, by client credentials."""
        with self.http() as client:
            answer = client.post(
                self.token_endpoint(person.tenant),
                data={
                    "grant_type": "client_credentials",
                    "client_id": person.client_id,
                    "client_secret": person.secret,
                    "scope": self.scope,
                },
            )
        if answer.status_code != 200:
            raise DemoFailed(f"no token for {person.name}: {answer.status_code} {answer.text}")
        return str(answer.json()["access_token"])

    def get(self, person: Person, path: str, **query: str) -> Any:
        """What ``GET /api/v1/...`` answers to somebody."""
        headers = {"authorization": f"Bearer {self.token(person)}"}
        with self.http() as client:
            answer = client.get(f"/api/v1/{path}", params=query, headers=headers)
        if answer.status_code != 200:
            raise DemoFailed(f"GET {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def variables(self, person: Person) -> dict[str, str]:
        """What the ``jitgate`` command finds in somebody's environment."""
        return {
            "JITGATE_API": self.api_url,
            "JITGATE_CA": str(self.ca_file),
            "JITGATE_TOKEN_URL": self.token_endpoint(),
            "JITGATE_SCOPE": self.scope,
            "JITGATE_CLIENT_ID": person.client_id,
            "JITGATE_CLIENT_SECRET": person.secret,
        }

    def jitgate(
        self, person: Person, *arguments: str | Path, given: str = "", fails: bool = False
    ) -> str:
        """Run the ``jitgate`` command as somebody; its output, and its errors behind it.

        Raises :class:`DemoFailed` unless it ends as expected: with 0, or, with ``fails``, with 1.
        """
        done = subprocess.run(
            [sys.executable, "-m", "control_plane.cli", *map(str, arguments)],
            input=given,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**self.environment, **self.variables(person), "COLUMNS": "110"},
            check=False,
            timeout=120,
        )
        output = done.stdout + done.stderr
        if done.returncode != (1 if fails else 0):
            shown = " ".join(map(str, arguments))
            raise DemoFailed(f"jitgate {shown} ended with {done.returncode}:\n{output}")
        return output

    # Starting it

    def start_control_plane(self) -> Child:
        """Start it, and wait until it says that it is ready."""
        data = self.directory / "control-plane"
        data.mkdir(mode=0o700, exist_ok=True)
        issuer = data / "development-issuer.json"
        write_private(issuer, json.dumps(self.cast.issuer_file(), indent=2))
        settings = {
            "JITGATE_DATA_DIR": data,
            "JITGATE_API_PORT": self.ports.api,
            "JITGATE_GRPC_PORT": self.ports.grpc,
            "JITGATE_CLOUD": "development",
            "JITGATE_DEVELOPMENT_ISSUER": issuer,
        }
        child = Child(
            "the control plane",
            [sys.executable, "-m", "control_plane"],
            self.log("control-plane"),
            directory=ROOT,
            environment={**self.environment, **{k: str(v) for k, v in settings.items()}},
        )
        return _started(child, self._control_plane_ready, "the start of the control plane")

    def _control_plane_ready(self) -> bool:
        try:
            with self.http() as client:
                return client.get("/readyz").status_code == 200
        except (OSError, httpx.TransportError):
            return False

    def configure(self, target: Target) -> Sequence[str]:
        """Apply the documents and store the target's credential; what the command printed."""
        documents = self.directory / "documents"
        documents.mkdir()
        for source in sorted(DOCUMENTS.glob("*.yaml")):
            text = Template(source.read_text()).substitute(target_port=target.port)
            (documents / source.name).write_text(text)
        admin = self.cast.administrator
        stored = self.jitgate(
            admin, "credential", "set", CREDENTIAL, "--username", GATEWAY_ROLE,
            "--password-stdin", given=target.gateway_password,
        )  # fmt: skip
        applied = self.jitgate(admin, "apply", "-f", documents, "-m", "the demonstration")
        return [*stored.splitlines(), *applied.splitlines()]

    def start_relay(self, needed: Sequence[Child] = ()) -> Child:
        """Start the relay, the first time with a join token, and wait until it listens.

        The first time it needs a control plane; the end of those in ``needed`` ends the wait.
        """
        state = self.directory / "relay"
        state.mkdir(mode=0o700, exist_ok=True)
        if not (state / "relay.json").exists():
            made = self.jitgate(self.cast.administrator, "-o", "json", "relay", "join-token", RELAY)
            write_private(state / "join-token", json.loads(made)["join_token"])
        config = self.directory / "relay.toml"
        if not config.exists():
            config.write_text(
                "# A relay's whole configuration; paths are relative to this file.\n"
                "[relay]\n"
                'state_dir = "relay"\n\n'
                "[control_plane]\n"
                f'address = "127.0.0.1:{self.ports.grpc}"\n'
                'ca = "control-plane/ca.pem"\n'
                'join_token_file = "relay/join-token"\n\n'
                "[listen.postgres]\n"
                'host = "127.0.0.1"\n'
                f"port = {self.ports.relay}\n"
            )
        child = Child(
            "the relay",
            [sys.executable, "-m", "data_plane", "--config", config],
            self.log("relay"),
            directory=ROOT,
            environment=self.environment,
        )
        return _started(child, self._relay_listens, "the start of the relay", needed)

    def _relay_listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.ports.relay), 5).close()
        except OSError:
            return False
        return True


def _started(
    child: Child, ready: Callable[[], bool], what: str, needed: Sequence[Child] = ()
) -> Child:
    try:
        child.wait_until(ready, what, needed)
    except BaseException:
        child.stop()
        raise
    return child
