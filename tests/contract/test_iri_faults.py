"""How jobs at an IRI site end, and how the site is, with all that can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from iri_kit import FEED, HOUR, TOKEN, VARIABLE, Stage, Stages, fill, simulated_job

from connectors.contract import new_key
from connectors.errors import BadReply, RequestRefused
from connectors.model import Accepted, Evidence, JobState, Refused
from sandbox.facility import Outage

KINDS = ["alcf", "nersc", "reference"]


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stages]:
    with Stages(tmp_path) as stages:
        yield stages


# -- how jobs end ------------------------------------------------------------------------------------------------


def test_completed_with_an_exit_code_is_failed(stage: Stages) -> None:
    there, key = stage("alcf"), new_key()
    there.submit(key, exit_code=3)
    status = there.ended(key)
    assert (status.state, status.exit_code, status.native_state) == (JobState.FAILED, 3, "completed")


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("node_fail", JobState.NODE_FAILED),
        ("time_out", JobState.TIMED_OUT),
        ("deadline", JobState.TIMED_OUT),
        ("out_of_memory", JobState.OUT_OF_MEMORY),
        ("boot_fail", JobState.NODE_FAILED),
    ],
)
def test_the_schedulers_own_word_says_how_a_job_ended(stage: Stages, fault: str, state: JobState) -> None:
    there, key = stage("reference", {"fault": fault, "after": 2, "job": "cf"}), new_key()
    there.submit(key, seconds=500)
    assert there.ended(key).state is state


def test_a_preempted_job_that_is_not_requeued_is_preempted(stage: Stages) -> None:
    there, key = stage("reference", {"fault": "preempt", "after": 2, "requeue": False, "job": "cf"}), new_key()
    there.submit(key, seconds=500)
    assert there.ended(key).state is JobState.PREEMPTED


def test_a_requeue_shows_in_the_restart_count(stage: Stages) -> None:
    there, key = (
        stage("reference", {"fault": "preempt", "after": 2, "requeue": True, "notice": 0, "job": "cf"}),
        new_key(),
    )
    there.submit(key, seconds=20)
    there.wait(lambda: there.status(key).restarts == 1)
    assert there.ended(key).state is JobState.SUCCEEDED


def test_a_word_that_nobody_knows_is_unknown_and_kept(stage: Stages) -> None:
    rule = {"fault": "unknown_word", "word": "HIBERNATED", "after": 0, "seconds": 10, "job": "cf"}
    there, key = stage("reference", rule), new_key()
    there.submit(key, seconds=60)
    there.clock.advance(2)
    status = there.status(key)
    assert status.state is JobState.UNKNOWN
    assert "hibernated" in status.native_state.lower()
    there.wait(lambda: there.status(key).state is JobState.RUNNING)


def test_a_fatal_reason_is_told_as_stuck(stage: Stages) -> None:
    there, key = stage("reference", {"fault": "stuck", "reason": "PartitionTimeLimit", "job": "cf"}), new_key()
    there.submit(key)
    status = there.status(key)
    assert (status.state, status.stuck_reason) == (JobState.QUEUED, "PartitionTimeLimit")


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_the_site_forgot_is_absent_from_a_complete_listing(stage: Stages, kind: str) -> None:
    there, key = stage(kind, {"fault": "forget", "job": "cf"}), new_key()
    assert isinstance(there.submit(key), Accepted)
    there.clock.advance(60)
    for look in (there.site.status, there.site.find):
        listing = look([key])
        assert listing.complete
        assert not listing.items


@pytest.mark.parametrize("kind", KINDS)
def test_a_cancel_that_was_taken_and_not_carried_out_is_not_confirmed(stage: Stages, kind: str) -> None:
    there, key = stage(kind, {"fault": "ignore_cancel", "job": "cf"}), new_key()
    there.submit(key, seconds=20)
    there.clock.advance(2)
    assert there.site.cancel([key]) == {key: False}
    assert there.status(key).state is JobState.RUNNING
    assert there.site.cancel([key]) == {key: False}
    there.wait(lambda: there.site.cancel([key])[key])


def test_a_refusal_tells_the_schedulers_words(stage: Stages) -> None:
    for kind in ("alcf", "reference"):
        there, key = stage(kind), new_key()
        answer = there.site.submit([replace(simulated_job(key), submit={"queue": "no-such"})])[key]
        assert isinstance(answer, Refused)
        assert "nknown queue" in answer.reason or "Invalid partition" in answer.reason
        assert there.accepted(key) == 0


def test_what_the_site_needs_and_was_not_given_is_refused(stage: Stages) -> None:
    there, key = stage("alcf", options={"custom_attributes": {}}), new_key()
    answer = there.submit(key)
    assert isinstance(answer, Refused)
    assert "filesystems" in answer.reason


# -- how the site is ---------------------------------------------------------------------------------------------


def evidence(there: Stage, capability: str, **options: Any) -> list[Evidence]:
    return [item for item in there.rehearsal.site(options=options).probe() if item.capability == capability]


def test_an_empty_list_of_incidents_is_empty_though_it_is_answered_with_404(stage: Stages) -> None:
    there = stage("reference")
    assert there.site._api.incidents() == ()
    assert all(item.ok for item in there.site.probe())


def test_a_page_that_is_not_there_is_no_empty_list(stage: Stages) -> None:
    there = stage("reference", {"fault": "html", "code": 404, "path": "/status/incidents", "times": 0})
    with pytest.raises(BadReply):
        there.site._api.incidents()
    assert [item.ok for item in evidence(there, "status")] == [True, False]


def test_an_outage_is_told_with_its_end(stage: Stages) -> None:
    there = stage("reference")
    now = there.clock()
    there.facility.announce(Outage(resource="machine", start=now - HOUR, end=now + HOUR, planned=True))
    found = evidence(there, "compute")
    assert not any(item.ok for item in found)
    assert found[-1].until == now + HOUR


def test_a_degraded_machine_is_up_and_says_so(stage: Stages) -> None:
    there = stage("reference", {"fault": "status_word", "word": "degraded", "path": "/status/resources"})
    assert [(item.ok, item.detail) for item in evidence(there, "compute")] == [(True, "machine is degraded")]


@pytest.mark.parametrize("word", ["unknown", "sleepy"])
def test_an_unknown_state_is_evidence_of_nothing(stage: Stages, word: str) -> None:
    there = stage("reference", {"fault": "status_word", "word": word, "path": "/status/resources"})
    assert evidence(there, "compute") == []


def test_a_planned_outage_is_found_by_the_check(stage: Stages) -> None:
    there = stage("reference")
    now = there.clock()
    there.facility.announce(
        Outage(resource="machine", start=now + 3 * HOUR, end=now + 9 * HOUR, planned=True, description="upgrade")
    )
    findings = {item.step: item for item in there.site.check()}
    assert "upgrade planned in 3.0 hours" in findings["status"].detail
    assert findings["allocation"].detail.startswith("0 of 1000 ")
    assert [item.step for item in there.site.check()] == [
        "credentials", "expiry", "status", "allocation", "files", "submit",
    ]  # fmt: skip


def test_the_activity_feed_tells_of_maintenance_its_end_and_the_queues(stage: Stages) -> None:
    there = stage("alcf")
    feed = {"activity": f"{FEED}/polaris/activity.json"}
    fill(there, 60)
    (found,) = [item for item in evidence(there, "compute", **feed) if "waiting" in item.detail]
    assert found.detail == "40 jobs running, 20 waiting (debug 20)"
    now = there.clock()
    there.facility.announce(Outage(resource="polaris", start=now - HOUR, end=now + 2 * HOUR, planned=True))
    told = [item for item in evidence(there, "compute", **feed) if item.detail == "in maintenance"]
    assert [(item.ok, item.until) for item in told] == [(False, now // 1_000_000 * 1_000_000 + 2 * HOUR)]


def test_an_old_feed_says_nothing_of_the_machine(stage: Stages) -> None:
    there = stage("alcf", {"fault": "stale_feed", "age": 1000, "face": "activity"})
    feed = {"activity": f"{FEED}/polaris/activity.json"}
    told = [item for item in evidence(there, "status", **feed) if "minutes old" in item.detail]
    assert [item.ok for item in told] == [False]


def test_the_feed_is_read_without_our_token(stage: Stages) -> None:
    there = stage("alcf")
    there.wire.headers.clear()
    there.rehearsal.site(options={"activity": f"{FEED}/polaris/activity.json"}).probe()
    sent = [headers for headers in there.wire.headers if headers["host"] == "status.test"]
    assert sent
    assert all("authorization" not in headers for headers in sent)


def test_the_end_of_a_log_that_is_too_large_to_come_down_is_read(stage: Stages) -> None:
    there = stage("reference")
    path = f"{there.facility.files.root}/log"
    there.facility.files.write(path, b"x" * (6 << 20) + b"the end\n")
    assert there.site.read("log", offset=-8) == b"the end\n"
    assert there.site.read("log", offset=-8, limit=3) == b"the"
    with pytest.raises(RequestRefused, match="too large"):
        there.site.read("log")
