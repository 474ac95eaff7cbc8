"""Each safeguard, taken out by itself, makes the simulation fail: the net is taut, and none of them is decoration."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest
from simulation import unsafe
from simulation.crashing import Rig
from simulation.play import play
from simulation.scenarios import WAIVED

from broker.states import IllegalMove

pytestmark = pytest.mark.long

ENOUGH = 1_000
"""Stories within which the simulation must see what is missing."""


def first_failure(wanted: str = "") -> tuple[int, list[str]]:
    """The first story in which that is found wrong (or anything), and what."""
    for seed in range(ENOUGH):
        try:
            found = play(seed).found
        except IllegalMove as error:
            found = [f"illegal: {error}"]
        if any(words.startswith(wanted) for words in found):
            return seed, found
    return ENOUGH, []


@pytest.mark.parametrize(
    ("without", "wanted"),
    [
        (unsafe.without_compare_and_set, ""),
        (unsafe.without_find_by_key, "double:"),
        (unsafe.without_start_gate, "gate:"),
        (unsafe.without_follow_the_key, "closed:"),
        (unsafe.without_fresh_doubt, "double:"),
        (unsafe.without_second_look, "closed:"),
    ],
    ids=lambda value: getattr(value, "__name__", "sees").removeprefix("without_"),
)
def test_the_simulation_fails_without(without: Callable[[], AbstractContextManager[None]], wanted: str) -> None:
    with without():
        _, found = first_failure(wanted)
    assert found


def test_a_site_that_takes_data_which_stays_elsewhere_is_seen() -> None:
    with unsafe.without_residency():
        found = Rig(replace(WAIVED, waivers=())).play().found
    assert [words for words in found if words.startswith("data: b took ")]
