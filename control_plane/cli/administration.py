"""Commands for administrators: credentials, relays, the audit trail."""

from __future__ import annotations

import getpass
import json
import sys
from typing import Annotated, Any

import typer

from control_plane.cli.api import path
from control_plane.cli.approvals import DEFAULT_LIMIT, Limit
from control_plane.cli.errors import Refused, Usage
from control_plane.cli.invocation import Invocation, command
from control_plane.cli.output import Printer, complain

Credential = Annotated[str, typer.Argument(metavar="NAME", help="The credential's name.")]
Relay = Annotated[str, typer.Argument(metavar="NAME", help="The relay's name.")]


@command
def set_credential(
    cli: Invocation,
    name: Credential,
    username: Annotated[str, typer.Option("--username", help="The target's user name.")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
) -> None:
    """Store what the gateway shows a target; it can be replaced but never read."""
    password = _password(password_stdin)
    with cli.api() as api:
        one = api.send(
            "PUT", path("credentials", name), {"username": username, "password": password}
        )
    cli.printer.show(one, lambda: cli.printer.line(f"credential {name} set for user {username}"))


@command
def list_credentials(cli: Invocation) -> None:
    """List credentials by name and user name."""
    with cli.api() as api:
        items, _ = api.listed("/credentials")
    cli.printer.show(
        items,
        lambda: _table(cli.printer, items, ("name", "username", "updated_at", "updated_by")),
    )


@command
def delete_credential(cli: Invocation, name: Credential) -> None:
    """Forget a credential; sessions that are open go on."""
    with cli.api() as api:
        result = api.send("DELETE", path("credentials", name))
    cli.printer.show(result, lambda: cli.printer.line(f"credential {name} deleted"))


@command
def join_token(
    cli: Invocation,
    name: Relay,
    expires_in: Annotated[
        int, typer.Option("--expires-in", min=1, max=86400, help="Seconds.")
    ] = 3600,
) -> None:
    """Make a token with which the relay joins once. It is printed alone and shown only now."""
    with cli.api() as api:
        made = api.send("POST", path("relays", name, "join-tokens"), {"expires_in": expires_in})

    def people() -> None:
        complain(f"works once, until {made.get('expires_at', 'it expires')}")
        cli.printer.text(str(made.get("join_token", "")))

    cli.printer.show(made, people)


@command
def list_relays(cli: Invocation) -> None:
    """List relays: whether they joined, and when they were last seen."""
    with cli.api() as api:
        names = [str(one.get("name")) for one in api.listed("/relays")[0]]
        items = [api.get(path("relays", name, "state")) for name in names]
    shown = ("name", "state", "last_seen_at", "version", "certificate_expires_at")
    cli.printer.show(items, lambda: _table(cli.printer, items, shown))


@command
def revoke(
    cli: Invocation,
    name: Relay,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded.")] = "",
) -> None:
    """Take a relay's credential away, at once; a new join token lets it back."""
    with cli.api() as api:
        result = api.send("POST", path("relays", name, "revoke"), {"reason": reason})
    cli.printer.show(result, lambda: cli.printer.line(f"relay {name} revoked"))


@command
def list_audit(
    cli: Invocation,
    actor: Annotated[str, typer.Option("--actor", help="Only acts of this one.")] = "",
    action: Annotated[str, typer.Option("--action", help="Only acts of this kind.")] = "",
    subject: Annotated[str, typer.Option("--subject", help="Only acts on this.")] = "",
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """List administrative acts, newest first."""
    query = {"actor": actor, "action": action, "subject": subject}
    with cli.api() as api:
        items, more = api.listed("/audit", query, limit)

    def people() -> None:
        shown = [{**one, "details": json.dumps(one.get("details"))} for one in items]
        _table(cli.printer, shown, ("sequence", "at", "actor", "action", "subject", "details"))
        if more:
            complain("there are more; see --limit")

    cli.printer.show(items, people)


@command
def verify_audit(cli: Invocation) -> None:
    """Check the audit trail's hash chain."""
    with cli.api() as api:
        found = api.get("/audit/verification")
    valid = bool(found.get("valid"))

    def people() -> None:
        word = ("valid", "bold green") if valid else ("invalid", "bold red")
        cli.printer.line(word, f": {found.get('entries')} entries, head {found.get('head')}")

    cli.printer.show(found, people)
    if not valid:
        raise Refused(f"entry {found.get('first_bad')}: {found.get('problem')}")


@command
def whoami(cli: Invocation) -> None:
    """Say whom the access token stands for, and in which roles."""
    with cli.api() as api:
        me = api.get("/me")
    cli.printer.show(
        me,
        lambda: cli.printer.fields(
            (
                name.replace("_", " "),
                ", ".join(map(str, value)) if isinstance(value, list) else str(value or ""),
            )
            for name, value in me.items()
        ),
    )


def _table(printer: Printer, items: list[dict[str, Any]], names: tuple[str, ...]) -> None:
    printer.table(
        [name.replace("_", " ").upper() for name in names],
        ([str(one.get(name) or "") for name in names] for one in items),
    )


def _password(from_input: bool) -> str:
    """A password that is never on the command line, where others could see it."""
    if from_input:
        given = sys.stdin.read()
        password = given[:-1] if given.endswith("\n") else given
        password = password.removesuffix("\r")
    elif sys.stdin.isatty():
        password = getpass.getpass("Password: ")
    else:
        raise Usage("give the password on standard input, with --password-stdin")
    if not password:
        raise Usage("the password is empty")
    return password
