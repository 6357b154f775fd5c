"""Stores, lists and leases credentials. A password leaves it by :meth:`lease` only.

Counterparts: :mod:`control_plane.sessions` leases one when it opens a session;
:mod:`control_plane.credentials.keys` seals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from control_plane.audit.service import AuditTrail
from control_plane.credentials.keys import KeyUnusable, MasterKeys, Sealed
from control_plane.credentials.models import StoredCredential
from control_plane.database import Database, now
from control_plane.errors import NotFound, Unavailable
from protos.vocabulary import Credential


class CredentialService:
    """Credentials by name."""

    def __init__(
        self,
        database: Database,
        audit: AuditTrail,
        keys: MasterKeys,
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database = database
        self._audit = audit
        self._keys = keys
        self._clock = clock

    @property
    def masking_key(self) -> bytes:
        """32 bytes for keyed pseudonyms; the same for every relay, so that they join."""
        return self._keys.derive(b"masking pseudonyms")

    def lease(self, session: Session, name: str) -> Credential:
        """The credential, for a relay to use.

        Raises NotFound (``credential_missing``), Unavailable (``credential_unreadable``).
        """
        stored = session.get(StoredCredential, name)
        if stored is None:
            raise NotFound("credential_missing", f"there is no credential {name}")
        return Credential(stored.username, self._open(stored))

    def exists(self, session: Session, name: str) -> bool:
        """Whether there is such a credential."""
        return session.get(StoredCredential, name) is not None

    def put(self, name: str, credential: Credential, actor: str) -> StoredCredential:
        """Store it in place of what was there."""
        with self._database.transaction() as session:
            stored = session.get(StoredCredential, name, with_for_update=True)
            action = "credential.created" if stored is None else "credential.changed"
            if stored is None:
                stored = StoredCredential(name=name)
                session.add(stored)
            stored.username = credential.username
            self._seal(stored, credential.password)
            stored.updated_at, stored.updated_by = self._clock(), actor
            session.flush()
            self._audit.record(session, actor, action, name, {"username": credential.username})
        return stored

    def page(self, after: str | None, limit: int) -> Sequence[StoredCredential]:
        """Up to ``limit`` credentials by name."""
        query = select(StoredCredential).order_by(StoredCredential.name).limit(limit)
        if after is not None:
            query = query.where(StoredCredential.name > after)
        with self._database.transaction() as session:
            return session.scalars(query).all()

    def find(self, name: str) -> StoredCredential:
        """What may be known of it. Raises NotFound."""
        with self._database.transaction() as session:
            stored = session.get(StoredCredential, name)
        if stored is None:
            raise NotFound("credential_missing", f"there is no credential {name}")
        return stored

    def delete(self, name: str, actor: str) -> None:
        """Forget it: no new session of its targets can be opened. Raises NotFound."""
        with self._database.transaction() as session:
            stored = session.get(StoredCredential, name, with_for_update=True)
            if stored is None:
                raise NotFound("credential_missing", f"there is no credential {name}")
            session.delete(stored)
            self._audit.record(session, actor, "credential.deleted", name, {})

    def reseal(self, actor: str) -> int:
        """Seal everything under the current master key; how many credentials were not."""
        with self._database.transaction() as session:
            query = select(StoredCredential).where(StoredCredential.key_id != self._keys.current_id)
            stale = session.scalars(query.with_for_update()).all()
            for stored in stale:
                self._seal(stored, self._open(stored))
            if stale:
                session.flush()
                details = {"credentials": len(stale), "key_id": self._keys.current_id}
                self._audit.record(session, actor, "credential.resealed", "*", details)
        return len(stale)

    def _seal(self, stored: StoredCredential, password: str) -> None:
        sealed = self._keys.seal(password.encode(), _context(stored))
        stored.sealed, stored.key_id = sealed.blob, sealed.key_id

    def _open(self, stored: StoredCredential) -> str:
        try:
            return self._keys.open(Sealed(stored.key_id, stored.sealed), _context(stored)).decode()
        except KeyUnusable as error:
            raise Unavailable("credential_unreadable", f"{stored.name}: {error}") from None


def _context(stored: StoredCredential) -> bytes:
    # Bound to name and user name: a row can't be made another's by changing the database.
    return b"\0".join((b"credential", stored.name.encode(), stored.username.encode()))
