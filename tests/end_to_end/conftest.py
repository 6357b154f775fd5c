"""The demo, started once for the whole run without its tour; and one of its own for outages."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.gateway import Gateway, running


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("gateway")) as started:
        yield started


@pytest.fixture(scope="module")
def outages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose parts may be killed."""
    with running(tmp_path_factory.mktemp("outages")) as started:
        yield started
