"""The engine over simulated sites: what follows when things go well, and when they do not."""

from __future__ import annotations

import json

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, rules, site

from broker.clock import micros
from broker.engine.expand import AddedStage
from policies.model import Decision
from sandbox.faults import ComputeDown, Partition, Preemption, Refusing, StuckQueue

HOUR = 3600.0


def dark(lab: Lab, name: str, seconds: float) -> None:
    """The site's front end gives no answer from now on; its jobs live on."""
    now = lab.clock()
    lab.sites[name].model.inject(Partition(start=now, end=now + micros(seconds)))


def decisions(lab: Lab, run: str, path: str, kind: str) -> list[Decision]:
    rows = lab.store.decisions(run, lab.stage(run, path).n)
    return [Decision.from_json(row.detail) for row in rows if row.kind == kind]


def kinds(lab: Lab, run: str) -> list[str]:
    return [event.kind for event in lab.store.events(run)]


# -- going well ----------------------------------------------------------------------------------------------


def test_stages_run_once_and_after_what_they_need() -> None:
    lab = Lab(site("nersc"))
    run = lab.submit(Stage("a", "seconds=30"), Stage("b", "seconds=30", needs=["a"]), Stage("c", needs=["a", "b"]))
    assert lab.finish(run) == "SUCCEEDED"
    starts = [e.job.spec.comment.split()[2] for e in lab.executions()]
    assert starts == [f"{run}/a@1", f"{run}/b@1", f"{run}/c@1"]


def test_a_product_names_the_winning_attempt_and_its_files() -> None:
    lab = Lab(site("nersc"))
    run = lab.submit(Stage("a", "seconds=1 outputs=x.txt:10,d/y:3", outputs=["x.txt", "d/"]))
    assert lab.finish(run) == "SUCCEEDED"
    (product,) = lab.store.products(run)
    assert (product.attempt, product.site, product.adopted) == (1, "nersc", 0)
    assert [(f[0], f[1]) for f in json.loads(product.manifest)["files"]] == [("d/y", 3), ("x.txt", 10)]


def test_inputs_arrive_before_the_stage_that_takes_them_starts() -> None:
    lab = Lab(site("nersc", slots=1), site("alcf", slots=1))
    run = lab.submit(
        Stage("make", "seconds=5 outputs=x.txt:10", outputs=["x.txt"]),
        Stage("take", "seconds=5", inputs=[("x.txt", "make")], rules={"sites": {"deny": ["alcf"]}}),
        Stage("far", "seconds=5", inputs=[("x.txt", "make")], rules={"sites": {"deny": ["nersc"]}}),
    )
    assert lab.finish(run) == "SUCCEEDED"
    for path, at in (("take", "nersc"), ("far", "alcf")):
        (attempt,) = lab.attempts(run, path)
        assert attempt.site == at
        assert len(lab.sites[at].read(f"{attempt.directory}/x.txt")) == 10


def test_a_site_never_gets_more_than_its_places() -> None:
    lab = Lab(site("nersc", slots=3))
    run = lab.submit(*[Stage(f"s{i}", "seconds=60") for i in range(10)])
    lab.settle()
    assert len(lab.store.open_attempts("nersc")) == 3
    assert lab.finish(run, step=10) == "SUCCEEDED"
    assert lab.clock() - lab.store.run(run).created_at >= micros(240)


def test_two_runs_share_a_full_site() -> None:
    lab = Lab(site("nersc", slots=4))
    first = lab.submit(*[Stage(f"s{i}", "seconds=100") for i in range(40)])
    lab.settle()
    second = lab.submit(*[Stage(f"t{i}", "seconds=100") for i in range(4)])
    lab.run_for(350, step=5)
    assert lab.finish(second, step=10) == "SUCCEEDED"
    assert lab.state(first) == "RUNNING"


def test_preference_beats_emptiness() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = lab.submit(*[Stage(f"s{i}", "seconds=10", rules={"sites": {"prefer": ["nersc"]}}) for i in range(3)])
    lab.settle()
    assert {a.site for a in lab.store.attempts(run)} == {"nersc"}


def test_a_drained_site_gets_nothing_new_and_keeps_what_it_has() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = lab.submit(
        Stage("a", "seconds=60", rules={"sites": {"prefer": ["alcf"]}}),
        Stage("b", "seconds=60", needs=["a"], rules={"sites": {"prefer": ["alcf"]}}),
    )
    lab.settle()
    lab.store.set_site_mode("alcf", mode="drained", by="op", reason="maintenance")
    assert lab.finish(run) == "SUCCEEDED"
    assert [lab.attempts(run, p)[0].site for p in "ab"] == ["alcf", "nersc"]


# -- whose fault it was -----------------------------------------------------------------------------------------


def test_a_payload_that_fails_is_not_carried_elsewhere() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(Stage("a", "seconds=1 exit=3"), Stage("b", needs=["a"]), Stage("c", "seconds=5"))
    assert lab.finish(run) == "FAILED"
    states = {s.path: s.state for s in lab.store.stages(run)}
    assert states == {"a": "FAILED", "b": "SKIPPED", "c": "SUCCEEDED"}
    assert [(a.number, a.failure) for a in lab.attempts(run, "a")] == [(1, "application")]


def test_an_optional_stage_that_fails_fails_nothing() -> None:
    lab = Lab(site("nersc"))
    run = lab.submit(
        Stage("a", "exit=1 outputs=x:1", outputs=["x"], rules={"required": False}),
        Stage("turn", needs=["a"]),
        Stage("files", inputs=[("x", "a")]),
    )
    assert lab.finish(run) == "SUCCEEDED"
    states = {s.path: s.state for s in lab.store.stages(run)}
    assert states == {"a": "FAILED", "turn": "SUCCEEDED", "files": "SKIPPED"}


def test_a_fault_of_the_site_sends_the_next_attempt_elsewhere() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    now = lab.clock()
    lab.sites["alcf"].model.inject(Refusing(start=now, end=now + micros(HOUR), reason="bad account"))
    run = lab.submit(Stage("a", "seconds=1", rules={"sites": {"prefer": ["alcf"]}}))
    assert lab.finish(run) == "SUCCEEDED"
    assert [(a.site, a.state) for a in lab.attempts(run, "a")] == [("alcf", "FAILED"), ("nersc", "SUCCEEDED")]


def test_faults_of_sites_are_not_retried_for_ever() -> None:
    lab = Lab(site("nersc"))
    now = lab.clock()
    lab.sites["nersc"].model.inject(Refusing(start=now, end=now + micros(10 * HOUR)))
    run = lab.submit(Stage("a"))
    assert lab.finish(run) == "FAILED"
    assert len(lab.attempts(run, "a")) == 1 + rules()["retry"]["site_fault"]


def test_an_exit_code_can_mean_retry() -> None:
    lab = Lab(site("nersc"))
    run = lab.submit(Stage("a", "exit=33", rules={"retry": {"exit_codes": {"33": "retry"}}}))
    assert lab.finish(run) == "FAILED"
    assert len(lab.attempts(run, "a")) == 4


def test_more_memory_doubles_what_is_asked_for() -> None:
    lab = Lab(site("nersc", memory=1 << 34))
    asked = {"resources": {"memory": 1 << 30}, "retry": {"exit_codes": {"137": "more_memory"}}}
    run = lab.submit(Stage("a", "exit=137", rules=asked))
    assert lab.finish(run) == "FAILED"
    assert [e.job.spec.resources.memory for e in lab.executions()] == [1 << 30, 1 << 31, 1 << 32]


def test_a_job_that_will_never_start_is_taken_away_and_started_elsewhere() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    now = lab.clock()
    lab.sites["alcf"].model.inject(StuckQueue(start=now, end=now + micros(HOUR)))
    run = lab.submit(Stage("a", "seconds=5", rules={"sites": {"prefer": ["alcf"]}}))
    assert lab.finish(run) == "SUCCEEDED"
    first, second = lab.attempts(run, "a")
    assert (first.site, second.site) == ("alcf", "nersc")
    lab.run_for(60)
    assert not lab.store.open_attempts("alcf")


def test_preemption_costs_no_retry_and_goes_on_from_the_checkpoint() -> None:
    lab = Lab(site("nersc", requeue_delay=60))
    run = lab.submit(
        Stage("a", "seconds=1000 checkpoint_every=100", rules={"checkpoint": CHECKPOINT, "duplicates": "never"})
    )
    lab.run_for(450)
    now = lab.clock()
    lab.sites["nersc"].model.inject(Preemption(start=now + micros(10), notice=30))
    assert lab.finish(run) == "SUCCEEDED"
    stage = lab.stage(run, "a")
    assert stage.site_retries == 0
    assert [bool(a.restore) for a in lab.attempts(run, "a")] == [False, True]


def test_the_time_limit_ends_a_segment_and_the_next_one_goes_on() -> None:
    lab = Lab(site("nersc"))
    wanted = {
        "resources": {"walltime": 300},
        "checkpoint": CHECKPOINT,
        "continue": {"on": ["time_limit"], "max": 10, "no_progress": 2},
    }
    run = lab.submit(Stage("a", "seconds=1000 checkpoint_every=50", rules=wanted))
    assert lab.finish(run) == "SUCCEEDED"
    attempts = lab.attempts(run, "a")
    assert {a.why for a in attempts[1:]} == {"continuation"}
    assert len(attempts) <= 5


def test_segments_without_progress_end_the_stage() -> None:
    lab = Lab(site("nersc"))
    wanted = {"resources": {"walltime": 100}, "continue": {"on": ["time_limit"], "max": 10, "no_progress": 2}}
    run = lab.submit(Stage("a", "seconds=1000", rules=wanted))
    assert lab.finish(run) == "FAILED"
    assert len(lab.attempts(run, "a")) == 2


# -- silence ----------------------------------------------------------------------------------------------------


def checkpointed(**changes: object) -> dict[str, object]:
    return {"checkpoint": CHECKPOINT, "sites": {"prefer": ["nersc"]}, **changes}


def test_an_unreachable_stage_is_not_failed_and_takes_its_state_up_again() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(Stage("a", "seconds=400", rules=checkpointed()))
    lab.run_for(100)
    dark(lab, "nersc", 200)
    lab.run_for(100)
    (attempt,) = lab.attempts(run, "a")
    assert attempt.state == "RUNNING"
    assert attempt.unreachable_since is not None
    assert lab.finish(run) == "SUCCEEDED"
    (attempt,) = lab.attempts(run, "a")
    assert (attempt.state, attempt.unreachable_since) == ("SUCCEEDED", None)


def test_after_long_silence_the_stage_goes_on_elsewhere_from_the_shipped_checkpoint() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(Stage("a", "seconds=2000 checkpoint_every=100", rules=checkpointed()))
    lab.run_for(1030)
    dark(lab, "nersc", 100 * HOUR)
    assert lab.finish(run) == "SUCCEEDED"
    first, second = lab.attempts(run, "a")
    assert (first.orphan, first.open, second.site) == (1, 1, "alcf")
    assert json.loads(second.restore)["seq"] == 10
    (move,) = [d for d in decisions(lab, run, "a", "failover") if d.outcome == "move"]
    assert [r.rule for r in move.reasons] == ["silence", "after", "elsewhere", "duplicates"]


def test_a_copy_left_behind_is_ended_when_its_site_answers_again() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(Stage("a", "seconds=4000 checkpoint_every=100", rules=checkpointed()))
    lab.run_for(500)
    dark(lab, "nersc", 600)
    lab.run_for(900)
    first, second = lab.attempts(run, "a")
    assert (first.state, first.open) == ("CANCELED", 0)
    assert second.open
    assert lab.finish(run) == "SUCCEEDED"


@pytest.mark.parametrize(("befalls", "ends"), [("request_lost", "FAILED"), ("reply_lost", "SUCCEEDED")])
def test_what_became_of_a_submission_in_doubt_is_found_out_although_its_stage_went_elsewhere(
    befalls: str, ends: str
) -> None:
    """Else the place that it may take would be taken for ever where old copies are let run on."""
    lab = Lab(site("nersc", slots=1), site("alcf", slots=1))
    policy = {"failover": {"after": 60.0, "old_copy": "drain"}, "sites": {"prefer": ["nersc"]}}
    run = lab.submit(Stage("a", "seconds=900", rules=policy))
    lab.sites["nersc"].model.ordain(befalls)
    lab.sites["nersc"].model.inject(Partition(start=lab.clock() + micros(1), end=lab.clock() + micros(300)))
    lab.run_for(200)
    assert [(row.site, row.state) for row in lab.attempts(run, "a")] == [("nersc", "SUBMITTING"), ("alcf", "RUNNING")]
    lab.run_for(150)
    left, _ = lab.attempts(run, "a")
    assert (left.state, left.open) == (("FAILED", 0) if befalls == "request_lost" else ("RUNNING", 1))
    assert lab.finish(run) == "SUCCEEDED"
    assert lab.attempts(run, "a")[0].state == ends


def test_a_copy_left_behind_that_finished_first_wins_and_the_other_is_ended() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(Stage("a", "seconds=1000 outputs=x:10", outputs=["x"], rules=checkpointed()))
    lab.run_for(100)
    dark(lab, "nersc", 1000)
    assert lab.finish(run) == "SUCCEEDED"
    lab.run_for(60)
    (product,) = lab.store.products(run)
    assert (product.attempt, product.adopted) == (1, 1)
    assert [a.state for a in lab.attempts(run, "a")] == ["SUCCEEDED", "SUPERSEDED"]


def test_without_a_shipped_checkpoint_the_stage_starts_from_the_beginning() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    wanted = checkpointed(checkpoint={**CHECKPOINT, "ship": "never"})
    run = lab.submit(Stage("a", "seconds=1000 checkpoint_every=100", rules=wanted))
    lab.run_for(500)
    dark(lab, "nersc", 100 * HOUR)
    assert lab.finish(run) == "SUCCEEDED"
    (choice,) = decisions(lab, run, "a", "checkpoint")
    assert choice.outcome == "from_start"
    assert any("cannot be read" in reason.fact for reason in choice.reasons)


def test_duplicates_never_waits_until_the_old_copy_is_surely_dead() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    wanted = checkpointed(duplicates="never", resources={"walltime": 3600})
    run = lab.submit(Stage("a", "seconds=3000", rules=wanted))
    lab.run_for(100)
    dark(lab, "nersc", 1000 * HOUR)
    lab.run_for(20 * HOUR, step=600)
    assert len(lab.attempts(run, "a")) == 1
    assert lab.finish(run, step=600) == "SUCCEEDED"
    first, second = lab.attempts(run, "a")
    assert second.created_at > first.stop_before


def test_duplicates_ask_waits_for_a_person() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(Stage("a", "seconds=5000", rules=checkpointed(duplicates="ask")))
    lab.run_for(100)
    dark(lab, "nersc", 1000)
    lab.run_for(600)
    assert lab.stage(run, "a").state == "AWAITING_DECISION"
    lab.command(run, "move", "a", to="alcf")
    lab.run_for(10)
    assert [a.site for a in lab.attempts(run, "a")] == ["nersc", "alcf"]


def test_the_question_falls_away_when_the_site_answers_again() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(Stage("a", "seconds=2000", rules=checkpointed(duplicates="ask")))
    lab.run_for(100)
    dark(lab, "nersc", 1000)
    lab.run_for(600)
    assert lab.stage(run, "a").state == "AWAITING_DECISION"
    assert lab.finish(run) == "SUCCEEDED"
    assert len(lab.attempts(run, "a")) == 1


def test_act_never_decides_and_prints_but_does_not_move() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(Stage("a", "seconds=2000", rules=checkpointed(failover={"act": "never"})))
    lab.run_for(100)
    dark(lab, "nersc", 1000)
    lab.run_for(800)
    assert len(lab.attempts(run, "a")) == 1
    assert any(d.outcome == "advise" for d in decisions(lab, run, "a", "failover"))


def test_a_stage_does_not_wander_for_ever() -> None:
    lab = Lab(site("nersc"), site("alcf"), site("olcf"))
    run = lab.submit(Stage("a", "seconds=90000", rules=checkpointed(failover={"max": 1})))
    lab.run_for(100)
    dark(lab, "nersc", 100 * HOUR)
    lab.run_for(600)
    dark(lab, lab.attempts(run, "a")[1].site, 100 * HOUR)
    lab.run_for(600)
    assert lab.stage(run, "a").state == "AWAITING_DECISION"
    assert len(lab.attempts(run, "a")) == 2


def test_all_sites_dark_loses_nothing() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(*[Stage(f"s{i}", "seconds=500 checkpoint_every=50", rules=checkpointed()) for i in range(4)])
    lab.run_for(100)
    for name in lab.sites:
        dark(lab, name, 2 * HOUR)
    lab.run_for(HOUR, step=15)
    assert lab.state(run) == "RUNNING"
    assert all(len(lab.attempts(run, f"s{i}")) == 1 for i in range(4))
    assert lab.finish(run, step=15) == "SUCCEEDED"


def test_nodes_that_fail_send_the_stage_elsewhere_from_its_checkpoint() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(Stage("a", "seconds=1000 checkpoint_every=100", rules=checkpointed(duplicates="never")))
    lab.run_for(550)
    now = lab.clock()
    lab.sites["nersc"].model.inject(ComputeDown(start=now, end=now + micros(10 * HOUR)))
    assert lab.finish(run) == "SUCCEEDED"
    first, second = lab.attempts(run, "a")
    assert (first.failure, second.site, json.loads(second.restore)["seq"]) == ("site", "alcf", 5)


# -- people -----------------------------------------------------------------------------------------------------


def test_a_canceled_run_ends_its_jobs_and_publishes_nothing() -> None:
    lab = Lab(site("nersc"))
    run = lab.submit(Stage("a", "seconds=1000"), Stage("b", needs=["a"]))
    lab.run_for(100)
    lab.command(run, "cancel")
    assert lab.finish(run) == "CANCELED"
    lab.run_for(60)
    assert not lab.store.open_attempts("nersc")
    assert not lab.store.products(run)
    assert {s.state for s in lab.store.stages(run)} == {"CANCELED"}


def test_a_held_run_starts_nothing_until_it_is_released() -> None:
    lab = Lab(site("nersc"))
    run = lab.submit(Stage("a", "seconds=10"), Stage("b", "seconds=10", needs=["a"]))
    lab.settle()
    lab.command(run, "hold")
    lab.run_for(100)
    assert [s.state for s in lab.store.stages(run)] == ["SUCCEEDED", "READY"]
    lab.command(run, "release")
    assert lab.finish(run) == "SUCCEEDED"


def test_a_run_that_ended_while_it_was_held_can_be_released_and_then_retried() -> None:
    lab = Lab(site("nersc"))
    run = lab.submit(Stage("a", "seconds=20 exit=3"))
    lab.run_for(5)
    lab.command(run, "hold")
    assert lab.finish(run) == "FAILED"
    lab.command(run, "release")
    lab.run_for(5)
    lab.command(run, "retry", "a")
    lab.run_for(10)
    assert (len(lab.attempts(run, "a")), lab.store.run(run).held) == (2, 0)


def test_a_failed_stage_can_be_retried_with_what_it_skipped() -> None:
    lab = Lab(site("nersc"))
    now = lab.clock()
    lab.sites["nersc"].model.inject(Refusing(start=now, end=now + micros(HOUR)))
    run = lab.submit(Stage("a"), Stage("b", needs=["a"]), Stage("c", needs=["b"]))
    assert lab.finish(run) == "FAILED"
    lab.run_for(HOUR, step=60)
    lab.command(run, "retry", "a")
    assert lab.finish(run) == "SUCCEEDED"
    assert lab.store.run(run).failed == 0


def test_an_operator_moves_a_running_stage_with_its_checkpoint() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(Stage("a", "seconds=1000 checkpoint_every=100", rules=checkpointed(duplicates="never")))
    lab.run_for(450)
    lab.command(run, "move", "a", to="alcf")
    assert lab.finish(run) == "SUCCEEDED"
    first, second = lab.attempts(run, "a")
    assert (first.state, second.site, second.why) == ("CANCELED", "alcf", "move")
    assert json.loads(second.restore)["seq"] >= 4
    assert first.ended_at <= second.created_at


def test_what_cannot_be_done_is_said_and_changes_nothing() -> None:
    lab = Lab(site("nersc"))
    run = lab.submit(Stage("a"))
    assert lab.finish(run) == "SUCCEEDED"
    for kind in ("cancel", "retry", "move"):
        lab.command(run, kind, "a", to="nersc")
    lab.run_for(10)
    assert all("not possible" in c.outcome for c in lab.store.commands(run))
    assert lab.state(run) == "SUCCEEDED"


# -- growing ----------------------------------------------------------------------------------------------------


def added(name: str, *needs: str) -> AddedStage:
    stage = Stage(name, "seconds=5")
    return AddedStage(name=name, needs=needs, rules=json.dumps(rules()), body=json.dumps(stage.body()), digest=name)


def test_a_stage_can_add_stages_while_its_run_goes_on() -> None:
    lab = Lab(site("nersc"))
    run = lab.submit(Stage("plan", "seconds=100"), Stage("end", needs=["plan"]))
    lab.run_for(20)
    for _ in range(2):  # adding the same again changes nothing
        assert lab.broker.add_stages(run, "plan", [added("one"), added("two", "one")])
    assert lab.finish(run) == "SUCCEEDED"
    assert [s.path for s in lab.store.stages(run)] == ["plan", "end", "plan/one", "plan/two"]
    two, one = (lab.attempts(run, f"plan/{name}")[0] for name in ("two", "one"))
    assert two.created_at >= one.ended_at


# -- telling ----------------------------------------------------------------------------------------------------


def test_every_attempt_has_a_decision_that_placed_it() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(*[Stage(f"s{i}", "seconds=5") for i in range(5)])
    lab.finish(run)
    placed = {(d.n, d.attempt) for d in lab.store.decisions(run) if (d.kind, d.outcome) == ("placement", "place")}
    assert placed == {(a.n, a.number) for a in lab.store.attempts(run)}


def test_the_same_wait_is_told_once() -> None:
    lab = Lab(site("nersc"))
    dark(lab, "nersc", HOUR)
    lab.broker.look("nersc")
    run = lab.submit(Stage("a"))
    lab.run_for(600)
    assert kinds(lab, run).count("waits") <= 2
    assert lab.state(run) == "WAITING"
    assert lab.finish(run) == "SUCCEEDED"


@pytest.mark.parametrize("n", [30, 300])
def test_a_chain_costs_at_most_four_commits_a_stage(n: int) -> None:
    lab = Lab(site("nersc", poll=0.0))
    run = lab.submit(*[Stage(f"s{i}", needs=[f"s{i - 1}"] if i else []) for i in range(n)])
    before = lab.store.counts.commits
    assert lab.finish(run) == "SUCCEEDED"
    assert (lab.store.counts.commits - before) / n <= 4


def test_many_stages_at_once_cost_at_most_two_commits_each_and_far_fewer_in_fact() -> None:
    lab = Lab(site("nersc", poll=0.0, slots=512))
    run = lab.submit(*[Stage(f"s{i}") for i in range(500)])
    before = lab.store.counts.commits
    assert lab.finish(run) == "SUCCEEDED"
    assert (lab.store.counts.commits - before) / 500 <= 0.2


def test_a_held_run_is_not_carried_elsewhere() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = lab.submit(Stage("a", "seconds=2000", rules=checkpointed()))
    lab.run_for(100)
    lab.command(run, "hold")
    dark(lab, "nersc", 1000)
    lab.run_for(900)
    assert len(lab.attempts(run, "a")) == 1
    assert any(reason.rule == "held" for d in decisions(lab, run, "a", "failover") for reason in d.reasons)
    assert lab.finish(run) == "SUCCEEDED"
