"""Among the sites that can take a stage now, the one where it would be done first; and what beats that."""

from __future__ import annotations

from typing import Any

from policy_kit import NOW, SECOND, candidate, checkpoint, rules, site

from policies.forecast import Forecast, Term
from policies.model import CheckpointRule, Decision, Rules
from policies.placement import Candidate, place, window_refusal

HOUR = 3600.0


def told(name: str, wait: float, *, rules: Rules | None = None, work: float = HOUR, **said: Any) -> Candidate:
    """A candidate whose queue is known, for an hour's work."""
    forecast = Forecast(site=name, wait=Term(wait, wait, "9 jobs", 9), work=Term(work, work, "walltime"))
    return Candidate(site=site(name, **said), rules=rules or Rules(), forecast=forecast)


def facts(decision: Decision, rule: str) -> list[str]:
    return [reason.fact for reason in decision.reasons if reason.rule == rule]


def test_the_stage_goes_where_it_is_done_first() -> None:
    decision = place([told("alcf", 2 * HOUR), told("nersc", 600), told("olcf", HOUR)], now=NOW)
    assert decision.site == "nersc"
    assert facts(decision, "forecast") == ["done in 70 min: wait 10 min + work 60 min"]
    assert facts(decision, "order") == [
        "alcf comes after nersc: 1 of 4 places taken; done in 3 h: wait 2 h + work 60 min",
        "olcf comes after nersc: 1 of 4 places taken; done in 2 h: wait 60 min + work 60 min",
    ]


def test_the_whole_table_is_kept_in_numbers() -> None:
    rows = place([told("alcf", 2 * HOUR), told("nersc", 600)], now=NOW).facts["candidates"]
    assert isinstance(rows, list)
    assert [(row["site"], row["wait"][:2], row["load"], row["slots"]) for row in rows] == [
        ("alcf", [2 * HOUR, 2 * HOUR], 1, 4),
        ("nersc", [600, 600], 1, 4),
    ]
    assert [Forecast.from_facts(row).expected for row in rows] == [3 * HOUR, 600 + HOUR]


def test_the_documents_preference_beats_a_shorter_queue() -> None:
    mine = rules(prefer=("alcf",))
    assert place([told("alcf", 9 * HOUR, rules=mine), told("nersc", 0, rules=mine)], now=NOW).site == "alcf"


def test_a_site_that_is_well_beats_a_shorter_queue() -> None:
    assert place([told("alcf", 9 * HOUR), told("nersc", 0, unwell="submit is degraded")], now=NOW).site == "alcf"


def test_sites_that_are_as_good_as_each_other_keep_their_old_order() -> None:
    near = [told("alcf", 300, load=3), told("nersc", 540, load=0)]
    assert place(near, now=NOW).site == "nersc", "within a tenth of 65 min: the emptier one"
    assert place([told("alcf", 0, load=3), told("nersc", 3 * HOUR, load=0)], now=NOW).site == "alcf"
    there = [told("alcf", 300, load=3), told("nersc", 300, load=0)]
    assert place(there, now=NOW, checkpoints=[checkpoint(3, "alcf")]).site == "alcf"


def test_a_minute_is_no_difference_for_a_short_stage() -> None:
    assert place([told("alcf", 55, work=5), told("nersc", 0, work=5, load=2)], now=NOW).site == "alcf"


def test_where_nobody_has_worked_anything_out_all_is_as_it_was() -> None:
    decision = place([candidate("nersc", load=2), candidate("alcf", load=1)], now=NOW)
    assert (decision.site, decision.facts, facts(decision, "forecast")) == ("alcf", {}, [])
    mixed = [candidate("nersc", load=1), told("alcf", 0, load=2)]
    assert place(mixed, now=NOW).site == "nersc", "one that is not known is no later"


def test_one_site_alone_is_not_reckoned_up_unless_something_is_known_of_it() -> None:
    guessed = Candidate(site=site("nersc"), rules=Rules(), forecast=Forecast(site="nersc", wait=Term(60, 600, "guess")))
    assert facts(place([guessed], now=NOW), "forecast") == []
    assert facts(place([told("nersc", 60)], now=NOW), "forecast") == ["done in 61 min: wait 60 s + work 60 min"]


def test_a_full_site_is_not_waited_for_while_another_has_room() -> None:
    assert place([told("alcf", 0, share=0, load=4), told("nersc", 9 * HOUR)], now=NOW).site == "nersc"


# -- announced windows ---------------------------------------------------------------------------------------------

WINDOW = NOW + round(2 * HOUR) * SECOND


def test_nothing_is_begun_that_cannot_end_before_an_announced_maintenance() -> None:
    late, early = told("alcf", HOUR + 60, window_at=WINDOW), told("alcf", HOUR - 60, window_at=WINDOW)
    refusal = window_refusal(late, NOW)
    assert refusal is not None
    assert (refusal.rule, refusal.fact) == (
        "window",
        "announced maintenance of alcf begins in 2 h, and it needs 2 h to end",
    )
    assert window_refusal(early, NOW) is None
    assert place([late, told("nersc", 9 * HOUR)], now=NOW).site == "nersc"
    assert place([late], now=NOW).outcome == "wait"


def test_a_stage_with_checkpoints_may_begin_as_long_as_it_can_leave_one() -> None:
    mine = Rules(checkpoint=CheckpointRule())
    assert window_refusal(told("alcf", HOUR, work=9 * HOUR, rules=mine, window_at=WINDOW), NOW) is None
    assert window_refusal(told("alcf", 1.9 * HOUR, work=9 * HOUR, rules=mine, window_at=WINDOW), NOW) is not None


def test_a_window_that_has_begun_is_healths_to_judge() -> None:
    assert window_refusal(told("alcf", 9 * HOUR, window_at=NOW), NOW) is None
    assert window_refusal(candidate("alcf", window_at=WINDOW), NOW) is None, "nobody knows how long it takes"
