"""While an operator's freeze holds nothing is moved, or nothing submitted; it says whose it is, and ends by itself."""

from __future__ import annotations

import json

import httpx
import pytest
from api_kit import TOKEN, Face, open_face
from broker_kit import CHECKPOINT, Lab, Stage, site
from effects_kit import placed
from operator_kit import operator

from broker.client import Client
from broker.clock import micros
from broker.errors import NotFound, RefusedByPolicy, UsageError
from broker.operating.freezes import Freeze, Freezes
from broker.overview import overview
from broker.overview_silence import silences
from policies.model import Decision
from sandbox.faults import Partition

HOUR = 3600.0
SOON = {"failover": {"after": 60.0}}


def freezes(lab: Lab, name: str = "ann") -> Freezes:
    return Freezes(operator(lab, name))


def dark(lab: Lab, name: str, seconds: float) -> None:
    now = lab.clock()
    lab.sites[name].model.inject(Partition(start=now, end=now + micros(seconds)))


def faded(lab: Lab) -> str:
    """A run whose only stage is at a site that is about to be called unreachable."""
    run = lab.submit(
        Stage("a", "seconds=3000", rules={**SOON, "sites": {"prefer": ["alcf"]}, "checkpoint": CHECKPOINT})
    )
    lab.settle()
    dark(lab, "alcf", 6 * HOUR)
    return run


def last_decision(lab: Lab, run: str, kind: str) -> Decision:
    return Decision.from_json([row for row in lab.store.decisions(run) if row.kind == kind][-1].detail)


# -- moves -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["", "alcf"])
def test_nothing_leaves_a_silent_site_while_moves_are_frozen(where: str) -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = faded(lab)
    freezes(lab).on(Freeze(on="moves", reason="the network is being mended", seconds=HOUR, site=where))
    lab.run_for(HOUR - 60, step=20)
    assert [a.site for a in lab.attempts(run, "a")] == ["alcf"]
    reason = last_decision(lab, run, "failover").reasons[-1]
    assert (reason.rule, reason.verdict) == ("freeze.moves", "stay")
    assert "ann froze moves" in reason.fact
    assert reason.fact.endswith("the network is being mended")
    assert "freeze" not in last_decision(lab, run, "placement").json


def test_what_was_kept_by_a_freeze_moves_when_it_ends_by_itself() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = faded(lab)
    begun = lab.clock()
    freezes(lab).on(Freeze(on="moves", reason="wait", seconds=HOUR))
    lab.run_for(HOUR + 40, step=20)
    first, second = lab.attempts(run, "a")
    assert second.site == "nersc"
    assert micros(HOUR) <= second.created_at - begun <= micros(HOUR + 21)
    assert first.orphan


def test_a_freeze_at_another_site_keeps_nothing_here() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = faded(lab)
    freezes(lab).on(Freeze(on="moves", reason="wait", site="nersc"))
    lab.run_for(300)
    assert [a.site for a in lab.attempts(run, "a")] == ["alcf", "nersc"]


def test_what_a_person_asks_for_by_name_is_done_all_the_same() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    run = faded(lab)
    freezes(lab).on(Freeze(on="moves", reason="wait"))
    lab.run_for(120)
    lab.command(run, "move", "a", to="nersc")
    lab.run_for(10)
    assert [a.site for a in lab.attempts(run, "a")] == ["alcf", "nersc"]


# -- submits -----------------------------------------------------------------------------------------------------


def test_nothing_is_submitted_while_submits_are_frozen_and_what_runs_goes_on() -> None:
    lab = Lab(site("alcf"))
    run = lab.submit(Stage("a", "seconds=60"), Stage("b", "seconds=60", needs=["a"]))
    lab.settle()
    begun = lab.clock()
    freezes(lab).on(Freeze(on="submits", reason="facility asked", seconds=HOUR))
    lab.run_for(HOUR - 60, step=20)
    assert lab.stage(run, "a").state == "SUCCEEDED"
    assert lab.stage(run, "b").state == "READY"
    assert "ann froze submits until" in lab.stage(run, "b").reason
    assert lab.state(run) == "WAITING"
    assert last_decision(lab, run, "placement").reasons[0].rule == "freeze.submits"
    told = [e for e in lab.store.events(run) if e.kind == "waits"]
    assert len(told) == 1
    assert lab.finish(run) == "SUCCEEDED"
    assert lab.attempts(run, "b")[0].created_at - begun >= micros(HOUR)


def test_one_sites_freeze_sends_work_elsewhere() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    freezes(lab).on(Freeze(on="submits", reason="facility asked", site="alcf"))
    run = lab.submit(Stage("a", "seconds=6", rules={"sites": {"prefer": ["alcf"]}}))
    assert lab.finish(run) == "SUCCEEDED"
    (attempt,) = lab.attempts(run, "a")
    assert attempt.site == "nersc"
    refused = next(r for r in last_decision(lab, run, "placement").reasons if r.rule == "freeze.submits")
    assert (refused.verdict, refused.site) == ("refused", "alcf")


def test_a_submission_decided_before_the_freeze_is_not_sent_during_it() -> None:
    lab = Lab(site("alcf"))
    case = placed(lab, Stage("a", "seconds=10"))
    freezes(lab).on(Freeze(on="submits", reason="stop", seconds=HOUR))
    lab.run_for(HOUR - 60, step=20)
    assert not lab.executions()
    assert lab.finish(case.run) == "SUCCEEDED"
    assert len(lab.executions()) == 1


def test_off_lets_work_go_on_at_once() -> None:
    lab = Lab(site("alcf"))
    freezes(lab).on(Freeze(on="submits", reason="stop", seconds=HOUR))
    run = lab.submit(Stage("a", "seconds=10"))
    lab.run_for(60)
    assert lab.executions() == []
    freezes(lab, "bob").off("submits", site="", reason="all clear")
    lab.settle()
    assert len(lab.attempts(run, "a")) == 1


def test_health_and_plan_tell_of_it() -> None:
    lab = Lab(site("alcf"))
    freezes(lab).on(Freeze(on="submits", reason="stop"))
    (view,) = operator(lab).site_list()
    assert view["capabilities"]["submit"]["rule"] == "freeze.submits"
    assert "ann froze submits until" in view["capabilities"]["submit"]["reason"]


# -- rows, and who typed what ------------------------------------------------------------------------------------


def test_two_operators_at_once_freeze_once_and_the_second_is_told_by_whom() -> None:
    lab = Lab(site("alcf"))
    first = freezes(lab, "ann").on(Freeze(on="moves", reason="x", seconds=HOUR))
    second = freezes(lab, "bob").on(Freeze(on="moves", reason="y", seconds=HOUR / 2))
    assert (first["new"], second["new"]) == (True, False)
    assert (second["by"], second["reason"]) == ("ann", "x")
    longer = freezes(lab, "bob").on(Freeze(on="moves", reason="y", seconds=2 * HOUR))
    assert longer["new"]
    assert len(freezes(lab).ls()) == 2


def test_every_freeze_is_in_a_chain_with_the_person() -> None:
    lab = Lab(site("alcf"))
    freezes(lab).on(Freeze(on="moves", reason="x"))
    freezes(lab).on(Freeze(on="submits", reason="y", site="alcf"))
    freezes(lab, "bob").off("", site="", reason="over")
    told = [(e.kind, e.actor, json.loads(e.data)["reason"]) for e in lab.store.events("operators")]
    assert told == [("freeze_moves", "ann", "x"), ("freeze_moves_ended", "bob", "over")]
    assert [(e.kind, e.actor) for e in lab.store.events("site:alcf")] == [("freeze_submits", "ann")]


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ({"reason": " "}, UsageError, "say why"),
        ({"seconds": 25 * HOUR}, UsageError, "24 hours at most"),
        ({"seconds": 0.0}, UsageError, "24 hours at most"),
        ({"site": "nowhere"}, NotFound, "no site 'nowhere'"),
        ({"on": "everything"}, UsageError, "nothing to freeze"),
    ],
)
def test_what_is_no_freeze_is_refused_in_a_sentence(said: dict[str, object], error: type, words: str) -> None:
    lab = Lab(site("alcf"))
    with pytest.raises(error, match=words):
        freezes(lab).on(Freeze(**{"on": "moves", "reason": "x", **said}))
    assert lab.store.notices.newest() == []


def test_ending_what_is_not_frozen_is_refused_and_so_is_the_second_end() -> None:
    lab = Lab(site("alcf"))
    with pytest.raises(RefusedByPolicy, match="moves are not frozen"):
        freezes(lab).off("moves", site="", reason="")
    freezes(lab).on(Freeze(on="moves", reason="x"))
    with pytest.raises(RefusedByPolicy, match="moves are not frozen at alcf alone"):
        freezes(lab).off("moves", site="alcf", reason="")
    freezes(lab).off("moves", site="", reason="")
    with pytest.raises(RefusedByPolicy, match="moves are not frozen"):
        freezes(lab).off("moves", site="", reason="")
    assert [view["state"] for view in freezes(lab).ls(everything=True)] == ["ended"]


def test_the_overview_says_what_is_frozen_and_that_nothing_moves() -> None:
    lab = Lab(site("alcf"), site("nersc"))
    faded(lab)
    lab.run_for(45)
    (silence,) = silences(operator(lab))
    assert "crossfade freeze on moves --for 1h --reason ..." in silence.line(lab.clock())
    freezes(lab).on(Freeze(on="moves", reason="wait", seconds=HOUR))
    (silence,) = silences(operator(lab))
    assert silence.moves_at is None
    assert "nothing moves: ann froze moves until" in silence.line(lab.clock())
    view = overview(operator(lab), now=lab.clock())
    assert [(f["on"], f["by"]) for f in view["freezes"]] == [("moves", "ann")]


# -- over HTTP ---------------------------------------------------------------------------------------------------


def test_a_freeze_over_http(tmp_path: object) -> None:
    with open_face(tmp_path) as face:  # type: ignore[arg-type]
        face.service.person = "ann"
        made = face.post("/v1/freezes", {"on": "moves", "seconds": 600.0, "reason": "x"})
        assert (made.status_code, made.json()["by"]) == (201, "ann")
        assert face.post("/v1/freezes", {"on": "moves", "seconds": 60.0, "reason": "y"}).status_code == 200
        assert [one["on"] for one in face.get("/v1/freezes").json()] == ["moves"]
        assert face.post("/v1/freezes", {"on": "moves", "reason": ""}).status_code == 422
        assert face.post("/v1/freezes", {"on": "moves", "site": "zz", "reason": "x"}).status_code == 404
        assert [one["ended_by"] for one in face.post("/v1/freezes/end", {}).json()] == ["ann"]
        assert face.post("/v1/freezes/end", {}).status_code == 403
        assert _client(face).freezes(everything=True)[0]["state"] == "ended"


def _client(face: Face) -> Client:
    import httpx

    def answer(request: httpx.Request) -> httpx.Response:
        got = face.ask(request.method, request.url.raw_path.decode(), content=request.content)
        return httpx.Response(got.status_code, content=got.content)

    return Client("http://localhost", token=TOKEN, transport=httpx.MockTransport(answer))
