"""What is logged, and what never is."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import redirect_stderr

import pytest
import structlog

from control_plane import logs


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    before = structlog.get_config()
    written = io.StringIO()
    with redirect_stderr(written):
        logs.configure()
        yield written
    root.handlers[:], root.level = handlers, level
    structlog.configure(**before)


def test_a_line_is_one_json_object_without_secrets(lines: io.StringIO) -> None:
    structlog.get_logger().info(
        "took eyJhbGciOiJSUzI1NiJ9.e30.c2ln", join_token="jgj_x", Password="p", path="/x", n=1
    )
    line = json.loads(lines.getvalue())
    assert line["event"] == "took (redacted)"
    assert (line["join_token"], line["Password"]) == ("(redacted)", "(redacted)")
    assert (line["path"], line["n"], line["level"]) == ("/x", 1, "info")
    assert line["timestamp"].endswith("Z")


def test_libraries_log_the_same_way_and_only_warnings(lines: io.StringIO) -> None:
    logging.getLogger("httpx").info("GET https://x")
    logging.getLogger("other").warning("Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln refused")
    line = json.loads(lines.getvalue())
    assert line["event"] == "Bearer (redacted) refused"
    assert line["level"] == "warning"
