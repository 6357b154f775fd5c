"""What the conformance suite must know of a protocol. One instance for each protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from data_plane.conversation import Event, Granted


@dataclass(frozen=True, slots=True)
class Said:
    """What an independent reader found in bytes for the client."""

    refusals: int
    complete: int
    text: bytes


class Scenario(Protocol):
    """A protocol, played by a client and a target of bytes.

    ``harmless`` and ``harmful`` are whole requests that are asked about once each;
    ``answer`` is the target's to ``harmless`` and holds ``secret``, in a column that
    ``granted.masking`` masks.
    """

    name: str
    token: str
    granted: Granted
    harmless: bytes
    harmful: bytes
    answer: bytes
    secret: bytes
    unknown_frame: bytes
    oversized: bytes
    not_the_protocol: Sequence[bytes]

    def greet(self) -> Sequence[Event]:
        """Events up to the token, which are answered by ``Authenticate`` at last."""
        ...

    def enter(self) -> Sequence[Event]:
        """Events behind ``Granted``, after which the session stands."""
        ...

    def read(self, data: bytes) -> Said:
        """Read bytes for the client, by another reader than the relay's; raises on bad framing."""
        ...
