"""Uploads the spool to the control plane, and resumes where it was acknowledged.

Counterparts: :class:`data_plane.recording.spool.Spool` and the ``Record`` call. After any
break it begins again from the first byte that is still in the spool: the control plane knows
by session and sequence what it already has, so nothing is lost or kept twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog
import trio
import zstandard

from data_plane.recording.spool import Spool

BATCH_BYTES = 512 << 10
WINDOW_BYTES = 8 << 20
"""What may be under way without an acknowledgement."""
LINGER_SECONDS = 0.1
"""How long a small batch waits for company; a live view lags by so much."""
RETRY_SECONDS = (0.2, 5.0)

log = structlog.get_logger(__name__)


class RecordStream(Protocol):
    """One ``Record`` call: batches out, acknowledged positions in."""

    def send(self, position: int, frames: bytes) -> None: ...
    def acknowledgements(self) -> AsyncIterator[int]: ...


class Uploader:
    """Runs for as long as the relay does."""

    def __init__(
        self,
        spool: Spool,
        connect: Callable[[], AbstractAsyncContextManager[RecordStream]],
        unavailable: type[Exception],
    ) -> None:
        self._spool = spool
        self._connect = connect
        self._unavailable = unavailable
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._acknowledged = spool.start
        self._progress = trio.Event()
        self._retry_seconds = RETRY_SECONDS[0]

    async def drain(self, seconds: float) -> bool:
        """Wait, at most ``seconds``, until all that is spooled is acknowledged."""
        with trio.move_on_after(seconds):
            while self._acknowledged < self._spool.position:
                await self._wait_for_progress()
        return self._acknowledged >= self._spool.position

    async def run(self) -> None:
        """Upload for ever; every failure of the control plane is waited out."""
        while True:
            try:
                async with self._connect() as stream, trio.open_nursery() as nursery:
                    nursery.start_soon(self._receive, stream)
                    await self._send(stream)
            except* self._unavailable as group:
                log.warning(
                    "recordings wait on disk",
                    reason=str(group.exceptions[0]),
                    bytes=self._spool.used,
                )
            await trio.sleep(self._retry_seconds)
            self._retry_seconds = min(self._retry_seconds * 2, RETRY_SECONDS[1])

    async def _send(self, stream: RecordStream) -> None:
        sent = self._acknowledged = self._spool.start
        while True:
            if sent - self._acknowledged >= WINDOW_BYTES:
                await self._wait_for_progress()
                continue
            if self._spool.position - sent < BATCH_BYTES:
                await trio.sleep(LINGER_SECONDS)
            frames = self._spool.read(sent, BATCH_BYTES)
            if frames:
                sent += len(frames)
                stream.send(sent, self._compressor.compress(frames))

    async def _receive(self, stream: RecordStream) -> None:
        async for position in stream.acknowledgements():
            self._retry_seconds = RETRY_SECONDS[0]
            self._acknowledged = max(self._acknowledged, position)
            self._spool.release(position)
            self._progress.set()
        raise self._unavailable("the control plane ended the upload")

    async def _wait_for_progress(self) -> None:
        if self._progress.is_set():
            self._progress = trio.Event()
        await self._progress.wait()
