"""The pod's script at work: in the sandbox's cluster a container is a real process, the bucket answers on a socket."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cloud_kit import LiveCloud
from tool_kit import require_tool

from connectors.contract import new_key
from connectors.harness import (
    ExitRecord,
    HarnessCheckpoint,
    HarnessPlan,
    Output,
    StartRecord,
    parse_manifest,
    parse_record,
    render,
)
from connectors.kubernetes import KubernetesSite
from connectors.model import Accepted, JobSpec, JobState, JobStatus, Refused, Resources


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[LiveCloud]:
    require_tool("curl")
    cloud = LiveCloud(tmp_path)
    yield cloud
    cloud.close()


def job(command: str, *, key: str = "", outputs: tuple[str, ...] = (), **more: object) -> JobSpec:
    key = key or new_key()
    plan = HarnessPlan(
        key=key,
        digest="d1",
        directory_depth=3,
        command=command,
        outputs=[Output(path=path) for path in outputs],
        heartbeat_seconds=1,
        fence_seconds=4,
        grace_seconds=2,
        **more,  # type: ignore[arg-type]
    )
    return JobSpec(key=key, digest="d1", directory=f"runs/r1/{key}", entry=".crossfade/stage.sh", files=render(plan))


def ended(cloud: LiveCloud, site: KubernetesSite, key: str, within: float = 30) -> JobStatus:
    cloud.wait_until(lambda: all(it.state.final for it in site.status([key]).items), within=within)
    (status,) = site.status([key]).items
    return status


def test_a_stage_runs_in_a_pod_and_all_it_leaves_is_in_the_bucket(cloud: LiveCloud) -> None:
    site = cloud.connect()
    bare = 'test -z "${CROSSFADE_SECRET_KEY:-}"'
    command = f'cat "data/in put.txt" > out.txt; mkdir d; echo x > "d/a b$.txt"; echo said; {bare}'
    spec = job(command, outputs=("out.txt", "d"))
    site.write(f"{spec.directory}/data/in put.txt", b"brought before\n")
    assert isinstance(site.submit([spec])[spec.key], Accepted)
    status = ended(cloud, site, spec.key)
    assert (status.state, status.exit_code) == (JobState.SUCCEEDED, 0), site.read(
        f"{spec.directory}/.crossfade/wrapper.log"
    )
    names = [info.path for info in site.list("spool")]
    assert names == [f"spool/{spec.key}.1.1.started", f"spool/{spec.key}.1.2.exit"]
    assert isinstance(parse_record(site.read(names[0])), StartRecord)
    record = parse_record(site.read(names[1]))
    assert isinstance(record, ExitRecord)
    assert (record.kind, record.outputs_count) == ("done", 2)
    manifest = parse_manifest(site.read(f"{spec.directory}/.crossfade/g1/outputs.manifest"))
    found = site.digests([f"{spec.directory}/{path}" for path, _, _ in manifest.files])
    assert found == {f"{spec.directory}/{path}": (size, digest) for path, size, digest in manifest.files}
    assert site.read(f"{spec.directory}/d/a b$.txt") == b"x\n"
    assert site.read(f"{spec.directory}/out.txt") == b"brought before\n"
    assert site.read(f"{spec.directory}/.crossfade/g1/stdout") == b"said\n"


def test_a_request_to_stop_reaches_the_pod_and_its_checkpoint_reaches_the_bucket(cloud: LiveCloud) -> None:
    site = cloud.connect()
    asked = HarnessCheckpoint(ask_kind="file", ask_value="STOP", before_end=5)
    loop = "until [ -e STOP ]; do sleep 0.2; done; echo state > s.bin; crossfade-checkpoint --seq 7 s.bin; sleep 60"
    spec = job(loop, checkpoint=asked)
    site.submit([spec])
    cloud.wait_until(lambda: bool(site.list("spool")), within=20)
    site.write(f"{spec.directory}/.crossfade/request", b"stop\n")
    ended(cloud, site, spec.key)
    records = site.read_many([info.path for info in site.list("spool")])
    assert [name.rpartition(".")[2] for name in records] == ["started", "checkpoint", "exit"]
    assert b"kind stopped" in list(records.values())[-1]
    folder = f"{spec.directory}/.crossfade/g1/ckpt/000007"
    manifest = parse_manifest(site.read(f"{folder}/manifest"))
    assert manifest.files == (("s.bin", 6, hashlib.sha256(b"state\n").hexdigest()),)
    assert site.digests([f"{folder}/files/s.bin"])[f"{folder}/files/s.bin"] == (6, manifest.files[0][2])
    assert not site.read_many([f"{spec.directory}/.crossfade/request"]), "it is heard once"


def test_a_pod_that_must_make_room_saves_what_it_has_and_is_told_as_preempted(tmp_path: Path) -> None:
    require_tool("curl")
    cloud = LiveCloud(tmp_path, {"fault": "preempt", "facility": "cloud", "after": 2.5, "notice": 8, "requeue": False})
    try:
        site = cloud.connect()
        spec = job("trap 'echo saved > s; crossfade-checkpoint s; exit 0' TERM; while :; do sleep 0.1; done")
        site.submit([spec])
        status = ended(cloud, site, spec.key)
        assert status.state is JobState.PREEMPTED, status
        assert cloud.face.accepted() == {spec.key: 1}, "where to go on is the broker's to decide"
        assert any(info.path.endswith(".checkpoint") for info in site.list("spool"))
    finally:
        cloud.close()


def test_a_second_pod_of_one_attempt_leaves_at_the_gate(cloud: LiveCloud) -> None:
    site = cloud.connect()
    spec = job("echo ran >> ../../ran")
    assert site.files.put_new(f"{spec.directory}/.crossfade/pod", b"another-pod\n")
    site.submit([spec])
    status = ended(cloud, site, spec.key)
    assert (status.state, status.exit_code) == (JobState.FAILED, 73)
    assert "claimed by pod another-pod" in status.native_reason
    assert not list(site.list("spool"))


def test_an_image_without_curl_is_told_in_so_many_words(tmp_path: Path) -> None:
    cloud = LiveCloud(tmp_path, path=str(tmp_path / "empty"))
    try:
        site = cloud.connect()
        spec = job("true")
        site.submit([spec])
        status = ended(cloud, site, spec.key)
        assert (status.state, status.exit_code) == (JobState.FAILED, 78)
        assert "the image has no curl" in status.native_reason
    finally:
        cloud.close()


def test_a_bucket_that_fails_for_a_while_costs_time_alone(tmp_path: Path) -> None:
    require_tool("curl")
    fails = {"fault": "status", "face": "s3", "code": 503}
    cloud = LiveCloud(
        tmp_path,
        {**fails, "method": "PUT", "path": "spool/", "times": 1},
        {**fails, "method": "PUT", "path": "stdout$", "times": 2},
        {"fault": "reply_lost", "face": "s3", "method": "PUT", "path": "crossfade/pod$"},
    )
    try:
        site = cloud.connect()
        spec = job("echo said; echo x > out", outputs=("out",))
        site.submit([spec])
        assert ended(cloud, site, spec.key).state is JobState.SUCCEEDED
        assert [info.path.rpartition(".")[2] for info in site.list("spool")] == ["started", "exit"]
        assert site.read(f"{spec.directory}/.crossfade/g1/stdout") == b"said\n"
        assert len(cloud.script.happened) == 4
    finally:
        cloud.close()


def test_exit_codes_deadlines_and_cancelations_are_told_apart(cloud: LiveCloud) -> None:
    site = cloud.connect()
    failing, long, endless = job("exit 3"), job("sleep 60"), job("sleep 60")
    cloud.options = replace(cloud.options, margin=0)
    short = replace(long, resources=Resources(walltime=2))
    cloud.connect().submit([short])
    site.submit([failing, endless])
    cloud.wait_until(lambda: site.status([endless.key]).items[0].state is JobState.RUNNING, within=20)
    cloud.wait_until(lambda: site.cancel([endless.key])[endless.key], within=20)
    assert ended(cloud, site, endless.key).state is JobState.CANCELED
    status = ended(cloud, site, failing.key)
    assert (status.state, status.exit_code) == (JobState.FAILED, 3)
    assert ended(cloud, site, short.key).state is JobState.TIMED_OUT
    leftover = [view for view in cloud.facility.jobs() if not view.state.final]
    assert not leftover


def test_a_lost_reply_ends_with_one_execution(tmp_path: Path) -> None:
    require_tool("curl")
    cloud = LiveCloud(tmp_path, {"fault": "reply_lost", "face": "kubernetes", "method": "POST", "path": "/jobs$"})
    try:
        site = cloud.connect()
        spec = job("echo x > out", outputs=("out",))
        assert "broke" in getattr(site.submit([spec])[spec.key], "reason", "")
        again = site.submit([spec])[spec.key]
        assert again == Accepted(native_id=site.find([spec.key]).items[0].native_id, adopted=True)
        assert isinstance(site.submit([replace(spec, digest="d2")])[spec.key], Refused)
        assert ended(cloud, site, spec.key).state is JobState.SUCCEEDED
        assert cloud.facility.accepted() == {spec.key: 1}
    finally:
        cloud.close()
