"""One attempt, from what was seen of it: a table of facts, and the state, failure and effect that they lead to."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from store_kit import attempt_row

from broker.engine.attempt import GATED_EXIT, JOB_ENDS, Progress, advance, stuck_reason
from broker.states import AttemptState
from broker.store.base import AttemptRow
from connectors import harness
from connectors.errors import Fault
from connectors.harness.records import EXIT_KINDS
from connectors.model import JobState
from policies.model import SiteFacts

SECOND = 1_000_000
NOW = 1000 * SECOND
ANSWERS = SiteFacts(name="nersc", facility="nersc", slots=4, load=1, share=3)
SILENT = SiteFacts(
    name="nersc", facility="nersc", slots=4, load=1, share=3, cannot_ask_since=NOW - 90 * SECOND, probes=9, silent=True
)


def job(state: str = "running", *, confirmed: bool = True, **more: Any) -> str:
    """The site's word; `confirmed`: said again a settle time later."""
    fact = {"state": state, "restarts": 0, "exit_code": None, "native_state": "", "native_reason": "", **more}
    return json.dumps({**fact, "since": 1, "confirmed": confirmed})


def exited(kind: str = "done", *, code: int = 0, **more: Any) -> str:
    fact = {"generation": 1, "kind": kind, "exit_code": code, "signal": None, "started_at": 1, "ended_at": 77}
    return json.dumps({**fact, "outputs": 0, "digest": "", "missing": [], **more})


def started(generation: int = 1, at: int = 55) -> str:
    return json.dumps({"generation": generation, "at": at, "owner": "me"})


ACCEPTED = json.dumps({"accepted": "123", "at": 44})


def row(state: str, **seen: Any) -> AttemptRow:
    """A job that the site has accepted, unless something else is said."""
    answer = "" if state in ("PLANNED", "STAGING_IN", "SUBMITTING") else ACCEPTED
    return attempt_row(0, **{"state": state, "answer": answer, **seen})


def seen(before: AttemptRow, *, site: SiteFacts | None = ANSWERS) -> Progress:
    return advance(before, site=site, now=NOW)


# -- the table ----------------

FACTS: list[tuple[str, AttemptRow, str, Fault | None, str]] = [
    # what was seen, the attempt before -> its state now, whose fault, the effect that is wanted
    ("nothing", row("PLANNED"), "PLANNED", None, ""),
    ("nothing", row("STAGING_IN"), "STAGING_IN", None, ""),
    ("files arrived", row("STAGING_IN", staged='{"ok":true}'), "SUBMITTING", None, "submit"),
    ("files are missing", row("STAGING_IN", staged='{"ok":false,"reason":"gone"}'), "FAILED", Fault.STAGING, ""),
    (
        "no room for files",
        row("STAGING_IN", staged='{"ok":false,"reason":"disk full","fault":"quota"}'),
        "FAILED",
        Fault.QUOTA,
        "",
    ),
    ("no answer yet", row("SUBMITTING"), "SUBMITTING", None, ""),
    ("accepted", row("SUBMITTING", answer=ACCEPTED), "QUEUED", None, ""),
    ("refused", row("SUBMITTING", answer='{"refused":"bad account"}'), "FAILED", Fault.SITE, ""),
    (
        "refused for want of a token",
        row("SUBMITTING", answer='{"refused":"who are you?","fault":"credential"}'),
        "FAILED",
        Fault.CREDENTIAL,
        "",
    ),
    ("accepted and running", row("SUBMITTING", answer=ACCEPTED, job=job()), "RUNNING", None, ""),
    ("seen running before the answer is known", row("SUBMITTING", job=job()), "RUNNING", None, ""),
    ("a start record before the answer is known", row("SUBMITTING", started=started()), "RUNNING", None, ""),
    ("ended before the answer is known", row("SUBMITTING", exit=exited()), "SUCCEEDED", None, ""),
    ("queued", row("QUEUED", job=job("queued")), "QUEUED", None, ""),
    ("held", row("QUEUED", job=job("held")), "QUEUED", None, ""),
    ("the site says running", row("QUEUED", job=job()), "RUNNING", None, ""),
    ("the harness says started", row("QUEUED", started=started()), "RUNNING", None, ""),
    ("started, the queue's word is older", row("QUEUED", job=job("queued"), started=started()), "RUNNING", None, ""),
    ("a late word «queued»", row("RUNNING", job=job("queued"), started=started()), "RUNNING", None, ""),
    ("requeued by the site", row("RUNNING", job=job("queued", restarts=1), started=started()), "QUEUED", None, ""),
    (
        "the requeued job has started",
        row("QUEUED", job=job("queued", restarts=1), started=started(2)),
        "RUNNING",
        None,
        "",
    ),
    # the exit record beats the site's word
    ("done without outputs", row("RUNNING", exit=exited()), "SUCCEEDED", None, ""),
    ("done with outputs", row("RUNNING", exit=exited(outputs=2, digest="d")), "VERIFYING", None, "verify"),
    ("done, the site says failed", row("RUNNING", exit=exited(), job=job("failed")), "SUCCEEDED", None, ""),
    ("done, the site lost it", row("RUNNING", exit=exited(), job=job("lost")), "SUCCEEDED", None, ""),
    ("done, seen in one look with its start", row("QUEUED", exit=exited(), started=started()), "SUCCEEDED", None, ""),
    ("a required output is missing", row("RUNNING", exit=exited(missing=["x"])), "FAILED", Fault.APPLICATION, ""),
    ("exit code 3", row("RUNNING", exit=exited("failed", code=3)), "FAILED", Fault.APPLICATION, ""),
    ("a signal", row("RUNNING", exit=exited("failed", code=137, signal=9)), "FAILED", Fault.APPLICATION, ""),
    (
        "a signal, and the site says why",
        row("RUNNING", exit=exited("failed", code=137), job=job("out_of_memory")),
        "FAILED",
        Fault.MEMORY,
        "",
    ),
    (
        "a signal, and the site says that it preempted the job",
        row("RUNNING", exit=exited("failed", code=143, signal=15), job=job("preempted")),
        "PREEMPTED",
        Fault.PREEMPTED,
        "",
    ),
    ("its own bound", row("RUNNING", exit=exited("timed_out", code=124)), "TIMED_OUT", Fault.TIME_LIMIT, ""),
    (
        "an input is missing",
        row("QUEUED", exit=exited("input_missing", code=77, missing=["x"])),
        "FAILED",
        Fault.STAGING,
        "",
    ),
    (
        "an input was cut short",
        row("QUEUED", exit=exited("input_missing", code=77, wrong_size=[["x", 3]])),
        "FAILED",
        Fault.STAGING,
        "",
    ),
    ("too late", row("QUEUED", exit=exited("too_late", code=75)), "FAILED", Fault.SITE, ""),
    (
        "a checkpoint that does not verify",
        row("QUEUED", exit=exited("restore_failed", code=76), restore='{"seq":5}'),
        "FAILED",
        Fault.APPLICATION,
        "",
    ),
    # stopped: whose wish was it?
    (
        "stopped as we asked",
        row("RUNNING", exit=exited("stopped"), job=job("canceled"), cancel_requested_at=1),
        "CANCELED",
        None,
        "",
    ),
    (
        "stopped, the site goes on with it",
        row("RUNNING", exit=exited("stopped"), job=job("queued")),
        "RUNNING",
        None,
        "",
    ),
    ("preempted", row("RUNNING", exit=exited("stopped"), job=job("preempted")), "PREEMPTED", Fault.PREEMPTED, ""),
    (
        "stopped at the site's limit",
        row("RUNNING", exit=exited("stopped"), job=job("timed_out")),
        "TIMED_OUT",
        Fault.TIME_LIMIT,
        "",
    ),
    # verifying
    ("nothing", row("VERIFYING", exit=exited(outputs=1)), "VERIFYING", None, ""),
    ("verified", row("VERIFYING", exit=exited(outputs=1), verified='{"ok":true,"files":[]}'), "SUCCEEDED", None, ""),
    (
        "not as it said",
        row("VERIFYING", exit=exited(outputs=1), verified='{"ok":false,"reason":"gone","fault":"site"}'),
        "FAILED",
        Fault.SITE,
        "",
    ),
    # surely dead
    ("surely dead", row("RUNNING", dead='{"how":"fenced"}'), "FAILED", Fault.SITE, ""),
    (
        "surely dead as asked",
        row("RUNNING", dead='{"how":"canceled and confirmed"}', cancel_requested_at=1),
        "CANCELED",
        None,
        "",
    ),
    (
        "never submitted",
        row("SUBMITTING", dead='{"how":"never submitted"}', cancel_requested_at=1),
        "CANCELED",
        None,
        "",
    ),
    (
        "dead, but it had finished",
        row("RUNNING", dead='{"how":"canceled and confirmed"}', cancel_requested_at=1, exit=exited()),
        "SUCCEEDED",
        None,
        "",
    ),
    # no exit record: the site's word is all there is
    ("canceled there as we asked", row("RUNNING", job=job("canceled"), cancel_requested_at=1), "CANCELED", None, ""),
    ("lost, nobody knows if it was submitted", row("SUBMITTING", job=job("lost")), "SUBMITTING", None, ""),
    ("the exit record may lag", row("RUNNING", job=job("succeeded", confirmed=False)), "RUNNING", None, ""),
    ("the listing may lag", row("QUEUED", job=job("lost", confirmed=False)), "QUEUED", None, ""),
    (
        "another job holds the claim",
        row("RUNNING", job=job("failed", confirmed=False, exit_code=GATED_EXIT)),
        "RUNNING",
        None,
        "",
    ),
    (
        "the one that held the claim never turned up",
        row("RUNNING", job=job("failed", exit_code=GATED_EXIT)),
        "FAILED",
        Fault.SITE,
        "",
    ),
    ("a word that is not known", row("RUNNING", job=job("unknown")), "RUNNING", None, ""),
]


@pytest.mark.parametrize(
    ("before", "state", "fault", "effect"), [fact[1:] for fact in FACTS], ids=[f"{f[1].state}: {f[0]}" for f in FACTS]
)
def test_facts_lead_to_a_state_a_fault_and_an_effect(
    before: AttemptRow, state: str, fault: Fault | None, effect: str
) -> None:
    progress = seen(before)
    assert progress.row.state == state
    assert (progress.failure.fault if progress.failure else None) is fault
    assert progress.row.failure == (fault.value if fault else "")
    assert progress.effect == effect


@pytest.mark.parametrize("before", [fact[1] for fact in FACTS], ids=[f"{f[1].state}: {f[0]}" for f in FACTS])
def test_the_same_facts_seen_again_change_nothing(before: AttemptRow) -> None:
    once = seen(before).row
    again = seen(once)
    assert again.row == once
    assert again.effect == ""
    assert again.failure is None


LATE = [
    {"job": job("queued")},
    {"job": job("failed")},
    {"job": job("lost")},
    {"started": started(3)},
    {"exit": exited("failed", code=1)},
    {"dead": '{"how":"gone"}'},
    {"staged": '{"ok":false,"reason":"x"}'},
    {"answer": '{"refused":"x"}'},
    {"verified": '{"ok":false,"reason":"x"}'},
]


@pytest.mark.parametrize("late", LATE, ids=lambda late: next(iter(late)))
@pytest.mark.parametrize("state", [s.value for s in AttemptState if s.final])
def test_a_fact_that_comes_after_the_end_changes_nothing(state: str, late: dict[str, Any]) -> None:
    over = row(state, open=0, **late)
    assert seen(over, site=SILENT) == Progress(over)


# -- the site's own words ----------------


def test_every_final_word_of_a_site_is_classified_and_no_other() -> None:
    assert set(JOB_ENDS) == {state for state in JobState if state.final}


def test_no_final_word_of_a_site_makes_a_success() -> None:
    assert AttemptState.SUCCEEDED not in {state for state, _, _ in JOB_ENDS.values()}


@pytest.mark.parametrize("word", [state for state in JobState if state.final])
def test_without_an_exit_record_the_sites_word_is_taken(word: JobState) -> None:
    progress = seen(row("RUNNING", job=job(word.value, native_state="X 1", native_reason="because")))
    state, fault, words = JOB_ENDS[word]
    assert (progress.row.state, progress.row.failure) == (state.value, fault.value)
    assert progress.row.reason == f"{words} (because)"
    assert progress.failure is not None
    assert progress.failure.site == "nersc"


@pytest.mark.parametrize("word", ["succeeded", "lost"])
def test_words_that_may_lag_are_believed_when_they_were_said_again(word: str) -> None:
    once = row("RUNNING", job=job(word, confirmed=False))
    assert seen(once) == Progress(once)
    assert seen(row("RUNNING", job=job(word))).row.state == "FAILED"


def test_a_queued_job_that_will_never_start_says_so() -> None:
    stuck = row("QUEUED", job=job("queued", stuck="PartitionTimeLimit"))
    assert stuck_reason(stuck) == "PartitionTimeLimit"
    assert stuck_reason(stuck._replace(state="RUNNING")) == ""
    assert stuck_reason(row("QUEUED")) == ""


def test_the_harness_and_the_engine_mean_the_same_by_turned_away() -> None:
    assert harness.GATED == GATED_EXIT


# -- generations ----------------


def test_the_end_of_a_generation_that_was_followed_by_another_is_no_end() -> None:
    progress = seen(row("RUNNING", exit=exited("failed", code=1, generation=1), started=started(2), job=job()))
    assert (progress.row.state, progress.failure) == ("RUNNING", None)


def test_what_ended_well_stays_so_whatever_was_started_after_it() -> None:
    verifying = row("VERIFYING", exit=exited(outputs=1), started=started(2), job=job("preempted"))
    assert seen(verifying) == Progress(verifying)
    assert seen(verifying._replace(verified='{"ok":true,"files":[]}')).row.state == "SUCCEEDED"


def test_the_end_of_the_newest_generation_counts() -> None:
    progress = seen(row("RUNNING", exit=exited(generation=2), started=started(2)))
    assert progress.row.state == "SUCCEEDED"


# -- what is kept beside the state ----------------


def test_the_times_are_those_of_the_site_where_it_told_them() -> None:
    queued = seen(row("SUBMITTING", answer=ACCEPTED)).row
    assert queued.submitted_at == 44
    running = seen(queued._replace(started=started(at=55))).row
    assert running.started_at == 55
    ended = seen(running._replace(exit=exited())).row
    assert (ended.ended_at, ended.open) == (77, 0)


def test_a_requeue_keeps_the_first_start_and_says_who_did_it() -> None:
    requeued = seen(row("RUNNING", started_at=55, job=job("queued", restarts=1), started=started())).row
    assert (requeued.reason, requeued.started_at) == ("requeued by nersc", 55)
    again = seen(requeued._replace(started=started(2, at=99))).row
    assert (again.state, again.started_at, again.reason) == ("RUNNING", 55, "")


def test_a_failure_carries_what_the_policies_need() -> None:
    progress = seen(row("RUNNING", exit=exited("failed", code=3), restore='{"seq":5}'))
    assert progress.failure is not None
    assert (progress.failure.exit_code, progress.failure.restored_seq) == (3, 5)
    assert progress.failure.detail == progress.row.reason == "exit code 3"


def test_inputs_at_fault_are_named_with_what_is_wrong_about_them() -> None:
    absent = exited("input_missing", code=77, missing=["a", "b"], wrong_size=[["c", 3]])
    assert seen(row("QUEUED", exit=absent)).row.reason == (
        "it could not start: a, b is not in its place; c has 3 bytes, not what was brought"
    )


def test_only_five_missing_outputs_are_named() -> None:
    progress = seen(row("RUNNING", exit=exited(missing=[f"out{n}" for n in range(9)])))
    assert progress.row.reason == "exit code 0, but it did not write out0, out1, out2, out3, out4"


def test_unreachable_is_a_time_beside_the_state() -> None:
    dark = seen(row("RUNNING"), site=SILENT).row
    assert (dark.state, dark.unreachable_since) == ("RUNNING", NOW - 90 * SECOND)
    assert seen(dark, site=SILENT).row == dark
    back = seen(dark, site=ANSWERS).row
    assert (back.state, back.unreachable_since) == ("RUNNING", None)


def test_a_site_that_is_silent_but_has_its_budget_left_is_not_unreachable() -> None:
    hopeful = SiteFacts(name="nersc", facility="x", slots=1, load=1, share=0, cannot_ask_since=NOW - 1, probes=1)
    assert seen(row("RUNNING"), site=hopeful).row.unreachable_since is None
    # and one that was unreachable is so until it answers
    dark = row("RUNNING", unreachable_since=5)
    assert seen(dark, site=hopeful).row == dark


def test_a_site_that_left_the_document_changes_no_attempt() -> None:
    before = row("RUNNING", unreachable_since=5)
    assert seen(before, site=None).row == before


def test_an_end_closes_the_attempt_and_ends_its_being_unreachable() -> None:
    ended = seen(row("RUNNING", unreachable_since=5, exit=exited()), site=SILENT).row
    assert (ended.state, ended.open, ended.unreachable_since) == ("SUCCEEDED", 0, None)


# -- every combination ----------------

JOBS = ["", *(job(s.value, restarts=r, confirmed=c) for s in JobState for r in (0, 1) for c in (False, True))]
EXITS = ["", exited(outputs=1), *(exited(kind, code=int(kind != "done")) for kind in sorted(EXIT_KINDS))]


@pytest.mark.parametrize("state", [state.value for state in AttemptState if not state.final])
def test_no_combination_of_facts_confuses_it(state: str) -> None:
    """Whatever is seen, in whatever state: it never raises, a failure is final and named, and an end is an end."""
    count = 0
    for job_fact, exit_fact, start_fact, dead, canceled, answer, verified in product(
        JOBS,
        EXITS,
        ("", started(1), started(2)),
        ("", '{"how":"gone"}'),
        (None, 1),
        ("", ACCEPTED),
        ("", '{"ok":true,"files":[]}') if state == "VERIFYING" else ("",),
    ):
        before = row(
            state,
            job=job_fact,
            exit=exit_fact,
            started=start_fact,
            dead=dead,
            cancel_requested_at=canceled,
            answer=answer,
            verified=verified,
        )
        after = seen(before)
        count += 1
        final = AttemptState(after.row.state).final
        assert after.row.open == int(not final)
        assert bool(after.row.failure) == (after.failure is not None)
        if after.failure is not None:
            assert after.row.state in ("FAILED", "PREEMPTED", "TIMED_OUT")
            assert after.row.reason
    assert count > 1000
