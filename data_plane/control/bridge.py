"""The only file where gRPC's threads meet trio.

grpcio has no trio support. Its synchronous stub is used so that no thread waits for an answer:
a unary call is a future whose callback re-enters trio, a stream has one reader thread. Nothing
here knows what the messages mean; :mod:`data_plane.control.client` does.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

import grpc
import trio
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from protos.jitgate.v1 import gateway_pb2 as pb

OPTIONS = (
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    ("grpc.enable_http_proxy", 0),
)
READ_AHEAD = 64
"""Messages a stream's reader thread may be ahead of trio."""


class CallFailed(Exception):
    """A call ended without an answer. ``code`` is the control plane's own where it gave one.

    ``unavailable`` is true where the same call may succeed later.
    """

    def __init__(self, status: grpc.StatusCode, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    @property
    def unavailable(self) -> bool:
        """Whether nobody said no."""
        return self.status in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.UNKNOWN,
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.UNIMPLEMENTED,
        )


class _Outcome(Protocol):
    """What of a finished call is read here."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str: ...
    def trailing_metadata(self) -> Any: ...


def _failed(error: _Outcome) -> CallFailed:
    trailing = dict(error.trailing_metadata() or ())
    code = trailing.get("jitgate-code", "")
    return CallFailed(error.code(), str(code), error.details() or error.code().name)


class Bridge:
    """A channel to the control plane, used from the trio thread that made it."""

    def __init__(self, address: str, ca: bytes) -> None:
        self._trio = trio.lowlevel.current_trio_token()
        self._channel = grpc.secure_channel(
            address, grpc.ssl_channel_credentials(root_certificates=ca), options=OPTIONS
        )
        self._methods = pb.DESCRIPTOR.services_by_name["Gateway"].methods_by_name
        self._metadata: tuple[tuple[str, str], ...] = ()

    def authorize(self, credential: str) -> None:
        """Use this credential from now on."""
        self._metadata = (("authorization", f"Bearer {credential}"),)

    def close(self) -> None:
        """Drop the channel; calls under way fail."""
        self._channel.close()

    async def call(self, method: str, request: Message, seconds: float | None) -> Any:
        """Make a unary call; raises :class:`CallFailed`. Cancelling it cancels the call.

        ``seconds`` bounds it; ``None`` waits as long as the connection lives.
        """
        future = self._callable(self._channel.unary_unary, method).future(
            request, timeout=seconds, metadata=self._metadata
        )
        done = trio.Event()
        future.add_done_callback(lambda _: self._enter(done.set))
        try:
            await done.wait()
        finally:
            future.cancel()
        error = future.exception()
        if error is not None:
            raise _failed(error) from None
        return future.result()

    @contextlib.asynccontextmanager
    async def stream(self, method: str, request: Message) -> AsyncIterator[AsyncIterator[Any]]:
        """A stream of answers; raises :class:`CallFailed` from the iterator where it breaks."""
        call = self._callable(self._channel.unary_stream, method)(request, metadata=self._metadata)
        async with self._reading(call) as answers:
            yield answers

    @contextlib.asynccontextmanager
    async def duplex(
        self, method: str
    ) -> AsyncIterator[tuple[Callable[[Message], None], AsyncIterator[Any]]]:
        """A stream both ways: what sends a message without blocking, and the answers."""
        outgoing: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        requests: Iterator[Message] = iter(outgoing.get, None)
        call = self._callable(self._channel.stream_stream, method)(
            requests, metadata=self._metadata
        )
        try:
            async with self._reading(call) as answers:
                yield outgoing.put, answers
        finally:
            outgoing.put(None)

    @contextlib.asynccontextmanager
    async def _reading(self, call: Any) -> AsyncIterator[AsyncIterator[Any]]:
        send, receive = trio.open_memory_channel[Any](READ_AHEAD)

        def read() -> None:
            end: CallFailed | None = None
            try:
                for message in call:
                    trio.from_thread.run(send.send, message, trio_token=self._trio)
            except grpc.RpcError:
                end = _failed(call)
            except (trio.RunFinishedError, trio.BrokenResourceError, trio.Cancelled):
                call.cancel()
                return
            with contextlib.suppress(trio.RunFinishedError, trio.BrokenResourceError):
                if end is not None:
                    trio.from_thread.run(send.send, end, trio_token=self._trio)
                trio.from_thread.run_sync(send.close, trio_token=self._trio)

        thread = threading.Thread(target=read, name="grpc-reader", daemon=True)
        thread.start()
        try:
            yield _until_failed(receive)
        finally:
            call.cancel()
            receive.close()

    def _callable(self, kind: Any, method: str) -> Any:
        """The channel's callable of a method, with the types that the contract declares."""
        declared = self._methods[method]
        return kind(
            f"/{declared.containing_service.full_name}/{method}",
            request_serializer=GetMessageClass(declared.input_type).SerializeToString,
            response_deserializer=GetMessageClass(declared.output_type).FromString,
        )

    def _enter(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self._trio.run_sync_soon(function)


async def _until_failed(receive: trio.MemoryReceiveChannel[Any]) -> AsyncIterator[Any]:
    async for message in receive:
        if isinstance(message, CallFailed):
            raise message
        yield message
