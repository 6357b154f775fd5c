"""The tree of commands: which name leads to which function, and nothing more."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable
from typing import Annotated

import typer

from control_plane.cli import (
    administration,
    approvals,
    documents,
    explaining,
    sessions,
)
from control_plane.cli.invocation import group

_SETTINGS = {"help_option_names": ["-h", "--help"]}


def _version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        version = importlib.metadata.version("jitgate")
    except importlib.metadata.PackageNotFoundError:
        version = "(not installed)"
    typer.echo(f"jitgate {version}")
    raise typer.Exit


_VERSION = inspect.Parameter(
    "version",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_version),
    ],
)


def _group(help: str, alone: Callable[..., None] | None = None) -> typer.Typer:
    """A group of commands; ``alone`` is what its bare name does."""
    made = typer.Typer(help=help, no_args_is_help=alone is None, context_settings=_SETTINGS)
    made.callback(invoke_without_command=alone is not None, help=help)(group(alone))
    return made


def build() -> typer.Typer:
    """The whole command."""
    app = typer.Typer(
        name="jitgate",
        help="Just-in-time access for agents: documents, approvals, sessions and recordings.",
        epilog="Exit codes: 0 done; 1 refused, invalid or not verified; 2 wrong usage; "
        "3 the control plane can't be reached.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        # A traceback shows values, and a value can be a token.
        pretty_exceptions_enable=False,
        context_settings=_SETTINGS,
    )
    app.callback()(group(None, _VERSION))
    for name, function in (
        ("apply", documents.apply),
        ("diff", documents.diff),
        ("get", documents.get),
        ("history", documents.history),
        ("rollback", documents.rollback),
        ("delete", documents.delete),
        ("explain", explaining.explain),
    ):
        app.command(name, rich_help_panel="Documents")(function)

    asked = _group("What waits for a human; alone, it lists.", approvals.list_approvals)
    asked.command("list")(approvals.list_approvals)
    asked.command("show")(approvals.show)
    app.add_typer(asked, name="approvals", rich_help_panel="Approvals")
    app.command("approve", rich_help_panel="Approvals")(approvals.approve)
    app.command("deny", rich_help_panel="Approvals")(approvals.deny)

    seen = _group("Sessions of agents; alone, it lists.", sessions.list_sessions)
    seen.command("list")(sessions.list_sessions)
    seen.command("show")(sessions.show)
    seen.command("end")(sessions.end)
    seen.command("download")(sessions.download)
    app.add_typer(seen, name="sessions", rich_help_panel="Sessions and recordings")
    app.command("replay", rich_help_panel="Sessions and recordings")(sessions.replay)
    app.command("verify", rich_help_panel="Sessions and recordings")(sessions.verify)

    credential = _group("What the gateway shows targets; never read back.")
    credential.command("set")(administration.set_credential)
    credential.command("list")(administration.list_credentials)
    credential.command("delete")(administration.delete_credential)
    app.add_typer(credential, name="credential", rich_help_panel="Administration")
    relay = _group("Relays, beyond their documents; alone, it lists.", administration.list_relays)
    relay.command("list")(administration.list_relays)
    relay.command("join-token")(administration.join_token)
    relay.command("revoke")(administration.revoke)
    app.add_typer(relay, name="relay", rich_help_panel="Administration")
    audit = _group("Administrative acts; alone, it lists.", administration.list_audit)
    audit.command("list")(administration.list_audit)
    audit.command("verify")(administration.verify_audit)
    app.add_typer(audit, name="audit", rich_help_panel="Administration")
    app.command("whoami", rich_help_panel="Administration")(administration.whoami)
    return app


app = build()
