"""A playbook for conversations: ``>>`` an event goes in, ``<<`` an effect comes out.

::

    play = Playbook(conversation)
    play >> Received(Side.CLIENT, packet)
    play << Send(Side.CLIENT, b"S") << StartTLS(Side.CLIENT)

What stands behind ``<<`` is an effect that must be equal, a type that it must have, or a
function that says whether it is right. Every effect must be expected before the next event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Self

from data_plane.conversation import Conversation, Effect, Event, Send, Side

Expectation = Effect | type | Callable[[Effect], bool]


class Playbook:
    """Plays events to a conversation and keeps what it sent."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.seen: list[Effect] = []
        self.sent: dict[Side, bytearray] = {side: bytearray() for side in Side}
        self.recorded = bytearray()
        self._pending: deque[Effect] = deque()

    def feed(self, *events: Event) -> Sequence[Effect]:
        """Play events without expecting anything; gives all their effects."""
        effects: list[Effect] = []
        for event in events:
            effects += self._play(event)
        return effects

    def _play(self, event: Event) -> Sequence[Effect]:
        effects = self.conversation.handle(event)
        plain = [effect for effect in effects if isinstance(effect, Send) and not effect.secret]
        for side in Side:
            assert sum(effect.side is side for effect in plain) <= 1, "more than one Send a side"
        for effect in effects:
            self.seen.append(effect)
            if isinstance(effect, Send):
                self.sent[effect.side] += effect.data
                if effect.side is Side.CLIENT and not effect.secret:
                    self.recorded += effect.data
        return effects

    def __rshift__(self, event: Event) -> Self:
        self.done()
        self._pending.extend(self._play(event))
        return self

    def __lshift__(self, expected: Expectation) -> Self:
        assert self._pending, f"nothing came out, expected {expected!r}"
        effect = self._pending.popleft()
        if isinstance(expected, type):
            assert isinstance(effect, expected), f"{effect!r} is no {expected!r}"
        elif isinstance(effect, type(expected)):
            assert effect == expected, f"{effect!r} is not {expected!r}"
        else:
            assert callable(expected), f"{effect!r} is not {expected!r}"
            assert expected(effect), f"{effect!r} is not what was expected"
        return self

    def done(self) -> None:
        """Nothing else came out."""
        assert not self._pending, f"not expected: {list(self._pending)!r}"
