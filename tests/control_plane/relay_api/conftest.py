"""The real application on both databases, set up for one relay that has joined."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from control_plane.app import create_app
from control_plane.settings import Settings
from protos.vocabulary import PrincipalKind
from tests.control_plane.relay_api.relay import RelayClient
from tests.control_plane.serving import Served
from tests.control_plane.tokens import bearer, claims, sign, verifier
from tests.control_plane.world import ANALYSTS, DOCUMENTS
from tests.servers import free_port

ADMIN = bearer(PrincipalKind.USER, "jitgate.admin", name="root")


class Plane:
    """A running control plane."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.client: httpx.Client = served.client
        self.port = served.settings.grpc_port
        self.ca = served.ca_path.read_bytes()

    def relay(self, credential: str = "") -> RelayClient:
        """A channel to it."""
        return RelayClient(self.port, self.ca, credential)

    def joined(self, name: str = "relay-1") -> RelayClient:
        """A relay that has joined."""
        made = self.client.post(f"/api/v1/relays/{name}/join-tokens", headers=ADMIN)
        made.raise_for_status()
        relay = self.relay()
        relay.join(made.json()["join_token"])
        return relay

    def get(self, path: str, headers: dict[str, str] = ADMIN) -> httpx.Response:
        """Read from the API."""
        return self.client.get(f"/api/v1{path}", headers=headers)

    def post(
        self, path: str, body: object = None, headers: dict[str, str] = ADMIN
    ) -> httpx.Response:
        """Act by the API."""
        return self.client.post(f"/api/v1{path}", json=body, headers=headers)


def agent_token(name: str = "agent-one", *groups: str) -> str:
    """An agent's token; of the analysts unless groups are given."""
    return sign(claims(PrincipalKind.AGENT, name=name, groups=list(groups or (ANALYSTS,))))


@pytest.fixture
def plane(empty_database_url: str, tmp_path: Path) -> Iterator[Plane]:
    """The application with documents and a credential, and nobody connected."""
    settings = Settings(
        data_dir=tmp_path / "data",
        database_url=empty_database_url,  # type: ignore[arg-type]
        api_port=free_port(),
        grpc_port=free_port(),
    )
    with Served(create_app(settings, verifier=verifier()), settings) as served:
        plane = Plane(served)
        applied = plane.client.post(
            "/api/v1/apply",
            content=DOCUMENTS,
            headers=ADMIN | {"Content-Type": "application/yaml"},
        )
        assert applied.status_code == 200, applied.text
        stored = plane.client.put(
            "/api/v1/credentials/orders-gateway",
            json={"username": "app", "password": "hunter2"},
            headers=ADMIN,
        )
        assert stored.status_code == 200, stored.text
        yield plane


@pytest.fixture
def relay(plane: Plane) -> Iterator[RelayClient]:
    """A relay that has joined."""
    with plane.joined() as joined:
        yield joined
