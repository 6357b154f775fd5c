"""Every command explains itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from control_plane.cli.app import app
from tests.control_plane.cli.command import ROOT, jitgate

COMMAND: Any = typer.main.get_command(app)


def commands(command: Any = COMMAND, *names: str) -> Iterator[tuple[str, ...]]:
    yield names
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *names, name)


@pytest.mark.parametrize("names", list(commands()), ids=" ".join)
def test_every_command_has_help_with_the_shared_options(names: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        done = jitgate(*names, flag)
        assert done.code == 0
        for option in ("--api", "--ca", "--token", "--output"):
            assert option in done.out


@pytest.mark.parametrize("names", list(commands()), ids=" ".join)
def test_every_command_is_in_the_reference(names: tuple[str, ...]) -> None:
    reference = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert " ".join(["`jitgate", *names]) in reference
    inner = COMMAND
    for name in names:
        inner = inner.commands[name]
    for parameter in inner.params:
        for option in parameter.opts:
            if option.startswith("--") and "completion" not in option:
                assert option in reference, (names, option)


def test_wrong_usage_is_exit_code_2() -> None:
    for arguments in (["nonsense"], ["deny", "apr_1"], ["get"], ["-o", "xml", "audit"], ["apply"]):
        assert jitgate(*arguments).code == 2, arguments


def test_the_version_is_told() -> None:
    done = jitgate("--version")
    assert done.code == 0
    assert done.out.startswith("jitgate ")


def test_an_unknown_kind_of_document_is_wrong_usage() -> None:
    done = jitgate("get", "gadgets")
    assert done.code == 2
    assert "the kinds are target, policy, masking, relay" in done.err
