"""Corners in which the simulation once found the engine wrong, each as one small story."""

from __future__ import annotations

import json

from broker_kit import CHECKPOINT, Lab, Stage, site

from broker.drill.truth import Broken, judge
from broker.store.base import AttemptSeen, EffectDone, Sightings
from sandbox.faults import Partition


def outcomes(lab: Lab, run_id: str) -> list[str]:
    return [command.outcome for command in lab.store.commands(run_id)]


def test_of_two_orders_for_one_stage_the_second_is_answered_too() -> None:
    lab = Lab(site("a"))
    run_id = lab.submit(Stage("x", "seconds=50"), Stage("y", "seconds=5"))
    lab.run_for(10)
    lab.command(run_id, "cancel", "x")
    lab.command(run_id, "cancel", "x")
    lab.finish(run_id)
    assert outcomes(lab, run_id) == ["canceled", "not possible: the stage is CANCELED"]


def test_a_failed_optional_stage_of_a_run_that_succeeded_is_not_retried() -> None:
    lab = Lab(site("a"))
    run_id = lab.submit(Stage("may", "seconds=1 exit=3", rules={"required": False}), Stage("must", "seconds=1"))
    assert lab.finish(run_id) == "SUCCEEDED"
    lab.command(run_id, "retry", "may")
    lab.run_for(5)
    assert outcomes(lab, run_id) == ["not possible: the run is SUCCEEDED"]


def test_what_is_canceled_in_the_very_look_that_would_submit_it_is_never_submitted() -> None:
    lab = Lab(site("a"))
    run_id = lab.submit(Stage("make", "seconds=5 outputs=o:1", outputs=["o"]), Stage("use", inputs=[("in", "make")]))
    lab.run_for(2, step=1.0)
    lab.sites["a"].model.inject(Partition(start=lab.clock(), end=lab.clock() + 8_000_000, capabilities=("transfer",)))
    while not lab.attempts(run_id, "use"):
        lab.step(1.0)
    attempt = lab.attempts(run_id, "use")[0]
    seen = AttemptSeen(run_id=run_id, n=attempt.n, number=1, facts={"staged": '{"ok":true}'})
    lab.store.record(Sightings(attempts=[seen]), now=lab.clock())
    lab.command(run_id, "cancel", "use")
    lab.finish(run_id)
    lab.run_for(60)
    assert lab.stage(run_id, "use").state == "CANCELED"
    assert attempt.submit_key not in lab.sites["a"].model.journal.submissions()
    assert lab.attempts(run_id, "use")[0].state == "CANCELED"


def test_the_answer_of_a_worker_whose_claim_has_lapsed_is_not_taken() -> None:
    lab = Lab(site("a"))
    run_id = lab.submit(Stage("x", "seconds=50"))
    lab.settle()
    key = lab.attempts(run_id, "x")[0].submit_key
    late = Sightings(
        effects_done=[EffectDone(key=f"submit:{key}", claim="stranger", outcome="{}")],
        attempts=[
            AttemptSeen(run_id=run_id, n=0, number=1, facts={"answer": '{"refused":"no"}'}, effect=f"submit:{key}")
        ],
    )
    lab.store.record(late, now=lab.clock())
    assert "accepted" in json.loads(lab.attempts(run_id, "x")[0].answer)
    assert lab.finish(run_id) == "SUCCEEDED"


def test_a_job_that_a_lagging_listing_does_not_show_yet_is_not_lost() -> None:
    lab = Lab(site("a", listing_lag=4.0, settle=5.0, poll=3.0))
    run_id = lab.submit(Stage("x", "seconds=50 outputs=o:1", outputs=["o"]))
    lab.finish(run_id, step=1.0)
    assert [row.state for row in lab.attempts(run_id, "x")] == ["SUCCEEDED"]


def test_a_new_copy_of_a_never_stage_waits_for_the_death_of_the_old_one_though_a_person_wants_it() -> None:
    lab = Lab(site("a"), site("b"))
    rules = {"duplicates": "never", "failover": {"max": 0, "after": 5.0}, "sites": {"prefer": ["a"]}}
    run_id = lab.submit(Stage("x", "seconds=100 checkpoint_every=20", rules={**rules, "checkpoint": CHECKPOINT}))
    lab.run_for(30)
    lab.sites["a"].model.inject(Partition(start=lab.clock(), end=lab.clock() + 300_000_000))
    lab.run_for(120)
    assert lab.stage(run_id, "x").state == "AWAITING_DECISION"
    lab.command(run_id, "retry", "x")
    lab.run_for(60)
    assert "not surely dead" in lab.stage(run_id, "x").reason
    assert lab.finish(run_id) == "SUCCEEDED"
    assert judge(lab.store, lab.sites, Broken()) == []


def test_orphans_of_a_stage_that_failed_are_ended_although_the_document_lets_them_be() -> None:
    lab = Lab(site("a"), site("b"))
    rules = {"failover": {"after": 5.0, "old_copy": "leave"}, "sites": {"prefer": ["a"]}}
    run_id = lab.submit(Stage("x", "seconds=300 fail_at=150 outputs=o:1", outputs=["o"], rules=rules))
    lab.run_for(20)
    lab.sites["a"].model.inject(Partition(start=lab.clock(), end=lab.clock() + 100_000_000))
    assert lab.finish(run_id) == "FAILED"
    lab.run_for(300)
    assert judge(lab.store, lab.sites, Broken()) == []
