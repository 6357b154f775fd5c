"""The whole test run: coverage thresholds, checked where every test was run.

``--thresholds`` (with ``--cov``) makes a part of the source that is covered too little a failure
of its own, counted in the runner's summary line.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.thresholds import Share, shares


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thresholds", action="store_true", help="check the coverage thresholds")


_SHARES = pytest.StashKey[list[Share]]()


# Outermost, so that pytest-cov has written its data when this goes on.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    result = yield
    if not session.config.getoption("thresholds") or session.config.getoption("collectonly"):
        return result
    measured = shares()
    session.config.stash[_SHARES] = measured
    for share in measured:
        if not share.met:
            session.config.hook.pytest_runtest_logreport(
                report=pytest.TestReport(
                    nodeid=f"coverage of {share.part}",
                    location=("tests/thresholds.py", 0, f"coverage of {share.part}"),
                    keywords={},
                    outcome="failed",
                    longrepr="\n".join([str(share), *share.missing]),
                    when="call",
                )
            )
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    measured = terminalreporter.config.stash.get(_SHARES, [])
    if measured:
        terminalreporter.section("coverage, lines and branches")
        for share in measured:
            terminalreporter.line(str(share))
