"""Every command against the real application."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import yaml

from control_plane.cli.sources import gather
from protos import chain
from protos.vocabulary import EntryKind, Requirement
from tests.control_plane.cli.command import jitgate
from tests.control_plane.cli.conftest import RELAY, Gateway, person
from tests.control_plane.recordings.transcript import wire
from tests.control_plane.tokens import guid
from tests.control_plane.world import ANALYSTS, APPROVERS, operation, terms

RELAY_DOCUMENT = """\
apiVersion: jitgate/v1
kind: Relay
metadata: {name: %s}
spec: {hosts: [%s]}  # why
"""


def document(name: str, host: str = "127.0.0.1") -> str:
    return RELAY_DOCUMENT % (name, host)


# -- documents --------------------------------------------------------------------------------


def test_a_document_is_applied_changed_listed_and_rolled_back(
    gateway: Gateway, tmp_path: Path
) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text(document("history"))
    first = gateway.admin("apply", "-f", str(file), "-m", "first")
    assert (first.code, first.out) == (0, "Relay/history created (revision 1)\n")
    again = gateway.admin("apply", "-f", str(file))
    assert again.out == "Relay/history unchanged (revision 1)\n"

    file.write_text(document("history", "10.0.0.1"))
    dry = gateway.admin("apply", "--dry-run", "-f", str(file))
    assert dry.out == "Relay/history changed (dry run)\n"
    for diff in (gateway.admin("diff", "-f", str(file)), gateway.auditor("diff", "-f", str(file))):
        assert diff.code == 0
        assert any(line.startswith("-") and "127.0.0.1" in line for line in diff.out.splitlines())
        assert any(line.startswith("+") and "10.0.0.1" in line for line in diff.out.splitlines())
    assert gateway.admin("get", "relay", "history").out == document("history")
    assert gateway.admin("apply", "-f", str(file)).out == "Relay/history changed (revision 2)\n"

    back = gateway.admin("rollback", "Relay", "history", "1", "-m", "too far")
    assert (back.code, back.out) == (0, "Relay/history rolled back (revision 3)\n")
    assert gateway.admin("get", "relays", "history").out == document("history")
    revisions = gateway.auditor("history", "relay", "history", "-o", "json").json
    assert [(one["revision"], one["message"]) for one in revisions] == [
        (3, "too far"),
        (2, ""),
        (1, "first"),
    ]
    table = gateway.auditor("history", "relay", "history").out.splitlines()
    assert table[0].split() == ["REVISION", "AT", "ACTION", "AUTHOR", "MESSAGE"]
    assert table[1].startswith("3 ")
    assert table[1].endswith("too far")

    gone = gateway.admin("delete", "relay", "history")
    assert (gone.code, gone.out) == (0, "Relay/history deleted (revision 4)\n")
    missing = gateway.admin("get", "relay", "history")
    assert missing.code == 1
    assert missing.err.startswith("error: ")


def test_lists_of_documents_in_every_form(gateway: Gateway) -> None:
    rows = gateway.auditor("get", "targets").out.splitlines()
    assert rows[0].split() == ["NAME", "REVISION", "CHANGED", "BY"]
    assert [row.split()[0] for row in rows[1:]] == ["empty", "orders", "vault"]
    listed = gateway.auditor("get", "target", "-o", "json").json
    assert [one["name"] for one in listed] == ["empty", "orders", "vault"]
    assert yaml.safe_load(gateway.auditor("-o", "yaml", "get", "policies").out)[0]["kind"] == (
        "Policy"
    )
    one = gateway.auditor("get", "target", "orders", "-o", "json").json
    assert one["document"]["spec"]["database"] == "shop"


def test_errors_point_at_the_line_of_the_right_file(gateway: Gateway, tmp_path: Path) -> None:
    good, bad = tmp_path / "1-good.yaml", tmp_path / "2-bad.yml"
    good.write_text("# fine\n" + document("good").rstrip("\n"))
    bad.write_text(
        "---\n" + document("bad").replace("hosts", "hots") + "---\nkind: [\n".replace("[", "Nope")
    )
    done = gateway.admin("apply", "-f", str(tmp_path))
    assert done.code == 1
    assert done.out == ""
    lines = done.err.splitlines()
    assert all(line.startswith(f"{bad}:") for line in lines), lines
    assert any(line.startswith(f"{bad}:5:") and "hots" in line for line in lines), lines
    assert any(line.startswith(f"{bad}:7:") for line in lines), lines
    assert "good" not in gateway.admin("get", "relays").out


def test_documents_come_from_standard_input_too(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(document("from-file"))
    done = gateway.admin(
        "apply", "-f", str(file), "-f", "-", "-o", "json", input=document("from-stdin")
    )
    assert [one["name"] for one in done.json["changes"]] == ["from-file", "from-stdin"]
    done = gateway.admin("apply", "-f", "-", input="kind: [\n")
    assert done.code == 1
    assert done.err.startswith("<stdin>:")


def test_warnings_go_to_standard_error(gateway: Gateway) -> None:
    target = (
        "apiVersion: jitgate/v1\nkind: Target\nmetadata: {name: lonely}\n"
        "spec: {protocol: gopher, host: 127.0.0.1, port: 70, credential: none-yet}\n"
    )
    for command in (["apply", "--dry-run"], ["diff"]):
        done = gateway.admin(*command, "-f", "-", input=target)
        assert done.code == 0
        assert done.err.startswith("warning: ")
        assert "warning" not in done.out


def test_files_that_cannot_be_documents_are_wrong_usage(tmp_path: Path) -> None:
    binary = tmp_path / "x.yaml"
    binary.write_bytes(b"a: 1\nb: \xff\n")
    for arguments, message in (
        ([str(binary)], f"{binary}:2:4: this is not UTF-8"),
        ([str(tmp_path / "missing")], "No such file"),
        (["-", "-f", "-"], "standard input can be read only once"),
    ):
        done = jitgate("apply", "-f", *arguments)
        assert done.code == 2
        assert message in done.err
    (tmp_path / "empty").mkdir()
    assert "no documents" in jitgate("apply", "-f", str(tmp_path / "empty")).err


def test_a_place_in_the_joined_text_is_a_place_in_a_file(tmp_path: Path) -> None:
    texts = ["a: 1", "\ufeffb: 1\r\nc: 2\r\n", "# x\n--- # y\nd: 3\n"]
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_bytes(text.encode())
    sources = gather([str(file) for file in files])
    lines = sources.text.splitlines()
    assert lines == ["a: 1", "---", "b: 1", "c: 2", "# x", "--- # y", "d: 3"]
    assert [sources.place(number + 1, 1) for number in range(len(lines))] == [
        f"{files[0]}:1:1",
        f"{files[0]}:2:1",
        f"{files[1]}:1:1",
        f"{files[1]}:2:1",
        f"{files[2]}:1:1",
        f"{files[2]}:2:1",
        f"{files[2]}:3:1",
    ]


# -- explain ----------------------------------------------------------------------------------


def test_explain_says_what_would_happen_and_by_which_rule(gateway: Gateway) -> None:
    questions = gateway.state.questions
    questions.pending(RELAY)
    answered = threading.Event()

    def relay() -> None:
        for _ in range(500):
            for question in questions.pending(RELAY):
                questions.answer(question.id, operation(question.text), RELAY)
                return
            if answered.wait(0.01):
                return

    thread = threading.Thread(target=relay)
    thread.start()
    try:
        done = gateway.auditor(
            *("explain", "--target", "orders", "--statement", "DELETE FROM orders"),
            *("--group", ANALYSTS, "--role", "reader", "--kind", "agent"),
            *("--client-id", guid("client")),
        )
    finally:
        answered.set()
        thread.join(10)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("approve: ")
    rows = dict(line.split(maxsplit=1) for line in done.out.splitlines()[1:] if line[0] != " ")
    assert rows["action"] == "delete"
    assert rows["risk"] == "destroy"
    assert rows["touches"] == "public.orders (written)"
    assert rows["facts"] == "where=absent"
    assert rows["policies"] == "analysts"
    assert rows["rules"] == "analysts/destructive: approve"
    assert rows["approval"] == f"1 of {APPROVERS} for analysts/destructive"


def test_explain_without_a_relay_is_refused(gateway: Gateway) -> None:
    gateway.state.questions.disconnected(RELAY)
    done = gateway.auditor("explain", "--target", "orders", "--statement", "SELECT 1")
    assert done.code == 1
    assert "(no_relay_connected)" in done.err


# -- approvals --------------------------------------------------------------------------------


def test_an_approval_is_listed_shown_and_approved(gateway: Gateway) -> None:
    text = "DELETE FROM orders -- \x1b[2J\n WHERE true"
    approval = gateway.hold(gateway.open(), operation(text))
    for command in (["approvals"], ["approvals", "list"]):
        (row,) = [line for line in gateway.approver(*command).out.splitlines() if approval in line]
        assert "pending" in row
        assert r"DELETE FROM orders -- \x1b[2J WHERE true" in row
    shown = gateway.approver("approvals", "show", approval)
    assert shown.code == 0
    assert "\x1b" not in shown.out
    rows = shown.out.splitlines()
    assert rows[0] == f"{approval} is pending"
    for expected in (
        "statement  DELETE FROM orders -- \\x1b[2J",
        "            WHERE true",
        "held by    analysts/destructive",
        "because    it deletes everything",
        f"requires   analysts/destructive: 0 of 1 out of {APPROVERS}",
    ):
        assert expected in rows, (expected, rows)
    done = gateway.approver("approve", approval, "--reason", "ticket 7", "--scope", "once")
    assert (done.code, done.out) == (0, f"{approval} is approved\n")
    again = gateway.approver("approve", approval)
    assert again.code == 1
    assert "(approval_not_pending)" in again.err
    assert approval not in gateway.approver("approvals").out
    assert approval in gateway.approver("approvals", "--state", "all").out
    one = gateway.auditor("approvals", "show", approval, "-o", "json").json
    assert [(part["decision"], part["reason"]) for part in one["decisions"]] == [
        ("approve", "ticket 7")
    ]
    assert "abby: approve: ticket 7" in gateway.auditor("approvals", "show", approval).out


def test_an_approval_that_needs_more_says_how_far_it_is(gateway: Gateway) -> None:
    needs = terms(Requirement("analysts/destructive", frozenset({APPROVERS}), 2))
    approval = gateway.hold(gateway.open(), operation("DELETE FROM both"), needs)
    done = gateway.approver("approve", approval)
    assert done.out.splitlines()[0] == f"{approval} is pending"
    assert done.out.splitlines()[1].startswith(
        f"  analysts/destructive: 1 of 2 out of {APPROVERS}: abby"
    )
    assert "there are more" in gateway.auditor("approvals", "--state", "all", "--limit", "1").err
    assert gateway.approver("approve", approval, name="bert").out == f"{approval} is approved\n"


def test_an_approval_is_denied_with_a_reason(gateway: Gateway) -> None:
    approval = gateway.hold(gateway.open(), operation("DELETE FROM other"))
    done = gateway.approver("deny", approval, "--reason", "not today", "-o", "json")
    assert (done.code, done.json["state"]) == (0, "denied")


def test_who_may_not_decide_is_refused(gateway: Gateway) -> None:
    approval = gateway.hold(gateway.open(), operation("DELETE FROM third"))
    done = gateway.admin("approve", approval)
    assert done.code == 1
    assert "(not_an_approver)" in done.err
    nobody = gateway.run("approvals", token=person("nobody"))
    assert nobody.code == 1
    assert "(role_missing)" in nobody.err


# -- sessions and recordings ------------------------------------------------------------------

WHOLE: list[tuple[EntryKind, bytes | dict[str, object]]] = [
    (EntryKind.OPENED, wire.OPENED),
    (EntryKind.REQUEST, wire.query("SELECT 1")),
    (EntryKind.ANSWER, wire.columns(("n", 23, 0)) + wire.row(b"1") + wire.ready()),
    (EntryKind.CLOSED, {"code": "client_closed", "reason": "done"}),
]


def test_sessions_are_listed_shown_and_ended(gateway: Gateway) -> None:
    session = gateway.open()
    for command in (["sessions"], ["sessions", "list", "--state", "open", "--target", "orders"]):
        (row,) = [line for line in gateway.auditor(*command).out.splitlines() if session in line]
        assert row.split()[1] == "open"
    shown = gateway.auditor("sessions", "show", session)
    assert f"session         {session}" in shown.out.splitlines()
    assert "127.0.0.1:5000" in shown.out
    dashed = f"{session[:8]}-{session[8:12]}-{session[12:16]}-{session[16:20]}-{session[20:]}"
    assert gateway.auditor("sessions", "show", dashed.upper(), "-o", "json").json["id"] == session
    assert gateway.auditor("sessions", "end", session, "--reason", "no").code == 1
    done = gateway.admin("sessions", "end", session, "--reason", "maintenance")
    assert (done.code, done.out) == (0, f"{session} is ended\n")
    assert gateway.auditor("sessions", "show", "nonsense").code == 2


def test_a_closed_session_is_replayed_verified_and_downloaded(
    gateway: Gateway, tmp_path: Path
) -> None:
    session = gateway.open()
    data = gateway.record(session, *WHOLE)
    replayed = gateway.auditor("replay", session)
    assert (replayed.code, replayed.err) == (0, "")
    assert "> query      SELECT 1" in replayed.out
    verified = gateway.auditor("verify", session)
    assert (verified.code, verified.err) == (0, "")
    assert verified.out.startswith(f"valid: session {session}, 4 entries\n")
    copy = tmp_path / "copy.jgr"
    saved = gateway.auditor("sessions", "download", session, "--file", str(copy))
    assert (saved.code, saved.out) == (0, f"{copy}: {len(data)} bytes\n")
    assert copy.read_bytes() == data
    assert gateway.auditor("sessions", "download", session, "--file", str(copy)).code == 2
    both = gateway.auditor("verify", session, "--file", str(copy))
    assert (both.code, both.err) == (0, "")


@pytest.mark.parametrize(
    ("interrupted", "words"),
    [(False, "the session is still open"), (True, "the session was interrupted")],
)
def test_a_session_without_an_end_is_valid_and_says_so(
    gateway: Gateway, interrupted: bool, words: str
) -> None:
    session = gateway.open()
    gateway.record(session, *WHOLE[:3])
    if interrupted:
        gateway.state.sessions.reconcile(RELAY, "another boot", [])
    done = gateway.auditor("verify", session)
    assert (done.code, done.err) == (0, "")
    assert words in done.out
    assert gateway.auditor("replay", session).code == 0


def test_a_copy_is_compared_with_the_control_planes_head(gateway: Gateway, tmp_path: Path) -> None:
    session, other = gateway.open(), gateway.open()
    data = gateway.record(session, *WHOLE)
    made = wire.entries(*WHOLE, session=session)
    rewritten = wire.encoded(
        wire.entries(*WHOLE[:1], (EntryKind.REQUEST, wire.query("x")), *WHOLE[2:], session=session)
    )
    copy = tmp_path / "copy.jgr"
    for content, message in (
        (wire.encoded(made[:2]), "entry 2 is missing: the control plane received it"),
        (data[:-1], "entry 3: the recording ends in the middle of it"),
        (rewritten, "entry 3: its hash is not the head that the control plane holds"),
        (
            wire.encoded(wire.entries(*WHOLE, session=other)),
            f"entry 0: it belongs to another session, {other}",
        ),
    ):
        copy.write_bytes(content)
        done = gateway.auditor("verify", session, "--file", str(copy))
        assert done.code == 1
        assert done.err == f"error: {message}\n"
    # Rewritten and chained anew, it is whole by itself: only the control plane knows better.
    copy.write_bytes(rewritten)
    assert jitgate("verify", "--file", str(copy)).code == 0


def test_a_recording_changed_on_the_control_planes_disk_is_found(gateway: Gateway) -> None:
    session = gateway.open()
    gateway.record(session, *WHOLE)
    (file,) = gateway.state.settings.recordings.rglob(f"{session}.jgr")
    data = bytearray(file.read_bytes())
    data[chain.HEADER.size + 3] ^= 1
    file.write_bytes(data)
    done = gateway.auditor("verify", session)
    assert done.code == 1
    assert done.err.startswith("error: entry 0: its hash is not")


def test_a_recording_that_arrived_broken_is_told(gateway: Gateway) -> None:
    session = gateway.open()
    made = wire.entries(*WHOLE, session=session)
    gateway.state.recordings.append(RELAY, wire.encoded([made[0], made[2]]))
    done = gateway.auditor("verify", session, "-o", "json")
    assert done.code == 1
    assert done.json["first_bad"] == 1
    assert "entry 1: the control plane says: expected here" in done.err


def test_a_session_that_recorded_nothing_is_refused(gateway: Gateway) -> None:
    for command in ("verify", "replay"):
        done = gateway.auditor(command, gateway.open())
        assert (done.code, done.out) == (1, "")
        assert "(recording_not_found)" in done.err


# -- administration ---------------------------------------------------------------------------


def test_a_credential_is_set_listed_and_deleted_without_being_shown(gateway: Gateway) -> None:
    done = gateway.admin(
        *("credential", "set", "spare", "--username", "svc", "--password-stdin"), input="s3cret\n"
    )
    assert (done.code, done.out) == (0, "credential spare set for user svc\n")
    with gateway.state.database.transaction() as session:
        assert gateway.state.credentials.lease(session, "spare").password == "s3cret"
    listed = gateway.auditor("credential", "list")
    assert "svc" in listed.out
    assert "s3cret" not in done.out + done.err + listed.out
    assert gateway.admin("credential", "delete", "spare").out == "credential spare deleted\n"
    assert gateway.admin("credential", "delete", "spare").code == 1


def test_a_password_comes_from_standard_input_only(gateway: Gateway) -> None:
    set_spare = ("credential", "set", "spare", "--username", "svc")
    done = gateway.admin(*set_spare, input="s3cret\n")
    assert done.code == 2
    assert "--password-stdin" in done.err
    done = gateway.admin(*set_spare, "--password-stdin", input="\n")
    assert (done.code, done.err) == (2, "error: the password is empty\n")


def test_a_relay_joins_by_a_token_printed_alone_and_is_revoked(gateway: Gateway) -> None:
    done = gateway.admin("relay", "join-token", "relay-2", "--expires-in", "60")
    assert done.code == 0
    (token,) = done.out.splitlines()
    enrolled = gateway.state.relays.enrol(join_token=token)
    assert done.err.startswith("works once, until ")
    assert token not in done.err
    (row,) = [one for one in gateway.auditor("relay").out.splitlines() if "relay-2" in one]
    assert "joined" in row
    done = gateway.admin("relay", "revoke", "relay-2", "--reason", "stolen")
    assert (done.code, done.out) == (0, "relay relay-2 revoked\n")
    assert enrolled.credential
    states = gateway.auditor("relay", "list", "-o", "json").json
    assert {one["name"]: one["state"] for one in states}["relay-2"] == "revoked"
    assert gateway.admin("relay", "join-token", "nobody").code == 1


def test_the_audit_trail_is_listed_and_verified(gateway: Gateway) -> None:
    done = gateway.auditor("audit", "--limit", "1", "--subject", "Relay/relay-1")
    assert done.out.splitlines()[0].split() == [
        "SEQUENCE",
        "AT",
        "ACTOR",
        "ACTION",
        "SUBJECT",
        "DETAILS",
    ]
    assert "document.created" in done.out
    listed = json.loads(gateway.auditor("audit", "list", "-o", "json").out)
    assert listed[0]["sequence"] > listed[-1]["sequence"]
    done = gateway.auditor("audit", "verify")
    assert done.code == 0
    assert done.out.startswith("valid: ")


def test_a_person_learns_who_they_are(gateway: Gateway) -> None:
    done = gateway.approver("whoami")
    assert done.code == 0
    rows = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert rows["roles"] == "approver"
    assert rows["groups"] == APPROVERS
