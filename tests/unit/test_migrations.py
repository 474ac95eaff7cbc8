"""The steps that shape the database: they lead where the schema says, once, or not at all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from broker.clock import VirtualClock
from broker.store import migrate
from broker.store.base import WrongSchema
from broker.store.connect import Database
from broker.store.schema import metadata
from broker.store.sql import SqlStore


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'x.db'}", clock=VirtualClock())
    yield made
    made.close()


def shape(engine: Engine) -> list[list[str]]:
    """What makes each table and index, word by word; the order of a table's constraints means nothing."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alem%'"))
        return sorted(sorted(sql.replace(",", " ").replace("(", " ( ").split()) for (sql,) in rows)


def differences(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        options = {"compare_server_default": True, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def test_the_steps_lead_to_exactly_the_schema(database: Database) -> None:
    migrate.upgrade(database.engine)
    assert differences(database.engine) == []
    assert migrate.current(database.engine) == migrate.HEAD


def test_an_empty_database_made_whole_has_the_same_shape_as_one_made_by_steps(
    database: Database, tmp_path: Path
) -> None:
    migrate.make_ready(database)
    other = Database(f"sqlite:///{tmp_path / 'y.db'}", clock=VirtualClock())
    migrate.upgrade(other.engine)
    assert migrate.current(database.engine) == migrate.current(other.engine)
    assert shape(database.engine) == shape(other.engine)
    other.close()


def test_a_forgotten_step_would_be_noticed(database: Database) -> None:
    migrate.upgrade(database.engine)
    with database.engine.begin() as connection:
        connection.execute(text("DROP INDEX stage_due"))
    assert differences(database.engine)


def test_the_code_knows_the_newest_step() -> None:
    assert migrate.head() == migrate.HEAD


def test_upgrading_twice_is_upgrading_once(database: Database) -> None:
    migrate.upgrade(database.engine)
    before = shape(database.engine)
    migrate.upgrade(database.engine)
    migrate.make_ready(database)
    assert shape(database.engine) == before


def test_an_interrupted_upgrade_took_no_step_and_can_be_run_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic.operations import Operations

    made, create_table = [], Operations.create_table

    def until_the_fifth(self: Operations, name: str, *columns: object, **options: object) -> object:
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append(name)
        return create_table(self, name, *columns, **options)

    monkeypatch.setattr(Operations, "create_table", until_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        migrate.upgrade(database.engine)
    monkeypatch.undo()
    assert len(made) == 5
    assert inspect(database.engine).get_table_names() == []
    migrate.upgrade(database.engine)
    assert differences(database.engine) == []


def test_a_database_of_the_first_shape_is_carried_on_with_what_it_holds(database: Database) -> None:
    with database.engine.begin() as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            text("INSERT INTO site (site, mode, mode_by, mode_reason, detail) VALUES ('nersc', 'up', 'ann', '', '')")
        )
    migrate.make_ready(database)
    assert differences(database.engine) == []
    with database.engine.connect() as connection:
        kept = connection.execute(text("SELECT site, mode, quarantined FROM site")).all()
    assert [tuple(row) for row in kept] == [("nersc", "up", 0)]


def test_a_newer_database_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    SqlStore.open(path, clock=VirtualClock()).close()
    newer = Database(f"sqlite:///{path}", clock=VirtualClock())
    with newer.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    newer.close()
    with pytest.raises(WrongSchema, match=r"9999.*Install that newer version"):
        SqlStore.open(path, clock=VirtualClock())


def test_a_database_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    foreign = Database(f"sqlite:///{path}", clock=VirtualClock())
    with foreign.engine.begin() as connection:
        connection.execute(text("CREATE TABLE photos (id INTEGER)"))
    with pytest.raises(WrongSchema, match="none of ours"):
        SqlStore.open(path, clock=VirtualClock())
    assert inspect(foreign.engine).get_table_names() == ["photos"]
    foreign.close()


def test_a_path_with_signs_that_mean_something_elsewhere_is_fine(tmp_path: Path) -> None:
    folder = tmp_path / "100%s of #1? &x"
    SqlStore.open(folder / "a.db", clock=VirtualClock()).close()
    assert [file.name for file in folder.iterdir()] == ["a.db"]


def test_opening_an_up_to_date_store_does_not_import_alembic(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    SqlStore.open(path, clock=VirtualClock()).close()
    code = (
        "import sys; from broker.clock import wall_clock; from broker.store.sql import SqlStore; "
        f"SqlStore.open({str(path)!r}, clock=wall_clock).close(); "
        "sys.exit(any(name.split('.')[0] == 'alembic' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
