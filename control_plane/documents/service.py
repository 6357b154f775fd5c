"""Keeps documents in revisions: applies, compares, rolls back and deletes them.

Counterparts: targets, relays and policy read the current documents here and give them meaning.
All changes are ordered by one locked row, so two applies never see half of each other, and
:meth:`DocumentStore.generation` tells readers whether anything changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, and_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from control_plane.audit.service import AuditTrail
from control_plane.database import Database, now
from control_plane.documents.changes import (
    Adviser,
    Applied,
    Change,
    Proposal,
    dangling,
    diff_of,
    planned,
)
from control_plane.documents.models import DocumentRevision, DocumentRow, DocumentState
from control_plane.documents.reader import read
from control_plane.documents.validation import MAX_ERRORS, Document, Documents, Kind
from control_plane.errors import Conflict, Invalid, Location, NotFound
from control_plane.wakeups import Wakeups


@dataclass(frozen=True, slots=True)
class _Current:
    row: DocumentRow
    revision: DocumentRevision


class DocumentStore:
    """All documents of all kinds."""

    def __init__(
        self,
        database: Database,
        audit: AuditTrail,
        wakeups: Wakeups,
        kinds: Sequence[Kind],
        advisers: Sequence[Adviser] = (),
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database = database
        self._audit = audit
        self._wakeups = wakeups
        self._documents = Documents(kinds)
        self._advisers = tuple(advisers)
        self._clock = clock

    # Reading

    def generation(self, session: Session) -> int:
        """A number that grows with every change of any document."""
        found = session.scalar(select(DocumentState.generation).where(DocumentState.id == 1))
        return found or 0

    def find(self, session: Session, kind: str, name: str) -> Document | None:
        """The document as it stands, if there is one."""
        current = self._current(session, kind, name)
        if current is None or current.revision.content is None:
            return None
        return self._documents.stored(kind, current.revision.content)

    def incarnation(self, session: Session, kind: str, name: str) -> int | None:
        """A number that differs between a document and one created after its deletion."""
        row = session.get(DocumentRow, (kind, name))
        return None if row is None or row.deleted else row.incarnation

    def every(self, session: Session, kind: str) -> tuple[Document, ...]:
        """All documents of a kind as they stand, by name; one query, so of one moment."""
        rows = session.scalars(
            _standing().where(DocumentRow.kind == kind).order_by(DocumentRow.name)
        )
        return tuple(self._documents.stored(kind, row.content) for row in rows if row.content)

    def page(
        self, session: Session, kind: str, after: str | None, limit: int
    ) -> Sequence[DocumentRevision]:
        """Up to ``limit`` current revisions of a kind, by name."""
        query = _standing().where(DocumentRow.kind == kind).order_by(DocumentRow.name)
        if after is not None:
            query = query.where(DocumentRow.name > after)
        return session.scalars(query.limit(limit)).all()

    def current(self, session: Session, kind: str, name: str) -> DocumentRevision:
        """The current revision. Raises NotFound where there is none, or it was deleted."""
        current = self._current(session, kind, name)
        if current is None or current.row.deleted:
            raise _unknown(kind, name)
        return current.revision

    def history(
        self, session: Session, kind: str, name: str, before: int | None, limit: int
    ) -> Sequence[DocumentRevision]:
        """Up to ``limit`` revisions, newest first. Raises NotFound where there never was one."""
        query = select(DocumentRevision).where(
            DocumentRevision.kind == kind, DocumentRevision.name == name
        )
        if before is not None:
            query = query.where(DocumentRevision.revision < before)
        query = query.order_by(DocumentRevision.revision.desc()).limit(limit)
        found = session.scalars(query).all()
        if not found and before is None:
            raise _unknown(kind, name)
        return found

    def revision(self, session: Session, kind: str, name: str, revision: int) -> DocumentRevision:
        """One revision. Raises NotFound."""
        found = session.get(DocumentRevision, (kind, name, revision))
        if found is None:
            raise NotFound("revision_unknown", f"{kind}/{name} has no revision {revision}")
        return found

    def difference(self, session: Session, revision: DocumentRevision) -> str:
        """What this revision changed, as a unified diff."""
        before = session.get(
            DocumentRevision, (revision.kind, revision.name, revision.revision - 1)
        )
        old = before.content if before is not None else None
        return diff_of(revision.kind, revision.name, old, revision.content, revision.revision)

    # Changing

    def apply(
        self,
        text: bytes | str,
        author: str,
        *,
        message: str = "",
        expected: int | None = None,
        dry_run: bool = False,
    ) -> Applied:
        """Put every document of ``text`` in place, or none: one transaction.

        A document that says what it said before keeps its revision. ``expected`` is the
        revision that the only document in ``text`` must have now; 0: it must not exist.
        A dry run does all of it but the change. Raises Invalid with the places of everything
        wrong (``document_invalid``), and Conflict (``revision_changed``).
        """
        documents = self._checked(text)
        if expected is not None and len(documents) != 1:
            raise Invalid("if_match_ambiguous", "If-Match goes with exactly one document")
        return self._put(documents, author, message, expected, dry_run, "")

    def roll_back(
        self,
        kind: str,
        name: str,
        revision: int,
        author: str,
        *,
        message: str = "",
        expected: int | None = None,
    ) -> Applied:
        """Make an earlier revision's content the newest revision; also after a deletion.

        Raises NotFound, Conflict, and Invalid where what was valid then isn't now.
        """
        with self._database.transaction() as session:
            old = self.revision(session, kind, name, revision)
            if old.source is None:
                raise Invalid("revision_deleted", f"revision {revision} is a deletion")
            source = old.source
        message = message or f"back to revision {revision}"
        return self._put(self._checked(source), author, message, expected, False, "rolled_back")

    def delete(
        self, kind: str, name: str, author: str, *, message: str = "", expected: int | None = None
    ) -> Change:
        """Take a document away; its revisions stay.

        Raises NotFound, and Conflict where another document names it (``document_in_use``) or
        it changed meanwhile (``revision_changed``).
        """
        with self._database.transaction() as session:
            state = self._locked(session)
            standing = self._all(session)
            current = standing.get((kind, name))
            if current is None or current.row.deleted:
                raise _unknown(kind, name)
            self._expect(current, expected, kind, name)
            users = sorted(
                f"{document.kind.name}/{document.name}"
                for document in self._parsed(standing).values()
                for reference in document.kind.references(document.spec)
                if (reference.kind, reference.name) == (kind, name)
            )
            if users:
                shown = ", ".join(users[:5])
                raise Conflict("document_in_use", f"{kind}/{name} is named by {shown}")
            change = Change(
                kind,
                name,
                "deleted",
                current.row.revision + 1,
                diff_of(kind, name, current.revision.content, None, current.row.revision + 1),
            )
            state.generation += 1
            self._write(session, current.row, change, None, author, message)
        self._wake([change])
        return change

    def _checked(self, text: bytes | str) -> list[Document]:
        documents: list[Document] = []
        errors: list[Location] = []
        seen: set[tuple[str, str]] = set()
        for source in read(text):
            match self._documents.check(source):
                case Document() as document:
                    if document.key in seen:
                        errors.append(
                            document.complaint(("metadata", "name"), "is here a second time")
                        )
                    seen.add(document.key)
                    documents.append(document)
                case problems:
                    errors += problems
        _refuse(errors)
        if not documents:
            raise Invalid("document_missing", "there is no document in this text")
        return documents

    def _put(
        self,
        documents: Sequence[Document],
        author: str,
        message: str,
        expected: int | None,
        dry_run: bool,
        action: str,
    ) -> Applied:
        with self._database.transaction() as session:
            # Before anything is read, so that it is still so when it is written.
            state = None if dry_run else self._locked(session)
            standing = self._all(session)
            if expected is not None:
                (only,) = documents
                self._expect(standing.get(only.key), expected, *only.key)
            proposal = Proposal(
                documents,
                {**self._parsed(standing), **{document.key: document for document in documents}},
            )
            _refuse(dangling(proposal))
            warnings = [text for adviser in self._advisers for text in adviser(session, proposal)]
            changes = [
                _plan(document, standing.get(document.key), action) for document in documents
            ]
            if state is not None and any(change.action != "unchanged" for change in changes):
                state.generation += 1
                for change, document in zip(changes, documents, strict=True):
                    if change.action != "unchanged":
                        current = standing.get(document.key)
                        row = current.row if current else None
                        self._write(session, row, change, document, author, message)
        if not dry_run:
            self._wake(changes)
        return Applied(tuple(changes), tuple(warnings))

    def _write(
        self,
        session: Session,
        row: DocumentRow | None,
        change: Change,
        document: Document | None,
        author: str,
        message: str,
    ) -> None:
        if row is None:
            row = DocumentRow(kind=change.kind, name=change.name, deleted=True)
            session.add(row)
        if row.deleted:
            row.incarnation = change.revision
        row.revision = change.revision
        row.deleted = document is None
        session.flush()
        session.add(
            DocumentRevision(
                kind=change.kind,
                name=change.name,
                revision=change.revision,
                action=change.action,
                content=None if document is None else document.content,
                source=None if document is None else document.source,
                author=author[:500],
                at=self._clock(),
                message=message[:500],
            )
        )
        self._audit.record(
            session,
            author,
            f"document.{change.action}",
            f"{change.kind}/{change.name}",
            {"revision": change.revision, "message": message},
        )

    def _wake(self, changes: Iterable[Change]) -> None:
        topics = {
            topic
            for change in changes
            if change.action != "unchanged"
            for topic in self._documents.kinds[change.kind].topics(change.name)
        }
        if topics:
            self._wakeups.wake(*sorted(topics))

    def _locked(self, session: Session) -> DocumentState:
        state = session.get(DocumentState, 1, with_for_update=True)
        if state is None:
            try:
                with session.begin_nested():
                    session.add(DocumentState(id=1, generation=0))
            except IntegrityError:
                # Another transaction was first and has committed: its row is there now.
                pass
            state = session.get(DocumentState, 1, with_for_update=True)
        assert state is not None
        return state

    def _current(self, session: Session, kind: str, name: str) -> _Current | None:
        query = _joined().where(DocumentRow.kind == kind, DocumentRow.name == name)
        found = session.execute(query).one_or_none()
        return None if found is None else _Current(found[0], found[1])

    def _all(self, session: Session) -> dict[tuple[str, str], _Current]:
        rows = session.execute(_joined().order_by(DocumentRow.kind, DocumentRow.name))
        return {(row.kind, row.name): _Current(row, revision) for row, revision in rows}

    def _parsed(
        self, standing: Mapping[tuple[str, str], _Current]
    ) -> dict[tuple[str, str], Document]:
        return {
            key: self._documents.stored(key[0], current.revision.content)
            for key, current in standing.items()
            if current.revision.content is not None
        }

    @staticmethod
    def _expect(current: _Current | None, expected: int | None, kind: str, name: str) -> None:
        actual = 0 if current is None or current.row.deleted else current.row.revision
        if expected is not None and expected != actual:
            what = f"is at revision {actual}" if actual else "doesn't exist"
            raise Conflict("revision_changed", f"{kind}/{name} {what}, not at {expected}")


_HERE = and_(
    DocumentRevision.kind == DocumentRow.kind,
    DocumentRevision.name == DocumentRow.name,
    DocumentRevision.revision == DocumentRow.revision,
)


def _joined() -> Select[DocumentRow, DocumentRevision]:
    return select(DocumentRow, DocumentRevision).join(DocumentRevision, _HERE)


def _standing() -> Select[DocumentRevision]:
    return select(DocumentRevision).join(DocumentRow, _HERE).where(DocumentRow.deleted.is_(False))


def _unknown(kind: str, name: str) -> NotFound:
    return NotFound("document_unknown", f"there is no {kind}/{name}")


def _refuse(errors: Sequence[Location]) -> None:
    if errors:
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise Invalid(
            "document_invalid",
            f"line {first.line}, column {first.column}: {first.message}{more}",
            errors=errors[:MAX_ERRORS],
        )


def _plan(document: Document, current: _Current | None, action: str) -> Change:
    if current is None:
        return planned(document, None, 0, action)
    # A deleted one has no content, but its revisions count on.
    return planned(document, current.revision.content, current.row.revision, action)
