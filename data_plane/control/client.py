"""The typed client of the control plane: what a relay says and asks, in the vocabulary.

Counterparts: ``protos/jitgate/v1/gateway.proto`` and ``control_plane.relay_api``. It decides
nothing; a failure is one of two: :class:`Refused`, somebody said no, or :class:`Unavailable`,
nobody answered.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from data_plane.control.bridge import Bridge, CallFailed
from protos import wire
from protos.jitgate.v1 import gateway_pb2 as pb
from protos.policy import PolicySet
from protos.vocabulary import Credential, Operation, Principal, Target, Verdict

CALL_SECONDS = 10.0


class Refused(Exception):
    """The control plane said no; ``code`` is stable, ``reason`` may be read by the agent."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Unavailable(Exception):
    """The control plane didn't answer; trying again later may help."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What makes this process a relay. ``credential`` is set only for a join token."""

    relay: str
    credential: str = field(repr=False)
    certificate: str
    private_key: str = field(repr=False)
    certificate_expires_at: int


@dataclass(frozen=True, slots=True)
class Lease:
    """An open session: who, where, with which credential, until when (epoch seconds)."""

    session: str
    principal: Principal
    target: Target
    credential: Credential = field(repr=False)
    expires_at: int


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered hold; times in seconds since the epoch."""

    approval_id: str
    url: str
    hold_until: int
    valid_until: int


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """The control plane wants a session ended."""

    session: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Question:
    """The control plane asks how a statement would be classified."""

    id: str
    protocol: str
    target: str
    text: str


@dataclass(frozen=True, slots=True)
class Update:
    """One message of the policy stream; what is ``None`` or empty is unchanged."""

    policies: PolicySet | None = None
    masking_key: bytes | None = field(default=None, repr=False)
    ended: tuple[SessionEnd, ...] = ()
    question: Question | None = None


class ControlPlane:
    """The calls of the contract."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def enrol(
        self, *, join_token: str = "", credential: str = "", hosts: Iterable[str], version: str
    ) -> Enrolment:
        """Join with a token, or renew the certificate with the credential."""
        answer = await self._call(
            "Enrol",
            pb.EnrolRequest(
                join_token=join_token, credential=credential, hosts=list(hosts), version=version
            ),
        )
        self._bridge.authorize(answer.credential or credential)
        return Enrolment(
            answer.relay,
            answer.credential,
            answer.certificate,
            answer.private_key,
            answer.certificate_expires_at,
        )

    def authorize(self, credential: str) -> None:
        """Use a credential from an earlier enrolment."""
        self._bridge.authorize(credential)

    async def open_session(
        self, *, token: str, target: str, protocol: str, client_address: str
    ) -> Lease:
        """Open a session for the token's bearer; :class:`Refused` says why there is none."""
        grant = await self._call(
            "OpenSession",
            pb.OpenSessionRequest(
                token=token, target=target, protocol=protocol, client_address=client_address
            ),
        )
        if grant.denied_code or not grant.session:
            raise Refused(grant.denied_code or "denied", grant.denied_reason)
        return Lease(
            grant.session,
            wire.principal_from_wire(grant.principal),
            wire.target_from_wire(grant.target),
            wire.credential_from_wire(grant.credential),
            grant.expires_at,
        )

    async def request_approval(
        self,
        *,
        hold_id: str,
        session: str,
        operation: Operation,
        verdict: Verdict,
        policy_version: str,
    ) -> Registered:
        """Register a hold, or find the approval that it may use. Idempotent by ``hold_id``."""
        answer = await self._call(
            "RequestApproval",
            pb.ApprovalRequest(
                hold_id=hold_id,
                session=session,
                operation=wire.operation_to_wire(operation),
                verdict=wire.verdict_to_wire(verdict),
                policy_version=policy_version,
            ),
        )
        return Registered(answer.approval_id, answer.url, answer.hold_until, answer.valid_until)

    async def await_approval(self, approval_id: str, hold_id: str) -> Verdict:
        """Wait for the decision, as long as it takes; consumes the approval for ``hold_id``."""
        answer = await self._call(
            "AwaitApproval",
            pb.AwaitRequest(approval_id=approval_id, hold_id=hold_id),
            seconds=None,
        )
        return wire.verdict_from_wire(answer.verdict)

    async def withdraw_approval(self, approval_id: str, hold_id: str, reason: str) -> None:
        """Say that the agent no longer wants the operation."""
        await self._call(
            "WithdrawApproval",
            pb.Withdrawal(approval_id=approval_id, hold_id=hold_id, reason=reason),
        )

    async def answer(self, question: Question, operation: Operation) -> None:
        """Answer a question of the policy stream."""
        await self._call(
            "Answer",
            pb.ClassifyAnswer(id=question.id, operation=wire.operation_to_wire(operation)),
        )

    @contextlib.asynccontextmanager
    async def watch(
        self, *, boot_id: str, version: str, protocols: Sequence[str], sessions: Sequence[str]
    ) -> AsyncIterator[AsyncIterator[Update]]:
        """The policy stream; iterating raises as the calls do."""
        hello = pb.Hello(boot_id=boot_id, version=version, protocols=protocols, sessions=sessions)
        async with self._bridge.stream("WatchPolicy", hello) as messages:
            yield _updates(messages)

    @contextlib.asynccontextmanager
    async def record(self) -> AsyncIterator[RecordStream]:
        """A stream of recordings; iterating its acknowledgements raises as the calls do."""
        async with self._bridge.duplex("Record") as (send, answers):
            yield RecordStream(send, answers)

    async def _call(
        self, method: str, request: Message, seconds: float | None = CALL_SECONDS
    ) -> Any:
        try:
            return await self._bridge.call(method, request, seconds)
        except CallFailed as error:
            raise _translated(error) from None


class RecordStream:
    """One ``Record`` call."""

    def __init__(
        self, send: Callable[[pb.RecordBatch], None], answers: AsyncIterator[pb.RecordAck]
    ) -> None:
        self._send = send
        self._answers = answers

    def send(self, position: int, frames: bytes) -> None:
        """Queue a batch; what is under way is bounded by the caller."""
        self._send(pb.RecordBatch(position=position, frames=frames))

    async def acknowledgements(self) -> AsyncIterator[int]:
        """Positions up to which everything is durable."""
        try:
            async for answer in self._answers:
                yield answer.position
        except CallFailed as error:
            raise Unavailable(str(error)) from None


async def _updates(messages: AsyncIterator[pb.PolicyUpdate]) -> AsyncIterator[Update]:
    try:
        async for message in messages:
            yield Update(
                wire.policies_from_wire(message.policies) if message.HasField("policies") else None,
                message.masking_key or None,
                tuple(SessionEnd(end.session, end.code, end.reason) for end in message.ended),
                Question(
                    message.question.id,
                    message.question.protocol,
                    message.question.target,
                    message.question.text,
                )
                if message.HasField("question")
                else None,
            )
    except CallFailed as error:
        raise _translated(error) from None


def _translated(error: CallFailed) -> Exception:
    if error.unavailable:
        return Unavailable(error.message)
    return Refused(error.code or error.status.name.lower(), error.message)
