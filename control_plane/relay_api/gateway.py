"""The calls of the ``Gateway`` service, each a translation between messages and a domain.

The counterpart is :mod:`data_plane.control.client`. Blocking work runs in worker threads; a
call that waits (a watch, a held operation) holds none. Logins have threads of their own, so
that a slow identity provider doesn't hold up decisions and recordings.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import zstandard

from control_plane.approvals.holds import HoldRequest, HoldService
from control_plane.approvals.waiting import WaitingRoom
from control_plane.credentials.service import CredentialService
from control_plane.database import Database
from control_plane.errors import Invalid
from control_plane.policy.service import PolicyService
from control_plane.recordings.service import RecordingService
from control_plane.relay_api.calls import Context, Doorkeeper, Revoked
from control_plane.relays.questions import Questions
from control_plane.relays.service import RelayService
from control_plane.sessions.service import Denial, Ended, SessionService
from control_plane.wakeups import Wakeups
from protos.jitgate.v1 import gateway_pb2 as pb
from protos.policy import PolicySet
from protos.wire import (
    credential_to_wire,
    operation_from_wire,
    policies_to_wire,
    principal_to_wire,
    target_to_wire,
    verdict_from_wire,
    verdict_to_wire,
)

LOOK_SECONDS = 2.0
"""How soon a stream learns what no wake-up told it of: policies, revocations, ended sessions."""
MAX_BATCH = 8 << 20
"""Bytes of frames in one batch, decompressed."""
LOGIN_THREADS = 8

Wire = TypeVar("Wire")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Services:
    """What the calls are answered by."""

    database: Database
    wakeups: Wakeups
    relays: RelayService
    questions: Questions
    policies: PolicyService
    credentials: CredentialService
    sessions: SessionService
    holds: HoldService
    recordings: RecordingService


@dataclass(frozen=True, slots=True)
class _Look:
    policies: PolicySet
    ended: tuple[Ended, ...]


class Gateway:
    """Handlers by the names of the service's methods."""

    def __init__(
        self, services: Services, room: WaitingRoom, console_url: str, look_seconds: float
    ) -> None:
        self._services = services
        self._door = Doorkeeper(services.database, services.relays)
        self._room = room
        self._console_url = console_url
        self._look_seconds = look_seconds
        self._logins = ThreadPoolExecutor(LOGIN_THREADS, "login")
        self._boots: dict[str, str] = {}

    def close(self) -> None:
        """Let its threads end; calls must have."""
        self._logins.shutdown(wait=False, cancel_futures=True)

    async def enrol(self, request: pb.EnrolRequest, _context: Context) -> pb.Enrolment:
        """A join token or a credential for a certificate; the only call without metadata."""
        given = await asyncio.to_thread(
            self._services.relays.enrol,
            request.join_token,
            request.credential,
            tuple(request.hosts),
            request.version,
        )
        return pb.Enrolment(
            relay=given.relay,
            credential=given.credential,
            certificate=given.certificate,
            private_key=given.key,
            certificate_expires_at=int(given.expires_at.timestamp()),
        )

    async def watch_policy(
        self, request: pb.Hello, context: Context
    ) -> AsyncIterator[pb.PolicyUpdate]:
        """Everything a relay decides by, at once and whenever it changes."""
        services = self._services
        credential = self._door.credential(context)
        relay = await asyncio.to_thread(self._door.admit, credential)
        self._boots[relay.name] = request.boot_id
        # Subscribed before the first look, so that nothing changes unheard in between.
        with services.wakeups.subscribe("policy", f"relay:{relay.name}") as woken:
            strangers = await asyncio.to_thread(
                services.sessions.reconcile, relay.name, request.boot_id, tuple(request.sessions)
            )
            update = pb.PolicyUpdate(
                console_url=self._console_url,
                masking_key=services.credentials.masking_key,
                ended=_ended(strangers),
            )
            version: str | None = None
            told: set[str] = set()
            try:
                while True:
                    look = await asyncio.to_thread(self._look, credential, request)
                    if look.policies.version != version:
                        version = look.policies.version
                        update.policies.CopyFrom(policies_to_wire(look.policies))
                    update.ended.extend(
                        _ended(one for one in look.ended if one.session not in told)
                    )
                    # One that the relay has obeyed is forgotten here.
                    told = {one.session for one in look.ended}
                    if update.ByteSize():
                        yield update
                    for question in services.questions.pending(relay.name):
                        yield pb.PolicyUpdate(
                            question=pb.ClassifyQuestion(
                                id=question.id,
                                protocol=question.protocol,
                                target=question.target,
                                text=question.text,
                            )
                        )
                    update = pb.PolicyUpdate()
                    await woken.wait(self._look_seconds)
            finally:
                services.questions.disconnected(relay.name)

    def _look(self, credential: str, hello: pb.Hello) -> _Look:
        services = self._services
        relay = self._door.admit_still(credential)
        with services.database.transaction() as session:
            policies = services.policies.current(session)
            services.relays.seen(
                session,
                relay.id,
                version=hello.version,
                boot=hello.boot_id,
                protocols=tuple(hello.protocols),
            )
        return _Look(policies, services.sessions.to_end(relay.name))

    async def open_session(self, request: pb.OpenSessionRequest, context: Context) -> pb.Grant:
        """A denial is an answer and no error: it is for the agent, not for the relay."""
        credential = self._door.credential(context)

        def opened() -> pb.Grant:
            relay = self._door.admit(credential)
            answer = self._services.sessions.open(
                request.token,
                request.target,
                request.protocol,
                request.client_address,
                relay.name,
                self._boots.get(relay.name, ""),
            )
            if isinstance(answer, Denial):
                return pb.Grant(denied_code=answer.code, denied_reason=answer.reason)
            return pb.Grant(
                session=answer.session,
                principal=principal_to_wire(answer.principal),
                target=target_to_wire(answer.target),
                credential=credential_to_wire(answer.credential),
                expires_at=answer.expires_at,
            )

        return await asyncio.get_running_loop().run_in_executor(self._logins, opened)

    async def request_approval(self, request: pb.ApprovalRequest, context: Context) -> pb.Approval:
        """Register a held operation."""
        credential = self._door.credential(context)

        def requested() -> pb.Approval:
            relay = self._door.admit(credential)
            held = HoldRequest(
                request.hold_id,
                request.session,
                _read(operation_from_wire, request.operation),
                _read(verdict_from_wire, request.verdict),
                request.policy_version,
            )
            asked = self._services.holds.request(relay.name, held)
            return pb.Approval(
                approval_id=asked.approval,
                url=asked.url,
                # Whole seconds: rounded up, so that the relay doesn't give up before us.
                hold_until=math.ceil(asked.hold_until.timestamp()),
                valid_until=int(asked.valid_until.timestamp()),
            )

        return await asyncio.to_thread(requested)

    async def await_approval(self, request: pb.AwaitRequest, context: Context) -> pb.Decision:
        """Wait for the decision; a relay that was shut out meanwhile isn't told of any."""
        credential = self._door.credential(context)
        relay = await asyncio.to_thread(self._door.admit, credential)
        verdict = await self._room.wait(
            relay.name,
            request.approval_id,
            request.hold_id,
            lambda: _ignore(self._door.admit_still(credential)),
        )
        return pb.Decision(verdict=verdict_to_wire(verdict))

    async def withdraw_approval(self, request: pb.Withdrawal, context: Context) -> pb.Withdrawn:
        """The agent gave it up."""
        credential = self._door.credential(context)

        def withdrawn() -> None:
            self._services.holds.withdraw(
                self._door.admit(credential).name,
                request.approval_id,
                request.hold_id,
                request.reason,
            )

        await asyncio.to_thread(withdrawn)
        return pb.Withdrawn()

    async def record(self, _requests: object, context: Context) -> AsyncIterator[pb.RecordAck]:
        """Keep batches in order; each is acknowledged once it is durable."""
        credential = self._door.credential(context)
        relay = await asyncio.to_thread(self._door.admit, credential)
        revoked = asyncio.create_task(self._until_revoked(credential, relay.name))
        reading: asyncio.Task[Any] | None = None
        try:
            while True:
                reading = asyncio.create_task(_next(context))
                await asyncio.wait({reading, revoked}, return_when=asyncio.FIRST_COMPLETED)
                if revoked.done():
                    raise revoked.result()
                batch = reading.result()
                if not isinstance(batch, pb.RecordBatch):
                    return  # The end: gRPC's own mark for it.
                await asyncio.to_thread(self._keep, relay.name, batch.frames)
                yield pb.RecordAck(position=batch.position)
        finally:
            for task in (revoked, reading):
                if task is not None and not task.done():
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    def _keep(self, relay: str, compressed: bytes) -> None:
        self._services.recordings.append(relay, decompressed(compressed))

    async def _until_revoked(self, credential: str, relay: str) -> Revoked:
        with self._services.wakeups.subscribe(f"relay:{relay}") as woken:
            while True:
                try:
                    await asyncio.to_thread(self._door.admit_still, credential)
                except Revoked as error:
                    return error
                await woken.wait(self._look_seconds)

    async def answer(self, request: pb.ClassifyAnswer, context: Context) -> pb.Answered:
        """A classification that was asked for."""
        credential = self._door.credential(context)
        relay = await asyncio.to_thread(self._door.admit, credential)
        operation = _read(operation_from_wire, request.operation)
        self._services.questions.answer(request.id, operation, relay.name)
        return pb.Answered()


def decompressed(data: bytes) -> bytes:
    """The frames of a batch. Raises Invalid (``batch_invalid``), also for one so large that it
    was made to fill our memory.
    """
    try:
        # The size in the header is trusted by the library, so it is looked at before.
        size = zstandard.frame_content_size(data)
        if size > MAX_BATCH:
            raise Invalid("batch_invalid", "the batch is too large")
        return zstandard.ZstdDecompressor(max_window_size=MAX_BATCH).decompress(
            data, max_output_size=MAX_BATCH, allow_extra_data=False
        )
    except zstandard.ZstdError:
        raise Invalid("batch_invalid", "the batch can't be decompressed") from None


async def _next(context: Context) -> Any:
    return await context.read()


def _read(convert: Callable[[Wire], Value], message: Wire) -> Value:
    try:
        return convert(message)
    except ValueError:
        raise Invalid("message_invalid", "the message says something unknown here") from None


def _ended(sessions: Iterable[Ended]) -> list[pb.EndSession]:
    return [
        pb.EndSession(session=one.session, code=one.code, reason=one.reason) for one in sessions
    ]


def _ignore(_: object) -> None:
    """For a call made for its errors."""
