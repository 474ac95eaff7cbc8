"""The steps that shape the database: they lead where the schema says, once, or not at all."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, inspect, text
from store_kit import RUN, apply, attempt_row, effect_row, new_run, product_row, run_of, stage_of

from broker.clock import VirtualClock
from broker.store import migrate
from broker.store.base import Changes, NewEvent, SiteRow, WrongSchema
from broker.store.connect import Database
from broker.store.schema import metadata
from broker.store.sql import SqlStore

ROOT = Path(__file__).resolve().parents[2]


def fresh(kind: str, request: pytest.FixtureRequest) -> Database:
    """An empty database of that kind."""
    if kind == "postgres":
        server = request.getfixturevalue("postgres")
        return Database(server.url(server.empty()), clock=VirtualClock())
    return Database(f"sqlite:///{request.getfixturevalue('tmp_path') / uuid4().hex}", clock=VirtualClock())


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    made = fresh(request.param, request)
    yield made
    made.close()


@pytest.fixture
def other(database: Database, request: pytest.FixtureRequest) -> Iterator[Database]:
    """One more of the same kind."""
    made = fresh("sqlite" if database.sqlite else "postgres", request)
    yield made
    made.close()


_COLUMNS = """SELECT table_name, column_name, data_type, is_nullable, column_default
    FROM information_schema.columns WHERE table_schema = 'public'"""
_CONSTRAINTS = (
    "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
)
_INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"


def shape(engine: Engine) -> list[list[str]]:
    """What makes each table and index, word by word; the order of a table's constraints means nothing."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            told = [connection.execute(text(sql)).all() for sql in (_COLUMNS, _CONSTRAINTS, _INDEXES)]
            return sorted([str(value) for value in row] for rows in told for row in rows)
        rows = connection.execute(text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alem%'"))
        return sorted(sorted(sql.replace(",", " ").replace("(", " ( ").split()) for (sql,) in rows)


def marks(database: Database) -> tuple[str | None, str | None]:
    with database.engine.connect() as connection:
        return migrate._marks(connection)


def set_marks(database: Database, found: str, oldest: str | None) -> None:
    with database.engine.begin() as connection:
        values = {"found": found, "oldest": oldest}
        connection.execute(text("UPDATE alembic_version SET version_num = :found, oldest = :oldest"), values)


def differences(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        options = {"compare_server_default": True, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def test_the_steps_lead_to_exactly_the_schema(database: Database) -> None:
    migrate.upgrade(database.engine)
    assert differences(database.engine) == []
    assert migrate.current(database.engine) == migrate.HEAD


def test_an_empty_database_made_whole_has_the_same_shape_as_one_made_by_steps(
    database: Database, other: Database
) -> None:
    migrate.make_ready(database)
    migrate.upgrade(other.engine)
    assert marks(database) == marks(other)
    assert shape(database.engine) == shape(other.engine)


def test_a_forgotten_step_would_be_noticed(database: Database) -> None:
    migrate.upgrade(database.engine)
    with database.engine.begin() as connection:
        connection.execute(text("DROP INDEX stage_due"))
    assert differences(database.engine)


def test_the_code_knows_the_newest_step() -> None:
    assert migrate.head() == migrate.HEAD


def test_pages_show_the_newest_shape() -> None:
    shown = {
        (path.relative_to(ROOT), shape)
        for path in ROOT.glob("docs/**/*.md")
        for shape in re.findall(r"\bshape (\d{4})\b", path.read_text(encoding="utf-8"))
        if path.parent.name != "adr"  # a decision tells of its own time
    }
    assert len(shown) >= 2
    assert {shape for _, shape in shown} == {migrate.HEAD}, shown


def test_upgrading_twice_is_upgrading_once(database: Database) -> None:
    migrate.upgrade(database.engine)
    before = shape(database.engine)
    migrate.upgrade(database.engine)
    migrate.make_ready(database)
    assert shape(database.engine) == before


@pytest.mark.fault("F24")
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


_KILLED = """
import os, signal, sys
from alembic.operations import Operations
from broker.clock import VirtualClock
from broker.store import migrate
from broker.store.connect import Database
real = getattr(Operations, sys.argv[2])
def killed(self, *given, **options):
    real(self, *given, **options)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(Operations, sys.argv[2], killed)
migrate.make_ready(Database(sys.argv[1], clock=VirtualClock()))
"""


@pytest.mark.fault("F24")
@pytest.mark.parametrize("where", ["create_table", "create_index", "add_column"])
def test_a_process_killed_between_two_steps_leaves_the_former_shape_and_the_next_one_goes_on(
    database: Database, where: str
) -> None:
    migrate.upgrade(database.engine, to="0001")
    with database.engine.begin() as connection:
        connection.execute(text("INSERT INTO installation (id, created_at) VALUES ('me', 1)"))
    address = database.url.render_as_string(hide_password=False)
    done = subprocess.run([sys.executable, "-c", _KILLED, address, where], check=False, cwd=ROOT, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert marks(database) == ("0001", "0001")
    migrate.make_ready(database)
    assert differences(database.engine) == []
    assert marks(database) == (migrate.HEAD, migrate.OLDEST)
    with database.engine.connect() as connection:
        assert connection.scalar(text("SELECT id FROM installation")) == "me"


@pytest.mark.parametrize("before", [None, "0001"])
def test_of_processes_that_open_at_once_one_takes_the_steps(database: Database, before: str | None) -> None:
    if before:
        migrate.upgrade(database.engine, to=before)
    start, faults = threading.Barrier(4), []

    def open_it() -> None:
        mine = Database(database.url, clock=VirtualClock())
        start.wait()
        try:
            migrate.make_ready(mine)
        except Exception as error:
            faults.append(error)
        mine.close()

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert differences(database.engine) == []


def test_each_step_says_which_code_gets_along_with_it() -> None:
    steps = [step.revision for step in migrate._scripts().walk_revisions()]
    assert all("0001" <= migrate.oldest(step) <= step for step in steps)
    assert migrate.oldest(migrate.HEAD) == migrate.OLDEST


def test_a_database_of_the_first_shape_is_carried_on_with_what_it_holds(database: Database) -> None:
    migrate.upgrade(database.engine, to="0001")
    with database.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO site (site, mode, mode_by, mode_reason, detail) VALUES ('nersc', 'up', 'ann', '', '')")
        )
    migrate.make_ready(database)
    assert differences(database.engine) == []
    with database.engine.connect() as connection:
        kept = connection.execute(text("SELECT site, mode, quarantined FROM site")).all()
    assert [tuple(row) for row in kept] == [("nersc", "up", 0)]


@pytest.mark.parametrize("oldest", ["9999", None])
def test_a_newer_database_that_this_code_does_not_get_along_with_is_refused_with_what_to_do(
    database: Database, oldest: str | None
) -> None:
    migrate.make_ready(database)
    set_marks(database, "9999", oldest)
    with pytest.raises(WrongSchema, match=r"9999.*Install that newer version"):
        SqlStore(database.url, clock=VirtualClock())


def test_a_newer_database_that_says_this_code_gets_along_with_it_is_used_as_it_is(database: Database) -> None:
    migrate.make_ready(database)
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE site ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'"))
        connection.execute(text("CREATE TABLE later (id INTEGER)"))
    set_marks(database, "9999", migrate.HEAD)
    store = SqlStore(database.url, clock=VirtualClock())
    store.create_run(new_run())
    store.ensure_sites(["nersc"])
    apply(store, Changes(new_attempts=[attempt_row(0)], events=[NewEvent(kind="placed")]))
    assert [row.site for row in store.sites()] == ["nersc"]
    assert run_of(store).open_attempts == 1
    store.close()
    assert marks(database) == ("9999", migrate.HEAD)


def old_tables(other: Database) -> MetaData:
    """The tables as the oldest code knows them that still gets along."""
    migrate.upgrade(other.engine, to=migrate.OLDEST)
    old = MetaData()
    old.reflect(other.engine)
    return old


def as_old(old: MetaData, name: str, row: Any) -> dict[str, Any]:
    return {key: value for key, value in row._asdict().items() if key in old.tables[name].columns}


def test_code_of_the_oldest_shape_and_of_this_one_carry_on_the_same_run(database: Database, other: Database) -> None:
    """Old code names the columns that it knows, and no others: what it writes, this code goes on with, and back."""
    old = old_tables(other)
    new = new_run([(), (0,)])
    store = SqlStore(database.url, clock=VirtualClock())

    def old_writes(*rows: tuple[str, dict[str, Any]]) -> None:
        with database.engine.begin() as connection:
            for name, values in rows:
                connection.execute(old.tables[name].insert().values(values))

    def old_reads(name: str) -> list[dict[str, Any]]:
        with database.engine.connect() as connection:
            return [dict(row) for row in connection.execute(old.tables[name].select()).mappings()]

    site = SiteRow("nersc", "up", "", "", None, None, None, None, 0, "", 0, 0)
    old_writes(
        ("run", as_old(old, "run", new.run)),
        ("document", {"run_id": RUN, "text": new.document}),
        *(("stage", as_old(old, "stage", row)) for row in new.stages),
        *(("stage_dep", as_old(old, "stage_dep", row)) for row in new.deps),
        ("site", as_old(old, "site", site)),
        ("installation", {"id": "me", "incarnation": 0, "created_at": 1}),
    )
    assert store.stages(RUN) == new.stages
    assert store.sites() == [site]
    assert store.installation().id == "me"
    started = stage_of(store, 0)._replace(state="ACTIVE", attempt=1, due_at=None)
    apply(store, Changes(stages=[started], new_attempts=[attempt_row(0)], effects=[effect_row("e")]))
    assert old_reads("attempt") == [as_old(old, "attempt", attempt_row(0))]
    with database.engine.begin() as connection:  # old code ends what this one began
        connection.execute(old.tables["attempt"].update().values(state="SUCCEEDED", open=0, ver=1))
        connection.execute(old.tables["effect"].update().values(state="done", due_at=None))
    old_writes(("product", as_old(old, "product", product_row(0))))
    apply(store, Changes(stages=[stage_of(store, 0)._replace(state="SUCCEEDED")], settled=[(0, "ok")]))
    assert stage_of(store, 1).unmet == 0
    assert [row["state"] for row in old_reads("stage")] == ["SUCCEEDED", "WAITING"]
    assert list(store.products(RUN)) == [product_row(0)]
    store.close()


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
