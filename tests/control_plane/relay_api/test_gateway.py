"""The relays' contract with the real application: gRPC over TLS, both databases."""

from __future__ import annotations

import queue
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
import zstandard

from control_plane.app import create_app
from control_plane.errors import Invalid
from control_plane.relay_api.gateway import MAX_BATCH, decompressed
from control_plane.relays.authority import Authority
from control_plane.settings import Settings
from protos.chain import verify
from protos.jitgate.v1 import gateway_pb2 as pb
from protos.vocabulary import Operation, PrincipalKind, Risk, Scope
from protos.wire import operation_to_wire, policies_from_wire
from tests.control_plane.relay_api.conftest import ADMIN, Plane, agent_token
from tests.control_plane.relay_api.relay import RelayClient, batch, code, first
from tests.control_plane.serving import Served
from tests.control_plane.tokens import bearer, guid, verifier
from tests.control_plane.world import APPROVERS, Chain, operation, terms
from tests.servers import free_port

ADA = bearer(PrincipalKind.USER, "jitgate.approver", name="ada", groups=(APPROVERS,))
AUDITOR = bearer(PrincipalKind.USER, "jitgate.auditor", name="eve")


def decide(plane: Plane, approval: str, decision: str = "approve", **more: str) -> httpx.Response:
    return plane.post(f"/approvals/{approval}/decisions", {"decision": decision, **more}, ADA)


def refused(act: object, *arguments: object) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as error:
        act(*arguments)  # type: ignore[operator]
    return code(error.value)


def test_from_the_login_to_the_replay(plane: Plane, relay: RelayClient) -> None:
    updates = relay.watch()
    update = next(updates)
    assert len(update.masking_key) == 32
    assert update.console_url == plane.served.settings.url
    assert [p.name for p in policies_from_wire(update.policies).policies] == ["analysts"]

    grant = relay.open(agent_token())
    assert (grant.denied_code, grant.principal.object_id) == ("", guid("agent-one"))
    assert (grant.credential.username, grant.credential.password) == ("app", "hunter2")
    assert (grant.target.name, grant.target.database) == ("orders", "shop")

    approval, hold = relay.ask(grant.session)
    assert approval.url == f"{plane.served.settings.url}/approvals/{approval.approval_id}"
    assert 290 < approval.hold_until - time.time() <= 301
    waiting = relay.wait(approval, hold)
    listed = plane.get("/approvals?state=pending", ADA).json()["items"]
    assert [item["operation"]["text"] for item in listed] == ["DELETE FROM orders"]
    assert decide(plane, approval.approval_id, reason="ticket").json()["state"] == "approved"
    verdict = waiting.result().verdict
    assert (verdict.outcome, verdict.code, verdict.reason) == ("allow", "approved", "ticket")
    assert verdict.decided_by == "ada"
    assert relay.wait(approval, hold).result().verdict == verdict
    assert plane.get(f"/approvals/{approval.approval_id}").json()["state"] == "consumed"

    chain = Chain.whole(grant.session)
    acks = relay.record([batch(10, chain.frames[0]), batch(99, b"".join(chain.frames[1:]))])
    assert [ack.position for ack in acks] == [10, 99]
    session = f"/sessions/{grant.session}"
    assert plane.get(session).json()["state"] == "closed"
    assert verify(plane.get(f"{session}/recording", AUDITOR).content).closed
    assert plane.get(f"{session}/verification").json()["valid"]
    entries = plane.get(f"{session}/entries?limit=2").json()
    assert (len(entries["items"]), entries["next"]) == (2, 1)
    assert entries["items"][0]["content"] == {"target": "orders"}
    rest = plane.get(f"{session}/entries?after=1").json()
    assert (len(rest["items"]), rest["next"]) == (6, None)
    assert rest["items"][-1]["kind"] == "closed"
    updates.cancel()


def test_a_call_without_a_relays_credential_gets_nothing(plane: Plane) -> None:
    calls = {
        "OpenSession": pb.OpenSessionRequest(),
        "RequestApproval": pb.ApprovalRequest(),
        "AwaitApproval": pb.AwaitRequest(),
        "WithdrawApproval": pb.Withdrawal(),
        "Answer": pb.ClassifyAnswer(),
    }
    for credential, expected in (
        ("", "relay_credential_missing"),
        ("x" * 300, "relay_credential_missing"),
        ("jgr_wrong", "relay_unknown"),
        (agent_token()[:200], "relay_unknown"),
    ):
        with plane.relay(credential) as stranger:
            for name, request in calls.items():
                assert refused(stranger.call, name, request) == ("UNAUTHENTICATED", expected), name
            assert refused(next, stranger.watch()) == ("UNAUTHENTICATED", expected)
            assert refused(next, stranger.record([])) == ("UNAUTHENTICATED", expected)
            assert refused(stranger.call, "Enrol", pb.EnrolRequest())[0] == "UNAUTHENTICATED"


def test_two_credentials_are_none(plane: Plane, relay: RelayClient) -> None:
    request = pb.AwaitRequest()
    assert refused(lambda: relay.call("AwaitApproval", request, metadata=relay.metadata * 2)) == (
        "UNAUTHENTICATED",
        "relay_credential_missing",
    )


def test_a_server_that_the_authority_did_not_certify_is_not_talked_to(plane: Plane) -> None:
    other = Authority(plane.served.settings.data_dir / "other").ca_pem.encode()
    with RelayClient(plane.port, other, "x") as client:
        assert refused(client.call, "AwaitApproval", pb.AwaitRequest())[0] == "UNAVAILABLE"


def test_a_revoked_relay_is_shut_out_of_everything_at_once(
    plane: Plane, relay: RelayClient
) -> None:
    grant = relay.open(agent_token())
    updates = relay.watch()
    next(updates)
    batches: queue.SimpleQueue[pb.RecordBatch | None] = queue.SimpleQueue()
    acks = relay.record(iter(batches.get, None))
    chain = Chain.whole(grant.session)
    batches.put(batch(1, chain.frames[0]))
    assert next(acks).position == 1
    approval, hold = relay.ask(grant.session)
    waiting = relay.wait(approval, hold)

    began = time.monotonic()
    plane.post("/relays/relay-1/revoke").raise_for_status()
    assert refused(list, updates) == ("PERMISSION_DENIED", "relay_revoked")
    assert refused(next, acks) == ("PERMISSION_DENIED", "relay_revoked")
    assert time.monotonic() - began < 2.5
    batches.put(None)
    decide(plane, approval.approval_id)
    # Whether it was waiting already or about to: it isn't told, and nothing is used.
    assert refused(waiting.result)[1] == "relay_revoked"
    assert plane.get(f"/approvals/{approval.approval_id}").json()["state"] == "approved"
    assert refused(relay.open, agent_token()) == ("UNAUTHENTICATED", "relay_revoked")


def test_a_changed_policy_reaches_the_relay_at_once(plane: Plane, relay: RelayClient) -> None:
    updates = relay.watch()
    before = next(updates).policies.version
    plane.client.post(
        "/api/v1/apply",
        content="apiVersion: jitgate/v1\nkind: Masking\nmetadata: {name: mail}\n"
        "spec: {targets: {names: [orders]},"
        " rules: [{name: m, detect: [email], transform: redact}]}",
        headers=ADMIN | {"Content-Type": "application/yaml"},
    ).raise_for_status()
    update = first(updates, lambda update: update.HasField("policies"))
    assert update.policies.version != before
    assert [masking.name for masking in update.policies.maskings] == ["mail"]
    assert not update.masking_key
    updates.cancel()


def test_an_ended_session_is_told_to_its_relay_and_again_after_a_reconnect(
    plane: Plane, relay: RelayClient
) -> None:
    grant = relay.open(agent_token())
    updates = relay.watch("boot-1", grant.session)
    next(updates)
    ended = plane.post(f"/sessions/{grant.session}/end", {"reason": "enough"})
    assert ended.json()["state"] == "ended"
    update = first(updates, lambda update: update.ended)
    assert [(e.session, e.reason) for e in update.ended] == [(grant.session, "enough")]
    updates.cancel()
    again = relay.watch("boot-1", grant.session)
    assert next(again).ended[0].session == grant.session
    again.cancel()
    assert plane.post(f"/sessions/{grant.session}/end", {"reason": "x"}).status_code == 409


def test_a_restarted_relay_interrupts_what_it_no_longer_has(
    plane: Plane, relay: RelayClient
) -> None:
    first_stream = relay.watch("boot-1")
    next(first_stream)
    gone, kept = relay.open(agent_token()).session, relay.open(agent_token()).session
    first_stream.cancel()
    second = relay.watch("boot-2", kept, "f" * 32)
    assert [e.session for e in next(second).ended] == ["f" * 32]
    assert plane.get(f"/sessions/{gone}").json()["state"] == "interrupted"
    assert plane.get(f"/sessions/{kept}").json()["state"] == "open"
    second.cancel()


def test_a_denial_is_an_answer_for_the_agent(relay: RelayClient) -> None:
    for token, target, expected in (
        ("a.b", "orders", "token_malformed"),
        (agent_token("intern", guid("interns")), "orders", "target_not_available"),
        (agent_token(), "nowhere", "target_not_available"),
    ):
        grant = relay.open(token, target)
        assert (grant.denied_code, grant.session) == (expected, "")
        assert grant.denied_reason
        assert not grant.HasField("credential")


def test_a_question_goes_to_the_relay_and_its_answer_back(plane: Plane, relay: RelayClient) -> None:
    updates = relay.watch()
    next(updates)
    with ThreadPoolExecutor(1) as pool:
        body = {"target": "orders", "statement": "DELETE FROM orders", "groups": [guid("x")]}
        asked = pool.submit(plane.post, "/explain", body)
        question = first(updates, lambda update: update.HasField("question")).question
        assert (question.protocol, question.target) == ("postgres", "orders")
        assert question.text == "DELETE FROM orders"
        read = Operation("postgres", "delete", (), Risk.DESTROY, question.text)
        answer = pb.ClassifyAnswer(id=question.id, operation=operation_to_wire(read))
        relay.call("Answer", answer)
        explained = asked.result(20)
    assert explained.status_code == 200, explained.text
    assert explained.json()["operation"]["action"] == "delete"
    updates.cancel()


def test_a_withdrawn_operation_can_no_longer_be_approved(plane: Plane, relay: RelayClient) -> None:
    approval, hold = relay.ask(relay.open(agent_token()).session)
    waiting = relay.wait(approval, hold)
    relay.call(
        "WithdrawApproval",
        pb.Withdrawal(approval_id=approval.approval_id, hold_id=hold, reason="hung up"),
    )
    assert waiting.result().verdict.code == "withdrawn"
    answer = decide(plane, approval.approval_id)
    assert (answer.status_code, answer.json()["code"]) == (409, "approval_not_pending")


def test_the_wait_ends_with_the_hold(relay: RelayClient) -> None:
    approval, hold = relay.ask(relay.open(agent_token()).session, by=terms(hold=1))
    verdict = relay.wait(approval, hold).result().verdict
    assert (verdict.outcome, verdict.code) == ("refuse", "hold_expired")
    assert verdict.approval_id == approval.approval_id


def test_a_wait_that_broke_is_asked_again(plane: Plane, relay: RelayClient) -> None:
    approval, hold = relay.ask(relay.open(agent_token()).session)
    relay.wait(approval, hold).cancel()
    # Decided while nobody waits: the row is the truth, the wake-up only a hint.
    decide(plane, approval.approval_id)
    assert relay.wait(approval, hold).result().verdict.code == "approved"


def test_any_number_of_operations_can_wait_and_others_go_on(
    plane: Plane, relay: RelayClient
) -> None:
    session = relay.open(agent_token()).session
    by = terms(scopes=frozenset({Scope.ONCE}))
    asked = [relay.ask(session, operation(f"DELETE {n}"), by) for n in range(150)]
    waiting = [relay.wait(*one) for one in asked]
    assert not relay.open(agent_token()).denied_code
    assert decide(plane, asked[149][0].approval_id).status_code == 200
    assert waiting[149].result().verdict.code == "approved"
    assert sum(one.done() for one in waiting) == 1
    for one in waiting:
        one.cancel()


def test_recordings_of_others_hold_up_nothing(plane: Plane, relay: RelayClient) -> None:
    mine, broken = relay.open(agent_token()).session, relay.open(agent_token()).session
    good, bad = Chain.whole(mine), Chain.whole(broken)
    frames = b"".join([*bad.frames[:2], *bad.frames[3:], *good.frames])
    strange = Chain.whole("f" * 32).bytes
    acks = relay.record([batch(1, strange), batch(2, frames), batch(3, good.bytes)])
    assert [ack.position for ack in acks] == [1, 2, 3]
    assert plane.get(f"/sessions/{mine}/verification").json()["valid"]
    found = plane.get(f"/sessions/{broken}/verification").json()
    assert (found["valid"], found["state"], found["first_bad"]) == (False, "broken", 2)
    assert plane.get(f"/sessions/{'f' * 32}/verification").status_code == 404


def test_a_batch_that_is_none_ends_the_stream_with_its_reason(relay: RelayClient) -> None:
    for frames in (b"garbage", zstandard.ZstdCompressor().compress(b"x")):
        acks = relay.record([pb.RecordBatch(position=1, frames=frames)])
        assert refused(next, acks) == ("INVALID_ARGUMENT", "batch_invalid")


def test_a_batch_made_to_fill_memory_is_refused() -> None:
    zeros = b"\0" * (MAX_BATCH + 1)
    bomb = zstandard.ZstdCompressor().compress(zeros)
    streaming = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    hidden = streaming.compress(zeros) + streaming.flush()
    assert len(bomb) < 10_000
    for data in (bomb, hidden, bomb[:-5], b""):
        with pytest.raises(Invalid):
            decompressed(data)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    assert decompressed(unsized.compress(b"abc") + unsized.flush()) == b"abc"


def test_a_message_that_says_something_unknown_is_refused(relay: RelayClient) -> None:
    session = relay.open(agent_token()).session
    request = pb.ApprovalRequest(
        hold_id="h" * 32,
        session=session,
        operation=pb.Operation(risk=77),  # type: ignore[arg-type]
    )
    assert refused(relay.call, "RequestApproval", request) == (
        "INVALID_ARGUMENT",
        "message_invalid",
    )


def test_one_relay_cannot_act_for_another(plane: Plane, relay: RelayClient) -> None:
    session = relay.open(agent_token()).session
    approval, hold = relay.ask(session)
    with plane.joined("relay-2") as other:
        assert refused(other.ask, session) == ("NOT_FOUND", "session_not_found")
        assert refused(other.wait(approval, hold).result) == ("NOT_FOUND", "hold_not_found")
        assert other.open(agent_token()).denied_code == "wrong_relay"
        list(other.record([batch(1, Chain.whole(session).bytes)]))
    assert plane.get(f"/sessions/{session}").json()["state"] == "open"


def test_two_control_planes_on_one_port_are_refused(plane: Plane) -> None:
    taken = Settings(
        data_dir=plane.served.settings.data_dir / "second",
        api_port=free_port(),
        grpc_port=plane.port,
    )
    with pytest.raises(RuntimeError, match="did not start"):
        Served(create_app(taken, verifier=verifier()), taken).__enter__()
