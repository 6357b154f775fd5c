from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.chain import (
    HASH_SIZE,
    HEADER,
    MAX_PAYLOAD,
    ChainError,
    Head,
    check,
    extend,
    frame,
    genesis,
    parse,
    read,
    verify,
)
from protos.vocabulary import Entry, EntryKind

SESSION = "0123456789abcdef" * 2
FOREIGN = "fedcba9876543210" * 2
Parts = Sequence[tuple[EntryKind, bytes]]
SMALL: Parts = (
    (EntryKind.OPENED, b'{"target":"orders"}'),
    (EntryKind.REQUEST, b"DELETE"),
    (EntryKind.ANSWER, b""),
    (EntryKind.CLOSED, b"{}"),
)


def _frames(parts: Parts = SMALL, session: str = SESSION) -> list[bytes]:
    """A recording as its relay writes it, a frame at a time."""
    head, frames = genesis(session), []
    for number, (kind, payload) in enumerate(parts):
        head, header, digest = extend(head, bytes.fromhex(session), 1_000 + number, kind, payload)
        frames.append(header + payload + digest)
    return frames


def _refused(data: bytes) -> ChainError:
    with pytest.raises(ChainError) as caught:
        verify(data)
    return caught.value


def test_a_recording_is_read_as_it_was_written() -> None:
    frames = _frames()
    entries = list(read(b"".join(frames)))
    assert [(entry.kind, entry.payload) for entry in entries] == list(SMALL)
    assert [entry.sequence for entry in entries] == [0, 1, 2, 3]
    assert [entry.at for entry in entries] == [1000, 1001, 1002, 1003]
    assert {entry.session for entry in entries} == {SESSION}
    assert [frame(entry) for entry in entries] == frames


def test_a_whole_recording_is_reported_with_its_head() -> None:
    frames = _frames()
    report = verify(b"".join(frames))
    assert (report.session, report.closed) == (SESSION, True)
    assert report.head == Head(4, frames[-1][-HASH_SIZE:])
    # Without its end it is as good, and says that it wasn't closed.
    cut = verify(b"".join(frames[:-1]))
    assert (cut.closed, cut.head.sequence) == (False, 3)


def test_a_byte_changed_anywhere_breaks_the_chain_there() -> None:
    frames = _frames()
    data = b"".join(frames)
    ends: list[int] = []
    for one in frames:
        ends.append((ends[-1] if ends else 0) + len(one))
    for position in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(data)
            changed[position] ^= flip
            error = _refused(bytes(changed))
            owner = next(number for number, end in enumerate(ends) if position < end)
            offset = position - (ends[owner - 1] if owner else 0)
            # The header's sequence is how an entry calls itself: it may be the lie.
            named = {owner}
            if 16 <= offset < 24:
                named.add(HEADER.unpack_from(changed, ends[owner] - len(frames[owner]))[1])
            assert error.sequence in named, (position, flip, error)


def test_a_dropped_entry_is_missed_where_it_was() -> None:
    frames = _frames()
    for dropped in range(len(frames) - 1):
        assert _refused(b"".join(frames[:dropped] + frames[dropped + 1 :])).sequence == dropped


def test_swapped_and_repeated_entries_are_found() -> None:
    frames = _frames()
    for first, second in pairwise(range(len(frames))):
        swapped = list(frames)
        swapped[first], swapped[second] = swapped[second], swapped[first]
        assert _refused(b"".join(swapped)).sequence == first
        repeated = [*frames[:second], frames[first], *frames[second:]]
        assert _refused(b"".join(repeated)).sequence == second


def test_a_recording_cut_within_an_entry_ends_before_it() -> None:
    frames = _frames()
    data = b"".join(frames)
    boundaries = {sum(map(len, frames[:number])): number for number in range(1, 5)}
    for length in range(1, len(data)):
        if length in boundaries:
            assert verify(data[:length]).head.sequence == boundaries[length]
        else:
            whole = sum(length > end for end in boundaries)
            error = _refused(data[:length])
            assert (error.sequence, error.problem) == (
                whole,
                "the recording ends in the middle of it",
            )


def test_an_entry_of_another_session_does_not_fit() -> None:
    frames, foreign = _frames(), _frames(session=FOREIGN)
    for number in range(1, len(frames)):
        mixed = [*frames[:number], foreign[number], *frames[number + 1 :]]
        error = _refused(b"".join(mixed))
        assert (error.sequence, error.problem) == (number, "it belongs to another session")


def test_entries_moved_to_another_session_do_not_fit() -> None:
    moved = [bytes.fromhex(FOREIGN) + one[16:] for one in _frames()]
    assert _refused(b"".join(moved)).sequence == 0


def test_nothing_follows_the_entry_that_closes() -> None:
    parts = [*SMALL, (EntryKind.REQUEST, b"after")]
    error = _refused(b"".join(_frames(parts)))
    assert (error.sequence, error.problem) == (4, "it follows the entry that closed the session")


def test_an_empty_recording_is_none() -> None:
    assert _refused(b"").problem == "the recording is empty"
    assert list(read(b"")) == []


def test_bytes_that_can_not_be_an_entry_are_refused_before_they_are_waited_for() -> None:
    session = bytes.fromhex(SESSION)
    long = HEADER.pack(session, 7, 0, EntryKind.REQUEST, MAX_PAYLOAD + 1)
    with pytest.raises(ChainError, match="beyond the limit") as caught:
        parse(long)
    assert caught.value.sequence == 7
    with pytest.raises(ChainError, match="99 is no kind of entry"):
        parse(HEADER.pack(session, 0, 0, 99, 0))


def test_a_part_of_an_entry_is_waited_for() -> None:
    one = _frames()[0]
    for length in range(len(one)):
        assert parse(one[:length]) is None
    assert parse(memoryview(one)) is not None


def test_entries_are_parsed_from_any_offset() -> None:
    frames = _frames()
    data = b"".join(frames)
    parsed = parse(data, len(frames[0]))
    assert parsed is not None
    entry, end = parsed
    assert entry.payload == b"DELETE"
    assert end == len(frames[0]) + len(frames[1])


def test_check_carries_on_from_a_head() -> None:
    head = genesis(SESSION)
    for entry in read(b"".join(_frames())):
        with pytest.raises(ChainError, match="expected here"):
            check(Head(head.sequence + 1, head.hash), entry)
        with pytest.raises(ChainError, match="its hash is not"):
            check(Head(head.sequence, bytes(32)), entry)
        head = check(head, entry)
    assert head.sequence == 4


def test_sessions_begin_differently() -> None:
    assert genesis(SESSION) != genesis(FOREIGN)


def test_what_was_recorded_is_in_no_repr() -> None:
    entry = Entry(SESSION, 0, 0, EntryKind.REQUEST, b"hunter2", b"digest!")
    assert "hunter2" not in repr(entry)
    assert "digest!" not in repr(entry)


_parts = st.lists(
    st.tuples(st.sampled_from([kind for kind in EntryKind if kind is not EntryKind.CLOSED]),
              st.binary(max_size=20)),
    min_size=1,
    max_size=8,
)  # fmt: skip


@given(_parts, st.integers(0, 2**64 - 1))
def test_any_recording_is_read_as_it_was_written(
    parts: list[tuple[EntryKind, bytes]], at: int
) -> None:
    head, data = genesis(SESSION), b""
    for kind, payload in parts:
        head, header, digest = extend(head, bytes.fromhex(SESSION), at, kind, bytearray(payload))
        data += header + payload + digest
    assert [(entry.kind, entry.payload) for entry in read(memoryview(data))] == parts
    assert verify(data).head == head


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_name_of_an_entry(data: bytes) -> None:
    _refused(data)


@settings(max_examples=200)
@given(_parts, st.data())
def test_no_edit_of_a_recording_goes_unseen(
    parts: list[tuple[EntryKind, bytes]], data: st.DataObject
) -> None:
    recording = b"".join(_frames(parts))
    known = verify(recording).head
    start = data.draw(st.integers(0, len(recording) - 1))
    end = data.draw(st.integers(start, len(recording)))
    edited = recording[:start] + data.draw(st.binary(max_size=30)) + recording[end:]
    if edited == recording:
        return
    # A tail that was cut between entries is told by the head that is kept elsewhere.
    try:
        head = verify(edited).head
    except ChainError:
        return
    assert head != known
