"""A relay's configuration: one TOML file, read once at start.

Counterpart: ``docs/reference/relay-configuration.md``. What a relay may do is not here: that
comes as policy from the control plane. Unknown keys are errors, so that a misspelt limit
isn't silently the default.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any


class ConfigError(ValueError):
    """The configuration can't be used; the message names the key."""


@dataclass(frozen=True, slots=True)
class ControlPlaneConfig:
    """Where the control plane is, and how it is known. ``address`` is ``host:port``."""

    address: str
    ca: Path
    join_token_file: Path | None = None


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """One listener. Without a certificate, the control plane's authority issues one."""

    port: int
    host: str = "127.0.0.1"
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class SpoolConfig:
    """Where recordings wait until the control plane has them.

    ``max_bytes``: beyond it sessions are refused. ``durability``: ``process`` survives the
    relay's death (the kernel has the bytes before they go out), ``disk`` also the machine's,
    at the price of a disk flush an entry.
    """

    dir: Path | None = None
    max_bytes: int = 1 << 30
    durability: str = "process"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what clients can make the relay do; times in seconds, sizes in bytes."""

    connections: int = 20_000
    login_seconds: float = 30.0
    dial_seconds: float = 10.0
    stall_seconds: float = 300.0
    backlog_bytes: int = 1 << 20
    outbox_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Config:
    """A relay's whole configuration; ``hosts`` is what clients know it by, empty: as issued."""

    state_dir: Path
    control_plane: ControlPlaneConfig
    listen: Mapping[str, ListenConfig]
    hosts: tuple[str, ...] = ()
    spool: SpoolConfig = field(default_factory=SpoolConfig)
    limits: Limits = field(default_factory=Limits)

    @property
    def spool_dir(self) -> Path:
        """Where the spool is."""
        return self.spool.dir or self.state_dir / "spool"


def load(path: Path) -> Config:
    """Read a configuration; relative paths in it are relative to its directory.

    Raises :class:`ConfigError` on anything that can't be used, :class:`OSError` where the file
    can't be read.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    base = path.parent
    try:
        relay = _table(document, "relay", {"state_dir", "hosts"})
        listen = document.get("listen", {})
        unknown = set(document) - {"relay", "control_plane", "listen", "spool", "limits"}
        if unknown:
            raise ConfigError(f"unknown section {sorted(unknown)[0]}")
        if not isinstance(listen, dict) or not listen:
            raise ConfigError("listen: at least one [listen.PROTOCOL] is needed")
        spool: SpoolConfig = _section(SpoolConfig, document, "spool", base)
        if spool.durability not in ("process", "disk"):
            raise ConfigError("spool.durability: process or disk")
        hosts = relay.get("hosts", [])
        if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
            raise ConfigError("relay.hosts: a list of names and addresses")
        return Config(
            state_dir=base / _string(relay, "state_dir", "relay"),
            control_plane=_section(ControlPlaneConfig, document, "control_plane", base),
            listen={name: _section(ListenConfig, listen, name, base) for name in listen},
            hosts=tuple(hosts),
            spool=spool,
            limits=_section(Limits, document, "limits", base),
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _table(document: Mapping[str, Any], name: str, known: set[str]) -> Mapping[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{name}: a section is needed")
    unknown = set(table) - known
    if unknown:
        raise ConfigError(f"{name}.{sorted(unknown)[0]}: no such setting")
    return table


def _string(table: Mapping[str, Any], key: str, section: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{section}.{key}: text is needed")
    return value


def _section(kind: type[Any], document: Mapping[str, Any], name: str, base: Path) -> Any:
    """A section as its dataclass: every key known, every value of the field's type."""
    declared = {item.name: item for item in fields(kind)}
    table = _table(document, name, set(declared))
    values: dict[str, Any] = {}
    for key, item in declared.items():
        if key not in table:
            if item.default is MISSING and item.default_factory is MISSING:
                raise ConfigError(f"{name}.{key}: missing")
            continue
        value, wanted = table[key], str(item.type)
        if wanted.startswith("Path"):
            value = base / _string(table, key, name)
        elif wanted == "str":
            value = _string(table, key, name)
        elif isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ConfigError(f"{name}.{key}: a number of 0 or more is needed")
        elif wanted == "int" and not isinstance(value, int):
            raise ConfigError(f"{name}.{key}: a whole number is needed")
        values[key] = value
    return kind(**values)
