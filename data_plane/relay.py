"""The relay: its root nursery, and what its sessions share.

Counterparts: :mod:`data_plane.control` is its only way to the control plane,
:mod:`data_plane.listener` brings the clients, :mod:`data_plane.recording` keeps what happened.
Sessions that run go on under the last policy while the control plane is away; new sessions and
approvals are refused until it is back; recordings wait on disk.
"""

from __future__ import annotations

import json
import os
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from uuid import uuid4

import structlog
import trio

from data_plane import VERSION
from data_plane.config import Config, Limits
from data_plane.control import ControlPlane, Refused, Unavailable
from data_plane.control.bridge import Bridge
from data_plane.control.client import Enrolment, Update
from data_plane.conversation import Denied, ProtocolSpec
from data_plane.gate import Gate
from data_plane.listener import Listener
from data_plane.recording import Recorder, Spool
from data_plane.recording.upload import Uploader
from data_plane.session import Opened, Session, with_database
from protos.policy import PolicySet, masking_for
from protos.vocabulary import EntryKind, Target

RETRY_SECONDS = (0.5, 5.0)
STOP_SECONDS = 5.0
RENEW_BEFORE_SECONDS = 7 * 24 * 3600

log = structlog.get_logger(__name__)


class Relay:
    """One relay process. ``protocols`` is the table of what it can speak."""

    def __init__(
        self,
        config: Config,
        protocols: Mapping[str, ProtocolSpec],
        control_plane: ControlPlane,
        spool: Spool,
    ) -> None:
        self.limits: Limits = config.limits
        self._config = config
        self._protocols = protocols
        self._control_plane = control_plane
        self._spool = spool
        self._uploader = Uploader(spool, control_plane.record, Unavailable)
        self._sessions: dict[bytes, Session] = {}
        self._policies: PolicySet | None = None
        self._masking_key = b""
        self._nursery: trio.Nursery | None = None
        self._boot_id = uuid4().hex
        self._identity = _Identity(config.state_dir)
        self._client_tls: dict[str, ssl.SSLContext] = {}
        self._target_tls: dict[tuple[str, str], ssl.SSLContext] = {}
        self._ready = trio.Event()
        self._one_closed = trio.Event()

    async def run(self, *, stop: trio.Event) -> None:
        """Enrol, serve until ``stop``, then end the sessions and hand over what is recorded."""
        async with trio.open_nursery() as joining:
            joining.start_soon(_cancel_when, stop, joining.cancel_scope)
            await self._join()
            joining.cancel_scope.cancel()
        if stop.is_set():
            return
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._watch)
            nursery.start_soon(self._uploader.run)
            nursery.start_soon(self._renew)
            async with trio.open_nursery() as listeners:
                for name, listen in self._config.listen.items():
                    listener = Listener(self, self._protocols[name], listen)
                    listeners.start_soon(listener.serve, _listening)
                await stop.wait()
                for session in list(self._sessions.values()):
                    session.end("relay_stopping", "the relay is stopping")
                with trio.move_on_after(STOP_SECONDS):
                    while self._sessions:
                        self._one_closed = trio.Event()
                        await self._one_closed.wait()
                listeners.cancel_scope.cancel()
            await self._uploader.drain(STOP_SECONDS)
            nursery.cancel_scope.cancel()
        self._spool.close()

    # What sessions need (data_plane.session.Surroundings)

    async def open(
        self, session: Session, *, token: str, target: str, database: str
    ) -> Opened | Denied:
        """Open a session; raises what the control plane's calls raise."""
        if self._policies is None:
            raise Unavailable("no policy has arrived yet")
        if not self._spool.has_room:
            return Denied(
                "recording_unavailable", "the relay's spool is full, so nothing can be recorded"
            )
        lease = await self._control_plane.open_session(
            token=token, target=target, protocol=session.protocol, client_address=session.address
        )
        policies = self._policies
        recorder = Recorder(self._spool, lease.session, time.time_ns)
        destination = with_database(lease.target, database)
        recorder.note(
            EntryKind.OPENED,
            {
                "principal": {
                    "tenant": lease.principal.tenant,
                    "object_id": lease.principal.object_id,
                    "client_id": lease.principal.client_id,
                    "kind": lease.principal.kind,
                    "name": lease.principal.name,
                },
                "protocol": session.protocol,
                "target": destination.name,
                "database": destination.database,
                "client_address": session.address,
                "policy_version": policies.version,
            },
        )
        gate = Gate(
            recorder=recorder,
            principal=lease.principal,
            target=destination,
            policies=self._current_policies,
            approvals=self._control_plane,
            clock=time.time,
        )
        self._sessions[session.cancel_key] = session
        return Opened(
            principal=lease.principal,
            target=destination,
            credential=lease.credential,
            masking=masking_for(policies, lease.principal, destination, int(time.time())),
            masking_key=self._masking_key,
            recorder=recorder,
            gate=gate,
            lifetime=max(0.0, lease.expires_at - time.time()),
        )

    def closed(self, session: Session) -> None:
        """A session is over."""
        self._sessions.pop(session.cancel_key, None)
        self._one_closed.set()

    def cancel(self, key: bytes) -> None:
        """Pass a cancel request on to the session it is for; a wrong key does nothing."""
        session = self._sessions.get(key)
        if session is not None:
            session.cancel_asked()

    def in_background(self, job: Callable[[], Awaitable[None]]) -> None:
        """Do something that may outlive its session."""
        if self._nursery is not None:
            self._nursery.start_soon(job)

    def client_tls(self, protocol: str) -> ssl.SSLContext:
        """TLS towards clients; made once a protocol, and kept current by renewal."""
        if protocol not in self._client_tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.options |= ssl.OP_NO_RENEGOTIATION
            listen = self._config.listen[protocol]
            if listen.certificate is not None:
                context.load_cert_chain(listen.certificate, listen.key)
            else:
                self._identity.load_into(context)
            self._client_tls[protocol] = context
        return self._client_tls[protocol]

    def target_tls(self, target: Target) -> ssl.SSLContext:
        """TLS towards a target, as strict as the target says."""
        key = (target.tls, target.ca)
        if key not in self._target_tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.check_hostname = target.tls == "verify-full"
            if target.tls == "require":
                context.verify_mode = ssl.CERT_NONE
            elif target.ca:
                context.load_verify_locations(cadata=target.ca)
            else:
                context.load_default_certs(ssl.Purpose.SERVER_AUTH)
            self._target_tls[key] = context
        return self._target_tls[key]

    # The control plane

    def _current_policies(self) -> PolicySet:
        if self._policies is None:
            raise RuntimeError("no session is opened without a policy")
        return self._policies

    async def _join(self) -> None:
        """Become a relay: with the credential of before, or with a join token, once."""
        pause = RETRY_SECONDS[0]
        while True:
            try:
                await self._enrol()
                return
            except Unavailable as unavailable:
                if self._identity.complete:
                    log.warning("starting without the control plane", reason=str(unavailable))
                    self._control_plane.authorize(self._identity.credential)
                    return
                log.warning("waiting for the control plane", reason=str(unavailable))
            await trio.sleep(pause)
            pause = min(pause * 2, RETRY_SECONDS[1])

    async def _enrol(self) -> None:
        join_token = ""
        if not self._identity.complete:
            path = self._config.control_plane.join_token_file
            if path is None:
                raise Refused("no_join_token", "this relay hasn't joined and has no join token")
            join_token = path.read_text(encoding="ascii").strip()
        enrolment = await self._control_plane.enrol(
            join_token=join_token,
            credential=self._identity.credential,
            hosts=self._config.hosts,
            version=VERSION,
        )
        self._identity.keep(enrolment)
        for protocol, context in self._client_tls.items():
            if self._config.listen[protocol].certificate is None:
                self._identity.load_into(context)
        log.info("enrolled", relay=enrolment.relay)

    async def _renew(self) -> None:
        """Renew the certificate in time; after a start without the control plane, soon."""
        while True:
            left = self._identity.expires_at - RENEW_BEFORE_SECONDS - time.time()
            await trio.sleep(max(60.0, min(left, 24 * 3600.0)))
            if self._identity.expires_at - time.time() < RENEW_BEFORE_SECONDS:
                try:
                    await self._enrol()
                except Unavailable as unavailable:
                    log.warning("certificate not renewed", reason=str(unavailable))

    async def _watch(self) -> None:
        """Follow the policy stream; while it is broken, the last policy stands."""
        pause = RETRY_SECONDS[0]
        while True:
            try:
                async with self._control_plane.watch(
                    boot_id=self._boot_id,
                    version=VERSION,
                    protocols=sorted(self._config.listen),
                    sessions=[s.recorder.session for s in self._sessions.values() if s.recorder],
                ) as updates:
                    async for update in updates:
                        pause = RETRY_SECONDS[0]
                        self._take(update)
            except Unavailable as unavailable:
                log.warning("control plane away", reason=str(unavailable))
            await trio.sleep(pause)
            pause = min(pause * 2, RETRY_SECONDS[1])

    def _take(self, update: Update) -> None:
        if update.masking_key is not None:
            self._masking_key = update.masking_key
        if update.policies is not None:
            self._policies = update.policies
            if not self._ready.is_set():
                self._ready.set()
                log.info("relay ready", policy_version=update.policies.version)
            self._end_outdated(update.policies)
        for end in update.ended:
            for session in list(self._sessions.values()):
                if session.recorder and session.recorder.session == end.session:
                    session.end(end.code, end.reason)
        question = update.question
        if question is not None and question.protocol in self._protocols:
            operation = self._protocols[question.protocol].classify(question.text)

            async def answer() -> None:
                try:
                    await self._control_plane.answer(question, operation)
                except (Refused, Unavailable) as error:
                    log.warning("question not answered", reason=str(error))

            self.in_background(answer)

    def _end_outdated(self, policies: PolicySet) -> None:
        """End sessions whose masking changed: their answers would be masked by the old rules."""
        at = int(time.time())
        for session in list(self._sessions.values()):
            opened = session.opened
            if opened is None:
                continue
            if masking_for(policies, opened.principal, opened.target, at) != opened.masking:
                session.end("masking_changed", "masking for this target changed; connect again")


class _Identity:
    """What makes this process the relay it is, kept in the state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "relay.json"
        self.credential = ""
        self.expires_at = 0
        self._certificate = ""
        self._private_key = ""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._path.exists():
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            self.credential = kept["credential"]
            self.expires_at = kept["certificate_expires_at"]
            self._certificate = kept["certificate"]
            self._private_key = kept["private_key"]

    @property
    def complete(self) -> bool:
        """Whether this relay has joined before."""
        return bool(self.credential)

    def keep(self, enrolment: Enrolment) -> None:
        """Write it down, whole or not at all, readable by us alone."""
        self.credential = enrolment.credential or self.credential
        self.expires_at = enrolment.certificate_expires_at
        self._certificate = enrolment.certificate
        self._private_key = enrolment.private_key
        content = {
            "relay": enrolment.relay,
            "credential": self.credential,
            "certificate": self._certificate,
            "private_key": self._private_key,
            "certificate_expires_at": self.expires_at,
        }
        descriptor, temporary = tempfile.mkstemp(dir=self._directory)  # mode 0600
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(self._path)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Give a TLS context our certificate; the ssl module reads it from a file only."""
        with tempfile.NamedTemporaryFile("w", dir=self._directory, encoding="ascii") as file:
            file.write(self._private_key + "\n" + self._certificate)
            file.flush()
            context.load_cert_chain(file.name)


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _listening(protocol: str, port: int) -> None:
    log.info("listening", protocol=protocol, port=port)


async def start(config: Config, protocols: Mapping[str, ProtocolSpec], stop: trio.Event) -> None:
    """Run a relay by its configuration until ``stop``."""
    unknown = set(config.listen) - set(protocols)
    if unknown:
        raise Refused("unknown_protocol", f"listen.{min(unknown)}: no such protocol")
    bridge = Bridge(config.control_plane.address, config.control_plane.ca.read_bytes())
    try:
        spool = Spool(
            config.spool_dir,
            config.spool.max_bytes,
            to_disk=config.spool.durability == "disk",
        )
        await Relay(config, protocols, ControlPlane(bridge), spool).run(stop=stop)
    finally:
        bridge.close()
