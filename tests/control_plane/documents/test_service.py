from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from control_plane.database import Database
from control_plane.documents.changes import Applied, Change
from control_plane.documents.service import DocumentStore
from control_plane.errors import Conflict, DomainError, Invalid, NotFound
from tests.control_plane.documents.house import (
    ADA,
    ALL,
    MASKING,
    POLICY,
    RELAY,
    TARGET,
    House,
)


@pytest.fixture
def house(database: Database, tmp_path: Path) -> House:
    return House(database, tmp_path / "authority")


def _actions(applied: Applied) -> list[tuple[str, str, int]]:
    return [(change.name, change.action, change.revision) for change in applied.changes]


def _current(house: House, kind: str, name: str) -> str | None:
    with house.database.transaction() as session:
        document = house.store.find(session, kind, name)
        return None if document is None else document.content


def _generation(house: House) -> int:
    with house.database.transaction() as session:
        return house.store.generation(session)


def test_documents_are_created_in_one_apply_and_unchanged_in_the_next(house: House) -> None:
    first = house.store.apply(ALL, ADA, message="first")
    assert _actions(first) == [
        ("orders", "created", 1),
        ("agents", "created", 1),
        ("cards", "created", 1),
        ("relay-1", "created", 1),
    ]
    generation = _generation(house)
    house.wakeups.taken()
    # Other comments, order and quoting say nothing else.
    again = house.store.apply("# again\n" + ALL.replace("port: 5432", "port:  5432 # same"), ADA)
    assert {change.action for change in again.changes} == {"unchanged"}
    assert {change.diff for change in again.changes} == {""}
    assert _generation(house) == generation
    assert house.wakeups.taken() == []
    assert len(house.acts()) == 4


def test_a_change_makes_a_revision_with_a_diff(house: House) -> None:
    house.apply(ALL)
    (change,) = house.store.apply(TARGET.replace("5432", "5433"), ADA).changes
    assert (change.action, change.revision) == ("changed", 2)
    lines = change.diff.splitlines()
    assert lines[:2] == ["--- Target/orders (revision 1)", "+++ Target/orders (revision 2)"]
    assert [line for line in lines[2:] if line.startswith(("-", "+"))] == [
        "-  port: 5432",
        "+  port: 5433",
    ]
    with house.database.transaction() as session:
        assert [row.revision for row in house.store.history(session, "Target", "orders", None, 9)] \
            == [2, 1]  # fmt: skip
        row = house.store.revision(session, "Target", "orders", 2)
        assert house.store.difference(session, row) == change.diff


def test_only_what_changed_of_several_gets_a_revision(house: House) -> None:
    house.apply(ALL)
    applied = house.store.apply(ALL.replace("5432", "5433"), ADA)
    assert [change.action for change in applied.changes] == ["changed"] + ["unchanged"] * 3
    assert [change.revision for change in applied.changes] == [2, 1, 1, 1]
    assert len(house.acts()) == 5


def test_every_act_is_in_the_audit_trail_with_its_author(house: House) -> None:
    house.apply(RELAY)
    house.store.delete("Relay", "relay-1", "Bob (2)", message="gone")
    house.store.roll_back("Relay", "relay-1", 1, "Eve (3)")
    assert house.acts() == [
        (ADA, "document.created", "Relay/relay-1"),
        ("Bob (2)", "document.deleted", "Relay/relay-1"),
        ("Eve (3)", "document.rolled_back", "Relay/relay-1"),
    ]
    with house.database.transaction() as session:
        rows = house.store.history(session, "Relay", "relay-1", None, 9)
        assert [(row.author, row.message) for row in rows] == [
            ("Eve (3)", "back to revision 1"),
            ("Bob (2)", "gone"),
            (ADA, ""),
        ]


def test_an_apply_that_can_not_be_recorded_does_not_happen(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no trail")

    monkeypatch.setattr(house.audit, "record", broken)
    with pytest.raises(OSError, match="no trail"):
        house.apply(RELAY)
    assert _current(house, "Relay", "relay-1") is None
    assert house.wakeups.taken() == []


def test_a_dry_run_says_the_same_as_the_apply_and_does_nothing(house: House) -> None:
    house.apply(TARGET)
    house.wakeups.taken()
    text = "---\n".join([TARGET.replace("5432", "5433"), POLICY])
    planned = house.store.apply(text, ADA, dry_run=True)
    assert house.wakeups.taken() == []
    assert _generation(house) == 1
    assert len(house.acts()) == 1
    assert _current(house, "Policy", "agents") is None
    assert house.store.apply(text, ADA) == planned


def test_one_wrong_document_keeps_all_from_being_applied(house: House) -> None:
    wrong = POLICY.replace("outcome: allow", "outcome: alow")
    with pytest.raises(Invalid) as caught:
        house.apply(TARGET, wrong)
    (error,) = caught.value.errors
    assert (error.document, error.line, error.column) == (2, 18, 16)
    assert _current(house, "Target", "orders") is None
    assert house.acts() == []


def test_all_that_is_wrong_in_all_documents_is_said_at_once(house: House) -> None:
    text = "---\n".join([TARGET.replace("5432", "x"), "- 1\n", RELAY.replace("Relay", "Realy")])
    with pytest.raises(Invalid) as caught:
        house.apply(text)
    assert [(error.document, error.line) for error in caught.value.errors] == [
        (1, 7),
        (2, 10),
        (3, 13),
    ]
    assert caught.value.message.endswith("(and 2 more)")


def test_an_odd_key_is_named_in_quotes(house: House) -> None:
    with pytest.raises(Invalid) as caught:
        house.apply(TARGET.replace("port: 5432", "'po rt': 1\n  port: 5432"))
    (error,) = caught.value.errors
    assert error.message == "spec['po rt']: there is no such field"


def test_errors_are_bounded_in_number(house: House) -> None:
    with pytest.raises(Invalid) as caught:
        house.apply("--- x\n" * 900)
    assert len(caught.value.errors) == 50


def test_a_document_may_stand_in_a_text_once(house: House) -> None:
    with pytest.raises(Invalid) as caught:
        house.apply(RELAY, RELAY.replace("localhost", "here"))
    (error,) = caught.value.errors
    assert (error.document, error.line, error.column) == (2, 8, 18)


def test_a_text_without_documents_is_refused(house: House) -> None:
    with pytest.raises(Invalid) as caught:
        house.apply("# nothing\n")
    assert caught.value.code == "document_missing"


def test_what_a_document_names_must_exist_or_come_with_it(house: House) -> None:
    target = TARGET + "  relays: [relay-1, relay-2]\n"
    with pytest.raises(Invalid) as caught:
        house.apply(target, RELAY)
    (error,) = caught.value.errors
    assert (error.line, error.column) == (9, 21)
    assert error.message == "spec.relays[1]: there is no Relay/relay-2"
    # The order in the text doesn't matter.
    house.apply(target, RELAY, RELAY.replace("relay-1", "relay-2"))
    house.apply(target.replace(", relay-2", ""))


def test_what_is_named_can_not_be_deleted(house: House) -> None:
    house.apply(TARGET + "  relays: [relay-1]\n", RELAY)
    with pytest.raises(Conflict) as caught:
        house.store.delete("Relay", "relay-1", ADA)
    assert caught.value.code == "document_in_use"
    assert "Target/orders" in caught.value.message
    house.store.delete("Target", "orders", ADA)
    house.store.delete("Relay", "relay-1", ADA)
    # And what names what is gone can't come back before it.
    with pytest.raises(Invalid) as invalid:
        house.store.roll_back("Target", "orders", 1, ADA)
    assert "there is no Relay/relay-1" in invalid.value.message


def test_a_deleted_document_is_gone_but_its_revisions_count_on(house: House) -> None:
    house.apply(RELAY)
    gone = house.store.delete("Relay", "relay-1", ADA)
    assert (gone.action, gone.revision) == ("deleted", 2)
    assert "+++ /dev/null" in gone.diff
    assert _current(house, "Relay", "relay-1") is None
    with house.database.transaction() as session:
        assert house.store.page(session, "Relay", None, 9) == []
        assert house.store.every(session, "Relay") == ()
        with pytest.raises(NotFound):
            house.store.current(session, "Relay", "relay-1")
        assert [row.action for row in house.store.history(session, "Relay", "relay-1", None, 9)] \
            == ["deleted", "created"]  # fmt: skip
    with pytest.raises(NotFound):
        house.store.delete("Relay", "relay-1", ADA)
    (again,) = house.store.apply(RELAY, ADA).changes
    assert (again.action, again.revision) == ("created", 3)


def test_a_document_created_anew_is_another_incarnation(house: House) -> None:
    def incarnation() -> int | None:
        with house.database.transaction() as session:
            return house.store.incarnation(session, "Relay", "relay-1")

    assert incarnation() is None
    house.apply(RELAY)
    first = incarnation()
    house.apply(RELAY.replace("localhost", "here"))
    assert incarnation() == first
    house.store.delete("Relay", "relay-1", ADA)
    assert incarnation() is None
    house.apply(RELAY)
    assert incarnation() not in (None, first)


def test_a_rollback_is_a_new_revision_with_the_old_content(house: House) -> None:
    house.apply(RELAY)
    old = _current(house, "Relay", "relay-1")
    house.apply(RELAY.replace("localhost", "here"))
    (change,) = house.store.roll_back("Relay", "relay-1", 1, ADA, message="too much").changes
    assert (change.action, change.revision) == ("rolled_back", 3)
    assert _current(house, "Relay", "relay-1") == old
    (again,) = house.store.roll_back("Relay", "relay-1", 1, ADA).changes
    assert (again.action, again.revision) == ("unchanged", 3)


def test_a_rollback_undoes_a_deletion(house: House) -> None:
    house.apply(RELAY)
    house.store.delete("Relay", "relay-1", ADA)
    (change,) = house.store.roll_back("Relay", "relay-1", 1, ADA).changes
    assert (change.action, change.revision) == ("rolled_back", 3)
    with pytest.raises(Invalid) as invalid:
        house.store.roll_back("Relay", "relay-1", 2, ADA)
    assert invalid.value.code == "revision_deleted"
    with pytest.raises(NotFound):
        house.store.roll_back("Relay", "relay-1", 9, ADA)


def test_one_document_of_several_rolls_back_to_its_own_source(house: House) -> None:
    house.apply(ALL)
    with house.database.transaction() as session:
        assert house.store.current(session, "Masking", "cards").source == MASKING
        assert house.store.current(session, "Target", "orders").source == TARGET
    house.apply(MASKING.replace("redact", "null"))
    house.store.roll_back("Masking", "cards", 1, ADA)
    assert house.policy_set().maskings[0].rules[0].transform == "redact"


def test_who_saw_another_revision_changes_nothing(house: House) -> None:
    house.apply(RELAY)
    house.apply(RELAY.replace("localhost", "here"))
    attempts: list[Callable[[], object]] = [
        lambda: house.store.apply(RELAY, ADA, expected=1),
        lambda: house.store.apply(RELAY, ADA, expected=0),
        lambda: house.store.apply(RELAY, ADA, expected=1, dry_run=True),
        lambda: house.store.roll_back("Relay", "relay-1", 1, ADA, expected=1),
        lambda: house.store.delete("Relay", "relay-1", ADA, expected=1),
    ]
    for attempt in attempts:
        with pytest.raises(Conflict) as caught:
            attempt()
        assert caught.value.code == "revision_changed"
    assert house.store.apply(RELAY, ADA, expected=2).changes[0].revision == 3
    house.store.delete("Relay", "relay-1", ADA, expected=3)
    assert house.store.apply(RELAY, ADA, expected=0).changes[0].revision == 5


def test_an_expected_revision_needs_exactly_one_document(house: House) -> None:
    with pytest.raises(Invalid) as caught:
        house.store.apply(ALL, ADA, expected=0)
    assert caught.value.code == "if_match_ambiguous"


def test_lists_are_walked_by_name(house: House) -> None:
    names = [f"relay-{number}" for number in range(5)]
    house.apply(*(RELAY.replace("relay-1", name) for name in reversed(names)))
    with house.database.transaction() as session:
        assert [row.name for row in house.store.page(session, "Relay", None, 3)] == names[:3]
        assert [row.name for row in house.store.page(session, "Relay", names[2], 3)] == names[3:]
        assert [document.name for document in house.store.every(session, "Relay")] == names


def test_what_never_was_has_no_history(house: House) -> None:
    house.apply(RELAY)
    with house.database.transaction() as session:
        with pytest.raises(NotFound):
            house.store.history(session, "Relay", "nobody", None, 9)
        with pytest.raises(NotFound):
            house.store.revision(session, "Relay", "relay-1", 7)
        assert house.store.history(session, "Relay", "relay-1", 1, 9) == []


def test_whoever_waits_is_woken_after_the_change_can_be_read(house: House) -> None:
    read: list[str | None] = []
    house.wakeups.listening = lambda: read.append(_current(house, "Relay", "relay-1"))
    house.apply(RELAY)
    assert house.wakeups.taken() == ["policy", "relay:relay-1"]
    house.store.delete("Relay", "relay-1", ADA)
    assert house.wakeups.taken() == ["policy", "relay:relay-1"]
    assert read[0] is not None
    assert read[1] is None
    house.apply(TARGET)
    assert house.wakeups.taken() == ["policy"]


def _at_once(count: int, act: Callable[[int], object]) -> list[object]:
    """What each of several threads got, or the error that it met."""
    barrier = threading.Barrier(count)

    def run(number: int) -> object:
        barrier.wait(30)
        try:
            return act(number)
        except DomainError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_of_applies_at_once_none_is_lost(house: House) -> None:
    def act(number: int) -> Change:
        text = RELAY.replace("localhost", f"host-{number}")
        return house.store.apply(text, ADA).changes[0]

    changes = _at_once(8, act)
    revisions = sorted(change.revision for change in changes if isinstance(change, Change))
    assert revisions == list(range(1, 9))
    last = next(change for change in changes if isinstance(change, Change) and change.revision == 8)
    number = changes.index(last)
    assert f"host-{number}" in (_current(house, "Relay", "relay-1") or "")
    assert _generation(house) == 8
    with house.database.transaction() as session:
        assert house.audit.verify(session).valid


def test_of_applies_that_expect_the_same_revision_one_wins(house: House) -> None:
    house.apply(RELAY)

    def act(number: int) -> Change:
        text = RELAY.replace("localhost", f"host-{number}")
        return house.store.apply(text, ADA, expected=1).changes[0]

    results = _at_once(6, act)
    assert sum(isinstance(result, Change) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 5


def test_a_reference_can_not_be_pulled_away_while_it_is_made(house: House) -> None:
    house.apply(RELAY)
    target = TARGET + "  relays: [relay-1]\n"

    def act(number: int) -> object:
        if number:
            return house.store.delete("Relay", "relay-1", ADA)
        return house.store.apply(target, ADA)

    made, deleted = _at_once(2, act)
    assert isinstance(made, DomainError) != isinstance(deleted, DomainError)
    there = _current(house, "Relay", "relay-1") is not None
    assert there == (_current(house, "Target", "orders") is not None)


def test_warnings_name_what_looks_like_a_mistake(house: House) -> None:
    house.credentials.clear()
    warnings = house.store.apply("---\n".join([TARGET, POLICY]), ADA).warnings
    assert warnings == ("Target/orders: there is no credential orders-gateway yet",)
    lonely = POLICY.replace("names: [orders]", "names: [other]")
    open_target = TARGET + "  tls: {mode: require}\n"
    clear_target = TARGET + "  tls: {mode: disable}\n"
    house.credentials.add("orders-gateway")
    (unmatched,) = house.store.apply(lonely, ADA).warnings
    assert unmatched == "Policy/agents: selects no target that there is"
    (unverified,) = house.store.apply(open_target, ADA).warnings
    assert "without knowing who answers" in unverified
    (clear,) = house.store.apply(clear_target, ADA).warnings
    assert "in clear text" in clear


def test_large_documents_are_compared_in_bounded_time(house: House) -> None:
    patterns = ", ".join(f'"p{number}.*"' for number in range(400))
    rules = "".join(
        f"    - {{name: r{number}, outcome: refuse, resources: [{patterns}]}}\n"
        for number in range(100)
    )
    big = POLICY[: POLICY.index("    - name: read-anything")] + rules
    house.apply(big)
    started = time.perf_counter()
    (change,) = house.store.apply(big.replace("p7.*", "q7.*"), ADA).changes
    assert time.perf_counter() - started < 5
    assert change.action == "changed"
    assert change.diff.count("+    - q7.*") == 100


def test_the_store_knows_only_its_kinds(house: House) -> None:
    store = DocumentStore(house.database, house.audit, house.wakeups, ())
    with pytest.raises(Invalid) as caught:
        store.apply(RELAY, ADA)
    assert caught.value.errors[0].line == 2
