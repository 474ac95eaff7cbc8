"""How often: Young's and Daly's intervals against published figures, and what is asked of a payload."""

from __future__ import annotations

import pytest

from policies.explain import sentences
from policies.intervals import amount, ask_every, daly, span, young
from policies.model import Decision

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


@pytest.mark.parametrize(("losses", "minutes"), [(DAY, 117), (6 * HOUR, 57), (15 * MINUTE, 9)])
def test_daly_is_as_in_the_abstract_of_the_paper(losses: float, minutes: int) -> None:
    """A checkpoint of 5 minutes, with losses every 24 hours, 6 hours and 15 minutes."""
    assert round(daly(5 * MINUTE, losses) / MINUTE) == minutes


def test_a_copy_of_two_minutes_from_a_site_lost_every_month_leaves_every_seven_hours() -> None:
    assert round(young(2 * MINUTE, 30 * DAY) / MINUTE) == 416
    assert young(2 * MINUTE, 30 * DAY, weight=16) == pytest.approx(young(2 * MINUTE, 30 * DAY) / 4)


def test_copies_never_leave_faster_than_they_arrive() -> None:
    assert young(10 * MINUTE, 60.0) == 10 * MINUTE


def test_a_checkpoint_that_costs_more_than_the_time_between_losses_is_written_once_in_that_time() -> None:
    assert daly(3 * HOUR, HOUR) == HOUR


def test_the_interval_is_told_with_what_it_was_worked_out_from() -> None:
    decision = ask_every(site="nersc", between_losses=30 * DAY, bytes=200 * 10**9, urgent=False)
    assert (decision.kind, decision.outcome, decision.facts["cost"]) == ("interval", "ask", 205.0)
    assert [reason.fact for reason in decision.reasons] == [
        "a checkpoint is taken to cost 3.4 min (the one that it starts from has 200 GB)",
        "nersc is lost every 30 d",
        "so it is asked for one every 9 h",
    ]
    assert sentences(decision)[0].startswith("Is asked for checkpoints at the best interval: ")
    assert Decision.from_json(decision.json) == decision


def test_urgent_work_is_asked_about_four_times_as_often() -> None:
    calm, urgent = (
        ask_every(site="nersc", between_losses=30 * DAY, bytes=None, urgent=urgent) for urgent in (False, True)
    )
    assert 3.9 < int(str(calm.facts["every"])) / int(str(urgent.facts["every"])) < 4.2
    assert "none was seen yet" in calm.reasons[0].fact
    assert "an hour of urgent work counts as 16" in [r.fact for r in urgent.reasons]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (1.5, "1.5 s"), (45, "45 s"), (119, "119 s"), (150, "2.5 min"), (7300, "2 h"), (2.592e6, "30 d")],
)
def test_durations_are_told_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_sizes_are_told_in_the_unit_that_fits() -> None:
    assert [amount(n) for n in (0, 999, 1500, 12 * 10**6, 3 * 10**12)] == [
        "0 bytes",
        "999 bytes",
        "1.5 kB",
        "12 MB",
        "3 TB",
    ]
