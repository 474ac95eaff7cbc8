"""The rules without a broker, and the oracle: by hand on a few traces, and on any that Hypothesis finds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.simulate.baselines import BASELINES, checkpoint_move, checkpoint_same, elsewhere_naive, race, same_naive
from broker.simulate.oracle import best_span
from broker.simulate.outcome import Outcome, figures, percentile
from broker.simulate.setting import Setting
from broker.simulate.uptime import Spell, Uptime, joined
from broker.simulate.waste import Piece, Waste, wasted

HOUR = 3600.0
SETTING = Setting(stage=4 * HOUR, every=HOUR, cost=60.0, detection=120.0, move=300.0, limit=48 * HOUR)
"""Three checkpoints, 4 h 3 min undisturbed."""
WHOLE = 4 * HOUR + 180
LONG = 100 * HOUR


def site(*spells: Spell, name: str = "a") -> Uptime:
    return Uptime(name, joined(spells), LONG)


ALWAYS, NEVER = site((0, LONG)), site()
BREAKS = site((0, 2.5 * HOUR), (5 * HOUR, LONG))
"""Lost half an hour after its second checkpoint, and back after two and a half hours."""


def test_undisturbed_only_checkpoints_cost() -> None:
    assert same_naive([ALWAYS], SETTING, 0).span == 4 * HOUR
    assert checkpoint_same([ALWAYS], SETTING, 0).span == WHOLE
    assert best_span([ALWAYS], SETTING, 0) == WHOLE


def test_who_stays_waits_and_goes_on_from_the_newest_checkpoint() -> None:
    found = checkpoint_same([BREAKS], SETTING, 0)
    assert found.span == 5 * HOUR + SETTING.rest(2)
    assert found.lost == pytest.approx(0.5 * HOUR - 120)
    assert (found.failures, found.moves) == (1, 0)
    assert same_naive([BREAKS], SETTING, 0).span == 9 * HOUR


def test_who_goes_pays_detection_and_the_move() -> None:
    found = checkpoint_move([BREAKS, ALWAYS], SETTING, 0)
    assert found.span == 2.5 * HOUR + 120 + 300 + SETTING.rest(2)
    assert found.moves == 1
    assert elsewhere_naive([BREAKS, ALWAYS], SETTING, 0).span == 2.5 * HOUR + 420 + 4 * HOUR


def test_a_race_pays_for_every_copy() -> None:
    found = race([BREAKS, ALWAYS], SETTING, 0)
    assert found.span == WHOLE
    assert found.lost == 2.5 * HOUR
    assert found.waste == Waste(copies=2.5 * HOUR)
    assert found.spent == WHOLE + 2.5 * HOUR


def test_work_is_wasted_by_outages_and_by_copies_that_were_not_needed() -> None:
    first = Piece(start=0, worked=100, lost=True)  # saved at 80
    second = Piece(start=80, worked=70, lost=False)  # saved at 130, left behind, and lived on
    third = Piece(start=130, worked=70, lost=False)  # to the end
    late = Piece(start=80, worked=20, lost=False)
    assert wasted([first, second, third, late], kept=200) == Waste(outage=20, copies=20 + 20)
    assert wasted([], kept=0) == Waste()


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 100), st.booleans()), max_size=8))
def test_what_is_kept_and_what_is_wasted_is_all_the_work(chain: list[tuple[int, int, bool]]) -> None:
    at, pieces = 0, []
    for more, after, lost in chain:
        pieces.append(Piece(start=at, worked=more + after, lost=lost))
        at += more
    pieces.append(Piece(start=at, worked=10, lost=False))
    found = wasted(pieces, kept=at + 10)
    assert found.outage + found.copies == sum(piece.worked for piece in pieces) - (at + 10)


def test_the_oracle_starts_where_it_need_not_leave() -> None:
    assert best_span([BREAKS, ALWAYS], SETTING, 0) == WHOLE


def test_the_oracle_leaves_at_a_checkpoint_before_the_outage() -> None:
    later = site((1 * HOUR, LONG))
    earlier = site((0, 2.5 * HOUR))
    assert best_span([earlier, later], SETTING, 0) == 2 * SETTING.lap + 420 + SETTING.rest(2)


def test_nobody_is_done_where_there_is_no_room_for_an_hour() -> None:
    crumbs = site(*((i * HOUR, i * HOUR + 1800) for i in range(100)))
    assert best_span([crumbs, NEVER], SETTING, 0) is None
    assert all(rule([crumbs, NEVER], SETTING, 0).span is None for rule in BASELINES.values())


def test_a_result_after_the_limit_is_none() -> None:
    late = site((47 * HOUR, LONG))
    assert best_span([late], SETTING, 0) is None
    assert checkpoint_same([late], SETTING, 0).span is None


def test_figures_leave_out_what_is_not_done_and_count_it() -> None:
    outcomes = [Outcome(span=2 * HOUR, products=1), Outcome(span=None, lost=HOUR), Outcome(span=6 * HOUR, products=2)]
    told = figures(outcomes, [HOUR, HOUR, 3 * HOUR])
    assert told.done == pytest.approx(2 / 3)
    assert (told.median_h, told.p90_h, told.over_oracle) == (4, 6, 2)
    assert told.lost_h_per_run == pytest.approx(1 / 3)
    assert told.products_not_one == 1
    assert percentile([1, 2, 3, 4], 0.5) == 2


@st.composite
def traces(draw: st.DrawFn) -> list[Uptime]:
    """One to four sites whose spells and outages last from minutes to hours."""
    found = []
    for i in range(draw(st.integers(1, 4))):
        at, spells = float(draw(st.integers(0, 120)) * 60), []
        for up, down in draw(st.lists(st.tuples(st.integers(1, 400), st.integers(3, 300)), max_size=14)):
            spells.append((at, at + up * 60))
            at += (up + down) * 60
        found.append(Uptime(f"s{i}", joined(spells), LONG))
    return found


@given(traces(), st.integers(0, 200))
@settings(max_examples=300)
def test_nobody_who_saves_beats_the_oracle(sites: Sequence[Uptime], minute: int) -> None:
    start = minute * 60.0
    best = best_span(sites, SETTING, start)
    for rule in (checkpoint_same, checkpoint_move, race):
        span = rule(sites, SETTING, start).span
        assert span is None or (best is not None and span >= best - 1e-6)


@given(traces(), st.integers(0, 200))
def test_what_is_lost_is_never_less_than_nothing_and_moves_follow_failures(
    sites: Sequence[Uptime], minute: int
) -> None:
    for rule in BASELINES.values():
        found = rule(sites, SETTING, minute * 60.0)
        assert found.lost >= 0
        assert found.moves <= found.failures
        assert found.products == (found.span is not None)


@given(traces(), st.integers(0, 200))
def test_one_more_site_never_makes_the_oracle_slower(sites: Sequence[Uptime], minute: int) -> None:
    start = minute * 60.0
    without_it = best_span(sites[1:], SETTING, start) if sites[1:] else None
    with_it = best_span(sites, SETTING, start)
    assert without_it is None or (with_it is not None and with_it <= without_it + 1e-6)
