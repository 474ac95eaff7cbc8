"""Where data may be: one rule, the same at every moment that asks it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from policy_kit import rules as plain_rules
from policy_kit import site as plain_site

from policies.model import DataRule, Rules, SiteFacts
from policies.placement import Candidate, place, static_refusal
from policies.residency import EXPORT_CONTROL, SideFacts, allowed, side_of

NAMES = st.sampled_from(["nersc", "alcf", "olcf", "cfs", "data", "perlmutter"])
RULES = st.builds(DataRule, export_control=st.booleans(), stay=st.lists(NAMES, max_size=3, unique=True).map(tuple))
CLEARANCES = st.sampled_from([frozenset(), frozenset({EXPORT_CONTROL})])
FACTS = st.builds(SideFacts, names=st.frozensets(NAMES, min_size=1, max_size=3), clearance=CLEARANCES)


@st.composite
def sites(draw: st.DrawFn) -> SiteFacts:
    name = draw(NAMES)
    made = plain_site(name, facility=draw(NAMES), profile=draw(NAMES))
    return replace(made, clearance=draw(CLEARANCES))


def bound(rule: DataRule) -> Rules:
    return replace(plain_rules(), data=rule)


@given(RULES, NAMES, FACTS)
def test_data_under_export_control_never_goes_where_there_is_no_clearance(
    rule: DataRule, side: str, facts: SideFacts
) -> None:
    for name in (side, f"{side}:"):
        if rule.export_control and EXPORT_CONTROL not in facts.clearance:
            against = allowed(rule, name, facts)
            assert against is not None
            assert against.rule == "data.export_control"


@given(RULES, NAMES, FACTS)
def test_data_that_stays_is_nowhere_else(rule: DataRule, side: str, facts: SideFacts) -> None:
    if allowed(rule, f"{side}:", facts) is None and rule.stay:
        assert facts.names & set(rule.stay)


@given(NAMES, FACTS)
def test_without_a_rule_data_may_be_anywhere(side: str, facts: SideFacts) -> None:
    for rule in (None, DataRule()):
        assert allowed(rule, side, facts) is None
        assert allowed(rule, side, None) is None


@given(RULES, NAMES)
def test_under_a_rule_nothing_goes_to_a_side_that_nobody_knows(rule: DataRule, side: str) -> None:
    if rule.export_control or rule.stay:
        assert allowed(rule, f"{side}:", None) is not None


@given(RULES, FACTS, st.frozensets(NAMES))
def test_more_clearance_and_more_names_never_forbid_more(rule: DataRule, facts: SideFacts, more: frozenset) -> None:
    wider = SideFacts(names=facts.names | more, clearance=facts.clearance | {EXPORT_CONTROL})
    if allowed(rule, "x:", facts) is None:
        assert allowed(rule, "x:", wider) is None


@given(RULES, sites())
def test_placement_refuses_a_site_exactly_where_nothing_may_be_moved_to(rule: DataRule, site: SiteFacts) -> None:
    against = allowed(rule, site.name, side_of(site))
    assert static_refusal(bound(rule), site) == against


@given(RULES, st.lists(sites(), min_size=1, max_size=4, unique_by=lambda site: site.name), st.data())
def test_no_wish_and_no_preference_places_a_stage_where_its_data_may_not_be(
    rule: DataRule, there: list[SiteFacts], data: st.DataObject
) -> None:
    names = [site.name for site in there]
    want, near = data.draw(st.sampled_from(["", *names])), data.draw(st.sampled_from(["", *names]))
    candidates = [Candidate(site=site, rules=bound(rule)) for site in there]
    decision = place(candidates, now=0, want=want, near=near)
    if decision.outcome == "place":
        chosen = next(site for site in there if site.name == decision.site)
        assert allowed(rule, chosen.name, side_of(chosen)) is None
    else:
        assert decision.outcome == "impossible"
        assert all(allowed(rule, site.name, side_of(site)) is not None for site in there)
