import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from data_plane.recording import Recorder, RecordingFailed, Spool
from data_plane.recording.spool import FAREWELL_BYTES
from protos.chain import ChainError, read, verify
from protos.vocabulary import EntryKind

SESSION = "00112233445566778899aabbccddeeff"
ROOM = 64 << 20


def recorder(spool: Spool, session: str = SESSION) -> Recorder:
    return Recorder(spool, session, lambda: 1_700_000_000_000_000_000)


def everything(spool: Spool, size: int = 1 << 20) -> bytes:
    position, data = spool.start, b""
    while chunk := spool.read(position, size):
        position += len(chunk)
        data += chunk
    return data


def test_what_is_spooled_is_a_valid_chain(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM)
    recording = recorder(spool)
    recording.note(EntryKind.OPENED, {"who": "agent"})
    recording.record(EntryKind.REQUEST, b"Q")
    recording.note(EntryKind.CLOSED, {})
    report = verify(everything(spool))
    assert (report.session, report.head.sequence, report.closed) == (SESSION, 3, True)
    assert recording.sequence == 3


def test_a_long_payload_becomes_several_entries_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM)
    payload = os.urandom(2_500_000)
    recorder(spool).record(EntryKind.ANSWER, payload)
    entries = list(read(everything(spool, 1000)))
    assert len(entries) == 3
    assert b"".join(entry.payload for entry in entries) == payload


def test_a_new_process_goes_on_behind_what_is_there(tmp_path: Path) -> None:
    first = Spool(tmp_path, ROOM)
    recorder(first).record(EntryKind.REQUEST, b"one")
    position = first.position
    first.close()
    second = Spool(tmp_path, ROOM)
    assert second.position == position
    assert [entry.payload for entry in read(everything(second))] == [b"one"]


@pytest.mark.parametrize("torn", [1, 20, 40, 70])
def test_a_frame_torn_by_a_crash_is_cut_off_and_the_rest_kept(tmp_path: Path, torn: int) -> None:
    first = Spool(tmp_path, ROOM)
    recording = recorder(first)
    recording.record(EntryKind.REQUEST, b"whole")
    whole = first.position
    recording.record(EntryKind.REQUEST, b"torn")
    first.close()
    [segment] = tmp_path.glob("*.spool")
    os.truncate(segment, max(whole + 1, first.position - torn))
    second = Spool(tmp_path, ROOM)
    assert second.position == whole
    assert [entry.payload for entry in read(everything(second))] == [b"whole"]


def test_bytes_that_are_no_frame_end_what_is_recovered(tmp_path: Path) -> None:
    first = Spool(tmp_path, ROOM)
    recorder(first).record(EntryKind.REQUEST, b"good")
    good = first.position
    first.close()
    [segment] = tmp_path.glob("*.spool")
    with segment.open("ab") as file:
        file.write(b"\xff" * 200)
    assert Spool(tmp_path, ROOM).position == good


def test_segments_are_released_once_acknowledged(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM, segment_bytes=500)
    recording = recorder(spool)
    for _ in range(20):
        recording.record(EntryKind.REQUEST, b"x" * 100)
    assert len(list(tmp_path.glob("*.spool"))) > 3
    middle = spool.position // 2
    spool.release(middle)
    assert spool.start <= middle
    assert spool.used < spool.position
    spool.release(spool.position)
    assert spool.used == 0
    assert len(list(tmp_path.glob("*.spool"))) == 1
    recording.record(EntryKind.REQUEST, b"after")
    assert spool.read(spool.start, 10_000).count(b"after") == 1


def test_a_full_spool_refuses_entries_but_keeps_room_for_the_last(tmp_path: Path) -> None:
    spool = Spool(tmp_path, FAREWELL_BYTES + 1000)
    recording = recorder(spool)
    for _ in range(5):
        recording.record(EntryKind.REQUEST, b"x" * 100)
    with pytest.raises(RecordingFailed, match="full"):
        recording.record(EntryKind.REQUEST, b"x" * 1000)
    assert not spool.has_room
    before = recording.sequence
    recording.note(EntryKind.CLOSED, {"reason": "full"})
    assert recording.sequence == before + 1
    assert verify(everything(spool)).closed


def test_a_full_disk_leaves_no_torn_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, ROOM)
    recording = recorder(spool)
    recording.record(EntryKind.REQUEST, b"before")
    whole = os.writev

    def short(descriptor: int, parts: Sequence[bytes]) -> int:
        return os.write(descriptor, bytes(parts[0])[:5])

    monkeypatch.setattr(os, "writev", short)
    with pytest.raises(RecordingFailed, match="disk is full"):
        recording.record(EntryKind.REQUEST, b"lost")

    def failing(descriptor: int, parts: Sequence[bytes]) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "writev", failing)
    with pytest.raises(RecordingFailed, match="No space left"):
        recording.record(EntryKind.REQUEST, b"lost")
    monkeypatch.setattr(os, "writev", whole)
    recording.record(EntryKind.REQUEST, b"after")
    assert [entry.payload for entry in read(everything(spool))] == [b"before", b"after"]


def test_durability_on_disk_flushes_each_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fdatasync", flushed.append)
    recording = recorder(Spool(tmp_path, ROOM, to_disk=True))
    recording.record(EntryKind.REQUEST, b"1")
    recording.record(EntryKind.REQUEST, b"2")
    assert len(flushed) == 2


def test_a_spooled_entry_cannot_move_to_another_session(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM)
    recorder(spool).record(EntryKind.REQUEST, b"mine")
    recorder(spool, "ff" * 16).record(EntryKind.REQUEST, b"theirs")
    with pytest.raises(ChainError, match="another session"):
        list(read(everything(spool)))
