"""Accepts clients of one protocol and runs a session for each.

Counterpart: :mod:`data_plane.session`. It bounds how many there are at once; what one of them
does, or doesn't, holds up no other, since every handshake is its session's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count

import structlog
import trio

from data_plane.config import ListenConfig
from data_plane.conversation import ProtocolSpec
from data_plane.session import Session, Surroundings, keep_alive

BACKLOG = 4096

log = structlog.get_logger(__name__)


class Listener:
    """One protocol's port."""

    def __init__(self, relay: Surroundings, spec: ProtocolSpec, config: ListenConfig) -> None:
        self._relay = relay
        self._spec = spec
        self._config = config
        self._open = 0
        self._numbers = count(1)

    async def serve(self, opened: Callable[[str, int], None]) -> None:
        """Accept until cancelled; ``opened`` is told protocol and port once it listens."""
        listeners = await trio.open_tcp_listeners(
            self._config.port, host=self._config.host, backlog=BACKLOG
        )
        opened(self._spec.name, listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(self._serve_one, listeners)

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        self._open += 1
        try:
            try:
                keep_alive(stream)
                address = "{}:{}".format(*stream.socket.getpeername()[:2])
            except OSError:
                await trio.aclose_forcefully(stream)  # It is gone already.
                return
            session = Session(self._relay, self._spec, stream, address, self._cancel_key())
            if self._open > self._relay.limits.connections:
                session.end("too_many_connections", "the relay has too many connections")
            await session.run()
        except* Exception as group:
            # A session's edge: a defect ends that session and no other.
            log.exception("session failed", errors=[type(e).__name__ for e in group.exceptions])
        finally:
            self._open -= 1

    def _cancel_key(self) -> bytes:
        """Unique on this relay by its first half, not to be guessed by its second."""
        number = next(self._numbers) & 0x7FFFFFFF
        return number.to_bytes(4, "big") + os.urandom(4)
