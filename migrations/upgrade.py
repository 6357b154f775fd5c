"""Bringing a database to the newest schema, from inside the program.

Safe when several control planes start at once: one upgrades, the others wait and find nothing
left to do.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine

# Any number that nothing else locks.
_ADVISORY_LOCK = 0x6A69746761746530


def config(connection: Connection) -> Config:
    """Alembic's configuration for one open connection."""
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    configuration.attributes["connection"] = connection
    return configuration


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Upgrade to ``revision`` in one transaction: all of it, or nothing."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            # SQLite took its write lock when the transaction began.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        command.upgrade(config(connection), revision)
