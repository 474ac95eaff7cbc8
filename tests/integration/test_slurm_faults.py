"""The command connector while a real Slurm has its worst days: killed, frozen, preempting, forgetful."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from command_kit import CommandRig
from slurm_kit import SlurmCluster, wait_until

from connectors.command import CommandSite
from connectors.contract import new_key
from connectors.errors import SiteUnreachable
from connectors.model import Accepted, Doubtful, JobState, JobStatus, Refused, Resources, SmallFile

WITHIN = 40.0


@pytest.fixture
def cluster(make_slurm) -> SlurmCluster:
    return make_slurm("faulty", cpus=2)


@pytest.fixture
def rig(cluster: SlurmCluster, tmp_path: Path) -> Iterator[CommandRig]:
    rig = CommandRig(cluster, tmp_path)
    yield rig
    for wire in rig.wires:  # the cluster ends with all that runs on it
        wire.close()


@pytest.fixture
def shared(slurm_cluster: SlurmCluster, tmp_path: Path) -> Iterator[CommandRig]:
    """On the cluster that tests share: for what leaves it as it was."""
    rig = CommandRig(slurm_cluster, tmp_path)
    yield rig
    rig.end()


def only(site: CommandSite, key: str) -> JobStatus:
    (item,) = site.status([key]).items
    return item


def wait_for(site: CommandSite, key: str, state: JobState, *, restarts: int = 0) -> JobStatus:
    wait_until(
        lambda: (only(site, key).state, only(site, key).restarts) == (state, restarts),
        within=WITHIN,
        what=f"{key} is {state} after {restarts} restarts",
    )
    return only(site, key)


def start_now(cluster: SlurmCluster, key: str) -> None:
    """A requeued job waits for a while by itself; nobody here wants to."""
    cluster.run("scontrol", "update", f"jobid={cluster.job(key)['job_id']}", "starttime=now", check=False)


@pytest.mark.fault("F43")
def test_a_killed_controller_is_unreachable_and_its_job_goes_on(rig: CommandRig, cluster: SlurmCluster) -> None:
    site, key = rig.connect(), new_key()
    assert isinstance(site.submit([rig.job(key, seconds=600)])[key], Accepted)
    before = wait_for(site, key, JobState.RUNNING)
    cluster.wait_saved()
    cluster.kill_controller()
    with pytest.raises(SiteUnreachable):
        site.status([key])
    bad = {item.capability for item in site.probe() if not item.ok}
    assert {"submit", "status"} <= bad
    assert "files" not in bad  # its disk is still there
    cluster.start_controller()
    assert wait_for(site, key, JobState.RUNNING).native_id == before.native_id
    assert rig.executions(key) == 1


def test_a_frozen_controller_leaves_a_submission_in_doubt_and_it_is_found_later(
    rig: CommandRig, cluster: SlurmCluster
) -> None:
    site, key = rig.connect(), new_key()
    spec = rig.job(key)
    call = site._dialect.submitting({key: site._dialect.script(spec)})
    site.files.write_many(list(site._files_of(spec)))
    cluster.freeze()
    answer = site._dialect.submitted(site._caller.ask(call.script, call.lines)[key])
    assert isinstance(answer, Doubtful), answer
    with pytest.raises(SiteUnreachable):
        site.status([key])
    cluster.thaw()
    wait_until(lambda: site.find([key]).complete, within=WITHIN)
    # whether it was accepted is Slurm's to say; asked again it runs exactly once
    again = site.submit([spec])[key]
    assert isinstance(again, Accepted)
    wait_for(site, key, JobState.SUCCEEDED)
    assert rig.executions(key) == 1


@pytest.mark.fault("F43")
def test_a_job_that_a_crash_made_slurm_forget_is_lost_and_its_id_is_another_jobs(
    rig: CommandRig, cluster: SlurmCluster, tmp_path: Path
) -> None:
    """Slurm saves its state seconds after it has accepted a job: what was saved last is what it comes back with."""
    site, lost, next_one = rig.connect(), new_key(), new_key()
    state, saved = cluster.home / "state", tmp_path / "saved"
    shutil.copytree(state, saved)
    cluster.run("scontrol", "update", "partitionname=realtime", "state=down")  # so that it waits there
    answer = site.submit([rig.job(lost, submit={"partition": "realtime"})])[lost]
    assert isinstance(answer, Accepted)
    assert only(site, lost).state is JobState.QUEUED
    cluster.kill_controller()
    shutil.rmtree(state)
    saved.rename(state)
    cluster.start_controller()
    listing = site.status([lost])
    assert listing.complete
    assert not listing.items
    other = site.submit([rig.job(next_one, seconds=600)])[next_one]
    assert isinstance(other, Accepted)
    assert other.native_id == answer.native_id
    assert not site.find([lost]).items  # the id says nothing
    assert site.cancel([lost]) == {lost: True}
    assert not only(site, next_one).state.final


@pytest.mark.fault("F38")
def test_a_preempted_job_comes_back_with_one_restart_more_unless_it_may_not(
    rig: CommandRig, cluster: SlurmCluster
) -> None:
    site, victim, once, urgent = rig.connect(), new_key(), new_key(), new_key()
    cheap = {"submit": {"partition": "preempt"}, "resources": Resources(cores=2)}
    jobs = [rig.job(victim, seconds=600, **cheap), rig.job(once, seconds=600, requeue=False, **cheap)]
    assert all(isinstance(answer, Accepted) for answer in site.submit(jobs).values())
    wait_for(site, victim, JobState.RUNNING)
    wait_for(site, once, JobState.RUNNING)
    whole = rig.job(urgent, submit={"partition": "realtime"}, resources=Resources(nodes=2, cores=2))
    assert isinstance(site.submit([whole])[urgent], Accepted)
    wait_until(lambda: only(site, victim).restarts == 1, within=WITHIN, what="it is requeued")
    assert wait_for(site, once, JobState.PREEMPTED).exit_code in {0, None}
    wait_for(site, urgent, JobState.SUCCEEDED)
    start_now(cluster, victim)
    wait_for(site, victim, JobState.RUNNING, restarts=1)
    wait_until(lambda: rig.executions(victim) == 2, within=WITHIN)


@pytest.mark.fault("F43")
def test_a_node_that_goes_down_fails_its_job_or_puts_it_back(rig: CommandRig, cluster: SlurmCluster) -> None:
    site, once, again = rig.connect(), new_key(), new_key()
    site.submit([rig.job(once, seconds=600, requeue=False), rig.job(again, seconds=600)])
    wait_for(site, once, JobState.RUNNING)
    wait_for(site, again, JobState.RUNNING)
    for node in cluster.nodes:
        cluster.kill(node)  # or it would report itself back
        cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    wait_for(site, once, JobState.NODE_FAILED)
    wait_for(site, again, JobState.QUEUED, restarts=1)

    def compute() -> str:
        return next(item.detail for item in site.probe() if item.capability == "compute" and not item.ok)

    # jobs that are being cleaned up still count as the node's
    wait_until(lambda: any(not item.ok for item in site.probe()), within=WITHIN, what="the nodes are told to be down")
    assert compute() == "no node is up"


def test_a_maintenance_window_is_told_with_its_end(rig: CommandRig, cluster: SlurmCluster) -> None:
    site = rig.connect()
    cluster.run("scontrol", "create", "reservation", "reservationname=soon", "starttime=now+2hours", "duration=60",
                "nodes=ALL", "flags=maint,ignore_jobs", "users=root")  # fmt: skip
    soon = next(item for item in site.probe() if item.capability == "compute")
    assert soon.ok
    assert soon.until is not None
    assert abs(soon.until - soon.at - 2 * 3600 * 1_000_000) < 120_000_000
    cluster.run("scontrol", "create", "reservation", "reservationname=now", "starttime=now", "duration=30",
                "nodes=ALL", "flags=maint,ignore_jobs,overlap", "users=root")  # fmt: skip
    during = next(item for item in site.probe() if item.capability == "compute")
    assert not during.ok
    assert during.until is not None
    assert abs(during.until - during.at - 1800 * 1_000_000) < 120_000_000


def test_a_job_over_the_limit_of_its_partition_is_stuck_and_says_why(shared: CommandRig) -> None:
    site, key = shared.connect(), new_key()
    over = shared.job(key, submit={"partition": "short"}, resources=Resources(walltime=3600))
    assert isinstance(site.submit([over])[key], Accepted)
    wait_until(lambda: only(site, key).stuck_reason == "PartitionTimeLimit", within=WITHIN)
    assert only(site, key).state is JobState.QUEUED


def test_words_that_slurm_does_not_know_are_refused_with_slurms_own_words(shared: CommandRig) -> None:
    site = shared.connect()
    for words in ({"partition": "nowhere"}, {"reservation": "nobodys"}):
        key = new_key()
        answer = site.submit([shared.job(key, submit=words)])[key]
        assert isinstance(answer, Refused)
        assert "nvalid" in answer.reason
        assert not site.find([key]).items


@pytest.mark.fault("F26")
def test_a_lost_reply_ends_with_exactly_one_execution(shared: CommandRig) -> None:
    site, key = shared.connect(), new_key()
    shared.lose_next_reply(site)
    assert isinstance(site.submit([shared.job(key)])[key], Doubtful)
    again = site.submit([shared.job(key)])[key]
    assert isinstance(again, Accepted)
    assert again.adopted
    wait_for(site, key, JobState.SUCCEEDED)
    assert shared.executions(key) == 1
    assert [job["name"] for job in shared.cluster.jobs()].count(key) == 1


def test_what_was_accepted_before_the_site_went_away_is_told(shared: CommandRig, monkeypatch) -> None:
    monkeypatch.setattr("connectors.command.site.BATCH", 1)
    site, keys = shared.connect(), [new_key() for _ in range(3)]
    wire = shared.wires[-1]
    wire.refuse_after = 1
    answers = site.submit([shared.job(key) for key in keys])
    assert [type(answers[key]) for key in keys] == [Accepted, Doubtful, Doubtful]
    wire.refuse_after = None
    again = site.submit([shared.job(key) for key in keys])
    assert all(isinstance(answer, Accepted) for answer in again.values())
    for key in keys:
        wait_for(site, key, JobState.SUCCEEDED)
    assert [shared.executions(key) for key in keys] == [1, 1, 1]


def test_a_job_gets_the_environment_of_a_login_not_that_of_our_questions(shared: CommandRig, monkeypatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    site, key = shared.connect(), new_key()
    spec = shared.job(key)
    told = SmallFile(path="job.sh", content=b'echo "$LC_ALL ${SLURM_TIME_FORMAT-none}" > told\n')
    site.submit([replace(spec, files=(told,))])
    wait_for(site, key, JobState.SUCCEEDED)
    assert site.read(f"runs/{key}/told") == b"C.UTF-8 none\n"


def test_a_second_submission_that_gets_through_waits_for_the_first(shared: CommandRig) -> None:
    """As if another broker had sent it: past the look-up, straight to sbatch."""
    site, key = shared.connect(), new_key()
    spec = shared.job(key, seconds=600)
    assert isinstance(site.submit([spec])[key], Accepted)
    wait_for(site, key, JobState.RUNNING)
    call = site._dialect.submitting({key: site._dialect.script(spec)})
    assert isinstance(site._dialect.submitted(site._caller.ask(call.script, call.lines)[key]), Accepted)
    wait_until(lambda: len(site.find([key]).items) == 2, within=WITHIN)
    states = sorted((item.state.value, item.native_reason) for item in site.find([key]).items)
    assert states == [("queued", "Dependency"), ("running", "")]
    assert shared.executions(key) == 1
    wait_until(lambda: site.cancel([key])[key], within=WITHIN)


def test_a_thousand_jobs_are_asked_for_in_one_call(shared: CommandRig) -> None:
    site, key = shared.connect(), new_key()
    site.submit([shared.job(key, seconds=600)])
    wire = shared.wires[-1]
    wire.scripts.clear()
    listing = site.status([key, *(new_key() for _ in range(999))])
    assert [item.key for item in listing.items] == [key]
    assert listing.complete
    assert len(wire.scripts) == 1


@pytest.mark.parametrize("form", ["json", "text"])
def test_both_forms_of_squeue_tell_the_same(shared: CommandRig, form: str) -> None:
    site, failed, held = shared.connect(squeue=form), new_key(), new_key()
    site.submit([shared.job(failed, exit_code=7), shared.job(held, seconds=5, submit={"nice": "5"})])
    wait_for(site, failed, JobState.FAILED)
    other = shared.connect(squeue="text" if form == "json" else "json")
    mine, theirs = only(site, failed), only(other, failed)
    assert mine == theirs
    assert mine.exit_code == 7
    assert mine.submitted_at is not None
    assert mine.ended_at is not None


def test_the_jobs_of_another_installation_are_left_alone(shared: CommandRig) -> None:
    site, key = shared.connect(), new_key()
    site.submit([shared.job(key, seconds=600)])
    mine = shared.owner
    shared.owner = "other"
    stranger = shared.connect()
    assert not stranger.status([key]).items
    assert not stranger.list_mine(0).items
    assert stranger.cancel([key]) == {key: True}
    shared.owner = mine
    assert not only(site, key).state.final


def test_a_job_is_warned_before_its_end(shared: CommandRig) -> None:
    """Slurm counts in minutes, and sends within one: the word is there, which is ours to see to."""
    site, key = shared.connect(), new_key()
    spec = shared.job(key, seconds=600, resources=Resources(walltime=120), warn_before=60)
    script = site.script(spec).script
    assert "#SBATCH --signal=B:USR1@60" in script
    assert "#SBATCH --dependency=singleton" in script
    assert "#SBATCH --requeue" in script
    assert isinstance(site.submit([spec])[key], Accepted)


def test_a_check_with_a_canary_says_what_works(shared: CommandRig) -> None:
    found = {finding.step: finding for finding in shared.connect().check(canary=True)}
    assert list(found) == ["credentials", "status", "allocation", "files", "submit", "canary"]
    assert [finding.ok for finding in found.values()] == [True, True, None, True, True, True]
    assert "22.05" in found["status"].detail or found["status"].detail
    assert "regular" in found["allocation"].detail


def test_a_check_without_slurms_commands_names_the_option(shared: CommandRig) -> None:
    (shared.folder / "id").symlink_to("/usr/bin/id")
    (shared.folder / "sh").symlink_to("/bin/sh")
    site = shared.connect(environment={"PATH": str(shared.folder)}, path=[])
    found = {finding.step: finding for finding in site.check()}
    assert not found["status"].ok
    assert "path:" in found["status"].help


def test_files_of_a_job_that_cannot_be_written_refuse_only_that_job(shared: CommandRig) -> None:
    site, good, bad = shared.connect(), new_key(), new_key()
    (shared.root / "runs").mkdir()
    (shared.root / "runs" / bad).touch()  # a file where its folder should be
    answers = site.submit([shared.job(bad), replace(shared.job(good), files=(*shared.job(good).files, SmallFile(path="x", content=b"")))])  # noqa: E501  # fmt: skip
    assert isinstance(answers[bad], Refused)
    assert isinstance(answers[good], Accepted)
