"""The shape of the database: made, brought up to date, or refused.

Alembic keeps the steps (`migrations/versions`). It is imported only where a step is to be taken: it costs more
than all the rest of opening a store. A database without any table is made whole at once; a test holds that this
and the steps lead to the same shape.

Steps expand first and contract later, so that workers of two versions serve side by side while one replaces the other.
A step says in `oldest` from which shape on code gets along with it; one that only adds says what the step before said.
The greatest of them is kept in the database, beside its shape: code that meets a shape which it does not know reads
that mark, and works if it is no older.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from broker.store.base import WrongSchema
from broker.store.connect import Database, translated
from broker.store.schema import metadata

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

HEAD = "0013"
"""The newest step, the shape that this code makes."""
OLDEST = "0001"
"""The oldest code that gets along with HEAD: the greatest `oldest` of all steps."""
_STEPS_LOCK = 0x63_66_73_74_65_70
_STEP_SECONDS = 30
"""How long a step waits for others to leave a table alone; they wait behind it meanwhile."""


def make_ready(database: Database) -> None:
    """Bring the database to HEAD, whatever state it is in; raises WrongSchema where that cannot be.

    One in memory is new each time: from the second on, a process copies the empty tables of its first one, which takes
    a tenth of the time that making them does.
    """
    if database.in_memory:
        _copy_empty(database)
        return
    _bring_up(database)


_EMPTY: list[bytes] = []
"""An empty database in memory, as SQLite writes it."""


def _copy_empty(database: Database) -> None:
    with closing(database.engine.raw_connection()) as connection:
        there: sqlite3.Connection = connection.driver_connection  # type: ignore[assignment]  # SQLAlchemy says object
        if _EMPTY:
            there.deserialize(_EMPTY[0])
            return
    _bring_up(database)
    _EMPTY.append(there.serialize())


def _bring_up(database: Database) -> None:
    try:
        with database.engine.connect() as connection:
            if _fits(*_marks(connection)):
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
    _take_turns(connection)
    found, oldest = _marks(connection)
    if _fits(found, oldest):
        return
    tables = inspect(connection).get_table_names()
    if not tables:
        metadata.create_all(connection, checkfirst=False)
        _stamp(connection)
    elif found is None:
        raise WrongSchema("the database holds tables, but none of ours; name a database that is empty or crossfade's")
    else:
        _upgrade(connection)


def _fits(found: str | None, oldest: str | None) -> bool:
    """Does this code get along with that shape as it is?"""
    return found == HEAD or (found is not None and found > HEAD and oldest is not None and oldest <= HEAD)


def _take_turns(connection: Connection) -> None:
    """SQLite's transaction holds the whole database already."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{_STEP_SECONDS}s'"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_STEPS_LOCK})"))


def _upgrade(connection: Connection, *, to: str = "head") -> None:
    from alembic import command  # noqa: PLC0415  (slow; see above)

    _take_turns(connection)
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
    _mark(connection, oldest(_current(connection) or ""))


def _current(connection: Connection) -> str | None:
    return _marks(connection)[0]


def _marks(connection: Connection) -> tuple[str | None, str | None]:
    """The shape, and the oldest code that gets along with it; None: nobody has said so."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None, None
    row = connection.execute(text("SELECT * FROM alembic_version")).mappings().first()
    return (None, None) if row is None else (str(row["version_num"]), row.get("oldest"))


_VERSION_TABLE = """CREATE TABLE alembic_version
    (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"""


def _stamp(connection: Connection) -> None:
    connection.execute(text(_VERSION_TABLE))
    connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
    _mark(connection, OLDEST)


def _mark(connection: Connection, oldest: str) -> None:
    """Beside the shape, in Alembic's own table, which it otherwise leaves alone."""
    if "oldest" not in {column["name"] for column in inspect(connection).get_columns("alembic_version")}:
        connection.execute(text("ALTER TABLE alembic_version ADD COLUMN oldest VARCHAR(32)"))
    connection.execute(text("UPDATE alembic_version SET oldest = :oldest"), {"oldest": oldest})


def oldest(upto: str) -> str:
    """The oldest code that gets along with that shape, from what the steps up to it say."""
    return max(str(step.module.oldest) for step in _scripts().walk_revisions() if step.revision <= upto)


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415  (slow; see above)

    config = Config()
    folder = str(Path(__file__).with_name("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))  # it reads % as a reference
    return config


def _scripts() -> ScriptDirectory:
    from alembic.script import ScriptDirectory  # noqa: PLC0415  (slow; see above)

    return ScriptDirectory.from_config(_config())
