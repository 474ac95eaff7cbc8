"""Draining a run: one worker at a time, nothing lost that wakes it meanwhile, nothing kept of a stale decision."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from broker_kit import Lab, Stage, site
from simulation.seams import Call
from store_kit import TTL, apply

from broker.clock import micros
from broker.drain import ASK_FOR_ROOM, LEASE_SECONDS, LIMIT, Drained
from broker.store.base import Changes, LeaseLost, StaleRow, StoreBusy


class At:
    """Does something once, before the first call of a verb."""

    def __init__(self, of: str, verb: str, do: Callable[[], None]) -> None:
        self._of, self._verb, self._do = of, verb, do
        self.done = False

    def before(self, call: Call) -> None:
        if not self.done and (call.of, call.verb) == (self._of, self._verb):
            self.done = True
            self._do()

    def after(self, call: Call) -> None:
        pass


def lab_with(*stages: Stage, **options: Any) -> tuple[Lab, str]:
    lab = Lab(site("nersc", **options))
    return lab, lab.submit(*(stages or (Stage("a", "seconds=5"),)))


# -- who drains ----------------------------------------------------


def test_a_run_is_drained_by_one_worker_at_a_time() -> None:
    lab, run = lab_with()
    other = lab.new_broker()
    met: list[Drained | None] = []
    first = lab.new_broker(hook=At("site:nersc", "submit", lambda: met.append(other.go_on(run))))
    assert first.go_on(run) is not None
    assert met == [None]
    assert len(lab.executions()) == 1


def test_another_run_is_drained_meanwhile() -> None:
    lab, run = lab_with()
    second = lab.submit(Stage("b", "seconds=5"))
    met: list[Drained | None] = []
    broker = lab.new_broker(hook=At("site:nersc", "submit", lambda: met.append(broker.go_on(second))))
    broker.go_on(run)
    assert met[0] is not None
    assert len(lab.attempts(second, "b")) == 1


def test_a_wake_up_in_the_middle_of_a_drain_is_not_lost() -> None:
    """Two threads of one worker: the second cannot drain now, but what it knew of may have come too late to be seen."""
    lab, run = lab_with()
    met: list[Drained | None] = []
    broker = lab.new_broker(hook=At("store", "release", lambda: met.append(broker.go_on(run))))
    drained = broker.go_on(run)
    assert met == [None]
    assert drained == Drained(busy=True)  # to be woken again
    assert broker.go_on(run) == Drained(busy=False)  # which is enough once


def test_a_wake_up_from_another_thread_is_not_lost_either() -> None:
    lab, run = lab_with()
    inside, let_go = threading.Event(), threading.Event()
    answers: list[Drained | None] = []

    def wait() -> None:
        inside.set()
        assert let_go.wait(10)

    broker = lab.new_broker(hook=At("site:nersc", "submit", wait))
    thread = threading.Thread(target=lambda: answers.append(broker.go_on(run)))
    thread.start()
    assert inside.wait(10)
    assert broker.go_on(run) is None
    let_go.set()
    thread.join(10)
    assert [drained.busy for drained in answers if drained] == [True]


def test_a_run_that_failed_in_the_store_can_be_drained_again() -> None:
    lab, run = lab_with()

    def busy() -> None:
        raise StoreBusy("locked by another writer")

    broker = lab.new_broker(hook=At("decision", "commit", busy))
    with pytest.raises(StoreBusy):
        broker.go_on(run)
    assert lab.attempts(run, "a") == []
    drained = broker.go_on(run)
    assert drained is not None
    assert len(lab.attempts(run, "a")) == 1


def test_a_run_is_due_at_once_after_a_drain_that_failed() -> None:
    lab, run = lab_with()

    def busy() -> None:
        raise StoreBusy("locked by another writer")

    with pytest.raises(StoreBusy):
        lab.new_broker(hook=At("decision", "commit", busy)).go_on(run)
    assert lab.store.due_runs(now=lab.clock(), limit=10, resend_after=0.0) == [run]


# -- stale workers ----------------------------------------------------


def test_what_was_claimed_for_a_decision_that_failed_is_there_for_others_at_once() -> None:
    lab, run = lab_with(Stage("a", "seconds=5"))
    lab.sites["nersc"].model.ordain("reply_lost")  # a submission in doubt: tried again by a later drain
    lab.broker.go_on(run)
    (effect,) = [effect for effect in lab.store.effects(run) if effect.state == "pending"]
    lab.clock.advance(30.0)

    def busy() -> None:
        raise StoreBusy("somebody else writes")

    with pytest.raises(StoreBusy):
        lab.new_broker("other", hook=At("decision", "snapshot", busy)).go_on(run)
    again = lab.store.effect(effect.key)
    assert again is not None
    assert again.claim == ""
    assert again.due_at is not None
    assert again.due_at <= lab.clock() + micros(10.0)
    assert lab.finish(run) == "SUCCEEDED"
    assert len(lab.executions()) == 1


def test_a_worker_whose_lease_was_taken_over_decides_nothing() -> None:
    lab, run = lab_with()

    def sleep_too_long() -> None:
        lab.clock.advance(LEASE_SECONDS + 1)
        assert lab.new_broker("usurper").go_on(run) is not None

    sleepy = lab.new_broker("sleepy", hook=At("store", "deciding", sleep_too_long))
    drained = sleepy.go_on(run)
    assert drained is not None
    assert len(lab.attempts(run, "a")) == len(lab.executions()) == 1
    assert lab.store.effects(run)[0].claim != "sleepy"


def test_a_lease_lost_between_decision_and_commit_keeps_nothing() -> None:
    lab, run = lab_with()
    token = lab.store.acquire(run, owner="sleepy", ttl=TTL)
    assert token is not None
    lab.clock.advance(TTL + 1)
    taken = lab.store.acquire(run, owner="usurper", ttl=TTL)
    assert taken is not None
    with pytest.raises(LeaseLost), lab.store.deciding(token, ttl=TTL) as tx:
        tx.snapshot(now=lab.clock(), limit=10, room=lambda _: 4)
    assert not lab.store.release(token, due_at=None)


def test_a_decision_about_a_row_that_changed_since_is_refused_whole() -> None:
    lab, run = lab_with(Stage("a", "seconds=50"), Stage("b", "seconds=50"))
    lab.settle()
    old = lab.stage(run, "a")
    apply(lab.store, Changes(stages=[old._replace(reason="first")]), now=lab.clock(), run_id=run)
    stale = Changes(stages=[lab.stage(run, "b")._replace(reason="second"), old._replace(reason="second")])
    with pytest.raises(StaleRow):
        apply(lab.store, stale, now=lab.clock(), run_id=run)
    assert [s.reason for s in lab.store.stages(run)] == ["first", ""]


# -- when it stops, and what it costs ----------------------------------------------------


def test_a_quiet_run_is_left_alone() -> None:
    lab, run = lab_with()
    assert lab.broker.go_on(run) == Drained(busy=False)
    before = lab.store.counts.commits
    assert lab.broker.go_on(run) == Drained(busy=False)
    # the lease, an empty decision, and the lease given back
    assert lab.store.counts.commits - before <= 3


def test_a_drain_whose_time_is_up_asks_to_be_woken_again() -> None:
    lab = Lab(site("nersc", poll=0.0))
    run = lab.submit(*[Stage(f"s{n}", needs=[f"s{n - 1}"] if n else []) for n in range(50)])
    drained = lab.broker.go_on(run, budget=0.0)
    assert drained is not None
    assert drained.busy
    assert lab.store.due_runs(now=lab.clock(), limit=10, resend_after=0.0) == [run]
    assert lab.finish(run) == "SUCCEEDED"


def test_a_run_that_lacks_room_asks_again_by_itself() -> None:
    lab, run = lab_with(*[Stage(f"s{n}", "seconds=50") for n in range(9)], slots=4)
    drained = lab.broker.go_on(run)
    assert drained == Drained(busy=False, due_at=lab.clock() + ASK_FOR_ROOM)
    assert len(lab.store.open_attempts("nersc")) == 4


def test_a_batch_is_decided_in_one_transaction_and_submitted_in_one_call() -> None:
    calls: list[str] = []

    class Count:
        def before(self, call: Call) -> None:
            calls.append(f"{call.of}.{call.verb}")

        def after(self, call: Call) -> None:
            pass

    lab, run = lab_with(*[Stage(f"s{n}", "seconds=50") for n in range(100)], slots=100)
    lab.new_broker(hook=Count()).go_on(run)
    assert calls.count("site:nersc.submit") == 1
    # one that places all, one that takes in all answers; a quiet third may end it
    assert calls.count("decision.commit") <= 3
    assert lab.store.run(run).open_attempts == 100


def test_more_stages_than_one_round_looks_at_are_all_placed() -> None:
    total = LIMIT * 2 + 5
    lab, run = lab_with(*[Stage(f"s{n}", "seconds=50") for n in range(total)], slots=total)
    while (drained := lab.broker.go_on(run)) is not None and drained.busy:
        pass
    assert len(lab.store.open_attempts("nersc")) == total


def test_what_a_dead_worker_had_claimed_is_performed_by_the_next() -> None:
    lab, run = lab_with()

    class Died(Exception):
        pass

    def die() -> None:
        raise Died

    with pytest.raises(Died):
        lab.new_broker("dead", hook=At("site:nersc", "submit", die)).go_on(run)
    assert lab.store.break_leases(lambda owner: owner == "dead") >= 1
    assert lab.finish(run) == "SUCCEEDED"
    assert len(lab.executions()) == 1


def test_without_being_told_the_next_worker_waits_for_the_claim_to_lapse() -> None:
    lab, run = lab_with()

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.new_broker("dead", hook=At("site:nersc", "submit", die)).go_on(run)
    started = lab.clock()
    assert lab.finish(run, step=1) == "SUCCEEDED"
    assert lab.clock() - started >= micros(lab.broker.world.claim_seconds)
