"""Placement: hard constraints first, each refusal by name, then an order among what is left."""

from __future__ import annotations

import pytest
from policy_kit import GB, NOW, SECOND, candidate, checkpoint, rules, said, silent, site

from policies.model import Decision, Rules, SiteFacts
from policies.placement import (
    WAIT_FOR_ANSWER,
    Candidate,
    passing_refusal,
    place,
    preference,
    static_refusal,
    taken_up,
)

# -- what a site could never take --------------------------------------------------------------------------------

REFUSALS: list[tuple[str, Rules, SiteFacts, str]] = [
    ("sites.allow", rules(allow=("alcf", "olcf")), site(), "only alcf, olcf may run it"),
    ("sites.deny", rules(deny=("nersc",)), site(), "nersc is denied"),
    ("sites.deny", rules(deny=("NERSC",)), site(), "nersc is denied"),
    ("sites.deny", rules(deny=("perlmutter",)), site(profile="perlmutter"), "nersc is denied"),
    (
        "duplicates",
        rules(duplicates="never"),
        site(claim="none"),
        "nersc has no start gate, so a second copy cannot be kept out",
    ),
    ("resources.nodes", rules(nodes=3), site(nodes=2), "asks for 3 nodes, nersc has 2"),
    ("resources.cores", rules(cores=65), site(cores=64), "asks for 65 cores, nersc has 64"),
    ("resources.gpus", rules(gpus=1), site(), "asks for gpus, nersc has none"),
    ("resources.gpus", rules(gpus=5), site(gpus=4), "asks for 5 gpus, nersc has 4"),
    (
        "resources.memory",
        rules(memory=512 * GB),
        site(memory=256 * GB),
        "asks for 512 GB of memory, nersc has 256 GB",
    ),
    (
        "resources.walltime",
        rules(walltime=86_400.0),
        site(max_walltime=3600.0),
        "asks for 86400 s of walltime, nersc allows 3600 s",
    ),
]


@pytest.mark.parametrize(("rule", "asked", "there", "fact"), REFUSALS)
def test_a_site_that_can_never_take_a_stage_is_refused_by_the_name_of_the_rule(
    rule: str, asked: Rules, there: SiteFacts, fact: str
) -> None:
    reason = static_refusal(asked, there)
    assert reason is not None
    assert (reason.rule, reason.verdict, reason.fact, reason.site) == (rule, "refused", fact, "nersc")


FITS: list[tuple[Rules, SiteFacts]] = [
    (rules(), site()),
    (rules(allow=("nersc",)), site()),
    (rules(allow=("NERSC",)), site()),
    (rules(allow=("perlmutter",)), site(profile="perlmutter")),
    (rules(deny=("alcf",)), site()),
    (rules(duplicates="allow"), site(claim="none")),
    (rules(duplicates="never"), site(claim="unique_name")),
    (rules(nodes=2), site(nodes=2)),
    (rules(cores=64), site(cores=64)),
    (rules(cores=900), site(cores=0)),  # 0: not known, not checked
    (rules(gpus=4), site(gpus=4)),
    (rules(memory=512 * GB), site(memory=0)),
    (rules(walltime=3600.0), site(max_walltime=3600.0)),
    (rules(walltime=9e9), site(max_walltime=None)),
    (rules(walltime=None), site(max_walltime=60.0)),  # none asked: the site's longest
]


@pytest.mark.parametrize(("asked", "there"), FITS)
def test_what_just_fits_or_cannot_be_told_is_not_refused(asked: Rules, there: SiteFacts) -> None:
    assert static_refusal(asked, there) is None


def test_a_word_of_the_document_beats_a_shortage_of_the_machine() -> None:
    reason = static_refusal(rules(deny=("nersc",), cores=1000), site())
    assert reason is not None
    assert reason.rule == "sites.deny"


# -- what a site does not take now -------------------------------------------------------------------------------


def test_a_drained_site_takes_nothing_and_says_who_wanted_it_so() -> None:
    reason = passing_refusal(site(drained="maintenance until noon"))
    assert reason is not None
    assert (reason.rule, reason.fact) == ("drained", "nersc is drained: maintenance until noon")


def test_a_site_takes_nothing_from_its_first_silent_look_on() -> None:
    first_look = site(cannot_ask_since=NOW, probes=1)
    reason = passing_refusal(first_look)
    assert reason is not None
    assert (reason.rule, reason.fact) == ("answers", "nersc gives no answer")
    assert passing_refusal(site()) is None


# -- outcomes ----------------------------------------------------------------------------------------------------


def test_no_site_known_is_impossible() -> None:
    decision = place([], now=NOW)
    assert (decision.outcome, decision.until) == ("impossible", None)
    assert said(decision) == [("candidates", "refused")]


def test_impossible_names_every_refusal_in_the_order_of_the_sites() -> None:
    asked = rules(allow=("alcf",), gpus=1)
    decision = place([candidate("nersc", rules=asked), candidate("alcf", rules=asked)], now=NOW)
    assert decision.outcome == "impossible"
    assert [(r.rule, r.site) for r in decision.reasons] == [
        ("sites.allow", "nersc"),
        ("resources.gpus", "alcf"),
        ("candidates", ""),
    ]


def test_it_waits_for_an_answer_while_all_that_could_take_it_are_closed() -> None:
    closed = [
        Candidate(site=silent("nersc", seconds=60), rules=Rules()),
        candidate("alcf", drained="no reason given"),
        candidate("cloud", rules=rules(deny=("cloud",))),
    ]
    decision = place(closed, now=NOW)
    assert (decision.outcome, decision.facts) == ("wait", {"for": "answer"})
    assert decision.until == NOW + 5 * SECOND
    # lasting refusals first, then the passing ones, then what follows
    assert said(decision) == [
        ("sites.deny", "refused"),
        ("answers", "refused"),
        ("drained", "refused"),
        ("candidates", "wait"),
    ]


def test_it_waits_for_room_and_says_how_full_it_is() -> None:
    full = [candidate("nersc", load=4, share=0), candidate("alcf", load=2, slots=2, share=0)]
    decision = place(full, now=NOW)
    assert (decision.outcome, decision.until, decision.facts) == ("wait", NOW + SECOND, {"for": "room"})
    assert [r.fact for r in decision.reasons] == [
        "4 of 4 places at nersc are taken",
        "2 of 2 places at alcf are taken",
    ]
    assert {r.rule for r in decision.reasons} == {"room"}


def test_a_run_that_has_its_fair_share_waits_although_places_are_free() -> None:
    decision = place([candidate(load=2, share=0)], now=NOW)
    assert decision.outcome == "wait"
    assert decision.reasons[0].fact == "2 of 4 places at nersc are taken, and other runs wait for the rest"


def test_the_only_site_left_is_chosen_with_its_merits() -> None:
    decision = place([candidate()], now=NOW)
    assert (decision.kind, decision.outcome, decision.site) == ("placement", "place", "nersc")
    assert [r.fact for r in decision.reasons] == ["1 of 4 places taken"]
    assert said(decision) == [("chosen", "chosen")]


# -- the order among what is left --------------------------------------------------------------------------------


def chosen(*candidates: Candidate, **more: object) -> str:
    return place(candidates, now=NOW, **more).site


def test_the_emptier_site_is_chosen() -> None:
    # 3/8 = 0.375 taken against 2/4 = 0.5, although 3 > 2
    assert chosen(candidate("alcf", load=2), candidate("nersc", load=3, slots=8)) == "nersc"


def test_the_name_decides_between_equals() -> None:
    assert chosen(candidate("olcf"), candidate("alcf"), candidate("nersc")) == "alcf"


@pytest.mark.parametrize("word", ["nersc", "NERSC", "perlmutter"])
def test_a_preferred_site_facility_or_profile_comes_before_an_emptier_one(word: str) -> None:
    wish = rules(prefer=(word,))
    there = candidate("nersc", rules=wish, load=3, share=1, profile="perlmutter")
    assert chosen(candidate("alcf", rules=wish, load=0), there) == "nersc"


def test_preferences_count_in_their_order() -> None:
    wish = rules(prefer=("olcf", "nersc"))
    sites = [candidate(name, rules=wish) for name in ("alcf", "nersc", "olcf")]
    # olcf is 0th of the wishes, nersc 1st; alcf is not named and comes after the 2 that are
    assert [preference(c) for c in sites] == [(2, "alcf"), (1, "nersc"), (0, "olcf")]
    decision = place(sites, now=NOW)
    assert [r.fact for r in decision.reasons] == [
        "preference 1 of 2, 1 of 4 places taken",
        "alcf comes after olcf: not preferred, 1 of 4 places taken",
        "nersc comes after olcf: preference 2 of 2, 1 of 4 places taken",
    ]
    assert said(decision) == [("chosen", "chosen"), ("order", "against"), ("order", "against")]


def test_a_full_preferred_site_is_not_waited_for() -> None:
    wish = rules(prefer=("nersc",))
    assert chosen(candidate("nersc", rules=wish, load=4, share=0), candidate("alcf", rules=wish)) == "alcf"


def test_the_newest_checkpoint_beats_emptiness_but_no_preference() -> None:
    near = candidate("nersc", load=3, share=1)
    known = [checkpoint(7, "nersc"), checkpoint(6, "alcf")]
    assert chosen(candidate("alcf", load=0), near, checkpoints=known) == "nersc"
    wish = rules(prefer=("alcf",))
    preferred = candidate("alcf", rules=wish, load=0)
    assert chosen(preferred, candidate("nersc", rules=wish), checkpoints=known) == "alcf"


def test_a_checkpoint_that_is_there_already_is_told() -> None:
    decision = place([candidate()], now=NOW, checkpoints=[checkpoint(7)])
    assert said(decision) == [("chosen", "chosen"), ("checkpoint_there", "for")]


# -- where it failed before, and what an operator wants ------------------------------------------------------------


def test_where_it_failed_before_is_refused_while_others_are_left() -> None:
    decision = place([candidate("alcf"), candidate("nersc")], now=NOW, avoid=["alcf"])
    assert decision.site == "nersc"
    assert said(decision) == [("failed_there", "refused"), ("chosen", "chosen")]


def test_where_it_failed_before_is_not_taken_for_want_of_room_elsewhere() -> None:
    decision = place([candidate("alcf"), candidate("nersc", load=4, share=0)], now=NOW, avoid=["alcf"])
    assert decision.outcome == "wait"


def test_where_it_failed_before_is_taken_again_when_nothing_else_is_left() -> None:
    assert chosen(candidate("alcf"), avoid=["alcf"]) == "alcf"
    closed = Candidate(site=silent("nersc", seconds=60), rules=Rules())
    assert chosen(candidate("alcf"), closed, avoid=["alcf"]) == "alcf"


def test_an_operators_wish_beats_every_preference() -> None:
    wish = rules(prefer=("alcf",))
    sites = [candidate("alcf", rules=wish), candidate("nersc", rules=wish, load=3, share=1)]
    decision = place(sites, now=NOW, want="nersc", avoid=["nersc"], checkpoints=[checkpoint(1, "alcf")])
    assert decision.site == "nersc"
    assert said(decision) == [("wanted", "for"), ("chosen", "chosen")]


def test_an_operators_wish_waits_for_room_there() -> None:
    decision = place([candidate("alcf"), candidate("nersc", load=4, share=0)], now=NOW, want="nersc")
    assert decision.outcome == "wait"


def test_an_operators_wish_beats_no_constraint() -> None:
    assert chosen(candidate("alcf"), candidate("nersc", rules=rules(deny=("nersc",))), want="nersc") == "alcf"
    assert chosen(candidate("alcf"), candidate("nersc", drained="maintenance"), want="nersc") == "alcf"


def test_refusals_that_the_caller_has_worked_out_are_taken_as_they_are() -> None:
    reason = static_refusal(rules(deny=("nersc",)), site())
    decision = place([candidate("nersc"), candidate("alcf")], now=NOW, static={"nersc": reason, "alcf": None})
    assert decision.site == "alcf"
    assert decision.reasons[0] is reason


# -- the decision as a value -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "decision",
    [
        place([], now=NOW),
        place([candidate(load=4, share=0)], now=NOW),
        place([candidate("nersc"), candidate("alcf")], now=NOW, checkpoints=[checkpoint(3)]),
    ],
    ids=lambda decision: decision.outcome,
)
def test_a_decision_survives_its_json(decision: Decision) -> None:
    again = Decision.from_json(decision.json)
    assert again == decision
    assert again.json == decision.json


# -- after a restore -----------------------------------------------------------------------------------------------


def test_nothing_starts_anywhere_while_a_site_that_may_answer_is_in_quarantine() -> None:
    decision = place([candidate("nersc"), candidate("alcf", quarantined=True)], now=NOW)
    assert (decision.outcome, decision.until) == ("wait", NOW + WAIT_FOR_ANSWER)
    assert [(r.rule, r.verdict, r.site) for r in decision.reasons] == [("quarantine", "wait", "alcf")]


def test_a_quarantined_site_that_could_never_take_the_stage_holds_nobody_back() -> None:
    denied = rules(deny=("alcf",))
    decision = place([candidate("nersc", rules=denied), candidate("alcf", rules=denied, quarantined=True)], now=NOW)
    assert (decision.outcome, decision.site) == ("place", "nersc")


def test_a_quarantined_site_that_is_unreachable_holds_back_only_what_may_not_overlap() -> None:
    dark = {"quarantined": True, "silent": True, "cannot_ask_since": NOW - 90 * SECOND}
    assert place([candidate("nersc"), candidate("alcf", **dark)], now=NOW).site == "nersc"
    never = rules(duplicates="never")
    decision = place([candidate("nersc", rules=never), candidate("alcf", rules=never, **dark)], now=NOW)
    assert decision.outcome == "wait"


def test_the_refusal_of_a_quarantined_site_says_why() -> None:
    refusal = passing_refusal(site("nersc", quarantined=True))
    assert refusal is not None
    assert (refusal.rule, refusal.verdict) == ("quarantine", "refused")
    assert "since the backup that was restored" in refusal.fact


def test_an_attempt_of_the_lost_hours_is_taken_up_with_its_reason() -> None:
    decision = taken_up(site="nersc", key="cfabc")
    assert (decision.kind, decision.outcome, decision.site) == ("placement", "place", "nersc")
    assert "cfabc was found at nersc" in decision.reasons[0].fact
