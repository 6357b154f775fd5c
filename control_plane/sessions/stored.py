"""How principals are kept in the database: the wire form's own JSON, so there is one converter."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from protos.jitgate.v1 import gateway_pb2 as pb
from protos.vocabulary import Principal
from protos.wire import principal_from_wire, principal_to_wire


def stored_principal(principal: Principal) -> dict[str, Any]:
    """A principal as JSON values."""
    return MessageToDict(principal_to_wire(principal), preserving_proto_field_name=True)


def principal_of(stored: dict[str, Any]) -> Principal:
    """The principal that was stored."""
    return principal_from_wire(ParseDict(stored, pb.Principal()))
