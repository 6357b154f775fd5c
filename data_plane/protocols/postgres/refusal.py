"""Errors and notices the gateway itself says, in PostgreSQL's own form.

Counterparts: :mod:`.conversation` decides when, :mod:`.results` puts them in the target's
place. Fields follow section "Error and Notice Message Fields" of the PostgreSQL manual.

What a program can rely on: SQLSTATE 42501 for a refusal by policy or a human, 57014 for a
withdrawn one, 28000 at login, 57P01 where the gateway ends the session; and a last line of
DETAIL that starts with ``jitgate: `` and goes on with one JSON object. Its ``code`` is always
there; ``rule``, ``approval``, ``url``, ``deadline``, ``seconds_left`` and ``retry`` where they
mean something. ``retry`` is true where sending the same statement again can succeed.
"""

from __future__ import annotations

import json

from data_plane.conversation import Held
from data_plane.protocols.postgres.frames import frame
from protos.vocabulary import Verdict

REFUSED = "42501"
CANCELLED = "57014"
LOGIN_REFUSED = "28000"
ENDED = "57P01"
TARGET_LOST = "08006"
TARGET_UNREACHABLE = "08001"
PROTOCOL_VIOLATION = "08P01"
UNSUPPORTED = "0A000"
NO_SUCH_STATEMENT = "26000"
NO_SUCH_PORTAL = "34000"
TOO_MANY = "54000"
STATEMENT_EXISTS = "42P05"
NAME_TOO_LONG = "42622"
HELD_NOTICE = "01000"

_RETRY = frozenset({"hold_expired", "approval_pending", "hold_timed_out"})
_HINTS = {
    "no_rule_matches": "Only what a rule of your policies allows can run here.",
    "no_policy_applies": "Ask whoever administers the gateway for a policy for this target.",
    "refused_by_rule": "This will not be approved; find another way to do it.",
    "denied": "A human said no. Change the statement as the reason says before asking again.",
    "control_plane_unavailable": "Nothing was run. Send the same statement again later.",
}


def _field(kind: str, value: str) -> bytes:
    return kind.encode() + value.replace("\0", " ").encode("utf-8", "replace") + b"\0"


def _message(
    kind: bytes, severity: str, sqlstate: str, message: str, detail: str, hint: str
) -> bytes:
    body = _field("S", severity) + _field("V", severity) + _field("C", sqlstate)
    body += _field("M", message)
    if detail:
        body += _field("D", detail)
    if hint:
        body += _field("H", hint)
    return frame(kind, body + b"\0")


def _machine(code: str, **more: str | int | bool) -> str:
    facts: dict[str, str | int | bool] = {"code": code}
    facts.update({name: value for name, value in more.items() if value not in ("", False)})
    return "jitgate: " + json.dumps(facts, separators=(",", ":"))


def error(
    sqlstate: str, code: str, message: str, detail: str = "", hint: str = "", fatal: bool = False
) -> bytes:
    """ErrorResponse of the gateway's own making."""
    lines = f"{detail}\n{_machine(code)}" if detail else _machine(code)
    return _message(b"E", "FATAL" if fatal else "ERROR", sqlstate, message, lines, hint)


def fatal(sqlstate: str, code: str, message: str, detail: str = "", hint: str = "") -> bytes:
    """ErrorResponse after which the connection ends."""
    return error(sqlstate, code, message, detail, hint, fatal=True)


def denied(code: str, reason: str) -> bytes:
    """The answer to a login that the gateway refuses."""
    return fatal(
        LOGIN_REFUSED,
        code,
        "the gateway refused the login",
        f"{code}: {reason}",
        "The password must be a valid access token for this gateway, and a policy must let "
        "its bearer use this target.",
    )


def refused(verdict: Verdict) -> bytes:
    """The answer to an operation that policy or a human refuses."""
    retry = verdict.code in _RETRY
    if retry:
        hint = "Send the same statement again once it is approved; it then runs once."
    else:
        hint = _HINTS.get(verdict.code, "")
        if not hint and verdict.approval_id:
            hint = _HINTS["denied"]
    detail = f"rule {verdict.rule}: " if verdict.rule else ""
    detail += f"{verdict.reason} (code {verdict.code}"
    detail += f", approval {verdict.approval_id})" if verdict.approval_id else ")"
    machine = _machine(verdict.code, rule=verdict.rule, approval=verdict.approval_id, retry=retry)
    return _message(
        b"E",
        "ERROR",
        REFUSED,
        "the gateway refused this statement; it did not run",
        f"{detail}\n{machine}",
        hint,
    )


def cancelled() -> bytes:
    """The answer to an operation that its client cancelled while it was held."""
    return error(
        CANCELLED,
        "cancelled",
        "canceling statement due to user request",
        "The statement was waiting at the gateway and did not run.",
    )


def held(event: Held) -> bytes:
    """The notice that an operation waits for a human; repeated while it does."""
    machine = _machine(
        "held",
        approval=event.approval_id,
        url=event.url,
        deadline=event.deadline,
        seconds_left=event.seconds_left,
    )
    return _message(
        b"N",
        "NOTICE",
        HELD_NOTICE,
        f"held for approval {event.approval_id} until {event.deadline} "
        f"({event.seconds_left} s left): {event.url}",
        f"{event.reason}\n{machine}" if event.reason else machine,
        "Wait, or cancel to withdraw the request.",
    )


def ended(code: str, reason: str) -> bytes:
    """The gateway ends the session."""
    return fatal(ENDED, code, "the gateway ended this session", f"{code}: {reason}")


def violation(message: str) -> bytes:
    """The client broke the protocol."""
    return fatal(PROTOCOL_VIOLATION, "protocol_violation", message)
