"""Who is told of what happens to a run: once, by the decision that it tells of, and when it is over."""

from __future__ import annotations

import json

from alert_kit import alerts, submit
from broker_kit import Lab, Stage, site

from broker.clock import micros
from sandbox.faults import Partition

OPS = "command:page"
EVERYTHING = ("started", "moved", "needs_person", "deadline_at_risk", "deadline_missed", "failed", "done")


def kinds(lab: Lab) -> list[str]:
    return [row.kind for row in alerts(lab)]


def texts(lab: Lab, kind: str) -> list[str]:
    return [json.loads(row.body)["text"] for row in alerts(lab, kind)]


def test_a_run_that_goes_well_tells_that_it_started_and_is_done() -> None:
    lab = Lab(site("nersc"))
    run = submit(lab, Stage("a", "seconds=30"), notify=[(OPS, EVERYTHING)])
    assert lab.finish(run) == "SUCCEEDED"
    assert kinds(lab) == ["started", "done"]
    assert texts(lab, "done") == [f"run {run} (test): done: every stage has its product"]


def test_a_run_has_started_when_its_first_stage_has_a_place_and_not_before() -> None:
    lab = Lab(site("nersc", slots=1))
    lab.submit(Stage("first", "seconds=250"))
    lab.run_for(10)
    run = submit(lab, Stage("a", "seconds=5"), Stage("b", "seconds=5", needs=["a"]), notify=[(OPS, ["started"])])
    lab.run_for(100)
    assert alerts(lab) == []
    assert lab.finish(run) == "SUCCEEDED"
    assert texts(lab, "started") == [f"run {run} (test): has started: a at nersc"]


def test_nobody_is_told_of_what_he_did_not_ask_for() -> None:
    lab = Lab(site("nersc"))
    run = submit(lab, Stage("a", "seconds=30"), notify=[(OPS, ["failed"])])
    assert lab.finish(run) == "SUCCEEDED"
    assert alerts(lab) == []


def test_the_first_stage_that_fails_a_run_is_told_and_the_others_are_not() -> None:
    lab = Lab(site("nersc"))
    run = submit(lab, Stage("a", "seconds=5 exit=3"), Stage("b", "seconds=50 exit=3"), notify=[(OPS, EVERYTHING)])
    assert lab.finish(run) == "FAILED"
    assert kinds(lab) == ["started", "failed"]
    assert "stage a: failed" in texts(lab, "failed")[0]


def test_a_run_that_a_person_cancels_is_no_failure_to_be_told_of() -> None:
    lab = Lab(site("nersc"))
    run = submit(lab, Stage("a", "seconds=500"), notify=[(OPS, EVERYTHING)])
    lab.run_for(20)
    lab.command(run, "cancel")
    assert lab.finish(run) == "CANCELED"
    assert kinds(lab) == ["started"]


def test_a_stage_that_is_carried_elsewhere_is_told_with_where_it_is_now() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = submit(lab, Stage("a", "seconds=2000", rules={"sites": {"prefer": ["nersc"]}}), notify=[(OPS, ["moved"])])
    lab.run_for(20)
    now = lab.clock()
    lab.sites["nersc"].model.inject(Partition(start=now, end=now + micros(4000)))
    assert lab.finish(run) == "SUCCEEDED"
    assert texts(lab, "moved") == [f"run {run} (test) stage a: goes on at alcf (failover)"]


def asks(lab: Lab) -> str:
    """A run whose stage waits for a person."""
    rules = {"sites": {"prefer": ["nersc"]}, "failover": {"act": "ask", "after": 60.0}}
    run = submit(lab, Stage("a", "seconds=300", rules=rules), notify=[(OPS, EVERYTHING), ("mailto:a@b.org", ["done"])])
    lab.run_for(20)
    now = lab.clock()
    lab.sites["nersc"].model.inject(Partition(start=now, end=now + micros(600)))
    lab.run_for(300)
    assert lab.stage(run, "a").state == "AWAITING_DECISION"
    return run


def test_a_person_who_must_act_is_told_once_by_the_broker_however_often_it_looks() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    asks(lab)
    lab.run_for(120)
    (row,) = alerts(lab, "needs_person")
    assert (row.stands, row.repeats, row.over_at) == (1, 1, None)
    body = json.loads(row.body)
    assert "waits for a person" in body["text"]
    assert body["help"].startswith("crossfade explain told-1/a")


def test_it_is_over_when_the_site_answers_and_the_same_question_later_is_another_notice() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = asks(lab)
    lab.run_for(600)
    (row,) = alerts(lab, "needs_person")
    assert row.over_at is not None
    assert "nobody needs to act any more" in row.over_why
    assert lab.finish(run) == "SUCCEEDED"


def test_the_end_of_a_run_ends_what_stood() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = asks(lab)
    lab.command(run, "cancel")
    assert lab.finish(run) == "CANCELED"
    (row,) = alerts(lab, "needs_person")
    assert row.over_at is not None


def test_the_installation_is_told_of_every_run() -> None:
    lab = Lab(site("nersc"), notify=[("command:ops", ["done"])])
    for _ in range(2):
        assert lab.finish(submit(lab, Stage("a", "seconds=5"))) == "SUCCEEDED"
    assert [(row.run_id, row.address) for row in alerts(lab)] == [("told-1", "command:ops"), ("told-2", "command:ops")]


def test_the_same_notice_has_the_same_name_at_another_installation_of_the_same_id_only() -> None:
    rows = []
    for seed in (1, 1, 2):
        lab = Lab(site("nersc"), seed=seed)
        lab.finish(submit(lab, Stage("a", "seconds=5"), notify=[(OPS, ["done"])]))
        rows += alerts(lab)
    assert rows[0].id == rows[1].id != rows[2].id
    assert all(len(row.id) == 14 for row in rows)


# -- deadlines -------------------------------------------------------------------------------------------------


def events(lab: Lab, run: str) -> list[str]:
    return [event.kind for event in lab.store.events(run) if event.kind.startswith("deadline")]


def walltime(seconds: float) -> dict[str, object]:
    return {"resources": {"walltime": seconds}}


def test_a_deadline_that_is_kept_is_never_spoken_of() -> None:
    lab = Lab(site("nersc"))
    run = submit(lab, Stage("a", "seconds=100", rules=walltime(200.0)), notify=[(OPS, EVERYTHING)], within=600.0)
    assert lab.finish(run) == "SUCCEEDED"
    assert (events(lab, run), kinds(lab)) == ([], ["started", "done"])
    (row,) = lab.store.deadlines(run)
    assert (row.state, row.due_at) == ("over", None)


def test_a_deadline_is_at_risk_from_the_moment_when_what_is_left_does_not_fit_any_more() -> None:
    """The only place is taken for longer than there is time for 150 s of walltime."""
    lab = Lab(site("nersc", slots=1))
    lab.submit(Stage("first", "seconds=250"))
    lab.run_for(10)
    run = submit(lab, Stage("a", "seconds=20", rules=walltime(150.0)), notify=[(OPS, EVERYTHING)], within=300.0)
    began = lab.clock()
    while not events(lab, run) and lab.clock() - began < micros(400):
        lab.step(1.0)
    assert 150.0 <= (lab.clock() - began) / 1e6 <= 156.0
    assert events(lab, run) == ["deadline_at_risk"]
    assert lab.finish(run, step=1.0) == "SUCCEEDED"
    assert events(lab, run)[:1] == ["deadline_at_risk"]
    assert len(alerts(lab, "deadline_at_risk")) == 1
    assert alerts(lab, "deadline_at_risk")[0].over_at is not None
    assert "a is expected to end" in texts(lab, "deadline_at_risk")[0]


def test_a_missed_deadline_is_told_once_and_the_run_goes_on() -> None:
    lab = Lab(site("nersc"))
    run = submit(lab, Stage("a", "seconds=400"), notify=[(OPS, EVERYTHING)], within=60.0)
    assert lab.finish(run) == "SUCCEEDED"
    assert events(lab, run) == ["deadline_missed"]
    assert "it goes on" in texts(lab, "deadline_missed")[0]


def test_a_run_ends_at_its_deadline_where_the_document_says_so() -> None:
    lab = Lab(site("nersc"))
    run = submit(
        lab,
        Stage("a", "seconds=4000"),
        Stage("b", needs=["a"]),
        notify=[(OPS, EVERYTHING)],
        within=60.0,
        on_miss="cancel",
    )
    began = lab.clock()
    assert lab.finish(run) == "CANCELED"
    assert (lab.clock() - began) / 1e6 < 80.0
    row = lab.store.run(run)
    assert row is not None
    assert row.reason.startswith("canceled by its deadline: 60 s were given")
    assert "it is canceled" in texts(lab, "deadline_missed")[0]


def test_a_stage_ends_at_its_own_deadline_and_the_others_go_on() -> None:
    lab = Lab(site("nersc"))
    late = Stage("late", "seconds=4000", rules={"required": False})
    run = submit(lab, late, Stage("b", "seconds=300"), notify=[(OPS, EVERYTHING)], of_stages=[(0, 60.0, "cancel")])
    assert lab.finish(run) == "SUCCEEDED"
    assert lab.stage(run, "late").state == "CANCELED"
    assert lab.stage(run, "late").reason == "canceled by its deadline, which has passed"
    assert [a.state for a in lab.attempts(run, "late")] == ["CANCELED"]


def test_time_that_counts_from_ready_begins_when_the_stage_is_ready() -> None:
    lab = Lab(site("nersc"))
    rule = {"deadline": {"within": 50.0, "from": "ready", "on_miss": "continue"}}
    run = submit(lab, Stage("a", "seconds=300"), Stage("b", "seconds=100", needs=["a"], rules=rule), within=5000.0)
    assert lab.finish(run) == "SUCCEEDED"
    of_b = next(row for row in lab.store.deadlines(run) if row.n == 1)
    assert of_b.since == lab.stage(run, "b").ready_at
    assert of_b.at == of_b.since + micros(50)
    assert of_b.state == "missed"


def test_a_site_that_falls_silent_puts_a_deadline_at_risk_before_anything_else_happens() -> None:
    """The job had 100 s left and 300 s of time; failover comes after 300 s of silence."""
    lab = Lab(site("nersc"), site("alcf"))
    stage = Stage("a", "seconds=120", rules={"sites": {"prefer": ["nersc"]}, **walltime(150.0)})
    run = submit(lab, stage, notify=[(OPS, EVERYTHING)], within=320.0)
    lab.run_for(20)
    now = lab.clock()
    lab.sites["nersc"].model.inject(Partition(start=now, end=now + micros(4000)))
    lab.run_for(90)
    assert events(lab, run) == ["deadline_at_risk"]
    assert lab.finish(run) == "SUCCEEDED"
    assert events(lab, run) == ["deadline_at_risk", "deadline_missed"]
    (row,) = alerts(lab, "deadline_at_risk")
    assert (row.over_at is not None, row.over_why) == (True, "")  # that it was missed is told instead
