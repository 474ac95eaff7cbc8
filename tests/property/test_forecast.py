"""Ranking by the expected finish, whatever the candidates are."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from policy_kit import NOW, site

from policies.forecast import Forecast, Term, equal
from policies.model import Rules, SiteRule
from policies.placement import Candidate, place

NAMES = ("alcf", "lab", "nersc", "olcf", "tacc")
seconds = st.one_of(st.just(0.0), st.floats(min_value=0, max_value=2e5))


@st.composite
def forecasts(draw: st.DrawFn, name: str) -> Forecast:
    wait, work = draw(seconds), draw(seconds)
    return Forecast(
        site=name,
        wait=Term(wait, wait + draw(seconds)),
        work=Term(work, work + draw(seconds)),
        losses_every=draw(st.sampled_from([0.0, 3600.0, 1e6])),
    )


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    rules = Rules(sites=SiteRule(prefer=tuple(draw(st.lists(st.sampled_from(NAMES), max_size=1)))))
    return [
        Candidate(
            site=site(
                name,
                load=draw(st.integers(0, 4)),
                share=draw(st.integers(0, 2)),
                unwell=draw(st.sampled_from(["", "", "it is slow"])),
                refuses=draw(st.sampled_from(["", "", "it is down"])),
            ),
            rules=rules,
            forecast=draw(forecasts(name)),
        )
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    ]


@given(candidates(), st.data())
def test_a_longer_wait_never_makes_a_site_the_chosen_one(known: list[Candidate], data: st.DataObject) -> None:
    before = place(known, now=NOW)
    k = data.draw(st.integers(0, len(known) - 1))
    one = known[k]
    assert one.forecast is not None
    more = data.draw(seconds)
    wait = Term(one.forecast.wait.p50 + more, one.forecast.wait.p90 + more)
    later = [*known]
    later[k] = replace(one, forecast=replace(one.forecast, wait=wait))
    after = place(later, now=NOW)
    assert after.site != one.site.name or before.site == one.site.name


@given(candidates(), forecasts("zz"))
def test_a_site_that_is_refused_changes_nothing(known: list[Candidate], forecast: Forecast) -> None:
    more = Candidate(site=site("zz", refuses="it is down"), rules=known[0].rules, forecast=forecast)
    before, after = place(known, now=NOW), place([*known, more], now=NOW)
    assert (before.outcome, before.site, before.facts) == (after.outcome, after.site, after.facts)


@given(candidates(), st.randoms())
def test_the_order_in_which_sites_are_told_changes_nothing(known: list[Candidate], dice: st.randoms) -> None:  # type: ignore[valid-type]
    shuffled = [*known]
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert place(known, now=NOW).site == place(shuffled, now=NOW).site


@given(candidates())
def test_no_site_that_is_as_welcome_would_have_been_sooner(known: list[Candidate]) -> None:
    chosen = next((c for c in known if c.site.name == place(known, now=NOW).site), None)
    if chosen is None or chosen.forecast is None:
        return
    preferred = chosen.rules.sites.prefer
    for other in known:
        alike = (other.site.name in preferred, other.site.unwell) == (chosen.site.name in preferred, chosen.site.unwell)
        able = not other.site.refuses and other.site.share > 0
        if alike and able and other.forecast is not None and other.forecast.expected < chosen.forecast.expected:
            assert equal(other.forecast.expected, chosen.forecast.expected)
