from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos import wire
from protos.jitgate.v1 import gateway_pb2 as pb
from tests.protos import values


def _carried(value: Any, to_wire: Callable[[Any], Any], from_wire: Callable[[Any], Any]) -> Any:
    """The value after a way over the wire, as bytes."""
    message = to_wire(value)
    return from_wire(type(message).FromString(message.SerializeToString()))


@pytest.mark.parametrize(
    ("strategy", "to_wire", "from_wire"),
    [
        (values.operations, wire.operation_to_wire, wire.operation_from_wire),
        (values.principals, wire.principal_to_wire, wire.principal_from_wire),
        (values.terms, wire.terms_to_wire, wire.terms_from_wire),
        (values.verdicts, wire.verdict_to_wire, wire.verdict_from_wire),
        (values.targets, wire.target_to_wire, wire.target_from_wire),
        (values.credentials, wire.credential_to_wire, wire.credential_from_wire),
        (values.policy_sets, wire.policies_to_wire, wire.policies_from_wire),
    ],
    ids=["operation", "principal", "terms", "verdict", "target", "credential", "policies"],
)
def test_a_value_survives_the_way_there_and_back(
    strategy: st.SearchStrategy[Any],
    to_wire: Callable[[Any], Any],
    from_wire: Callable[[Any], Any],
) -> None:
    @settings(max_examples=100, deadline=None)
    @given(strategy)
    def survives(value: Any) -> None:
        back = _carried(value, to_wire, from_wire)
        assert back == value
        assert type(back) is type(value)
        # Equal values have equal messages: sets are sorted.
        assert to_wire(back) == to_wire(value)

    survives()


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (wire.operation_from_wire, pb.Operation(risk=7)),  # type: ignore[arg-type]
        (wire.operation_from_wire, pb.Operation()),
        (wire.principal_from_wire, pb.Principal(kind="robot")),
        (wire.principal_from_wire, pb.Principal()),
        (wire.terms_from_wire, pb.ApprovalTerms(scopes=["ever"])),
        (wire.verdict_from_wire, pb.Verdict(outcome="maybe")),
        (wire.verdict_from_wire, pb.Verdict()),
        (
            wire.policies_from_wire,
            pb.PolicySet(policies=[pb.Policy(rules=[pb.Rule(outcome="maybe")])]),
        ),
        (
            wire.policies_from_wire,
            pb.PolicySet(
                policies=[pb.Policy(rules=[pb.Rule(outcome="allow", risks=[6])])]  # type: ignore[list-item]
            ),
        ),
        (
            wire.policies_from_wire,
            pb.PolicySet(policies=[pb.Policy(subjects=[pb.Subject(kinds=["robot"])])]),
        ),
        (
            wire.policies_from_wire,
            pb.PolicySet(maskings=[pb.Masking(rules=[pb.MaskingRule(transform="hide")])]),
        ),
    ],
)
def test_a_word_that_is_not_known_is_not_obeyed(read: Callable[[Any], Any], message: Any) -> None:
    with pytest.raises(ValueError, match="is not a valid"):
        read(message)


def test_a_password_is_in_no_repr() -> None:
    credential = wire.credential_from_wire(pb.Credential(username="app", password="hunter2"))
    assert credential.password == "hunter2"
    assert "hunter2" not in repr(credential)
