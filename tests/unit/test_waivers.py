"""A rule of where data may be is waived by two persons, for one run, at one site, until an end: whole stories."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from broker_kit import Lab, Stage, site

from broker.config import Settings
from broker.errors import NotFound, RefusedByPolicy, UsageError
from broker.service import Request, Service
from broker.sites import Sites, sites_of
from broker.spec import parse_document
from broker.waivers import Waivers, Wish
from policies.model import Decision

EXPORT = {"data": {"export_control": True, "stay": []}}
STAY = {"data": {"export_control": False, "stay": ["olcf"]}}
HOUR = 3600.0


def persons(lab: Lab, name: str) -> Waivers:
    """What that person can do about the lab's runs."""
    named = replace(
        sites_of(
            parse_document("crossfade: 1\nsites: {x: {profile: local, root: ./x}}\n", name="s"),
            base=Path("/"),
            where="",
        ),
        configs=lab.configs,
        places=lab.places,
    )
    return Waivers(lab.store, named, lab.clock, person=name)


def row(lab: Lab, run: str) -> Any:
    found = lab.store.run(run)
    assert found is not None
    return found


def asked(lab: Lab, run: str, at: str = "alcf", *, seconds: float = 24 * HOUR, **said: str) -> str:
    wish = Wish(site=at, reason="nersc is down", seconds=seconds, **said)
    return str(persons(lab, "ann").ask(row(lab, run), wish)["waiver"])


def confirmed(lab: Lab, run: str, at: str = "alcf", *, seconds: float = 24 * HOUR, **said: str) -> str:
    ident = asked(lab, run, at, seconds=seconds, **said)
    persons(lab, "bob").confirm(ident, reason="agreed")
    return ident


def stuck(rules: Any = EXPORT, stage: Stage | None = None, **said: Any) -> tuple[Lab, str]:
    """A run whose only site its data may not be at; it waits for a person."""
    lab = Lab(site("alcf"), **said)
    run = lab.submit(stage or Stage("a", "seconds=5", rules=rules))
    lab.run_for(10)
    assert lab.stage(run, "a").state == "AWAITING_DECISION"
    return lab, run


def decisions(lab: Lab, run: str) -> Sequence[Decision]:
    return [Decision.from_json(one.detail) for one in lab.store.decisions(run)]


# -- going on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rules", "rule"), [(EXPORT, "export_control"), (STAY, "stay")])
def test_asked_for_by_one_and_confirmed_by_another_the_run_goes_on_by_itself(rules: Any, rule: str) -> None:
    lab, run = stuck(rules)
    assert f"crossfade waiver ask {run} --site alcf --rule {rule} --reason ..." in lab.stage(run, "a").reason
    ident = confirmed(lab, run)
    assert lab.finish(run, limit=600) == "SUCCEEDED"
    chosen = next(one for one in decisions(lab, run) if one.outcome == "place")
    (told,) = [reason for reason in chosen.reasons if reason.verdict == "waived"]
    assert told.rule == f"data.{rule}"
    assert f"{ident}, asked for by ann and confirmed by bob, waives that until 20" in told.fact
    kinds = [(e.kind, e.actor) for e in lab.store.events(run) if e.kind.startswith("waiver")]
    assert kinds == [("waiver_asked", "ann"), ("waiver_confirmed", "bob")]


def still_stuck(lab: Lab, run: str) -> bool:
    lab.run_for(120)
    stage = lab.stage(run, "a")
    return (stage.state, lab.attempts(run, "a")) == ("AWAITING_DECISION", [])


def test_without_a_second_person_it_is_refused_also_when_it_is_tried_again() -> None:
    lab, run = stuck()
    ident = asked(lab, run)
    with pytest.raises(RefusedByPolicy, match="ann has asked for it, and two persons must agree"):
        persons(lab, "ann").confirm(ident, reason="I am sure")
    lab.command(run, "retry", "a")
    assert still_stuck(lab, run)


def test_a_person_who_moves_it_is_refused_with_the_rules_name_and_the_command() -> None:
    lab, run = stuck()
    lab.command(run, "move", "a", to="alcf")
    lab.settle()
    (command,) = lab.store.commands(run)
    assert command.outcome.startswith("not possible: data.export_control:")
    assert "what helps: crossfade waiver ask" in command.outcome


def test_withdrawn_before_the_stage_is_placed_it_counts_no_longer() -> None:
    lab, run = stuck()
    lab.command(run, "hold")
    lab.settle()
    ident = confirmed(lab, run)
    persons(lab, "ann").withdraw(ident, reason="not needed")
    lab.command(run, "release")
    assert still_stuck(lab, run)


def test_after_its_end_it_counts_no_longer() -> None:
    lab, run = stuck()
    lab.command(run, "hold")
    lab.settle()
    confirmed(lab, run, seconds=60)
    lab.run_for(61)
    lab.command(run, "release")
    assert still_stuck(lab, run)


def test_a_waiver_for_one_run_site_or_rule_is_none_for_another() -> None:
    lab = Lab(site("alcf"), site("olcf"), places=["cfs"])
    both = {"data": {"export_control": True, "stay": ["nersc"]}}
    run, other = (lab.submit(Stage("a", "seconds=5", rules=both)) for _ in range(2))
    lab.settle()
    confirmed(lab, run, rule="stay")
    confirmed(lab, run, "olcf", rule="export_control")
    confirmed(lab, run, "cfs", rule="stay")
    confirmed(lab, other, "alcf", rule="data.export_control")
    assert still_stuck(lab, run)
    assert still_stuck(lab, other)
    confirmed(lab, run, rule="export_control")
    assert lab.finish(run, limit=600) == "SUCCEEDED"
    assert lab.state(other) == "WAITING"


def test_a_site_that_is_allowed_by_way_of_exception_is_taken_last_unless_a_person_wants_it() -> None:
    cleared = site("nersc", clearance=frozenset({"export_control"}), slots=1)
    lab = Lab(site("alcf"), cleared)
    rules = {**EXPORT, "sites": {"prefer": ["alcf"]}}
    run = lab.submit(*(Stage(name, "seconds=50", rules=rules) for name in "ab"))
    confirmed(lab, run)
    lab.run_for(10)
    assert [lab.attempts(run, name)[0].site for name in "ab"] == ["nersc", "alcf"]
    other = lab.submit(Stage("a", "seconds=5", rules=EXPORT))
    lab.run_for(10)
    assert lab.attempts(other, "a") == []  # no waiver of this run: it waits for room at nersc
    confirmed(lab, other)
    lab.command(other, "move", "a", to="alcf")
    assert lab.finish(other, limit=600) == "SUCCEEDED"
    assert lab.attempts(other, "a")[0].site == "alcf"


def test_what_waits_for_a_person_for_another_reason_is_left_alone() -> None:
    lab, run = stuck()
    stage = lab.stage(run, "a")
    with lab.store.deciding(lab.store.acquire(run, owner="t", ttl=1.0), ttl=1.0) as tx:  # type: ignore[arg-type]
        from broker.store.base import Changes

        tx.apply(Changes(stages=[stage._replace(reason="a person must renew a credential")]), now=lab.clock())
    lab.clock.advance(5)
    confirmed(lab, run)
    assert still_stuck(lab, run)


# -- moving ------------------------------------------------------------------------------------------------


def copying(lab: Lab) -> str:
    lab.put("spot:x")
    run = lab.submit(Stage("a", copies=[("spot:x", "cfs:x")], rules=EXPORT))
    lab.settle()
    assert lab.stage(run, "a").state == "AWAITING_DECISION"
    return run


def test_a_copy_goes_to_its_place_once_that_is_waived() -> None:
    lab = Lab(places=["spot", "cfs"])
    run = copying(lab)
    confirmed(lab, run, "cfs")
    assert lab.finish(run, limit=600) == "SUCCEEDED"
    assert lab.lies("cfs:x") == b"data"


@pytest.mark.parametrize("how", ["withdrawn", "ended"])
def test_what_has_not_been_begun_when_the_waiver_ends_is_not_moved(how: str) -> None:
    """Wanted while it was allowed; the service is asked some time later."""
    lab = Lab(places=["spot", "cfs"], service=True)
    run = copying(lab)
    ident = confirmed(lab, run, "cfs", seconds=60)
    lab.settle()
    (movement,) = lab.store.traffic.movements_of(run)
    assert movement.state == "wanted"
    if how == "withdrawn":
        persons(lab, "cleo").withdraw(ident, reason="")
    else:
        lab.clock.advance(60)
    lab.broker.move()
    (movement,) = lab.store.traffic.movements_of(run)
    assert (movement.state, movement.fault, movement.side) == ("failed", "policy", "cfs")
    assert movement.reason.startswith("data.export_control: the data is under export control")
    assert lab.mover.asked == []  # type: ignore[union-attr]
    lab.run_for(300)
    assert lab.stage(run, "a").state == "AWAITING_DECISION"
    assert lab.lies("cfs:x") is None


def test_what_is_on_its_way_when_the_waiver_is_withdrawn_is_stopped() -> None:
    lab = Lab(places=["spot", "cfs"], service=True)
    lab.mover._latency = 100_000
    run = copying(lab)
    ident = confirmed(lab, run, "cfs")
    lab.run_for(30)
    assert [one.state for one in lab.store.traffic.transfers()] == ["active"]
    persons(lab, "cleo").withdraw(ident, reason="")
    lab.run_for(300)
    assert [one.open for one in lab.store.traffic.transfers()] == [0]
    assert lab.stage(run, "a").state == "AWAITING_DECISION"
    assert lab.lies("cfs:x") is None


def test_a_job_is_not_submitted_when_its_waiver_has_ended_since_it_was_placed() -> None:
    lab, run = stuck()
    residency = lab.broker.hands._rooms["submit"].__self__._residency  # type: ignore[attr-defined]
    ident = asked(lab, run)
    real = residency.against

    def withdrawn_just_before(*given: Any) -> Any:
        persons(lab, "ann").withdraw(ident, reason="") if lab.store.waiver(ident).withdrawn_at is None else None
        return real(*given)

    residency.against = withdrawn_just_before
    persons(lab, "bob").confirm(ident, reason="agreed")
    lab.run_for(600)
    assert lab.executions() == []
    assert lab.stage(run, "a").state == "AWAITING_DECISION"


# -- what is asked for -------------------------------------------------------------------------------------


SITES = """crossfade: 1
places: {cfs: {path: ./cfs}}
sites: {alcf: {profile: local, root: ./a}, nersc: {profile: local, root: ./n}}
"""


def service(lab: Lab, person: str, home: Path, document: str = SITES) -> Service:
    found: Sites = sites_of(parse_document(document, name="s"), base=home, where="")
    found = replace(found, path=home / "sites.yaml")
    settings = Settings(home=home, user="x", person=person)
    return Service(settings=settings, store=lab.store, sites=found, clock=lab.clock)


def request(stages: str = "{a: {run: x}}", rule: str = "{export_control: true}", **said: Any) -> Request:
    text = f"crossfade: 1\nname: t\npolicy: {{data: {rule}}}\nstages: {stages}\n"
    return Request(document=parse_document(text, name="t.yaml"), params={}, **said)


def test_a_run_that_no_site_may_have_is_refused_with_the_way_out(tmp_path: Path) -> None:
    ann = service(Lab(), "ann", tmp_path)
    with pytest.raises(RefusedByPolicy, match=r"no site can take stage a: data\.export_control: ") as refused:
        ann.submit(request())
    assert "crossfade submit --hold" in refused.value.help


def test_held_it_is_stored_with_the_command_that_asks_and_nothing_starts(tmp_path: Path) -> None:
    lab = Lab(site("alcf"), site("nersc"))
    ann = service(lab, "ann", tmp_path)
    submitted = ann.submit(request(hold=True))
    run = submitted.run_id
    command = f"crossfade waiver ask {run} --site alcf --rule export_control --reason ..."
    assert any(command in told for told in submitted.warnings)
    assert row(lab, run).held == 1
    lab.settle()
    assert (lab.stage(run, "a").state, lab.stage(run, "a").reason) == ("READY", "held")
    assert json.loads(lab.store.events(run)[0].data)["held"] is True


def test_a_copy_that_no_place_may_have_is_stored_held_too(tmp_path: Path) -> None:
    lab = Lab()
    ann = service(lab, "ann", tmp_path)
    stages = "{c: {copy: [{from: 'cfs:x', to: 'cfs:y'}]}}"
    with pytest.raises(RefusedByPolicy, match=r"stage c may not bring anything to cfs: data\.export_control"):
        ann.submit(request(stages))
    submitted = ann.submit(request(stages, hold=True))
    assert any("--site cfs --rule export_control" in told for told in submitted.warnings)
    assert Waivers.of(ann).ask(row(lab, submitted.run_id), Wish(site="cfs", reason="x"))["site"] == "cfs"


@pytest.mark.parametrize("stages", ["{a: {run: x, resources: {nodes: 1000000}}}", "{a: {run: 'x ${{ site.vars.v }}'}}"])
def test_what_no_waiver_could_help_is_refused_held_or_not(tmp_path: Path, stages: str) -> None:
    ann = service(Lab(), "ann", tmp_path)
    with pytest.raises(RefusedByPolicy, match="no site can take stage a"):
        ann.submit(request(stages, hold=True))
    assert ann.store.runs() == []


def test_a_waiver_has_all_that_an_auditor_asks_for(tmp_path: Path) -> None:
    lab = Lab()
    run = service(lab, "ann", tmp_path).submit(request(hold=True)).run_id
    ann, bob = (Waivers.of(service(lab, name, tmp_path)) for name in ("ann", "bob"))
    view = ann.ask(row(lab, run), Wish(site="nersc", reason="urgent"))
    assert (view["state"], view["asked_by"], view["confirmed_by"]) == ("asked", "ann", None)
    start = str(view["waiver"])
    assert bob.confirm(start, reason="seen the letter")["state"] == "in_force"
    (listed,) = ann.ls(run)
    assert (listed["confirmed_by"], listed["confirm_reason"]) == ("bob", "seen the letter")
    lab.clock.advance(24 * HOUR - 1)
    assert ann.ls()[0]["state"] == "in_force"
    lab.clock.advance(1)
    assert ann.ls()[0]["state"] == "ended"
    assert ann.withdraw(start, reason="")["state"] == "withdrawn"


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish(site="alcf", reason=" "), "needs a reason"),
        (Wish(site="alcf", reason="x", seconds=0), "30 days"),
        (Wish(site="alcf", reason="x", seconds=31 * 24 * HOUR), "30 days"),
        (Wish(site="alcf", reason="x", rule="cores"), "no rule 'cores'"),
        (Wish(site="alcf", reason="x", rule="stay"), r"data\.stay is not against data of run"),
    ],
)
def test_what_cannot_be_asked_for_is_a_wrong_request(tmp_path: Path, wish: Wish, words: str) -> None:
    lab = Lab()
    ann = service(lab, "ann", tmp_path)
    run = ann.submit(request(hold=True)).run_id
    with pytest.raises(UsageError, match=words):
        Waivers.of(ann).ask(row(lab, run), wish)
    assert lab.store.waivers() == []


def test_of_two_rules_that_are_against_it_the_person_says_which(tmp_path: Path) -> None:
    lab = Lab()
    ann = service(lab, "ann", tmp_path)
    run = ann.submit(request(rule="{export_control: true, stay: [cfs]}", hold=True)).run_id
    with pytest.raises(UsageError, match=r"data\.export_control and data\.stay are against alcf"):
        Waivers.of(ann).ask(row(lab, run), Wish(site="alcf", reason="x"))
    assert Waivers.of(ann).ask(row(lab, run), Wish(site="alcf", reason="x", rule="stay"))["rule"] == "data.stay"


def test_nothing_is_waived_where_nothing_is_forbidden_known_or_left_to_do(tmp_path: Path) -> None:
    lab = Lab()
    ann = service(lab, "ann", tmp_path)
    run = ann.submit(request(rule="{}")).run_id
    with pytest.raises(UsageError, match="nothing to waive"):
        Waivers.of(ann).ask(row(lab, run), Wish(site="alcf", reason="x"))
    with pytest.raises(NotFound, match="no site and no place 'alcff'"):
        Waivers.of(ann).ask(row(lab, run), Wish(site="alcff", reason="x"))
    with pytest.raises(RefusedByPolicy, match="is CANCELED"):
        Waivers.of(ann).ask(row(lab, run)._replace(state="CANCELED"), Wish(site="alcf", reason="x"))


def test_refusals_to_confirm_say_what_stands_against_it(tmp_path: Path) -> None:
    lab = Lab()
    run = service(lab, "ann", tmp_path).submit(request(hold=True)).run_id
    ann, bob = (Waivers.of(service(lab, name, tmp_path)) for name in ("ann", "bob"))
    ident = str(ann.ask(row(lab, run), Wish(site="alcf", reason="x"))["waiver"])
    with pytest.raises(RefusedByPolicy, match=r"is there already for data\.export_control at alcf"):
        bob.ask(row(lab, run), Wish(site="alcf", reason="y"))
    with pytest.raises(UsageError, match="needs a reason"):
        bob.confirm(ident, reason="")
    with pytest.raises(NotFound, match="no waiver 'x'"):
        bob.confirm("x", reason="y")
    bob.confirm(ident[:8], reason="y")
    with pytest.raises(RefusedByPolicy, match="bob has confirmed it already"):
        bob.confirm(ident, reason="y")
    ann.withdraw(ident, reason="")
    with pytest.raises(RefusedByPolicy, match="ann has withdrawn it"):
        bob.confirm(ident, reason="y")
    with pytest.raises(RefusedByPolicy, match=r"ann has withdrawn w.* already"):
        bob.withdraw(ident, reason="")
    second = str(ann.ask(row(lab, run), Wish(site="alcf", reason="x", seconds=60))["waiver"])
    lab.clock.advance(60)
    with pytest.raises(RefusedByPolicy, match="it ended at"):
        bob.confirm(second, reason="y")
