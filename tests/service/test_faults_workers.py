"""Workers that are killed, frozen, told to go or hang: what they had begun is gone on with, once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from fault_kit import CHAIN, QUICK, begun, gone, hints_flow, says, went_well
from postgres_kit import Server
from redis_kit import RedisServer
from service_kit import RESTART_AFTER, House, Process, house, until

LONG = {"a": {"run": "sleep 4"}}

DECIDES = """
import contextlib, pathlib, time, broker.store.sql as sql
from broker.store.base import LeaseLost
folder, deciding = pathlib.Path({folder!r}), sql.SqlStore.deciding
@contextlib.contextmanager
def slowly(*args, **more):
    if (folder / "hold").exists():
        (folder / "held").touch()
        while (folder / "hold").exists():
            time.sleep(0.02)
    try:
        with deciding(*args, **more) as tx:
            yield tx
    except LeaseLost:
        (folder / "refused").touch()
        raise
sql.SqlStore.deciding = slowly
"""
"""A worker that, while there is a file `hold`, stands still where it has a run's lease and is about to decide."""

ACTS = """
import pathlib, time, broker.effects.hands as hands
folder, perform = pathlib.Path({folder!r}), hands.Hands.perform
def slowly(self, effects, jobs):
    if effects and (folder / "hold").exists():
        (folder / "held").touch()
        while (folder / "hold").exists():
            time.sleep(0.02)
        try:
            return perform(self, effects, jobs)
        finally:
            (folder / "done").touch()
    return perform(self, effects, jobs)
hands.Hands.perform = slowly
"""
"""A worker that, while there is a file `hold`, stands still where it has claimed what it is about to do at a site."""

WRITES = """
import contextlib, pathlib, time, broker.store.sql as sql
folder, deciding = pathlib.Path({folder!r}), sql.SqlStore.deciding
@contextlib.contextmanager
def slowly(*args, **more):
    with deciding(*args, **more) as tx:
        tx.snapshot(now=0, limit=1, room=lambda load: 1)
        if (folder / "hold").exists():
            (folder / "held").touch()
            while (folder / "hold").exists():
                time.sleep(0.02)
        yield tx
sql.SqlStore.deciding = slowly
"""
"""As the first, but in the middle of its transaction."""

HANGS = """
import pathlib, threading, broker.drain as drain
folder, decide = pathlib.Path({folder!r}), drain.Drainer._decide
def hangs(self, *args):
    if (folder / "hang").exists():
        threading.Event().wait()
    return decide(self, *args)
drain.Drainer._decide = hangs
"""
"""A worker whose threads never come back from a decision, if there was a file `hang` when they came to it."""

RAISES = """
import itertools, broker.worker as worker
count, woken = itertools.count(), worker.Worker.runs_woken
def raises(self, run_ids):
    if next(count) < 3:
        raise RuntimeError("a fault of ours")
    woken(self, run_ids)
worker.Worker.runs_woken = raises
"""


@pytest.fixture
def lapse(tmp_path: Path, postgres: Server, redis: RedisServer) -> Iterator[tuple[House, Callable[[], None]]]:
    """A house, and what makes every lease and claim in it lapse, as if its time were over."""
    database = postgres.database()

    def lapsed() -> None:
        postgres.run("UPDATE run SET lease_until = 1 WHERE lease_until IS NOT NULL", database)
        postgres.run("UPDATE effect SET claim_until = 1, due_at = 1 WHERE claim_until IS NOT NULL", database)

    # the server waits 1 s, not 15, for a transaction whose process stands still
    url = f"{postgres.url(database)}?options=-c%20idle_in_transaction_session_timeout%3D1000"
    with house(tmp_path / "house", database=url, redis=redis.url) as home:
        yield home, lapsed


def leased(home: House, run: str) -> str | None:
    """Which worker has the run."""
    row = home.store.run(run)
    assert row is not None
    return row.lease_owner


@contextmanager
def held(home: House, hook: str) -> Iterator[tuple[Process, str]]:
    """A worker that was frozen in the middle of its work on a run; at the end it goes on."""
    hold = home.folder / "hold"
    hold.touch()
    worker = home.start("worker", first=hook.format(folder=str(home.folder)))
    run = home.submit(CHAIN)
    until((home.folder / "held").exists, "the worker is in the middle of it")
    worker.freeze()
    try:
        yield worker, run
    finally:
        hold.unlink()
        worker.thaw()


@pytest.mark.fault("F06")
def test_a_payload_that_is_killed_is_started_again_where_its_document_asks_for_that(home: House) -> None:
    home.start("worker")
    killed = home.folder / "killed"
    run = home.submit(
        {"a": {"run": f"[ -e '{killed}' ] || {{ touch '{killed}'; kill -9 $$; }}", "retry": {"app_fault": 1}}},
    )
    assert home.ended(run) == "SUCCEEDED"
    assert set(home.starts().values()) == {2}
    assert home.wrong() == []


@pytest.mark.fault("F06")
def test_a_task_that_raises_ends_no_worker_and_is_made_good_by_the_sweep(home: House) -> None:
    worker = home.start("worker", first=RAISES)
    went_well(home, home.submit(CHAIN), home.submit(CHAIN))
    assert "a fault of ours" in worker.told()
    assert worker.codes == []


def decided(home: House, run: str) -> object:
    """All of a run but who looked at it last: a late hint leads to one more look, which decides nothing."""
    row = home.store.run(run)
    assert row is not None
    looks = {"wake_sent_at": None, "lease_owner": None, "lease_token": 0, "lease_until": None}
    return row._replace(**looks), home.store.stages(run)


@pytest.mark.fault("F07")
def test_a_worker_that_slept_through_its_lease_writes_nothing(lapse: tuple[House, Callable[[], None]]) -> None:
    home, lapsed = lapse
    with held(home, DECIDES) as (first, run):
        lapsed()
        second = home.start("worker", kept=False)
        assert home.ended(run) == "SUCCEEDED"
        until(lambda: leased(home, run) is None, "it is put away")
        before = decided(home, run)
    until((home.folder / "refused").exists, "what it wants to write is refused")
    assert decided(home, run) == before
    second.send(signal.SIGTERM)
    assert gone(second) == 0
    went_well(home, run, home.submit(CHAIN))  # and it works on
    assert first.codes == []


@pytest.mark.fault("F07")
def test_a_worker_that_slept_through_its_claim_starts_nothing_twice(lapse: tuple[House, Callable[[], None]]) -> None:
    home, lapsed = lapse
    with held(home, ACTS) as (_, run):
        lapsed()
        home.start("worker")
        begun(home)
    until((home.folder / "done").exists, "it submits what the other one has submitted")
    went_well(home, run, home.submit(CHAIN))


@pytest.mark.fault("F07")
def test_a_worker_that_sleeps_inside_a_transaction_keeps_no_other_run_waiting(
    lapse: tuple[House, Callable[[], None]],
) -> None:
    home, _ = lapse
    with held(home, WRITES) as (_, run):
        home.start("worker")
        assert home.ended(home.submit(CHAIN)) == "SUCCEEDED"
    assert home.ended(run) == "SUCCEEDED"
    assert set(home.starts().values()) == {1}
    assert home.wrong() == []


@pytest.mark.fault("F08")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGQUIT, -signal.SIGQUIT), (signal.SIGKILL, -signal.SIGKILL)],
    ids=lambda each: each.name if isinstance(each, signal.Signals) else "",
)
def test_a_signal_in_the_middle_of_work_costs_nothing(home: House, number: signal.Signals, code: int) -> None:
    # who is started in the background of a shell inherits that SIGINT and SIGQUIT are ignored
    worker = home.start("worker", first="import signal\nsignal.signal(signal.SIGQUIT, signal.SIG_DFL)")
    runs = [home.submit(CHAIN) for _ in range(4)]
    begun(home, payloads=2)
    worker.send(number)
    until(lambda: worker.starts == 2, "the supervisor starts another one")
    went_well(home, *runs)
    assert worker.codes == [code]


@pytest.mark.fault("F08")
def test_a_second_interrupt_ends_a_worker_that_cannot_stop(home: House) -> None:
    (home.folder / "hang").touch()
    worker = home.start("worker", first=HANGS.format(folder=str(home.folder)))
    run = home.submit(CHAIN)
    until(lambda: leased(home, run), "a thread hangs in the run")
    worker.send(signal.SIGINT)
    (home.folder / "hang").unlink()
    while not worker.codes:
        worker.send(signal.SIGINT)
        time.sleep(RESTART_AFTER / 4)
    assert worker.codes == [128 + signal.SIGINT]
    went_well(home, run)


@pytest.mark.fault("F09")
def test_a_worker_whose_threads_all_hang_ends_itself_and_the_next_one_does_the_work(home: House) -> None:
    (home.folder / "hang").touch()
    worker = home.start("worker", first=QUICK + HANGS.format(folder=str(home.folder)))
    runs = [home.submit(CHAIN) for _ in range(6)]
    says(worker, "stuck: ")
    (home.folder / "hang").unlink()
    went_well(home, *runs)  # at once: the leases of a process that is no more are free
    assert worker.codes == [75]
    assert "in hangs" in worker.told()  # where every thread was


@pytest.mark.fault("F09")
def test_the_payloads_of_a_worker_that_ends_go_on(home: House) -> None:
    worker = home.start("worker")
    run = home.submit(LONG)
    begun(home)
    payload = next(p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "4"])
    worker.kill9()
    until(lambda: worker.starts == 2, "the supervisor starts another one")
    assert payload.is_running()
    hints_flow(home)
    went_well(home, run)
