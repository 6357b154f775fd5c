"""The table of protocols. Adding one: its folder, its line here, its folder of tests.

Counterparts: the relay looks a target's protocol up here, the control plane a classifier. A
protocol's modules are loaded when it is first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from data_plane.conversation import Conversation, ProtocolSpec
from protos.vocabulary import Operation


def _postgres() -> Conversation:
    from data_plane.protocols.postgres.conversation import PostgresConversation

    return PostgresConversation()


def _classify_postgres(text: str) -> Operation:
    from data_plane.protocols.postgres.operations import classify_text

    return classify_text(text)


PROTOCOLS: Mapping[str, ProtocolSpec] = MappingProxyType(
    {"postgres": ProtocolSpec("postgres", _postgres, _classify_postgres)}
)
