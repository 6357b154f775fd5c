"""What an operator sets, from environment variables named ``JITGATE_...``.

Nothing else in the control plane reads the environment. A setting that can be a secret is a
``SecretStr`` or a file, so it can't be printed by accident.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _split(value: object) -> object:
    """A comma-separated list, as people write it in an environment variable."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


class Settings(BaseSettings):
    """The control plane's settings; see ``docs/reference/settings.md`` for each."""

    model_config = SettingsConfigDict(
        env_prefix="JITGATE_", extra="ignore", hide_input_in_errors=True
    )

    data_dir: Path = Path("data")
    database_url: SecretStr = SecretStr("")
    """An SQLAlchemy URL, ``postgresql+psycopg://...``; empty: SQLite in ``data_dir``."""
    master_key_file: Path | None = None
    """32 bytes, base64: what credentials are encrypted under. Made in ``data_dir`` if unset."""

    api_host: str = "127.0.0.1"
    api_port: int = 8443
    grpc_host: str = "127.0.0.1"
    grpc_port: int = 8444
    public_url: str = ""
    """How people reach the API, without a trailing slash; empty: from host and port."""
    hosts: Annotated[list[str], NoDecode] = Field(
        default_factory=lambda: ["127.0.0.1", "localhost"]
    )
    """Names and addresses put into the server certificate that our own authority issues."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    cloud: Literal["public", "usgov", "china", "development"] = "public"
    tenants: Annotated[list[str], NoDecode] = Field(default_factory=list)
    """GUIDs of the tenants whose tokens are accepted; empty: none is."""
    audiences: Annotated[list[str], NoDecode] = Field(default_factory=list)
    """What ``aud`` must be one of: our registration's client id (version 2 tokens)."""
    token_version: Literal["1.0", "2.0"] = "2.0"  # noqa: S105  # a version, no secret
    clients: Annotated[list[str], NoDecode] = Field(default_factory=list)
    """Client ids that may present tokens; empty: any of the tenant."""
    groups_emitted: bool = True
    """Whether our registration emits ``groups``, so that their absence means none."""
    admin_role: str = "jitgate.admin"
    approver_role: str = "jitgate.approver"
    auditor_role: str = "jitgate.auditor"

    development_issuer: Path | None = None
    """A JSON file of identities: turns on the development issuer. Loopback only."""

    session_seconds: int = Field(default=8 * 3600, ge=60)
    """The longest that a session lasts, whatever its token says."""
    recordings_dir: Path | None = None

    @field_validator("hosts", "tenants", "audiences", "clients", mode="before")
    @classmethod
    def _lists(cls, value: object) -> object:
        return _split(value)

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key are set together or not at all")
        if (self.cloud == "development") != (self.development_issuer is not None):
            raise ValueError("the development cloud and the development issuer go together")
        if self.development_issuer is not None and self.api_host not in ("127.0.0.1", "::1"):
            raise ValueError("the development issuer is for a loopback address only")
        return self

    @property
    def url(self) -> str:
        """The public URL, without a trailing slash."""
        return self.public_url.rstrip("/") or f"https://{self.api_host}:{self.api_port}"

    @property
    def recordings(self) -> Path:
        """Where recordings are kept."""
        return self.recordings_dir or self.data_dir / "recordings"

    @property
    def sqlalchemy_url(self) -> str:
        """The database's URL; it can hold a password and is not for printing."""
        given = self.database_url.get_secret_value()
        return given or f"sqlite+pysqlite:///{self.data_dir / 'jitgate.db'}"
