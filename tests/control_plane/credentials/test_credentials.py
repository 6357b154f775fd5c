"""Credentials: sealed, bound to their name, given out to relays only."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from sqlalchemy import select, update

from control_plane.audit.service import AuditTrail
from control_plane.credentials.keys import KeyUnusable, MasterKeys, Sealed
from control_plane.credentials.models import StoredCredential
from control_plane.credentials.service import CredentialService
from control_plane.database import Database
from control_plane.errors import NotFound, Unavailable
from protos.vocabulary import Credential

SECRET = "correct horse battery staple"
APP = Credential("app", SECRET)


@pytest.fixture
def service(database: Database, tmp_path: Path) -> CredentialService:
    return CredentialService(database, AuditTrail(), MasterKeys.load(tmp_path / "master.key"))


def lease(service: CredentialService, database: Database, name: str = "db") -> Credential:
    with database.transaction() as session:
        return service.lease(session, name)


def test_what_was_put_is_leased(service: CredentialService, database: Database) -> None:
    service.put("db", APP, "admin")
    assert lease(service, database) == APP
    service.put("db", Credential("other", "x"), "admin")
    assert lease(service, database) == Credential("other", "x")


def test_the_password_is_nowhere_but_in_the_lease(
    service: CredentialService, database: Database, tmp_path: Path
) -> None:
    stored = service.put("db", APP, "admin")
    service.put("db", APP, "admin")
    assert SECRET not in repr(stored) + repr(vars(stored)) + repr(APP)
    with database.transaction() as session:
        details = [row.details for row in AuditTrail().page(session, before=None, limit=10)]
        sealed = session.scalars(select(StoredCredential.sealed)).one()
    assert len(details) == 2
    assert not any(SECRET in detail for detail in details)
    assert SECRET.encode() not in sealed
    assert all(SECRET.encode() not in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_equal_passwords_look_different(service: CredentialService, database: Database) -> None:
    service.put("one", APP, "admin")
    service.put("two", APP, "admin")
    with database.transaction() as session:
        sealed = session.scalars(select(StoredCredential.sealed)).all()
    assert sealed[0] != sealed[1]


@pytest.mark.parametrize("change", ["moved", "renamed user", "flipped", "cut"])
def test_a_changed_row_opens_nothing(
    service: CredentialService, database: Database, change: str
) -> None:
    service.put("db", APP, "admin")
    service.put("other", Credential("app", "another"), "admin")
    with database.transaction() as session:
        row = session.get_one(StoredCredential, "db")
        match change:
            case "moved":
                row.sealed = session.get_one(StoredCredential, "other").sealed
            case "renamed user":
                row.username = "superuser"
            case "flipped":
                row.sealed = row.sealed[:-1] + bytes([row.sealed[-1] ^ 1])
            case _:
                row.sealed = row.sealed[:5]
    with pytest.raises(Unavailable) as refused:
        lease(service, database)
    assert refused.value.code == "credential_unreadable"
    assert SECRET not in str(refused.value)


def test_what_is_not_there_is_not_found(service: CredentialService, database: Database) -> None:
    for act in (
        lambda: lease(service, database),
        lambda: service.find("db"),
        lambda: service.delete("db", "admin"),
    ):
        with pytest.raises(NotFound):
            act()


def test_a_deleted_credential_is_gone(service: CredentialService, database: Database) -> None:
    service.put("db", APP, "admin")
    service.delete("db", "admin")
    with pytest.raises(NotFound):
        lease(service, database)


def test_a_key_file_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "master.key"
    first = MasterKeys.load(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert MasterKeys.load(path).current_id == first.current_id
    assert [one.name for one in path.parent.iterdir()] == ["master.key"]


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    MasterKeys.load(path)
    path.chmod(0o640)
    with pytest.raises(KeyUnusable, match="0600"):
        MasterKeys.load(path)


@pytest.mark.parametrize("content", ["", "not base64!", base64.b64encode(b"short").decode()])
def test_a_bad_key_file_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "master.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyUnusable) as refused:
        MasterKeys.load(path)
    assert not content or content not in str(refused.value)


def test_a_new_key_in_front_seals_and_the_old_one_still_opens(
    database: Database, tmp_path: Path
) -> None:
    old, new = os.urandom(32), os.urandom(32)
    before = CredentialService(database, AuditTrail(), MasterKeys([old]))
    before.put("db", APP, "admin")
    both = CredentialService(database, AuditTrail(), MasterKeys([new, old]))
    assert lease(both, database) == APP
    assert (both.reseal("admin"), both.reseal("admin")) == (1, 0)
    after = CredentialService(database, AuditTrail(), MasterKeys([new]))
    assert lease(after, database) == APP
    with pytest.raises(Unavailable):
        lease(before, database)


def test_pseudonyms_go_on_joining_while_the_old_key_is_kept(database: Database) -> None:
    old, new = os.urandom(32), os.urandom(32)
    keys = [
        CredentialService(database, AuditTrail(), MasterKeys(materials)).masking_key
        for materials in ([old], [new, old], [new])
    ]
    assert keys[0] == keys[1] != keys[2]
    assert len(keys[0]) == 32
    assert old not in keys


def test_an_unknown_key_id_is_said_so(database: Database) -> None:
    keys = MasterKeys([os.urandom(32)])
    with pytest.raises(KeyUnusable, match="no master key"):
        keys.open(Sealed("0" * 16, b"x" * 40), b"")


def test_credentials_are_listed_by_name(service: CredentialService, database: Database) -> None:
    for name in ("b", "a", "c"):
        service.put(name, APP, "admin")
    assert [row.name for row in service.page(None, 2)] == ["a", "b"]
    assert [row.name for row in service.page("b", 2)] == ["c"]
    with database.transaction() as session:
        assert service.exists(session, "a")
        assert not service.exists(session, "z")
        session.execute(update(StoredCredential).values(key_id="gone"))
    assert service.find("a").username == "app"
