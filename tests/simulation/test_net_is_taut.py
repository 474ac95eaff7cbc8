"""Each safeguard, taken out by itself, makes the simulation fail: the net is taut, and none of them is decoration."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from simulation import unsafe
from simulation.play import play

ENOUGH = 200
"""Stories within which the simulation must see what is missing."""


def first_failure() -> tuple[int, list[str]]:
    """The first story that goes wrong, and how."""
    for seed in range(ENOUGH):
        try:
            found = play(seed).found
        except Exception as error:
            return seed, [repr(error)]
        if found:
            return seed, found
    return ENOUGH, []


@pytest.mark.parametrize(
    "without",
    [
        unsafe.without_compare_and_set,
        unsafe.without_find_by_key,
        unsafe.without_start_gate,
        unsafe.without_follow_the_key,
        unsafe.without_fresh_doubt,
        unsafe.without_second_look,
    ],
    ids=lambda without: without.__name__.removeprefix("without_"),
)
def test_the_simulation_fails_without(without: Callable[[], AbstractContextManager[None]]) -> None:
    with without():
        _, found = first_failure()
    assert found
