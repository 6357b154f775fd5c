"""Recordings: kept as they came, whatever breaks; and every change to what is kept is named."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.database import Database
from control_plane.errors import Invalid, NotFound, Unavailable
from control_plane.recordings.store import MAX_REJECTED, RecordingFiles
from protos.chain import HASH_SIZE, HEADER, verify
from protos.vocabulary import EntryKind
from tests.control_plane.world import Chain, Clock, World


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path, Clock())


@pytest.fixture
def session(world: World) -> str:
    return world.open()


def kept(world: World, session: str) -> bytes:
    _, content = world.recordings.content(session)
    return b"".join(content)


def path(world: World, session: str, suffix: str = ".jgr") -> Path:
    return world.files.path(session, suffix)


def test_what_was_sent_is_what_is_kept(world: World, session: str) -> None:
    chain = Chain.whole(session)
    for frame in chain.frames[:3]:
        world.recordings.append("relay-1", frame)
    assert world.recordings.verify(session).state == "open"
    world.recordings.append("relay-1", b"".join(chain.frames[3:]))
    assert kept(world, session) == chain.bytes
    assert verify(kept(world, session)).closed
    found = world.recordings.verify(session)
    assert (found.valid, found.state, found.entries) == (True, "closed", len(chain.frames))
    assert found.head == chain.bytes[-HASH_SIZE:].hex()


def test_the_last_entry_closes_the_session(world: World, session: str) -> None:
    world.recordings.append("relay-1", Chain.whole(session).bytes)
    row = world.sessions.get(session)
    assert (row.state, row.end_code, row.end_reason) == (
        "closed",
        "client_closed",
        "the agent left",
    )
    assert row.closed_at == world.clock()
    assert world.told()[-1] == "session.closed"


def test_one_batch_holds_entries_of_many_sessions(world: World) -> None:
    chains = [Chain.whole(world.open()) for _ in range(3)]
    mixed = [frame for row in zip(*(c.frames for c in chains), strict=True) for frame in row]
    world.recordings.append("relay-1", b"".join(mixed))
    for chain in chains:
        assert kept(world, chain.session) == chain.bytes


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=8))
def test_batches_sent_again_from_anywhere_change_nothing(
    world: World, pieces: list[tuple[int, int]]
) -> None:
    session = world.open()
    chain = Chain.whole(session)
    have = 0
    for start, size in [*pieces, (0, 8)]:
        start = min(start, have)  # A relay goes back, and never leaves anything out.
        world.recordings.append("relay-1", b"".join(chain.frames[start : start + size]))
        have = max(have, start + size)
    assert kept(world, session) == chain.bytes
    assert world.recordings.verify(session).valid


def test_one_batch_arriving_on_many_streams_at_once_is_kept_once(
    world: World, session: str
) -> None:
    chain = Chain.whole(session, 20)
    begin = threading.Barrier(4)

    def send(_: int) -> None:
        begin.wait(10)
        for start in range(0, len(chain.frames), 5):
            world.recordings.append("relay-1", b"".join(chain.frames[: start + 5]))
        world.recordings.append("relay-1", chain.bytes)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    assert kept(world, session) == chain.bytes
    assert world.recordings.verify(session).valid


def test_bytes_written_before_a_crash_are_cut_off_and_come_again(
    world: World, session: str
) -> None:
    chain = Chain.whole(session)
    world.recordings.append("relay-1", chain.frames[0])
    # The file was written, and the process died before the commit.
    with path(world, session).open("ab") as file:
        file.write(b"".join(chain.frames[1:4])[:-7])
    assert world.recordings.verify(session).valid
    assert kept(world, session) == chain.frames[0]
    world.recordings.append("relay-1", b"".join(chain.frames[1:]))
    assert kept(world, session) == chain.bytes
    assert path(world, session).read_bytes() == chain.bytes


def test_without_its_index_or_with_a_wrong_one_a_recording_reads_the_same(
    world: World, session: str
) -> None:
    chain = Chain.whole(session)
    world.recordings.append("relay-1", b"".join(chain.frames[:5]))
    index = path(world, session, ".index")
    for content in (None, b"", b"\0" * index.stat().st_size, b"\xff" * 400):
        index.unlink(missing_ok=True) if content is None else index.write_bytes(content)
        found = world.recordings.entries(session, 1, 2, 1 << 20)
        assert [entry.sequence for entry in found] == [2, 3]
        world.recordings.append("relay-1", b"".join(chain.frames[2:5]))
        assert world.recordings.verify(session).state == "open"
    world.recordings.append("relay-1", b"".join(chain.frames[5:]))
    assert world.recordings.verify(session).valid


BREAKS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "flipped payload": lambda f: [*f[:2], _flip(f[2], HEADER.size), *f[3:]],
    "flipped hash": lambda f: [*f[:2], _flip(f[2], -1), *f[3:]],
    "flipped time": lambda f: [*f[:2], _flip(f[2], 30), *f[3:]],
    "unknown kind": lambda f: [*f[:2], f[2][:32] + b"\xee" + f[2][33:], *f[3:]],
    "dropped": lambda f: [*f[:2], *f[3:]],
    "swapped": lambda f: [*f[:2], f[3], f[2], *f[4:]],
    "huge length": lambda f: [*f[:2], f[2][:33] + b"\xff\xff\xff\xff" + f[2][37:], *f[3:]],
    "wrong length": lambda f: [*f[:2], f[2][:33] + b"\0\0\x01\0" + f[2][37:], *f[3:]],
}


def _flip(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("how", BREAKS)
def test_a_recording_that_breaks_on_the_way_is_named_and_holds_up_no_other(
    world: World, session: str, how: str
) -> None:
    chain, good = Chain.whole(session), Chain.whole(world.open())
    broken = BREAKS[how](chain.frames)
    world.recordings.append("relay-1", good.frames[0] + b"".join(broken))
    world.recordings.append("relay-1", b"".join(good.frames[1:]))

    found = world.recordings.verify(session)
    assert (found.valid, found.state, found.first_bad) == (False, "broken", 2)
    assert found.problem
    assert kept(world, session) == b"".join(chain.frames[:2])
    rejected = path(world, session, ".rejected").read_bytes()
    assert rejected.startswith(broken[2])
    # Behind a wrong length that leads to other bytes, nobody can say whose they are.
    assert rejected == b"".join(broken[2:]) or how == "wrong length"
    assert world.recordings.verify(good.session).valid
    audited = [action for action, _, _ in world.audited() if action == "recording.broken"]
    assert len(audited) == 1
    assert world.told().count("recording.broken") == 1

    # And it stays so, whatever comes later.
    world.recordings.append("relay-1", chain.bytes)
    assert world.recordings.verify(session).first_bad == 2
    assert len([a for a, _, _ in world.audited() if a == "recording.broken"]) == 1
    assert world.sessions.get(session).state == "closed"


def test_a_frame_cut_at_the_end_of_a_batch_breaks_its_session(world: World, session: str) -> None:
    for cut in (5, len(Chain.whole(session).frames[1]) - 5):
        chain = Chain.whole(world.open())
        world.recordings.append("relay-1", chain.frames[0] + chain.frames[1][:cut])
        found = world.recordings.verify(chain.session)
        assert (found.state, found.first_bad) == ("broken", 1)


def test_an_entry_that_came_before_cannot_come_again_otherwise(world: World, session: str) -> None:
    chain, other = Chain.whole(session), Chain.whole(session, requests=4)
    other.at += 5
    forged = Chain(session)
    forged.add(EntryKind.OPENED, b'{"target":"other"}')
    world.recordings.append("relay-1", b"".join(chain.frames[:4]))
    world.recordings.append("relay-1", forged.frames[0])
    found = world.recordings.verify(session)
    assert (found.state, found.first_bad) == ("broken", 0)
    assert kept(world, session) == b"".join(chain.frames[:4])


def test_nothing_follows_the_entry_that_closed_the_session(world: World, session: str) -> None:
    chain = Chain.whole(session)
    world.recordings.append("relay-1", chain.bytes)
    world.recordings.append("relay-1", chain.add(EntryKind.REQUEST, b"more"))
    found = world.recordings.verify(session)
    assert (found.state, found.first_bad) == ("broken", len(chain.frames) - 1)


def test_a_relay_writes_recordings_of_its_own_sessions_only(world: World, session: str) -> None:
    unknown = Chain.whole("f" * 32)
    own = Chain.whole(world.open())
    for _ in range(3):
        world.recordings.append("relay-2", Chain.whole(session).bytes)
        world.recordings.append("relay-1", unknown.bytes + own.bytes)
    with pytest.raises(NotFound):
        world.recordings.find(session)
    assert world.sessions.get(session).state == "open"
    assert not path(world, session).exists()
    assert not path(world, unknown.session).exists()
    assert world.recordings.verify(own.session).valid
    refused = [actor for action, actor, _ in world.audited() if action == "recording.refused"]
    assert refused == ["relay relay-2", "relay relay-1"]


def test_bytes_that_are_no_entries_at_all_are_refused(world: World) -> None:
    with pytest.raises(Invalid):
        world.recordings.append("relay-1", b"garbage")
    world.recordings.append("relay-1", b"")


def test_evidence_of_a_broken_recording_is_bounded(tmp_path: Path) -> None:
    files = RecordingFiles(tmp_path)
    for _ in range(5):
        files.reject("a" * 32, b"x" * (MAX_REJECTED // 4 + 1))
    assert files.path("a" * 32, ".rejected").stat().st_size == MAX_REJECTED


def test_a_disk_that_cannot_be_written_acknowledges_nothing(
    world: World, session: str, tmp_path: Path
) -> None:
    (world.files.path(session).parent.parent).parent.mkdir(exist_ok=True)
    blocked = world.files.path(session).parent
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where a directory should be")
    chain = Chain.whole(session)
    with pytest.raises(Unavailable) as refused:
        world.recordings.append("relay-1", chain.bytes)
    assert refused.value.code == "recordings_unwritable"
    blocked.unlink()
    world.recordings.append("relay-1", chain.bytes)
    assert kept(world, session) == chain.bytes


TAMPERED: dict[str, tuple[Callable[[Chain], bytes], int]] = {
    "flipped": (lambda c: _flip(c.bytes, len(c.frames[0]) + HEADER.size), 1),
    "dropped": (lambda c: b"".join([*c.frames[:3], *c.frames[4:]]), 3),
    "swapped": (lambda c: b"".join([*c.frames[:2], c.frames[3], c.frames[2], *c.frames[4:]]), 2),
    "cut between entries": (lambda c: b"".join(c.frames[:5]), 5),
    "cut within an entry": (lambda c: c.bytes[:-40], 7),
    "cut within a header": (lambda c: b"".join(c.frames[:3]) + c.frames[3][:10], 3),
    "emptied": (lambda c: b"", 0),
    "another session's": (lambda c: Chain.whole("e" * 32).bytes, 0),
    "rewritten and chained anew": (lambda c: _rewritten(c), 7),
    "no entries": (lambda c: b"\xff" * len(c.bytes), 0),
}


def _rewritten(chain: Chain) -> bytes:
    forged = Chain(chain.session)
    for number in range(8):
        payload = chain.frames[number][HEADER.size : -HASH_SIZE]
        kind = EntryKind(chain.frames[number][32])
        forged.add(kind, payload.replace(b"Q1", b"Q9"))
    return forged.bytes


@pytest.mark.parametrize("how", TAMPERED)
def test_verification_names_the_first_bad_entry_of_what_was_kept(
    world: World, session: str, how: str
) -> None:
    chain = Chain.whole(session)
    world.recordings.append("relay-1", chain.bytes)
    tamper, first_bad = TAMPERED[how]
    path(world, session).write_bytes(tamper(chain))
    found = world.recordings.verify(session)
    assert (found.valid, found.state, found.first_bad) == (False, "closed", first_bad)
    assert found.problem


def test_every_flipped_byte_is_found(world: World, session: str) -> None:
    chain = Chain.whole(session, 1)
    world.recordings.append("relay-1", chain.bytes)
    ends = [sum(map(len, chain.frames[: n + 1])) for n in range(len(chain.frames))]
    for at in range(len(chain.bytes)):
        path(world, session).write_bytes(_flip(chain.bytes, at))
        found = world.recordings.verify(session)
        assert found.first_bad == next(n for n, end in enumerate(ends) if at < end), at


def test_a_missing_file_is_a_missing_recording(world: World, session: str) -> None:
    world.recordings.append("relay-1", Chain.whole(session).bytes)
    path(world, session).unlink()
    found = world.recordings.verify(session)
    assert (found.valid, found.first_bad) == (False, 0)
    assert world.recordings.entries(session, -1, 10, 1 << 20) == []
    assert kept(world, session) == b""


def test_an_interrupted_session_is_said_to_be_one_and_valid_as_far_as_it_goes(
    world: World, session: str
) -> None:
    world.recordings.append("relay-1", Chain.whole(session).frames[0])
    world.sessions.reconcile("relay-1", "boot-2", [])
    found = world.recordings.verify(session)
    assert (found.valid, found.state, found.entries) == (True, "interrupted", 1)


def test_entries_are_read_in_pages_of_bounded_size(world: World, session: str) -> None:
    chain = Chain.whole(session, 10)
    world.recordings.append("relay-1", chain.bytes)
    assert len(world.recordings.entries(session, -1, 1000, 1 << 20)) == 22
    assert [e.sequence for e in world.recordings.entries(session, 3, 2, 1 << 20)] == [4, 5]
    assert [e.sequence for e in world.recordings.entries(session, 3, 100, 0)] == [4]
    assert world.recordings.entries(session, 21, 10, 1 << 20) == []
    assert world.recordings.entries(session, 500, 10, 1 << 20) == []


def test_entries_of_a_damaged_file_are_shown_up_to_the_damage(world: World, session: str) -> None:
    chain = Chain.whole(session)
    world.recordings.append("relay-1", chain.bytes)
    good = b"".join(chain.frames[:2])
    path(world, session).write_bytes(good + b"\xff" * (len(chain.bytes) - len(good)))
    assert [e.sequence for e in world.recordings.entries(session, -1, 10, 1 << 20)] == [0, 1]
    with pytest.raises(Invalid) as refused:
        world.recordings.entries(session, 1, 10, 1 << 20)
    assert refused.value.code == "recording_damaged"


def test_what_was_never_recorded_is_not_found(world: World, session: str) -> None:
    for id_ in (session, "0" * 32, "../../etc/passwd"):
        with pytest.raises(NotFound):
            world.recordings.verify(id_)
