"""Databases, an application and a client of it, for all tests of the control plane."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
import structlog
from fastapi import FastAPI
from sqlalchemy.engine import make_url

from control_plane import models
from control_plane.app import create_app
from control_plane.database import Database
from control_plane.settings import Settings
from tests.control_plane.serving import Served
from tests.control_plane.tokens import verifier
from tests.servers import PostgresServer, free_port

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL server that databases can be made on."""

    url: str

    def execute(self, statement: str) -> None:
        """Run a statement in the server's own database."""
        dsn = self.url.replace("postgresql+psycopg://", "postgresql://", 1)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(statement.encode())

    def create(self, template: str = "") -> str:
        """Make a database, empty or a copy of another; give back its SQLAlchemy URL."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self.execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        """Remove a database with whoever is still connected."""
        self.execute(f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)')


@pytest.fixture(scope="session", autouse=True)
def quiet() -> None:
    """Log nowhere: a served application's threads may outlive a test's captured output."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL: the one in JITGATE_TEST_DATABASE_URL, or one started here."""
    given = os.environ.get("JITGATE_TEST_DATABASE_URL", "")
    if given:
        yield Postgres(given)
        return
    try:
        server = PostgresServer()
    except FileNotFoundError as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    with server:
        yield Postgres(server.sqlalchemy_url())


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> Iterator[str]:
    """A database with the schema and nothing in it, to be copied."""
    url = postgres.create()
    made = Database(url)
    models.metadata.create_all(made.engine)
    made.close()
    yield make_url(url).database or ""
    postgres.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database's URL, on each kind of server in turn."""
    if request.param == "sqlite":
        yield f"sqlite+pysqlite:///{tmp_path / 'empty.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with the schema, on each kind of server in turn."""
    if request.param == "sqlite":
        url = f"sqlite+pysqlite:///{tmp_path / 'jitgate.db'}"
        made = Database(url)
        models.metadata.create_all(made.engine)
        made.close()
        yield url
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create(request.getfixturevalue("postgres_template"))
    yield url
    server.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with the schema, on each kind of server in turn."""
    made = Database(database_url)
    yield made
    made.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings for an application on SQLite, in a directory of its own."""
    return Settings(data_dir=tmp_path / "data", api_port=free_port(), grpc_port=free_port())


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    """The application; it accepts the tokens of :mod:`tests.control_plane.tokens`."""
    return create_app(settings, verifier=verifier())


@pytest.fixture
def served(app: FastAPI, settings: Settings) -> Iterator[Served]:
    """The application, running."""
    with Served(app, settings) as running:
        yield running


@pytest.fixture
def client(served: Served) -> httpx.Client:
    """A client of the running application."""
    return served.client
