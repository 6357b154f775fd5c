"""Finds targets: what their documents say, in the vocabulary of both planes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from control_plane.documents.changes import Adviser, Proposal
from control_plane.documents.service import DocumentStore
from control_plane.documents.validation import Document
from control_plane.errors import NotFound
from control_plane.targets.schemas import TARGET, TargetSpec
from protos.vocabulary import Target


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """A target, and the name of the credential that the gateway shows it."""

    target: Target
    credential: str


class TargetService:
    """Targets by name."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    def find(self, session: Session, name: str) -> TargetRecord:
        """The target as its document stands. Raises NotFound (``target_unknown``)."""
        document = self._documents.find(session, TARGET.name, name)
        if document is None:
            raise NotFound("target_unknown", f"there is no target {name}")
        return record_of(document)


def record_of(document: Document) -> TargetRecord:
    """What a Target document says."""
    spec: TargetSpec = document.spec
    return TargetRecord(
        Target(
            name=document.name,
            protocol=spec.protocol,
            host=spec.host,
            port=spec.port,
            database=spec.database,
            labels=dict(document.labels),
            tls=spec.tls.mode,
            ca=spec.tls.ca,
            relays=frozenset(spec.relays),
        ),
        spec.credential,
    )


def missing_credentials(exists: Callable[[Session, str], bool]) -> Adviser:
    """Warns of targets whose credential isn't there yet; ``exists`` looks it up by name."""

    def advise(session: Session, proposal: Proposal) -> Iterable[str]:
        for document in proposal.changed:
            if document.kind is TARGET and not exists(session, document.spec.credential):
                name = document.spec.credential
                yield f"Target/{document.name}: there is no credential {name} yet"

    return advise


def unprotected(_session: Session, proposal: Proposal) -> Iterable[str]:
    """Warns of targets that are reached without knowing that it is them."""
    for document in proposal.changed:
        if document.kind is TARGET and document.spec.tls.mode in ("disable", "require"):
            mode = document.spec.tls.mode
            what = "in clear text" if mode == "disable" else "without knowing who answers"
            yield f"Target/{document.name}: tls mode {mode} sends the credential {what}"
