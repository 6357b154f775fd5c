"""How the demonstration speaks to the person who watches it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.demo.processes import DemoFailed


class Screen:
    """Prints steps, what was sent, what came back, and what was checked."""

    def __init__(self, file: TextIO = sys.stdout) -> None:
        if hasattr(file, "reconfigure"):
            file.reconfigure(errors="replace")
        plain = not file.isatty()
        self._console = Console(
            file=file, width=110 if plain else None, highlight=False, soft_wrap=plain
        )
        self.checked = 0

    def title(self, text: str) -> None:
        """A part of the demonstration begins."""
        self._console.print()
        self._console.rule(f"[bold]{escape(text)}", align="left")

    def say(self, text: str) -> None:
        """A sentence for the watcher."""
        self._console.print(escape(text))

    def does(self, who: str, what: str) -> None:
        """Somebody sends something."""
        self._console.print(f"[bold cyan]{escape(who)}[/] [dim]>[/] {escape(what)}")

    def got(self, text: str, style: str = "dim") -> None:
        """What came back, line by line."""
        for line in text.rstrip().splitlines():
            self._console.print(f"    [{style}]{escape(line)}[/]")

    def rows(self, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A result."""
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 4))
        for name in names:
            table.add_column(name, no_wrap=True)
        for row in rows:
            table.add_row(*(escape(str(value)) for value in row))
        self._console.print(table)

    def check(self, holds: bool, what: str, seen: object = None) -> None:
        """Something that must hold: say that it does, or end the demonstration."""
        if not holds:
            self._console.print(f"  [bold red]FAILED[/] {escape(what)}")
            raise DemoFailed(what if seen is None else f"{what}; seen: {seen!r}")
        self.checked += 1
        self._console.print(f"  [green]✓[/] {escape(what)}")

    def lines(self, *lines: str) -> None:
        """Lines to be copied as they are."""
        for line in lines:
            self._console.print(line, markup=False, soft_wrap=True)

    def error(self, text: str) -> None:
        """Why it ended badly."""
        self._console.print(f"[bold red]{escape(text)}[/]")
