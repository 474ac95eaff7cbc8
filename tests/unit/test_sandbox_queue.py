"""Who starts when at a simulated site."""

from __future__ import annotations

import pytest
from sandbox_kit import Place, at, job

from connectors.model import JobState, Refused, Resources
from sandbox.faults import ComputeDown, Maintenance, StuckQueue
from sandbox.queue import Reservation


def test_jobs_start_in_the_order_of_their_arrival() -> None:
    place = Place(slots=1)
    place.submit(*(job(number, "seconds=10") for number in (1, 2, 3)))
    place.go_on()
    assert [place.started(number) for number in (1, 2, 3)] == [0, 10, 20]


def test_a_higher_lane_goes_first_and_a_lower_one_last() -> None:
    place = Place(slots=1)
    place.submit(job(1, "seconds=10"))
    place.submit(job(2, "seconds=10", submit={"qos": "preempt"}), job(3, "seconds=10"))
    place.submit(job(4, "seconds=10", submit={"queue": "urgent"}))
    place.go_on()
    assert [place.started(number) for number in (4, 3, 2)] == [10, 20, 30]


def test_a_job_that_ends_at_once_never_blocks_the_next_one() -> None:
    place = Place(slots=1)
    place.submit(*(job(number) for number in range(1, 200)))
    assert {place.state(number) for number in range(1, 200)} == {JobState.SUCCEEDED}
    assert place.clock() == at(0)


def test_cores_are_counted_and_several_nodes_are_taken_whole() -> None:
    place = Place(nodes=2, cores_per_node=4)
    place.submit(job(1, "seconds=10", resources=Resources(cores=3)))
    place.submit(job(2, "seconds=10", resources=Resources(cores=5)))
    assert (place.state(1), place.state(2)) == (JobState.RUNNING, JobState.RUNNING)
    place.submit(job(3, "seconds=10", resources=Resources(nodes=2, cores=2)), job(4, "seconds=10"))
    assert place.status(3).state is JobState.QUEUED
    assert place.status(4).state is JobState.QUEUED, "without backfill the head of the queue blocks"
    place.go_on()
    assert (place.started(3), place.started(4)) == (10, 20)


def test_an_impossible_job_is_refused_or_waits_for_ever_as_the_site_is_set() -> None:
    impossible = job(1, resources=Resources(walltime=7200))
    strict = Place(max_walltime=3600)
    answer = strict.site.submit([impossible])[impossible.key]
    assert isinstance(answer, Refused)
    assert answer.reason == "PartitionTimeLimit"
    lenient = Place(max_walltime=3600, enforce_limits=False)
    lenient.submit(impossible)
    lenient.go_to(1e6)
    assert lenient.state() is JobState.QUEUED
    assert lenient.status().stuck_reason == "PartitionTimeLimit"


def test_a_stuck_queue_starts_nothing_that_was_submitted_meanwhile() -> None:
    place = Place(StuckQueue(start=at(10), end=at(20), reason="AssocGrpCPUMinutesLimit"), slots=2)
    place.go_to(15)
    place.submit(job(1))
    place.go_to(25)
    place.submit(job(2))
    assert place.status(1).stuck_reason == "AssocGrpCPUMinutesLimit"
    assert (place.state(1), place.state(2)) == (JobState.QUEUED, JobState.SUCCEEDED)


def test_a_reservation_waits_for_its_window_and_its_units_are_kept_free() -> None:
    window = Reservation(name="beamtime", start=at(100), end=at(200), units=1)
    place = Place(slots=2, reservations=(window,))
    place.submit(job(1, "seconds=10", submit={"reservation": "beamtime"}))
    place.submit(*(job(number, "seconds=150") for number in (2, 3)))
    assert place.state(1) is JobState.QUEUED
    place.go_to(120)
    assert place.state(1) is JobState.QUEUED, "running jobs are not pushed out for it"
    place.submit(job(4, "seconds=1"))
    place.go_to(155)
    assert place.started(1) == 150
    assert place.started(4) == 150, "one unit is kept, the other one is free"


def test_an_unknown_reservation_is_refused() -> None:
    place = Place()
    spec = job(1, submit={"reservation": "typo"})
    assert isinstance(place.site.submit([spec])[spec.key], Refused)


def test_a_queued_job_is_canceled_and_never_starts() -> None:
    place = Place(slots=1)
    place.submit(job(1, "seconds=10"), job(2, "seconds=10"))
    assert place.site.cancel([job(2).key]) == {job(2).key: True}
    place.go_on()
    assert place.state(2) is JobState.CANCELED
    assert place.model.journal.runs()[job(2).key] == 0


def test_a_job_is_seen_by_the_scheduler_only_after_the_submit_latency() -> None:
    place = Place(submit_latency=5)
    place.submit(job(1, "seconds=10"))
    assert place.state() is JobState.QUEUED
    place.go_on()
    assert place.started() == 5


def test_nothing_starts_that_would_reach_into_an_announced_maintenance() -> None:
    window = Maintenance(start=at(1000), end=at(2000), announced_at=at(0))
    place = Place(window, slots=2)
    long, short = Resources(walltime=3600), Resources(walltime=600)
    place.submit(job(1, "seconds=60", resources=long), job(2, "seconds=60", resources=short))
    assert (place.state(1), place.state(2)) == (JobState.QUEUED, JobState.RUNNING)
    place.go_on()
    assert place.started(1) == 2000
    measured, told = (item for item in Place(window).site.probe() if item.capability == "compute")
    assert measured.word == ""
    assert "planned maintenance" in measured.detail
    assert told.word == "maintenance"
    assert told.until == at(1000)


def test_nothing_starts_while_the_nodes_are_down() -> None:
    place = Place(ComputeDown(start=at(0), end=at(50)))
    place.submit(job(1))
    assert place.state() is JobState.QUEUED
    place.go_on()
    assert place.started() == 50


@pytest.mark.parametrize("notice", [0, 5])
def test_an_urgent_job_pushes_out_the_youngest_preemptible_one(notice: float) -> None:
    place = Place(slots=2, preempting=True, preempt_notice=notice, requeue_delay=60)
    place.submit(job(1, "seconds=1000", submit={"qos": "preempt"}))
    place.go_to(1)
    place.submit(job(2, "seconds=1000 deaf=1", submit={"qos": "preempt"}))
    place.go_to(2)
    place.submit(job(3, "seconds=30", submit={"qos": "urgent"}))
    place.go_to(10)
    assert place.started(3) == 2 + notice
    assert place.state(1) is JobState.RUNNING
    assert (place.state(2), place.status(2).restarts) == (JobState.QUEUED, 1)
