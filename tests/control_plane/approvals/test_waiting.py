"""Waiting for decisions: no thread a wait, and decisions of other replicas are found."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from control_plane.approvals.waiting import WaitingRoom
from control_plane.database import Database
from control_plane.errors import Unauthenticated
from tests.control_plane.world import APPROVERS, Clock, World, human, operation, terms

ADA = human("ada", APPROVERS)


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path, Clock())


def nothing() -> None:
    """The relay may still be answered."""


def test_a_thousand_operations_wait_without_a_thread_each(world: World) -> None:
    session = world.open()
    by = terms(hold=3600)
    asked = [world.ask(session, operation(str(n)), by=by) for n in range(40)]

    async def run() -> None:
        world.wakeups.bind(asyncio.get_running_loop())
        room = WaitingRoom(world.holds, world.wakeups, clock=world.clock)
        # Each is waited for again and again, as after broken connections.
        waits = [
            asyncio.create_task(room.wait("relay-1", one.approval, hold, nothing))
            for _ in range(25)
            for one, hold in asked
        ]
        looked = world.holds.settled
        async with asyncio.timeout(60):
            while sum(room.waiting.values()) < 1000:
                await asyncio.sleep(0)
            await asyncio.to_thread(looked, [])
            assert threading.active_count() < 50
            await asyncio.to_thread(world.decide, asked[0][0], ADA)
            done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            assert {one.result().code for one in done} == {"approved"}
        for wait in pending:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        assert not room.waiting

    asyncio.run(run())
    assert world.approvals.get(asked[0][0].approval, ADA).uses == 1


def test_a_decision_that_no_wakeup_tells_of_is_found(world: World) -> None:
    asked, hold = world.ask(world.open())

    async def run() -> str:
        world.wakeups.bind(asyncio.get_running_loop())
        room = WaitingRoom(world.holds, world.wakeups, look_seconds=0.05, clock=world.clock)
        looking = asyncio.create_task(room.run())
        wait = asyncio.create_task(room.wait("relay-1", asked.approval, hold, nothing))
        async with asyncio.timeout(20):
            while not room.waiting:
                await asyncio.sleep(0)
            # Another replica: the same database, wake-ups of its own.
            other = type(world.approvals)(
                world.database,
                type(world.wakeups)(),
                world.audit,
                world.events,
                "https://other.example",
                clock=world.clock,
            )
            await asyncio.to_thread(other.get, asked.approval, ADA)
            world.approvals, ours = other, world.approvals
            await asyncio.to_thread(world.decide, asked, ADA)
            world.approvals = ours
            verdict = await wait
        looking.cancel()
        return verdict.code

    assert asyncio.run(run()) == "approved"


def test_a_relay_that_may_no_longer_be_answered_uses_nothing(world: World) -> None:
    asked, hold = world.ask(world.open())
    world.decide(asked, ADA)

    def gone() -> None:
        raise Unauthenticated("relay_revoked", "this relay was revoked")

    async def run() -> None:
        world.wakeups.bind(asyncio.get_running_loop())
        room = WaitingRoom(world.holds, world.wakeups, clock=world.clock)
        with pytest.raises(Unauthenticated):
            await room.wait("relay-1", asked.approval, hold, gone)
        assert not room.waiting

    asyncio.run(run())
    assert world.approvals.get(asked.approval, ADA).uses == 0
