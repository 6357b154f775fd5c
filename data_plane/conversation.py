"""A protocol as a sans-I/O conversation: events in, effects out.

Counterparts: :mod:`data_plane.session` performs the effects and feeds the events;
:mod:`data_plane.protocols` holds the conversations. A conversation never awaits and never
sees a socket, a clock, a policy or a credential store, so it is tested byte for byte without
a network. It stands between two sides: the agent's client and the target.

Rules that the driver relies on, and the conformance suite checks:

* after :class:`Ask` nothing more of that request goes out until :class:`Decided`;
* nothing is sent to the target before :class:`Dialed`, nothing of an operation before it was
  allowed;
* what arrives from the client after :class:`Granted` and what is sent to the client is
  recorded by the driver, before it goes out; a ``Send`` marked ``secret`` is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from protos.vocabulary import Credential, MaskingRule, Operation, Target, Verdict


class Side(StrEnum):
    """The two sides a conversation stands between."""

    CLIENT = "client"
    TARGET = "target"


# Events: what has happened, in the past tense.


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes arrived; any split of the stream gives the same effects in the same order."""

    side: Side
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Closed:
    """A side hung up: nothing more comes from it."""

    side: Side


@dataclass(frozen=True, slots=True)
class Secured:
    """TLS now stands on this side; later bytes are its plaintext."""

    side: Side


@dataclass(frozen=True, slots=True)
class Granted:
    """The agent's token was verified and a session opened.

    ``cancel_key`` is this session's own, 8 bytes, unique on the relay (the agent gets it; the
    target's own stays inside). ``masking`` is what must be masked for this principal;
    ``masking_key`` keys its pseudonyms, so that they join as far as the key reaches.
    """

    target: Target
    credential: Credential
    masking: tuple[MaskingRule, ...] = ()
    cancel_key: bytes = field(default=b"", repr=False)
    masking_key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Denied:
    """No session: the token, the policy or the control plane said no."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dialed:
    """The target's connection stands (no TLS on it yet)."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The target could not be reached or secured; ``reason`` names no address or credential."""

    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """The operation asked about waits for a human. Repeated at a humane rhythm while it does.

    ``seconds_left`` until the hold ends. ``deadline`` is RFC 3339, UTC.
    """

    approval_id: str
    url: str
    deadline: str
    seconds_left: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decided:
    """The answer to :class:`Ask`; the outcome is ``ALLOW`` or ``REFUSE``, never ``APPROVE``."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """A cancel request for this session arrived on a connection of its own."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The gateway ends the session (expiry, revocation, no durable record, shutdown)."""

    code: str
    reason: str


Event = (
    Received
    | Closed
    | Secured
    | Granted
    | Denied
    | Dialed
    | Unreachable
    | Held
    | Decided
    | CancelAsked
    | Ended
)


# Effects: what the driver is to do, imperative.


@dataclass(frozen=True, slots=True)
class Send:
    """Send bytes to a side, after whatever was sent there before.

    ``secret`` keeps them out of the recording; it is for login alone.
    """

    side: Side
    data: bytes | bytearray = field(repr=False)
    secret: bool = False


@dataclass(frozen=True, slots=True)
class StartTLS:
    """Start TLS on a side: as the server towards the client, as the client towards the target."""

    side: Side


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Open a session for the bearer of this token; answered by ``Granted`` or ``Denied``.

    ``database`` is what of the target is asked for, empty for its default.
    """

    target: str
    token: str = field(repr=False)
    database: str = ""


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to the granted target; answered by ``Dialed`` or ``Unreachable``."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the gate; answered by ``Decided``, at once or after a hold with ``Held`` in between.

    With ``preview`` the operation is not run yet (a statement being prepared): it is refused
    where policy refuses it and passes otherwise; it is asked about again before it runs.
    """

    operation: Operation
    preview: bool = False


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The operation being asked about is wanted no more; no ``Decided`` follows."""

    reason: str


@dataclass(frozen=True, slots=True)
class CancelSession:
    """This connection is a cancel request for the session with this key on the relay."""

    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SendAside:
    """Send bytes to the granted target on a connection of its own, then close it."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Close:
    """End the session once everything sent so far is out. ``reason`` goes on record."""

    reason: str


Effect = Send | StartTLS | Authenticate | Dial | Ask | Withdraw | CancelSession | SendAside | Close


class Conversation(Protocol):
    """One client's connection, from its first byte to its last."""

    def handle(self, event: Event) -> Sequence[Effect]:
        """Take one event and say what is to be done; synchronous, raises only on a defect.

        Bad input is never an exception: it is a native error and :class:`Close`.
        """
        ...

    @property
    def backlog(self) -> int:
        """Bytes taken from the client that wait behind an open ``Ask`` or a slow login.

        The driver stops reading from the client while it is high.
        """
        ...


@dataclass(frozen=True, slots=True)
class ProtocolSpec:
    """A row of the table of protocols.

    ``converse`` makes the conversation of a new connection. ``classify`` judges one statement
    outside of a session, for the control plane's explanations: ``(text) -> Operation``.
    """

    name: str
    converse: Callable[[], Conversation]
    classify: Callable[[str], Operation]
