"""The real application, running, with what the commands are about."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from control_plane.app import create_app
from control_plane.approvals.holds import HoldRequest
from control_plane.sessions.service import Opened
from control_plane.settings import Settings
from protos.vocabulary import ApprovalTerms, EntryKind, Operation, Outcome, PrincipalKind, Verdict
from tests.control_plane.cli.command import Done, jitgate
from tests.control_plane.recordings.transcript import wire
from tests.control_plane.serving import Served
from tests.control_plane.tokens import claims, sign, verifier
from tests.control_plane.world import ANALYSTS, APPROVERS, DOCUMENTS, operation, terms
from tests.servers import free_port

RELAY = "relay-1"


@dataclass(frozen=True, slots=True)
class Gateway:
    """The application, and what a relay would do with it."""

    served: Served

    @property
    def state(self) -> Any:
        """The application's services."""
        return self.served.app.state

    def run(self, *arguments: str, token: str, input: str = "") -> Done:
        """Run a command as somebody; no token is ever in what it prints."""
        done = jitgate(
            *arguments,
            input=input,
            JITGATE_API=self.served.url,
            JITGATE_CA=str(self.served.ca_path),
            JITGATE_TOKEN=token,
        )
        assert token not in done.out + done.err
        return done

    def admin(self, *arguments: str, input: str = "") -> Done:
        """Run a command as an administrator."""
        return self.run(*arguments, token=person("ada", "jitgate.admin"), input=input)

    def auditor(self, *arguments: str) -> Done:
        """Run a command as an auditor."""
        return self.run(*arguments, token=person("otto", "jitgate.auditor"))

    def approver(self, *arguments: str, name: str = "abby") -> Done:
        """Run a command as a member of the approvers."""
        token = person(name, "jitgate.approver", groups=[APPROVERS])
        return self.run(*arguments, token=token)

    def open(self) -> str:
        """Open a session, as a relay does for an agent."""
        token = sign(claims(PrincipalKind.AGENT, name="agent-one", groups=[ANALYSTS]))
        opened = self.state.sessions.open(
            token, "orders", "postgres", "127.0.0.1:5000", RELAY, "boot"
        )
        assert isinstance(opened, Opened), opened
        return opened.session

    def record(self, session: str, *parts: tuple[EntryKind, bytes | dict[str, Any]]) -> bytes:
        """Upload a recording; give back its bytes."""
        data = wire.encoded(wire.entries(*parts, session=session))
        self.state.recordings.append(RELAY, data)
        return data

    def hold(
        self, session: str, what: Operation | None = None, by: ApprovalTerms | None = None
    ) -> str:
        """Hold an operation; give back the approval's id."""
        verdict = Verdict(
            Outcome.APPROVE,
            "approval_required",
            "it deletes everything",
            "analysts/destructive",
            by or terms(),
        )
        held = HoldRequest(secrets.token_hex(16), session, what or operation(), verdict, "v1")
        asked = self.state.holds.request(RELAY, held)
        return str(asked.approval)


def person(name: str, *roles: str, groups: list[str] | None = None) -> str:
    """A human's access token."""
    return sign(claims(PrincipalKind.USER, name=name, roles=list(roles), groups=groups or []))


def _silent(_logger: Any, _name: str, _event: Any) -> Any:
    raise structlog.DropEvent


@pytest.fixture(scope="module")
def silence() -> Iterator[None]:
    """The application shares this process, but not the command's standard output."""
    before = structlog.get_config()
    structlog.configure(processors=[_silent])
    yield
    structlog.configure(**before)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, silence: None) -> Iterator[Gateway]:
    """The application with documents and a credential; a module's tests share it."""
    directory = tmp_path_factory.mktemp("gateway")
    settings = Settings(data_dir=directory / "data", api_port=free_port(), grpc_port=free_port())
    with Served(create_app(settings, verifier=verifier()), settings) as served:
        running = Gateway(served)
        documents = Path(directory / "documents.yaml")
        documents.write_text(DOCUMENTS)
        assert running.admin("apply", "-f", str(documents)).code == 0
        done = running.admin(
            *("credential", "set", "orders-gateway", "--username", "app", "--password-stdin"),
            input="hunter2\n",
        )
        assert done.code == 0
        yield running
