"""Two clocks that tick, none that does, and clocks that are an hour wrong."""

from __future__ import annotations

import pytest
from faketime_kit import SLEEPS, clock
from fault_kit import CHAIN, hints_flow, says, stopwatch, went_well
from redis_kit import RedisServer
from service_kit import House, until

from broker.clock import wall_clock

HOUR = 3600.0
SOON = 4.0
SOON_STUCK = f"""
import functools, broker.beat as beat
beat.Beat.run = functools.partialmethod(beat.Beat.run, stuck_after={SOON})
"""


@pytest.mark.fault("F18")
def test_two_beats_are_as_good_as_one_and_the_death_of_one_is_not_felt(home: House) -> None:
    home.start("worker")
    beats = [home.start("beat", "--every", "0.2", kept=False) for _ in range(2)]
    runs = [home.submit(CHAIN), home.submit(CHAIN)]
    home.gets_on("beat")
    beats[0].kill9()
    went_well(home, *runs, home.submit(CHAIN))
    assert beats[1].running is not None
    assert beats[1].running.poll() is None


@pytest.mark.fault("F18")
def test_without_a_beat_hints_that_get_lost_are_found_by_the_workers_own_sweeps(
    home: House, redis: RedisServer
) -> None:
    """A run that is stored by hand is hinted at by nobody."""
    home.start("worker", "--queues", "runs")
    home.start("worker", "--queues", "sites")
    went_well(home, home.submit(CHAIN), home.submit(CHAIN))


@pytest.mark.fault("F12")
@pytest.mark.fault("F18")
def test_a_beat_outlives_a_redis_that_is_frozen_for_longer_than_a_beat_may_be_stuck(
    home: House, redis: RedisServer
) -> None:
    beat = home.start("beat", "--every", "0.5", first=SOON_STUCK)
    home.gets_on("beat")
    redis.freeze()
    frozen = stopwatch()
    says(beat, "no tick can be sent")
    until(lambda: frozen() > 2 * SOON, "it would have ended by now")
    redis.thaw()
    home.gets_on("beat", since=wall_clock())
    assert beat.codes == []


@pytest.mark.fault("F10")
@pytest.mark.fault("F18")
def test_a_beat_outlives_a_redis_that_dies(home: House, redis: RedisServer) -> None:
    beat = home.start("beat", "--every", "0.5")
    home.gets_on("beat")
    redis.kill9()
    says(beat, "no tick can be sent")
    redis.restart()
    home.gets_on("beat", since=wall_clock())
    assert beat.codes == []


@pytest.mark.fault("F25")
@pytest.mark.parametrize("only", [-HOUR, HOUR], ids=["an hour behind", "an hour ahead"])
def test_a_worker_whose_clock_is_wrong_does_its_work(home: House, only: float) -> None:
    worker = home.start("worker", first=SLEEPS, env=clock(ahead=only))
    went_well(home, home.submit(CHAIN))
    assert worker.codes == []


@pytest.mark.fault("F25")
def test_workers_whose_clocks_are_two_hours_apart_start_nothing_twice(home: House) -> None:
    workers = [home.start("worker", first=SLEEPS, env=clock(ahead=ahead)) for ahead in (-HOUR, HOUR)]
    runs = [home.submit(CHAIN) for _ in range(4)]
    went_well(home, *runs)
    assert [worker.codes for worker in workers] == [[], []]


@pytest.mark.fault("F25")
def test_a_clock_that_is_ahead_takes_no_lease_early(home: House) -> None:
    """The run's holder is alive and slow; by the taker's clock its lease lapsed an hour ago."""
    (home.folder / "hold").touch()
    holder = home.start("worker", first=HOLDS.format(folder=str(home.folder)))
    kept = home.submit(CHAIN)
    until((home.folder / "held").exists, "a worker holds the run")
    owner = lease(home, kept)
    holder.freeze()
    home.start("worker", first=SLEEPS, env=clock(ahead=HOUR))
    other = home.submit(CHAIN)
    assert home.ended(other) == "SUCCEEDED"
    assert lease(home, kept) == owner
    (home.folder / "hold").unlink()
    holder.thaw()
    went_well(home, kept, other)


@pytest.mark.fault("F25")
def test_a_clock_that_is_ahead_forgets_no_worker_that_lives(home: House) -> None:
    right = home.start("worker")
    hints_flow(home)
    before = home.store.workers()
    ahead = home.start("worker", first=SLEEPS + TIDY, env=clock(ahead=HOUR))
    says(ahead, "has tidied")
    assert {row.name for row in before} <= {row.name for row in home.store.workers()}
    hints_flow(home)
    assert right.codes == []


HOLDS = """
import contextlib, pathlib, time, broker.store.sql as sql
folder, deciding = pathlib.Path({folder!r}), sql.SqlStore.deciding
def slowly(*args, **more):
    if (folder / "hold").exists():
        (folder / "held").touch()
        while (folder / "hold").exists():
            time.sleep(0.02)
    return deciding(*args, **more)
sql.SqlStore.deciding = slowly
"""
"""A worker that, while there is a file `hold`, keeps the lease of a run and does nothing with it."""

TIDY = """
import sys, broker.worker as worker
tidy, worker.TIDY_EVERY = worker.tidy, 0.5
def told(*args, **more):
    tidy(*args, **more)
    print("has tidied", file=sys.stderr)
worker.tidy = told
"""


def lease(home: House, run: str) -> tuple[str | None, int]:
    row = home.store.run(run)
    assert row is not None
    return row.lease_owner, row.lease_token
