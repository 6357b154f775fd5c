"""Copies of a recording, each tampered with in one way, to show that it is noticed."""

from __future__ import annotations

from collections.abc import Iterator

from protos import chain
from protos.vocabulary import EntryKind


def tampered(recording: bytes) -> Iterator[tuple[str, bytes, int]]:
    """What was done, the copy, and the number of the first entry that is bad in it."""
    frames: list[bytes] = []
    victim = 0
    offset = 0
    while parsed := chain.parse(recording, offset):
        entry, end = parsed
        frames.append(recording[offset:end])
        if entry.kind is EntryKind.DECIDED and not victim:
            victim = entry.sequence
        offset = end
    flipped = bytearray(frames[victim])
    flipped[chain.HEADER.size] ^= 0x01
    before, behind = frames[:victim], frames[victim + 1 :]
    yield "one flipped byte", b"".join([*before, bytes(flipped), *behind]), victim
    yield "a dropped entry", b"".join([*before, *behind]), victim
    yield "a swapped pair", b"".join([*before, behind[0], frames[victim], *behind[1:]]), victim
    yield "a cut tail", b"".join(frames[:-1]), len(frames) - 1
