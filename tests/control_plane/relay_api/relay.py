"""A relay for tests: real gRPC over TLS, blocking, without anything that a relay decides."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from typing import Any, Self

import grpc
import zstandard
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from protos.jitgate.v1 import gateway_pb2 as pb
from protos.vocabulary import ApprovalTerms, Operation, Outcome, Verdict
from protos.wire import operation_to_wire, verdict_to_wire
from tests.control_plane.world import operation, terms

SECONDS = 20.0
_METHODS = pb.DESCRIPTOR.services_by_name["Gateway"].methods_by_name


class RelayClient:
    """A channel and a credential. Every call has a deadline, so that no test hangs."""

    def __init__(self, port: int, ca: bytes, credential: str = "") -> None:
        self._channel = grpc.secure_channel(
            f"127.0.0.1:{port}",
            grpc.ssl_channel_credentials(ca),
            options=(("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", 64 << 20)),
        )
        self.credential = credential

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the channel."""
        self._channel.close()

    def join(self, token: str) -> None:
        """Enrol with a join token."""
        request = pb.EnrolRequest(join_token=token, version="0.1.0")
        self.credential = self.call("Enrol", request).credential

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return (("authorization", f"Bearer {self.credential}"),) if self.credential else ()

    def call(self, name: str, request: Message, **options: Any) -> Any:
        """A unary call."""
        return self.future(name, request, **options).result()

    def future(self, name: str, request: Message, **options: Any) -> Any:
        """A unary call under way."""
        stub = self._stub(self._channel.unary_unary, name)
        return stub.future(request, **({"timeout": SECONDS, "metadata": self.metadata} | options))

    def watch(self, boot: str = "boot-1", *sessions: str) -> Any:
        """The policy stream."""
        hello = pb.Hello(
            boot_id=boot, version="0.1.0", protocols=["postgres"], sessions=list(sessions)
        )
        stub = self._stub(self._channel.unary_stream, "WatchPolicy")
        return stub(hello, timeout=SECONDS, metadata=self.metadata)

    def record(self, batches: Iterable[pb.RecordBatch]) -> Any:
        """The recording stream."""
        stub = self._stub(self._channel.stream_stream, "Record")
        return stub(iter(batches), timeout=SECONDS, metadata=self.metadata)

    def _stub(self, kind: Any, name: str) -> Any:
        method = _METHODS[name]
        return kind(
            f"/jitgate.v1.Gateway/{name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )

    def open(self, token: str, target: str = "orders") -> pb.Grant:
        """Open a session."""
        request = pb.OpenSessionRequest(
            token=token, target=target, protocol="postgres", client_address="10.0.0.7:1"
        )
        grant: pb.Grant = self.call("OpenSession", request)
        return grant

    def ask(
        self,
        session: str,
        what: Operation | None = None,
        by: ApprovalTerms | None = None,
        hold_id: str = "",
    ) -> tuple[pb.Approval, str]:
        """Register a held operation."""
        hold_id = hold_id or secrets.token_hex(16)
        verdict = Verdict(Outcome.APPROVE, "approval_required", "it deletes", "p/r", by or terms())
        request = pb.ApprovalRequest(
            hold_id=hold_id,
            session=session,
            operation=operation_to_wire(what or operation()),
            verdict=verdict_to_wire(verdict),
            policy_version="v1",
        )
        return self.call("RequestApproval", request), hold_id

    def wait(self, approval: pb.Approval, hold_id: str) -> Any:
        """Wait for the decision, as a future."""
        request = pb.AwaitRequest(approval_id=approval.approval_id, hold_id=hold_id)
        return self.future("AwaitApproval", request)


def batch(position: int, frames: bytes) -> pb.RecordBatch:
    """Frames as a relay uploads them."""
    return pb.RecordBatch(position=position, frames=zstandard.ZstdCompressor().compress(frames))


def code(error: grpc.RpcError) -> tuple[str, str]:
    """A failed call's status, and the control plane's code."""
    trailing = dict(error.trailing_metadata() or ())  # type: ignore[attr-defined]
    return error.code().name, trailing.get("jitgate-code", "")  # type: ignore[attr-defined]


def first(updates: Iterator[pb.PolicyUpdate], wanted: Any) -> pb.PolicyUpdate:
    """The next update that ``wanted`` says yes to."""
    return next(update for update in updates if wanted(update))
