"""A clock that follows another one: its time, told by one's own stopwatch."""

from __future__ import annotations

from broker.clock import SECOND, FollowingClock


class Machine:
    """A stopwatch in nanoseconds, and a clock elsewhere that is asked over a slow line."""

    def __init__(self) -> None:
        self.watch, self.there, self.line = 5_000_000_000, 1_000 * SECOND, 0.0

    def elapsed(self) -> int:
        return self.watch

    def passes(self, seconds: float) -> None:
        self.watch += round(seconds * 1e9)
        self.there += round(seconds * SECOND)

    def ask(self) -> int:
        self.passes(self.line / 2)
        told = self.there
        self.passes(self.line / 2)
        return told


def test_it_tells_the_time_of_there_without_asking_again() -> None:
    machine = Machine()
    clock = FollowingClock(machine.ask, elapsed=machine.elapsed)
    machine.passes(90)
    assert clock() == machine.there


def test_the_way_of_question_and_answer_is_taken_into_account() -> None:
    machine = Machine()
    machine.line = 0.5
    clock = FollowingClock(machine.ask, elapsed=machine.elapsed)
    assert abs(clock() - machine.there) <= 1


def test_it_follows_when_there_the_clock_was_set() -> None:
    machine = Machine()
    clock = FollowingClock(machine.ask, elapsed=machine.elapsed)
    machine.there += 3600 * SECOND
    clock.follow()
    assert clock() == machine.there
