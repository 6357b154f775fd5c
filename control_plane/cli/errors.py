"""How a command ends when it doesn't end well: what it says and its exit code.

0 is success. The codes are part of the interface: scripts rely on them.
"""

from __future__ import annotations

from collections.abc import Sequence


class CommandError(Exception):
    """Ends the command with ``exit_code``; ``lines`` go to standard error, one a line."""

    exit_code = 1
    prefix = "error: "

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines: Sequence[str] = lines


class Refused(CommandError):
    """The control plane said no, or something that was checked isn't right."""


class Located(Refused):
    """Documents are wrong: each line is ``file:line:column: message``, as editors read it."""

    prefix = ""


class Usage(CommandError):
    """The command can't be done as it was given."""

    exit_code = 2


class Unreachable(CommandError):
    """There was no answer from a control plane."""

    exit_code = 3
