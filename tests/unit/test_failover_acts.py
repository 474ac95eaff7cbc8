"""`failover.act`: never says what it would do and does nothing; ask asks, and takes each of the three answers."""

from __future__ import annotations

from typing import Any

import pytest
from broker_kit import Lab, Stage, site

from broker.clock import micros
from policies.model import Decision
from sandbox.faults import Partition


def dark(there: Lab, name: str, seconds: float) -> None:
    start = there.clock()
    there.sites[name].model.inject(Partition(start=start, end=start + micros(seconds)))


def asked(act: str, *, silent: float = 5000.0, **failover: Any) -> tuple[Lab, str]:
    """A stage at nersc, which has been silent for ten minutes, twice as long as `after`."""
    there = Lab(site("nersc"), site("alcf"), site("olcf", slots=0))
    rules = {"failover": {"act": act, **failover}, "sites": {"prefer": ["nersc"]}}
    run = there.submit(Stage("a", "seconds=1000", rules=rules))
    there.run_for(60)
    dark(there, "nersc", silent)
    there.run_for(600)
    return there, run


def decided(there: Lab, run: str, outcome: str) -> list[Decision]:
    rows = there.store.decisions(run)
    return [Decision.from_json(row.detail) for row in rows if (row.kind, row.outcome) == ("failover", outcome)]


# -- never ---------------------------------------------------------------------------------------------------


def test_never_tells_its_advice_once_and_where_it_would_go() -> None:
    there, run = asked("never")
    there.run_for(1000, step=20)
    (advice,) = decided(there, run, "advise")
    assert advice.site == "alcf"
    assert there.stage(run, "a").reason == "advise to go on at alcf: failover.act is never"
    assert len(there.attempts(run, "a")) == 1


def test_never_tells_it_again_when_the_advice_is_another_one() -> None:
    there, run = asked("never")
    there.store.set_site_mode("alcf", mode="drained", by="ann", reason="work")
    there.run_for(100)
    assert "no other site" in there.stage(run, "a").reason
    there.store.set_site_mode("alcf", mode="up", by="ann", reason="")
    there.run_for(100)
    assert len(decided(there, run, "advise")) == 2


# -- ask -----------------------------------------------------------------------------------------------------


def test_ask_stops_with_the_commands_that_answer() -> None:
    there, run = asked("ask")
    stage = there.stage(run, "a")
    assert stage.state == "AWAITING_DECISION"
    for command in (f"move {run}/a --to alcf", f"hold {run}/a", f"retry {run}/a"):
        assert f"`crossfade {command}`" in stage.reason
    assert len(decided(there, run, "ask")) == 1
    row = there.store.run(run)
    assert row is not None
    assert row.state == "RUNNING", "the copy may live"


@pytest.mark.parametrize(("kind", "args"), [("move", {"to": "alcf"}), ("retry", {})])
def test_a_person_lets_it_go(kind: str, args: dict[str, str]) -> None:
    there, run = asked("ask")
    there.command(run, kind, "a", **args)
    there.run_for(10)
    assert [row.site for row in there.attempts(run, "a")] == ["nersc", "alcf"]
    assert there.finish(run) == "SUCCEEDED"


def test_a_person_lets_it_wait_and_is_not_asked_again() -> None:
    there, run = asked("ask", silent=3000)
    there.command(run, "hold", "a")
    there.run_for(1000, step=20)
    stage = there.stage(run, "a")
    assert (stage.state, stage.reason) == ("ACTIVE", "stay: a person wants it to wait for nersc")
    assert there.finish(run, step=30) == "SUCCEEDED"
    assert [row.site for row in there.attempts(run, "a")] == ["nersc"]
    assert len(decided(there, run, "ask")) == 1
    assert there.stage(run, "a").want == ""


def test_hold_keeps_a_stage_that_would_leave_by_itself_and_release_lets_it_go() -> None:
    there, run = asked("auto", after=2000.0)
    there.command(run, "hold", "a")
    there.run_for(2000, step=20)
    assert len(there.attempts(run, "a")) == 1
    there.command(run, "release", "a")
    there.run_for(20)
    assert [row.site for row in there.attempts(run, "a")] == ["nersc", "alcf"]


def test_an_answered_wait_holds_for_one_silence_only() -> None:
    there, run = asked("ask", silent=700)
    there.command(run, "hold", "a")
    there.run_for(200)
    assert there.stage(run, "a").want == ""


def test_a_stage_whose_site_answers_cannot_be_told_to_wait_for_it() -> None:
    there = Lab(site("nersc"), site("alcf"))
    run = there.submit(Stage("a", "seconds=1000"))
    there.run_for(60)
    there.command(run, "hold", "a")
    there.run_for(5)
    (command,) = there.store.commands(run)
    assert command.outcome.startswith("not possible: only a stage whose site gives no answer")
    assert there.finish(run) == "SUCCEEDED"


def test_a_held_stage_is_still_moved_by_hand() -> None:
    there, run = asked("auto", after=2000.0)
    there.command(run, "hold", "a")
    there.run_for(20)
    there.command(run, "move", "a", to="alcf")
    there.run_for(20)
    assert [row.site for row in there.attempts(run, "a")] == ["nersc", "alcf"]


# -- urgent --------------------------------------------------------------------------------------------------


def test_urgent_work_is_submitted_elsewhere_within_two_looks_and_a_second_of_the_sure_silence() -> None:
    poll = 5.0
    there = Lab(site("nersc", poll=poll), site("alcf", poll=poll))
    rules = {"failover": {"after": 0.0}, "lane": ["urgent", "normal"], "sites": {"prefer": ["nersc"]}}
    run = there.submit(Stage("a", "seconds=1000", rules=rules))
    there.run_for(62)
    dark(there, "nersc", 10**6)
    there.run_for(120, step=0.5)
    _, second = there.attempts(run, "a")
    (silence,) = [event.at for event in there.store.events("site:nersc") if event.kind == "silent"]
    sure = silence + micros(30.0)  # three looks, and thirty seconds: the budgets of this site
    assert second.submitted_at is not None
    assert second.submitted_at - sure <= micros(2 * poll + 1)
