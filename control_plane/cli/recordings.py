"""Recordings for the command line: out of a file or from the control plane, and their check.

What is checked is checked here, with :mod:`protos.chain`; the control plane's own word on a
recording is only what it is compared with.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from control_plane.cli.api import Api, path
from control_plane.cli.errors import Usage
from protos import chain

_SESSION = re.compile(r"[0-9a-f]{32}")


def session_id(given: str) -> str:
    """A session's id as the control plane writes it; raises :class:`Usage` for none."""
    session = given.replace("-", "").lower()
    if not _SESSION.fullmatch(session):
        raise Usage(f"{given} is no session id: those have 32 hexadecimal digits")
    return session


@contextmanager
def opened(file: Path) -> Iterator[memoryview]:
    """A recording's bytes, out of a file; raises :class:`Usage` where it can't be read."""
    # What goes wrong while the bytes are used is not this file's fault.
    try:
        stream = file.open("rb")
    except OSError as error:
        raise Usage(f"{file}: {error.strerror or 'it cannot be read'}") from None
    with stream, _mapped(stream) as data:
        yield data


@contextmanager
def downloaded(api: Api, session: str) -> Iterator[memoryview]:
    """A recording's bytes, as the control plane keeps them."""
    with api.download(path("sessions", session, "recording")) as stream, _mapped(stream) as data:
        yield data


@contextmanager
def _mapped(stream: IO[bytes]) -> Iterator[memoryview]:
    # Nothing can be mapped of an empty file.
    if not stream.seek(0, 2):
        yield memoryview(b"")
        return
    mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    # Views of it may outlive this, so it's closed with the last of them, not here.
    yield memoryview(mapped)


@dataclass(frozen=True, slots=True)
class Known:
    """What the control plane says of a session's recording."""

    state: str
    entries: int
    head: str
    problem: str
    first_bad: int | None

    @classmethod
    def of(cls, content: Any) -> Known:
        """Out of the answer of ``GET /sessions/{id}/verification``."""
        return cls(
            str(content.get("state", "")),
            int(content.get("entries", 0)),
            str(content.get("head", "")),
            str(content.get("problem") or ""),
            content.get("first_bad"),
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. ``state`` is closed, open, interrupted or broken."""

    valid: bool
    state: str
    session: str
    entries: int
    head: str
    first_bad: int | None = None
    problem: str = ""

    @property
    def sentence(self) -> str:
        """What is wrong and with which entry; only where something is."""
        missing = self.problem.startswith("is missing")
        return f"entry {self.first_bad}{'' if missing else ':'} {self.problem}"


def examine(data: memoryview, session: str = "", known: Known | None = None) -> Finding:
    """Check a recording: its chain, its end, and, where ``known``, the control plane's head.

    Without ``known``, only a recording that ends with the session's close is valid: nothing
    else tells a cut one from one that isn't finished.
    """
    last = ""
    count = 0
    hash_at_head = b""
    try:
        report = chain.verify(data)
    except chain.ChainError as error:
        # The chain holds for the entries before the first bad one.
        found, last, count = _good(data)
        return Finding(
            False, "broken", found or session, count, last, error.sequence, error.problem
        )
    head = report.head
    count, last = head.sequence, head.hash.hex()

    def bad(sequence: int, problem: str) -> Finding:
        return Finding(False, "broken", report.session, count, last, sequence, problem)

    if session and report.session != session:
        return bad(0, f"it belongs to another session, {report.session}")
    if known is not None:
        if count < known.entries:
            return bad(count, "is missing: the control plane received it")
        if known.entries:
            hash_at_head = _hash_of(data, known.entries - 1)
        if hash_at_head.hex() != known.head and known.entries:
            return bad(known.entries - 1, "its hash is not the head that the control plane holds")
        if known.problem:
            where = known.first_bad if known.first_bad is not None else known.entries
            return bad(where, f"the control plane says: {known.problem}")
        if known.state in ("open", "interrupted") and not report.closed:
            return Finding(True, known.state, report.session, count, last)
    if not report.closed:
        return bad(count, "is missing: the recording doesn't end with the session's close")
    return Finding(True, "closed", report.session, count, last)


def _good(data: memoryview) -> tuple[str, str, int]:
    """Session, last hash and number of the entries before the first bad one."""
    session, last, count = "", "", 0
    try:
        for entry in chain.read(data):
            session, last, count = entry.session, entry.hash.hex(), entry.sequence + 1
    except chain.ChainError:
        pass
    return session, last, count


def _hash_of(data: memoryview, sequence: int) -> bytes:
    for entry in chain.read(data):
        if entry.sequence == sequence:
            return entry.hash
    return b""
