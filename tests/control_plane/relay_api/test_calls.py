"""What a failed call tells, and what it keeps to itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from control_plane.errors import STATUS, Conflict, DomainError
from control_plane.relay_api import server
from control_plane.relay_api.calls import Revoked, stream, unary


class Recorded:
    """A context that keeps how the call was ended."""

    def __init__(self) -> None:
        self.ended: tuple[grpc.StatusCode, str, object] | None = None

    async def abort(self, status: grpc.StatusCode, message: str, trailing: object) -> None:
        self.ended = (status, message, trailing)
        raise grpc.aio.AbortError


def ended(error: Exception, *, streaming: bool = False) -> tuple[str, str, object]:
    context: Any = Recorded()

    async def call(_request: object, _context: object) -> object:
        raise error

    async def messages(_request: object, _context: object) -> AsyncIterator[int]:
        yield 1
        raise error

    async def run() -> None:
        if streaming:
            async for message in stream(messages)(None, context):
                assert message == 1
        else:
            await unary(call)(None, context)

    with pytest.raises(grpc.aio.AbortError):
        asyncio.run(run())
    status, message, trailing = context.ended
    return status.name, message, trailing


@pytest.mark.parametrize("kind", STATUS)
def test_every_error_of_a_domain_has_its_status_and_code(kind: type[DomainError]) -> None:
    expected = (STATUS[kind][1], "words", (("jitgate-code", "some_code"),))
    assert ended(kind("some_code", "words")) == expected
    assert ended(kind("some_code", "words"), streaming=True) == expected


def test_a_kind_of_error_made_of_another_has_the_others_status() -> None:
    class Late(Conflict):
        """A conflict."""

    assert ended(Late("late", "x"))[0] == "ABORTED"


def test_who_was_shut_out_is_told_so() -> None:
    assert ended(Revoked("relay_revoked", "x"))[0] == "PERMISSION_DENIED"


@pytest.mark.parametrize("streaming", [False, True])
def test_an_error_of_ours_tells_nothing_of_what_it_holds(
    streaming: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    status, message, trailing = ended(ValueError("hunter2"), streaming=streaming)
    assert (status, trailing) == ("INTERNAL", (("jitgate-code", "internal_error"),))
    output = capsys.readouterr()
    assert "hunter2" not in message + output.out + output.err


def test_a_call_that_was_ended_already_is_not_ended_again() -> None:
    context: Any = Recorded()

    async def call(_request: object, _context: object) -> object:
        raise grpc.aio.AbortError

    with pytest.raises(grpc.aio.AbortError):
        asyncio.run(unary(call)(None, context))
    assert context.ended is None


def test_a_sweep_that_fails_stops_no_other_and_not_the_next_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "SWEEP_SECONDS", 0.0)
    rounds, enough = [0], threading.Event()

    def fails() -> int:
        raise ConnectionError

    def works() -> int:
        rounds[0] += 1
        if rounds[0] == 3:
            enough.set()
        return 0

    async def run() -> None:
        sweeping = asyncio.create_task(server.sweeping((fails, works)))
        assert await asyncio.to_thread(enough.wait, 20)
        sweeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sweeping

    asyncio.run(run())
