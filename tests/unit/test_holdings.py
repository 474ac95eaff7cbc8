"""`crossfade checkpoints`: what is saved, where copies are, and what would be lost with a site now."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from broker_kit import CHECKPOINT, Lab, Stage, site

from broker.cli.checkpoints import checkpoints_text
from broker.clock import micros
from broker.config import Settings
from broker.service import Service
from broker.views import View
from sandbox.faults import Partition

WORDS = "seconds=4000 checkpoint_every=100"


def looked(lab: Lab, run: str, *, everything: bool = False) -> list[dict[str, Any]]:
    sites: Any = SimpleNamespace(configs=lab.configs)
    service = Service(settings=Settings(home="home", user="ann"), store=lab.store, sites=sites, clock=lab.clock)  # type: ignore[arg-type]
    return service.checkpoints(run, everything=everything)


def begun(*names: str, latency: float = 20.0, **checkpoint: object) -> tuple[Lab, str]:
    """A stage that runs at the first of these sites; a copy takes so long."""
    lab = Lab(*(site(name) for name in names))
    lab.mover._latency = latency
    rules = {"checkpoint": {**CHECKPOINT, **checkpoint}, "sites": {"prefer": [names[0]]}}
    return lab, lab.submit(Stage("a", WORDS, rules=rules), Stage("b", "seconds=5"))


def dark(lab: Lab, name: str) -> None:
    lab.sites[name].model.inject(Partition(start=lab.clock(), end=lab.clock() + micros(90_000)))


def test_only_stages_that_save_anything_are_shown() -> None:
    lab, run = begun("nersc", "alcf")
    assert [(view["stage"], view["checkpoints"]) for view in looked(lab, run)] == [("a", [])]


def test_each_checkpoint_has_its_age_its_size_and_its_copies() -> None:
    lab, run = begun("nersc", "alcf")
    lab.run_for(250)
    (view,) = looked(lab, run)
    newest, first = view["checkpoints"]
    assert (newest["seq"], first["seq"], first["site"], first["bytes"], first["state"]) == (
        2,
        1,
        "nersc",
        64,
        "shipped",
    )
    assert 140 <= first["age_seconds"] <= 160
    (copy,) = first["copies"]
    assert (copy["site"], copy["state"]) == ("alcf", "verified")
    assert copy["ordered_at"] < copy["arrived_at"]
    assert first["created_at"] <= first["verified_at"]


def test_a_copy_under_way_is_shown_as_that() -> None:
    lab, run = begun("nersc", "alcf", latency=500)
    lab.run_for(150)
    (view,) = looked(lab, run)
    (copy,) = view["checkpoints"][0]["copies"]
    assert (copy["site"], copy["state"], copy["arrived_at"], copy["reason"]) == (
        "alcf",
        "under way",
        None,
        "on its way",
    )


def test_one_that_waits_says_what_for() -> None:
    lab, run = begun("nersc", "alcf", ship="auto")
    lab.run_for(250)
    newest = looked(lab, run)[0]["checkpoints"][0]
    assert (newest["seq"], newest["copies"]) == (2, [])
    assert newest["reason"].startswith("waits: interval: checkpoint 1 is at alcf, and a copy leaves every ")


def test_removed_copies_are_shown_when_all_is_asked_for() -> None:
    lab, run = begun("nersc", "alcf", latency=1, keep=1)
    lab.run_for(450)

    def states(**how: bool) -> set[str]:
        return {c["state"] for view in looked(lab, run, **how) for one in view["checkpoints"] for c in one["copies"]}

    assert states() == {"verified"}
    assert states(everything=True) == {"verified", "gone"}


# -- the work at risk ----------------------------------------------------------------------------------------------


def risk(lab: Lab, run: str) -> View:
    found: View = looked(lab, run)[0]["at_risk"]
    return found


def test_before_any_copy_all_of_it_is_at_risk() -> None:
    lab, run = begun("nersc", "alcf", ship="never")
    lab.run_for(350)
    at_risk = risk(lab, run)
    assert 340 <= float(str(at_risk["seconds"])) <= 350
    assert (at_risk["resumes_from"], at_risk["read_from"]) == (None, None)
    assert at_risk["words"] == (
        f"were nersc lost now, {float(str(at_risk['seconds'])) / 60:.1f} min of work would go with it: "
        "the stage starts from the beginning"
    )


def test_with_a_copy_elsewhere_what_was_done_since_is_at_risk() -> None:
    lab, run = begun("nersc", "alcf")
    lab.run_for(350)
    at_risk = risk(lab, run)
    assert (at_risk["resumes_from"], at_risk["read_from"]) == (3, "alcf")
    assert 40 <= float(str(at_risk["seconds"])) <= 50


def test_a_copy_at_the_same_facility_or_at_a_dark_site_does_not_count() -> None:
    lab, run = begun("nersc", "alcf", "olcf")
    lab.run_for(350)
    dark(lab, "alcf")
    lab.run_for(20)
    assert risk(lab, run)["resumes_from"] is None
    lab.run_for(150)
    assert risk(lab, run)["read_from"] == "olcf"


def test_after_a_move_what_the_first_attempt_saved_counts_too() -> None:
    lab, run = begun("nersc", "alcf", "olcf", ship="auto")
    lab.run_for(950)
    dark(lab, "nersc")
    lab.run_for(600)
    (view,) = looked(lab, run)
    assert view["site"] == "alcf"
    second = next(row for row in lab.store.attempts(run) if row.n == 0 and row.number == 2)
    assert second.started_at is not None
    since = (lab.clock() - second.started_at) / 1e6
    at_risk = view["at_risk"]
    assert at_risk["read_from"] == "olcf", "the first checkpoint of the new attempt left at once"
    assert 0 < at_risk["seconds"] < since


def test_nothing_is_at_risk_of_a_stage_that_is_over() -> None:
    lab, run = begun("nersc", "alcf")
    assert lab.finish(run) == "SUCCEEDED"
    assert looked(lab, run)[0]["at_risk"] is None


# -- in words ------------------------------------------------------------------------------------------------------


def test_people_read_lines_and_then_the_risk() -> None:
    lab, run = begun("nersc", "alcf", ship="auto")
    lab.run_for(250)
    heading, newest, first, at_risk = checkpoints_text(looked(lab, run)).splitlines()
    assert heading.split() == ["STAGE", "SEQ", "ATTEMPT", "SITE", "STATE", "SIZE", "AGE", "ELSEWHERE"]
    assert newest.split()[:6] == ["a", "2", "1", "nersc", "verified", "64"]
    assert "waits: interval: checkpoint 1 is at alcf" in newest
    assert "alcf (since 20" in first
    assert at_risk.startswith("a: were nersc lost now, ")
    assert at_risk.endswith(": the stage goes on from checkpoint 1, read from alcf")


def test_a_run_without_checkpoints_says_so() -> None:
    lab, _ = begun("nersc")
    run = lab.submit(Stage("x", "seconds=5"))
    assert checkpoints_text(looked(lab, run)) == "no checkpoints"
