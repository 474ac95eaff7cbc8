"""Self-doubt, and black holes: what accuses a site, and what accuses somebody else."""

from __future__ import annotations

from policy_kit import NOW, SECOND

from policies.blackhole import Holes, Subject, holes
from policies.doubt import Dark, companions, words
from policies.evidence import JOB, Fact


def dark(name: str, ago: float = 0, *, owner: str = "", excused: bool = False) -> Dark:
    return Dark(name=name, owner=owner or name, since=NOW - round(ago * SECOND), excused=excused)


def named(*others: Dark, of: Dark) -> list[str]:
    return [other.name for other in companions(of, [of, *others])]


def test_two_sites_of_two_facilities_that_fall_silent_together_are_doubted() -> None:
    assert named(dark("alcf", 30), of=dark("nersc", 60)) == ["alcf"]
    assert words(dark("nersc", 60), [dark("alcf", 30)]) == (
        "nersc fell silent together with alcf (30 s apart): more likely it is us than they"
    )


def test_one_facility_may_well_fail_as_a_whole() -> None:
    assert named(dark("crux", owner="alcf"), of=dark("polaris", owner="alcf")) == []


def test_those_that_fell_silent_at_another_time_have_reasons_of_their_own() -> None:
    assert named(dark("alcf", 700), of=dark("nersc", 0)) == []


def test_a_witness_that_is_no_site_is_enough() -> None:
    assert named(dark("globus", owner="globus:"), of=dark("nersc")) == ["globus"]


def test_whom_an_operator_has_called_down_accuses_nobody_and_is_not_doubted() -> None:
    assert named(dark("alcf", excused=True), of=dark("nersc")) == []
    assert named(dark("alcf"), of=dark("nersc", excused=True)) == []


# -- black holes ---------------------------------------------------------------------------------------------


def ends(site: str, *jobs: tuple[str, str, bool], seconds: float = 3, run: str = "") -> list[Fact]:
    """Jobs (application, person, did it end well?) of one run each, the newest last, a minute apart."""
    return [
        (
            *(site, NOW - (len(jobs) - i) * 60 * SECOND, "compute", ok, round(seconds * SECOND), "exit code 1"),
            *(JOB, "application", Subject(app, who, run or f"run-{i}").text, None),
        )  # type: ignore[misc]
        for i, (app, who, ok) in enumerate(jobs)
    ]


def found(*rows: list[Fact], site: str = "nersc") -> Holes:
    by_site: dict[str, list[Fact]] = {}
    for row in (one for each in rows for one in each):
        by_site.setdefault(row[0], []).append(row)
    return holes(by_site, now=NOW).get(site, Holes())


MIXED = [("tomo", "kim", False), ("md", "lee", False)] * 3


def test_a_site_that_fails_everything_fast_is_a_black_hole() -> None:
    hole = found(ends("nersc", *MIXED)).site
    assert hole is not None
    assert hole.words == "whatever was sent to nersc failed there within 60 s, 6 runs in a row: exit code 1"
    assert hole.tries_at == hole.newest + 1800 * SECOND


def test_one_that_fails_slowly_or_now_and_then_succeeds_is_none() -> None:
    assert found(ends("nersc", *MIXED, seconds=61)) == Holes()
    assert found(ends("nersc", *MIXED[:3], ("md", "lee", True), *MIXED[:3])) == Holes()


def test_an_application_that_fails_where_others_do_not_is_kept_from_that_site_alone() -> None:
    here = found(ends("nersc", *[("tomo", "kim", False), ("md", "lee", True)] * 5))
    assert here.site is None
    assert here.takes("tomo", "kim", NOW).startswith("tomo failed at nersc within 60 s")
    assert here.takes("md", "lee", NOW) == ""
    assert here.takes("tomo", "kim", NOW + 1800 * SECOND) == ""  # it is tried again


def test_an_application_that_fails_elsewhere_too_accuses_itself() -> None:
    everywhere = ends("alcf", *[("tomo", "kim", False)] * 5)
    assert found(ends("nersc", *[("tomo", "kim", False)] * 5), everywhere) == Holes()


def test_one_run_that_is_tried_again_and_again_is_a_bad_input_and_no_bad_site() -> None:
    assert found(ends("nersc", *[("tomo", "kim", False)] * 9, run="run-1")) == Holes()


def test_one_persons_jobs_may_be_swallowed_where_others_run() -> None:
    here = found(ends("nersc", *[*MIXED[:1], ("md", "kim", False), ("md", "lee", True)] * 4))
    assert here.site is None
    assert here.takes("other", "kim", NOW).startswith("the jobs of kim failed at nersc")
    assert here.takes("other", "lee", NOW) == ""
