"""What an attempt saved last of all is what the next one goes on from."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site

from broker.clock import micros
from broker.store.base import AttemptRow
from sandbox.faults import Partition, Preemption

SIM = "seconds=600 checkpoint_every=100 checkpoint_notice=10 outputs=o:10"


def lab(*others: str) -> tuple[Lab, str]:
    """A stage that saves itself every 100 s, and when it is told to stop."""
    there = Lab(*(site(name, requeue_delay=600.0) for name in ("a", *others)))
    ask = {"kind": "signal", "value": "USR1", "before_end": 60.0}
    rules = {"checkpoint": {**CHECKPOINT, "ask": ask}, "sites": {"prefer": ["a"]}, "retry": {"site_fault": 3}}
    return there, there.submit(Stage("long", SIM, outputs=["o"], rules=rules))


def told_to_stop(there: Lab, run: str, *, at: float) -> None:
    """The job is preempted after so many seconds of running, and has a minute to save itself."""
    until(there, lambda: [row for row in attempts(there, run) if row.state == "RUNNING"])
    start = there.clock() + micros(at)
    there.sites["a"].model.inject(Preemption(start=start, count=1, notice=60.0, requeue=False))
    there.run_for(at)


def until(there: Lab, holds: Callable[[], object]) -> None:
    """Let time pass until that is so."""
    for _ in range(2000):
        if holds():
            return
        there.step(1.0)
    raise AssertionError("it never came to that")


def attempts(there: Lab, run: str) -> list[AttemptRow]:
    return list(there.store.attempts(run))


def tear(there: Lab, checkpoint: str) -> list[str]:
    """Let the job write that checkpoint, and spoil its files before anybody looks."""
    site = there.sites["a"]
    for _ in range(120):
        there.clock.advance(1.0)
        site.probe()  # the site goes on in its own time
        files = [path for path, _ in site.model.disk.files_below("runs") if f"ckpt/{checkpoint}/files/" in path]
        if files:
            for path in files:
                site.model.disk.write(path, b"torn", there.clock())
            return files
    return []


def checks(there: Lab, run: str) -> Collection[str]:
    return [effect.state for effect in there.store.effects(run) if effect.kind == "check"]


def test_a_stage_goes_on_from_what_it_saved_when_it_was_told_to_stop() -> None:
    there, run = lab()
    told_to_stop(there, run, at=270)
    assert there.finish(run) == "SUCCEEDED"
    first, second = attempts(there, run)
    newest = max(row.seq for row in there.store.checkpoints(run) if row.attempt == 1)
    assert json.loads(second.restore)["seq"] == newest
    assert newest == 3, "two at their times, and the one that it made on being told"
    assert (second.created_at - (first.ended_at or 0)) / 1e6 < 10, "no longer than the check takes"


def test_an_end_orders_the_check_once() -> None:
    there, run = lab()
    told_to_stop(there, run, at=270)
    assert there.finish(run) == "SUCCEEDED"
    keys = [effect.key for effect in there.store.effects(run) if effect.kind == "check"]
    assert len(keys) == len(set(keys))
    assert set(checks(there, run)) == {"done"}


def test_a_last_checkpoint_that_is_torn_is_not_used_and_the_one_before_is() -> None:
    there, run = lab()
    told_to_stop(there, run, at=270)
    assert tear(there, "000003")
    assert there.finish(run) == "SUCCEEDED"
    second = attempts(there, run)[1]
    assert json.loads(second.restore)["seq"] == 2


@pytest.mark.parametrize("silent", [30.0, 4000.0])
def test_a_site_that_cannot_be_asked_for_the_check_keeps_nobody_waiting_for_long(silent: float) -> None:
    there, run = lab("b")
    told_to_stop(there, run, at=270)
    until(there, lambda: attempts(there, run)[0].state == "PREEMPTED")
    now = there.clock()
    there.sites["a"].model.inject(Partition(start=now, end=now + micros(silent)))
    ended = attempts(there, run)[0].ended_at or 0
    until(there, lambda: len(attempts(there, run)) > 1)
    assert (attempts(there, run)[1].created_at - ended) / 1e6 <= 120
