"""Where data may be: one rule, the same at every moment that asks it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from policy_kit import rules as plain_rules
from policy_kit import site as plain_site

from policies.model import DataRule, Rules, SiteFacts
from policies.placement import Candidate, place, static_refusal
from policies.residency import EXPORT_CONTROL, WAIVABLE, SideFacts, Waiver, allowed, in_force, judged, side_of

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


PEOPLE = st.sampled_from(["", "ann", "bob"])
WAIVERS = st.lists(
    st.builds(
        Waiver,
        id=st.uuids().map(str),
        side=st.one_of(NAMES, NAMES.map(lambda name: f"{name}:")),
        rule=st.sampled_from([*WAIVABLE, "data", "cores"]),
        asked_by=PEOPLE,
        confirmed_by=PEOPLE,
        ends_at=st.integers(0, 10),
        withdrawn=st.booleans(),
    ),
    max_size=8,
)
TIMES = st.integers(0, 10)


@given(RULES, NAMES, FACTS, WAIVERS, TIMES)
def test_a_waiver_takes_two_persons_is_not_withdrawn_and_has_an_end(
    rule: DataRule, side: str, facts: SideFacts, waivers: list[Waiver], now: int
) -> None:
    waived = in_force(waivers, now=now)
    for one in waived:
        assert {one.asked_by, one.confirmed_by} == {"ann", "bob"}
        assert not one.withdrawn
        assert now < one.ends_at
    if allowed(rule, side, facts, waived) != allowed(rule, side, facts):
        assert any(one.side == side and one.rule in WAIVABLE for one in waived)


@given(RULES, NAMES, FACTS, WAIVERS, TIMES)
def test_a_waiver_is_for_one_rule_at_one_side(
    rule: DataRule, side: str, facts: SideFacts, waivers: list[Waiver], now: int
) -> None:
    waived = in_force(waivers, now=now)
    agreed = {(one.side, one.rule) for one in waived}
    told = judged(rule, side, facts, waived)
    assert [reason.rule for reason in told] == [reason.rule for reason in judged(rule, side, facts)]
    assert all((reason.verdict == "waived") == ((side, reason.rule) in agreed) for reason in told)
    against = allowed(rule, side, facts, waived)
    assert (against is None) == all((side, reason.rule) in agreed for reason in judged(rule, side, facts))


@given(RULES, NAMES, WAIVERS)
def test_no_waiver_makes_a_side_known(rule: DataRule, side: str, waivers: list[Waiver]) -> None:
    assert allowed(rule, side, None, in_force(waivers, now=0)) == allowed(rule, side, None)


@given(RULES, st.lists(sites(), min_size=1, max_size=4, unique_by=lambda site: site.name), WAIVERS)
def test_placement_goes_by_the_waivers_in_force_and_names_them(
    rule: DataRule, there: list[SiteFacts], waivers: list[Waiver]
) -> None:
    waived = in_force(waivers, now=0)
    decision = place([Candidate(site=site, rules=bound(rule)) for site in there], now=0, waived=waived)
    if decision.outcome != "place":
        assert all(allowed(rule, site.name, side_of(site), waived) is not None for site in there)
        return
    chosen = next(site for site in there if site.name == decision.site)
    assert allowed(rule, chosen.name, side_of(chosen), waived) is None
    told = [reason.rule for reason in decision.reasons if reason.verdict == "waived"]
    assert told == [reason.rule for reason in judged(rule, chosen.name, side_of(chosen))]
