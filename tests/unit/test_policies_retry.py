"""Retry: what follows when an attempt ended without a product is decided by whose fault it was."""

from __future__ import annotations

from typing import Any

import pytest
from policy_kit import NOW, SECOND, ContinueRule, Tries, rules, said

from connectors.errors import Fault
from policies.model import Decision, Failure, Rules
from policies.retry import BACKOFF, MEMORY_RAISES, after_failure


def judged(
    fault: Fault = Fault.APPLICATION, asked: Rules | None = None, tries: Tries | None = None, **more: Any
) -> Decision:
    failure = Failure(fault=fault, site="nersc", **{"detail": "something broke", **more})
    return after_failure(asked or rules(), failure, tries or Tries(), now=NOW)


# -- by fault, with nothing said in the document -------------------------------------------------------------------

BY_FAULT = [
    # fault -> outcome, counter that the try is booked to, rules in their order
    (Fault.APPLICATION, "fail", None, ["fault.application", "retry.app_fault"]),
    (Fault.SITE, "elsewhere", "site_retries", ["fault.site"]),
    (Fault.STAGING, "elsewhere", "site_retries", ["fault.staging"]),
    (Fault.QUOTA, "elsewhere", "site_retries", ["fault.quota"]),
    (Fault.POLICY, "elsewhere", "site_retries", ["fault.policy"]),
    (Fault.PREEMPTED, "again", None, ["fault.preempted"]),
    (Fault.TIME_LIMIT, "fail", None, ["fault.time_limit"]),
    (Fault.MEMORY, "more_memory", "memory_raises", ["fault.memory"]),
    (Fault.CREDENTIAL, "ask", None, ["fault.credential"]),
]


@pytest.mark.parametrize(("fault", "outcome", "booked", "names"), BY_FAULT)
def test_the_fault_decides(fault: Fault, outcome: str, booked: str | None, names: list[str]) -> None:
    decision = judged(fault)
    assert (decision.outcome, decision.facts.get("booked")) == (outcome, booked)
    assert [r.rule for r in decision.reasons] == names


def test_every_fault_is_in_the_table() -> None:
    assert {row[0] for row in BY_FAULT} == set(Fault)


def test_a_payload_that_fails_is_never_carried_elsewhere() -> None:
    for tries in range(6):
        decision = judged(asked=rules(app_fault=3), tries=Tries(app_retries=tries))
        assert decision.outcome == ("again" if tries < 3 else "fail")


@pytest.mark.parametrize(("tries", "pause"), [(0, 1), (1, 5), (2, 30), (3, 120), (4, 600), (5, 600), (50, 600)])
def test_the_pause_before_the_next_try_grows_to_ten_minutes(tries: int, pause: int) -> None:
    asked = rules(site_fault=99, app_fault=99)
    assert judged(Fault.SITE, asked, Tries(site_retries=tries)).until == NOW + pause * SECOND
    assert judged(Fault.APPLICATION, asked, Tries(app_retries=tries)).until == NOW + pause * SECOND
    assert pause in BACKOFF


def test_faults_of_sites_are_not_retried_for_ever() -> None:
    decision = judged(Fault.SITE, tries=Tries(site_retries=3))
    assert decision.outcome == "fail"
    assert said(decision) == [("fault.site", "elsewhere"), ("retry.site_fault", "fail")]
    assert [r.fact for r in decision.reasons] == ["nersc: something broke", "3 tries after faults of sites are spent"]


def test_preemption_costs_no_retry_and_begins_again_after_a_short_pause() -> None:
    decision = judged(Fault.PREEMPTED, tries=Tries(site_retries=99, app_retries=99))
    assert (decision.outcome, decision.until, decision.facts) == ("again", NOW + 5_000_000, {})


def test_memory_is_doubled_twice_and_no_more() -> None:
    outcomes = [judged(Fault.MEMORY, tries=Tries(memory_raises=n)).outcome for n in range(MEMORY_RAISES + 1)]
    assert outcomes == ["more_memory", "more_memory", "fail"]
    last = judged(Fault.MEMORY, tries=Tries(memory_raises=MEMORY_RAISES))
    assert last.reasons[-1].fact == "memory was raised 2 times"


# -- exit codes that mean something ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "outcome", "booked"),
    [("fail", "fail", None), ("retry", "again", "app_retries"), ("more_memory", "more_memory", "memory_raises")],
)
def test_an_exit_code_means_what_the_document_says(action: str, outcome: str, booked: str | None) -> None:
    decision = judged(asked=rules(app_fault=2, exit_codes={17: action}), exit_code=17)
    assert (decision.outcome, decision.facts.get("booked")) == (outcome, booked)
    assert decision.reasons[0].fact == f"exit code 17 means {action}"
    assert decision.reasons[0].rule == "retry.exit_codes"


def test_an_exit_code_that_is_not_named_means_nothing() -> None:
    assert said(judged(asked=rules(exit_codes={17: "retry"}), exit_code=18))[0] == ("fault.application", "for")


@pytest.mark.parametrize(("allowed", "limit"), [(0, 3), (2, 3), (7, 7)])
def test_a_named_retry_has_three_tries_or_as_many_as_the_document_says(allowed: int, limit: int) -> None:
    asked = rules(app_fault=allowed, exit_codes={33: "retry"})
    assert judged(asked=asked, exit_code=33, tries=Tries(app_retries=limit - 1)).outcome == "again"
    last = judged(asked=asked, exit_code=33, tries=Tries(app_retries=limit))
    assert said(last) == [("retry.exit_codes", "retry"), ("retries", "fail")]


# -- the next segment -------------------------------------------------------------------------------------------------


def segments(**more: Any) -> Rules:
    return rules(continuation=ContinueRule(**{"time_limit": True, "exit_codes": frozenset({85}), **more}))


SEGMENTS = [
    # fault, exit code -> outcome
    (Fault.TIME_LIMIT, None, "continue"),
    (Fault.TIME_LIMIT, 124, "continue"),
    (Fault.APPLICATION, 85, "continue"),
    (Fault.APPLICATION, 86, "fail"),
    (Fault.SITE, None, "elsewhere"),
]


@pytest.mark.parametrize(("fault", "code", "outcome"), SEGMENTS)
def test_an_end_that_only_ends_a_segment_is_no_failure(fault: Fault, code: int | None, outcome: str) -> None:
    assert judged(fault, segments(), exit_code=code, newest_seq=4).outcome == outcome


def test_what_ended_a_segment_is_said() -> None:
    by_limit = judged(Fault.TIME_LIMIT, segments(), newest_seq=1)
    by_code = judged(Fault.APPLICATION, segments(), exit_code=85, newest_seq=1)
    assert by_limit.reasons[0].fact == "the time limit ends a segment, the next one goes on"
    assert by_code.reasons[0].fact == "exit code 85 ends a segment, the next one goes on"


def test_an_exit_code_that_means_continue_needs_no_other_word() -> None:
    asked = rules(exit_codes={85: "continue"})
    assert judged(asked=asked, exit_code=85, newest_seq=1).outcome == "continue"
    assert judged(asked=asked, exit_code=86, newest_seq=1).outcome == "fail"


def test_an_end_without_an_exit_code_is_no_exit_code_zero() -> None:
    asked = rules(exit_codes={0: "continue"})
    assert judged(Fault.SITE, asked, exit_code=None, newest_seq=1).outcome == "elsewhere"


@pytest.mark.parametrize(("had", "outcome"), [(98, "continue"), (99, "continue"), (100, "fail"), (101, "fail")])
def test_segments_have_an_end(had: int, outcome: str) -> None:
    decision = judged(Fault.TIME_LIMIT, segments(max=100), Tries(continuations=had), newest_seq=1)
    assert decision.outcome == outcome
    if outcome == "fail":
        assert decision.reasons[0].rule == "continue.max"


STALLS = [
    # brought a checkpoint, segments before it without -> outcome; no_progress: 2
    (True, 0, "continue"),
    (True, 5, "continue"),
    (False, 0, "continue"),  # the first in vain
    (False, 1, "fail"),  # the second in a row
]


@pytest.mark.parametrize(("progressed", "stalled", "outcome"), STALLS)
def test_two_segments_in_vain_end_the_stage(progressed: bool, stalled: int, outcome: str) -> None:
    newest = 7 if progressed else None
    decision = judged(Fault.TIME_LIMIT, segments(), Tries(stalled=stalled), newest_seq=newest)
    assert decision.outcome == outcome
    if outcome == "fail":
        assert decision.reasons[0].fact == "2 segments in a row brought no newer checkpoint"
        assert decision.reasons[0].rule == "continue.no_progress"


# -- a checkpoint that may be to blame ------------------------------------------------------------------------------


def test_a_start_from_a_checkpoint_that_fails_at_once_puts_the_checkpoint_under_suspicion() -> None:
    decision = judged(restored_seq=5)
    assert (decision.outcome, decision.facts) == ("again", {"booked": "site_retries", "suspect": True})
    assert said(decision) == [("suspect_checkpoint", "again")]


@pytest.mark.parametrize(
    "more",
    [
        {"restored_seq": 5, "newest_seq": 6},  # it brought a newer one first
        {"restored_seq": None},  # it started from the beginning
    ],
)
def test_a_checkpoint_that_served_is_not_suspect(more: dict[str, Any]) -> None:
    decision = judged(**more)
    assert decision.outcome == "fail"
    assert "suspect" not in decision.facts


def test_only_the_payloads_own_failure_makes_a_checkpoint_suspect() -> None:
    for fault in set(Fault) - {Fault.APPLICATION}:
        assert "suspect" not in judged(fault, restored_seq=5).facts


def test_suspicion_ends_with_the_tries() -> None:
    decision = judged(tries=Tries(site_retries=3), restored_seq=5)
    assert decision.outcome == "fail"


def test_a_named_exit_code_is_believed_before_a_checkpoint_is_suspected() -> None:
    asked = rules(exit_codes={17: "fail"})
    assert judged(asked=asked, exit_code=17, restored_seq=5).outcome == "fail"


def test_the_decision_survives_its_json() -> None:
    for fault in Fault:
        decision = judged(fault, restored_seq=5)
        assert Decision.from_json(decision.json) == decision
