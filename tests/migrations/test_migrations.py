"""The migrations make what the models describe, on both databases, and can be taken back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from alembic import command
from sqlalchemy import delete, inspect, text, update
from sqlalchemy.exc import DBAPIError

from control_plane.audit.models import AuditEntry
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from migrations.upgrade import config, upgrade


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Database]:
    made = Database(empty_database_url)
    yield made
    made.close()


def test_migrations_and_models_agree(empty: Database) -> None:
    upgrade(empty.engine)
    with empty.engine.begin() as connection:
        command.check(config(connection))


def test_a_second_upgrade_changes_nothing(empty: Database) -> None:
    upgrade(empty.engine)
    with empty.transaction() as session:
        AuditTrail().record(session, "Ada", "a", "x", {})
    upgrade(empty.engine)
    with empty.transaction() as session:
        assert AuditTrail().verify(session).entries == 1


def test_two_at_once_upgrade_once(empty: Database) -> None:
    failures: list[BaseException] = []

    def act() -> None:
        try:
            upgrade(empty.engine)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=act) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert "audit_entries" in inspect(empty.engine).get_table_names()


def test_everything_can_be_taken_back(empty: Database) -> None:
    upgrade(empty.engine)
    with empty.engine.begin() as connection:
        command.downgrade(config(connection), "base")
    assert inspect(empty.engine).get_table_names() == ["alembic_version"]
    upgrade(empty.engine)


def test_a_broken_upgrade_leaves_nothing_behind(empty: Database) -> None:
    with empty.engine.begin() as connection:
        connection.execute(text("CREATE TABLE sessions (id integer)"))
    with pytest.raises(DBAPIError):
        upgrade(empty.engine)
    assert inspect(empty.engine).get_table_names() == ["sessions"]


@pytest.mark.parametrize(
    "change",
    [update(AuditEntry).values(actor="Eve"), delete(AuditEntry)],
    ids=["update", "delete"],
)
def test_the_audit_trail_is_append_only_in_the_database_too(
    empty: Database, change: object
) -> None:
    upgrade(empty.engine)
    with empty.transaction() as session:
        AuditTrail().record(session, "Ada", "a", "x", {})
        AuditTrail().record(session, "Ada", "b", "x", {})

    def act() -> None:
        with empty.transaction() as session:
            session.execute(change)  # type: ignore[call-overload]

    with pytest.raises(DBAPIError, match="append-only"):
        act()
    with empty.transaction() as session:
        assert AuditTrail().verify(session).entries == 2
