"""What makes an approval approved: pure functions over its terms and decisions.

An approval is ``pending`` until every requirement is met (``approved``), one human denies
(``denied``), the agent gives it up (``withdrawn``) or its time is over (``expired``). One that
was granted ``once`` is ``consumed`` by the operation that it lets through. Times are aware.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from protos.vocabulary import ApprovalTerms, Requirement, Scope


class ApprovalState(StrEnum):
    """Where an approval stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    CONSUMED = "consumed"


class Choice(StrEnum):
    """What a human says."""

    APPROVE = "approve"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Voice:
    """One human's approval: who, in which of the groups that the terms name, and how far."""

    name: str
    groups: frozenset[str]
    scope: Scope


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one requirement is met, and by whom."""

    requirement: Requirement
    by: tuple[str, ...]

    @property
    def met(self) -> bool:
        """Whether enough humans have approved."""
        return len(self.by) >= self.requirement.count


def approvable(terms: ApprovalTerms) -> bool:
    """Whether anybody could ever meet the terms. Without a requirement nobody decides, and
    what nobody decides must not count as approved.
    """
    return bool(terms.requirements) and all(
        requirement.groups and requirement.count >= 1 for requirement in terms.requirements
    )


def progress(terms: ApprovalTerms, voices: Sequence[Voice]) -> tuple[Progress, ...]:
    """Each requirement with those who count toward it.

    One human can count toward several requirements, and counts once toward each.
    """
    return tuple(
        Progress(
            requirement,
            tuple(
                voice.name for voice in voices if not voice.groups.isdisjoint(requirement.groups)
            ),
        )
        for requirement in terms.requirements
    )


def named_groups(terms: ApprovalTerms) -> frozenset[str]:
    """Every group whose members may decide."""
    return frozenset().union(*(requirement.groups for requirement in terms.requirements))


def needed(terms: ApprovalTerms, voices: Sequence[Voice], groups: Set[str]) -> bool:
    """Whether somebody of ``groups`` counts toward a requirement that isn't met yet."""
    return any(
        not one.met and not one.requirement.groups.isdisjoint(groups)
        for one in progress(terms, voices)
    )


def granted(terms: ApprovalTerms, voices: Sequence[Voice]) -> Scope | None:
    """How far the approval reaches once every requirement is met, or None before.

    Where humans chose differently, nobody agreed to more than this one operation.
    """
    if not approvable(terms) or not all(one.met for one in progress(terms, voices)):
        return None
    scopes = {voice.scope for voice in voices}
    return scopes.pop() if len(scopes) == 1 else Scope.ONCE


def state_at(state: str, scope: str, valid_until: datetime, moment: datetime) -> ApprovalState:
    """The state at ``moment`` of an approval whose row may not know yet that time is over."""
    stored = ApprovalState(state)
    over = moment >= valid_until
    match stored:
        case ApprovalState.PENDING if over:
            return ApprovalState.EXPIRED
        # A grant for the session lasts as long as the session.
        case ApprovalState.APPROVED if over and scope != Scope.SESSION:
            return ApprovalState.EXPIRED
        case _:
            return stored
