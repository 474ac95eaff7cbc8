"""A stage at a site: ranks laid out over its nodes, and the lane that takes the job."""

from __future__ import annotations

from dataclasses import replace

import pytest
from policy_kit import GB, NOW, candidate, rules, site

from connectors.model import LaneLimits, Resources
from policies.explain import sentences
from policies.fit import Fit, fit
from policies.model import Ranks, Reason, Rules, SiteFacts
from policies.placement import place, static_refusal

HOUR = 3600.0
PERLMUTTER = site("perlmutter", cores=64, gpus=4, memory=256 * GB, nodes=1792)
POLARIS = site(
    "polaris",
    cores=32,
    gpus=4,
    memory=512 * GB,
    nodes=496,
    max_walltime=168 * HOUR,
    lanes={
        "urgent": LaneLimits(max_nodes=56, max_walltime=HOUR),
        "normal": LaneLimits(min_nodes=10, max_nodes=496, walltimes=((24, 3 * HOUR), (99, 6 * HOUR), (496, 24 * HOUR))),
        "preemptible": LaneLimits(min_walltime=300.0, max_nodes=10, max_walltime=72 * HOUR),
    },
)


def fitted(asked: Rules, there: SiteFacts) -> Fit:
    found = fit(asked, there)
    assert isinstance(found, Fit), found
    return found


def refusal(asked: Rules, there: SiteFacts) -> Reason:
    found = fit(asked, there)
    assert isinstance(found, Reason), found
    assert static_refusal(asked, there) == found
    return found


# -- ranks ---------------------------------------------------------------------------------------------------------

LAYOUTS = [
    # ranks, node -> nodes, ranks on each, cores, gpus, memory
    (Ranks(count=64, cores=8, gpus=1, memory=32 * GB), PERLMUTTER, (16, 4, 32, 4, 128 * GB)),
    (Ranks(count=64, cores=8, gpus=1, memory=32 * GB), POLARIS, (16, 4, 32, 4, 128 * GB)),
    (Ranks(count=64, cores=8), PERLMUTTER, (8, 8, 64, 0, 0)),  # cores decide
    (Ranks(count=10, cores=1, memory=100 * GB), PERLMUTTER, (5, 2, 2, 0, 200 * GB)),  # memory decides
    (Ranks(count=9, cores=8), PERLMUTTER, (2, 5, 40, 0, 0)),  # spread evenly: 5 and 4
    (Ranks(count=1), PERLMUTTER, (1, 1, 1, 0, 0)),
    (Ranks(count=8, cores=8, nodes=4), PERLMUTTER, (4, 2, 16, 0, 0)),  # as many nodes as were asked for
    (Ranks(count=2, nodes=4), PERLMUTTER, (2, 1, 1, 0, 0)),  # but none that stays empty
    (Ranks(count=8, cores=8, gpus=1), site("cloud", cores=0, gpus=8, nodes=1), (1, 8, 64, 8, 0)),  # cores not known
]


@pytest.mark.parametrize(("ranks", "there", "laid"), LAYOUTS)
def test_ranks_fill_nodes_up_to_what_a_node_has(
    ranks: Ranks, there: SiteFacts, laid: tuple[int, int, int, int, int]
) -> None:
    found = fitted(Rules(ranks=ranks), there).resources
    assert (found.nodes, found.ranks_per_node, found.cores, found.gpus, found.memory) == laid
    assert found.ranks == ranks.count


MISFITS = [
    (Ranks(count=2, cores=65), PERLMUTTER, "resources.cores_per_rank", "asks for 65 cores for each rank"),
    (Ranks(count=2, gpus=1), site(gpus=0), "resources.gpus_per_rank", "asks for gpus for each rank, nersc has none"),
    (Ranks(count=2, memory=300 * GB), PERLMUTTER, "resources.memory_per_rank", "asks for 300 GB of memory for each"),
    (Ranks(count=64, cores=64), site(cores=64, nodes=10), "resources.nodes", "asks for 64 nodes, nersc has 10"),
    (Ranks(count=64, cores=8, nodes=2), PERLMUTTER, "resources.ranks", "64 ranks on 2 nodes, a node of perlmutter"),
    (Ranks(count=64), site(cores=0, nodes=0), "resources.ranks", "how many cores a node of nersc has is not known"),
]


@pytest.mark.parametrize(("ranks", "there", "rule", "fact"), MISFITS)
def test_ranks_that_fit_no_node_are_refused_by_name(ranks: Ranks, there: SiteFacts, rule: str, fact: str) -> None:
    reason = refusal(Rules(ranks=ranks), there)
    assert reason.rule == rule
    assert fact in reason.fact


# -- lanes ---------------------------------------------------------------------------------------------------------


def test_a_site_without_the_lane_is_refused_with_its_reason() -> None:
    reason = refusal(Rules(lane=("urgent",)), site())
    assert (reason.rule, reason.fact) == ("lane", "nersc has no lane urgent")


def test_a_later_lane_of_the_wish_is_taken_where_the_first_is_lacking() -> None:
    found = fitted(Rules(lane=("urgent", "normal")), site())
    assert found.lane == "normal"
    assert [(note.verdict, note.fact) for note in found.notes] == [
        ("against", "nersc has no lane urgent"),
        ("for", "in its lane normal"),
    ]


def test_every_site_has_the_normal_lane_and_it_is_the_one_of_a_stage_that_names_none() -> None:
    assert fitted(Rules(), site()).lane == "normal"
    assert fitted(Rules(), site()).notes == ()


WISHES = [
    # lanes, nodes, walltime -> the lane, its longest
    (("preemptible", "normal"), 16, None, "normal", 3 * HOUR),  # too many nodes for the first
    (("preemptible", "normal"), 4, None, "preemptible", 72 * HOUR),
    (("preemptible", "normal"), 12, 60.0, "normal", 60.0),
    (("urgent", "normal"), 12, 2 * HOUR, "normal", 2 * HOUR),  # too long for the first
    (("normal",), 100, None, "normal", 24 * HOUR),
    (("normal",), 99, 5 * HOUR, "normal", 5 * HOUR),
]


@pytest.mark.parametrize(("lanes", "nodes", "asked", "lane", "walltime"), WISHES)
def test_the_first_lane_that_takes_such_a_job_is_chosen_and_max_is_its_longest(
    lanes: tuple[str, ...], nodes: int, asked: float | None, lane: str, walltime: float
) -> None:
    found = fitted(Rules(lane=lanes, resources=Resources(nodes=nodes, walltime=asked)), POLARIS)
    assert (found.lane, found.resources.walltime) == (lane, walltime)


UNFIT = [
    (4, 60.0, "asks for 4 nodes, the lane normal of polaris begins at 10"),
    (24, 4 * HOUR, "asks for 14400 s of walltime on 24 nodes, the lane normal of polaris allows 10800 s"),
]


@pytest.mark.parametrize(("nodes", "walltime", "fact"), UNFIT)
def test_a_job_that_no_lane_of_the_wish_takes_is_refused_by_the_lanes_own_words(
    nodes: int, walltime: float, fact: str
) -> None:
    reason = refusal(Rules(lane=("normal",), resources=Resources(nodes=nodes, walltime=walltime)), POLARIS)
    assert (reason.rule, reason.fact) == ("lane", fact)


def test_a_lane_that_is_left_out_on_purpose_is_told_with_the_reason() -> None:
    reason = refusal(Rules(lane=("preemptible",), resources=Resources(walltime=60.0)), POLARIS)
    assert reason.fact == "asks for 60 s of walltime, the lane preemptible of polaris begins at 300 s"


def test_without_a_lanes_limit_max_is_the_sites_longest() -> None:
    assert fitted(Rules(), site(max_walltime=60.0)).resources.walltime == 60.0
    assert fitted(Rules(), site()).resources.walltime is None


def test_placement_tells_the_lane_that_it_chose_and_those_it_passed_over() -> None:
    wish = rules(allow=("polaris",))
    asked = Rules(sites=wish.sites, lane=("preemptible", "normal"), resources=Resources(nodes=16))
    there = candidate("polaris", rules=asked, nodes=496, lanes=POLARIS.lanes)
    decision = place([there], now=NOW)
    assert decision.outcome == "place"
    told = " ".join(sentences(decision))
    assert "in its lane normal" in told
    assert "Rejected: asks for 16 nodes, the lane preemptible of polaris ends at 10." in told


def test_a_site_that_has_the_better_lane_comes_first_unless_another_is_preferred() -> None:
    urgent = {"urgent": LaneLimits()}
    asked = Rules(lane=("urgent", "normal"))
    there = [candidate("alcf", rules=asked, load=0), candidate("nersc", rules=asked, load=3, lanes=urgent)]
    decision = place(there, now=NOW)
    assert decision.site == "nersc"
    assert "alcf comes after nersc: lane normal, 0 of 4 places taken" in " ".join(sentences(decision))
    liked = Rules(sites=rules(prefer=("alcf",)).sites, lane=asked.lane)
    assert place([replace(one, rules=liked) for one in there], now=NOW).site == "alcf"
