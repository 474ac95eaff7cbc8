"""Two blows in one story: the worker that cleans up after the first one is struck as well.

All pairs of crashes in a short scenario, and a sample of all blows in every one, drawn once and for all. `--slow`
takes all pairs of all.
"""

from __future__ import annotations

import pytest
from simulation.crashing import Rig, Scenario, Strike
from simulation.scenarios import ALL, OPTIONAL
from simulation.striking import by_name, crash_free_ends, crashes, pairs, some_pairs, strikes, undisturbed, wrong_ends

pytestmark = pytest.mark.long


@pytest.mark.fault("F01", "F02", "F03", "F04", "F05")
def test_all_pairs_of_crashes_in_a_short_scenario_lead_to_the_end_of_a_crash_free_run() -> None:
    firsts = [strike for strike in strikes(undisturbed(OPTIONAL)) if strike.how == "crash"]
    twice = crashes(pairs(OPTIONAL, firsts))
    assert wrong_ends(OPTIONAL, twice, crash_free_ends(OPTIONAL)) == []


@pytest.mark.fault("F01", "F02", "F03", "F04", "F05")
@pytest.mark.parametrize("scenario", ALL, ids=by_name)
def test_a_sample_of_pairs_leads_to_the_end_of_a_crash_free_run(scenario: Scenario) -> None:
    twice = some_pairs(scenario, firsts=8, seconds=4)
    assert wrong_ends(scenario, twice, crash_free_ends(scenario)) == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("scenario", ALL, ids=by_name)
def test_all_pairs_lead_to_the_end_of_a_crash_free_run(scenario: Scenario) -> None:
    twice = pairs(scenario, strikes(undisturbed(scenario)))
    assert wrong_ends(scenario, twice, crash_free_ends(scenario)) == []


def test_both_blows_of_a_pair_fall() -> None:
    """Else pairs would be single blows under another name."""
    for pair in some_pairs(OPTIONAL, firsts=4, seconds=3):
        rig = Rig(OPTIONAL, *pair)
        rig.play()
        assert tuple(rig.points.struck) == pair


def test_the_sample_is_the_same_every_time() -> None:
    first, again = (list(some_pairs(OPTIONAL, firsts=3, seconds=2)) for _ in range(2))
    assert first == again
    assert all(isinstance(strike, Strike) for pair in first for strike in pair)
