"""How long a stage's work takes at a site: by its runs there, else elsewhere, else its walltime."""

from __future__ import annotations

import pytest

from policies.work import NOTHING_KNOWN, PRIOR, Ran, learn

RECON = ("tomo", "recon")


def ran(site: str, *seconds: float, stage: tuple[str, str] = RECON, digest: str = "d1") -> list[Ran]:
    return [Ran(stage, digest, site, took, at) for at, took in enumerate(seconds)]


def test_runs_of_the_same_stage_there_count_before_its_walltime() -> None:
    works = learn(ran("nersc", 100, 110, 90, 105, 95, 400))
    found = works.expect(RECON, "nersc", walltime=7200, speeds={})
    assert (found.term.p50, found.term.p90, found.speed) == (102.5, 400, 1)
    assert found.term.source == "6 runs of recon at nersc"


def test_few_runs_are_no_ninetieth_percentile() -> None:
    assert learn(ran("nersc", 100)).expect(RECON, "nersc", walltime=None, speeds={}).term.p90 == 125


def test_another_workflows_stage_of_that_name_is_another_stage() -> None:
    works = learn(ran("nersc", 100))
    assert works.expect(("other", "recon"), "nersc", walltime=60, speeds={}).term.source == "its walltime of 60 s"


def test_runs_elsewhere_count_by_how_much_slower_that_site_was_for_the_same_work() -> None:
    shared = [
        *ran("nersc", 10, stage=("a", "x"), digest="x"),
        *ran("alcf", 30, stage=("a", "x"), digest="x"),
        *ran("nersc", 10, stage=("a", "y"), digest="y"),
        *ran("alcf", 30, stage=("a", "y"), digest="y"),
    ]
    works = learn([*ran("nersc", *[100.0] * 8), *shared])
    found = works.expect(RECON, "alcf", walltime=60, speeds={"alcf": 5.0})
    assert (found.term.p50, found.speed) == (300, 3)
    assert found.term.source == "8 runs of recon at nersc, x 3 by 2 stages that ran at both"


def test_another_body_of_the_same_stage_is_no_comparison_of_two_sites() -> None:
    works = learn([*ran("nersc", 100), *ran("alcf", 900, stage=("b", "z"), digest="d2")])
    assert works.slowness("alcf", "nersc", {}) == (1, "")


def test_where_no_runs_compare_two_sites_the_site_document_does() -> None:
    works = learn(ran("nersc", *[100.0] * 8))
    found = works.expect(RECON, "alcf", walltime=None, speeds={"alcf": 2.0})
    assert (found.term.p50, found.speed) == (50, 0.5)
    assert "x 0.5 by `speed` of the site document" in found.term.source


def test_a_walltime_is_what_the_work_takes_at_most_and_a_quicker_site_needs_less_of_it() -> None:
    found = NOTHING_KNOWN.expect(RECON, "nersc", walltime=3600, speeds={"nersc": 2.0})
    assert (found.term.p50, found.term.p90, found.speed) == (1800, 1800, 0.5)


def test_without_history_and_walltime_it_is_a_guess_and_no_longer_than_the_site_allows() -> None:
    found = NOTHING_KNOWN.expect(RECON, "nersc", walltime=None, speeds={})
    assert (found.term.p50, found.term.p90, found.term.source) == (PRIOR.p50, PRIOR.p90, PRIOR.source)
    short = NOTHING_KNOWN.expect(RECON, "nersc", walltime=None, speeds={}, longest=300)
    assert (short.term.p50, short.term.p90) == (300, 300)


@pytest.mark.parametrize("seconds", [(0.0, 0.0), (5.0, 0.0)])
def test_a_stage_that_took_no_time_compares_nothing(seconds: tuple[float, float]) -> None:
    works = learn([*ran("nersc", seconds[0]), *ran("alcf", seconds[1])])
    assert works.slowness("alcf", "nersc", {}) == (1, "")


def test_only_the_newest_fifty_runs_count() -> None:
    assert learn(ran("nersc", *[900.0] * 50, *[100.0] * 50)).expect(RECON, "nersc", walltime=None, speeds={}).term == (
        learn(ran("nersc", *[100.0] * 50)).expect(RECON, "nersc", walltime=None, speeds={}).term
    )
