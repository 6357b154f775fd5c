"""What commands print: tables for people, JSON and YAML for programs.

Whatever an agent, a target or a document can choose may hold control characters; on its way
to a terminal everything passes :func:`printable`. JSON and YAML escape by themselves.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

import yaml
from rich.box import Box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

# C0 and C1 controls but tab and newline; marks and overrides of text direction, which can
# make a statement look like another (Unicode Technical Report 36, section 3.2); line and
# paragraph separators; surrogates, which no terminal can be sent.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)

# As psql draws it.
_RULED = Box(
    "    \n"
    "  | \n"
    " -+ \n"
    "  | \n"
    "    \n"
    "    \n"
    "  | \n"
    "    \n",
    ascii=True,
)  # fmt: skip

_PIPED_WIDTH = 100_000


class Output(StrEnum):
    """The forms of output."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def printable(text: str, *, one_line: bool = False) -> str:
    """``text`` without anything that a terminal would act on; what was there is escaped."""
    shown = _UNPRINTABLE.sub(lambda found: _escape(found[0]), text)
    if one_line:
        shown = " ".join(shown.split())
    return shown


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class Printer:
    """Writes to standard output, in colour only where that is a terminal."""

    def __init__(self, output: Output) -> None:
        self.output = output
        interactive = sys.stdout.isatty()
        # rich knows NO_COLOR, TERM and the like. Piped output isn't folded to a width.
        self._console = Console(
            file=sys.stdout,
            markup=False,
            emoji=False,
            highlight=False,
            soft_wrap=True,
            width=None if interactive else _PIPED_WIDTH,
        )

    @property
    def interactive(self) -> bool:
        """Whether somebody looks on."""
        return self._console.is_terminal

    def show(self, value: Any, people: Callable[[], None]) -> None:
        """Print ``value`` for programs, or let ``people`` print it for people."""
        match self.output:
            case Output.TABLE:
                people()
            case Output.JSON:
                self._raw(json.dumps(value, indent=2, ensure_ascii=not self._utf8) + "\n")
            case Output.YAML:
                self._raw(yaml.safe_dump(value, sort_keys=False, allow_unicode=self._utf8))

    def line(self, *parts: str | tuple[str, str]) -> None:
        """One line of parts, each a text or a text with its style."""
        text = Text.assemble(
            *(
                printable(part) if isinstance(part, str) else (printable(part[0]), part[1])
                for part in parts
            )
        )
        self._raw(self._drawn(text))

    def text(self, text: str) -> None:
        """Text of several lines, harmless but otherwise as it is."""
        self._raw(printable(text) + ("" if text.endswith("\n") else "\n"))

    def fields(self, fields: Iterable[tuple[str, str]]) -> None:
        """Names and values, one a line; those without a value are left out."""
        shown = [(name, value) for name, value in fields if value]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            first, *more = printable(value).split("\n")
            self.line((f"{name:{width}}  ", "bold"), first)
            for line in more:
                self.line(" " * (width + 2), line)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str | None]],
        *,
        ruled: bool = False,
        indent: int = 0,
    ) -> None:
        """A table; ``ruled`` as psql draws results. ``None`` is NULL."""
        table = Table(
            box=_RULED if ruled else None,
            pad_edge=ruled,
            header_style="bold",
            show_edge=False,
        )
        for column in columns:
            name = printable(column, one_line=True)
            # An empty heading would be taken away together with its column's width.
            table.add_column(Text(name or " "), overflow="fold")
        for row in rows:
            table.add_row(
                *(Text("NULL", style="dim") if cell is None else Text(_cell(cell)) for cell in row)
            )
        for line in self._drawn(table).splitlines():
            self._raw(" " * indent + line.rstrip() + "\n")

    def diff(self, text: str) -> None:
        """A unified diff."""
        for line in text.splitlines():
            style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            self.line((line, style))

    def _drawn(self, what: RenderableType) -> str:
        with self._console.capture() as captured:
            self._console.print(what)
        return captured.get()

    @property
    def _utf8(self) -> bool:
        return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"

    def _raw(self, text: str) -> None:
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding
            sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _cell(text: str) -> str:
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def complain(*lines: str) -> None:
    """Lines to standard error."""
    for line in lines:
        encoding = sys.stderr.encoding or "utf-8"
        shown = printable(line).encode(encoding, "backslashreplace").decode(encoding)
        sys.stderr.write(shown + "\n")
