"""What a Target document holds."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from cryptography import x509
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from control_plane.documents.validation import Kind, Name, Reference, Strict

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII | re.IGNORECASE)


def _host(value: str) -> str:
    if len(value) <= 253 and all(_LABEL.fullmatch(label) for label in value.split(".")):
        return value
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("must be a DNS name or an address, without a port") from None
    return value


def _certificates(value: str) -> str:
    try:
        x509.load_pem_x509_certificates(value.encode())
    except ValueError:
        raise ValueError("must be certificates in PEM form") from None
    return value


Host = Annotated[str, StringConstraints(min_length=1, max_length=253), AfterValidator(_host)]
TlsMode = Literal["disable", "require", "verify-ca", "verify-full"]


class TlsSpec(Strict):
    """How the relay secures its connection to the target, in libpq's words."""

    mode: TlsMode = "verify-full"
    ca: Annotated[str, StringConstraints(max_length=200_000), AfterValidator(_certificates)] = ""

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        # An empty `ca` means the system's authorities, as if it weren't there.
        if isinstance(value, dict) and value.get("ca") == "":
            return {key: inner for key, inner in value.items() if key != "ca"}
        return value

    @model_validator(mode="after")
    def _ca_is_used(self) -> TlsSpec:
        if self.ca and self.mode not in ("verify-ca", "verify-full"):
            raise ValueError(f"with mode {self.mode} nothing is checked against ca")
        return self


class TargetSpec(Strict):
    """A place that agents reach. Its credential is set apart, and only named here."""

    protocol: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
    host: Host
    port: Annotated[int, Field(ge=1, le=65535)]
    database: Annotated[str, StringConstraints(max_length=63, pattern=r"^[^/\x00]*$")] = ""
    tls: TlsSpec = Field(default_factory=TlsSpec)
    credential: Name
    relays: Annotated[list[Name], Field(max_length=100)] = Field(default_factory=list)


def _references(spec: TargetSpec) -> tuple[Reference, ...]:
    return tuple(
        Reference("Relay", name, ("spec", "relays", index))
        for index, name in enumerate(spec.relays)
    )


TARGET = Kind("Target", "targets", TargetSpec, _references)
