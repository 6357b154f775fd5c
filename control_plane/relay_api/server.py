"""The gRPC server: its port, its TLS, its limits, and what runs beside it.

There is no generated servicer: the handlers are matched with the service's descriptor, so a
method that is in the contract and not here fails at start.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf.message_factory import GetMessageClass

from control_plane.approvals.service import ApprovalService
from control_plane.approvals.waiting import WaitingRoom
from control_plane.relay_api.calls import stream, unary
from control_plane.relay_api.gateway import LOOK_SECONDS, Gateway, Services
from control_plane.relays.authority import IssuedCertificate
from control_plane.sessions.events import EventFeed
from control_plane.settings import Settings
from protos.jitgate.v1 import gateway_pb2 as pb

SWEEP_SECONDS = 30.0
_OPTIONS = (
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    # A relay behind a dead network is noticed, and its own pings are welcome.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Two servers on one port would each get some of the relays.
    ("grpc.so_reuseport", 0),
)
_MAX_CALLS = 20_000


@dataclass(frozen=True, slots=True)
class RelayServer:
    """A server that runs, and the port that it is bound to."""

    server: grpc.aio.Server
    port: int
    gateway: Gateway
    tasks: tuple[asyncio.Task[None], ...]

    async def stop(self, grace: float | None = 1.0) -> None:
        """End every call, after ``grace`` seconds by force."""
        for task in self.tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.server.stop(grace)
        self.gateway.close()


async def serve(
    services: Services,
    approvals: ApprovalService,
    events: EventFeed,
    settings: Settings,
    certificate: IssuedCertificate,
    *,
    look_seconds: float = LOOK_SECONDS,
) -> RelayServer:
    """Start serving relays on ``settings.grpc_host`` and ``grpc_port`` (0: any free port).

    Raises OSError where the port can't be had. ``services.wakeups`` must be bound to the loop
    that this is called in. It also sweeps: what expires while nobody looks is written down.
    """
    room = WaitingRoom(services.holds, services.wakeups)
    gateway = Gateway(services, room, settings.url, look_seconds)
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MAX_CALLS)
    server.add_generic_rpc_handlers((_handlers(gateway),))
    keys = [(certificate.key_pem.encode(), certificate.chain_pem.encode())]
    host = f"[{settings.grpc_host}]" if ":" in settings.grpc_host else settings.grpc_host
    try:
        port = server.add_secure_port(
            f"{host}:{settings.grpc_port}", grpc.ssl_server_credentials(keys)
        )
    except RuntimeError as error:
        gateway.close()
        raise OSError(f"relays can't be served on port {settings.grpc_port}") from error
    await server.start()
    sweeps = (approvals.sweep, services.sessions.sweep, events.prune)
    tasks = tuple(asyncio.create_task(work) for work in (room.run(), sweeping(sweeps)))
    return RelayServer(server, port, gateway, tasks)


def _handlers(gateway: Gateway) -> grpc.GenericRpcHandler[Any, Any]:
    service = pb.DESCRIPTOR.services_by_name["Gateway"]
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in service.methods:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
        behaviour = getattr(gateway, name)
        make: Callable[..., grpc.RpcMethodHandler[Any, Any]]
        match method.client_streaming, method.server_streaming:
            case False, False:
                make, behaviour = grpc.unary_unary_rpc_method_handler, unary(behaviour)
            case False, True:
                make, behaviour = grpc.unary_stream_rpc_method_handler, stream(behaviour)
            case _:
                make, behaviour = grpc.stream_stream_rpc_method_handler, stream(behaviour)
        handlers[method.name] = make(
            behaviour,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


async def sweeping(sweeps: tuple[Callable[[], int], ...]) -> None:
    """Do every sweep now and then, until cancelled."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        for sweep in sweeps:
            try:
                await asyncio.to_thread(sweep)
            except Exception as error:  # noqa: BLE001  # whatever it is, the next must run
                # The database can be away for a while; the next round tries again.
                structlog.get_logger(__name__).warning("sweep failed", error=type(error).__name__)
