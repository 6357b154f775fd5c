from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.approvals.rules import (
    ApprovalState,
    Voice,
    approvable,
    granted,
    named_groups,
    needed,
    progress,
    state_at,
)
from protos.vocabulary import ApprovalTerms, Requirement, Scope

AT = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C = "a", "b", "c"


def voice(name: str, *groups: str, scope: Scope = Scope.ONCE) -> Voice:
    return Voice(name, frozenset(groups), scope)


def of(*requirements: tuple[set[str], int]) -> ApprovalTerms:
    return ApprovalTerms(
        tuple(Requirement(f"p/{i}", frozenset(g), n) for i, (g, n) in enumerate(requirements))
    )


def test_nothing_is_granted_without_a_requirement_that_somebody_could_meet() -> None:
    for terms in (of(), of((set(), 1)), of(({A}, 0)), of(({A}, 1), (set(), 1))):
        assert not approvable(terms)
        assert granted(terms, [voice("ada", A, B)]) is None


def test_every_requirement_has_to_be_met_by_enough_different_humans() -> None:
    terms = of(({A}, 2), ({B}, 1))
    ada, bob, cyd = voice("ada", A, B), voice("bob", A), voice("cyd", B)
    assert granted(terms, [ada]) is None
    assert granted(terms, [ada, cyd]) is None
    assert granted(terms, [ada, bob]) is Scope.ONCE
    assert [one.by for one in progress(terms, [ada, bob])] == [("ada", "bob"), ("ada",)]


def test_who_belongs_to_met_requirements_only_is_not_needed() -> None:
    terms = of(({A}, 1), ({B}, 1))
    assert needed(terms, [voice("ada", A)], {B})
    assert not needed(terms, [voice("ada", A)], {A})
    assert not needed(terms, [], {C})
    assert named_groups(terms) == {A, B}


def test_humans_who_disagree_on_the_scope_agree_on_once() -> None:
    terms = of(({A}, 2))
    window, session = voice("ada", A, scope=Scope.WINDOW), voice("bob", A, scope=Scope.SESSION)
    assert granted(terms, [window, session]) is Scope.ONCE
    assert granted(terms, [window, voice("bob", A, scope=Scope.WINDOW)]) is Scope.WINDOW


@pytest.mark.parametrize(
    ("state", "scope", "after", "expected"),
    [
        ("pending", "", -1, ApprovalState.PENDING),
        ("pending", "", 0, ApprovalState.EXPIRED),
        ("approved", "once", -1, ApprovalState.APPROVED),
        ("approved", "once", 0, ApprovalState.EXPIRED),
        ("approved", "window", 1, ApprovalState.EXPIRED),
        ("approved", "session", 1, ApprovalState.APPROVED),
        ("denied", "", 1, ApprovalState.DENIED),
        ("consumed", "once", 1, ApprovalState.CONSUMED),
        ("withdrawn", "", 1, ApprovalState.WITHDRAWN),
    ],
)
def test_time_ends_what_is_pending_and_what_was_granted(
    state: str, scope: str, after: int, expected: ApprovalState
) -> None:
    assert state_at(state, scope, AT, AT + timedelta(seconds=after)) is expected


groups = st.frozensets(st.sampled_from([A, B, C]), max_size=3)
voices = st.lists(st.builds(voice, st.text(max_size=3), scope=st.sampled_from(Scope)), max_size=0)


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from([A, B, C]), min_size=1), st.integers(1, 3)),
        min_size=1,
        max_size=3,
    ),
    st.lists(groups, max_size=6),
    st.data(),
)
def test_one_more_voice_never_takes_a_grant_away(
    requirements: list[tuple[set[str], int]], said: list[frozenset[str]], data: st.DataObject
) -> None:
    terms = of(*requirements)
    all_voices = [Voice(str(i), g, Scope.ONCE) for i, g in enumerate(said)]
    some = all_voices[: data.draw(st.integers(0, len(all_voices)))]
    if granted(terms, some) is not None:
        assert granted(terms, all_voices) is not None
    enough = all(sum(bool(g & r) for g in said) >= count for r, count in requirements)
    assert (granted(terms, all_voices) is not None) == enough
