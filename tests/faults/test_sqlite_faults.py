"""SQLite when things go wrong around it: another writer that does not let go, a killed process, a full disk.

A broker drives runs at simulated sites meanwhile; the audit judges what is left.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from broker_kit import Lab, Stage, site
from store_kit import RUN, new_run, run_of

from broker.audit import audit_run
from broker.clock import VirtualClock, wall_clock
from broker.store.base import StoreBusy
from broker.store.sql import SqlStore

HERE = Path(__file__).resolve()
STAGES = [Stage("make", "seconds=12 outputs=o:1", outputs=["o"]), Stage("use", "seconds=8", inputs=[("in", "make")])]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "crossfade.db"


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, with the tests' kits at hand."""
    start = f"import sys; sys.path[:0] = {[str(HERE.parents[2]), str(HERE.parents[1])]!r}\n"
    command = [sys.executable, "-c", start + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def assert_sound(path: Path) -> None:
    """The file is a whole database: as SQLite sees it, and as the audit does."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
    store = SqlStore.open(path, clock=wall_clock)
    assert [str(found) for run in store.runs() for found in audit_run(store, run.run_id)] == []
    store.close()


# -- F22: locked, or killed while it writes -------------------------------------------------------------------


@pytest.mark.fault("F22")
def test_a_writer_that_does_not_let_go_makes_the_store_busy_and_the_run_goes_on_afterwards(path: Path) -> None:
    clock = VirtualClock()
    store = SqlStore.open(path, clock=clock, busy_seconds=0.05)
    lab = Lab(site("a"), clock=clock, store=store)
    run_id = lab.submit(*STAGES)
    lab.run_for(5)
    other = sqlite3.connect(path, isolation_level=None)
    for seconds in (5, 10, 15):  # at different steps of the run
        other.execute("BEGIN IMMEDIATE")
        before = store.stages(run_id), store.attempts(run_id), store.events(run_id)
        clock.advance(seconds)
        with pytest.raises(StoreBusy, match="locked by another process"):
            lab.broker.go_on(run_id)
        with pytest.raises(StoreBusy, match="locked by another process"):
            store.create_run(new_run())
        assert (store.stages(run_id), store.attempts(run_id), store.events(run_id)) == before
        other.execute("ROLLBACK")
        lab.step(1)
    other.close()
    assert lab.finish(run_id) == "SUCCEEDED"
    assert store.run(RUN) is None
    store.close()
    assert_sound(path)


_WRITES = """
    from pathlib import Path
    from broker_kit import Stage, new_run
    from broker.clock import wall_clock
    from broker.store.sql import SqlStore
    store = SqlStore.open(Path(sys.argv[1]), clock=wall_clock)
    stages = [Stage(f"s{n}", "seconds=1") for n in range(20)]
    number = 0
    print("writing", flush=True)
    while True:
        number += 1
        run_id = f"run-{number}"
        store.create_run(new_run(run_id, stages, now=wall_clock()))
        print(run_id, flush=True)
"""


@pytest.mark.fault("F22")
def test_what_was_answered_is_there_after_a_kill_while_the_log_is_written(path: Path) -> None:
    """Killed again and again at whatever it is just doing: mostly in the middle of a write."""
    answered: set[str] = set()
    start = f"import sys; sys.path[:0] = {[str(HERE.parents[2]), str(HERE.parents[1])]!r}\n"
    for lines in (2, 3, 5, 9):
        code = start + textwrap.dedent(_WRITES).replace('f"run-{number}"', f'f"run-{lines}-{{number}}"')
        with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline().strip() for _ in range(lines + 1)]
            writer.kill()
            said += writer.stdout.read().split()
        answered.update(said[1:])
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        store = SqlStore.open(path, clock=wall_clock)
        there = {row.run_id for row in store.runs(limit=100_000)}
        assert answered <= there
        assert len(there - answered) <= 4  # at most the one that each process was storing when it was killed
        assert {len(store.stages(run_id)) for run_id in there} == {20}
        store.close()
    assert len(answered) >= 19
    assert_sound(path)


_KILLED_IN_COMMIT = """
    import os, signal
    from pathlib import Path
    from broker_kit import Lab, Stage, site
    from broker.clock import VirtualClock
    from broker.store import sqlite
    from broker.store.sql import SqlStore
    clock = VirtualClock()
    lab = Lab(site("a"), clock=clock, store=SqlStore.open(Path(sys.argv[1]), clock=clock))
    run_id = lab.submit(
        Stage("make", "seconds=12 outputs=o:1", outputs=["o"]), Stage("use", "seconds=8", inputs=[("in", "make")]),
        run_id="run",
    )
    left = int(sys.argv[2])
    real = sqlite.SqliteTransaction.many
    def many(self, statement, rows):
        global left
        written = real(self, statement, rows)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return written
    sqlite.SqliteTransaction.many = many
    lab.finish(run_id)
    print(lab.state(run_id))
"""


@pytest.mark.fault("F22")
@pytest.mark.parametrize("writes", [3, 11, 24, 40])
def test_a_broker_killed_between_two_writes_of_a_transaction_leaves_whole_transactions_only(
    path: Path, writes: int
) -> None:
    done = python(_KILLED_IN_COMMIT, path, writes)
    assert done.returncode == -9, done.stderr
    assert_sound(path)
    store = SqlStore.open(path, clock=wall_clock)
    assert not run_of(store, "run").ended_at
    store.close()


# -- F23: the disk is full ------------------------------------------------------------------------------------

_FULL = """
    import resource
    from pathlib import Path
    from broker_kit import Lab, Stage, site
    from broker.audit import audit_run
    from broker.clock import VirtualClock
    from broker.store.base import StoreFull
    from broker.store.sql import SqlStore
    clock = VirtualClock()
    store = SqlStore.open(Path(sys.argv[1]), clock=clock)
    lab = Lab(site("a", slots=100), clock=clock, store=store)
    stages = [Stage(f"s{n}", "seconds=20 outputs=o:1", outputs=["o"]) for n in range(40)]
    run_id = lab.submit(*stages, run_id="run")
    used = max(os.path.getsize(path) for path in Path(sys.argv[1]).parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (used + int(sys.argv[2]), resource.RLIM_INFINITY))
    refused = 0
    for _ in range(30):
        before = store.stages(run_id), store.attempts(run_id), store.effects(run_id), store.events(run_id)
        try:
            lab.step(5)
        except StoreFull as error:
            refused += 1
            assert "make room" in str(error), error
        assert not audit_run(store, run_id), audit_run(store, run_id)
    try:
        lab.submit(*[Stage(f"t{n}", "seconds=1") for n in range(400)], run_id="new")
    except StoreFull:
        refused += 1
    print(refused > 0, store.run("new"), lab.state(run_id) != "SUCCEEDED")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    clock.advance(120)
    print(lab.finish(run_id), audit_run(store, run_id))
    store.close()
"""


@pytest.mark.fault("F23")
@pytest.mark.parametrize("room", [0, 40_000, 120_000])
def test_on_a_full_disk_new_work_is_refused_and_what_was_there_is_whole_and_goes_on_later(
    path: Path, room: int
) -> None:
    """The limit on a file's size fails a write as a full disk does: at the first one, or in the middle of a run."""
    done = python("import os\n" + textwrap.dedent(_FULL), path, room)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True None True", "SUCCEEDED []"]
    assert_sound(path)


@pytest.mark.fault("F22")
def test_threads_of_one_process_wait_for_each_other_and_a_stuck_one_makes_the_others_busy(path: Path) -> None:
    store = SqlStore.open(path, clock=VirtualClock(), busy_seconds=0.1)
    store.create_run(new_run())
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with store._database.writing():
            inside.set()
            leave.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(20)
    with pytest.raises(StoreBusy, match="another thread"):
        store.acquire(RUN, owner="me", ttl=9)
    leave.set()
    holder.join()
    assert store.acquire(RUN, owner="me", ttl=9)
    store.close()
