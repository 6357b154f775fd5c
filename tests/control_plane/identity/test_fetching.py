"""Fetching a document from a server that does what it likes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from control_plane.identity import service
from control_plane.identity.clouds import development
from control_plane.identity.entra import Accepted
from control_plane.identity.fetching import MOST_BYTES, HttpsFetch
from control_plane.identity.jwks import FetchFailed
from control_plane.identity.service import accepted, entra_verifier
from control_plane.relays.authority import Authority
from control_plane.settings import Settings
from tests.control_plane.tokens import (
    AUDIENCE,
    TENANT,
    Documents,
    claims,
    public_jwk,
    sign,
)
from tests.servers import free_port


class Handler(BaseHTTPRequestHandler):
    """Answers by the path's first word."""

    asked: ClassVar[list[str]] = []
    documents: ClassVar[Documents | None] = None
    url: ClassVar[str] = ""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        match self.path:
            case "/ok":
                self.answer(200, b"{}")
            case "/missing":
                self.answer(404, b"{}")
            case "/redirect":
                self.send_response(302)
                self.send_header("Location", "/ok")
                self.send_header("Content-Length", "0")
                self.end_headers()
            case "/large":
                self.answer(200, b"x" * (MOST_BYTES + 1))
            case "/short":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"x")
                self.close_connection = True
            case _ if self.documents is not None:
                self.answer(200, self.documents(self.url + self.path))
            case _:
                self.answer(200, b"{}")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silence."""


class Quiet(ThreadingHTTPServer):
    """A server that doesn't print what a client broke off."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def server(authority: Authority, tmp_path: Path) -> Iterator[str]:
    issued = authority.issue(["127.0.0.1"])
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(issued.chain_pem)
    key.write_text(issued.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    with Quiet(("127.0.0.1", 0), Handler) as listening:
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        Handler.asked.clear()
        Handler.documents = None
        Handler.url = f"https://127.0.0.1:{listening.server_port}"
        yield Handler.url
        listening.shutdown()
        thread.join()


@pytest.fixture
def fetch(authority: Authority) -> Iterator[HttpsFetch]:
    made = HttpsFetch(ssl.create_default_context(cafile=str(authority.ca_path)), environment=False)
    yield made
    made.close()


def test_a_document_is_fetched(server: str, fetch: HttpsFetch) -> None:
    assert fetch(f"{server}/ok") == b"{}"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", "HTTP status 404"),
        ("redirect", "HTTP status 302"),
        ("large", "the document is too large"),
        ("short", "RemoteProtocolError"),
    ],
)
def test_what_is_no_plain_document_is_refused(
    server: str, fetch: HttpsFetch, path: str, reason: str
) -> None:
    with pytest.raises(FetchFailed, match=reason):
        fetch(f"{server}/{path}")
    assert Handler.asked == [f"/{path}"]


def test_a_document_that_takes_too_long_is_refused(server: str, authority: Authority) -> None:
    times = iter([0.0, 11.0])
    fetch = HttpsFetch(
        ssl.create_default_context(cafile=str(authority.ca_path)),
        environment=False,
        clock=lambda: next(times),
    )
    with pytest.raises(FetchFailed, match="too long"):
        fetch(f"{server}/ok")
    fetch.close()


def test_a_server_with_a_certificate_of_somebody_else_is_refused(
    server: str, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    fetch = HttpsFetch(ssl.create_default_context(cafile=str(other.ca_path)), environment=False)
    with pytest.raises(FetchFailed, match="ConnectError"):
        fetch(f"{server}/ok")
    fetch.close()
    assert Handler.asked == []


def test_nobody_there_is_a_failure(fetch: HttpsFetch) -> None:
    with pytest.raises(FetchFailed, match="ConnectError"):
        fetch(f"https://127.0.0.1:{free_port()}/ok")


@pytest.mark.parametrize("url", ["https://[broken/", "nonsense", "https://\0/"])
def test_an_address_that_is_none_is_a_failure(fetch: HttpsFetch, url: str) -> None:
    with pytest.raises(FetchFailed):
        fetch(url)


def test_a_verifier_from_settings_fetches_from_its_cloud_over_tls(
    server: str, authority: Authority
) -> None:
    cloud = development(server)
    Handler.documents = Documents(public_jwk(), cloud=cloud)
    what = Accepted(cloud, frozenset({TENANT}), frozenset({AUDIENCE}))
    verifier = entra_verifier(what, trusted=authority.ca_path)
    assert verifier.verify(sign(claims(cloud=cloud))).tenant == TENANT
    assert verifier.verify(sign(claims(cloud=cloud))).tenant == TENANT
    assert len(Handler.asked) == 2


def test_settings_say_what_is_accepted() -> None:
    what = accepted(
        Settings(
            tenants=[TENANT.upper()],
            audiences=["api://Gateway"],
            clients=["ABCDEF00-0000-4000-8000-000000000000"],
            token_version="1.0",
            groups_emitted=False,
        ),
        tenants=frozenset({"more"}),
        audiences=frozenset({AUDIENCE}),
    )
    assert what.tenants == {TENANT, "more"}
    assert what.audiences == {"api://Gateway", AUDIENCE}
    assert what.clients == {"abcdef00-0000-4000-8000-000000000000"}
    assert (what.version, what.groups_emitted, what.cloud.name) == ("1.0", False, "public")


def test_without_a_trusted_file_the_systems_authorities_are_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[ssl.SSLContext, bool]] = []

    def made(context: ssl.SSLContext, *, environment: bool) -> Documents:
        asked.append((context, environment))
        return Documents()

    monkeypatch.setattr(service, "HttpsFetch", made)
    assert entra_verifier(accepted(Settings(tenants=[TENANT], audiences=[AUDIENCE]))).verify(
        sign(claims())
    )
    ((context, environment),) = asked
    assert environment
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_port_that_never_answers_does_not_hold_us(fetch: HttpsFetch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        fetch._client.timeout = 0.05
        with pytest.raises(FetchFailed, match="Timeout"):
            fetch(f"https://127.0.0.1:{deaf.getsockname()[1]}/")
