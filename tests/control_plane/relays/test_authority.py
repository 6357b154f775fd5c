"""The gateway's own certificate authority, and the certificates that it issues."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from control_plane.errors import Invalid
from control_plane.relays.authority import Authority, IssuedCertificate, serving
from control_plane.settings import Settings


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "data")


def shake_hands(authority: Authority, issued: IssuedCertificate, name: str, directory: Path) -> str:
    """A TLS handshake between a server with the certificate and a client that trusts us."""
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_text(issued.chain_pem)
    key.write_text(issued.key_pem)
    serving_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving_side.load_cert_chain(chain, key)
    calling_side = ssl.create_default_context(cadata=authority.ca_pem)
    calling_side.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    left, right = socket.socketpair()

    def serve() -> None:
        try:
            serving_side.wrap_socket(left, server_side=True).close()
        except (ssl.SSLError, OSError):
            left.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with calling_side.wrap_socket(right, server_hostname=name) as wrapped:
            return wrapped.version() or ""
    finally:
        right.close()
        thread.join()


@pytest.mark.parametrize("name", ["127.0.0.1", "::1", "localhost", "relay.example.com"])
def test_a_strict_client_accepts_the_certificate_for_its_hosts(
    authority: Authority, tmp_path: Path, name: str
) -> None:
    issued = authority.issue(["127.0.0.1", "::1", "localhost", "Relay.Example.com"])
    assert shake_hands(authority, issued, name, tmp_path) == "TLSv1.3"


def test_a_client_refuses_it_for_another_host(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue(["localhost"])
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(authority, issued, "relay.example.com", tmp_path)


def test_another_authoritys_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    assert other.ca_pem != authority.ca_pem
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(authority, other.issue(["localhost"]), "localhost", tmp_path)


def test_the_authority_is_made_once_and_kept_for_its_owner_only(tmp_path: Path) -> None:
    first = Authority(tmp_path / "data")
    assert Authority(tmp_path / "data").ca_pem == first.ca_pem
    assert stat.S_IMODE((tmp_path / "data" / "ca.key").stat().st_mode) == 0o600
    assert first.ca_path.read_text() == first.ca_pem
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["ca.key", "ca.pem"]


def test_many_at_once_make_one_authority(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(Authority(tmp_path / "data").ca_pem))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    Authority(tmp_path)
    (tmp_path / "ca.key").chmod(0o640)
    with pytest.raises(PermissionError):
        Authority(tmp_path)


def test_a_certificate_of_another_key_is_refused(tmp_path: Path) -> None:
    Authority(tmp_path / "one")
    Authority(tmp_path / "two")
    (tmp_path / "one" / "ca.pem").write_bytes((tmp_path / "two" / "ca.pem").read_bytes())
    with pytest.raises(ValueError, match="belong together"):
        Authority(tmp_path / "one")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (tmp_path / "ca.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (tmp_path / "ca.key").chmod(0o600)
    with pytest.raises(ValueError, match="elliptic"):
        Authority(tmp_path)


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [""],
        ["*.example.com"],
        ["a..b"],
        ["-a.example"],
        ["a-.example"],
        ["a_b"],
        ["a b"],
        ["a\nb"],
        ["a" * 64],
        [".".join(["a" * 60] * 5)],
        ["exämple.com"],
        ["127.0.0.1/8"],
        ["localhost", "https://x"],
    ],
)
def test_what_is_no_host_gets_no_certificate(authority: Authority, hosts: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        authority.issue(hosts)
    assert refused.value.code == "host_invalid"


@pytest.mark.parametrize("days", [0, -1, 398])
def test_a_lifetime_out_of_bounds_is_refused(authority: Authority, days: int) -> None:
    with pytest.raises(Invalid):
        authority.issue(["localhost"], days=days)


def test_a_certificate_serves_only_and_signs_nothing(authority: Authority) -> None:
    issued = authority.issue(["localhost"], days=7)
    leaf, ca = x509.load_pem_x509_certificates(issued.chain_pem.encode())
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.ExtendedKeyUsageOID.SERVER_AUTH]
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    leaf.verify_directly_issued_by(ca)
    assert issued.expires_at == leaf.not_valid_after_utc
    assert "PRIVATE" not in repr(issued)


def test_no_certificate_outlives_the_authority(tmp_path: Path) -> None:
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    Authority(tmp_path, clock=lambda: begin)
    late = Authority(tmp_path, clock=lambda: begin + timedelta(days=3649))
    issued = late.issue(["localhost"], days=90)
    assert issued.expires_at == begin + timedelta(days=3650)


def test_the_control_plane_serves_with_given_files_or_with_its_own(
    authority: Authority, tmp_path: Path
) -> None:
    own = serving(Settings(data_dir=tmp_path, hosts=["gateway.example"]), authority)
    leaf = x509.load_pem_x509_certificate(own.chain_pem.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gateway.example"]
    (tmp_path / "given.pem").write_text(own.chain_pem)
    (tmp_path / "given.key").write_text(own.key_pem)
    given = Settings(
        data_dir=tmp_path,
        tls_certificate=tmp_path / "given.pem",
        tls_key=tmp_path / "given.key",
    )
    assert serving(given, authority) == own
