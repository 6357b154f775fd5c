"""The one gate: the only place where policy, recording and approval meet.

``decide`` works in a fixed order: evaluate, record the judgement, hold for a human if needed,
record the answer. Counterparts: :mod:`data_plane.session` asks and releases what was held by
the verdict alone; :func:`protos.policy.judge` is the meaning; the control plane keeps
approvals. It knows no protocol and no transport.

The digest of an approval is made here: the protocol's own, over everything that will be sent,
extended by principal, target and policy version. What changes any of them asks again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Protocol
from uuid import uuid4

import trio

from data_plane.control import Refused, Unavailable
from data_plane.control.client import Registered
from data_plane.conversation import Held
from data_plane.recording import Recorder
from protos.policy import Policy, PolicySet, applicable, judge
from protos.vocabulary import EntryKind, Operation, Outcome, Principal, Target, Verdict

GRACE_SECONDS = 5.0
"""How long after a hold's end the control plane may still say so itself."""
RETRY_SECONDS = 1.0


class Approvals(Protocol):
    """What the gate needs of the control plane."""

    async def request_approval(
        self,
        *,
        hold_id: str,
        session: str,
        operation: Operation,
        verdict: Verdict,
        policy_version: str,
    ) -> Registered: ...
    async def await_approval(self, approval_id: str, hold_id: str) -> Verdict: ...
    async def withdraw_approval(self, approval_id: str, hold_id: str, reason: str) -> None: ...


class Gate:
    """One session's gate. ``policies`` gives the newest set, ``clock`` epoch seconds."""

    def __init__(
        self,
        *,
        recorder: Recorder,
        principal: Principal,
        target: Target,
        policies: Callable[[], PolicySet],
        approvals: Approvals,
        clock: Callable[[], float],
    ) -> None:
        self._recorder = recorder
        self._principal = principal
        self._target = target
        self._policies = policies
        self._approvals = approvals
        self._clock = clock
        self._seen: PolicySet | None = None
        self._applying: tuple[Policy, ...] = ()
        self._applying_until = 0.0

    def decide(self, operation: Operation, *, preview: bool = False) -> Verdict | Hold:
        """Judge an operation and record the judgement.

        The verdict is final, ``ALLOW`` or ``REFUSE``; or a :class:`Hold` has to be waited for.
        With ``preview`` nothing runs yet, so what would need approval passes for now. Raises
        ``RecordingFailed``, and then the operation must not run.
        """
        policies = self._policies()
        verdict = judge(self._narrowed(policies), operation)
        if preview and verdict.outcome is Outcome.APPROVE:
            verdict = Verdict(
                Outcome.ALLOW, "preview", "it is asked about when it runs", verdict.rule
            )
        self._recorder.note(
            EntryKind.JUDGED, _judgement(operation, verdict, preview, policies.version)
        )
        if verdict.outcome is not Outcome.APPROVE:
            return verdict
        digest = self._digest(operation, policies.version)
        return Hold(
            self._recorder,
            self._approvals,
            self._clock,
            dataclasses.replace(operation, digest=digest),
            verdict,
            policies.version,
            lambda: judge(self._narrowed(self._policies()), operation),
        )

    def _narrowed(self, policies: PolicySet) -> tuple[Policy, ...]:
        """The policies that apply now; looked up anew when the set changes or one runs out."""
        at = self._clock()
        if policies is not self._seen or at >= self._applying_until:
            self._seen = policies
            self._applying = applicable(policies, self._principal, self._target, int(at))
            self._applying_until = min(
                (policy.not_after for policy in self._applying if policy.not_after),
                default=float("inf"),
            )
        return self._applying

    def _digest(self, operation: Operation, version: str) -> bytes:
        digest = sha256(b"jitgate approval 1\0")
        for part in (
            self._principal.tenant,
            self._principal.object_id,
            self._target.name,
            self._target.database,
            version,
        ):
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(4, "big") + encoded)
        digest.update(operation.digest)
        return digest.digest()


@dataclass(slots=True)
class Hold:
    """An operation that waits for a human: ``begin``, then ``wait``, or ``withdraw``."""

    _recorder: Recorder
    _approvals: Approvals
    _clock: Callable[[], float]
    operation: Operation
    verdict: Verdict
    policy_version: str
    _judge_again: Callable[[], Verdict]
    _id: str = dataclasses.field(default_factory=lambda: uuid4().hex)
    _registered: Registered | None = None
    _over: bool = False

    async def begin(self) -> Held | Verdict:
        """Register the hold; what to tell the agent, or at once a verdict where that failed."""
        try:
            self._registered = await self._approvals.request_approval(
                hold_id=self._id,
                session=self._recorder.session,
                operation=self.operation,
                verdict=self.verdict,
                policy_version=self.policy_version,
            )
        except Refused as refused:
            return self._answered(
                Verdict(Outcome.REFUSE, refused.code, refused.reason, self.verdict.rule)
            )
        except Unavailable:
            return self._answered(
                Verdict(
                    Outcome.REFUSE,
                    "control_plane_unavailable",
                    "this needs approval, and the control plane can't be reached; try again later",
                    self.verdict.rule,
                )
            )
        self._recorder.note(
            EntryKind.HELD,
            {
                "approval_id": self._registered.approval_id,
                "url": self._registered.url,
                "hold_until": self._registered.hold_until,
                "digest": self.operation.digest.hex(),
            },
        )
        return self.held

    @property
    def held(self) -> Held:
        """Where the hold stands now; only after ``begin``."""
        registered = self._known
        return Held(
            registered.approval_id,
            registered.url,
            datetime.fromtimestamp(registered.hold_until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            max(0, int(registered.hold_until - self._clock())),
            self.verdict.reason,
        )

    async def wait(self) -> Verdict:
        """The answer, recorded; when the hold time ends first, a refusal that says so.

        A control plane that goes away meanwhile is asked again: the row there is the truth.
        """
        registered = self._known
        left = max(0.0, registered.hold_until - self._clock())
        with trio.move_on_after(left + GRACE_SECONDS):
            while True:
                try:
                    answer = await self._approvals.await_approval(registered.approval_id, self._id)
                except Unavailable:
                    await trio.sleep(RETRY_SECONDS)
                except Refused as refused:
                    return self._answered(
                        Verdict(
                            Outcome.REFUSE,
                            refused.code,
                            refused.reason,
                            self.verdict.rule,
                            approval_id=registered.approval_id,
                        )
                    )
                else:
                    if answer.outcome is Outcome.ALLOW:
                        answer = self._still_valid(answer)
                    return self._answered(
                        dataclasses.replace(
                            answer,
                            rule=answer.rule or self.verdict.rule,
                            approval_id=registered.approval_id,
                        )
                    )
        return self._answered(
            Verdict(
                Outcome.REFUSE,
                "hold_expired",
                "nobody decided in time; once approved, the same operation sent again runs",
                self.verdict.rule,
                approval_id=registered.approval_id,
            )
        )

    def _still_valid(self, answer: Verdict) -> Verdict:
        """The answer, unless policy changed meanwhile and would say something else now."""
        again = self._judge_again()
        if again == self.verdict or again.outcome is Outcome.ALLOW:
            return answer
        return Verdict(
            Outcome.REFUSE,
            "policy_changed",
            "the policy changed while this waited; send it again",
            again.rule,
            decided_by=answer.decided_by,
        )

    def abandon(self, reason: str) -> Callable[[], Any] | None:
        """Give the hold up, for the record; what then tells the control plane, if it must.

        What is returned is an async function that may outlive the session.
        """
        if self._over:
            return None
        registered = self._registered
        self._answered(
            Verdict(
                Outcome.REFUSE,
                "withdrawn",
                reason,
                self.verdict.rule,
                approval_id=registered.approval_id if registered else "",
            )
        )
        if registered is None:
            return None
        approval_id = registered.approval_id

        async def withdraw() -> None:
            # Best effort: an approval that nobody waits for runs nothing.
            with trio.move_on_after(GRACE_SECONDS):
                try:
                    await self._approvals.withdraw_approval(approval_id, self._id, reason)
                except (Refused, Unavailable):
                    return

        return withdraw

    @property
    def _known(self) -> Registered:
        if self._registered is None:
            raise RuntimeError("a hold begins before it is waited for")
        return self._registered

    def _answered(self, verdict: Verdict) -> Verdict:
        self._over = True
        self._recorder.note(EntryKind.DECIDED, {"verdict": _verdict(verdict)})
        return verdict


def _judgement(
    operation: Operation, verdict: Verdict, preview: bool, version: str
) -> Mapping[str, Any]:
    return {
        "operation": {
            "protocol": operation.protocol,
            "action": operation.action,
            "resources": [
                {"name": r.name, "written": r.written, "kind": r.kind} for r in operation.resources
            ],
            "risk": operation.risk.name.lower(),
            "text": operation.text,
            "facts": dict(operation.facts),
            "digest": operation.digest.hex(),
        },
        "verdict": _verdict(verdict),
        "preview": preview,
        "policy_version": version,
    }


def _verdict(verdict: Verdict) -> Mapping[str, Any]:
    return {
        "outcome": verdict.outcome,
        "code": verdict.code,
        "reason": verdict.reason,
        "rule": verdict.rule,
        "approval_id": verdict.approval_id,
        "decided_by": verdict.decided_by,
    }
