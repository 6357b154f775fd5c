"""The command that says what would happen, and by which rule."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from control_plane.cli.approvals import resources
from control_plane.cli.invocation import Invocation, command
from control_plane.cli.output import Printer


@command
def explain(
    cli: Invocation,
    target: Annotated[str, typer.Option("--target", help="The target's name.")],
    statement: Annotated[str, typer.Option("--statement", help="What the agent would send.")],
    client_id: Annotated[str, typer.Option("--client-id", help="The agent's client id.")] = "",
    group: Annotated[
        list[str] | None, typer.Option("--group", help="A group of the agent. Repeatable.")
    ] = None,
    role: Annotated[
        list[str] | None, typer.Option("--role", help="An app role of the agent. Repeatable.")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="application, managed_identity, user, agent, agent_on_behalf or agent_user.",
        ),
    ] = "",
) -> None:
    """Say what would happen to an agent's statement, and by which rule. Nothing runs.

    A connected relay that serves the target reads the statement; the policies are today's.
    """
    body: dict[str, Any] = {"target": target, "statement": statement}
    body |= {"groups": group or [], "roles": role or []}
    if client_id:
        body["client_id"] = client_id
    if kind:
        body["kind"] = kind
    with cli.api() as api:
        result = api.send("POST", "/explain", body)
    cli.printer.show(result, lambda: _explained(cli.printer, result))


def _explained(printer: Printer, result: dict[str, Any]) -> None:
    operation = result.get("operation") or {}
    verdict = result.get("verdict") or {}
    outcome = str(verdict.get("outcome", "?"))
    style = {"allow": "green", "approve": "yellow", "refuse": "red"}.get(outcome, "bold")
    printer.line((outcome, f"bold {style}"), f": {verdict.get('reason') or verdict.get('code')}")
    facts = operation.get("facts") or {}
    printer.fields(
        [
            ("by rule", str(verdict.get("rule") or "")),
            ("code", str(verdict.get("code") or "")),
            ("action", str(operation.get("action") or "")),
            ("risk", str(operation.get("risk") or "").lower()),
            ("touches", resources(operation.get("resources"))),
            ("facts", ", ".join(f"{name}={value}" for name, value in facts.items())),
            ("approval", "\n".join(_terms(verdict.get("terms") or {}))),
            ("policies", ", ".join(map(str, result.get("policies") or ["none applies"]))),
            ("rules", "\n".join(_rule(one) for one in result.get("matching") or [])),
            ("masking", "\n".join(_mask(one) for one in result.get("masking") or [])),
        ]
    )


def _terms(terms: dict[str, Any]) -> list[str]:
    lines = [
        f"{one.get('count')} of {', '.join(one.get('groups') or [])} for {one.get('rule')}"
        for one in terms.get("requirements") or []
    ]
    if "hold_seconds" in terms:
        lines.append(f"held {terms['hold_seconds']} s, valid {terms.get('validity_seconds')} s")
    if terms.get("scopes"):
        lines.append("scopes " + ", ".join(map(str, terms["scopes"])))
    return lines


def _rule(one: dict[str, Any]) -> str:
    reason = f" ({one['reason']})" if one.get("reason") else ""
    return f"{one.get('policy')}/{one.get('rule')}: {one.get('outcome')}{reason}"


def _mask(one: dict[str, Any]) -> str:
    over = one.get("columns") or one.get("detect") or []
    return f"{one.get('rule')}: {one.get('transform')} {', '.join(map(str, over))}"
