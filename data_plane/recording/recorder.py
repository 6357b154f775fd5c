"""One session's recording: gives entries their sequence, time and hash, and spools them.

Counterparts: :mod:`data_plane.gate` and :mod:`data_plane.session` say what is recorded;
:mod:`protos.chain` is the form. It neither judges nor sends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from data_plane.recording.spool import Spool
from protos.chain import extend, genesis
from protos.vocabulary import EntryKind

MAX_ENTRY = 1 << 20
"""Bytes of payload an entry; more is split, so that an upload's batches stay small."""


class Recorder:
    """The chain of one session. ``clock`` gives nanoseconds since the epoch."""

    def __init__(self, spool: Spool, session: str, clock: Callable[[], int]) -> None:
        self.session = session
        self._id = bytes.fromhex(session)
        self._spool = spool
        self._clock = clock
        self._head = genesis(session)

    @property
    def sequence(self) -> int:
        """How many entries there are."""
        return self._head.sequence

    def record(self, kind: EntryKind, payload: bytes | bytearray) -> None:
        """Add an entry, durably; raises ``RecordingFailed``, and then nothing was added."""
        if len(payload) > MAX_ENTRY:
            view = memoryview(payload)
            for start in range(0, len(payload), MAX_ENTRY):
                self._add(kind, view[start : start + MAX_ENTRY])
        else:
            self._add(kind, payload)

    def note(self, kind: EntryKind, content: Mapping[str, Any]) -> None:
        """Add an entry whose payload is a JSON object; never split, errors as ``record``."""
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        self._add(kind, text.encode("utf-8", "backslashreplace"))

    def _add(self, kind: EntryKind, payload: bytes | bytearray | memoryview) -> None:
        head, header, digest = extend(self._head, self._id, self._clock(), kind, payload)
        self._spool.append((header, payload, digest), last=kind is EntryKind.CLOSED)
        self._head = head
