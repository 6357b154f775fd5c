"""How operations and terms are kept: the wire form's own JSON, so there is one converter."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from control_plane.approvals.models import Approval
from control_plane.approvals.rules import Choice, Voice
from protos.jitgate.v1 import gateway_pb2 as pb
from protos.vocabulary import ApprovalTerms, Operation, Scope
from protos.wire import operation_from_wire, operation_to_wire, terms_from_wire, terms_to_wire


def stored_operation(operation: Operation) -> dict[str, Any]:
    """An operation as JSON values."""
    return MessageToDict(operation_to_wire(operation), preserving_proto_field_name=True)


def operation_of(row: Approval) -> Operation:
    """The operation that was stored."""
    return operation_from_wire(ParseDict(row.operation, pb.Operation()))


def stored_terms(terms: ApprovalTerms) -> dict[str, Any]:
    """Terms as JSON values."""
    return MessageToDict(terms_to_wire(terms), preserving_proto_field_name=True)


def terms_of(row: Approval) -> ApprovalTerms:
    """The terms that were stored."""
    return terms_from_wire(ParseDict(row.terms, pb.ApprovalTerms()))


def voices_of(row: Approval) -> list[Voice]:
    """Those who approved, in order."""
    return [
        Voice(one.name, frozenset(one.groups), Scope(one.scope))
        for one in row.decisions
        if one.decision == Choice.APPROVE
    ]
