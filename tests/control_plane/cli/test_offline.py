"""Replay and verification of a copy: without a control plane, a token or a network."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from control_plane.cli.output import Output, Printer
from control_plane.cli.replay import Replay
from control_plane.recordings.transcript import transcribe
from protos import chain
from protos.vocabulary import Entry, EntryKind
from tests.control_plane.cli.command import ROOT, jitgate, jitgate_process
from tests.control_plane.recordings.transcript import wire
from tests.control_plane.recordings.transcript.wire import SESSION, encoded, entries

MADE: list[Entry] = entries(
    (EntryKind.OPENED, wire.OPENED),
    (EntryKind.REQUEST, wire.query("SELECT email FROM customers")),
    (EntryKind.JUDGED, wire.judged("allow", action="select", risk="read")),
    (
        EntryKind.ANSWER,
        wire.columns(("email", 25, 0))
        + wire.row(b"a***@example.org")
        + wire.row(None)
        + wire.complete("SELECT 2")
        + wire.ready(),
    ),
    (EntryKind.REQUEST, wire.message("X")),
    (EntryKind.CLOSED, {"code": "client_closed", "reason": "the client hung up"}),
)
LAST = len(MADE) - 1


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of a good recording."""
    file = tmp_path / "copy.jgr"
    file.write_bytes(encoded(MADE))
    return file


def test_a_whole_recording_is_valid(copy: Path) -> None:
    done = jitgate("verify", "--file", str(copy))
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"valid: session {SESSION}, 6 entries",
        f"head {MADE[-1].hash.hex()}",
    ]


def test_the_finding_as_json(copy: Path) -> None:
    assert jitgate("verify", "--file", str(copy), "-o", "json").json == {
        "valid": True,
        "state": "closed",
        "session": SESSION,
        "entries": 6,
        "head": MADE[-1].hash.hex(),
        "first_bad": None,
        "problem": "",
    }


@pytest.mark.parametrize("number", range(len(MADE)))
def test_a_flipped_byte_in_any_entry_is_named(copy: Path, number: int) -> None:
    offset = len(encoded(MADE[:number])) + chain.HEADER.size + len(MADE[number].payload) // 2
    data = bytearray(copy.read_bytes())
    data[offset] ^= 1
    copy.write_bytes(data)
    done = jitgate("verify", "--file", str(copy))
    assert done.code == 1
    assert done.err.startswith(f"error: entry {number}: its hash is not")
    assert done.out == (
        f"invalid: {number} good entr{'y' if number == 1 else 'ies'} before the first bad one\n"
    )


@pytest.mark.parametrize("number", range(LAST))
def test_a_dropped_entry_is_named(copy: Path, number: int) -> None:
    copy.write_bytes(encoded(MADE[:number] + MADE[number + 1 :]))
    done = jitgate("verify", "--file", str(copy))
    assert done.code == 1
    assert f"entry {number}: expected here, but entry {number + 1} follows" in done.err


@pytest.mark.parametrize("number", range(LAST))
def test_a_swapped_pair_is_named(copy: Path, number: int) -> None:
    swapped = [*MADE[:number], MADE[number + 1], MADE[number], *MADE[number + 2 :]]
    copy.write_bytes(encoded(swapped))
    done = jitgate("verify", "--file", str(copy))
    assert done.code == 1
    assert f"entry {number}: expected here" in done.err


@pytest.mark.parametrize("left", range(1, len(MADE)))
def test_a_cut_tail_is_named(copy: Path, left: int) -> None:
    copy.write_bytes(encoded(MADE[:left]))
    done = jitgate("verify", "--file", str(copy))
    assert done.code == 1
    assert (
        f"entry {left} is missing: the recording doesn't end with the session's close" in done.err
    )


def test_a_cut_in_the_middle_of_an_entry_is_named(copy: Path) -> None:
    copy.write_bytes(copy.read_bytes()[:-1])
    done = jitgate("verify", "--file", str(copy))
    assert done.code == 1
    assert f"entry {LAST}: the recording ends in the middle of it" in done.err


def test_an_appended_entry_is_named(copy: Path) -> None:
    more = entries(*[(one.kind, one.payload) for one in MADE], (EntryKind.REQUEST, b"late"))
    copy.write_bytes(encoded(more))
    done = jitgate("verify", "--file", str(copy))
    assert done.code == 1
    assert "entry 6: it follows the entry that closed the session" in done.err


@pytest.mark.parametrize("content", [b"", b"\0", b"no recording at all" * 10, bytes(1000)])
def test_what_is_no_recording_is_invalid(copy: Path, content: bytes) -> None:
    copy.write_bytes(content)
    for command in ("verify", "replay"):
        done = jitgate(command, "--file", str(copy))
        assert done.code == (0 if command == "replay" and not content else 1)
        assert not done.code or done.err.startswith("error: entry ")


@pytest.mark.parametrize("command", ["verify", "replay"])
def test_a_copy_that_cannot_be_read_is_wrong_usage(command: str, tmp_path: Path) -> None:
    for file in (tmp_path / "missing", tmp_path):
        done = jitgate(command, "--file", str(file))
        assert done.code == 2
        assert str(file) in done.err


@pytest.mark.parametrize("command", ["verify", "replay"])
def test_a_session_or_a_file_must_be_given(command: str) -> None:
    done = jitgate(command)
    assert done.code == 2
    assert "give the session's id, or a copy" in done.err


def test_replay_prints_the_sequence_with_its_timing(copy: Path) -> None:
    done = jitgate("replay", "--file", str(copy))
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "     0.000     0 * opened     r2 (agent) to orders from 127.0.0.1:5000 "
        "under policy abcdef012345",
        "     1.000     1 > query      SELECT email FROM customers",
        "     2.000     2 * judged     select written public.orders [read where=absent]: "
        "allow by rule agents/destructive: a human decides (approval_required)",
        "     3.000     3 < rows       2 rows",
        "                            email",
        "                           ------------------",
        "                            a***@example.org",
        "                            NULL",
        "     3.000     3 < complete   SELECT 2",
        "     3.000     3 < ready      idle",
        "     4.000     4 > terminate",
        "     5.000     5 * closed     the client hung up (client_closed)",
    ]


def test_replay_shows_every_message_only_when_asked(copy: Path) -> None:
    assert "columns" not in jitgate("replay", "--file", str(copy)).out
    assert "< columns    email" in jitgate("replay", "--full", "--file", str(copy)).out


def test_replay_as_data(copy: Path) -> None:
    lines = jitgate("replay", "--file", str(copy), "-o", "json").json
    assert [line["kind"] for line in lines][:2] == ["opened", "query"]
    assert lines[4]["table"] == {
        "columns": ["email"],
        "rows": [["a***@example.org"], [None]],
        "omitted": 0,
    }
    assert jitgate("-o", "yaml", "replay", "--file", str(copy)).out.startswith("- at: 17000000")


def test_replay_stops_at_the_first_bad_entry(copy: Path) -> None:
    copy.write_bytes(encoded(MADE[:2] + MADE[3:]))
    done = jitgate("replay", "--file", str(copy))
    assert done.code == 1
    assert "SELECT email" in done.out
    assert "rows" not in done.out
    assert "entry 2: expected here" in done.err


def test_nothing_an_agent_sends_reaches_the_terminal_as_a_command(copy: Path) -> None:
    evil = "SELECT '\x1b]0;owned\x07\x9b31m\u202etxet\r\x00'"
    cell = b"\x1b[2J\n\xe2\x80\xae[red]x"
    made = entries(
        (EntryKind.OPENED, wire.OPENED | {"target": "\x1b[1mx"}),
        (EntryKind.REQUEST, wire.message("Q", evil.replace("\0", "").encode() + b"\0")),
        (EntryKind.ANSWER, wire.columns(("\x1b[7m[/]", 25, 0)) + wire.row(cell)),
    )
    copy.write_bytes(encoded(made))
    done = jitgate("replay", "--file", str(copy))
    assert not set("\x1b\x07\x9b\u202e\r") & set(done.out)
    assert r"\x1b]0;owned\x07\x9b31m\u202etxet" in done.out
    assert r"\x1b[2J\n\u202e[red]x" in done.out
    assert r"\x1b[7m[/]" in done.out


def test_a_long_result_is_abridged_unless_full(copy: Path) -> None:
    rows = b"".join(wire.row(b"x" * 100) for _ in range(30))
    made = entries((EntryKind.ANSWER, wire.columns(("c", 25, 0)) + rows + wire.ready()))
    copy.write_bytes(encoded(made))
    short = jitgate("replay", "--file", str(copy)).out
    assert short.count("(40 more characters)") == 20
    assert "... 10 more; see --full" in short
    assert jitgate("replay", "--full", "--file", str(copy)).out.count("x" * 100) == 30


def test_gaps_are_waited_for_at_the_speed_asked(capsys: pytest.CaptureFixture[str]) -> None:
    waited: list[float] = []
    player = Replay(Printer(Output.TABLE), speed=4.0, full=False, wait=waited.append)
    player.play(transcribe(MADE))
    assert waited == [0.25] * 5
    assert "terminate" in capsys.readouterr().out


def test_a_clock_set_back_is_no_gap(capsys: pytest.CaptureFixture[str]) -> None:
    waited: list[float] = []
    lines = list(transcribe(entries(*[(EntryKind.CLOSED, {}) for _ in range(4)])))
    order = [lines[index] for index in (0, 2, 1, 3)]
    Replay(Printer(Output.TABLE), speed=1.0, full=False, wait=waited.append).play(order)
    assert waited == [2.0, 1.0]
    assert capsys.readouterr().out.count("closed") == 4


def test_piped_output_has_no_colour_and_waits_for_nothing(copy: Path) -> None:
    done = jitgate_process("replay", "--file", str(copy))
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
    assert "SELECT email" in done.out


def test_output_in_a_smaller_character_set_is_escaped_not_lost(copy: Path) -> None:
    made = entries((EntryKind.REQUEST, wire.query("SELECT 'Zürich 東京'")))
    copy.write_bytes(encoded(made))
    done = jitgate_process("replay", "--file", str(copy), PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert r"SELECT 'Z\xfcrich \u6771\u4eac'" in done.out


def test_a_reader_that_goes_away_is_no_traceback(copy: Path) -> None:
    rows = b"".join(wire.row(b"x" * 50) for _ in range(20_000))
    copy.write_bytes(encoded(entries((EntryKind.ANSWER, rows))))
    with subprocess.Popen(
        [sys.executable, "-m", "control_plane.cli", "replay", "--full", "--file", str(copy)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(30) == 1


def on_a_terminal(copy: Path, **environment: str) -> tuple[int, str]:
    """Exit code and output of a replay whose standard output is a terminal."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "control_plane.cli",
            "replay",
            "--speed",
            "1e6",
            "--file",
            str(copy),
        ],
        stdout=theirs,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        env={**kept, "TERM": "xterm-256color", **environment},
    ) as process:
        os.close(theirs)
        output = b""
        try:
            while piece := os.read(ours, 65536):
                output += piece
        except OSError:
            pass  # Linux's way to say that nobody has the other end any more
        finally:
            os.close(ours)
        return process.wait(30), output.decode()


def test_a_terminal_gets_colours_unless_it_wants_none(copy: Path) -> None:
    colour = re.compile("\x1b\\[(?:[0-9;]*;)?3[0-9]m")
    code, plain = on_a_terminal(copy, NO_COLOR="1")
    assert code == 0
    assert "SELECT email FROM customers" in plain
    assert not colour.search(plain)
    code, coloured = on_a_terminal(copy)
    assert code == 0
    assert colour.search(coloured)
