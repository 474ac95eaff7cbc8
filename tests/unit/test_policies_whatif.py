"""What would have to be different for a stage to be placed elsewhere."""

from __future__ import annotations

import json
import re

from policy_kit import NOW, candidate, rules, site

from policies.forecast import Forecast, Term
from policies.model import Decision, Rules
from policies.placement import Candidate, place
from policies.whatif import what_if

HOUR = 3600.0


def told(name: str, wait: float, *, work: float = HOUR, rules: Rules | None = None, load: int = 1) -> Candidate:
    forecast = Forecast(site=name, wait=Term(wait, 2 * wait, "9 jobs", 9), work=Term(work, work))
    return Candidate(site=site(name, load=load), rules=rules or Rules(), forecast=forecast)


def kept(decision: Decision) -> Decision:
    """As the store keeps it."""
    return Decision.from_json(decision.json)


def test_a_site_says_how_short_its_wait_would_have_to_be() -> None:
    words = what_if(kept(place([told("nersc", 1800), told("olcf", 2 * HOUR)], now=NOW)))
    assert len(words) == 1
    assert re.fullmatch(r"olcf would be chosen if its wait were under \d+ min \(it is 2 h\)", words[0])
    under = 60 * float(words[0].split("under ")[1].split(" min")[0])
    assert place([told("nersc", 1800), told("olcf", under - 60)], now=NOW).site == "olcf", "and that is so"
    assert place([told("nersc", 1800), told("olcf", under + 60)], now=NOW).site == "nersc"


def test_one_whose_work_takes_longer_would_not_be_chosen_at_all() -> None:
    words = what_if(kept(place([told("nersc", 60), told("olcf", 600, work=9 * HOUR)], now=NOW)))
    assert words == ["olcf would not be chosen even without a wait: its other terms are longer than those of nersc"]


def test_one_that_is_as_good_says_so() -> None:
    words = what_if(kept(place([told("nersc", 60), told("olcf", 60, load=3)], now=NOW)))
    assert words == [
        "olcf is as good as nersc, within a tenth or a minute: the checkpoint, the load or the name decided"
    ]


def test_what_people_have_said_goes_before_the_sum() -> None:
    mine = rules(prefer=("olcf",))
    words = what_if(kept(place([told("nersc", 60, rules=mine), told("olcf", HOUR, rules=mine)], now=NOW)))
    assert words == ["nersc would need to be as welcome as olcf: the document's `prefer` goes before the sum"]


def test_a_stage_that_waits_says_what_would_let_it_start() -> None:
    waits = place([candidate("nersc", drained="disk"), candidate("olcf", cannot_ask_since=NOW - 5)], now=NOW)
    assert what_if(kept(waits)) == [
        "`crossfade site resume nersc` would let it start there",
        "it may start there as soon as olcf answers",
    ]


def test_other_decisions_and_older_ones_have_no_what_if() -> None:
    assert what_if(place([candidate("nersc"), candidate("olcf")], now=NOW)) == []
    assert what_if(Decision("retry", "again", ())) == []
    assert json.loads(place([told("nersc", 60)], now=NOW).json)["facts"]["candidates"]
    assert what_if(place([told("nersc", 60)], now=NOW)) == []
