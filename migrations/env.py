"""Alembic's environment: run with a connection that the caller made, or with the settings'.

It knows all models through :mod:`control_plane.models`; it decides nothing about the schema.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy.engine import Connection

from control_plane import models
from control_plane.database import Database
from control_plane.settings import Settings


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=models.metadata,
        # SQLite can't alter a column in place: Alembic copies the table.
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    database = Database(Settings().sqlalchemy_url)
    try:
        with database.engine.begin() as own:
            _run(own)
    finally:
        database.close()
