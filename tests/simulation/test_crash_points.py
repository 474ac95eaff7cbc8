"""A worker is ended at every step of every handler; another one goes on, and the story ends as if nothing had been.

The short form ends it after every call that may leave a trace, which is every state that a successor can find: what a
worker has only read, or only begun to decide, dies with it. The long form (`--slow`) takes every call.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from simulation.crashing import Played, Points, Rig, Scenario
from simulation.scenarios import ALL

FEWEST_POINTS = 900
"""In all scenarios together; fewer would mean that something is no longer seen."""


def by_name(scenario: Scenario) -> str:
    return scenario.name.replace(" ", "-")


def undisturbed(scenario: Scenario) -> Played:
    return Rig(scenario, Points()).play()


def crash_free_ends(scenario: Scenario, points: int) -> set[tuple[str, ...]]:
    """How the story may end when nobody crashes, though the worker now and then stands still for a while."""
    naps = [Points(at=at, variant="nap") for at in range(0, points, max(1, points // 12))]
    return {Rig(scenario, nap, naps=naps_long).play().ends for nap in naps for naps_long in (3, 14)}


def strikes(played: Played, *, every: bool) -> Iterator[tuple[int, str, str]]:
    """Where to strike, how, and how the next worker learns of it: (point, variant, heal)."""
    for at, call in enumerate(played.points):
        after_a_trace = at == 0 or played.points[at - 1].writes
        if every or after_a_trace:
            yield at, "crash", ("break", "wait")[at % 2]
            if every:
                yield at, "crash", ("wait", "break")[at % 2]
        if call.writes:
            yield at, "reply", "break"


def check(scenario: Scenario, *, every: bool) -> None:
    played = undisturbed(scenario)
    assert played.found == []
    wanted = crash_free_ends(scenario, len(played.points)) | {played.ends}
    wrong = []
    for at, variant, heal in strikes(played, every=every):
        after = Rig(scenario, Points(at=at, variant=variant), heal=heal).play()
        if after.found or after.ends not in wanted:
            call = played.points[at]
            wrong.append(f"{variant} at point {at} ({call.of} {call.verb}, {heal}): {after.ends} {list(after.found)}")
    assert wrong == []


@pytest.mark.parametrize("scenario", ALL, ids=by_name)
def test_a_crash_after_any_trace_leads_to_the_end_of_a_crash_free_run(scenario: Scenario) -> None:
    check(scenario, every=False)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ALL, ids=by_name)
def test_a_crash_at_any_point_leads_to_the_end_of_a_crash_free_run(scenario: Scenario) -> None:
    check(scenario, every=True)


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
