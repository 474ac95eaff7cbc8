"""Rehearsal facilities: real processes in real time, simulated ones under a virtual clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from connectors.errors import NotThere, SiteUnreachable, UnsafePath
from connectors.model import JobState
from sandbox.facilities import FacilityShape, LiveFacility, Queue, VirtualFacility
from sandbox.facilities.live import wall_clock
from sandbox.facility import Facility, JobView, Order, OrderRefused
from sandbox.faults import Partition

T = TypeVar("T")

SHAPE = FacilityShape(
    name="here", nodes=2, cores_per_node=2, cancel_grace=0.3, requeue_delay=0.0, qos={"urgent": 100, "cheap": -100}
)


@pytest.fixture
def facility(tmp_path: Path) -> Iterator[LiveFacility]:
    with LiveFacility(SHAPE, tmp_path) as facility:
        yield facility


def until(what: Callable[[], T], seconds: float = 10.0) -> T:
    """Wait for something true."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)
    return found


def ended(facility: Facility, native_id: str) -> JobView:
    def look() -> JobView | None:
        view = facility.job(native_id)
        return view if view is not None and view.state.final else None

    view = until(look)
    assert view is not None
    return view


def script(text: str, **words: object) -> Order:
    return Order(script=f"#!/bin/sh\n{text}\n", **words)  # type: ignore[arg-type]


def marks(facility: Facility, name: str) -> bytes:
    try:
        return facility.files.read(f"{facility.files.root}/{name}")
    except NotThere:
        return b""


def lives(pid: int) -> bool:
    """A zombie that its parent has not fetched does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_script_runs_as_a_process_and_its_exit_code_ends_the_job(facility: LiveFacility) -> None:
    root = facility.files.root
    order = script("echo $SLURM_JOB_ID in $PWD; exit 3", name="a", directory=root, stdout=f"{root}/%x-%j")
    native_id = facility.submit(order)
    view = ended(facility, native_id)
    assert (view.state, view.word, view.exit_code, view.signal) == (JobState.FAILED, "FAILED", 3, None)
    assert marks(facility, f"a-{native_id}") == f"{native_id} in {root}\n".encode()


def test_output_goes_to_the_schedulers_own_file_when_none_is_named(facility: LiveFacility) -> None:
    native_id = facility.submit(Order(argv=["echo", "hello"]))
    assert ended(facility, native_id).state is JobState.SUCCEEDED
    assert marks(facility, f"slurm-{native_id}.out") == b"hello\n"


def test_a_program_that_is_not_there_fails_its_job(facility: LiveFacility) -> None:
    view = ended(facility, facility.submit(Order(argv=["no-such-program"])))
    assert (view.state, view.exit_code) == (JobState.FAILED, 127)


def test_a_job_sees_nothing_of_the_environment_of_the_sandbox(
    facility: LiveFacility, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS_ALONE", "1")
    native_id = facility.submit(script("env > env.txt", env={"THEIRS": "2"}, directory=facility.files.root))
    ended(facility, native_id)
    text = marks(facility, "env.txt").decode()
    assert "OURS_ALONE" not in text
    assert "THEIRS=2" in text
    assert "SLURM_RESTART_COUNT" not in text
    assert f"SLURM_SUBMIT_DIR={facility.files.root}" in text


def test_a_pbs_job_finds_pbs_words(tmp_path: Path) -> None:
    with LiveFacility(FacilityShape(name="pbs", dialect="pbs"), tmp_path) as facility:
        native_id = facility.submit(Order(script="echo $PBS_JOBID $SLURM_JOB_ID", name="j"))
        ended(facility, native_id)
        assert marks(facility, f"j.o{native_id}") == f"{native_id}.pbs-pbs\n".encode()


def test_no_more_jobs_run_than_there_is_room_for(facility: LiveFacility) -> None:
    ids = [facility.submit(script("while [ ! -e go ]; do sleep 0.02; done", nodes=1, cores=2)) for _ in range(3)]
    until(lambda: sum(view.state is JobState.RUNNING for view in facility.jobs()) == 2)
    third = facility.job(ids[2])
    assert third is not None
    assert (third.word, third.reason) == ("PENDING", "Resources")
    facility.files.write(f"{facility.files.root}/go", b"")
    assert all(ended(facility, native_id).state is JobState.SUCCEEDED for native_id in ids)


def test_a_time_limit_warns_the_shell_terms_all_and_is_booked_whatever_the_job_says(facility: LiveFacility) -> None:
    text = "trap 'echo warned >> log' USR1; trap 'echo termed >> log; exit 0' TERM\nwhile :; do sleep 0.05; done"
    native_id = facility.submit(script(text, walltime=1.4, warn_before=1))
    view = ended(facility, native_id)
    assert (view.state, view.word, view.signal) == (JobState.TIMED_OUT, "TIMEOUT", 15)
    assert marks(facility, "log") == b"warned\ntermed\n"


def test_a_cancel_kills_what_does_not_hear_it_and_whatever_it_has_put_aside(facility: LiveFacility) -> None:
    text = "trap '' TERM; (trap '' TERM; setsid sleep 300) & echo $! > pid; sleep 300; sleep 300"
    native_id = facility.submit(script(text))
    until(lambda: marks(facility, "pid"))
    assert facility.cancel(native_id)
    view = ended(facility, native_id)
    assert (view.state, view.word) == (JobState.CANCELED, "CANCELLED")
    assert not lives(int(marks(facility, "pid")))
    assert not facility.cancel(native_id)


def test_a_signal_alone_reaches_the_job_and_ends_nothing(facility: LiveFacility) -> None:
    native_id = facility.submit(
        script("trap 'echo heard > heard; exit 0' USR2; echo > up; while :; do sleep 0.02; done")
    )
    until(lambda: marks(facility, "up"))
    assert facility.cancel(native_id, signal="USR2")
    assert ended(facility, native_id).state is JobState.SUCCEEDED
    assert marks(facility, "heard")


def test_what_a_script_leaves_running_dies_with_its_job(facility: LiveFacility) -> None:
    native_id = facility.submit(script("sleep 300 & echo $! > pid"))
    ended(facility, native_id)
    assert not lives(int(marks(facility, "pid")))


def test_an_urgent_job_pushes_a_cheap_one_back_into_the_queue_and_its_restart_is_counted(
    facility: LiveFacility,
) -> None:
    text = "echo start $SLURM_RESTART_COUNT >> starts; while [ ! -e go ]; do sleep 0.02; done"
    cheap = facility.submit(script(text, qos="cheap", nodes=2))
    until(lambda: marks(facility, "starts"))
    urgent = facility.submit(script("exit 0", qos="urgent", nodes=2))
    assert ended(facility, urgent).state is JobState.SUCCEEDED
    until(lambda: marks(facility, "starts").count(b"start") == 2)
    again = facility.job(cheap)
    assert again is not None
    assert (again.restarts, again.native_id) == (1, cheap)
    facility.files.write(f"{facility.files.root}/go", b"")
    assert ended(facility, cheap).state is JobState.SUCCEEDED
    assert marks(facility, "starts") == b"start\nstart 1\n"


def test_a_singleton_waits_for_its_namesake_only(facility: LiveFacility) -> None:
    wait = "while [ ! -e go ]; do sleep 0.02; done; echo x >> order"
    first = facility.submit(script(wait, name="twin", singleton=True))
    second = facility.submit(script("echo y >> order", name="twin", singleton=True))
    other = facility.submit(script("true", name="other", singleton=True))
    assert ended(facility, other).state is JobState.SUCCEEDED
    view = facility.job(second)
    assert view is not None
    assert (view.word, view.reason) == ("PENDING", "Dependency")
    facility.files.write(f"{facility.files.root}/go", b"")
    assert ended(facility, first).state is ended(facility, second).state is JobState.SUCCEEDED
    assert marks(facility, "order") == b"x\ny\n"
    assert facility.accepted() == {"twin": 2, "other": 1}


def test_a_held_job_starts_when_it_is_released(facility: LiveFacility) -> None:
    native_id = facility.submit(script("true", hold=True))
    view = facility.job(native_id)
    assert view is not None
    assert (view.state, view.reason) == (JobState.HELD, "JobHeldUser")
    assert facility.hold(native_id, held=False)
    assert ended(facility, native_id).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("order", "kind"),
    [
        (Order(), "script"),
        (Order(script="echo no interpreter"), "script"),
        (script("true", queue="nowhere"), "queue"),
        (script("true", qos="wrong"), "qos"),
        (script("true", reservation="none"), "reservation"),
        (script("true", name="two\nlines"), "script"),
    ],
)
def test_what_a_scheduler_would_not_take_is_refused_and_not_counted(
    facility: LiveFacility, order: Order, kind: str
) -> None:
    with pytest.raises(OrderRefused) as refused:
        facility.submit(order)
    assert refused.value.kind == kind
    assert facility.accepted() == {}


def test_what_can_never_run_is_taken_and_waits_with_its_reason(tmp_path: Path) -> None:
    shape = FacilityShape(name="x", nodes=2, queues={"debug": Queue(max_walltime=60, max_nodes=1)})
    with LiveFacility(shape, tmp_path) as facility:
        orders = [script("true", walltime=90), script("true", nodes=5), script("true", nodes=2)]
        reasons = [view.reason for view in (facility.job(facility.submit(order)) for order in orders) if view]
    assert reasons == ["PartitionTimeLimit", "PartitionConfig", "PartitionNodeLimit"]


def test_an_ended_job_leaves_the_queue_before_it_leaves_the_accounting(tmp_path: Path) -> None:
    time_now = [wall_clock()]
    shape = FacilityShape(name="x", min_job_age=300, accounting_age=1_000)
    facility = VirtualFacility(shape, tmp_path, clock=lambda: time_now[0])
    native_id = facility.submit(script("sleep 10"))
    time_now[0] += 20_000_000
    assert ended(facility, native_id).state is JobState.SUCCEEDED
    time_now[0] += 400_000_000
    assert (facility.jobs(), len(facility.accounting())) == ([], 1)
    time_now[0] += 800_000_000
    assert facility.accounting() == []


def test_no_path_leads_out_of_the_files(facility: LiveFacility, tmp_path: Path) -> None:
    root = facility.files.root
    (tmp_path / "secret").write_text("no")
    os.symlink(tmp_path / "secret", f"{root}/link")
    for path in ("/etc/passwd", f"{root}/../secret", str(tmp_path / "secret"), f"{root}x", f"{root}/link"):
        with pytest.raises(UnsafePath):
            facility.files.read(path)
        with pytest.raises(UnsafePath):
            facility.files.digest(path)


def _files(kind: str, tmp_path: Path) -> Facility:
    if kind == "live":
        return LiveFacility(SHAPE, tmp_path)
    return VirtualFacility(SHAPE, tmp_path, clock=wall_clock)


@pytest.mark.parametrize("kind", ["live", "virtual"])
def test_both_kinds_of_files_answer_alike(kind: str, tmp_path: Path) -> None:
    files = _files(kind, tmp_path).files
    root = files.root
    files.write(f"{root}/a/b.txt", b"0123456789")
    assert files.read(f"{root}/a/b.txt", offset=-3) == b"789"
    assert files.read(f"{root}/a/b.txt", offset=2, limit=3) == b"234"
    assert [(item.path, item.is_dir) for item in files.list(root, recursive=True)] == [("a", True), ("a/b.txt", False)]
    assert [item.path for item in files.list(f"{root}/a")] == ["b.txt"]
    assert files.stat(f"{root}/a/b.txt").size == files.digest(f"{root}/a/b.txt")[0] == 10
    files.mkdir(f"{root}/empty/inner")
    assert files.stat(f"{root}/empty").is_dir
    assert list(files.list(f"{root}/empty/inner")) == []
    files.rename(f"{root}/a", f"{root}/moved")
    assert files.read(f"{root}/moved/b.txt") == b"0123456789"
    for path in ("a", "a/b.txt", "nothing"):
        for ask in (files.read, files.stat, files.list, files.digest, files.remove):
            with pytest.raises(NotThere):
                ask(f"{root}/{path}")  # type: ignore[operator]
    with pytest.raises(UnsafePath):
        files.remove(f"{root}/moved")
    files.remove(f"{root}/moved", recursive=True)
    with pytest.raises(NotThere):
        files.list(f"{root}/moved")


@pytest.mark.parametrize("kind", ["live", "virtual"])
def test_commands_on_the_login_node_see_and_change_the_files(kind: str, tmp_path: Path) -> None:
    facility = _files(kind, tmp_path)
    root = facility.files.root
    facility.files.write(f"{root}/in.txt", b"here\n")
    facility.files.write(f"{root}/gone.txt", b"")
    code, out, err = facility.run(f"cat {root}/in.txt; mkdir -p d/e; echo new > d/f; rm gone.txt; echo bad >&2; exit 4")
    assert (code, out, err) == (4, b"here\n", b"bad\n")
    assert facility.files.read(f"{root}/d/f") == b"new\n"
    assert facility.files.stat(f"{root}/d/e").is_dir
    with pytest.raises(NotThere):
        facility.files.read(f"{root}/gone.txt")


def test_a_front_end_that_is_cut_off_says_nothing_and_jobs_go_on(facility: LiveFacility) -> None:
    native_id = facility.submit(script("echo done > done"))
    start = facility.now()
    facility.inject(Partition(start=start, end=start + 600_000))
    for ask in (facility.jobs, lambda: facility.submit(script("true")), lambda: facility.run("true")):
        with pytest.raises(SiteUnreachable):
            ask()
    with pytest.raises(SiteUnreachable):
        facility.files.read(f"{facility.files.root}/done")
    assert not facility.up("status")
    until(lambda: facility.up("status"))
    assert ended(facility, native_id).state is JobState.SUCCEEDED
    assert marks(facility, "done")


def test_leaving_the_facility_ends_all_its_processes(tmp_path: Path) -> None:
    with LiveFacility(SHAPE, tmp_path) as facility:
        facility.submit(script("setsid sleep 300 & echo $! > pid; wait"))
        until(lambda: marks(facility, "pid"))
        pid = int(marks(facility, "pid"))
    assert not lives(pid)


def test_our_harness_is_simulated_where_a_script_starts_it_under_a_virtual_clock(tmp_path: Path) -> None:
    now = [wall_clock()]
    facility = VirtualFacility(SHAPE, tmp_path, clock=lambda: now[0])
    root = facility.files.root
    folder = f"{root}/jobs/a/.crossfade"
    facility.files.write(f"{folder}/job.conf", b"cf_key='abc'\ncf_digest='d'\ncf_beat='5'\n")
    facility.files.write(f"{folder}/payload.sh", b": sim seconds=30 outputs=o.txt:5\n")
    facility.files.write(f"{folder}/outputs", b"required o.txt\n")
    native_id = facility.submit(script(f"cd {root}/jobs/a || exit 1\nexec /bin/sh .crossfade/stage.sh", name="abc"))
    now[0] += 29_000_000
    view = facility.job(native_id)
    assert view is not None
    assert view.state is JobState.RUNNING
    assert int(facility.files.read(f"{folder}/g1/heartbeat")) >= now[0] // 1_000_000 - 5
    now[0] += 2_000_000
    assert ended(facility, native_id).state is JobState.SUCCEEDED
    assert facility.files.stat(f"{root}/jobs/a/o.txt").size == 5
    assert [item.path for item in facility.files.list(f"{root}/spool")] == ["abc.1.1.started", "abc.1.2.exit"]


def test_both_facilities_are_the_port(tmp_path: Path) -> None:
    found: list[Facility] = [
        LiveFacility(SHAPE, tmp_path / "a"),
        VirtualFacility(SHAPE, tmp_path / "b", clock=wall_clock),
    ]
    for facility in found:
        assert facility.use_of("any") == (1_000.0, 0.0)
        assert facility.queued() == {"regular": 0}
        assert facility.outages() == []
        with facility.held_still():
            assert facility.job("1") is None
