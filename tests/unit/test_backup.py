"""A backup is one file, whole or not there; a restore is one transaction, all or nothing, from a file that is whole."""

from __future__ import annotations

import json
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from postgres_kit import Server
from restore_kit import put_back
from store_kit import RUN, attempt_row, checkpoint_row, effect_row, new_run, product_row, run_of
from store_kit import apply as decide

from broker.backup import (
    BackedUp,
    DamagedBackup,
    back_up_file,
    back_up_server,
    open_backup,
    restore,
    restoring,
    writing,
)
from broker.clock import VirtualClock
from broker.errors import NotFound, RefusedByPolicy, Unwritable, UsageError
from broker.store import migrate
from broker.store.base import (
    Changes,
    EvidenceRow,
    LogTail,
    NewEvent,
    Sightings,
    StoreBusy,
    WaiverRow,
    WorkerRow,
    WrongSchema,
)
from broker.store.connect import Database
from broker.store.schema import metadata
from broker.store.sql import SqlStore

CLOCK = VirtualClock()


def fill(store: SqlStore) -> None:
    """A row or more in most tables, with bytes, nulls and letters that are no ASCII."""
    store.installation()
    store.ensure_sites(["nersc", "alcf"])
    store.create_run(new_run([[], [0]], name="Tomografie Zürich", client_key="k"))
    decide(
        store,
        Changes(
            new_attempts=[attempt_row(0, restore='{"a":"ü"}')],
            effects=[effect_row("submit:x", note='{"clean":true}', state="pending")],
            products=[product_row(0)],
            events=[NewEvent(kind="placed", decision=("placement", "place", "{}"))],
        ),
    )
    store.record(
        Sightings(
            logs=[LogTail(RUN, 0, 1, "stdout", b"\x00\xff\n", 3, 5)],
            checkpoints=[checkpoint_row(0, 1)],
            evidence=[EvidenceRow("nersc", 5, "status", ok=True, latency_us=7, detail="")],
            events=[("site:nersc", NewEvent(kind="silent"))],
        ),
        now=20,
    )


def waive(store: SqlStore) -> None:
    """One waiver in force, one at its end, one withdrawn."""
    for side, end in (("alcf", 1 << 60), ("olcf", 6), ("cfs:", 1 << 60)):
        row = WaiverRow(f"w-{side}", RUN, side, "data.stay", "x", "ann", 5, end, "", None, "", "", None, "")
        assert store.ask_waiver(row)
    assert store.confirm_waiver("w-alcf", by="bob", reason="y", now=5)
    assert store.withdraw_waiver("w-cfs:", by="ann", reason="z", now=5)


def rows(store: SqlStore, *, but: tuple[str, ...] = ()) -> dict[str, list[Any]]:
    """All rows of all tables."""
    with store._database.engine.connect() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(table.select())), key=repr)
            for table in metadata.sorted_tables
            if table.name not in but
        }


UNTOUCHED = (
    *(name for name in metadata.tables if name in ("installation", "run", "effect", "site")),
    "event",
    "stream",
)
"""Tables that a restore does not carry over as they are."""


@pytest.fixture(params=["file", "postgres"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[SqlStore, Callable[[Path], BackedUp]]]:
    """A filled store, and how it is backed up."""
    if request.param == "file":
        store = SqlStore.open(tmp_path / "source.db", clock=CLOCK)
        take = lambda file: back_up_file(tmp_path / "source.db", file)  # noqa: E731
    else:
        server: Server = request.getfixturevalue("postgres")
        store = SqlStore(server.url(server.database()), clock=CLOCK)
        take = lambda file: back_up_server(store._database, file)  # noqa: E731
    fill(store)
    yield store, take
    store.close()


@pytest.fixture(params=["file", "postgres"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    if request.param == "file":
        store = SqlStore.open(tmp_path / "target.db", clock=CLOCK)
    else:
        server: Server = request.getfixturevalue("postgres")
        store = SqlStore(server.url(server.empty()), clock=CLOCK)
    yield store
    store.close()


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A good backup of a filled store."""
    store = SqlStore.open(tmp_path / "source.db", clock=CLOCK)
    fill(store)
    store.close()
    return back_up_file(tmp_path / "source.db", tmp_path / "backup.db").file


Source = tuple[SqlStore, Callable[[Path], BackedUp]]


def test_any_database_goes_into_any_other_by_way_of_one_file(source: Source, target: SqlStore, tmp_path: Path) -> None:
    store, take = source
    done = take(tmp_path / "b.db")
    assert {name: count for name, count in done.counts.items() if count} == {
        name: len(found) for name, found in rows(store).items() if found
    }
    restored = put_back(done.file, target, clock=CLOCK)
    assert restored.digest == done.digest
    assert rows(target, but=UNTOUCHED) == rows(store, but=UNTOUCHED)
    assert rows(target)["event"][: len(rows(store)["event"])]
    assert set(rows(store)["event"]) < set(rows(target)["event"])


def test_a_backup_is_one_file_for_its_owner_alone(source: Source, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    done = source[1](folder / "b.db")
    assert [file.name for file in folder.iterdir()] == ["b.db"]
    assert stat.S_IMODE(done.file.stat().st_mode) == 0o600
    with closing(sqlite3.connect(done.file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (migrate.HEAD,)
    assert [file.name for file in folder.iterdir()] == ["b.db"]


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), sqlite3.OperationalError("disk is full")])
def test_a_full_disk_leaves_no_half_file(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()

    def full(_: Path) -> None:
        raise fault

    monkeypatch.setattr(writing, "_sync", full)
    with pytest.raises(Unwritable, match="cannot back up"):
        source[1](folder / "b.db")
    assert list(folder.iterdir()) == []


def test_ctrl_c_leaves_no_half_file(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    folder.mkdir()

    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_judged", pressed)
    with pytest.raises(KeyboardInterrupt):
        source[1](folder / "b.db")
    assert list(folder.iterdir()) == []


def test_a_file_that_is_there_is_never_overwritten(source: Source, tmp_path: Path) -> None:
    place = tmp_path / "b.db"
    place.write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        source[1](place)
    assert place.read_text() == "mine"


def test_nor_one_that_appears_meanwhile(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, judged = tmp_path / "b.db", writing._judged

    def late(*args: Path) -> BackedUp:
        place.write_text("mine")
        return judged(*args)

    monkeypatch.setattr(writing, "_judged", late)
    with pytest.raises(UsageError, match="is there already"):
        source[1](place)
    assert place.read_text() == "mine"


def test_what_is_committed_after_the_first_table_was_read_is_not_in_it(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqlStore(postgres.url(postgres.database()), clock=CLOCK)
    fill(store)
    asked, name_table = [], writing.table

    def slowly(name: str) -> Any:
        asked.append(name)
        if name == "run":
            store.create_run(new_run([[], []], "260101-000001-bbbbbbbb"))
        return name_table(name)

    monkeypatch.setattr(writing, "table", slowly)
    done = back_up_server(store._database, tmp_path / "b.db")
    assert asked.index("attempt") < asked.index("run") < asked.index("stage")
    assert (done.counts["run"], done.counts["stage"]) == (1, 2)
    store.close()


def test_a_file_that_is_written_to_all_the_time_is_backed_up_as_of_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, over = SqlStore.open(tmp_path / "source.db", clock=CLOCK), threading.Event()
    fill(store)

    def write() -> None:
        for number in count():
            if over.is_set():
                return
            store.create_run(new_run([[], []], f"260101-{number:06d}-bbbbbbbb"))

    monkeypatch.setattr(writing, "PAGES", 1)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = back_up_file(tmp_path / "source.db", tmp_path / "b.db")
    finally:
        over.set()
        writer.join()
    assert done.counts["stage"] == 2 * done.counts["run"]
    with open_backup(done.file) as opened:
        assert opened.broken == []
    store.close()


# -- files that are not to be trusted ------------------------------------------------------------------------------


def test_a_file_that_lacks_a_part_is_refused(backup: Path) -> None:
    content = backup.read_bytes()
    for kept in (len(content) // 2, len(content) - 4096, 100, 0):
        backup.write_bytes(content[:kept])
        with pytest.raises(DamagedBackup), open_backup(backup, despite_chains=True):
            pytest.fail("it was let in")


def test_a_page_of_other_bytes_is_noticed(backup: Path) -> None:
    content = bytearray(backup.read_bytes())
    noticed = 0
    for page in range(1, len(content) // 4096):
        spoilt = bytearray(content)
        spoilt[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
        backup.write_bytes(spoilt)
        try:
            with open_backup(backup):
                pass
        except DamagedBackup:
            noticed += 1
    # pages that hold nothing may hold anything
    assert noticed >= len(metadata.tables)


@pytest.mark.parametrize("content", [b"not a database at all", b"", b"SQLite format 3\x00" + b"\x00" * 5000])
def test_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DamagedBackup), open_backup(tmp_path / "x"):
        pytest.fail("it was let in")


def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x")) as connection:
        connection.execute("CREATE TABLE photos (id INTEGER)")
    with pytest.raises(DamagedBackup, match="no backup of ours"), open_backup(tmp_path / "x"):
        pytest.fail("it was let in")
    with pytest.raises(NotFound), open_backup(tmp_path / "nowhere"):
        pytest.fail("it was let in")


def changed(backup: Path, sql: str) -> None:
    with closing(sqlite3.connect(backup, isolation_level=None)) as connection:
        connection.execute(sql)


def test_a_changed_history_is_refused_unless_it_is_all_that_is_left(backup: Path, target: SqlStore) -> None:
    changed(backup, f"UPDATE event SET data = '{{}}' || ' ' WHERE stream = '{RUN}' AND seq = 1")
    with pytest.raises(DamagedBackup, match="event 1 does not fit its hash"), open_backup(backup):
        pytest.fail("it was let in")
    with open_backup(backup, despite_chains=True) as opened:
        restored = restore(opened, target._database, by="ann", now=CLOCK())
    assert [name for name, _ in restored.broken] == [RUN]
    (told,) = target.events("operators")
    assert json.loads(told.data)["broken"][0][0] == RUN


def test_events_without_their_tip_are_a_changed_history(backup: Path) -> None:
    changed(backup, "DELETE FROM stream WHERE stream = 'site:nersc'")
    with pytest.raises(DamagedBackup, match="site:nersc"), open_backup(backup):
        pytest.fail("it was let in")


def test_a_backup_of_the_first_shape_is_brought_up_to_date(tmp_path: Path, target: SqlStore) -> None:
    old = Database(f"sqlite:///{tmp_path / 'old.db'}", clock=CLOCK)
    migrate.upgrade(old.engine, to="0001")
    with old.engine.begin() as connection:
        for sql in (
            "INSERT INTO installation VALUES ('abc', 0, 1)",
            "INSERT INTO site (site, mode, mode_by, mode_reason, detail) VALUES ('nersc', 'drained', 'ann', '', '')",
        ):
            connection.exec_driver_sql(sql)
    old.close()
    done = back_up_file(tmp_path / "old.db", tmp_path / "b.db")
    assert done.shape == "0001"
    put_back(done.file, target, clock=CLOCK)
    (site,) = target.sites()
    assert (site.mode, site.quarantined) == ("drained", 1)
    assert target.installation().id == "abc"


def test_a_server_of_the_first_shape_is_backed_up_as_it_is(postgres: Server, tmp_path: Path) -> None:
    old = Database(postgres.url(postgres.empty()), clock=CLOCK)
    migrate.upgrade(old.engine, to="0001")
    with old.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO installation VALUES ('abc', 0, 1)")
    assert back_up_server(old, tmp_path / "b.db").shape == "0001"
    assert migrate.current(old.engine) == "0001"
    old.close()


def test_a_backup_of_a_newer_version_is_refused(backup: Path) -> None:
    changed(backup, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(WrongSchema, match="9999"), open_backup(backup):
        pytest.fail("it was let in")


# -- all or nothing ------------------------------------------------------------------------------------------------


def test_a_database_that_holds_runs_is_left_alone_unless_told(backup: Path, target: SqlStore) -> None:
    target.create_run(new_run(run_id="260101-000009-cccccccc"))
    before = rows(target)
    with pytest.raises(UsageError, match="holds runs"):
        put_back(backup, target, clock=CLOCK, replace=False)
    assert rows(target) == before
    put_back(backup, target, clock=CLOCK)
    assert target.run("260101-000009-cccccccc") is None
    assert run_of(target).name == "Tomografie Zürich"


def test_nobody_who_serves_loses_the_ground_under_his_feet(backup: Path, postgres: Server) -> None:
    store = SqlStore(postgres.url(postgres.empty()), clock=CLOCK)
    alive = WorkerRow("7@here", "worker", "here", "[]", 1, store.now() - 30_000_000, None, "{}")
    store.heartbeat(alive)
    with pytest.raises(RefusedByPolicy, match="7@here serves"):
        put_back(backup, store, clock=CLOCK)
    store.heartbeat(alive._replace(seen_at=store.now() - 61_000_000))
    put_back(backup, store, clock=CLOCK)
    store.heartbeat(alive)
    with open_backup(backup) as opened:  # its process is known to be gone
        restore(opened, store._database, by="ann", now=1, replace=True, is_dead=lambda name: name == "7@here")
    assert store.workers() == []
    store.close()


def test_whoever_holds_the_tables_is_waited_for_and_not_for_ever(
    backup: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from broker.store.statement import Statement, Text

    store = SqlStore(postgres.url(postgres.empty()), clock=CLOCK)
    monkeypatch.setattr(Statement, "text", _short(Statement.text, restoring._LOCK_TIMEOUT, Text))
    with store._database.engine.connect() as other:
        other.exec_driver_sql("SELECT * FROM run")
        with pytest.raises(StoreBusy):
            put_back(backup, store, clock=CLOCK)
    put_back(backup, store, clock=CLOCK)
    store.close()


def _short(text: Any, which: object, make: Any) -> Any:
    """The same statements, but this one waits a fifth of a second."""
    return lambda self, dialect: (
        make("SET LOCAL lock_timeout = '200ms'", None, ()) if self is which else text(self, dialect)
    )


def test_a_restore_that_breaks_off_changes_nothing(
    backup: Path, target: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:

    target.create_run(new_run(run_id="260101-000009-cccccccc"))
    before = rows(target)

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(restoring, "_quarantine", cut)
    with pytest.raises(KeyboardInterrupt):
        put_back(backup, target, clock=CLOCK)
    assert rows(target) == before


def test_what_was_certain_when_the_backup_was_taken_is_in_doubt_now(backup: Path, target: SqlStore) -> None:
    put_back(backup, target, clock=CLOCK)
    effect = target.effect("submit:x")
    assert effect is not None
    assert (effect.note, effect.claim, effect.due_at) == ("", "", CLOCK())


def test_waivers_are_withdrawn_for_nobody_knows_whether_they_were(tmp_path: Path, target: SqlStore) -> None:
    source = SqlStore.open(tmp_path / "source.db", clock=CLOCK)
    fill(source)
    waive(source)
    source.close()
    done = back_up_file(tmp_path / "source.db", tmp_path / "backup.db")
    put_back(done.file, target, clock=CLOCK)
    found = {row.id: row for row in target.waivers(RUN)}
    assert {ident: row.withdraw_reason for ident, row in found.items()} == {
        "w-alcf": "a backup was restored",
        "w-olcf": "",
        "w-cfs:": "z",
    }
    assert [event.kind for event in target.events(RUN)][-1] == "waiver_withdrawn"
    (told,) = target.events("operators")
    assert json.loads(told.data)["waivers"] == 1
