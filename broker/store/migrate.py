"""The shape of the database: made, brought up to date, or refused.

Alembic keeps the steps (`migrations/versions`). It is imported only where a step is to be taken: it costs more
than all the rest of opening a store. A database without any table is made whole at once; a test holds that this
and the steps lead to the same shape.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from broker.store.base import WrongSchema
from broker.store.connect import Database, translated
from broker.store.schema import metadata

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

HEAD = "0002"
"""The newest step; this code works with that shape and no other."""


def make_ready(database: Database) -> None:
    """Bring the database to HEAD, whatever state it is in; raises WrongSchema where that cannot be."""
    try:
        if current(database.engine) == HEAD:
            return
        with database.engine.begin() as connection:
            _make_ready(connection)
    except database.driver_errors as error:
        raise translated(getattr(error, "orig", None) or error, database.url) from error


def current(engine: Engine) -> str | None:
    """The step that the database is at, or None before the first."""
    with engine.connect() as connection:
        return _current(connection)


def head() -> str:
    """The newest step that is on disk."""
    return str(_scripts().get_current_head())


def upgrade(engine: Engine, *, to: str = "head") -> None:
    """Take all steps that are missing, in one transaction: interrupted, none of them was taken.

    `to` stops at an older step, for a copy of an older database. Raises WrongSchema for one that nobody knows.
    """
    with engine.begin() as connection:
        _upgrade(connection, to=to)


def _make_ready(connection: Connection) -> None:
    """Under the write lock: another process may have been first."""
    found = _current(connection)
    if found == HEAD:
        return
    tables = inspect(connection).get_table_names()
    if not tables:
        metadata.create_all(connection, checkfirst=False)
        _stamp(connection)
    elif found is None:
        raise WrongSchema("the database holds tables, but none of ours; name a database that is empty or crossfade's")
    else:
        _upgrade(connection)


def _upgrade(connection: Connection, *, to: str = "head") -> None:
    from alembic import command  # noqa: PLC0415  (slow; see above)

    found = to if to != "head" else _current(connection)
    known = {script.revision for script in _scripts().walk_revisions()}
    if found is not None and found not in known:
        raise WrongSchema(
            f"the database has shape {found}, which a newer crossfade made; this one knows {HEAD}. "
            "Install that newer version, or use another database"
        )
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _current(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if found is None else str(found)


def _stamp(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415  (slow; see above)

    config = Config()
    folder = str(Path(__file__).with_name("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))  # it reads % as a reference
    return config


def _scripts() -> ScriptDirectory:
    from alembic.script import ScriptDirectory  # noqa: PLC0415  (slow; see above)

    return ScriptDirectory.from_config(_config())
