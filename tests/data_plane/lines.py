"""A tiny protocol of text lines: what the driver and the listener are tested with.

``login NAME`` opens a session and dials; then ``read``/``write``/``never X`` are operations of
those risks, passed to the target when allowed; ``tls`` starts TLS. The target's lines are
passed on. It obeys the rules of :mod:`data_plane.conversation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from data_plane.conversation import (
    Ask,
    Authenticate,
    CancelAsked,
    CancelSession,
    Close,
    Closed,
    Decided,
    Denied,
    Dial,
    Dialed,
    Effect,
    Ended,
    Event,
    Granted,
    Held,
    ProtocolSpec,
    Received,
    Secured,
    Send,
    SendAside,
    Side,
    StartTLS,
    Unreachable,
    Withdraw,
)
from protos.vocabulary import Operation, Outcome, Resource, Risk

RISKS = {"read": Risk.READ, "write": Risk.DESTROY, "never": Risk.ADMINISTER}


def classify(text: str) -> Operation:
    action = text.split(" ", 1)[0]
    return Operation(
        "lines",
        action,
        (Resource("public.lines"),),
        RISKS.get(action, Risk.UNKNOWN),
        text,
        sha256(text.encode()).digest(),
    )


class LinesConversation:
    def __init__(self) -> None:
        self._waiting = b""
        self._asked = ""
        self._ready = False
        self._cancel_key = b""

    @property
    def backlog(self) -> int:
        return len(self._waiting)

    def handle(self, event: Event) -> Sequence[Effect]:
        match event:
            case Received(Side.CLIENT, data):
                self._waiting += data
                return self._lines()
            case Received(Side.TARGET, data):
                return [self._say(data)]
            case Granted():
                self._cancel_key = event.cancel_key
                return [Dial()]
            case Denied():
                return [self._say(f"denied {event.code}\n".encode(), secret=True), Close("denied")]
            case Unreachable():
                return [self._say(b"unreachable\n"), Close("unreachable")]
            case Dialed():
                self._ready = True
                return [
                    Send(Side.TARGET, b"hello\n"),
                    self._say(b"welcome " + self._cancel_key.hex().encode() + b"\n"),
                    *self._lines(),
                ]
            case Held():
                return [self._say(f"held {event.approval_id}\n".encode())]
            case Decided():
                asked, self._asked = self._asked, ""
                if event.verdict.outcome is Outcome.ALLOW:
                    return [Send(Side.TARGET, asked.encode() + b"\n"), *self._lines()]
                return [self._say(f"refused {event.verdict.code}\n".encode()), *self._lines()]
            case CancelAsked():
                if self._asked:
                    self._asked = ""
                    return [Withdraw("cancelled"), self._say(b"cancelled\n"), *self._lines()]
                return [SendAside(b"cancel\n")]
            case Ended():
                return [self._say(f"ended {event.code}\n".encode()), Close(event.reason)]
            case Secured():
                return [self._say(b"secured\n", secret=True)]
            case Closed(side):
                effects: list[Effect] = [Withdraw("hung up")] if self._asked else []
                if side is Side.TARGET:
                    effects.append(self._say(b"target gone\n"))
                return [*effects, Close(f"{side} closed")]

    def _lines(self) -> list[Effect]:
        effects: list[Effect] = []
        while not self._asked and b"\n" in self._waiting:
            line, self._waiting = self._waiting.split(b"\n", 1)
            text = line.decode()
            if text == "tls":
                return [*effects, StartTLS(Side.CLIENT)]
            if text.startswith("login "):
                return [*effects, Authenticate("lines", text[6:])]
            if text.startswith("cancel "):
                return [CancelSession(bytes.fromhex(text[7:])), Close("cancel request")]
            if text == "bye":
                return [*effects, Close("bye")]
            self._asked = text
            effects.append(Ask(classify(text)))
        return effects

    @staticmethod
    def _say(data: bytes, *, secret: bool = False) -> Send:
        return Send(Side.CLIENT, data, secret)


SPEC = ProtocolSpec("lines", LinesConversation, classify)
