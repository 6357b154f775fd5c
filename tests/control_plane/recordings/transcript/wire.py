"""PostgreSQL messages and recordings for tests, written independently of any decoder."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from typing import Any

from protos import chain
from protos.vocabulary import Entry, EntryKind

SESSION = "0b6f2f0c3d1e4c5f8a9b7c6d5e4f3a2b"
START = 1_700_000_000_000_000_000


def message(code: str, payload: bytes = b"") -> bytes:
    """A message with its length."""
    return code.encode() + struct.pack(">i", len(payload) + 4) + payload


def text(value: str) -> bytes:
    """A string as the protocol ends it."""
    return value.encode() + b"\0"


def query(statement: str) -> bytes:
    return message("Q", text(statement))


def parse(name: str, statement: str, *types: int) -> bytes:
    return message(
        "P", text(name) + text(statement) + struct.pack(f">H{len(types)}I", len(types), *types)
    )


def value(data: bytes | None) -> bytes:
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def bind(
    portal: str,
    statement: str,
    values: Iterable[bytes | None] = (),
    formats: tuple[int, ...] = (),
    results: tuple[int, ...] = (),
) -> bytes:
    given = list(values)
    return message(
        "B",
        text(portal)
        + text(statement)
        + struct.pack(f">H{len(formats)}h", len(formats), *formats)
        + struct.pack(">H", len(given))
        + b"".join(value(one) for one in given)
        + struct.pack(f">H{len(results)}h", len(results), *results),
    )


def describe(kind: str, name: str = "") -> bytes:
    return message("D", kind.encode() + text(name))


def execute(portal: str = "", limit: int = 0) -> bytes:
    return message("E", text(portal) + struct.pack(">i", limit))


SYNC = message("S")


def columns(*named: tuple[str, int, int]) -> bytes:
    """A RowDescription of (name, type oid, format)."""
    parts = [
        text(name) + struct.pack(">IhIhih", 0, 0, oid, -1, -1, form) for name, oid, form in named
    ]
    return message("T", struct.pack(">H", len(parts)) + b"".join(parts))


def row(*values: bytes | None) -> bytes:
    return message("D", struct.pack(">H", len(values)) + b"".join(value(one) for one in values))


def complete(tag: str) -> bytes:
    return message("C", text(tag))


def ready(status: str = "I") -> bytes:
    return message("Z", status.encode())


def report(code: str, **fields: str) -> bytes:
    """An ErrorResponse ("E") or NoticeResponse ("N")."""
    return message(
        code, b"".join(key.encode() + text(field) for key, field in fields.items()) + b"\0"
    )


def entries(
    *parts: tuple[EntryKind, bytes | dict[str, Any]], session: str = SESSION, step: int = 10**9
) -> list[Entry]:
    """A recording with these entries, ``step`` nanoseconds apart."""
    head = chain.genesis(session)
    made = []
    for number, (kind, payload) in enumerate(parts):
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        at = START + number * step
        before = head.sequence
        head, _, digest = chain.extend(head, bytes.fromhex(session), at, kind, raw)
        made.append(Entry(session, before, at, kind, raw, digest))
    return made


def encoded(made: Iterable[Entry]) -> bytes:
    """The bytes of a recording."""
    return b"".join(chain.frame(entry) for entry in made)


OPENED: dict[str, Any] = {
    "principal": {"tenant": "t", "object_id": "o", "client_id": "c", "kind": "agent", "name": "r2"},
    "protocol": "postgres",
    "target": "orders",
    "database": "shop",
    "client_address": "127.0.0.1:5000",
    "policy_version": "abcdef0123456789",
}


def judged(outcome: str, *, preview: bool = False, **changes: Any) -> dict[str, Any]:
    """A JUDGED entry's content."""
    return {
        "operation": {
            "protocol": "postgres",
            "action": "delete",
            "resources": [{"name": "public.orders", "written": True, "kind": "relation"}],
            "risk": "destroy",
            "text": "DELETE FROM orders",
            "facts": {"where": "absent"},
            "digest": "00",
        }
        | changes,
        "verdict": {
            "outcome": outcome,
            "code": "approval_required",
            "reason": "a human decides",
            "rule": "agents/destructive",
        },
        "preview": preview,
    }
