"""Where a demonstration keeps its files, on which ports it runs, and in which environment.

One demonstration runs in a directory at a time; a second one is told so. Nothing here starts
anything.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.processes import DemoFailed

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Ports:
    """On 127.0.0.1."""

    api: int
    grpc: int
    relay: int
    target: int


def choose_ports(environment: Mapping[str, str]) -> Ports:
    """Those that ``JITGATE_DEMO_..._PORT`` give, and free ones for the rest."""
    given: list[int] = []
    for name in ("API", "GRPC", "RELAY", "TARGET"):
        text = environment.get(f"JITGATE_DEMO_{name}_PORT", "") or "0"
        if not text.isdecimal() or int(text) > 65535:
            raise DemoFailed(f"{name}_PORT: {text} is no port")
        given.append(int(text))
    # All at once, so that none is chosen twice.
    listeners = []
    try:
        for name, port in zip(("API", "GRPC", "RELAY", "TARGET"), given, strict=True):
            try:
                listeners.append(socket.create_server(("127.0.0.1", port)))
            except OSError as error:
                raise DemoFailed(f"{name}_PORT: {port}: {error.strerror}") from None
        return Ports(*(listener.getsockname()[1] for listener in listeners))
    finally:
        for listener in listeners:
            listener.close()


def claim(directory: Path) -> int:
    """Empty the directory and keep it for us while the given descriptor stays open."""
    directory.mkdir(parents=True, exist_ok=True)
    # Others may pass through, to a server that runs as another user, but see nothing.
    directory.chmod(0o711)
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise DemoFailed(f"a demonstration already runs in {directory}") from None
    clear(directory)
    return lock


def clear(directory: Path) -> None:
    """Remove everything but the lock, and but a directory of another demonstration."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            if not (path / "lock").exists():
                shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def clean_environment() -> dict[str, str]:
    """Ours without what would set up a control plane or a PostgreSQL client otherwise."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("JITGATE_", "PG"))
    }


def write_private(path: Path, content: str) -> None:
    """A file that only we can read, whole or not at all."""
    partial = path.with_name(path.name + ".new")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content)
    partial.replace(path)
