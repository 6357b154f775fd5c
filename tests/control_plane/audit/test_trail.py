"""The audit trail, on both databases."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from control_plane.audit.models import AuditEntry, AuditHead
from control_plane.audit.service import REDACTED, AuditTrail, Verification
from control_plane.database import Database


def record(database: Database, *actions: str) -> None:
    for action in actions:
        with database.transaction() as session:
            AuditTrail().record(session, "Ada (1)", action, "Policy/agents", {"revision": 3})


def verified(database: Database) -> Verification:
    with database.transaction() as session:
        return AuditTrail().verify(session)


def details_of(database: Database) -> object:
    with database.transaction() as session:
        return json.loads(session.scalars(select(AuditEntry.details)).one())


def test_an_empty_trail_is_valid(database: Database) -> None:
    assert verified(database) == Verification(0, "00" * 32, None, "")


def test_recorded_acts_form_a_chain_without_a_gap(database: Database) -> None:
    record(database, "a", "b", "c")
    with database.transaction() as session:
        entries = AuditTrail().page(session, before=None, limit=10)
    assert [(entry.sequence, entry.action) for entry in entries] == [(3, "c"), (2, "b"), (1, "a")]
    assert entries[0].previous == entries[1].hash
    assert verified(database) == Verification(3, entries[0].hash.hex(), None, "")


def test_several_acts_in_one_transaction_follow_each_other(database: Database) -> None:
    with database.transaction() as session:
        for action in "abc":
            AuditTrail().record(session, "Ada", action, "x", {})
    assert verified(database).entries == 3


def test_an_act_that_is_rolled_back_leaves_no_trace(database: Database) -> None:
    record(database, "kept")

    def act() -> None:
        with database.transaction() as session:
            AuditTrail().record(session, "Ada", "undone", "x", {})
            raise LookupError

    with pytest.raises(LookupError):
        act()
    record(database, "next")
    assert verified(database).entries == 2


@pytest.mark.parametrize(
    "change",
    [
        update(AuditEntry).where(AuditEntry.sequence == 2).values(actor="Eve"),
        update(AuditEntry).where(AuditEntry.sequence == 2).values(action="harmless"),
        update(AuditEntry).where(AuditEntry.sequence == 2).values(subject="other"),
        update(AuditEntry).where(AuditEntry.sequence == 2).values(details="{}"),
        update(AuditEntry).where(AuditEntry.sequence == 2).values(hash=b"1" * 32),
        update(AuditEntry).where(AuditEntry.sequence == 2).values(previous=b"1" * 32),
        update(AuditEntry)
        .where(AuditEntry.sequence == 2)
        .values(at=datetime(2020, 1, 1, tzinfo=UTC)),
        delete(AuditEntry).where(AuditEntry.sequence == 2),
    ],
    ids=["actor", "action", "subject", "details", "hash", "previous", "at", "removed"],
)
def test_a_changed_entry_is_named(database: Database, change: object) -> None:
    record(database, "a", "b", "c")
    with database.transaction() as session:
        session.execute(change)  # type: ignore[call-overload]
    found = verified(database)
    assert not found.valid
    assert found.first_bad == 2
    assert found.entries == 1


def test_a_cut_tail_is_named(database: Database) -> None:
    record(database, "a", "b", "c")
    with database.transaction() as session:
        session.execute(delete(AuditEntry).where(AuditEntry.sequence == 3))
    assert verified(database).first_bad == 3


def test_swapped_entries_are_found(database: Database) -> None:
    record(database, "a", "b", "c")
    with database.transaction() as session:
        for old, new in ((2, 99), (3, 2), (99, 3)):
            session.execute(
                update(AuditEntry).where(AuditEntry.sequence == old).values(sequence=new)
            )
    assert verified(database).first_bad == 2


def test_simultaneous_acts_are_all_recorded_in_one_chain(database: Database) -> None:
    failures: list[BaseException] = []
    start = threading.Barrier(6)

    def act(name: str) -> None:
        try:
            start.wait()
            for _ in range(5):
                record(database, name)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=act, args=(f"act-{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert verified(database).entries == 30


def test_the_first_act_of_all_may_be_two_at_once(database: Database) -> None:
    with database.transaction() as session:
        assert session.get(AuditHead, 1) is None
    test_simultaneous_acts_are_all_recorded_in_one_chain(database)


def test_a_moment_is_kept_as_utc_and_still_verifies(database: Database) -> None:
    moment = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    with database.transaction() as session:
        AuditTrail(clock=lambda: moment).record(session, "Ada", "a", "x", {})
    assert verified(database).valid
    with database.transaction() as session:
        assert session.scalars(select(AuditEntry.at)).one() == moment


def test_secrets_in_details_are_redacted_at_any_depth(database: Database) -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"
    details = {
        "Password": "hunter2",
        "target": {"client_secret": "hunter2", "host": "db", "note": token},
        "list": [{"join_token": "hunter2"}, token],
        "set": {"b", "a"},
        "number": 3,
        "none": None,
        "yes": True,
        "other": 1.5,
        "odd": "\ud800\0",
    }
    with database.transaction() as session:
        AuditTrail().record(session, "Ada", "a", "x", details)
    assert details_of(database) == {
        "Password": REDACTED,
        "target": {"client_secret": REDACTED, "host": "db", "note": REDACTED},
        "list": [{"join_token": REDACTED}, REDACTED],
        "set": ["a", "b"],
        "number": 3,
        "none": None,
        "yes": True,
        "other": "1.5",
        "odd": "??",
    }
    assert verified(database).valid


def test_details_that_are_too_long_are_cut_and_say_so(database: Database) -> None:
    with database.transaction() as session:
        AuditTrail().record(session, "A" * 600, "a" * 200, "s" * 600, {"text": "x" * 100_000})
    found = details_of(database)
    assert isinstance(found, dict)
    assert list(found) == ["truncated"]
    assert verified(database).valid


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=50), st.text(max_size=50), st.dictionaries(st.text(), st.text()))
def test_any_text_verifies(
    database: Database, actor: str, subject: str, details: dict[str, str]
) -> None:
    with database.transaction() as session:
        AuditTrail().record(session, actor, "a", subject, details)
    assert verified(database).valid


def test_the_trail_can_be_searched(database: Database) -> None:
    with database.transaction() as session:
        trail = AuditTrail()
        trail.record(session, "Ada (1)", "policy.applied", "Policy/a", {})
        trail.record(session, "100%_Bob", "policy.applied", "Policy/b", {})
        trail.record(session, "Ada (1)", "relay.revoked", "Relay/r", {})

    def found(**terms: str) -> list[int]:
        with database.transaction() as session:
            page = AuditTrail().page(session, before=None, limit=10, **terms)
            return [entry.sequence for entry in page]

    assert found(actor="Ada") == [3, 1]
    assert found(actor="%") == [2]
    assert found(action="policy.applied") == [2, 1]
    assert found(subject="Relay/r") == [3]
