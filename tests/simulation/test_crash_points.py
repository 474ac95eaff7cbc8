"""A worker is ended at every step of every handler; another one goes on, and the story ends as if nothing had been.

The short form ends it after every call that may leave a trace, which is every state that a successor can find: what a
worker has only read, or only begun to decide, dies with it. The long form (`--slow`) takes every call.
"""

from __future__ import annotations

import pytest
from simulation.crashing import Scenario
from simulation.scenarios import ALL
from simulation.striking import by_name, crash_free_ends, strikes, undisturbed, wrong_ends

pytestmark = pytest.mark.long

FEWEST_POINTS = 900
"""In all scenarios together; fewer would mean that something is no longer seen."""


@pytest.mark.parametrize("scenario", ALL, ids=by_name)
def test_without_a_crash_all_is_well(scenario: Scenario) -> None:
    assert undisturbed(scenario).found == []


@pytest.mark.fault("F01", "F02", "F03", "F04", "F05")
@pytest.mark.parametrize("scenario", ALL, ids=by_name)
def test_a_crash_after_any_trace_leads_to_the_end_of_a_crash_free_run(scenario: Scenario) -> None:
    once = [(strike,) for strike in strikes(undisturbed(scenario))]
    assert wrong_ends(scenario, once, crash_free_ends(scenario)) == []


@pytest.mark.fault("F01", "F02", "F03", "F04", "F05")
@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("scenario", ALL, ids=by_name)
def test_a_crash_at_any_point_leads_to_the_end_of_a_crash_free_run(scenario: Scenario) -> None:
    once = [(strike,) for strike in strikes(undisturbed(scenario), every=True)]
    assert wrong_ends(scenario, once, crash_free_ends(scenario)) == []


def test_every_handler_is_among_the_points() -> None:
    calls = {(call.of.split(":")[0], call.verb) for scenario in ALL for call in undisturbed(scenario).points}
    assert {
        ("store", "acquire"),
        ("store", "claim_effects"),
        ("store", "record"),
        ("store", "release"),
        ("store", "due_runs"),
        ("decision", "apply"),
        ("decision", "commit"),
        ("site", "submit"),
        ("site", "find"),
        ("site", "cancel"),
        ("site", "remove"),
        ("site", "read_many"),
        ("site", "digests"),
        ("mover", "submit"),
    } <= calls


def test_the_points_are_not_fewer_than_they_were() -> None:
    assert sum(len(undisturbed(scenario).points) for scenario in ALL) >= FEWEST_POINTS
