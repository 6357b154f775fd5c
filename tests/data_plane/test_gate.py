import json
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from data_plane.control import Refused, Unavailable
from data_plane.control.client import Registered
from data_plane.conversation import Held
from data_plane.gate import Gate, Hold
from data_plane.recording import Recorder, RecordingFailed, Spool
from protos.chain import read
from protos.policy import Policy, PolicySet, Rule, Subject, TargetSelector
from protos.vocabulary import (
    ApprovalTerms,
    EntryKind,
    Operation,
    Outcome,
    Principal,
    PrincipalKind,
    Requirement,
    Resource,
    Risk,
    Target,
    Verdict,
)

PRINCIPAL = Principal("t", "o", "c", PrincipalKind.APPLICATION, groups=frozenset({"g"}))
TARGET = Target("orders", "postgres", "127.0.0.1", 5432, "shop")
READ = Operation("postgres", "select", (Resource("public.orders"),), Risk.READ, "SELECT 1", b"r")
DELETE = replace(READ, action="delete", risk=Risk.DESTROY, text="DELETE FROM orders", digest=b"d")
DROP = replace(READ, action="drop", risk=Risk.ADMINISTER, text="DROP TABLE orders", digest=b"x")
TERMS = ApprovalTerms((Requirement("", frozenset({"approvers"})),), hold_seconds=60)
POLICY = Policy(
    "agents",
    (Subject(groups=frozenset({"g"})),),
    TargetSelector(("orders",)),
    (
        Rule("read", Outcome.ALLOW, frozenset({Risk.READ})),
        Rule("destroy", Outcome.APPROVE, frozenset({Risk.DESTROY}), terms=TERMS),
        Rule("never", Outcome.REFUSE, frozenset({Risk.ADMINISTER})),
    ),
)
APPROVED = Verdict(Outcome.ALLOW, "approved", "fine", decided_by="human")


class Desk:
    """Approvals that answer from a list: a verdict, or an error to raise; then they wait."""

    def __init__(self, *answers: Verdict | Exception, until: float = 60.0) -> None:
        self.answers = list(answers)
        self.until = until
        self.requested: list[Operation] = []
        self.asked: list[tuple[str, str]] = []
        self.withdrawn: list[str] = []
        self.refuse: Exception | None = None

    async def request_approval(self, *, operation: Operation, **_: object) -> Registered:
        if self.refuse is not None:
            raise self.refuse
        self.requested.append(operation)
        return Registered("apr_1", "https://gw/approvals/apr_1", int(self.until), 3600)

    async def await_approval(self, approval_id: str, hold_id: str) -> Verdict:
        self.asked.append((approval_id, hold_id))
        if not self.answers:
            await trio.sleep_forever()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def withdraw_approval(self, approval_id: str, hold_id: str, reason: str) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.withdrawn.append(approval_id)


class Bench:
    """A gate with all that it needs, and what it recorded."""

    def __init__(self, tmp_path: Path, desk: Desk, *policies: Policy) -> None:
        self.spool = Spool(tmp_path, 64 << 20)
        self.recorder = Recorder(self.spool, "cd" * 16, lambda: 1)
        self.policies = PolicySet("v1", policies or (POLICY,))
        self.at: float | None = None
        self.start = trio.current_time()
        self.gate = self.made(desk)

    def made(self, desk: Desk, principal: Principal = PRINCIPAL, target: Target = TARGET) -> Gate:
        return Gate(
            recorder=self.recorder,
            principal=principal,
            target=target,
            policies=lambda: self.policies,
            approvals=desk,
            clock=lambda: trio.current_time() - self.start if self.at is None else self.at,
        )

    def recorded(self) -> list[tuple[EntryKind, dict[str, object]]]:
        data = self.spool.read(0, 1 << 20)
        return [(entry.kind, json.loads(entry.payload)) for entry in read(data)]

    def kinds(self) -> list[EntryKind]:
        return [kind for kind, _ in self.recorded()]

    def hold(self, operation: Operation = DELETE, gate: Gate | None = None) -> Hold:
        answer = (gate or self.gate).decide(operation)
        assert isinstance(answer, Hold)
        return answer


async def test_what_policy_allows_or_refuses_is_final_and_judged_on_record(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, Desk())
    allowed, refused = bench.gate.decide(READ), bench.gate.decide(DROP)
    assert isinstance(allowed, Verdict)
    assert isinstance(refused, Verdict)
    assert (allowed.outcome, refused.outcome) == (Outcome.ALLOW, Outcome.REFUSE)
    assert refused.rule == "agents/never"
    assert bench.kinds() == [EntryKind.JUDGED, EntryKind.JUDGED]
    judged = bench.recorded()[1][1]
    assert judged["policy_version"] == "v1"
    assert judged["operation"]["text"] == "DROP TABLE orders"  # type: ignore[index]


async def test_an_approved_operation_passes_after_everything_is_on_record(
    tmp_path: Path,
) -> None:
    desk = Desk(APPROVED)
    bench = Bench(tmp_path, desk)
    hold = bench.hold()
    held = await hold.begin()
    assert isinstance(held, Held)
    assert (held.approval_id, held.deadline) == ("apr_1", "1970-01-01T00:01:00Z")
    assert held.seconds_left in (59, 60)
    verdict = await hold.wait()
    assert (verdict.outcome, verdict.approval_id, verdict.decided_by, verdict.rule) == (
        Outcome.ALLOW,
        "apr_1",
        "human",
        "agents/destroy",
    )
    assert bench.kinds() == [EntryKind.JUDGED, EntryKind.HELD, EntryKind.DECIDED]
    assert hold.abandon("too late") is None
    assert bench.kinds()[-1] is EntryKind.DECIDED


async def test_a_preview_passes_what_needs_approval_and_refuses_what_is_forbidden(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, Desk())
    passed = bench.gate.decide(DELETE, preview=True)
    refused = bench.gate.decide(DROP, preview=True)
    assert isinstance(passed, Verdict)
    assert (passed.outcome, passed.code) == (Outcome.ALLOW, "preview")
    assert isinstance(refused, Verdict)
    assert refused.outcome is Outcome.REFUSE


async def test_the_digest_binds_operation_principal_target_database_and_policy(
    tmp_path: Path,
) -> None:
    desk = Desk()
    bench = Bench(tmp_path, desk)
    elsewhere = replace(TARGET, database="other")
    another = replace(PRINCIPAL, object_id="o2")
    same = [bench.hold().operation.digest, bench.hold().operation.digest]
    others = [
        bench.hold(replace(DELETE, digest=b"e")).operation.digest,
        bench.hold(gate=bench.made(desk, principal=another)).operation.digest,
        bench.hold(gate=bench.made(desk, target=elsewhere)).operation.digest,
    ]
    bench.policies = replace(bench.policies, version="v2")
    others.append(bench.hold().operation.digest)
    assert same[0] == same[1]
    assert len({same[0], *others}) == 5


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        (POLICY.rules, Outcome.ALLOW),
        ((Rule("all", Outcome.ALLOW, frozenset({Risk.DESTROY})),), Outcome.ALLOW),
        ((Rule("none", Outcome.REFUSE),), Outcome.REFUSE),
        ((replace(POLICY.rules[1], terms=replace(TERMS, self_approval=True)),), Outcome.REFUSE),
        ((), Outcome.REFUSE),
    ],
)
async def test_an_approval_counts_only_if_policy_still_says_the_same(
    tmp_path: Path, changed: tuple[Rule, ...], outcome: Outcome
) -> None:
    bench = Bench(tmp_path, Desk(APPROVED))
    hold = bench.hold()
    await hold.begin()
    bench.policies = PolicySet("v2", (replace(POLICY, rules=changed),))
    verdict = await hold.wait()
    assert verdict.outcome is outcome
    assert verdict.code == ("approved" if outcome is Outcome.ALLOW else "policy_changed")


async def test_a_denial_is_passed_on_with_who_and_why(tmp_path: Path) -> None:
    denied = Verdict(Outcome.REFUSE, "denied", "not today", decided_by="human")
    hold = Bench(tmp_path, Desk(denied)).hold()
    await hold.begin()
    assert await hold.wait() == replace(denied, rule="agents/destroy", approval_id="apr_1")


async def test_a_control_plane_that_says_no_or_nothing_refuses(tmp_path: Path) -> None:
    desk = Desk()
    bench = Bench(tmp_path, desk)
    desk.refuse = Unavailable("gone")
    away = await bench.hold().begin()
    desk.refuse = Refused("relay_revoked", "no")
    refused = await bench.hold().begin()
    assert isinstance(away, Verdict)
    assert isinstance(refused, Verdict)
    assert (away.outcome, away.code) == (Outcome.REFUSE, "control_plane_unavailable")
    assert (refused.outcome, refused.code) == (Outcome.REFUSE, "relay_revoked")
    assert bench.kinds()[-1] is EntryKind.DECIDED


async def test_a_wait_survives_the_control_planes_absence(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    desk = Desk(Unavailable("restarting"), Unavailable("still"), APPROVED)
    hold = Bench(tmp_path, desk).hold()
    await hold.begin()
    assert (await hold.wait()).outcome is Outcome.ALLOW
    assert len(set(desk.asked)) == 1
    assert len(desk.asked) == 3


async def test_a_wait_that_is_refused_says_why(tmp_path: Path) -> None:
    hold = Bench(tmp_path, Desk(Refused("not_yours", "another relay's"))).hold()
    await hold.begin()
    verdict = await hold.wait()
    assert (verdict.outcome, verdict.code) == (Outcome.REFUSE, "not_yours")
    assert verdict.approval_id == "apr_1"


async def test_a_hold_ends_although_the_control_plane_never_answers(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    hold = Bench(tmp_path, Desk(until=60)).hold()
    await hold.begin()
    verdict = await hold.wait()
    assert (verdict.outcome, verdict.code, verdict.approval_id) == (
        Outcome.REFUSE,
        "hold_expired",
        "apr_1",
    )


async def test_an_abandoned_hold_is_on_record_and_withdrawn(tmp_path: Path) -> None:
    desk = Desk()
    bench = Bench(tmp_path, desk)
    hold = bench.hold()
    await hold.begin()
    tell = hold.abandon("hung up")
    assert tell is not None
    await tell()
    assert desk.withdrawn == ["apr_1"]
    desk.refuse = Unavailable("gone")
    again = bench.hold()
    desk.refuse = None
    await again.begin()
    desk.refuse = Unavailable("gone")
    tell = again.abandon("hung up")
    assert tell is not None
    await tell()
    assert bench.recorded()[2][1]["verdict"]["code"] == "withdrawn"  # type: ignore[index]


async def test_a_hold_abandoned_before_it_began_needs_no_withdrawal(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Desk())
    hold = bench.hold()
    assert hold.abandon("hung up") is None
    with pytest.raises(RuntimeError, match="begins before"):
        await bench.hold().wait()


async def test_a_policy_that_changes_or_runs_out_counts_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Desk(), replace(POLICY, not_after=1000))
    bench.at = 999.0
    outcomes = [bench.gate.decide(READ), bench.gate.decide(READ)]
    bench.at = 1000.0
    outcomes.append(bench.gate.decide(READ))
    bench.policies = PolicySet("v2", (POLICY,))
    outcomes.append(bench.gate.decide(READ))
    assert [v.outcome for v in outcomes if isinstance(v, Verdict)] == [
        Outcome.ALLOW,
        Outcome.ALLOW,
        Outcome.REFUSE,
        Outcome.ALLOW,
    ]


async def test_without_a_record_nothing_is_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, Desk())

    def full(*_: object, **__: object) -> None:
        raise RecordingFailed("full")

    monkeypatch.setattr(bench.spool, "append", full)
    with pytest.raises(RecordingFailed):
        bench.gate.decide(READ)
