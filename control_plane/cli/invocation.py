"""What every command has in common: where the control plane is, who asks, how to print.

:func:`command` gives a function the shared options, which may stand before or behind the
command's name, and ends it as :mod:`control_plane.cli.errors` says. Only here the environment
is read.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer

from control_plane.cli.api import Api, trust
from control_plane.cli.errors import CommandError, Usage
from control_plane.cli.output import Output, Printer, complain
from control_plane.cli.tokens import client_credentials, fetch

Parameters = ParamSpec("Parameters")

DEFAULT_API = "https://127.0.0.1:8443"
# RFC 6750 section 2.1. An HTTP library's complaint about another value would quote it.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


@dataclass(frozen=True, slots=True)
class Options:
    """The shared options; None: not given here."""

    api: str | None = None
    ca: Path | None = None
    token: str | None = field(default=None, repr=False)
    output: Output | None = None

    def over(self, before: Options) -> Options:
        """These, and what was given before where these say nothing."""
        given = {
            name: value
            for name in ("api", "ca", "token", "output")
            if (value := getattr(self, name)) is not None
        }
        return replace(before, **given)


class Invocation:
    """One run of a command."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.printer = Printer(options.output or Output.TABLE)

    @contextmanager
    def api(self) -> Iterator[Api]:
        """The control plane; nothing is sent before its first use."""
        with Api(self._options.api or DEFAULT_API, trust(self._options.ca), self._token) as api:
            yield api

    def _token(self) -> str:
        token = (self._options.token or "").strip()
        if not token:
            credentials = client_credentials(os.environ)
            if credentials is None:
                raise Usage(
                    "no access token: set JITGATE_TOKEN, or JITGATE_TOKEN_URL, "
                    "JITGATE_CLIENT_ID, JITGATE_CLIENT_SECRET and JITGATE_SCOPE"
                )
            # The token endpoint is often Entra's, while --ca is the gateway's own authority.
            token = fetch(credentials, trust(self._options.ca, system=True))
        if not _TOKEN.fullmatch(token):
            raise Usage("the access token holds what no token holds, a space for example")
        return token


_PANEL = "Connection and output"
_OPTIONS: tuple[tuple[str, Any, Any], ...] = (
    (
        "api",
        str | None,
        typer.Option(
            "--api",
            metavar="URL",
            help=f"The control plane; by default {DEFAULT_API}. Environment: JITGATE_API.",
            rich_help_panel=_PANEL,
        ),
    ),
    (
        "ca",
        Path | None,
        typer.Option(
            "--ca",
            metavar="FILE",
            help="The authorities to believe (PEM); by default the system's. "
            "Environment: JITGATE_CA.",
            rich_help_panel=_PANEL,
        ),
    ),
    (
        "token",
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            help="An Entra access token. Other people on this machine may see options: prefer "
            "the environment's JITGATE_TOKEN.",
            rich_help_panel=_PANEL,
        ),
    ),
    (
        "output",
        Output | None,
        typer.Option(
            "--output", "-o", help="How to print; by default table.", rich_help_panel=_PANEL
        ),
    ),
)


def command(
    function: Callable[Concatenate[Invocation, Parameters], None],
) -> Callable[..., None]:
    """A function of an :class:`Invocation` and its own options as a command's callback."""
    hints = get_type_hints(function, include_extras=True)
    _, *own = inspect.signature(function).parameters.values()

    @functools.wraps(function)
    def run(ctx: typer.Context, **given: Any) -> None:
        options = _taken(given).over(inherited(ctx))
        with errors():
            # The same parameters as in the signature that was made from the function's own.
            function(Invocation(options), **given)  # type: ignore[call-arg]

    parameters = [_context()]
    parameters += [one.replace(annotation=hints[one.name], kind=one.KEYWORD_ONLY) for one in own]
    parameters += _shared()
    _describe(run, parameters)
    return run


def group(
    alone: Callable[..., None] | None = None, *more: inspect.Parameter
) -> Callable[..., None]:
    """A group's callback: keeps what stands before a command's name for the command.

    ``alone`` is the command that the group's bare name stands for. ``more`` are further
    options, which do their work in a callback of their own.
    """

    def run(ctx: typer.Context, **given: Any) -> None:
        if alone is not None and ctx.invoked_subcommand is None:
            alone(ctx, **given)
            return
        options = _taken(given)
        ctx.obj = options.over(inherited(ctx))

    parameters = [_context(), *more, *_shared()]
    if alone is not None:
        parameters = list(inspect.signature(alone).parameters.values())
        run.__doc__ = alone.__doc__
    _describe(run, parameters)
    return run


def inherited(ctx: typer.Context) -> Options:
    """What was given before this command's name, or in the environment."""
    known = ctx.find_object(Options)
    if known is not None:
        return known
    ca = os.environ.get("JITGATE_CA")
    return Options(
        os.environ.get("JITGATE_API") or None,
        Path(ca) if ca else None,
        os.environ.get("JITGATE_TOKEN") or None,
    )


@contextmanager
def errors() -> Iterator[None]:
    """Ends the program as a :class:`CommandError` says."""
    try:
        yield
    except CommandError as error:
        first, *more = error.lines
        complain(error.prefix + first, *more)
        raise typer.Exit(error.exit_code) from None


def _taken(given: dict[str, Any]) -> Options:
    """The shared options, taken out of what was given."""
    return Options(*(given.pop(name) for name, _, _ in _OPTIONS))


def _shared() -> list[inspect.Parameter]:
    return [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
        )
        for name, kind, option in _OPTIONS
    ]


def _context() -> inspect.Parameter:
    return inspect.Parameter(
        "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )


def _describe(function: Any, parameters: list[inspect.Parameter]) -> None:
    """Let ``function`` be seen with these parameters, which is what typer makes options of."""
    function.__signature__ = inspect.Signature(parameters)
    function.__annotations__ = {one.name: one.annotation for one in parameters}
