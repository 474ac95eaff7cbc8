"""Two serves, three workers and two beats under random faults, then quiet: nothing lost, nothing doubled, no leak.

`--soak MINUTES` says how long the faults last (2 by default), `--seed N` plays the same faults again.
"""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest
from postgres_kit import Server
from service.soak import document, ground, held_by, told
from service_kit import until

STAGES, RUNS = 100, 20


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.fault("F47")
def test_two_thousand_stages_under_random_faults_end_as_if_nothing_had_happened(
    tmp_path: Path, own_postgres: Server, request: pytest.FixtureRequest
) -> None:
    minutes = request.config.getoption("--soak")
    seed = request.config.getoption("--seed")
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    print(f"again with --seed {seed}")  # noqa: T201 - told with a failure
    dice = random.Random(seed)
    with ground(tmp_path, own_postgres) as made:
        made.start()
        began, started = time.monotonic(), made.house.started
        ends = began + 60 * minutes
        runs: list[str] = []

        def submit() -> None:  # spread over the time of the faults
            for number in range(RUNS):
                runs.append(made.submit(document(STAGES, number, started, f"w{number}"), dice))
                time.sleep(max(0.0, began + (number + 1) * 48 * minutes / RUNS - time.monotonic()))

        submitting = threading.Thread(target=submit, daemon=True)
        submitting.start()
        # in this thread: a server lives no longer than the thread that started it
        made.hurt(random.Random(seed + 1), ends)
        submitting.join(180)
        assert len(runs) == RUNS, made.house.told()
        try:
            until(made.all_over, "every run is over", patience=600)
            until(lambda: not made.left_behind(), "nothing is left", patience=60, pause=1.0)
        except AssertionError as error:
            pytest.fail(f"{error}\n{made.left_behind()}\n{told(made)}\n{made.house.told()}")
        assert len(set(runs)) == RUNS
        states = {run: made.house.state(run) for run in runs}
        assert set(states.values()) == {"SUCCEEDED"}, (states, told(made))
        starts = made.house.starts()
        assert len(starts) == STAGES * RUNS
        assert {name: count for name, count in starts.items() if count != 1} == {}, told(made)
        assert made.house.wrong() == []
        print(told(made))  # noqa: T201 - what was borne


@pytest.mark.long
@pytest.mark.timeout(900)
def test_what_is_done_again_and_again_leaves_memory_descriptors_and_threads_as_they_were(
    tmp_path: Path, own_postgres: Server
) -> None:
    with ground(tmp_path, own_postgres) as made:
        made.start(serves=1, workers=2, beats=1)
        dice, started = random.Random(1), made.house.started

        def batch(number: int) -> None:
            run = made.submit(document(60, number, started, f"w{number}"), dice)
            assert made.house.ended(run) == "SUCCEEDED"
            made.redis.flushall()
            made.to_postgres.cut()
            made.to_redis.cut()

        for number in range(3):  # pools fill, caches warm
            batch(number)
        processes = [*made.house.processes.values()]
        before = [held_by(process) for process in processes]
        for number in range(3, 8):
            batch(number)
        after = [held_by(process) for process in processes]
        assert all(process.starts == 1 for process in processes), told(made)
        for process, then, now in zip(processes, before, after, strict=True):
            assert now.descriptors <= then.descriptors + 8, (process.name, then, now)
            assert now.threads <= then.threads + 4, (process.name, then, now)
            assert now.memory <= then.memory * 1.15 + (4 << 20), (process.name, then, now)
        until(lambda: not made.left_behind(), "nothing is left", patience=60, pause=1.0)
