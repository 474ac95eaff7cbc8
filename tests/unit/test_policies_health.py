"""Health: what rows of evidence make of a capability, claim by claim."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from policy_kit import NOW, SECOND

from policies.evidence import CALL, CANARY, FEED, JOB, LOOK, PROBE, Budgets, Fact
from policies.health import Health, Judgement, judge, machine_down, seen_to_work
from policies.verdicts import Hole, Override, Standing, State

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


def fact(seconds: float, capability: str = "status", *, ok: bool = True, **said: Any) -> Fact:
    """A row of so many seconds ago."""
    values: dict[str, Any] = {"detail": "", "source": LOOK, "word": "", "until": None, **said}
    at = NOW - round(seconds * SECOND)
    return (
        *("nersc", at, capability, ok, 0, values["detail"]),
        *(values["source"], values["word"], "", values["until"]),
    )  # type: ignore[return-value]


def rhythm(capability: str = "status", *, until: float = 0, times: int = 30, **said: Any) -> list[Fact]:
    """Well once a minute; the newest so many seconds ago."""
    return [fact(until + 60 * i, capability, **said) for i in range(times)]


def bad(capability: str = "status", *, since: float, until: float = 0, every: float = 10, **said: Any) -> list[Fact]:
    steps = int((since - until) / every)
    return [fact(since - every * i, capability, ok=False, **{"detail": "no answer", **said}) for i in range(steps + 1)]


def judged(facts: Iterable[Fact], capability: str = "status", **standing: Any) -> Judgement:
    return judge(Standing(site="nersc", **standing), facts, now=NOW).capabilities[capability]


def verdict(facts: Iterable[Fact], capability: str = "status", **standing: Any) -> tuple[str, str]:
    found = judged(facts, capability, **standing)
    return found.state.value, found.rule


# -- known, and not known ------------------------------------------------------------------------------------


def test_nothing_measured_is_unknown_and_not_bad() -> None:
    assert verdict([]) == ("unknown", "samples")


@pytest.mark.parametrize(("times", "state"), [(1, "unknown"), (2, "unknown"), (3, "up")])
def test_too_few_samples_are_unknown(times: int, state: str) -> None:
    assert verdict(rhythm(times=times)) == (state, "samples")


def test_what_was_seen_longer_ago_than_six_hours_says_nothing() -> None:
    assert verdict(rhythm(until=6 * 3600 + 1)) == ("unknown", "samples")
    assert verdict(bad(since=7 * 3600, until=6 * 3600 + 1)) == ("unknown", "samples")


def test_a_judgement_says_its_age_and_its_source() -> None:
    found = judged([*rhythm("submit", until=90, source=CALL)], "submit")
    assert (found.state, found.at, found.source) == (State.UP, NOW - 90 * SECOND, CALL)


# -- failures ------------------------------------------------------------------------------------------------


def test_a_miss_in_a_steady_rhythm_that_is_not_late_yet_is_none() -> None:
    assert verdict([*rhythm(until=60), *bad(since=5, until=5)]) == ("up", "samples")


def test_silence_that_the_rhythm_makes_implausible_is_degraded_by_phi() -> None:
    found = judged([*rhythm(until=200), *bad(since=40)])
    assert (found.state, found.rule) == (State.DEGRADED, "phi")
    assert found.until == NOW + 20 * SECOND
    assert found.then == "down after 5 failures and 60 s"


def test_without_a_rhythm_the_first_miss_counts() -> None:
    assert verdict([*rhythm(until=10, times=4), fact(1, ok=False)]) == ("degraded", "misses")


@pytest.mark.parametrize(
    ("failures", "state"),
    [
        (bad(since=50, every=1), "degraded"),  # fifty probes, too little time
        (bad(since=3600, every=1200), "degraded"),  # an hour, four probes
        (bad(since=60, every=15), "down"),  # five probes and sixty seconds
    ],
)
def test_both_budgets_must_be_spent_before_it_is_down(failures: list[Fact], state: str) -> None:
    assert verdict(failures)[0] == state


def test_the_sites_own_row_counts_its_silence_where_rows_are_missing() -> None:
    silent = {"silent_since": NOW - 100 * SECOND, "probes": 7, "detail": "refused"}
    found = judged(rhythm(until=100), **silent)
    assert (found.state, found.rule) == (State.DOWN, "unreachable")
    assert found.fact == "could not be asked for 100 s, 7 looks: refused"
    assert verdict(rhythm(until=100), **{**silent, "probes": 2})[0] == "degraded"


def test_nine_of_ten_minutes_that_go_well_are_well_enough_and_fewer_are_not() -> None:
    def part(every: int) -> list[Fact]:
        return [fact(60 * i + 30, ok=bool(i % every), source=PROBE) for i in range(1, 20)]

    assert verdict(part(20)) == ("up", "samples")
    assert verdict(part(5)) == ("degraded", "ratio")
    few = [fact(60 * i + 30, ok=i % 3 == 1, source=PROBE) for i in range(1, 20)]
    assert verdict(few) == ("probing", "ratio")  # the newest went well
    assert verdict(few[1:]) == ("down", "ratio")


def test_how_often_somebody_asked_in_a_minute_does_not_weigh() -> None:
    often = [fact(700 + i / 10, ok=False) for i in range(100)]  # a hundred failures within ten seconds
    assert verdict([*rhythm(times=20), *often])[0] == "up"


def test_refusals_are_answers_and_no_outage() -> None:
    """401 is a credential's state, 429 a rate's."""
    busy = bad(since=600, word="refused", detail="429: later")
    assert verdict([*rhythm(until=610), *busy]) == ("degraded", "refuses")


def test_a_bad_file_is_no_bad_site() -> None:
    jobs = bad("compute", since=600, source=JOB, word="application", detail="exit code 1")
    assert verdict([*rhythm("compute", until=610, source=JOB), *jobs], "compute") == ("up", "samples")
    assert verdict(bad("compute", since=60, source=JOB, word="site"), "compute")[0] == "down"


def test_failures_while_the_fault_was_more_likely_ours_count_against_nobody() -> None:
    facts = [*rhythm(until=300), *bad(since=200, until=100, word="ours"), fact(10)]
    submits = [*rhythm("submit", until=300, source=CALL), *bad("submit", since=230, until=90, source=CALL)]
    assert verdict([*facts, *submits]) == ("up", "samples")
    assert verdict([*facts, *submits], "submit") == ("up", "samples")
    assert verdict(submits, "submit")[0] == "down"


# -- back from an outage -------------------------------------------------------------------------------------

OUTAGE = bad(since=480, until=400)


def test_after_an_outage_it_is_on_probation_until_it_has_held() -> None:
    found = judged([*OUTAGE, *(fact(s) for s in (300, 200, 100))], budgets=Budgets(hold=400))
    assert (found.state, found.rule) == (State.PROBING, "hold")
    assert found.until == NOW + 100 * SECOND
    assert found.fact == "was down; good in a row since then: 3 of 3"
    assert found.then == "up, if nothing fails before"


def test_it_is_up_after_three_good_ones_and_the_hold() -> None:
    back = [fact(s) for s in (390, 380, 5)]
    assert verdict([*OUTAGE, *back[:2]], budgets=Budgets(hold=380))[0] == "probing"
    assert verdict([*OUTAGE, *back], budgets=Budgets(hold=380))[0] == "up"


def replace_at(row: Fact, earlier: float) -> Fact:
    return (row[0], row[1] - round(earlier * SECOND), *row[2:])


def test_a_failure_on_probation_begins_it_anew() -> None:
    again = [*OUTAGE, fact(350), fact(340), fact(330), fact(220, ok=False), fact(200), fact(5)]
    found = judged(again, budgets=Budgets(hold=300))
    assert (found.state, found.rule, found.until) == (State.PROBING, "hold", NOW + 100 * SECOND)


def test_only_real_use_ends_an_outage_of_submitting() -> None:
    outage = bad("submit", since=5000, until=4000, source=CALL)
    asked = rhythm("submit", times=50, source=PROBE)
    assert verdict([*outage, *asked], "submit") == ("probing", "hold")
    assert verdict([*outage, *asked, fact(30, "submit", source=CANARY)], "submit") == ("up", "samples")


def test_what_only_real_use_measures_may_be_tried_again_after_the_hold() -> None:
    failures = bad("submit", since=200, until=100, source=CALL)
    found = judged(failures, "submit")
    assert (found.state, found.until, found.then) == (
        State.DOWN,
        NOW + 200 * SECOND,
        "one stage at a time may try it",
    )
    assert verdict([replace_at(row, 201) for row in failures], "submit") == ("probing", "half_open")


def test_a_site_that_falls_and_rises_is_not_trusted_until_the_penalty_has_decayed() -> None:
    falls = [row for n in range(3) for row in bad(since=330 + 120 * n, until=300 + 120 * n)]
    found = judged([*rhythm(times=60), *falls])
    assert (found.state, found.rule) == (State.PROBING, "flaps")
    assert found.then == "trusted again, if nothing fails before"
    assert verdict([*rhythm(times=60), *(replace_at(row, 1800) for row in falls)]) == ("up", "samples")


# -- what is published, and what people say ------------------------------------------------------------------


@pytest.mark.fault("F36")
def test_a_feed_alone_makes_it_degraded_and_no_worse() -> None:
    assert verdict([*rhythm(), fact(5, ok=False, source=FEED, detail="unavailable")]) == ("degraded", "feed")
    assert verdict([*rhythm(), fact(5, source=FEED, word="degraded")]) == ("degraded", "feed")


@pytest.mark.fault("F36")
def test_a_green_feed_clears_no_measured_failure() -> None:
    assert verdict([*bad(since=100), fact(1, source=FEED, detail="all systems operational")])[0] == "down"


def test_a_green_feed_is_no_measurement_either() -> None:
    assert verdict(rhythm(source=FEED)) == ("unknown", "samples")


def test_an_announced_maintenance_lasts_as_long_as_it_was_announced() -> None:
    now_on = fact(5, ok=False, source=FEED, word="maintenance", until=NOW + HOUR, detail="power")
    found = judged([*rhythm(), now_on])
    assert (found.state, found.rule, found.until) == (State.MAINTENANCE, "window", NOW + HOUR)
    over = fact(5, ok=False, source=FEED, word="maintenance", until=NOW - SECOND)
    assert verdict([*rhythm(), over]) == ("up", "samples")


def test_nothing_new_starts_in_the_hour_before_a_maintenance() -> None:
    def ahead(hours: float) -> Fact:
        return fact(5, "compute", source=FEED, word="maintenance", until=NOW + round(hours * HOUR))

    jobs = rhythm("compute", source=JOB)
    assert verdict([*jobs, ahead(0.5)], "compute") == ("draining", "window")
    assert verdict([*jobs, ahead(2)], "compute") == ("up", "samples")
    assert judge(Standing(site="nersc"), [ahead(2)], now=NOW).window_at == NOW + 2 * HOUR


def test_a_window_that_the_feed_does_not_name_any_more_was_taken_back() -> None:
    announced = fact(1300, ok=False, source=FEED, word="maintenance", until=NOW + HOUR)
    assert verdict([*rhythm(), announced, fact(10, source=FEED)]) == ("up", "samples")


def test_an_operators_word_beats_all_evidence_until_it_ends() -> None:
    def says(state: State, *, seconds: float) -> Override:
        return Override(state=state, by="kim", reason="I know", until=NOW + round(seconds * SECOND))

    assert verdict(bad(since=100), override=says(State.UP, seconds=1)) == ("up", "override")
    found = judged(rhythm(), override=says(State.DOWN, seconds=60))
    assert (found.state, found.fact, found.until) == (State.DOWN, "kim says so: I know", NOW + MINUTE)
    assert verdict(bad(since=100), override=says(State.UP, seconds=0))[0] == "down"


def test_a_drained_site_is_draining_in_what_it_takes_alone() -> None:
    assert verdict(rhythm("submit", source=CALL), "submit", drained="upgrade") == ("draining", "drained")
    assert verdict(rhythm(), drained="upgrade") == ("up", "samples")


def test_the_losing_rules_stay_as_reasons() -> None:
    found = judged([*bad(since=100), fact(5, ok=False, source=FEED, detail="power cut")])
    assert [(r.rule, r.verdict) for r in found.reasons] == [
        ("budgets", "down"),
        ("feed", "degraded"),
        ("samples", "unknown"),
    ]


# -- credentials, and black holes -----------------------------------------------------------------------------


def test_a_refusal_is_a_credentials_state_at_once_and_who_is_let_in_has_disproved_it() -> None:
    refused = fact(60, "credentials", ok=False, detail="401")
    assert verdict([refused], "credentials") == ("down", "refused")
    assert verdict([*rhythm(until=70), refused]) == ("up", "samples")  # and no outage
    assert verdict([refused, fact(1)], "credentials") == ("up", "samples")


@pytest.mark.parametrize(("hours", "state"), [(25.0, "up"), (23.0, "degraded"), (-1.0, "down")])
def test_a_credentials_end_is_told_a_day_ahead(hours: float, state: str) -> None:
    row = fact(60, "credentials", source=PROBE, until=NOW + round(hours * HOUR))
    assert verdict([row], "credentials")[0] == state


def test_a_black_hole_is_down_for_computing_and_may_be_tried_later() -> None:
    hole = Hole(words="all failed", newest=NOW - MINUTE, tries_at=NOW + MINUTE)
    assert verdict(rhythm("compute", source=JOB), "compute", hole=hole) == ("down", "black_hole")
    assert verdict([], "compute", hole=replace(hole, tries_at=NOW)) == ("probing", "black_hole")
    assert verdict(rhythm(), hole=hole) == ("up", "samples")


def test_transfers_and_credentials_keep_no_stage_from_starting() -> None:
    """A degraded Globus with healthy compute moves nothing that needs no data."""
    facts = [
        *(row for name in ("submit", "status", "files", "compute") for row in rhythm(name, source=CALL)),
        *bad("transfer", since=100),
    ]
    health = judge(Standing(site="nersc"), facts, now=NOW)
    assert health.worst.capability == "transfer"
    assert health.placing().state is State.UP


# -- what is dark, for who weighs whether a stage leaves ------------------------------------------------------


def whole(facts: Iterable[Fact]) -> Health:
    return judge(Standing(site="nersc"), list(facts), now=NOW)


def test_files_that_work_while_the_interface_is_silent_are_heard_of() -> None:
    silent = bad("status", since=300)
    told = seen_to_work(whole([*silent, *rhythm("files", until=20)]))
    assert told == {"files": NOW - 20 * SECOND}
    assert seen_to_work(whole([*silent, *bad("files", since=300)])) == {}


def test_a_machine_is_down_where_its_site_says_so_or_its_jobs_show_it_and_not_because_it_is_silent() -> None:
    assert machine_down(whole(bad("status", since=300))) == ""
    said = machine_down(whole([fact(30, "compute", ok=False, source=FEED, word="down", detail="power work")]))
    assert "power work" in said
    assert "failing" in machine_down(whole(bad("compute", since=300, source=CANARY)))
