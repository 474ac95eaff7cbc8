"""A copy that was left behind is taken over again, or ended now; a person's answer is carried out; home is known."""

from __future__ import annotations

import json
from typing import Any

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site
from operator_kit import operator

from broker.audit import audit_run
from broker.clock import micros
from broker.errors import UsageError
from broker.operating.homes import home_of
from broker.operating.orphans import orphans_of
from sandbox.faults import Partition

KEPT = {"sites": {"prefer": ["alcf"]}, "failover": {"after": 60.0, "old_copy": "leave"}, "checkpoint": CHECKPOINT}


def dark(lab: Lab, name: str, seconds: float) -> None:
    now = lab.clock()
    lab.sites[name].model.inject(Partition(start=now, end=now + micros(seconds)))


def left_behind(seconds: float = 3000, *, away: float = 200, **rules: Any) -> tuple[Lab, str]:
    """A stage that was carried to nersc while alcf was dark; alcf answers again, and its copy runs on."""
    lab = Lab(site("alcf"), site("nersc"))
    run = lab.submit(Stage("a", f"seconds={seconds:g} outputs=o:4", outputs=["o"], rules={**KEPT, **rules}))
    lab.run_for(30)
    dark(lab, "alcf", away)
    lab.run_for(260, step=10)
    assert [(a.site, a.orphan, a.open) for a in lab.attempts(run, "a")] == [("alcf", 1, 1), ("nersc", 0, 1)]
    return lab, run


def outcome(lab: Lab, run: str) -> str:
    return lab.store.commands(run)[-1].outcome


def test_a_living_copy_is_the_stages_own_again_and_the_newer_one_is_ended() -> None:
    lab, run = left_behind()
    lab.command(run, "adopt", "a", attempt="1")
    lab.run_for(20)
    assert outcome(lab, run) == "attempt 1 at alcf is the stage's own again"
    first, second = lab.attempts(run, "a")
    assert (first.state, first.orphan) == ("RUNNING", 0)
    assert (second.state, second.orphan) == ("CANCELED", 1)
    assert lab.stage(run, "a").attempt == 1
    assert lab.finish(run, step=60) == "SUCCEEDED"
    (product,) = lab.store.products(run)
    assert (product.attempt, product.site, product.adopted) == (1, "alcf", 1)
    assert audit_run(lab.store, run) == []


def test_after_a_copy_was_taken_over_the_next_attempt_has_a_number_of_its_own() -> None:
    lab, run = left_behind()
    lab.command(run, "adopt", "a", attempt="1")
    lab.run_for(20)
    dark(lab, "alcf", 4000)
    lab.run_for(200, step=10)
    assert [(a.number, a.site) for a in lab.attempts(run, "a")] == [(1, "alcf"), (2, "nersc"), (3, "nersc")]
    epochs = [a.epoch for a in lab.attempts(run, "a")]
    assert epochs == sorted(set(epochs))
    assert lab.finish(run, step=60) == "SUCCEEDED"
    lab.run_for(4000, step=200)
    assert audit_run(lab.store, run) == []


def test_a_copy_at_a_dark_site_is_not_taken_over_for_nobody_knows_whether_it_lives() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = lab.submit(Stage("a", "seconds=3000", rules=KEPT))
    lab.run_for(30)
    dark(lab, "alcf", 900)
    lab.run_for(260, step=10)
    lab.command(run, "adopt", "a", attempt="1")
    lab.run_for(10)
    assert outcome(lab, run) == "not possible: alcf gives no answer, and nobody knows whether its job lives"
    assert [a.orphan for a in lab.attempts(run, "a")] == [1, 0]


@pytest.mark.parametrize("kind", ["adopt", "reap"])
@pytest.mark.parametrize(
    ("number", "words"), [("2", "attempt 2 is the stage's own"), ("7", "attempt 7 is not there, or over")]
)
def test_what_is_no_copy_left_behind_is_refused_in_a_sentence(kind: str, number: str, words: str) -> None:
    lab, run = left_behind()
    lab.command(run, kind, "a", attempt=number)
    lab.run_for(10)
    assert outcome(lab, run).startswith("not possible: ")
    assert words in outcome(lab, run)
    assert [a.state for a in lab.attempts(run, "a")] == ["RUNNING", "RUNNING"]


def test_a_copy_is_ended_now_and_that_is_confirmed_whatever_the_document_says() -> None:
    lab, run = left_behind()
    lab.command(run, "reap", "a", attempt="1")
    lab.run_for(20)
    assert outcome(lab, run).startswith("asked alcf to end it")
    assert [a.state for a in lab.attempts(run, "a")] == ["CANCELED", "RUNNING"]
    assert not [e for e in lab.sites["alcf"].model.journal.executions if e.alive]
    lab.command(run, "reap", "a", attempt="1")
    lab.run_for(10)
    assert outcome(lab, run) == "not possible: attempt 1 is not there, or over"
    assert lab.finish(run, step=60) == "SUCCEEDED"
    assert audit_run(lab.store, run) == []


def test_a_copy_at_a_dark_site_is_ended_when_it_answers() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = lab.submit(Stage("a", "seconds=9000", rules=KEPT))
    lab.run_for(30)
    dark(lab, "alcf", 600)
    lab.run_for(260, step=10)
    lab.command(run, "reap", "a", attempt="1")
    lab.run_for(10)
    assert outcome(lab, run).endswith("alcf gives no answer, and is asked until it does")
    lab.command(run, "reap", "a", attempt="1")
    lab.run_for(10)
    assert outcome(lab, run) == "alcf was asked before, and has not confirmed it yet"
    lab.run_for(600, step=20)
    assert [a.state for a in lab.attempts(run, "a")] == ["CANCELED", "RUNNING"]


def test_two_operators_at_once_one_takes_it_over_and_the_other_is_told() -> None:
    lab, run = left_behind()
    lab.command(run, "adopt", "a", attempt="1")
    lab.command(run, "reap", "a", attempt="1")
    lab.run_for(30)
    first, second = (c.outcome for c in lab.store.commands(run))
    assert first == "attempt 1 at alcf is the stage's own again"
    assert second == "not possible: attempt 1 is the stage's own: cancel or move the stage"
    assert lab.finish(run, step=60) == "SUCCEEDED"
    assert audit_run(lab.store, run) == []


def test_copies_that_were_left_behind_are_listed_for_all_runs() -> None:
    lab, run = left_behind()
    (view,) = orphans_of(operator(lab))
    assert (view["attempt"], view["site"], view["state"]) == (f"{run}/a@1", "alcf", "RUNNING")
    assert orphans_of(operator(lab), run) == [view]


def test_the_word_is_in_the_runs_chain_with_the_person_and_the_reason() -> None:
    lab, run = left_behind()
    service = operator(lab, "ann")
    service.command("reap", f"{run}/a", reason="it disturbs others", args={"attempt": "1"})
    lab.run_for(20)
    (event,) = [e for e in lab.store.events(run) if e.kind == "reap"]
    assert event.actor == "ann"
    (decision,) = [d for d in lab.store.decisions(run) if (d.kind, d.outcome) == ("command", "reap")]
    assert "reap by ann: it disturbs others" in json.loads(decision.detail)["reasons"][0][2]


# -- home --------------------------------------------------------------------------------------------------------


def test_home_is_what_the_document_prefers_else_where_the_stage_began() -> None:
    lab = Lab(site("alcf"), site("nersc", facility="lbl"), site("olcf"))
    run = lab.submit(
        Stage("liked", "seconds=900", rules={"sites": {"prefer": ["nowhere", "lbl"], "deny": ["nersc"]}}),
        Stage("began", "seconds=900", rules={"sites": {"allow": ["olcf", "alcf"]}}),
        Stage("later", needs=["liked"]),
    )
    lab.run_for(20)
    rows = {stage.path: stage for stage in lab.store.stages(run)}
    homes = {path: home_of(row, lab.store.attempts(run), lab.configs) for path, row in rows.items()}
    assert homes["liked"] == "nersc"
    assert homes["began"] == lab.attempts(run, "began")[0].site
    assert homes["later"] == ""
    with pytest.raises(UsageError, match="later began nowhere, and its document prefers no site"):
        operator(lab).command("move", run, args={"to": "home"})


def test_a_stage_that_was_carried_away_is_moved_home() -> None:
    lab, run = left_behind()
    assert [a.site for a in lab.attempts(run, "a")] == ["alcf", "nersc"]
    operator(lab).command("move", f"{run}/a", args={"to": "home"})
    lab.run_for(60)
    assert lab.attempts(run, "a")[-1].site == "alcf"
    assert lab.attempts(run, "a")[-1].number == 3
