"""Who finds that nothing gets through to it any more ends; who cannot tell waits."""

from __future__ import annotations

import pytest
from broker_kit import fresh_store

from broker.clock import VirtualClock
from broker.heart import DEAF_AFTER, FRESH, Heart, Pulse, is_fresh, own_queue, who_works
from broker.store.base import StoreBusy


class Watch:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def pulse(watch: Watch) -> Pulse:
    return Pulse(stuck_after=60.0, elapsed=watch)


def later(watch: Watch, pulse: Pulse, seconds: float) -> None:
    """Time passes, and the sweeper gets on."""
    watch.now += seconds
    pulse.swept()


def test_what_is_sent_and_never_comes_back_means_stuck(watch: Watch, pulse: Pulse) -> None:
    pulse.sent(ok=True)
    later(watch, pulse, 59)
    assert not pulse.why_stuck
    later(watch, pulse, 2)
    assert "none was taken in" in pulse.why_stuck


def test_it_counts_from_the_first_that_is_missing(watch: Watch, pulse: Pulse) -> None:
    for _ in range(13):
        pulse.sent(ok=True)
        later(watch, pulse, 5)
    assert pulse.why_stuck


def test_one_that_comes_back_stands_for_those_that_were_lost_before(watch: Watch, pulse: Pulse) -> None:
    for _ in range(30):
        pulse.sent(ok=True)
        later(watch, pulse, 50)
        pulse.came_back()
    assert not pulse.why_stuck


@pytest.mark.fault("F12")
def test_a_transport_that_takes_nothing_is_no_reason_to_end(watch: Watch, pulse: Pulse) -> None:
    pulse.sent(ok=True)
    for _ in range(100):
        later(watch, pulse, 5)
        pulse.sent(ok=False)
    assert not pulse.why_stuck


@pytest.mark.fault("F09")
def test_a_sweeper_that_stays_at_one_thing_means_stuck(watch: Watch, pulse: Pulse) -> None:
    watch.now += 61
    assert "sweeper" in pulse.why_stuck
    pulse.swept()
    assert not pulse.why_stuck


def test_a_sweeper_that_has_moved_lately_sweeps(watch: Watch, pulse: Pulse) -> None:
    watch.now += DEAF_AFTER
    assert pulse.sweeping
    watch.now += 0.1
    assert not pulse.sweeping
    pulse.swept()
    assert pulse.sweeping


def test_a_sign_of_life_is_not_yet_one_of_progress() -> None:
    clock = VirtualClock()
    store = fresh_store(clock, lambda _: 1)
    heart = Heart(store, name="w", kind="worker", queues=["runs"], clock=clock)
    heart.beat()
    assert who_works(store, clock=clock) == []
    heart.beat(progress=True)
    assert [row.name for row in who_works(store, clock=clock)] == ["w"]
    clock.advance(FRESH + 1)
    heart.beat()
    assert who_works(store, clock=clock) == []
    (row,) = store.workers()
    assert row.seen_at == clock()
    assert not is_fresh(row, clock())
    store.close()


def test_a_store_that_does_not_answer_ends_nobody(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock()
    store = fresh_store(clock, lambda _: 1)
    heart = Heart(store, name="w", kind="worker", clock=clock)

    def busy(_row: object) -> None:
        raise StoreBusy("not now")

    store.heartbeat = busy  # type: ignore[method-assign]
    heart.beat(progress=True)
    assert "not now" in caplog.text
    store.close()


def test_every_process_has_a_queue_of_its_own() -> None:
    assert own_queue("1@a:b:c") != own_queue("1@a:b:d")
    assert len(own_queue("x" * 500)) < 40
