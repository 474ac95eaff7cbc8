"""Hints over a transport that fails, or that nobody listens to any more."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from broker.celery_app import make_app
from broker.hints import RemoteHints
from broker.tasks import LOOK_AT_RUNS, MOST_NAMES, Wakeups, register

FOR_EVER = 1e9


@dataclass
class Transport:
    """Takes hints, unless it is down."""

    down: bool = False
    tries: list[str] = field(default_factory=list)

    def take(self, what: str) -> None:
        self.tries.append(what)
        if self.down:
            raise ConnectionError

    @property
    def wakeups(self) -> Wakeups:
        return Wakeups(
            look_at_runs=lambda _: self.take("runs"),
            look_at_site=lambda _: self.take("look"),
            act_at_site=lambda _: self.take("act"),
            move=lambda: self.take("move"),
            come_back=lambda *_: self.take("come back"),
        )


@pytest.fixture
def transport() -> Transport:
    return Transport()


def test_after_a_failure_nothing_is_tried_for_a_while(transport: Transport) -> None:
    hints = RemoteHints(transport.wakeups, dark_for=FOR_EVER)
    transport.down = True
    assert [hints.runs(["r"]), hints.look("s"), hints.act("s")] == [False, False, False]
    assert transport.tries == ["runs"]
    assert hints.dark


def test_when_that_while_is_over_whoever_comes_first_tries_again(transport: Transport) -> None:
    hints = RemoteHints(transport.wakeups, dark_for=0.0)
    transport.down = True
    assert not hints.runs(["r"])
    transport.down = False
    assert hints.look("s")
    assert not hints.dark


def test_with_a_probe_it_alone_finds_out_that_hints_can_be_sent_again(transport: Transport) -> None:
    hints = RemoteHints(transport.wakeups, probed=True, dark_for=0.0)
    transport.down = True
    assert not hints.runs(["r"])
    assert not hints.come_back("q", "x")
    transport.down = False
    assert not hints.look("s")
    assert hints.come_back("q", "x")
    assert hints.look("s")
    assert transport.tries == ["runs", "come back", "come back", "look"]


def test_what_nobody_takes_in_goes_on_its_way_and_does_not_count_as_sent(transport: Transport) -> None:
    hints = RemoteHints(transport.wakeups)
    hints.unheard = True
    assert not hints.runs(["r"])
    assert hints.come_back("q", "x")  # else nobody would learn that it is heard again
    assert transport.tries == ["runs", "come back"]


def test_a_hint_that_names_a_million_runs_holds_no_thread_for_hours() -> None:
    woken: list[str] = []

    class Engine:
        def runs_woken(self, run_ids: list[str]) -> None:
            woken.extend(run_ids)

    app = make_app()
    register(app, Engine())  # type: ignore[arg-type]
    app.tasks[LOOK_AT_RUNS]([f"r{n}" for n in range(1_000_000)])
    assert len(woken) == MOST_NAMES
