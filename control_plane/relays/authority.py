"""The gateway's own certificate authority: what relays and the API serve TLS with.

The counterpart is whoever trusts ``ca.pem`` in the data directory: agents' clients, relays and
the command line. It issues server certificates only, and keeps no list of them: they are short
lived and a relay renews its own.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from control_plane.database import now
from control_plane.errors import Invalid
from control_plane.settings import Settings

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.ASCII | re.IGNORECASE)
_CA_YEARS = 10
# Clocks differ a little between machines.
_BACKDATED = timedelta(minutes=5)
_LONGEST_DAYS = 397


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A server certificate with its chain (leaf first, PEM) and its private key (PEM)."""

    chain_pem: str
    key_pem: str = field(repr=False)
    expires_at: datetime


class Authority:
    """An elliptic-curve (P-256) authority, made at first start and kept in ``data_dir``.

    ``ca.key`` is readable by its owner only; one that others can read is refused with
    :class:`PermissionError`, because what they could have issued can't be known any more.
    """

    def __init__(self, data_dir: Path, *, clock: Callable[[], datetime] = now) -> None:
        self._clock = clock
        self._path = data_dir / "ca.pem"
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        key_path = data_dir / "ca.key"
        if not key_path.exists():
            _write_once(key_path, _private_pem(ec.generate_private_key(ec.SECP256R1())), 0o600)
        if stat.S_IMODE(key_path.stat().st_mode) & 0o077:
            raise PermissionError(f"{key_path} is readable by others; it must be mode 0600")
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key_path} is no elliptic-curve key")
        self._key = key
        if not self._path.exists():
            _write_once(self._path, self._own_certificate(), 0o644)
        self._certificate = x509.load_pem_x509_certificate(self._path.read_bytes())
        if self._certificate.public_key() != key.public_key():
            raise ValueError(f"{self._path} and {key_path} don't belong together")

    @property
    def ca_pem(self) -> str:
        """The authority's own certificate, for whoever is to trust it."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def ca_path(self) -> Path:
        """The file that holds :attr:`ca_pem`."""
        return self._path

    def issue(self, hosts: Sequence[str], *, days: int = 90) -> IssuedCertificate:
        """A certificate and a fresh key for a server reached under these names or addresses.

        Raises :class:`Invalid` (``host_invalid``) for what is neither a host name nor an
        address; a wildcard is neither.
        """
        names = [_general_name(host) for host in hosts]
        if not names or not 0 < days <= _LONGEST_DAYS:
            raise Invalid("host_invalid", "a certificate needs a host and 1 to 397 days")
        key = ec.generate_private_key(ec.SECP256R1())
        moment = self._clock()
        # RFC 5280 section 4.1.2.5: no certificate outlives what it rests on.
        end = min(moment + timedelta(days=days), self._certificate.not_valid_after_utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jitgate")]))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(moment - _BACKDATED)
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        leaf = certificate.public_bytes(serialization.Encoding.PEM).decode()
        return IssuedCertificate(
            leaf + self.ca_pem, _private_pem(key).decode(), certificate.not_valid_after_utc
        )

    def _own_certificate(self) -> bytes:
        public = self._key.public_key()
        identifier = x509.SubjectKeyIdentifier.from_public_key(public)
        # Two gateways' authorities must not share a name: clients look an issuer up by it.
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "jitgate"),
                x509.NameAttribute(
                    NameOID.COMMON_NAME, f"jitgate authority {identifier.digest.hex()[:8]}"
                ),
            ]
        )
        moment = self._clock()
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(moment - _BACKDATED)
            .not_valid_after(moment + timedelta(days=365 * _CA_YEARS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(identifier, critical=False)
            .sign(self._key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )


def serving(settings: Settings, authority: Authority) -> IssuedCertificate:
    """What the control plane itself serves with: the configured files, or a fresh certificate.

    Raises OSError, or ValueError for a file that holds no certificate.
    """
    if settings.tls_certificate is None or settings.tls_key is None:
        return authority.issue(settings.hosts, days=_LONGEST_DAYS)
    chain, key = settings.tls_certificate.read_text(), settings.tls_key.read_text()
    expires = x509.load_pem_x509_certificate(chain.encode()).not_valid_after_utc
    return IssuedCertificate(chain, key, expires)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Invalid("host_invalid", "a host is a DNS name or an address, without a wildcard")
    return x509.DNSName(host.lower())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_once(path: Path, content: bytes, mode: int) -> None:
    """Put a whole file in place unless somebody else did first; never half a file."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
