"""What operators announce, and what calendars say, is one list; work keeps clear of it, and comes back by itself."""

from __future__ import annotations

from typing import Any

import pytest
from api_kit import open_face
from broker_kit import CHECKPOINT, Lab, Stage, site
from operator_kit import operator

from broker.clock import micros
from broker.errors import NotFound, RefusedByPolicy, UsageError
from broker.operating.times import moment
from broker.operating.windows import Announcement, Windows
from broker.store.base import EvidenceRow, Sightings
from policies.model import Decision

HOUR = 3600.0
LIKED = {"sites": {"prefer": ["alcf"]}}


def windows(lab: Lab, name: str = "ann") -> Windows:
    return Windows(operator(lab, name))


def said(lab: Lab, begins: float, ends: float, **more: Any) -> Announcement:
    """Hours from now."""
    now = lab.clock()
    values = {"site": "alcf", "reason": "cooling", **more}
    return Announcement(begins=now + micros(begins * HOUR), ends=now + micros(ends * HOUR), **values)


def state(lab: Lab, capability: str = "submit") -> tuple[str, str]:
    view: Any = next(v for v in operator(lab).site_list() if v["site"] == "alcf")
    return view["capabilities"][capability]["state"], view["capabilities"][capability]["rule"]


def test_nothing_starts_while_it_lasts_nor_in_the_hour_before_and_it_ends_by_itself() -> None:
    lab = Lab(site("alcf"))
    windows(lab).add(said(lab, 2, 3))
    assert lab.finish(lab.submit(Stage("early", "seconds=10"))) == "SUCCEEDED"
    lab.run_for(1.2 * HOUR, step=60)
    assert state(lab) == ("draining", "maintenance")
    run = lab.submit(Stage("late", "seconds=10"))
    lab.run_for(30)
    assert "maintenance begins at" in lab.stage(run, "late").reason
    assert "says ann: cooling" in lab.stage(run, "late").reason
    lab.run_for(1 * HOUR, step=60)
    assert state(lab) == ("maintenance", "maintenance")
    assert not lab.attempts(run, "late")
    lab.run_for(1 * HOUR, step=60)
    assert lab.state(run) == "SUCCEEDED"


def test_it_is_felt_at_once_not_with_the_next_judgement() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    windows(lab).add(said(lab, 0, 1))
    run = lab.submit(Stage("a", "seconds=10", rules=LIKED))
    lab.settle()
    (attempt,) = lab.attempts(run, "a")
    assert attempt.site == "nersc"
    found = Decision.from_json(lab.store.decisions(run)[0].detail)
    assert [r.rule for r in found.reasons if r.site == "alcf"][:1] == ["health"]


def test_a_window_of_transfers_alone_keeps_no_work_away() -> None:
    lab = Lab(site("alcf"))
    windows(lab).add(said(lab, 0, 1, capability="transfer"))
    assert state(lab, "transfer") == ("maintenance", "maintenance")
    assert state(lab)[0] != "maintenance"
    assert lab.finish(lab.submit(Stage("a", "seconds=10"))) == "SUCCEEDED"


def test_the_policies_are_told_of_the_next_window() -> None:
    lab = Lab(site("alcf"))
    windows(lab).add(said(lab, 5, 6))
    windows(lab).add(said(lab, 2, 4))
    assert lab.broker.store.notices.open(now=lab.clock())[0].begins_at == lab.clock() + micros(2 * HOUR)
    from broker.facts import site_facts, site_setup

    rows = lab.store.notices.open(now=lab.clock())
    facts = site_facts(site_setup(lab.configs["alcf"]), None, load=0, share=1, now=lab.clock(), notices=rows)
    assert facts.window_at == lab.clock() + micros(2 * HOUR)
    assert facts.window_until == lab.clock() + micros(4 * HOUR)
    sooner = lab.clock() + micros(HOUR)
    facts = site_facts(
        site_setup(lab.configs["alcf"]), None, load=0, share=1, now=lab.clock(), window=sooner, notices=rows
    )
    assert (facts.window_at, facts.window_until) == (sooner, None)


def test_the_last_checkpoint_leaves_before_it_begins() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    auto = {**CHECKPOINT, "ship": "auto"}
    run = lab.submit(Stage("a", "seconds=9000 checkpoint_every=300", rules={**LIKED, "checkpoint": auto}))
    lab.settle()
    windows(lab).add(said(lab, 1, 3))
    lab.run_for(1 * HOUR - 1, step=20)
    told = [Decision.from_json(row.detail) for row in lab.store.decisions(run) if row.kind == "ship"]
    assert any(d.outcome == "ship" and d.reasons[-1].rule == "window" for d in told)


def test_what_the_sites_calendar_says_is_in_the_same_list_with_source_and_age() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    begins = lab.clock() + micros(4 * HOUR)
    rows = [
        EvidenceRow("nersc", lab.clock(), name, True, 0, "planned: cooling", "feed", "maintenance", until=begins)
        for name in ("submit", "compute")
    ]
    lab.store.record(Sightings(evidence=rows), now=lab.clock())
    windows(lab).add(said(lab, 2, 3))
    lab.clock.advance(60)
    mine, theirs = windows(lab).ls()
    assert (mine["site"], mine["source"], mine["state"]) == ("alcf", "operator ann", "ahead")
    assert (theirs["site"], theirs["source"], theirs["age_seconds"]) == ("nersc", "feed", 60.0)
    assert (theirs["reason"], theirs["maintenance"]) == ("planned: cooling", None)
    assert [view["site"] for view in windows(lab).ls("nersc")] == ["nersc"]


def test_a_second_announcement_of_the_same_is_one_and_an_overlap_is_said() -> None:
    lab = Lab(site("alcf"))
    first = windows(lab).add(said(lab, 1, 5))
    again = windows(lab, "bob").add(said(lab, 2, 3))
    assert (again["new"], again["maintenance"], again["source"]) == (False, first["maintenance"], "operator ann")
    longer = windows(lab, "bob").add(said(lab, 4, 8))
    assert (longer["new"], longer["overlaps"]) == (True, [first["maintenance"]])


def test_two_operators_take_the_same_back_and_the_second_is_told_by_whom() -> None:
    lab = Lab(site("alcf"))
    made = str(windows(lab).add(said(lab, 0, 5))["maintenance"])
    run = lab.submit(Stage("a", "seconds=10"))
    lab.run_for(10)
    assert not lab.executions()
    assert windows(lab, "bob").rm(made, reason="done early")["state"] == "ended"
    with pytest.raises(RefusedByPolicy, match="bob has taken it back already"):
        windows(lab).rm(made, reason="")
    assert lab.finish(run) == "SUCCEEDED"
    assert [(e.kind, e.actor) for e in lab.store.events("site:alcf") if e.kind.startswith("maint")] == [
        ("maintenance", "ann"),
        ("maintenance_ended", "bob"),
    ]


@pytest.mark.parametrize(
    ("begins", "ends", "more", "error", "words"),
    [
        (-3, -2, {}, UsageError, "that is over"),
        (3, 2, {}, UsageError, "end before it begins"),
        (1, 24 * 31, {}, UsageError, "30 days at most"),
        (1, 2, {"reason": ""}, UsageError, "say why"),
        (1, 2, {"site": "zz"}, NotFound, "no site 'zz'"),
        (1, 2, {"capability": "coffee"}, UsageError, "no capability"),
    ],
)
def test_what_is_no_window_is_refused_in_a_sentence(
    begins: float, ends: float, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    lab = Lab(site("alcf"))
    with pytest.raises(error, match=words):
        windows(lab).add(said(lab, begins, ends, **more))
    assert lab.store.notices.newest() == []


def test_a_window_that_began_before_it_was_announced_holds_for_the_rest() -> None:
    lab = Lab(site("alcf"))
    windows(lab).add(said(lab, -2, 1))
    assert state(lab) == ("maintenance", "maintenance")


def test_times_are_read_as_people_type_them() -> None:
    assert moment("now", now=5) == 5
    assert moment("+1.5h", now=0) == micros(5400)
    assert moment("2026-12-01T08:00Z", now=0) == moment("2026-12-01T09:00+01:00", now=0) == 1796112000 * 1_000_000
    for wrong in ("soon", "+2", "2026-13-01", "+9999999d", ""):
        with pytest.raises(UsageError, match="no time"):
            moment(wrong, now=0)


def test_maintenance_over_http(tmp_path: Any) -> None:
    with open_face(tmp_path) as face:
        face.service.person = "ann"
        body = {"site": "here", "begins": "2999-12-01T08:00:00Z", "ends": "2999-12-01T18:00:00Z", "reason": "cooling"}
        made = face.post("/v1/maintenance", body)
        assert made.status_code == 201, made.text
        assert face.post("/v1/maintenance", body).status_code == 200
        assert [one["reason"] for one in face.get("/v1/maintenance").json()] == ["cooling"]
        assert face.post("/v1/maintenance", {**body, "begins": "2999-12-01T08:00:00"}).status_code == 422
        assert face.post("/v1/maintenance", {**body, "site": "zz"}).status_code == 404
        place = f"/v1/maintenance/{made.json()['maintenance']}/end"
        assert face.post(place, {"reason": "moved"}).json()["state"] == "taken_back"
        assert face.post(place, {}).status_code == 403
        assert face.post("/v1/maintenance/n/end", {}).status_code == 404
