"""The local site's processes: killed brokers, foreign pids, deaf payloads, raced keys."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.errors import SiteUnreachable
from connectors.local import LocalSite, make
from connectors.local.process import boot_id, look, send
from connectors.model import Accepted, JobSpec, JobState, JobStatus, Refused, SmallFile
from connectors.registry import SiteConfig, make_site

REPOSITORY = Path(__file__).parents[2]
KEY = "cfprocesses0001"

# a broker of its own, run as `python -c`: argv is the root, the key, and python text to run first
BROKER = """
import os, signal, sys, time
from connectors.local import make
from connectors.local.launch import Launched
from connectors.local.records import Records
from connectors.model import JobSpec, SmallFile
from connectors.registry import SiteConfig, make_site

root, keys, before = sys.argv[1], sys.argv[2].split(","), sys.argv[3]

def die(*args, **named):
    os.kill(os.getpid(), signal.SIGKILL)

site = make(SiteConfig(name="here", connector="local", root=root), lambda: time.time_ns() // 1000)
script = SmallFile(path="job.sh", content=b"echo begun >> begun.log\\nsleep 0.1\\n")
specs = [JobSpec(key=k, digest="d", directory=f"runs/{k}", entry="job.sh", files=(script,)) for k in keys]
exec(before)
answers = site.submit(specs)
print("".join("a" if answers[k].adopted else "n" for k in keys))
"""


def now() -> int:
    return time.time_ns() // 1000


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "site"
    connect(root).prepare()
    yield root
    site = connect(root, cancel_grace=0)
    keys = [item.key for item in site.list_mine(0).items]
    until(lambda: all(site.cancel(keys).values()))


@pytest.fixture
def site(root: Path) -> LocalSite:
    return connect(root, cancel_grace=0.2)


def connect(root: Path, clock=now, **options: object) -> LocalSite:
    return make(SiteConfig(name="here", connector="local", root=str(root), options=options), clock)


def job(script: str, key: str = KEY, *, mode: int = 0o600) -> JobSpec:
    file = SmallFile(path="job.sh", content=script.encode(), mode=mode)
    return JobSpec(key=key, digest="d", directory=f"runs/{key}", entry="job.sh", files=(file,))


def broker(root: Path, keys: str, before: str = "", *, wait: bool = True) -> subprocess.Popen[str]:
    started = subprocess.Popen(
        [sys.executable, "-c", BROKER, str(root), keys, before], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    if wait:
        started.communicate(timeout=30)
    return started


def until(predicate, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not predicate():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.005)


def status(site: LocalSite, key: str = KEY) -> JobStatus:
    (item,) = site.status([key]).items
    return item


def ended(site: LocalSite, key: str = KEY) -> JobStatus:
    until(lambda: status(site, key).state.final)
    return status(site, key)


def begun(root: Path, key: str = KEY) -> int:
    log = root / "runs" / key / "begun.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def pid_in(root: Path, name: str, key: str = KEY) -> int:
    """A process id that a payload writes down."""
    file = root / "runs" / key / name
    until(lambda: file.exists() and file.read_text().endswith("\n"))
    return int(file.read_text())


def is_alive(pid: int) -> bool:
    found = look(pid)
    return found is not None and found.alive


# -- brokers that are killed ---------------------------------------------------------------------------


def test_a_broker_killed_after_the_claim_leaves_a_job_that_runs_and_is_found(root, site):
    killed = broker(root, KEY, "Launched.go = die")
    assert killed.returncode == -signal.SIGKILL
    assert status(site).state in {JobState.RUNNING, JobState.SUCCEEDED}
    assert ended(site).state is JobState.SUCCEEDED
    again = site.submit([job("exit 1")])[KEY]
    assert isinstance(again, Accepted)
    assert again.adopted
    assert begun(root) == 1


def test_a_broker_killed_before_the_claim_leaves_nothing_that_runs(root, site):
    killed = broker(root, KEY, "Records.claim = die")
    assert killed.returncode == -signal.SIGKILL
    assert not site.find([KEY]).items
    assert broker(root, KEY).returncode == 0
    assert ended(site).state is JobState.SUCCEEDED
    assert begun(root) == 1


def test_a_broker_killed_before_the_job_ends_does_not_take_it_along(root, site):
    before = "go = Launched.go; Launched.go = lambda self: (go(self), die())"
    assert broker(root, KEY, before).returncode == -signal.SIGKILL
    last = ended(site)
    assert (last.state, last.exit_code) == (JobState.SUCCEEDED, 0)
    assert begun(root) == 1


def test_of_processes_that_submit_the_same_keys_at_once_one_starts_each(root, site):
    keys = [f"cfraced{number:08d}" for number in range(15)]
    # all wait for the same moment, so that they really collide
    before = f"time.sleep(max(0, {time.time() + 0.8} - time.time()))"
    raced = [broker(root, ",".join(keys), before, wait=False) for _ in range(3)]
    answers = [other.communicate(timeout=30)[0].strip() for other in raced]
    for number, key in enumerate(keys):
        assert ended(site, key).state is JobState.SUCCEEDED
        assert begun(root, key) == 1
        assert sorted(answer[number] for answer in answers) == ["a", "a", "n"]


# -- whose process is it -------------------------------------------------------------------------------


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def forge(root: Path, *, pid: int, started: int, boot: str) -> None:
    os.symlink(f"{pid}.{started}.{boot}.{now()}.d", root / "jobs" / KEY)


def test_a_pid_that_has_gone_to_somebody_else_is_no_job_and_never_signaled(root, site, stranger):
    found = look(stranger.pid)
    forge(root, pid=stranger.pid, started=found.started - 1, boot=boot_id())
    assert status(site).state is JobState.NODE_FAILED
    assert "vanished without an exit status" in status(site).native_reason
    assert site.cancel([KEY]) == {KEY: True}
    assert connect(root, cancel_grace=0).cancel([KEY]) == {KEY: True}
    assert stranger.poll() is None


def test_a_signal_reaches_only_the_process_it_was_meant_for(stranger):
    found = look(stranger.pid)
    send(replace(found, started=found.started - 1), signal.SIGKILL)
    with pytest.raises(subprocess.TimeoutExpired):
        stranger.wait(0.05)
    send(found, signal.SIGKILL)
    assert stranger.wait(10) == -signal.SIGKILL
    send(found, signal.SIGKILL)  # gone: nothing happens


def test_a_process_of_another_boot_is_no_job_and_never_signaled(root, site, stranger):
    found = look(stranger.pid)
    forge(root, pid=stranger.pid, started=found.started, boot="00000000-0000-0000-0000-000000000000")
    assert status(site).state is JobState.NODE_FAILED
    assert "restarted" in status(site).native_reason
    assert site.cancel([KEY]) == {KEY: True}
    assert stranger.poll() is None


def test_a_record_that_makes_no_sense_keeps_its_key_from_being_used(root, site):
    os.symlink("what is this", root / "jobs" / KEY)
    answer = site.submit([job("echo begun >> begun.log")])[KEY]
    assert isinstance(answer, Accepted)
    assert status(site).state is JobState.CANCELED
    assert begun(root) == 0


def test_a_launcher_killed_alone_is_no_end_while_its_payload_lives(root, site):
    site.submit([job("echo $$ > own.pid\nsleep 60\n")])
    pid_in(root, "own.pid")
    os.kill(int(status(site).native_id.split(".")[0]), signal.SIGKILL)
    until(lambda: "launcher is gone" in status(site).native_reason)
    assert status(site).state is JobState.RUNNING
    os.kill(pid_in(root, "own.pid"), signal.SIGKILL)
    until(lambda: site.cancel([KEY])[KEY])
    assert status(site).state.final


def test_a_job_killed_from_outside_is_told_with_its_signal(root, site):
    site.submit([job("echo $$ > own.pid\nexec sleep 60\n")])
    pid_in(root, "own.pid")
    os.killpg(int(status(site).native_id.split(".")[0]), signal.SIGKILL)
    last = ended(site)
    assert (last.state, last.signal, last.exit_code) == (JobState.FAILED, signal.SIGKILL, None)
    assert status(connect(root)) == last


def test_a_payload_killed_by_a_signal_is_told_with_it(site):
    site.submit([job("kill -SEGV $$")])
    last = ended(site)
    assert (last.state, last.signal, last.exit_code) == (JobState.FAILED, signal.SIGSEGV, 128 + signal.SIGSEGV)


def test_no_child_stays_a_zombie(root, site):
    keys = [f"cfzombie{number:07d}" for number in range(10)]
    site.submit([job("exit 0", key) for key in keys])
    for key in keys:
        ended(site, key)
    pids = [int(item.native_id.split(".")[0]) for item in site.status(keys).items]

    def all_gone() -> bool:
        site.status([])
        return all(look(pid) is None for pid in pids)

    until(all_gone)


def test_a_second_connector_object_waits_for_the_firsts_children(root):
    connect(root).submit([job("echo $$ > own.pid\nsleep 60\n")])
    second = connect(root)
    pid_in(root, "own.pid")
    launcher = int(status(second).native_id.split(".")[0])
    os.killpg(launcher, signal.SIGKILL)
    assert ended(second).signal == signal.SIGKILL
    assert look(launcher) is None


# -- ending --------------------------------------------------------------------------------------------


def test_a_deaf_payload_is_killed_when_its_grace_is_over_and_nobody_waits_for_that(root):
    clock = [now()]
    site = connect(root, lambda: clock[0], cancel_grace=3600)
    site.submit([job("trap '' TERM\necho $$ > own.pid\nwhile :; do sleep 0.05; done\n")])
    payload = pid_in(root, "own.pid")
    begun_at = time.monotonic()
    assert site.cancel([KEY]) == {KEY: False}
    assert time.monotonic() - begun_at < 1
    assert site.cancel([KEY]) == {KEY: False}
    assert is_alive(payload)
    clock[0] += 3600 * 1_000_000
    until(lambda: site.cancel([KEY])[KEY])
    assert not is_alive(payload)
    assert status(site).state is JobState.CANCELED


def test_a_process_that_left_its_session_is_ended_too(root, site):
    site.submit([job("setsid sh -c 'echo $$ > far.pid; exec sleep 60' &\nwait\n")])
    far = pid_in(root, "far.pid")
    until(lambda: site.cancel([KEY])[KEY])
    assert not is_alive(far)


def test_a_process_without_the_jobs_environment_is_ended_with_its_session(root, site):
    site.submit([job("env -i sh -c 'echo $$ > bare.pid; trap \"\" TERM; while :; do sleep 0.05; done'\n")])
    bare = pid_in(root, "bare.pid")
    until(lambda: site.cancel([KEY])[KEY])
    assert not is_alive(bare)


def test_what_an_ended_job_left_running_is_ended_without_changing_its_state(root, site):
    site.submit([job("setsid sh -c 'echo $$ > far.pid; exec sleep 60' &\nexit 3\n")])
    far = pid_in(root, "far.pid")
    assert ended(site).exit_code == 3
    until(lambda: site.cancel([KEY])[KEY])
    assert not is_alive(far)
    assert status(site).state is JobState.FAILED


def test_a_job_that_ends_well_when_asked_to_end_has_succeeded(root, site):
    site.submit([job("trap 'exit 0' TERM\necho $$ > own.pid\nwhile :; do sleep 0.02; done\n")])
    pid_in(root, "own.pid")
    until(lambda: site.cancel([KEY])[KEY])
    assert status(site).state is JobState.SUCCEEDED


def test_a_key_canceled_before_its_job_came_never_runs(root, site):
    assert site.cancel([KEY]) == {KEY: True}
    answer = connect(root).submit([job("echo begun >> begun.log")])[KEY]
    assert isinstance(answer, Accepted)
    assert answer.adopted
    assert status(site).state is JobState.CANCELED
    assert not (root / "runs" / KEY).exists()


# -- what a job inherits -------------------------------------------------------------------------------


def test_a_job_gets_its_key_and_none_of_the_brokers_settings(root, monkeypatch):
    monkeypatch.setenv("CROSSFADE_DATABASE", "secret")
    monkeypatch.setenv("OTHER_TOKEN", "secret")
    monkeypatch.setenv("SCIENCE", "yes")
    site = connect(root, drop_env=["OTHER_TOKEN"])
    site.submit([job("env > environment")])
    ended(site)
    lines = set(site.read(f"runs/{KEY}/environment").decode().splitlines())
    assert {f"CROSSFADE_KEY={KEY}", "SCIENCE=yes"} <= lines
    assert not any("secret" in line for line in lines)


def test_a_job_hears_signals_that_the_broker_ignores(root, site):
    before = """
for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
script = SmallFile(path="job.sh", content=b"kill -HUP $$\\necho deaf\\n")
specs = [JobSpec(key=keys[0], digest="d", directory="runs/x", entry="job.sh", files=(script,))]
"""
    assert broker(root, KEY, before).returncode == 0
    assert ended(site).signal == signal.SIGHUP


def test_output_goes_to_the_wrappers_log_and_input_is_empty(root, site):
    site.submit([job("echo out; echo err >&2; cat; pwd")])
    ended(site)
    log = site.read(f"runs/{KEY}/.crossfade/wrapper.log").decode()
    assert log.splitlines() == ["out", "err", str(root / "runs" / KEY)]


def test_modes_do_not_depend_on_the_umask(root, site):
    old = os.umask(0)
    try:
        site.submit([job("exit 0", mode=0o750)])
    finally:
        os.umask(old)
    folder = root / "runs" / KEY
    modes = [path.stat().st_mode & 0o777 for path in (folder.parent, folder, folder / "job.sh")]
    assert modes == [0o700, 0o700, 0o750]
    ended(site)


# -- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ["absent.sh", ".", "-c", "job.sh/"])
def test_a_job_without_a_script_to_start_is_refused(root, site, entry):
    spec = job("echo begun >> begun.log")
    answer = site.submit([JobSpec(key=KEY, digest="d", directory=spec.directory, entry=entry, files=spec.files)])
    assert isinstance(answer[KEY], Refused)
    assert answer[KEY].fault == "application"
    assert not site.find([KEY]).items


@pytest.mark.parametrize("key", ["", "../x", "a/b", "a.b", "x" * 65, "new\nline"])
def test_a_key_that_is_no_name_is_refused_and_unknown(site, key):
    assert isinstance(site.submit([job("exit 0", key)])[key], Refused)
    assert site.status([key]).items == ()
    assert site.cancel([key]) == {key: True}


def test_a_file_too_large_for_a_control_file_is_refused(site):
    answer = site.submit([job("#" * (1 << 20) + "#")])[KEY]
    assert isinstance(answer, Refused)
    assert "job.sh" in answer.reason


@pytest.mark.parametrize("directory", ["", "jobs", "jobs/x", ".crossfade-site", "incoming/x"])
def test_the_sites_own_records_are_no_place_for_a_job(site, directory):
    spec = job("exit 0")
    answer = site.submit([JobSpec(key=KEY, digest="d", directory=directory, entry="job.sh", files=spec.files)])
    assert isinstance(answer[KEY], Refused)


# -- the root ------------------------------------------------------------------------------------------


def test_a_root_that_was_never_prepared_is_unreachable_and_not_made(tmp_path):
    site = connect(tmp_path / "never")
    for ask in (lambda: site.submit([job("exit 0")]), lambda: site.status([KEY]), lambda: site.list_mine(0)):
        with pytest.raises(SiteUnreachable):
            ask()
    assert not (tmp_path / "never").exists()


def test_an_empty_folder_in_the_roots_place_is_not_the_site(root, site):
    site.submit([job("exit 0")])
    root.rename(root.with_name("away"))
    root.mkdir()
    for asked in (site, connect(root)):
        with pytest.raises(SiteUnreachable):
            asked.status([KEY])
        with pytest.raises(SiteUnreachable):
            asked.write("stray", b"x")
        with pytest.raises(SiteUnreachable):
            asked.submit([job("exit 0", "cfstray")])
    root.rmdir()  # nothing was written into it
    root.with_name("away").rename(root)
    assert ended(site).state is JobState.SUCCEEDED


def test_another_sites_root_in_its_place_is_not_the_site(root, site):
    identity = site.prepare()
    site.status([])
    root.rename(root.with_name("away"))
    connect(root).prepare()
    with pytest.raises(SiteUnreachable, match="another site's root"):
        site.status([KEY])
    with pytest.raises(SiteUnreachable, match="another site's root"):
        connect(root, identity=identity).status([KEY])
    assert connect(root).status([KEY]).complete


def test_a_root_without_its_records_is_not_taken_for_one_without_jobs(root, site):
    site.submit([job("exit 0")])
    ended(site)
    (root / "jobs").rename(root / "jobs.away")
    with pytest.raises(SiteUnreachable, match="damaged"):
        site.status([KEY])
    (root / "jobs.away").rename(root / "jobs")


def test_a_job_ending_while_its_root_is_elsewhere_is_known_when_it_is_back(root, site):
    site.submit([job("echo $$ > own.pid\nsleep 0.1\nexit 7\n")])
    launcher = int(status(site).native_id.split(".")[0])
    pid_in(root, "own.pid")
    root.rename(root.with_name("away"))
    until(lambda: not is_alive(launcher))
    root.with_name("away").rename(root)
    assert (status(site).state, status(site).exit_code) == (JobState.FAILED, 7)


def test_a_full_disk_refuses_a_job_by_its_quota_and_starts_nothing(tmp_path):
    root = tmp_path / "small"
    root.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(root)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        site = connect(root)
        site.prepare()
        answer = site.submit([job("#" * 400_000)])[KEY]
        assert isinstance(answer, Refused)
        assert answer.fault == "quota"
        assert not site.find([KEY]).items
        (bad,) = (item for item in site.probe() if not item.ok)
        assert bad.capability == "submit"
        assert "bytes are free" in bad.detail
    finally:
        subprocess.run(["umount", str(root)], check=True)


def test_options_are_read_strictly(tmp_path):
    for options in ({"gracious": 1}, {"cancel_grace": "5"}, {"drop_env": "PATH"}, {"min_free": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            connect(tmp_path / "site", **options)
    with pytest.raises(ValueError, match="absolute"):
        make(SiteConfig(name="here", connector="local", root="relative"), now)


def test_the_registry_knows_it_by_its_name(tmp_path):
    site = make_site(SiteConfig(name="here", connector="local", root=str(tmp_path / "s")), now)
    assert isinstance(site, LocalSite)
