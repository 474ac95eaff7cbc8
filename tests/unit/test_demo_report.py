"""What a demonstration must show for it to count as one."""

from dataclasses import replace
from pathlib import Path

import pytest

from broker.cli.demo.ground import Lost
from broker.cli.demo.measured import Pace
from broker.cli.demo.report import Moment, Move, Report
from broker.cli.demo.script import Script
from broker.cli.demo.telling import report_text

SCRIPT = Script(
    document=Path("workflow.yaml"),
    slices=32,
    size=64,
    checkpoint_every=4,
    pace=0.0,
    home=Path("home"),
    keep=False,
    out=Path("out"),
)


def pace(*seen):
    measured = Pace()
    for at, done in seen:
        measured.saw(done, at=at)
    return measured


GOOD = Report(
    script=SCRIPT,
    lost=Lost(site="nersc", processes=5, at=0),
    run="r1",
    run_undisturbed="r2",
    failures=[],
    moved=[Move("recon", "nersc", "alcf", 16)],
    tried_again_undisturbed=[],
    slices={1: 18, 2: 16},
    slices_undisturbed=32,
    pace=pace((10.0, 2), (14.0, 18)),
    digest="aa",
    digest_undisturbed="aa",
    violations=[],
    picture=Path("out/tomography.png"),
    connectors={"nersc": "nersc", "alcf": "iri"},
    submissions={"cf1": 1, "cf2": 1},
    transfers=[
        {"label": "r1/recon@1", "from": "olcf", "to": "nersc", "moved": 9, "seconds": 1.5, "state": "succeeded"},
        {"label": "r2/recon@1", "from": "olcf", "to": "alcf", "moved": 9, "seconds": 1.5, "state": "succeeded"},
    ],
    needed={"the projections": True, "checkpoint 16": True},
    requests={"nersc superfacility": 7},
    timeline=[Moment(1.0, "recon@1", "running at nersc")],
    decisions=[
        {"kind": "failover", "outcome": "move", "attempt": 1, "words": ["Leaves its site: dark.", "Rejected: x."]}
    ],
    seconds=30.0,
)


def test_a_stage_that_left_the_lost_site_with_a_checkpoint_and_ended_the_same_is_as_promised():
    assert GOOD.problems == []
    assert GOOD.view()["ok"] is True


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"digest": "bb"}, "differ"),
        ({"digest": ""}, "differ"),
        ({"needed": {"the projections": False}}, "Globus did not carry the projections"),
        ({"moved": []}, "did not leave nersc"),
        ({"moved": [Move("recon", "olcf", "alcf", 16)]}, "did not leave nersc"),
        ({"moved": [Move("picture", "nersc", "alcf", 16)]}, "did not leave nersc"),
        ({"moved": [Move("recon", "nersc", "alcf", 0)]}, "began from zero"),
        ({"slices": {1: 18, 2: 32}}, "50 slices were computed for a volume of 32"),
        ({"slices": {1: 18, 2: 19}}, "37 slices"),
        ({"tried_again_undisturbed": [Move("recon", "alcf", "alcf", 4)]}, "disturbed"),
        ({"violations": ["I1: r1 has two products"]}, "audit: I1"),
        ({"failures": ["run r1 is FAILED: x"]}, "run r1 is FAILED"),
    ],
)
def test_anything_less_is_a_problem_that_is_named(change, words):
    problems = replace(GOOD, **change).problems
    assert len(problems) == 1
    assert words in problems[0]


def test_as_many_slices_as_lie_between_two_checkpoints_may_be_done_twice():
    assert replace(GOOD, slices={1: 18, 2: 18}).problems == []


def test_the_seconds_saved_are_the_slices_not_computed_again_at_the_measured_pace():
    assert GOOD.carried_over == 16
    assert GOOD.saved_seconds == pytest.approx(16 * 4.0 / 16)


def test_a_slice_is_dated_by_when_it_was_new():
    measured = pace((1.0, 0), (2.0, 1), (3.0, 1), (4.0, 3), (9.0, 3))
    assert (measured.slices, measured.seconds, measured.per_slice) == (2, 2.0, 1.0)


def test_without_two_sights_of_the_work_nothing_was_measured():
    assert pace().per_slice == 0.0
    assert pace((1.0, 5)).per_slice == 0.0


def test_the_text_says_what_happened_why_what_it_cost_and_what_came_of_it():
    text = report_text(GOOD)
    for words in (
        "1.0 s  recon@1  running at nersc",
        "recon@1  Leaves its site: dark.",
        "Rejected: x.",
        "attempt 1 computed 18 slices",
        "the loss cost 2 slices done twice",
        "16 slices, about 4.0 s saved",
        "the same, bit for bit",
        "out/tomography.png",
    ):
        assert words in text


def test_the_text_says_when_the_results_differ():
    text = report_text(replace(GOOD, digest="bb"))
    assert "DIFFER" in text
    assert "the same" not in text


@pytest.mark.parametrize("slices", [4, 6, 9, 12, 33])
def test_the_site_is_lost_when_half_is_done_at_the_earliest_and_before_the_end(slices):
    script = replace(SCRIPT, slices=slices, checkpoint_every=1)
    assert slices // 2 == script.half <= script.latest < slices


def test_a_job_that_was_accepted_twice_breaks_the_promise():
    doubled = replace(GOOD, submissions={"cf1": 1, "cf2": 2})
    assert doubled.problems == ["submitted more than once: cf2"]
