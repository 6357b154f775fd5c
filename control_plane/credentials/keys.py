"""The master keys: what credentials are sealed under, and what other keys derive from.

A key file holds one base64 key of 32 bytes a line. The first line seals; the others only open
what was sealed before, until it was sealed anew. Nothing here knows a database.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
_NONCE_BYTES = 12  # NIST SP 800-38D section 5.2.1.1 recommends 96 bits.


class KeyUnusable(ValueError):
    """A key file can't be used, or what was sealed can't be opened; it holds no key bytes."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """An encrypted secret, and the id of the key that opens it."""

    key_id: str
    blob: bytes


@dataclass(frozen=True, slots=True)
class _Key:
    id: str
    material: bytes = field(repr=False)


class MasterKeys:
    """All keys of one file; immutable and thread-safe."""

    def __init__(self, materials: Sequence[bytes]) -> None:
        if not materials or any(len(material) != KEY_BYTES for material in materials):
            raise KeyUnusable(f"a master key is {KEY_BYTES} bytes, base64, one a line")
        self._keys = tuple(_Key(_derived(m, b"key id", 8).hex(), m) for m in materials)

    @classmethod
    def load(cls, path: Path) -> MasterKeys:
        """Read a key file, or make one where there is none; raises :class:`KeyUnusable`.

        A file that others than its owner can read is refused, because then it is no secret.
        """
        if not path.exists():
            _make(path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise KeyUnusable(f"{path} is readable by others; it must be mode 0600")
        try:
            materials = [
                base64.b64decode(line, validate=True) for line in path.read_bytes().split()
            ]
        except binascii.Error:
            raise KeyUnusable(f"{path} holds a line that isn't base64") from None
        return cls(materials)

    @property
    def current_id(self) -> str:
        """The id of the key that seals."""
        return self._keys[0].id

    def seal(self, secret: bytes, context: bytes) -> Sealed:
        """Encrypt under the first key; ``context`` must be equal to open it again."""
        key = self._keys[0]
        nonce = os.urandom(_NONCE_BYTES)
        return Sealed(key.id, nonce + AESGCM(key.material).encrypt(nonce, secret, context))

    def open(self, sealed: Sealed, context: bytes) -> bytes:
        """Decrypt; raises :class:`KeyUnusable` on another context, changed bytes, no key."""
        for key in self._keys:
            if key.id == sealed.key_id:
                nonce, text = sealed.blob[:_NONCE_BYTES], sealed.blob[_NONCE_BYTES:]
                try:
                    return AESGCM(key.material).decrypt(nonce, text, context)
                except (InvalidTag, ValueError):
                    raise KeyUnusable("what is stored isn't what was sealed") from None
        raise KeyUnusable(f"there is no master key {sealed.key_id}")

    def derive(self, purpose: bytes, size: int = KEY_BYTES) -> bytes:
        """A key for another purpose, from the oldest key that is kept.

        So pseudonyms made with it still join after a new key was put in front, for as long
        as the old one isn't dropped.
        """
        return _derived(self._keys[-1].material, purpose, size)


def _derived(material: bytes, purpose: bytes, size: int) -> bytes:
    return HKDF(SHA256(), size, salt=None, info=b"jitgate 1 " + purpose).derive(material)


def _make(path: Path) -> None:
    """Put a whole new key file in place, unless somebody else did first."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
