"""SQLite when things go wrong around it: locks, full disks, killed processes, foreign files."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from store_kit import RUN, new_run, run_of

from broker.clock import VirtualClock, wall_clock
from broker.store.base import StoreBusy, StoreError
from broker.store.sql import SqlStore

HERE = Path(__file__).resolve()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "crossfade.db"


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, with the tests' kit at hand."""
    start = f"import sys; sys.path[:0] = {[str(HERE.parents[2]), str(HERE.parents[1])]!r}\n"
    command = [sys.executable, "-c", start + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def assert_sound(path: Path) -> None:
    """The file is a whole database, and takes a run."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
    store = SqlStore.open(path, clock=wall_clock)
    assert store.create_run(new_run(run_id="after")) == ("after", True)
    store.close()


def test_the_store_is_readable_by_its_owner_alone(path: Path, clock: VirtualClock) -> None:
    store = SqlStore.open(path, clock=clock)
    store.create_run(new_run())
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes) >= {"crossfade.db", "crossfade.db-wal"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()


def test_a_commit_that_was_answered_is_on_disk(path: Path, clock: VirtualClock) -> None:
    store = SqlStore.open(path, clock=clock)
    with store._database.reading() as tx:
        told = {}
        for pragma in ("journal_mode", "synchronous", "foreign_keys"):
            tx._cursor.execute(f"PRAGMA {pragma}")
            told[pragma] = tx._cursor.fetchone()[0]
    assert told == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    store.close()


def test_what_was_stored_is_there_after_opening_again(path: Path, clock: VirtualClock) -> None:
    store = SqlStore.open(path, clock=clock)
    store.create_run(new_run())
    identity = store.installation()
    store.close()
    again = SqlStore.open(path, clock=clock)
    assert run_of(again).run_id == RUN
    assert again.installation() == identity
    again.close()


def test_closing_leaves_one_file(path: Path, clock: VirtualClock) -> None:
    store = SqlStore.open(path, clock=clock)
    store.create_run(new_run())
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["crossfade.db"]


def test_a_store_locked_by_another_process_is_busy_and_nothing_is_kept(path: Path, clock: VirtualClock) -> None:
    store = SqlStore.open(path, clock=clock, busy_seconds=0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy, match="locked"):
        store.create_run(new_run())
    assert store.run(RUN) is None  # readers do not wait
    other.execute("ROLLBACK")
    assert store.create_run(new_run()) == (RUN, True)
    other.close()
    store.close()


def test_a_writer_waits_for_another_process_that_is_soon_done(path: Path, clock: VirtualClock) -> None:
    store = SqlStore.open(path, clock=clock)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.1, other.execute, ("ROLLBACK",))
    timer.start()
    assert store.create_run(new_run()) == (RUN, True)
    timer.join()
    other.close()
    store.close()


@pytest.mark.parametrize("room", [300_000, 600_000, 1_200_000, 2_400_000])
def test_nothing_is_half_stored_when_the_disk_is_full(path: Path, room: int) -> None:
    """The limit on a file's size fails a write as a full disk does, at one place or another of the transaction."""
    done = python(
        """
        import resource
        from pathlib import Path
        from broker.clock import wall_clock
        from broker.store.base import StoreFull
        from broker.store.sql import SqlStore
        from store_kit import new_run, stage_row
        store = SqlStore.open(Path(sys.argv[1]), clock=wall_clock)
        store.create_run(new_run(run_id="before"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
        rows = [stage_row(n, "big", body="x" * 2000) for n in range(2000)]
        try:
            store.create_run(new_run(run_id="big", stages=rows))
        except StoreFull as error:
            print(error)
        print(store.run("big"), len(store.stages("big")), store.run("before").run_id)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(store.create_run(new_run(run_id="big", stages=rows)))
        store.close()
        """,
        path,
        room,
    )
    assert done.returncode == 0, done.stderr
    told, state, later = done.stdout.splitlines()
    assert "make room" in told
    assert state == "None 0 before"
    assert later == "('big', True)"
    assert_sound(path)


def test_a_process_killed_inside_a_transaction_leaves_a_sound_store(path: Path) -> None:
    done = python(
        """
        import os, signal
        from pathlib import Path
        from broker.clock import wall_clock
        from broker.store.base import Changes, NewEvent
        from broker.store.sql import SqlStore
        from store_kit import deciding, new_run, stage_of, stage_row
        store = SqlStore.open(Path(sys.argv[1]), clock=wall_clock)
        store._database.engine.pool.connect().close()
        store.create_run(new_run(stages=[stage_row(n, body="x" * 500) for n in range(5000)]))
        with deciding(store) as tx:
            rows = [row._replace(state="READY") for row in tx.stage_rows([f"s{n}" for n in range(5000)]).values()]
            tx._tx._cursor.execute("PRAGMA cache_size = 10")  # so that half of it is written before the end
            tx.apply(Changes(stages=rows, events=[NewEvent(kind="never")]), now=1)
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        path,
    )
    assert done.returncode == -9, done.stderr
    store = SqlStore.open(path, clock=wall_clock)
    assert {row.state for row in store.stages(RUN)} == {"WAITING"}
    assert [event.kind for event in store.events(RUN)] == ["accepted"]
    store.close()
    assert_sound(path)


def test_a_lease_of_a_killed_process_is_broken_by_its_successor(path: Path) -> None:
    done = python(
        """
        import os, signal
        from pathlib import Path
        from broker.clock import wall_clock
        from broker.store.sql import SqlStore
        from store_kit import RUN, new_run
        store = SqlStore.open(Path(sys.argv[1]), clock=wall_clock)
        store.create_run(new_run(due_at=None))
        store.acquire(RUN, owner="first", ttl=3600)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        path,
    )
    assert done.returncode == -9, done.stderr
    store = SqlStore.open(path, clock=wall_clock)
    assert store.break_leases(lambda owner: owner == "first") == 1
    assert list(store.due_runs(now=wall_clock(), limit=1, resend_after=1)) == [RUN]
    assert store.acquire(RUN, owner="second", ttl=10)
    store.close()


def test_a_file_that_is_no_database_is_named(path: Path, clock: VirtualClock) -> None:
    path.parent.mkdir()
    path.write_text("these are notes, not a database; " * 100)
    with pytest.raises(StoreError, match=r"crossfade\.db is damaged or no database"):
        SqlStore.open(path, clock=clock)
    assert path.read_text().startswith("these are notes")


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path, clock: VirtualClock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot make the store .*file/crossfade\.db.*choose another place"):
        SqlStore.open(tmp_path / "file" / "crossfade.db", clock=clock)


def test_threads_that_write_at_once_all_get_their_turn(path: Path, clock: VirtualClock) -> None:
    store = SqlStore.open(path, clock=clock)
    faults = []

    def work(name: int) -> None:
        try:
            for k in range(5):
                store.create_run(new_run(run_id=f"r{name}-{k}"))
                assert store.run(f"r{name}-{k}")
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(store.runs(limit=99)) == 40
    store.close()


def test_opening_a_store_that_is_up_to_date_takes_no_time_worth_naming(path: Path, clock: VirtualClock) -> None:
    SqlStore.open(path, clock=clock).close()
    spent = []
    for _ in range(5):
        start = time.process_time()
        store = SqlStore.open(path, clock=clock)
        spent.append(time.process_time() - start)
        store.close()
    assert min(spent) < 0.015
