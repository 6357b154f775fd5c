"""Lets relays join, knows them by their credential, and shuts them out.

Counterparts: :mod:`control_plane.relay_api` carries the calls, :mod:`.authority` issues the
certificates. A secret is 256 random bits and kept as SHA-256: looked up by its hash, it is
compared with nothing that a caller could learn from the time it takes.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import CursorResult, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from control_plane.audit.service import AuditTrail
from control_plane.database import Database, now
from control_plane.documents.changes import Proposal
from control_plane.documents.service import DocumentStore
from control_plane.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from control_plane.relays.authority import Authority
from control_plane.relays.models import JoinTokenRow, Relay
from control_plane.relays.schemas import LONGEST_TOKEN_SECONDS, RELAY, RelaySpec
from control_plane.targets.schemas import TARGET
from control_plane.wakeups import Wakeups

# Prefixes by which scanners for leaked secrets know them.
_TOKEN_PREFIX = "jgj_"  # noqa: S105  # no secret
_CREDENTIAL_PREFIX = "jgr_"
_LONGEST_SECRET = 200
_MOST_HOSTS = 50
_MOST_TOKENS = 20
_SEEN_EVERY = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class RelayIdentity:
    """A relay whose credential was checked."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a relay gets. ``credential`` is empty unless it came with a join token."""

    relay: str
    credential: str = field(repr=False)
    certificate: str
    key: str = field(repr=False)
    expires_at: datetime


class RelayService:
    """Relays by name and by credential."""

    def __init__(
        self,
        database: Database,
        audit: AuditTrail,
        wakeups: Wakeups,
        documents: DocumentStore,
        authority: Authority,
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database = database
        self._audit = audit
        self._wakeups = wakeups
        self._documents = documents
        self._authority = authority
        self._clock = clock

    def make_join_token(self, name: str, seconds: int, author: str) -> tuple[str, datetime]:
        """A token that joins this relay once within ``seconds``, and when it ends.

        It lets in a relay that was revoked, too: that is how an administrator re-admits one.
        Raises NotFound, Invalid, and Conflict where too many unused ones exist.
        """
        if not 0 < seconds <= LONGEST_TOKEN_SECONDS:
            raise Invalid("expiry_invalid", f"1 to {LONGEST_TOKEN_SECONDS} seconds")
        token = _TOKEN_PREFIX + secrets.token_urlsafe(32)
        moment = self._clock()
        expires_at = moment + timedelta(seconds=seconds)
        with self._database.transaction() as session:
            incarnation = self._incarnation(session, name)
            # Everywhere tokens are locked before the relay, so nobody waits in a circle.
            session.execute(
                delete(JoinTokenRow).where(
                    JoinTokenRow.relay == name, JoinTokenRow.expires_at <= moment
                )
            )
            relay = self._relay(session, name, incarnation)
            unused = session.scalars(
                select(JoinTokenRow.hash).where(
                    JoinTokenRow.relay == name, JoinTokenRow.used_at.is_(None)
                )
            ).all()
            if len(unused) >= _MOST_TOKENS:
                raise Conflict("too_many_join_tokens", f"{name} has {len(unused)} unused tokens")
            session.add(
                JoinTokenRow(
                    hash=_hash(token),
                    relay=relay.name,
                    incarnation=incarnation,
                    created_at=moment,
                    expires_at=expires_at,
                )
            )
            session.flush()
            self._audit.record(
                session,
                author,
                "relay.join_token_created",
                f"Relay/{name}",
                {"expires_at": expires_at.isoformat()},
            )
        return token, expires_at

    def enrol(
        self,
        join_token: str = "",
        credential: str = "",
        hosts: Sequence[str] = (),
        version: str = "",
    ) -> Enrolment:
        """Let a relay in by a join token, or renew its certificate by its credential.

        A join token is consumed exactly if this succeeds, by one caller only; the relay's
        credential from before ends with it. The certificate is for ``hosts``, which must be
        among those of the relay's document; none: for all of them. Raises Unauthenticated
        (``join_token_invalid``, ``relay_unknown``, ``relay_revoked``), Forbidden
        (``host_not_listed``).
        """
        if bool(join_token) == bool(credential):
            message = "a join token or a credential is needed, and not both"
            raise Unauthenticated("relay_credential_missing", message)
        with self._database.transaction() as session:
            if join_token:
                relay, given = self._join(session, join_token)
            else:
                relay, given = self._known(session, credential), ""
            certificate = self._authority.issue(self._allowed(session, relay, hosts))
            relay.version = _short(version)
            relay.certificate_expires_at = certificate.expires_at
            relay.last_seen_at = self._clock()
            session.flush()
            self._audit.record(
                session,
                f"relay {relay.name}",
                "relay.joined" if join_token else "relay.certificate_renewed",
                f"Relay/{relay.name}",
                {"certificate_expires_at": certificate.expires_at.isoformat()},
            )
            name = relay.name
        if join_token:
            # Streams of whoever held the credential before end now.
            self._wakeups.wake(f"relay:{name}")
        return Enrolment(
            name, given, certificate.chain_pem, certificate.key_pem, certificate.expires_at
        )

    def authenticate(self, session: Session, credential: str) -> RelayIdentity:
        """Whose credential this is, as of now.

        Raises Unauthenticated: ``relay_unknown`` also for one replaced by a later join or
        whose document was deleted, ``relay_revoked``.
        """
        relay = self._known(session, credential)
        return RelayIdentity(relay.id, relay.name)

    def revoke(self, name: str, author: str, *, reason: str = "") -> None:
        """Shut a relay out at once, with all join tokens for it. Idempotent.

        Raises NotFound. Its certificate stays valid until it ends: clients can't tell, but no
        session opens and its streams end.
        """
        with self._database.transaction() as session:
            incarnation = self._incarnation(session, name)
            session.execute(
                delete(JoinTokenRow).where(
                    JoinTokenRow.relay == name, JoinTokenRow.used_at.is_(None)
                )
            )
            relay = self._relay(session, name, incarnation)
            if relay.revoked_at is None:
                relay.revoked_at = self._clock()
            session.flush()
            details = {"reason": reason}
            self._audit.record(session, author, "relay.revoked", f"Relay/{name}", details)
        self._wakeups.wake(f"relay:{name}")

    def seen(
        self,
        session: Session,
        relay_id: str,
        *,
        version: str = "",
        boot: str = "",
        protocols: Iterable[str] = (),
    ) -> None:
        """Note that the relay is there; what is empty stays. Cheap to call often."""
        relay = session.get(Relay, relay_id, with_for_update=True)
        if relay is None:
            return
        moment = self._clock()
        spoken = sorted({_short(protocol) for protocol in protocols})[:50]
        news = (
            (version and _short(version) != relay.version)
            or (boot and _short(boot) != relay.boot)
            or (spoken and spoken != relay.protocols)
        )
        last = relay.last_seen_at
        if not news and last is not None and moment - last < _SEEN_EVERY:
            return
        relay.last_seen_at = moment
        relay.version = _short(version) or relay.version
        relay.boot = _short(boot) or relay.boot
        relay.protocols = spoken or relay.protocols

    def find(self, session: Session, name: str) -> Relay | None:
        """What is known of the relay that the document stands for; None: nothing yet.

        Raises NotFound where there is no document.
        """
        incarnation = self._incarnation(session, name)
        relay = session.scalar(select(Relay).where(Relay.name == name))
        return relay if relay is not None and relay.incarnation == incarnation else None

    def _incarnation(self, session: Session, name: str) -> int:
        incarnation = self._documents.incarnation(session, RELAY.name, name)
        if incarnation is None:
            raise NotFound("document_unknown", f"there is no {RELAY.name}/{name}")
        return incarnation

    def _relay(self, session: Session, name: str, incarnation: int) -> Relay:
        """The relay's row, locked; made where there is none of this incarnation."""
        query = select(Relay).where(Relay.name == name).with_for_update()
        relay = session.scalar(query)
        if relay is None:
            try:
                with session.begin_nested():
                    session.add(Relay(id=uuid.uuid4().hex, name=name, incarnation=incarnation))
            except IntegrityError:
                # Another transaction was first and has committed: its row is there now.
                pass
            relay = session.scalar(query)
        assert relay is not None
        if relay.incarnation != incarnation:
            relay.incarnation = incarnation
            relay.credential_hash = relay.joined_at = relay.revoked_at = None
            relay.last_seen_at = relay.certificate_expires_at = None
            relay.version = relay.boot = ""
            relay.protocols = []
        return relay

    def _join(self, session: Session, token: str) -> tuple[Relay, str]:
        invalid = Unauthenticated(
            "join_token_invalid", "this join token is unknown, used or expired"
        )
        moment = self._clock()
        digest = _hash(token)
        # One statement decides, so of two that come at once one finds it used.
        consumed = cast(
            CursorResult[None],
            session.execute(
                update(JoinTokenRow)
                .where(
                    JoinTokenRow.hash == digest,
                    JoinTokenRow.used_at.is_(None),
                    JoinTokenRow.expires_at > moment,
                )
                .values(used_at=moment)
            ),
        )
        if consumed.rowcount != 1:
            raise invalid
        row = session.get_one(JoinTokenRow, digest)
        if self._documents.incarnation(session, RELAY.name, row.relay) != row.incarnation:
            raise invalid
        relay = self._relay(session, row.relay, row.incarnation)
        credential = _CREDENTIAL_PREFIX + secrets.token_urlsafe(32)
        relay.credential_hash = _hash(credential)
        relay.joined_at, relay.revoked_at = moment, None
        return relay, credential

    def _known(self, session: Session, credential: str) -> Relay:
        relay = session.scalar(select(Relay).where(Relay.credential_hash == _hash(credential)))
        if relay is None:
            raise Unauthenticated("relay_unknown", "this credential is no relay's")
        if relay.revoked_at is not None:
            raise Unauthenticated("relay_revoked", "this relay was revoked")
        incarnation = self._documents.incarnation(session, RELAY.name, relay.name)
        if incarnation != relay.incarnation:
            raise Unauthenticated("relay_unknown", "this relay was deleted")
        return relay

    def _allowed(self, session: Session, relay: Relay, hosts: Sequence[str]) -> list[str]:
        document = self._documents.find(session, RELAY.name, relay.name)
        assert document is not None  # its incarnation was just looked at
        spec: RelaySpec = document.spec
        listed = {_normal(host): host for host in spec.hosts}
        if len(hosts) > _MOST_HOSTS:
            raise Invalid("host_invalid", f"more than {_MOST_HOSTS} hosts")
        asked = {_normal(host) for host in hosts} or set(listed)
        if missing := sorted(asked - set(listed)):
            raise Forbidden(
                "host_not_listed",
                f"Relay/{relay.name} doesn't list the host {_short(missing[0])!r}",
            )
        return [host for normal, host in listed.items() if normal in asked]


def unspoken_protocols(session: Session, proposal: Proposal) -> Iterable[str]:
    """Warns of targets whose protocol no relay that could serve them has said it speaks."""
    relays = session.scalars(select(Relay).where(Relay.last_seen_at.is_not(None))).all()
    for document in proposal.changed:
        if document.kind is not TARGET:
            continue
        serving = set(document.spec.relays)
        able = [relay for relay in relays if relay.name in serving or not serving]
        known = {protocol for relay in able for protocol in relay.protocols}
        if known and document.spec.protocol not in known:
            yield (
                f"Target/{document.name}: no relay that serves it speaks "
                f"{document.spec.protocol}, only {', '.join(sorted(known))}"
            )


def _hash(secret: str) -> bytes:
    # Random, so no slow hash is needed; bounded, so that nobody makes us hash megabytes.
    return hashlib.sha256(secret[:_LONGEST_SECRET].encode("utf-8", "replace")).digest()


def _normal(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def _short(text: str) -> str:
    return "".join(c for c in text[:100] if c.isprintable())
