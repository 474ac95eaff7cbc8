"""The sum that candidates are compared by."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.forecast import NOTHING, Forecast, Term, equal, printed, sources

HOUR, DAY = 3600.0, 86_400.0
seconds = st.floats(min_value=0, max_value=1e6)


def terms() -> st.SearchStrategy[Term]:
    return st.builds(lambda p50, more: Term(p50, p50 + more), seconds, seconds)


def forecasts() -> st.SearchStrategy[Forecast]:
    return st.builds(
        Forecast,
        site=st.just("nersc"),
        stage_in=terms(),
        wait=terms(),
        work=terms(),
        stage_out=terms(),
        losses_every=st.one_of(st.just(0.0), st.floats(min_value=60, max_value=1e8)),
        at_stake=st.one_of(st.none(), seconds),
    )


def test_the_finish_is_the_sum_of_its_terms() -> None:
    one = Forecast(
        site="nersc", stage_in=Term(30, 60), wait=Term(600, 900), work=Term(3600, 4000), stage_out=Term(10, 10)
    )
    assert one.finish_p50 == 30 + 600 + 3600 + 10
    assert one.finish_p90 == pytest.approx(one.finish_p50 + math.sqrt(30**2 + 300**2 + 400**2))
    assert math.sqrt(one.variance) * 1.2816 == pytest.approx(one.finish_p90 - one.finish_p50)


def test_a_term_without_spread_is_expected_as_it_is() -> None:
    assert Term(120, 120).mean == pytest.approx(120)
    assert NOTHING.mean == 0


def test_a_queue_that_is_long_now_and_then_is_expected_to_be_longer() -> None:
    assert Term(60, 4 * HOUR).mean > 30 * 60 > 2 * Term(60, 90).mean


def test_a_percentile_below_the_median_and_a_figure_that_is_none_are_put_right() -> None:
    assert (Term(60, 10).p90, Term(-5, -5).p50, Term(math.nan, 3).p50) == (60, 0, 3.2e8)


def test_what_is_left_after_a_checkpoint_varies_less() -> None:
    left = Term(3600, 4800).less(1800)
    assert (left.p50, left.p90) == (1800, 2400)
    assert Term(60, 60).less(100).p50 == 0


def test_a_site_that_is_lost_often_is_expected_later_and_one_with_copies_elsewhere_less_so() -> None:
    work = Term(10 * HOUR, 10 * HOUR)
    safe = Forecast(site="a", work=work, losses_every=0)
    often = Forecast(site="a", work=work, losses_every=20 * HOUR)
    copied = Forecast(site="a", work=work, losses_every=20 * HOUR, at_stake=HOUR)
    assert safe.expected == pytest.approx(10 * HOUR)
    assert often.expected == pytest.approx(10 * HOUR * (math.e**0.5 - 1) / 0.5)
    assert safe.expected < copied.expected < often.expected
    assert often.risk == pytest.approx(1 - math.exp(-0.5)), "the risk is told as it is, copies or none"


def test_the_chance_of_a_deadline_is_a_half_at_the_median_and_nine_tenths_at_the_ninetieth() -> None:
    one = Forecast(site="a", wait=Term(600, 1200), work=Term(600, 600))
    assert one.chance_by(one.finish_p50) == pytest.approx(0.5)
    assert one.chance_by(one.finish_p90) == pytest.approx(0.9, abs=1e-4)
    assert (one.chance_by(0), Forecast(site="a", work=Term(60, 60)).chance_by(61)) == (0, 1)


def test_it_is_printed_on_one_line_with_what_it_is_made_of() -> None:
    one = Forecast(
        site="nersc",
        stage_in=Term(30, 60, "3 transfers"),
        wait=Term(840, 1500, "12 jobs of the lane urgent in 14 d", 12),
        work=Term(2700, 2700, "walltime"),
        losses_every=10 * HOUR,
        charge=3.5,
        unit="node_hours",
    )
    assert printed(one) == (
        "done in 60 min (9 of 10 within 71 min): stage-in 30 s + wait 14 min + work 45 min, "
        "lost before that 9.4 %, 3.5 node hours"
    )
    assert sources(one) == "stage-in: 3 transfers; wait: 12 jobs of the lane urgent in 14 d; work: walltime"
    assert printed(Forecast(site="a")) == "done in 0 s: nothing to wait for"


def test_two_that_are_within_a_minute_or_a_tenth_are_equal() -> None:
    assert equal(5, 64)
    assert not equal(5, 66)
    assert equal(HOUR, 1.09 * HOUR)
    assert not equal(HOUR, 1.11 * HOUR)


@given(forecasts())
def test_it_comes_back_from_a_decisions_facts_as_it_was(one: Forecast) -> None:
    again = Forecast.from_facts(json.loads(json.dumps(one.facts)))
    assert again.site == one.site
    assert again.finish_p50 == pytest.approx(one.finish_p50, abs=0.01)
    assert again.expected == pytest.approx(one.expected, abs=0.01, rel=1e-3)


def test_other_work_is_all_that_differs_in_a_forecast_with_other_work() -> None:
    one = Forecast(site="a", lane="urgent", stage_in=Term(1, 2), wait=Term(3, 4), stage_out=Term(5, 6), saved=7,
                   losses_every=8, at_stake=9, charge=10, unit="usd")  # fmt: skip
    assert one.with_work(Term(11, 12), 2.0) == replace(one, work=Term(11, 12), speed=2.0)


def test_what_is_no_forecast_is_not_read_as_one() -> None:
    with pytest.raises(KeyError):
        Forecast.from_facts({"lane": "normal"})
    with pytest.raises(TypeError):
        Forecast.from_facts({**Forecast(site="nersc").facts, "wait": "long"})


@given(forecasts(), seconds)
def test_a_longer_wait_never_makes_a_site_better(one: Forecast, more: float) -> None:
    later = Forecast(
        site=one.site,
        stage_in=one.stage_in,
        wait=Term(one.wait.p50 + more, one.wait.p90 + more),
        work=one.work,
        stage_out=one.stage_out,
        losses_every=one.losses_every,
        at_stake=one.at_stake,
    )
    slack = 1e-9 * max(1.0, one.expected)
    assert later.expected >= one.expected - slack
    assert later.finish_p90 >= one.finish_p90 - slack
    assert later.risk >= one.risk


@given(forecasts(), seconds)
def test_a_wider_spread_never_makes_a_site_better(one: Forecast, more: float) -> None:
    wider = Term(one.work.p50, one.work.p90 + more)
    assert wider.mean >= one.work.mean - 1e-9 * max(1.0, one.work.mean)


@given(forecasts(), seconds, seconds)
def test_more_time_never_makes_a_deadline_less_likely(one: Forecast, first: float, more: float) -> None:
    assert 0 <= one.chance_by(first) <= 1
    assert one.chance_by(first + more) >= one.chance_by(first) - 1e-9
