"""A site is evacuated, or closed: what is there saves itself, goes elsewhere, and that nothing is left is confirmed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_kit import open_face
from broker_kit import CHECKPOINT, Lab, Stage, site
from operator_kit import operator

from broker.clock import micros
from broker.errors import NotFound, RefusedByPolicy, UsageError
from broker.operating.freezes import Freeze, Freezes
from broker.operating.leaving import Leavings, line, lines
from broker.operating.planning import plan
from broker.operating.windows import Announcement, Windows
from broker.views import when
from policies.model import Decision
from sandbox.faults import Partition

HOUR = 3600.0
LIKED = {"sites": {"prefer": ["alcf"]}}
ASKED = {**CHECKPOINT, "ship": "auto", "ask": {"kind": "file", "value": "save"}}


def leavings(lab: Lab, name: str = "ann") -> Leavings:
    return Leavings(operator(lab, name))


def running(lab: Lab, sim: str = "seconds=3000", **rules: Any) -> str:
    run = lab.submit(Stage("a", sim, rules={**LIKED, **rules}))
    lab.run_for(60)
    assert [a.state for a in lab.attempts(run, "a")] == ["RUNNING"]
    return run


def decisions(lab: Lab, run: str, kind: str = "leaving") -> list[Decision]:
    return [Decision.from_json(row.detail) for row in lab.store.decisions(run) if row.kind == kind]


def dark(lab: Lab, name: str, seconds: float) -> None:
    now = lab.clock()
    lab.sites[name].model.inject(Partition(start=now, end=now + micros(seconds)))


# -- evacuate ----------------------------------------------------------------------------------------------------


def test_what_can_save_itself_is_asked_first_and_goes_on_elsewhere_from_there() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = running(lab, checkpoint=ASKED)
    leavings(lab).evacuate("alcf", reason="cooling fails")
    lab.run_for(120)
    first, second = lab.attempts(run, "a")
    assert (first.state, second.site, second.why) == ("CANCELED", "nersc", "move")
    assert first.asked_at is not None
    assert json.loads(second.restore)["attempt"] == 1
    assert decisions(lab, run)[0].outcome == "ask"
    last = decisions(lab, run)[-1]
    assert (last.outcome, last.reasons[0].rule) == ("leave", "evacuate")
    assert "ann evacuates alcf: cooling fails" in last.reasons[0].fact
    assert lab.finish(run, step=60) == "SUCCEEDED"
    work = sum((e.ended_at - e.started_at) / 1e6 for e in lab.executions())
    assert work < 3000 + 60  # what was done at the first site was not done again


def test_a_payload_that_does_not_save_itself_is_waited_for_ten_minutes_and_no_longer() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = running(lab, "seconds=3000 deaf=1", checkpoint=ASKED)
    leavings(lab).evacuate("alcf", reason="x")
    lab.run_for(590, step=20)
    assert len(lab.attempts(run, "a")) == 1
    lab.run_for(60, step=20)
    assert [a.site for a in lab.attempts(run, "a")] == ["alcf", "nersc"]
    assert any(r.rule == "saving" and r.verdict == "for" for r in decisions(lab, run)[-1].reasons)


def test_what_has_no_checkpoint_is_moved_all_the_same_and_it_is_said_what_is_lost() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = running(lab)
    leavings(lab).evacuate("alcf", reason="x")
    lab.run_for(30)
    assert [a.site for a in lab.attempts(run, "a")] == ["alcf", "nersc"]
    assert "of work are lost" in decisions(lab, run)[-1].reasons[-1].fact


def test_a_stage_that_nobody_else_can_take_stays_until_somebody_can() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    lab.store.set_site_mode("nersc", mode="drained", by="op", reason="x")
    run = running(lab)
    leavings(lab).evacuate("alcf", reason="x")
    lab.run_for(300, step=20)
    assert [a.state for a in lab.attempts(run, "a")] == ["RUNNING"]
    assert "no other site could take it now" in lab.stage(run, "a").reason
    operator(lab).resume_site("nersc", reason="")
    lab.run_for(60)
    assert [a.site for a in lab.attempts(run, "a")] == ["alcf", "nersc"]


def test_it_goes_where_the_operator_wants_it() -> None:
    lab = Lab(site("alcf"), site("nersc"), site("olcf"))
    run = running(lab, sites={"prefer": ["alcf", "nersc", "olcf"]})
    leavings(lab).evacuate("alcf", reason="x", to="olcf")
    lab.run_for(30)
    assert [a.site for a in lab.attempts(run, "a")] == ["alcf", "olcf"]


def test_nothing_new_starts_there_until_it_is_resumed() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    leavings(lab).evacuate("alcf", reason="cooling fails")
    assert lab.finish(lab.submit(Stage("a", "seconds=5", rules=LIKED), run_id="one")) == "SUCCEEDED"
    assert [a.site for a in lab.attempts("one", "a")] == ["nersc"]
    refused = [r for r in decisions(lab, "one", "placement")[0].reasons if r.site == "alcf"]
    assert refused[0].fact == "alcf is drained: evacuating by ann: cooling fails"
    operator(lab).resume_site("alcf", reason="cool again")
    assert lab.finish(lab.submit(Stage("a", "seconds=5", rules=LIKED), run_id="two")) == "SUCCEEDED"
    assert [a.site for a in lab.attempts("two", "a")] == ["alcf"]


def test_a_freeze_on_moves_keeps_an_evacuation_back_and_a_new_one_is_refused_with_its_words() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = running(lab)
    Freezes(operator(lab, "bob")).on(Freeze(on="moves", reason="wait for me", seconds=HOUR))
    with pytest.raises(RefusedByPolicy, match=r"bob froze moves until .*: wait for me"):
        leavings(lab).evacuate("alcf", reason="x")
    lab.store.set_site_mode("alcf", mode="evacuating", by="ann", reason="x")
    lab.run_for(300, step=20)
    assert len(lab.attempts(run, "a")) == 1
    assert decisions(lab, run)[-1].reasons[-1].rule == "freeze.moves"
    Freezes(operator(lab, "bob")).off("moves", site="", reason="")
    lab.run_for(30)
    assert [a.site for a in lab.attempts(run, "a")] == ["alcf", "nersc"]


def test_a_second_evacuation_is_told_of_the_first_and_progress_is_shown() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    lab.store.set_site_mode("nersc", mode="drained", by="op", reason="x")
    run = running(lab)
    assert leavings(lab).evacuate("alcf", reason="x")["new"]
    second = leavings(lab, "bob").evacuate("alcf", reason="y")
    assert (second["new"], second["by"], second["left"]) == (False, "ann", 1)
    assert second["attempts"][0]["attempt"] == f"{run}/a@1"  # type: ignore[index]
    assert "being evacuated by ann" in line(second)
    assert operator(lab).site("alcf")["leaving"]["left"] == 1  # type: ignore[index]
    assert len(lines(operator(lab))) == 1


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ({"reason": ""}, UsageError, "say why"),
        ({"to": "alcf"}, UsageError, "to itself"),
        ({"to": "zz"}, NotFound, "no site 'zz'"),
        ({"name": "zz"}, NotFound, "no site 'zz'"),
    ],
)
def test_what_is_no_evacuation_is_refused_in_a_sentence(
    said: dict[str, str], error: type[Exception], words: str
) -> None:
    lab = Lab(site("alcf"), site("nersc"))
    with pytest.raises(error, match=words):
        leavings(lab).evacuate(**{"name": "alcf", "reason": "x", **said})
    assert lines(operator(lab)) == []


# -- close -------------------------------------------------------------------------------------------------------


def test_everything_at_a_closed_site_is_ended_and_confirmed_and_a_person_says_what_follows() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = running(lab)
    leavings(lab).close("alcf", reason="they asked us to stop")
    lab.run_for(60)
    assert [a.state for a in lab.attempts(run, "a")] == ["CANCELED"]
    stage = lab.stage(run, "a")
    assert stage.state == "AWAITING_DECISION"
    assert "ann closed alcf: they asked us to stop" in stage.reason
    assert leavings(lab).progress("alcf")["clear_at"] is not None
    told = [(e.kind, e.actor) for e in lab.store.events("site:alcf") if e.kind in ("site_mode", "site_clear")]
    assert told == [("site_mode", "ann"), ("site_clear", "closer")]
    lab.command(run, "retry", "a")
    lab.run_for(10)
    assert [a.site for a in lab.attempts(run, "a")] == ["alcf", "nersc"]


def test_its_stages_go_on_elsewhere_where_that_is_asked_for() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = running(lab)
    leavings(lab).close("alcf", reason="x", then="elsewhere")
    assert lab.finish(run, step=60) == "SUCCEEDED"
    assert [a.site for a in lab.attempts(run, "a")] == ["alcf", "nersc"]


def test_orphans_and_jobs_that_no_row_knows_are_ended_too() -> None:
    lab, other = Lab(site("alcf"), site("nersc")), Lab(site("alcf"))
    run = running(lab, failover={"after": 60.0, "old_copy": "leave"})
    dark(lab, "alcf", 300)
    lab.run_for(320, step=20)
    assert [(a.site, a.orphan) for a in lab.attempts(run, "a")] == [("alcf", 1), ("nersc", 0)]
    stranger = other.submit(Stage("lost", "seconds=90000"), run_id="stranger")
    other.sites["alcf"] = other.broker.sites["alcf"] = lab.sites["alcf"]
    spec = _spec_of(other, stranger)
    lab.sites["alcf"].submit([spec])
    alive = [e for e in lab.sites["alcf"].model.journal.executions if e.alive]
    assert len(alive) >= 1
    leavings(lab).close("alcf", reason="x")
    lab.run_for(120)
    assert not [e for e in lab.sites["alcf"].model.journal.executions if e.alive]
    (event,) = [e for e in lab.store.events("site:alcf") if e.kind == "strangers_ended"]
    assert json.loads(event.data)["keys"] == [spec.key]
    assert leavings(lab).progress("alcf")["clear_at"] is not None
    assert lab.state(run) == "RUNNING"  # the copy elsewhere goes on


def _spec_of(lab: Lab, run: str) -> Any:
    """What would be submitted for that run's only stage."""
    from broker.engine.start import start
    from broker.jobs import Job, job_spec

    (stage,) = lab.store.stages(run)
    begun = start(lab.broker.world, stage, site="alcf", why="first", restore=None, walltime=None, now=lab.clock())
    return job_spec(lab.broker.world, Job(stage=stage, attempt=begun.attempt))


def test_a_closed_site_that_is_dark_is_confirmed_when_it_answers_and_nothing_moves_before() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = running(lab, failover={"after": 60.0})
    dark(lab, "alcf", 600)
    leavings(lab).close("alcf", reason="x")
    lab.run_for(580, step=20)
    assert [a.site for a in lab.attempts(run, "a")] == ["alcf"]
    assert leavings(lab).progress("alcf")["clear_at"] is None
    assert decisions(lab, run, "failover")[-1].reasons[-1].rule == "closed"
    lab.run_for(120)
    assert leavings(lab).progress("alcf")["clear_at"] is not None
    assert lab.stage(run, "a").state == "AWAITING_DECISION"


def test_a_closed_site_is_not_evacuated_and_a_second_close_is_told_of_the_first() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    assert leavings(lab).close("alcf", reason="x")["new"]
    assert not leavings(lab, "bob").close("alcf", reason="y")["new"]
    with pytest.raises(RefusedByPolicy, match="closed by ann: x"):
        leavings(lab).evacuate("alcf", reason="x")
    with pytest.raises(UsageError, match="wait or elsewhere"):
        leavings(lab).close("alcf", reason="x", then="whatever")
    with pytest.raises(UsageError, match="say why"):
        leavings(lab).close("alcf", reason="")


# -- ahead of a maintenance --------------------------------------------------------------------------------------


def announce(lab: Lab, begins: float, ends: float) -> None:
    now = lab.clock()
    said = Announcement(site="alcf", begins=now + micros(begins), ends=now + micros(ends), reason="cooling")
    Windows(operator(lab)).add(said)


def test_before_a_maintenance_running_work_saves_itself_and_goes_on_elsewhere() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = running(lab, "seconds=9000", checkpoint=ASKED)
    announce(lab, 2 * HOUR, 8 * HOUR)
    begins = lab.clock() + micros(2 * HOUR)
    lab.run_for(2 * HOUR - 900, step=60)
    assert [a.asked_at for a in lab.attempts(run, "a")] == [None]
    lab.run_for(900, step=10)
    first, second = lab.attempts(run, "a")
    assert first.asked_at is not None
    assert first.ended_at < begins
    assert second.site == "nersc"
    assert json.loads(second.restore)["attempt"] == 1


def test_what_ends_before_the_maintenance_by_its_time_limit_is_left_in_peace() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = running(lab, "seconds=3000", checkpoint=ASKED, resources={"walltime": 3500.0})
    announce(lab, 1.5 * HOUR, 8 * HOUR)
    assert lab.finish(run, step=30) == "SUCCEEDED"
    (attempt,) = lab.attempts(run, "a")
    assert attempt.asked_at is None


def test_a_maintenance_that_is_sooner_over_than_a_copy_arrives_is_waited_for() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = running(lab, "seconds=9000", checkpoint=ASKED)
    announce(lab, HOUR, HOUR + 1)
    lab.run_for(HOUR - 30, step=20)
    assert len(lab.attempts(run, "a")) == 1
    assert lab.attempts(run, "a")[0].asked_at is not None
    assert any(r.rule == "sooner" for d in decisions(lab, run) for r in d.reasons)


def test_what_has_no_checkpoint_is_not_given_up_before_a_maintenance() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = running(lab, "seconds=9000")
    announce(lab, HOUR, 8 * HOUR)
    lab.run_for(HOUR - 20, step=20)
    assert [a.state for a in lab.attempts(run, "a")] == ["RUNNING"]
    assert "it has no checkpoint to go on from" in lab.stage(run, "a").reason


def test_a_plan_says_what_a_maintenance_would_do_and_changes_nothing() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = lab.submit(
        Stage("saves", "seconds=9000", rules={**LIKED, "checkpoint": ASKED}),
        Stage("loses", "seconds=9000", rules={**LIKED, "resources": {"nodes": 1, "walltime": 9500.0}}),
        Stage("short", "seconds=900", rules={**LIKED, "resources": {"walltime": 1000.0}}),
        Stage("bound", "seconds=9000", rules={"sites": {"allow": ["alcf"]}, "checkpoint": ASKED}),
    )
    lab.run_for(60)
    now, events = lab.clock(), len(lab.store.events(run))
    said = Announcement(site="alcf", begins=now + micros(HOUR), ends=now + micros(8 * HOUR), reason="x")
    view: Any = plan(operator(lab), said)
    what = {one["attempt"].split("/")[1]: one["what"] for one in view["attempts"]}
    assert what == {"saves@1": "moves", "loses@1": "starts_again", "short@1": "ends_before", "bound@1": "waits"}
    assert (view["runs"], view["moves"], view["waits"], view["ends_before"]) == (1, 1, 1, 1)
    assert view["ends"] == when(said.ends)
    saves = view["attempts"][0]
    assert saves["to"] == "nersc"
    assert saves["node_hours_again"] < 0.1
    loses = next(one for one in view["attempts"] if "loses" in one["attempt"])
    assert loses["node_hours_again"] == pytest.approx(1.0, abs=0.05)
    assert len(lab.store.events(run)) == events
    assert lab.store.notices.newest() == []
    with pytest.raises(NotFound):
        plan(operator(lab), replace(said, site="zz"))


# -- over HTTP ---------------------------------------------------------------------------------------------------


def test_a_site_is_left_and_taken_into_use_again_over_http(tmp_path: Path) -> None:
    with open_face(tmp_path) as face:
        face.service.person = "ann"
        assert face.post("/v1/sites/here/evacuate", {"reason": ""}).status_code == 422
        assert face.post("/v1/sites/zz/evacuate", {"reason": "x"}).status_code == 404
        asked = face.post("/v1/sites/here/evacuate", {"reason": "x"})
        assert (asked.status_code, asked.json()["mode"], asked.json()["by"]) == (202, "evacuating", "ann")
        assert face.get("/v1/sites/here").json()["leaving"]["left"] == 0
        assert face.post("/v1/sites/here/close", {"reason": "x"}).json()["then"] == "wait"
        assert face.post("/v1/sites/here/evacuate", {"reason": "x"}).status_code == 403
        assert face.post("/v1/sites/here/resume", {}).json()["mode"] == "up"
        assert face.post("/v1/sites/here/drain", {"reason": "x"}).json()["mode"] == "drained"
        assert face.get("/v1/sites/here").json()["leaving"] is None
