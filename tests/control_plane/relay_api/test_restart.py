"""A control plane that dies in the middle, as a process of its own, and comes back."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import pytest

from tests.control_plane.relay_api.relay import RelayClient, batch
from tests.control_plane.serving import eventually
from tests.control_plane.test_main import running
from tests.control_plane.tokens import AUDIENCE, TENANT, guid
from tests.control_plane.world import ANALYSTS, APPROVERS, DOCUMENTS, Chain
from tests.servers import free_port

PEOPLE = {
    "root": {"kind": "user", "roles": ["jitgate.admin"]},
    "ada": {"kind": "user", "roles": ["jitgate.approver"], "groups": [APPROVERS]},
    "agent": {"kind": "agent", "groups": [ANALYSTS]},
}


class Deployment:
    """Settings and files of a control plane that is started again and again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.api, self.grpc = free_port(), free_port()
        identities = [
            {
                "client_id": guid(f"client {name}"),
                "client_secret": "not-so-secret",
                "object_id": guid(name),
                "name": name,
            }
            | person
            for name, person in PEOPLE.items()
        ]
        issuer = {"tenant": TENANT, "audience": AUDIENCE, "identities": identities}
        (directory / "issuer.json").write_text(json.dumps(issuer))

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The program, answering."""
        log = self.directory / "log"
        settings = {
            "data_dir": str(self.directory / "data"),
            "cloud": "development",
            "development_issuer": str(self.directory / "issuer.json"),
            "api_port": str(self.api),
            "grpc_port": str(self.grpc),
        }
        with running(log, **settings) as process:

            def answers() -> bool:
                if process.poll() is not None:
                    pytest.fail(log.read_text())
                try:
                    with self.client() as client:
                        return client.get("/readyz").status_code == 200
                except (httpx.TransportError, OSError):
                    return False

            eventually(answers, 40)
            yield process

    @property
    def ca(self) -> Path:
        """What it is known by."""
        return self.directory / "data" / "ca.pem"

    def client(self, name: str = "") -> httpx.Client:
        """A client of the API; with a name, with that identity's token."""
        client = httpx.Client(
            base_url=f"https://127.0.0.1:{self.api}",
            verify=ssl.create_default_context(cafile=str(self.ca)),
            trust_env=False,
            timeout=20,
        )
        if name:
            client.headers["authorization"] = f"Bearer {self.token(name)}"
        return client

    def token(self, name: str) -> str:
        """An access token by client credentials."""
        form = {
            "grant_type": "client_credentials",
            "client_id": guid(f"client {name}"),
            "client_secret": "not-so-secret",
            "scope": f"{AUDIENCE}/.default",
        }
        with self.client() as client:
            answer = client.post(f"/development/{TENANT}/oauth2/v2.0/token", data=form)
        answer.raise_for_status()
        token: str = answer.json()["access_token"]
        return token

    def relay(self, credential: str = "") -> RelayClient:
        """A channel for a relay."""
        return RelayClient(self.grpc, self.ca.read_bytes(), credential)

    def prepare(self) -> RelayClient:
        """Documents, a credential, and a relay that joins."""
        with self.client("root") as admin:
            yaml = {"content-type": "application/yaml"}
            admin.post("/api/v1/apply", content=DOCUMENTS, headers=yaml).raise_for_status()
            body = {"username": "app", "password": "hunter2"}
            admin.put("/api/v1/credentials/orders-gateway", json=body).raise_for_status()
            made = admin.post("/api/v1/relays/relay-1/join-tokens")
            made.raise_for_status()
        relay = self.relay()
        relay.join(made.json()["join_token"])
        return relay


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


def test_what_was_acknowledged_survives_the_kill_and_the_rest_comes_later(
    deployment: Deployment,
) -> None:
    with deployment.running() as process:
        relay = deployment.prepare()
        grant = relay.open(deployment.token("agent"))
        assert grant.session, grant.denied_code
        chain = Chain.whole(grant.session)
        approval, hold = relay.ask(grant.session)
        waiting = relay.wait(approval, hold)
        acks = relay.record([batch(1, chain.frames[0]), batch(2, b"".join(chain.frames[1:4]))])
        assert [ack.position for ack in acks] == [1, 2]
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(grpc.RpcError):
            waiting.result()
        relay.close()

    with deployment.running(), deployment.relay(relay.credential) as again:
        session = f"/api/v1/sessions/{grant.session}"
        with deployment.client("root") as admin:
            found = admin.get(f"{session}/verification").json()
            assert (found["valid"], found["entries"]) == (True, 4)

            updates = again.watch("boot-1", grant.session)
            assert [p.name for p in next(updates).policies.policies] == ["analysts"]
            updates.cancel()

            waiting = again.wait(approval, hold)
            with deployment.client("ada") as ada:
                decision = {"decision": "approve"}
                path = f"/api/v1/approvals/{approval.approval_id}/decisions"
                ada.post(path, json=decision).raise_for_status()
            assert waiting.result().verdict.code == "approved"

            # A relay begins again from the first byte that it still has.
            acks = again.record([batch(2, b"".join(chain.frames[:4])), batch(3, chain.bytes)])
            assert [ack.position for ack in acks] == [2, 3]
            found = admin.get(f"{session}/verification").json()
            assert (found["valid"], found["state"]) == (True, "closed")
            assert admin.get(f"{session}/recording").content == chain.bytes


def test_it_stops_in_time_while_streams_are_open(deployment: Deployment) -> None:
    with deployment.running() as process:
        relay = deployment.prepare()
        updates = relay.watch()
        next(updates)
        client = deployment.client("ada")
        with client, client.stream("GET", "/api/v1/events") as events:
            next(events.iter_lines())
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(20)
            assert time.monotonic() - began < 15
        with pytest.raises(grpc.RpcError):
            list(updates)
        relay.close()
    assert "Traceback" not in (deployment.directory / "log").read_text()


def test_the_same_files_give_the_same_keys_again(deployment: Deployment) -> None:
    with deployment.running():
        relay = deployment.prepare()
        updates = relay.watch()
        first = next(updates)
        updates.cancel()
        relay.close()
    with deployment.running(), deployment.relay(relay.credential) as again:
        updates = again.watch("boot-2")
        second = next(updates)
        updates.cancel()
        assert second.masking_key == first.masking_key
        assert second.policies.version == first.policies.version
        grant = again.open(deployment.token("agent"))
        assert grant.credential.password == "hunter2"
