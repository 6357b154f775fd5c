"""Commands on sessions: list, show and end them, replay and verify their recordings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from control_plane.cli.api import path
from control_plane.cli.approvals import DEFAULT_LIMIT, Limit, who
from control_plane.cli.errors import Refused, Usage
from control_plane.cli.invocation import Invocation, command
from control_plane.cli.output import Output, Printer, complain
from control_plane.cli.recordings import (
    Finding,
    Known,
    downloaded,
    examine,
    opened,
    session_id,
)
from control_plane.cli.replay import Replay, as_data
from control_plane.recordings.transcript import DEFAULT_ROWS, transcribe
from protos import chain

SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")]
MaybeSession = Annotated[
    str, typer.Argument(metavar="SESSION", help="The session's id; or --file.")
]
File = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="A copy of a recording.")]


@command
def list_sessions(
    cli: Invocation,
    state: Annotated[
        str, typer.Option("--state", help="Only these: open, closed, interrupted, ended.")
    ] = "",
    target: Annotated[str, typer.Option("--target", help="Only at this target.")] = "",
    principal: Annotated[str, typer.Option("--principal", help="Only this object id's.")] = "",
    since: Annotated[
        str, typer.Option("--since", help="Only opened then or later, RFC 3339 with a zone.")
    ] = "",
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """List sessions, newest first."""
    query = {"state": state, "target": target, "principal": principal, "since": since}
    with cli.api() as api:
        items, more = api.listed("/sessions", query, limit)
    cli.printer.show(items, lambda: _list(cli.printer, items, more))


@command
def show(cli: Invocation, session: SessionId) -> None:
    """Show one session."""
    with cli.api() as api:
        one = api.get(path("sessions", session_id(session)))
    cli.printer.show(one, lambda: _show(cli.printer, one))


@command
def end(
    cli: Invocation,
    session: SessionId,
    reason: Annotated[str, typer.Option("--reason", help="Why; the agent is told.")],
) -> None:
    """End a session now, whatever runs in it."""
    with cli.api() as api:
        one = api.send("POST", path("sessions", session_id(session), "end"), {"reason": reason})
    cli.printer.show(
        one, lambda: cli.printer.line(f"{one.get('id', session)} is {one.get('state', 'ended')}")
    )


@command
def download(
    cli: Invocation,
    session: SessionId,
    file: Annotated[Path, typer.Option("--file", metavar="FILE", help="Where to; a new file.")],
) -> None:
    """Save a session's recording, to keep it or to verify and replay it elsewhere."""
    with cli.api() as api, downloaded(api, session_id(session)) as data:
        try:
            with file.open("xb") as stream:
                stream.write(data)
        except OSError as error:
            raise Usage(f"{file}: {error.strerror or 'it cannot be written'}") from None
        size = len(data)
    cli.printer.show(
        {"file": str(file), "size": size}, lambda: cli.printer.line(f"{file}: {size} bytes")
    )


@command
def replay(
    cli: Invocation,
    session: MaybeSession = "",
    file: File = None,
    speed: Annotated[
        float, typer.Option("--speed", min=0.001, help="How much faster than it happened.")
    ] = 1.0,
    instant: Annotated[
        bool, typer.Option("--instant", help="Don't wait. The default where output is piped.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Every message, every row, nothing abridged.")
    ] = False,
) -> None:
    """Print what happened in a session: requests, judgements, decisions and answers.

    The recording's chain is checked on the way; what is behind a broken entry isn't shown.
    """
    rows = None if full else DEFAULT_ROWS
    with _recording(cli, session, file) as data:
        lines = transcribe(chain.read(data), rows=rows)
        try:
            if cli.printer.output is Output.TABLE:
                waits = cli.printer.interactive and not instant
                Replay(cli.printer, speed=speed if waits else None, full=full).play(lines)
            else:
                cli.printer.show([as_data(line) for line in lines], lambda: None)
        except chain.ChainError as error:
            raise Refused(f"entry {error.sequence}: {error.problem}") from None


@command
def verify(cli: Invocation, session: MaybeSession = "", file: File = None) -> None:
    """Check a recording: nothing in it was changed, dropped, moved or cut off.

    With SESSION, what the control plane keeps, against its head; with --file, a copy, without
    any connection; with both, the copy against the control plane's head.
    """
    known: Known | None = None
    if session:
        # Asked for first: a session that runs may be longer when its recording is read.
        with cli.api() as api:
            where = path("sessions", session_id(session), "verification")
            known = Known.of(api.get(where))
    with _recording(cli, session if file is None else "", file) as data:
        found = examine(data, session_id(session) if session else "", known)
    cli.printer.show(asdict(found), lambda: _found(cli.printer, found))
    if not found.valid:
        raise Refused(found.sentence)


@contextmanager
def _recording(cli: Invocation, session: str, file: Path | None) -> Iterator[memoryview]:
    if bool(session) == (file is not None):
        raise Usage("give the session's id, or a copy of its recording with --file")
    if file is not None:
        with opened(file) as data:
            yield data
        return
    with cli.api() as api, downloaded(api, session_id(session)) as data:
        yield data


def _found(printer: Printer, found: Finding) -> None:
    entries = f"{found.entries} entr" + ("y" if found.entries == 1 else "ies")
    if not found.valid:
        good = entries.replace(" ", " good ")
        printer.line(("invalid", "bold red"), f": {good} before the first bad one")
        return
    tail = {
        "open": "; the session is still open, its end has not arrived",
        "interrupted": "; the session was interrupted, so nothing closes it",
    }.get(found.state, "")
    printer.line(("valid", "bold green"), f": session {found.session}, {entries}{tail}")
    printer.line(f"head {found.head}")


def _list(printer: Printer, items: list[dict[str, Any]], more: bool) -> None:
    printer.table(
        ("ID", "STATE", "OPENED", "WHO", "TARGET", "RELAY", "END"),
        (
            [
                str(one.get("id", "")),
                str(one.get("state", "")),
                str(one.get("opened_at", "")),
                who(one.get("principal")),
                str(one.get("target", "")),
                str(one.get("relay", "")),
                str(one.get("end_code") or ""),
            ]
            for one in items
        ),
    )
    if more:
        complain("there are more; see --limit")


def _show(printer: Printer, one: dict[str, Any]) -> None:
    principal = one.get("principal") or {}
    named = ("target", "relay", "protocol", "client_address", "opened_at", "expires_at")
    printer.fields(
        [
            ("session", str(one.get("id", ""))),
            ("state", str(one.get("state", ""))),
            ("who", who(principal)),
            ("object id", str(principal.get("object_id", ""))),
            ("client id", str(principal.get("client_id", ""))),
            *((name.replace("_", " "), str(one.get(name) or "")) for name in named),
            ("closed at", str(one.get("closed_at") or "")),
            ("end", " ".join(str(one.get(k) or "") for k in ("end_code", "end_reason")).strip()),
            ("ended by", str(one.get("ended_by") or "")),
        ]
    )
