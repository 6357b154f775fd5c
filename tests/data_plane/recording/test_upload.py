import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing
import zstandard

from data_plane.recording import Recorder, Spool
from data_plane.recording.upload import WINDOW_BYTES, Uploader
from protos.chain import parse
from protos.vocabulary import Entry, EntryKind


class Away(Exception):
    pass


class Receiver:
    """A control plane that keeps what it gets, acknowledges, and breaks when told."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.connections = 0
        self.away = False
        self.acknowledge = True
        self._send, self._receive = trio.open_memory_channel[int](10_000)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator["Receiver"]:
        self.connections += 1
        if self.away:
            raise Away("nobody answers")
        self._send, self._receive = trio.open_memory_channel[int](10_000)
        yield self

    def send(self, position: int, frames: bytes) -> None:
        data, offset = zstandard.ZstdDecompressor().decompress(frames), 0
        while parsed := parse(data, offset):
            entry, offset = parsed
            self.entries.append(entry)
        assert offset == len(data)
        if self.acknowledge:
            self._send.send_nowait(position)

    async def acknowledgements(self) -> AsyncIterator[int]:
        async for position in self._receive:
            yield position

    def hang_up(self) -> None:
        self._send.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, 64 << 20)


def recorder(spool: Spool) -> Recorder:
    return Recorder(spool, "ab" * 16, lambda: 1)


async def test_all_that_is_spooled_arrives_and_is_released(
    spool: Spool, autojump_clock: trio.testing.MockClock
) -> None:
    receiver = Receiver()
    uploader = Uploader(spool, receiver.connect, Away)
    recording = recorder(spool)
    for number in range(3000):
        recording.record(EntryKind.REQUEST, number.to_bytes(400, "big"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(uploader.run)
        assert await uploader.drain(60)
        nursery.cancel_scope.cancel()
    assert [e.sequence for e in receiver.entries] == list(range(3000))
    assert spool.used == 0


async def test_after_a_break_it_resumes_with_what_was_not_acknowledged(
    spool: Spool, autojump_clock: trio.testing.MockClock
) -> None:
    receiver = Receiver()
    receiver.acknowledge = False
    uploader = Uploader(spool, receiver.connect, Away)
    recorder(spool).record(EntryKind.REQUEST, b"kept")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(uploader.run)
        assert not await uploader.drain(1)
        receiver.hang_up()
        receiver.acknowledge = True
        assert await uploader.drain(60)
        nursery.cancel_scope.cancel()
    assert receiver.connections == 2
    assert [e.payload for e in receiver.entries] == [b"kept", b"kept"]


async def test_recordings_wait_while_the_control_plane_is_away(
    spool: Spool, autojump_clock: trio.testing.MockClock
) -> None:
    receiver = Receiver()
    receiver.away = True
    uploader = Uploader(spool, receiver.connect, Away)
    recorder(spool).record(EntryKind.REQUEST, b"patient")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(uploader.run)
        assert not await uploader.drain(30)
        assert receiver.connections > 3
        assert spool.used > 0
        receiver.away = False
        assert await uploader.drain(30)
        nursery.cancel_scope.cancel()
    assert [e.payload for e in receiver.entries] == [b"patient"]


async def test_what_is_under_way_is_bounded(
    spool: Spool, autojump_clock: trio.testing.MockClock
) -> None:
    receiver = Receiver()
    receiver.acknowledge = False
    uploader = Uploader(spool, receiver.connect, Away)
    recording = recorder(spool)
    for _ in range(30):
        recording.record(EntryKind.ANSWER, b"x" * (1 << 20))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(uploader.run)
        assert not await uploader.drain(20)
        nursery.cancel_scope.cancel()
    under_way = sum(len(entry.payload) for entry in receiver.entries)
    assert WINDOW_BYTES <= under_way <= WINDOW_BYTES + (2 << 20)
