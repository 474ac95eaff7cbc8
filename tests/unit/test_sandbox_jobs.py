"""A simulated job's life: checkpoints, bounds, requests, preemption, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from sandbox_kit import Place, at, job, key_of

from connectors.harness import (
    GATED,
    RESTORE_FAILED,
    TOO_LATE,
    HarnessCheckpoint,
    StartRecord,
    parse_manifest,
)
from connectors.model import JobState, Refused, Resources, SmallFile
from sandbox.faults import ComputeDown, NodeFailure, Preemption
from sandbox.payload import Payload

ASKED = HarnessCheckpoint(ask_kind="file", ask_value="stop-please", before_end=60)
LONG = "seconds=3600 checkpoint_every=900 checkpoint_bytes=100000 outputs=a.txt:100,b/c:10"


def outputs_of(place: Place, number: int = 1) -> dict[str, tuple[int, str]]:
    return dict(place.site.digests([f"runs/{number}/a.txt", f"runs/{number}/b/c"]))


def carry(source: Place, number: int, record_path: str) -> list[SmallFile]:
    """A checkpoint's files, as a mover would bring them into `restore/`."""
    top = f"runs/{number}/{record_path}/"
    return [
        SmallFile(path=f".crossfade/restore/{path.removeprefix(top)}", content=blob.whole())
        for path, blob in source.model.disk.files_below(top)
    ]


def test_a_job_without_a_sim_line_ends_at_once_and_well() -> None:
    place = Place()
    place.submit(job(1, outputs=["result.txt"]))
    assert place.state() is JobState.SUCCEEDED
    start, end = place.records()
    assert isinstance(start, StartRecord)
    assert (end.kind, end.exit_code, end.outputs_count, end.missing) == ("done", 0, 1, ())


def test_a_sim_line_that_makes_no_sense_is_refused_with_what_would() -> None:
    place = Place()
    spec = job(1, "secondes=5")
    answer = place.site.submit([spec])[spec.key]
    assert isinstance(answer, Refused)
    assert "no word 'secondes'" in answer.reason
    assert "checkpoint_every" in answer.reason
    assert not place.all()


@pytest.mark.parametrize("words", ["seconds=-1", "seconds=x", "outputs=/etc:1", "outputs=../x:1", "loose"])
def test_an_impossible_value_is_refused(words: str) -> None:
    place = Place()
    spec = job(1, words)
    assert isinstance(place.site.submit([spec])[spec.key], Refused)


def test_checkpoints_are_committed_in_the_payloads_own_rhythm_and_pruned() -> None:
    place = Place()
    place.submit(job(1, LONG))
    place.go_on()
    assert [(record.seq, record.at) for record in place.checkpoints()] == [
        (1, at(900)),
        (2, at(1800)),
        (3, at(2700)),
    ]
    kept = [info.path for info in place.site.list("runs/1/.crossfade/g1/ckpt")]
    assert kept == ["runs/1/.crossfade/g1/ckpt/000002", "runs/1/.crossfade/g1/ckpt/000003"]


def test_a_checkpoint_verifies_by_its_manifest() -> None:
    place = Place()
    place.submit(job(1, LONG))
    place.go_to(1000)
    (record,) = place.checkpoints()
    folder = f"runs/1/{record.path}"
    content = place.site.read(f"{folder}/manifest")
    assert hashlib.sha256(content).hexdigest() == record.manifest_digest
    ((path, size, sha256),) = parse_manifest(content).files
    assert place.site.digests([f"{folder}/files/{path}"]) == {f"{folder}/files/{path}": (size, sha256)}
    assert size == record.bytes == 100_000


def test_the_outputs_are_listed_with_their_digests() -> None:
    place = Place()
    place.submit(job(1, LONG, outputs=["a.txt", "b"]))
    place.go_on()
    (end,) = place.exits()
    content = place.site.read("runs/1/.crossfade/g1/outputs.manifest")
    assert hashlib.sha256(content).hexdigest() == end.outputs_digest
    listed = {f"runs/1/{path}": (size, sha256) for path, size, sha256 in parse_manifest(content).files}
    assert listed == outputs_of(place)
    assert {size for size, _ in listed.values()} == {100, 10}


def test_a_required_output_that_the_payload_does_not_make_is_named() -> None:
    place = Place()
    place.submit(job(1, "outputs=a:1", outputs=["a", "b"]))
    (end,) = place.exits()
    assert (end.kind, end.outputs_count, end.missing) == ("done", 1, ("b",))


def test_a_job_that_is_carried_on_elsewhere_leaves_the_same_bytes() -> None:
    whole, first, second = Place(), Place(ComputeDown(start=at(2000))), Place()
    whole.submit(job(1, LONG))
    whole.go_on()
    first.submit(job(1, LONG))
    first.go_to(2000)
    assert first.state() is JobState.NODE_FAILED
    newest = first.checkpoints()[-1]
    brought = carry(first, 1, newest.path)
    second.submit(job(1, LONG, files=brought, restore=newest.seq))
    second.go_on()
    start = second.records()[0]
    assert start.restore_seq == 2
    assert second.exits()[0].ended_at == at(3600 - 1800)
    assert [record.seq for record in second.checkpoints()] == [3], "numbers go on where they stood"
    assert outputs_of(second) == outputs_of(whole) != {}


def test_a_damaged_checkpoint_is_not_begun_from() -> None:
    first, second = Place(), Place()
    first.submit(job(1, LONG))
    first.go_to(1000)
    (record,) = first.checkpoints()
    brought = [
        SmallFile(path=item.path, content=item.content[:-1]) if "/files/" in item.path else item
        for item in carry(first, 1, record.path)
    ]
    second.submit(job(1, LONG, files=brought, restore=1))
    assert (second.state(), second.status().exit_code) == (JobState.FAILED, RESTORE_FAILED)
    (end,) = second.exits()
    assert end.kind == "restore_failed"
    assert second.model.journal.runs() == {}


def test_a_failing_payload_fails_every_time_at_the_same_point() -> None:
    place = Place()
    place.submit(job(1, "seconds=100 fail_at=40 exit=7"))
    place.go_on()
    assert (place.state(), place.status().exit_code, place.status().ended_at) == (JobState.FAILED, 7, at(40))
    assert (place.exits()[0].kind, place.exits()[0].exit_code) == ("failed", 7)


def test_too_much_memory_ends_a_job_without_a_record() -> None:
    place = Place()
    place.submit(job(1, "seconds=100 oom_at=40"))
    place.go_on()
    assert place.state() is JobState.OUT_OF_MEMORY
    assert place.exits() == []


def test_the_site_kills_at_its_time_limit() -> None:
    place = Place()
    place.submit(job(1, "seconds=100", resources=Resources(walltime=60)))
    place.go_on()
    assert (place.state(), place.status().ended_at) == (JobState.TIMED_OUT, at(60))
    assert place.exits() == []


def test_the_wrapper_asks_and_ends_before_the_limit_that_it_knows() -> None:
    place = Place()
    limits = {"walltime": 1000, "checkpoint": ASKED, "grace_seconds": 10}
    place.submit(job(1, "seconds=3600", resources=Resources(walltime=1000), **limits))
    place.go_on()
    (checkpoint,) = place.checkpoints()
    (end,) = place.exits()
    assert checkpoint.at == at(1000 - 10 - 60)
    assert (end.kind, end.asked, end.signal, end.ended_at) == ("timed_out", "before_end", 15, at(990))


@pytest.mark.parametrize("bound", ["start_before", "stop_before"])
def test_a_job_that_starts_after_its_bound_does_nothing(bound: str) -> None:
    place = Place(slots=1)
    place.submit(job(1, "seconds=100"), job(2, "seconds=10", **{bound: at(50)}))
    place.go_on()
    assert (place.state(2), place.status(2).exit_code) == (JobState.FAILED, TOO_LATE)
    assert place.exits(2)[0].kind == "too_late"
    assert len(place.records(2)) == 1


def test_a_job_ends_at_its_absolute_bound() -> None:
    place = Place()
    place.submit(job(1, "seconds=1000", stop_before=at(500), grace_seconds=10))
    place.go_on()
    assert (place.exits()[0].kind, place.exits()[0].ended_at) == ("timed_out", at(490))


def test_a_request_to_stop_is_heard_at_the_next_beat() -> None:
    place = Place()
    place.submit(job(1, "seconds=3600 checkpoint_notice=5", checkpoint=ASKED, heartbeat_seconds=15))
    place.go_to(100)
    place.site.write("runs/1/.crossfade/request", b"stop\n")
    place.go_on()
    (checkpoint,) = place.checkpoints()
    (end,) = place.exits()
    assert (end.kind, end.asked) == ("stopped", "stop")
    assert checkpoint.at == end.ended_at == at(105 + 5)


def test_a_request_for_a_checkpoint_ends_nothing() -> None:
    place = Place()
    place.submit(job(1, "seconds=300", checkpoint=ASKED))
    place.go_to(100)
    place.site.write("runs/1/.crossfade/request", b"checkpoint\n")
    place.go_on()
    assert [record.at for record in place.checkpoints()] == [at(105)]
    assert place.state() is JobState.SUCCEEDED


def test_a_payload_that_is_asked_regularly_saves_itself_regularly() -> None:
    place = Place()
    asked = HarnessCheckpoint(ask_kind="signal", ask_value="USR1", every=100)
    place.submit(job(1, "seconds=350", checkpoint=asked))
    place.go_on()
    assert [record.at for record in place.checkpoints()] == [at(100), at(200), at(300)]


def test_a_deaf_payload_is_killed_after_the_grace() -> None:
    place = Place()
    place.submit(job(1, "seconds=3600 deaf=1", walltime=1000, grace_seconds=10))
    place.go_on()
    (end,) = place.exits()
    assert (end.kind, end.exit_code, end.signal, end.ended_at) == ("timed_out", 137, 9, at(1000))


def test_preemption_without_notice_requeues_under_the_same_id_and_goes_on_from_the_checkpoint() -> None:
    place = Place(Preemption(start=at(1000)), requeue_delay=121)
    (native,) = place.submit(job(1, LONG, fence_seconds=60))
    place.go_to(1000)
    status = place.status()
    assert (status.state, status.restarts, status.native_id) == (JobState.QUEUED, 1, native)
    assert status.native_reason == "BeginTime"
    place.go_on()
    starts = [record for record in place.records() if isinstance(record, StartRecord)]
    assert [(record.generation, record.restore_seq) for record in starts] == [(1, None), (2, 1)]
    assert place.status().ended_at == at(1121 + 2700)
    assert place.model.journal.completions() == {key_of(1): 1}


def test_a_requeue_waits_until_its_former_generation_is_surely_silent() -> None:
    place = Place(Preemption(start=at(100)), requeue_delay=1)
    place.submit(job(1, "seconds=300", fence_seconds=60, heartbeat_seconds=15))
    place.go_on()
    second = place.records()[1]
    assert second.started_at == at(90 + 60) + 1, "the last beat, and the fence"


def test_preemption_with_notice_saves_stops_and_leaves_a_record() -> None:
    place = Place(Preemption(start=at(1000), notice=30, requeue=False))
    place.submit(job(1, "seconds=3600 checkpoint_notice=10", checkpoint=ASKED))
    place.go_on()
    assert (place.state(), place.status().signal) == (JobState.PREEMPTED, 15)
    assert place.exits()[0].kind == "stopped"
    assert place.checkpoints()[0].at == at(1010)


def test_a_notice_that_is_too_short_saves_nothing() -> None:
    place = Place(Preemption(start=at(1000), notice=5, requeue=False))
    place.submit(job(1, "seconds=3600 checkpoint_notice=10", checkpoint=ASKED))
    place.go_on()
    assert place.state() is JobState.PREEMPTED
    assert place.checkpoints() == place.exits() == []


def test_an_attempt_that_has_ended_is_not_begun_again_by_a_requeue() -> None:
    place = Place(Preemption(start=at(1000), notice=30))
    place.submit(job(1, "seconds=3600", checkpoint=ASKED))
    place.go_on()
    assert (place.state(), place.status().exit_code) == (JobState.FAILED, GATED)
    assert [record.kind for record in place.exits()] == ["stopped"]


def test_a_job_that_may_run_once_only_is_not_begun_again_either() -> None:
    place = Place(NodeFailure(start=at(100), requeue=True), requeue_delay=100)
    place.submit(job(1, "seconds=300", duplicates="never"))
    place.go_on()
    assert place.ends() == ["node_failed", "gated"]


def test_a_job_that_forbids_requeuing_is_not_requeued() -> None:
    place = Place(NodeFailure(start=at(100), requeue=True))
    place.submit(job(1, "seconds=300", requeue=False))
    place.go_on()
    assert place.state() is JobState.NODE_FAILED


def test_a_running_job_is_canceled_after_the_grace() -> None:
    place = Place(cancel_grace=30)
    place.submit(job(1, "seconds=3600 deaf=1", grace_seconds=60))
    place.go_to(10)
    assert place.site.cancel([key_of(1)]) == {key_of(1): False}
    place.go_on()
    assert (place.state(), place.status().ended_at) == (JobState.CANCELED, at(40))
    assert place.site.cancel([key_of(1)]) == {key_of(1): True}


def test_a_saved_state_of_another_payload_is_not_taken() -> None:
    mine, other = Payload(fingerprint="a"), Payload(fingerprint="b")
    assert mine.restored(mine.saved(12.5).head) == 12.5
    with pytest.raises(ValueError, match="not a checkpoint of this payload"):
        other.restored(mine.saved(12.5).head)
    with pytest.raises(ValueError, match="not a checkpoint of this payload"):
        mine.restored(mine.saved(12.5).head[:12])


def test_a_wrapper_that_waits_at_the_gate_dies_of_a_signal_without_a_record() -> None:
    place = Place(Preemption(start=at(100)), Preemption(start=at(110), notice=30, requeue=False))
    place.submit(job(1, "seconds=300", fence_seconds=60))
    place.go_on()
    assert place.ends() == ["preempted", "preempted"]
    assert (place.state(), place.exits()) == (JobState.PREEMPTED, [])


def test_an_output_where_a_folder_is_gets_lost_and_the_site_goes_on() -> None:
    place = Place()
    place.submit(job(1, "outputs=a:1,a/b:1,.crossfade:5"))
    assert place.state() is JobState.SUCCEEDED
    assert place.site.read_many(["runs/1/a", "runs/1/a/b", "runs/1/.crossfade"]).keys() == {"runs/1/a"}


@pytest.mark.parametrize("where", ["spool", "spool/x", "", ".", "taken", "taken/deeper"])
def test_a_job_gets_no_folder_where_none_can_be(where: str) -> None:
    place = Place()
    place.site.write("taken", b"a file")
    spec = dataclasses.replace(job(1), directory=where)
    assert isinstance(place.site.submit([spec])[spec.key], Refused)
    assert not place.all()


def test_a_key_that_is_none_is_refused() -> None:
    place = Place()
    spec = dataclasses.replace(job(1), key="../../x")
    assert isinstance(place.site.submit([spec])[spec.key], Refused)


def test_a_jobs_files_are_seen_by_whoever_looks_and_by_every_way_of_looking() -> None:
    def fresh() -> Place:
        place = Place()
        place.submit(job(1, "outputs=a:1"))
        return place

    names = {"runs/1/.crossfade/job.conf", "runs/1/.crossfade/claim", "runs/1/a"}
    assert names <= {info.path for info in fresh().site.list("", recursive=True)}
    assert names <= {info.path for info in fresh().site.list("runs", recursive=True)}
    assert [info.path for info in fresh().site.list("runs")] == ["runs/1"]
    assert names <= {path for path, _ in fresh().model.disk.files_below("runs/1")}
    assert fresh().site.read("runs/1/.crossfade/job.conf").startswith(b"cf_key=")
    assert len(fresh().site.digests(sorted(names))) == len(names)
    place = fresh()
    place.site.remove(["runs/1/a"])
    assert [info.path for info in place.site.list("runs/1")] == ["runs/1/.crossfade"]
    place = fresh()
    place.site.write("runs/1/a", b"newer")
    assert place.site.read("runs/1/a") == b"newer"
    place = fresh()
    place.model.disk.remove_folder("runs")
    assert [info.path for info in place.site.list("")] == ["spool"]
