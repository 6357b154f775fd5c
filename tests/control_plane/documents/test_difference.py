from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.documents import difference as module
from control_plane.documents.difference import MAX_LINES, difference

_lines = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n"]), max_size=12).map("".join)


def test_equal_texts_have_no_difference() -> None:
    assert difference("a\n", "a\n", "x", "y") == ""


def test_a_long_text_has_one_hunk_with_context() -> None:
    old = [f"line {number}\n" for number in range(MAX_LINES + 1)]
    new = [*old[:10], "new\n", *old[11:20], *old[21:]]
    lines = difference("".join(old), "".join(new), "x", "y").splitlines()
    assert lines[:3] == ["--- x", "+++ y", "@@ -8,17 +8,16 @@"]
    assert lines[3:7] == [" line 7", " line 8", " line 9", "-line 10"]
    assert lines[-1] == " line 23"


@pytest.mark.skipif(shutil.which("patch") is None, reason="there is no patch program")
@settings(max_examples=60, deadline=None)
@given(_lines, _lines, st.booleans())
def test_the_patch_program_makes_the_new_text_of_it(old: str, new: str, long: bool) -> None:
    with pytest.MonkeyPatch.context() as patching:
        if long:
            patching.setattr(module, "MAX_LINES", 0)
        diff = difference(old, new, "x", "x")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "text"
        path.write_text(old)
        subprocess.run(
            ["patch", "-s", "-f", "--no-backup-if-mismatch", str(path)],
            input=diff,
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        assert (path.read_text() if path.exists() else "") == new
