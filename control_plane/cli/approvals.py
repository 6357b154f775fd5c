"""Commands on approvals: what waits for a human, and the human's answer."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import uuid4

import typer

from control_plane.cli.api import path
from control_plane.cli.invocation import Invocation, command
from control_plane.cli.output import Printer, complain

ApprovalId = Annotated[
    str, typer.Argument(metavar="ID", help="The approval's id, as the agent was told.")
]
State = Annotated[
    str,
    typer.Option(
        "--state",
        metavar="STATE",
        help="pending, approved, denied, consumed, withdrawn, expired; or all.",
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many at most.")]
DEFAULT_LIMIT = 50


@command
def list_approvals(cli: Invocation, state: State = "pending", limit: Limit = DEFAULT_LIMIT) -> None:
    """List approvals: the pending ones, most urgent first, unless asked for others."""
    query = {"state": "" if state == "all" else state}
    with cli.api() as api:
        items, more = api.listed("/approvals", query, limit)
    cli.printer.show(items, lambda: _list(cli.printer, items, more))


@command
def show(cli: Invocation, approval: ApprovalId) -> None:
    """Show who wants what where, why it is held, and who decided."""
    with cli.api() as api:
        one = api.get(path("approvals", approval))
    cli.printer.show(one, lambda: _show(cli.printer, one))


@command
def approve(
    cli: Invocation,
    approval: ApprovalId,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded.")] = "",
    scope: Annotated[
        str,
        typer.Option(
            "--scope", help="once (the default), session or window, as far as the terms allow."
        ),
    ] = "",
) -> None:
    """Approve an operation. It runs if it still waits; else when it is sent again."""
    _decide(cli, approval, "approve", reason, scope)


@command
def deny(
    cli: Invocation,
    approval: ApprovalId,
    reason: Annotated[str, typer.Option("--reason", help="Why; the agent is told.")],
) -> None:
    """Deny an operation; the agent is told the reason."""
    _decide(cli, approval, "deny", reason, "")


def _decide(cli: Invocation, approval: str, decision: str, reason: str, scope: str) -> None:
    body = {"decision": decision, "reason": reason}
    if scope:
        body["scope"] = scope
    with cli.api() as api:
        one = api.send(
            "POST",
            path("approvals", approval, "decisions"),
            body,
            headers={"Idempotency-Key": uuid4().hex},
            again=True,
        )
    cli.printer.show(one, lambda: _decided(cli.printer, approval, one))


def _decided(printer: Printer, approval: str, one: Any) -> None:
    state = str(one.get("state", "?"))
    printer.line(f"{approval} is ", (state, _style(state)))
    if state == "pending":
        for line in _progress(one):
            printer.line("  ", line)


def _list(printer: Printer, items: list[dict[str, Any]], more: bool) -> None:
    printer.table(
        ("ID", "STATE", "LEFT", "WHO", "TARGET", "WHAT"),
        (
            [
                str(one.get("id", "")),
                str(one.get("state", "")),
                _left(one),
                who(one.get("principal")),
                str(one.get("target", "")),
                _abridged(_operation(one).get("text", "")),
            ]
            for one in items
        ),
    )
    if more:
        complain("there are more; see --limit")


def _show(printer: Printer, one: dict[str, Any]) -> None:
    operation = _operation(one)
    facts = operation.get("facts") or {}
    state = str(one.get("state", "?"))
    printer.line((str(one.get("id", "")), "bold"), " is ", (state, _style(state)))
    printer.fields(
        [
            ("who", who(one.get("principal"))),
            ("target", str(one.get("target", ""))),
            ("relay", str(one.get("relay", ""))),
            ("session", str(one.get("session", ""))),
            ("action", str(operation.get("action", ""))),
            ("risk", str(operation.get("risk", "")).lower()),
            ("touches", resources(operation.get("resources"))),
            ("facts", ", ".join(f"{name}={value}" for name, value in facts.items())),
            ("statement", str(operation.get("text", ""))),
            ("held by", str(one.get("rule", ""))),
            ("because", str(one.get("reason", ""))),
            ("scopes", ", ".join(one.get("scopes") or [])),
            ("deadline", f"{one.get('deadline', '')} ({_waits(one)})"),
            ("left", _left(one)),
            ("requires", "\n".join(_progress(one))),
            ("decisions", "\n".join(_decision(part) for part in one.get("decisions") or [])),
            ("withdrawn", str(one.get("closing_reason") or "")),
        ]
    )


def _waits(one: dict[str, Any]) -> str:
    return "it waits" if one.get("held") else "it no longer waits; the agent would send it again"


def _decision(part: dict[str, Any]) -> str:
    reason = f": {part['reason']}" if part.get("reason") else ""
    return f"{part.get('at')} {part.get('name')}: {part.get('decision')}{reason}"


def _progress(one: dict[str, Any]) -> list[str]:
    lines = []
    for part in one.get("requirements") or []:
        by = part.get("approved_by") or []
        names = f": {', '.join(map(str, by))}" if by else ""
        lines.append(
            f"{part.get('rule')}: {len(by)} of {part.get('count')} out of "
            f"{', '.join(part.get('groups') or [])}{names}"
        )
    return lines


def _operation(one: dict[str, Any]) -> dict[str, Any]:
    operation = one.get("operation")
    return operation if isinstance(operation, dict) else {}


def _left(one: dict[str, Any]) -> str:
    left = one.get("seconds_left")
    if not isinstance(left, int | float) or left <= 0:
        return ""
    minutes, seconds = divmod(int(left), 60)
    return f"{minutes}m{seconds:02}s" if minutes else f"{seconds}s"


def _abridged(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= 80 else line[:77] + "..."


def _style(state: str) -> str:
    return {"approved": "green", "consumed": "green", "denied": "red", "pending": "yellow"}.get(
        state, "bold"
    )


def who(principal: object) -> str:
    """A principal in few words."""
    if not isinstance(principal, dict):
        return str(principal or "")
    name = principal.get("name") or principal.get("object_id") or "?"
    return f"{name} ({principal.get('kind', '?')})"


def resources(listed: object) -> str:
    """Resources in few words; what is written says so."""
    words = []
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, dict):
            words.append(str(one.get("name", "?")) + (" (written)" if one.get("written") else ""))
        else:
            words.append(str(one))
    return ", ".join(words)
