"""Commands on documents: apply, diff, get, history, rollback, delete."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

import typer

from control_plane.cli.api import Api, Problem, path
from control_plane.cli.errors import Located, Usage
from control_plane.cli.invocation import Invocation, command
from control_plane.cli.output import Output, Printer, complain
from control_plane.cli.sources import Sources, gather

KINDS: Mapping[str, str] = MappingProxyType(
    {"target": "targets", "policy": "policies", "masking": "maskings", "relay": "relays"}
)
"""Kinds of documents, and where they are."""

Files = Annotated[
    list[str],
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="A file of documents, a folder of them, or - for standard input. Repeatable.",
    ),
]
Kind = Annotated[
    str, typer.Argument(metavar="KIND", help="target, policy, masking or relay; or its plural.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The document's name.")]
Message = Annotated[
    str, typer.Option("--message", "-m", help="Why; it is kept in the document's history.")
]


@command
def apply(
    cli: Invocation,
    files: Files,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and show what would change; change nothing.")
    ] = False,
    message: Message = "",
) -> None:
    """Create or change targets, policies, maskings and relays: all of the documents, or none."""
    sources = gather(files)
    with cli.api() as api:
        query = {"dry_run": "true"} if dry_run else {}
        result = _sent(api, "/apply", sources, message, query)
    cli.printer.show(result, lambda: _changes(cli.printer, result, dry_run=dry_run))


@command
def diff(cli: Invocation, files: Files) -> None:
    """Show what applying the documents would change."""
    sources = gather(files)
    with cli.api() as api:
        result = _sent(api, "/diff", sources)

    def people() -> None:
        for change in result.get("changes", []):
            cli.printer.diff(change.get("diff") or "")
        complain(*_warnings(result))

    cli.printer.show(result, people)


@command
def get(
    cli: Invocation,
    kind: Kind,
    name: Annotated[str, typer.Argument(metavar="NAME", help="One document.")] = "",
) -> None:
    """List documents of a kind, or print one as it was applied."""
    place = _place(kind)
    with cli.api() as api:
        if not name:
            items, _ = api.listed(path(place))
            cli.printer.show(items, lambda: _list(cli.printer, items))
        elif cli.printer.output is Output.JSON:
            cli.printer.show(api.get(path(place, name)), lambda: None)
        else:
            cli.printer.text(api.text(path(place, name), "application/yaml"))


@command
def history(cli: Invocation, kind: Kind, name: Name) -> None:
    """List a document's revisions, newest first."""
    with cli.api() as api:
        revisions, _ = api.listed(path(_place(kind), name, "history"))
    cli.printer.show(
        revisions,
        lambda: cli.printer.table(
            ("REVISION", "AT", "ACTION", "AUTHOR", "MESSAGE"),
            (
                [str(one.get(key, "")) for key in ("revision", "at", "action", "author", "message")]
                for one in revisions
            ),
        ),
    )


@command
def rollback(
    cli: Invocation,
    kind: Kind,
    name: Name,
    revision: Annotated[int, typer.Argument(metavar="REVISION", min=1, help="See history.")],
    message: Message = "",
) -> None:
    """Make an earlier revision the current one; it becomes a new revision."""
    with cli.api() as api:
        body = {"revision": revision, "message": message}
        result = api.send("POST", path(_place(kind), name, "rollback"), body)
    cli.printer.show(result, lambda: _changes(cli.printer, result, dry_run=False))


@command
def delete(cli: Invocation, kind: Kind, name: Name, message: Message = "") -> None:
    """Delete a document; its history stays, and a rollback brings it back."""
    with cli.api() as api:
        result = api.send("DELETE", path(_place(kind), name), query={"message": message})
    cli.printer.show(result, lambda: _changed(cli.printer, result))


def _sent(
    api: Api,
    where: str,
    sources: Sources,
    message: str = "",
    query: Mapping[str, str] | None = None,
) -> Any:
    try:
        body = {"documents": sources.text, "message": message}
        return api.send("POST", where, body, query=query)
    except Problem as problem:
        located = [error for error in problem.errors if isinstance(error.get("line"), int)]
        if not located:
            raise
        raise Located(
            *(
                f"{sources.place(error['line'], error.get('column') or 1)}: "
                f"{error.get('message', '')}"
                for error in located
            )
        ) from None


def _changes(printer: Printer, result: Any, *, dry_run: bool) -> None:
    for change in result.get("changes", []):
        _changed(printer, change, dry_run=dry_run)
    complain(*_warnings(result))


def _changed(printer: Printer, change: Any, *, dry_run: bool = False) -> None:
    action = str(change.get("action", "?"))
    style = {"unchanged": "dim", "created": "green", "deleted": "red"}.get(action, "yellow")
    tail = "dry run" if dry_run else f"revision {change.get('revision')}"
    what = f"{change.get('kind')}/{change.get('name')} "
    printer.line(what, (action.replace("_", " "), style), f" ({tail})")


def _warnings(result: Any) -> list[str]:
    return [f"warning: {warning}" for warning in result.get("warnings", [])]


def _place(kind: str) -> str:
    word = kind.lower()
    if word in KINDS.values():
        return word
    if word not in KINDS:
        raise Usage(f"{kind} is no kind of document; the kinds are {', '.join(KINDS)}")
    return KINDS[word]


def _list(printer: Printer, items: list[dict[str, Any]]) -> None:
    printer.table(
        ("NAME", "REVISION", "CHANGED", "BY"),
        (
            [
                str(item.get("name", "")),
                str(item.get("revision", "")),
                str(item.get("at", "")),
                str(item.get("author", "")),
            ]
            for item in items
        ),
    )
