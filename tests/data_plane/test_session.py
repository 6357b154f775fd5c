import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from data_plane.config import Limits, ListenConfig
from data_plane.control import Refused, Unavailable
from data_plane.control.client import Registered
from data_plane.conversation import Denied
from data_plane.gate import Gate
from data_plane.listener import Listener
from data_plane.recording import Recorder, RecordingFailed, Spool
from data_plane.session import Opened, Session
from protos.chain import parse
from protos.policy import Policy, PolicySet, Rule, Subject, TargetSelector
from protos.vocabulary import (
    ApprovalTerms,
    Credential,
    Entry,
    EntryKind,
    Outcome,
    Principal,
    PrincipalKind,
    Risk,
    Target,
    Verdict,
)
from tests.data_plane.lines import SPEC

PRINCIPAL = Principal("t", "o", "c", PrincipalKind.APPLICATION, groups=frozenset({"g"}))
POLICIES = PolicySet(
    "v1",
    (
        Policy(
            "agents",
            (Subject(groups=frozenset({"g"})),),
            TargetSelector(("lines",)),
            (
                Rule("read", Outcome.ALLOW, frozenset({Risk.READ})),
                Rule("write", Outcome.APPROVE, frozenset({Risk.DESTROY}), terms=ApprovalTerms(())),
                Rule("never", Outcome.REFUSE, frozenset({Risk.ADMINISTER})),
            ),
        ),
    ),
)


class Approvals:
    """A human who decides when told to."""

    def __init__(self) -> None:
        self.decided = trio.Event()
        self.verdict = Verdict(Outcome.ALLOW, "approved", "fine", decided_by="human")
        self.withdrawn = trio.Event()
        self.registered = trio.Event()

    async def request_approval(self, **_: object) -> Registered:
        self.registered.set()
        return Registered("apr_1", "https://gw/apr_1", int(trio.current_time()) + 600, 3600)

    async def await_approval(self, approval_id: str, hold_id: str) -> Verdict:
        await self.decided.wait()
        return self.verdict

    async def withdraw_approval(self, approval_id: str, hold_id: str, reason: str) -> None:
        self.withdrawn.set()


class Lab:
    """A relay in little: a listener, a real target on loopback, a spool, a human."""

    def __init__(self, tmp_path: Path, nursery: trio.Nursery, limits: Limits) -> None:
        self.limits = limits
        self.nursery = nursery
        self.spool = Spool(tmp_path, 256 << 20)
        self.approvals = Approvals()
        self.sessions: list[Session] = []
        self.clients: list[Client] = []
        self.over = trio.Event()
        self.lifetime = 3600.0
        self.answer: Denied | Exception | None = None
        self.port = 0
        self.target = Target("lines", "lines", "127.0.0.1", 1, tls="disable")
        self.seen = b""
        self.seen_more = trio.Event()
        self.flood = b""
        self.tls: ssl.SSLContext | None = None

    async def open(
        self, session: Session, *, token: str, target: str, database: str
    ) -> Opened | Denied:
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        self.sessions.append(session)
        recorder = Recorder(self.spool, f"{len(self.sessions):032x}", lambda: 1)
        recorder.note(EntryKind.OPENED, {})
        gate = Gate(
            recorder=recorder,
            principal=PRINCIPAL,
            target=self.target,
            policies=lambda: POLICIES,
            approvals=self.approvals,
            clock=trio.current_time,
        )
        credential = Credential("gateway", "leased-secret")
        return Opened(PRINCIPAL, self.target, credential, (), b"", recorder, gate, self.lifetime)

    def closed(self, session: Session) -> None:
        self.over.set()

    def cancel(self, key: bytes) -> None:
        for session in self.sessions:
            if session.cancel_key == key:
                session.cancel_asked()

    def client_tls(self, protocol: str) -> ssl.SSLContext:
        assert self.tls is not None
        return self.tls

    def target_tls(self, target: Target) -> ssl.SSLContext:
        raise AssertionError("the target has no TLS")

    def in_background(self, job: Callable[[], Awaitable[None]]) -> None:
        self.nursery.start_soon(job)

    async def serve_target(self, stream: trio.SocketStream) -> None:
        while self.flood:
            try:
                await stream.send_all(self.flood)
            except trio.BrokenResourceError:
                return
        rest = b""
        async for data in stream:
            self.seen += data
            self.seen_more.set()
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.startswith(b"read close"):
                    await stream.aclose()
                    return
                if line.startswith((b"read", b"write")):
                    await stream.send_all(b"did " + line + b"\n")

    async def client(self) -> "Client":
        self.clients.append(Client(await trio.open_tcp_stream("127.0.0.1", self.port)))
        return self.clients[-1]

    async def logged_in(self) -> "Client":
        client = await self.client()
        await client.say("login token-of-agent")
        assert (await client.line()).startswith("welcome ")
        return client

    async def until_seen(self, data: bytes) -> None:
        while data not in self.seen:
            self.seen_more = trio.Event()
            await self.seen_more.wait()

    def entries(self) -> list[Entry]:
        data, offset, entries = self.spool.read(0, 1 << 28), 0, []
        while parsed := parse(data, offset):
            entry, offset = parsed
            entries.append(entry)
        return entries

    def last(self) -> dict[str, str]:
        entry = self.entries()[-1]
        assert entry.kind is EntryKind.CLOSED
        content: dict[str, str] = json.loads(entry.payload)
        return content


class Client:
    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._data = b""

    async def say(self, *lines: str) -> None:
        await self.stream.send_all("".join(line + "\n" for line in lines).encode())

    async def line(self) -> str:
        while b"\n" not in self._data:
            data = await self.stream.receive_some()
            if not data:
                return ""
            self._data += bytes(data)
        line, self._data = self._data.split(b"\n", 1)
        return line.decode()


@asynccontextmanager
async def laboratory(tmp_path: Path, limits: Limits | None = None) -> AsyncIterator[Lab]:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            lab = Lab(tmp_path, nursery, limits or Limits(dial_seconds=2))
            targets = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, lab.serve_target, targets)
            lab.target = replace(lab.target, port=targets[0].socket.getsockname()[1])
            listening = trio.Event()

            def opened(_: str, port: int) -> None:
                lab.port = port
                listening.set()

            nursery.start_soon(Listener(lab, SPEC, ListenConfig(0)).serve, opened)
            await listening.wait()
            try:
                yield lab
            finally:
                for client in lab.clients:
                    await trio.aclose_forcefully(client.stream)
                for session in lab.sessions:
                    session.end("over", "the test is over")
                nursery.cancel_scope.cancel()


async def test_allowed_operations_pass_and_everything_is_on_record(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        client = await lab.logged_in()
        await client.say("read 1", "never 2", "read 3")
        answers = {await client.line(), await client.line(), await client.line()}
        await client.say("bye")
        assert await client.line() == ""
        await lab.over.wait()
        kinds = [entry.kind for entry in lab.entries()]
        recorded = b"".join(entry.payload for entry in lab.entries())
    assert answers == {"did read 1", "did read 3", "refused refused_by_rule"}
    assert b"never" not in lab.seen
    assert kinds[0] is EntryKind.OPENED
    assert kinds.count(EntryKind.JUDGED) == 3
    assert kinds[-1] is EntryKind.CLOSED
    assert b"token-of-agent" not in recorded
    assert b"leased-secret" not in recorded


async def test_a_held_operation_reaches_the_target_only_once_approved(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        client = await lab.logged_in()
        await client.say("write 1", "read 2")
        assert await client.line() == "held apr_1"
        assert lab.seen == b"hello\n"
        lab.approvals.decided.set()
        assert await client.line() == "did write 1"
        assert await client.line() == "did read 2"


async def test_a_denied_operation_never_reaches_the_target(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        lab.approvals.verdict = Verdict(Outcome.REFUSE, "denied", "no", decided_by="human")
        lab.approvals.decided.set()
        client = await lab.logged_in()
        await client.say("write 1", "read 2")
        lines = [await client.line() for _ in range(3)]
        assert lines[-2:] == ["refused denied", "did read 2"]
        assert b"write" not in lab.seen


async def test_a_hang_up_during_a_hold_withdraws_it(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        client = await lab.logged_in()
        await client.say("write 1")
        assert await client.line() == "held apr_1"
        await client.stream.aclose()
        await lab.approvals.withdrawn.wait()
        await lab.over.wait()
        assert b"write" not in lab.seen
        decided = [e for e in lab.entries() if e.kind is EntryKind.DECIDED]
        assert json.loads(decided[0].payload)["verdict"]["code"] == "withdrawn"


async def test_a_cancel_request_finds_its_session_held_or_not(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        client = await lab.client()
        await client.say("login x")
        key = (await client.line()).removeprefix("welcome ")
        await client.say("write 1")
        assert await client.line() == "held apr_1"
        await (await lab.client()).say(f"cancel {key}")
        assert await client.line() == "cancelled"
        await lab.approvals.withdrawn.wait()
        await (await lab.client()).say(f"cancel {key}")
        await lab.until_seen(b"cancel\n")
        await (await lab.client()).say("cancel " + "00" * 8)
        await client.say("read 1")
        assert await client.line() == "did read 1"


async def test_a_session_ends_at_its_deadline_and_says_so(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        lab.lifetime = 0.2
        client = await lab.logged_in()
        assert await client.line() == "ended session_expired"
        assert await client.line() == ""
        await lab.over.wait()
        assert lab.last()["code"] == "session_expired"


async def test_a_session_ended_from_outside_cuts_a_hold_and_says_why(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        client = await lab.logged_in()
        await client.say("write 1")
        assert await client.line() == "held apr_1"
        lab.sessions[0].end("killed", "an administrator ended it")
        lab.sessions[0].end("again", "ignored")
        assert await client.line() == "ended killed"
        await lab.approvals.withdrawn.wait()
        await lab.over.wait()
        assert lab.last() == {"code": "killed", "reason": "an administrator ended it"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Denied("token_expired", "x"), "denied token_expired"),
        (Refused("relay_revoked", "x"), "denied relay_revoked"),
        (Unavailable("x"), "denied control_plane_unavailable"),
    ],
)
async def test_without_a_grant_there_is_no_session_and_no_record(
    tmp_path: Path, answer: Denied | Exception, said: str
) -> None:
    async with laboratory(tmp_path) as lab:
        lab.answer = answer
        client = await lab.client()
        await client.say("login x")
        assert await client.line() == said
        assert await client.line() == ""
        assert lab.entries() == []


async def test_a_silent_client_is_let_go(tmp_path: Path) -> None:
    async with laboratory(tmp_path, Limits(login_seconds=0.2)) as lab:
        client = await lab.client()
        assert await client.line() == "ended login_timeout"
        assert await client.line() == ""


async def test_an_unreachable_target_is_said(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        lab.target = replace(lab.target, port=1)
        client = await lab.client()
        await client.say("login x")
        assert await client.line() == "unreachable"


async def test_a_target_that_hangs_up_is_said(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        client = await lab.logged_in()
        await client.say("read close")
        assert await client.line() == "target gone"
        assert await client.line() == ""


async def test_a_client_that_reads_nothing_costs_bounded_memory_and_then_its_session(
    tmp_path: Path,
) -> None:
    limits = Limits(stall_seconds=0.5, outbox_bytes=1 << 16)
    async with laboratory(tmp_path, limits) as lab:
        lab.flood = b"x" * 65536
        client = await lab.logged_in()
        await lab.over.wait()
        assert client.stream is not None
        recorded = sum(len(entry.payload) for entry in lab.entries())
        assert "too long" in lab.last()["reason"]
    # Bounded by the kernel's socket buffers, our outbox and one read.
    assert recorded < 32 << 20


async def test_beyond_the_limit_connections_are_told_and_closed(tmp_path: Path) -> None:
    async with laboratory(tmp_path, Limits(connections=1)) as lab:
        first = await lab.logged_in()
        second = await lab.client()
        assert await second.line() == "ended too_many_connections"
        assert await second.line() == ""
        await first.say("read 1")
        assert await first.line() == "did read 1"


async def test_no_record_no_forwarding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with laboratory(tmp_path) as lab:
        client = await lab.logged_in()

        def full(*_: object, **__: object) -> None:
            raise RecordingFailed("the relay's spool is full")

        with monkeypatch.context() as patched:
            patched.setattr(lab.spool, "append", full)
            await client.say("read 1")
            assert await client.line() == "ended recording_unavailable"
            assert await client.line() == ""
        await lab.over.wait()
        assert b"read" not in lab.seen


async def test_a_defect_ends_its_session_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with laboratory(tmp_path) as lab:
        broken, sound = await lab.logged_in(), await lab.logged_in()
        conversation = lab.sessions[0]._conversation

        def fail(event: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(conversation, "handle", fail)
        await broken.say("read 1")
        assert await broken.line() == ""
        await sound.say("read 2")
        assert await sound.line() == "did read 2"


async def test_a_large_answer_arrives_whole_and_in_order(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        client = await lab.logged_in()
        texts = [f"read {number:06} " + "x" * 1000 for number in range(2000)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.say, *texts)
            for text in texts:
                assert await client.line() == "did " + text
