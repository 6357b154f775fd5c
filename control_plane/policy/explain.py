"""Says what would happen: an agent, a target, a statement, and every rule that speaks of it.

Counterparts: a connected relay classifies the statement (:mod:`control_plane.relays.questions`),
:mod:`protos.policy` judges it with the functions that relays enforce with. Nothing is executed,
and nothing is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from control_plane.database import Database, now
from control_plane.policy.service import PolicyService
from control_plane.relays.questions import Questions
from control_plane.targets.service import TargetService
from protos.policy import Policy, PolicySet, Rule, applicable, evaluate, masking_for
from protos.vocabulary import MaskingRule, Operation, Principal, Target, Verdict


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict and what led to it. ``matching`` has every rule that speaks of it."""

    version: str
    operation: Operation
    verdict: Verdict
    policies: tuple[str, ...]
    matching: tuple[tuple[Policy, Rule], ...]
    masking: tuple[MaskingRule, ...]


class Explainer:
    """Answers "what if"."""

    def __init__(
        self,
        database: Database,
        policies: PolicyService,
        targets: TargetService,
        questions: Questions,
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database = database
        self._policies = policies
        self._targets = targets
        self._questions = questions
        self._clock = clock

    async def explain(self, principal: Principal, target: str, statement: str) -> Explanation:
        """What would happen now, if ``principal`` sent ``statement`` to ``target``.

        Raises NotFound, and Unavailable where no relay can classify it.
        """
        policies, found = await asyncio.to_thread(self._look, target)
        operation = await self._questions.ask(
            lambda relay: not found.relays or relay in found.relays,
            found.protocol,
            found.name,
            statement,
        )
        at = int(self._clock().timestamp())
        applying = applicable(policies, principal, found, at)
        return Explanation(
            policies.version,
            operation,
            evaluate(policies, principal, found, operation, at),
            tuple(policy.name for policy in applying),
            tuple(
                (policy, rule)
                for policy in applying
                for rule in policy.rules
                if rule.matches(operation)
            ),
            # Who has no business at the target gets no answer that could be masked.
            masking_for(policies, principal, found, at) if applying else (),
        )

    def _look(self, target: str) -> tuple[PolicySet, Target]:
        with self._database.transaction() as session:
            return self._policies.current(session), self._targets.find(session, target).target
