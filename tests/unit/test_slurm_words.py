"""What Slurm says, in the shapes that its releases use, and what is said to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connectors.errors import RequestRefused, UnsafePath
from connectors.model import JobSpec, JobState, Resources
from connectors.names import comment_of, label_of
from connectors.slurm import exit_of, fatal_reason, job_of, job_script, state_of

SPEC = JobSpec(
    key="cf0123456789abc",
    digest="d" * 64,
    directory="runs/r1/solve@1",
    entry=".crossfade/stage.sh",
    resources=Resources(nodes=2, cores=64, gpus=4, walltime=5400),
    submit={"account": "m1234_g", "qos": "regular", "constraint": "gpu&hbm80g", "exclusive": ""},
    comment="crossfade cf0123456789abc r1/solve@1 ann@example.org",
)


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("PENDING", JobState.QUEUED),
        ("PD", JobState.QUEUED),
        (["PENDING", "REQUEUED"], JobState.QUEUED),
        (["PENDING", "REQUEUE_HOLD"], JobState.HELD),
        (["RUNNING", "COMPLETING"], JobState.RUNNING),
        (["COMPLETED", "COMPLETING"], JobState.SUCCEEDED),
        ("SUSPENDED", JobState.RUNNING),
        ("CANCELLED by 1000", JobState.CANCELED),
        ("CANCELLED+", JobState.CANCELED),
        ("NODE_FAIL", JobState.NODE_FAILED),
        ("BOOT_FAIL", JobState.NODE_FAILED),
        ("DEADLINE", JobState.TIMED_OUT),
        ("OUT_OF_MEMORY", JobState.OUT_OF_MEMORY),
        ("PREEMPTED", JobState.PREEMPTED),
        ("completed", JobState.SUCCEEDED),
        ("QUANTUM_LIMBO", JobState.UNKNOWN),
        ([], JobState.UNKNOWN),
        ("", JobState.UNKNOWN),
    ],
)
def test_each_word_or_list_of_words_has_one_meaning(words: str | list[str], state: JobState) -> None:
    assert state_of(words)[0] is state


def test_an_unknown_word_is_kept_as_it_was_said() -> None:
    assert state_of("QUANTUM_LIMBO") == (JobState.UNKNOWN, "QUANTUM_LIMBO")


def test_a_job_that_somebody_holds_is_held() -> None:
    assert state_of("PENDING", reason="JobHeldUser")[0] is JobState.HELD
    assert state_of("PENDING", reason="launch failed requeued held")[0] is JobState.HELD


@pytest.mark.parametrize("reason", ["PartitionTimeLimit", "(PartitionConfig)", "QOSMaxWallDurationPerJobLimit"])
def test_some_reasons_are_not_cured_by_waiting(reason: str) -> None:
    assert fatal_reason(reason)


@pytest.mark.parametrize("reason", ["Priority", "Resources", "ReqNodeNotAvail", "BeginTime", "Dependency", "", "None"])
def test_others_are(reason: str) -> None:
    assert not fatal_reason(reason)


def test_a_record_of_the_old_release_is_read() -> None:
    record = {
        "job_id": 7, "name": SPEC.key, "comment": comment_of(SPEC, "me"), "job_state": "COMPLETED", "exit_code": 256,
        "restart_cnt": 1, "submit_time": 1_700_000_000, "start_time": 1_700_000_010, "end_time": 1_700_000_020,
        "state_reason": "None",
    }  # fmt: skip
    job = job_of(record)
    assert job is not None
    assert job.label is not None
    assert job.label.matches(SPEC)
    assert (job.native_id, job.state, job.exit_code, job.restarts) == ("7", JobState.SUCCEEDED, 1, 1)
    assert job.ended_at == 1_700_000_020_000_000


def test_a_record_of_the_new_api_is_read() -> None:
    record = {
        "job_id": 7, "name": "x", "comment": "", "job_state": ["PENDING", "REQUEUED"], "state_reason": "BeginTime",
        "exit_code": {"status": ["SUCCESS"], "return_code": {"set": True, "infinite": False, "number": 0},
                      "signal": {"id": {"set": False, "infinite": False, "number": 0}, "name": ""}},
        "restart_cnt": {"set": True, "infinite": False, "number": 2},
        "submit_time": {"set": True, "infinite": False, "number": 1_700_000_000},
        "end_time": {"set": True, "infinite": False, "number": 0},
    }  # fmt: skip
    job = job_of(record)
    assert job is not None
    assert (job.state, job.restarts, job.submitted_at, job.ended_at) == (
        JobState.QUEUED,
        2,
        1_700_000_000_000_000,
        None,
    )
    assert job.status("k").exit_code is None


def test_a_record_of_the_accounting_is_read() -> None:
    record = {
        "job_id": 9, "name": "x", "comment": {"job": comment_of(SPEC, "me")},
        "state": {"current": ["TIMEOUT"], "reason": "None"},
        "time": {"submission": 1_700_000_000, "start": 1_700_000_001, "end": 1_700_000_002},
        "exit_code": {"return_code": 0, "signal": {"signal_id": 15}},
    }  # fmt: skip
    job = job_of(record)
    assert job is not None
    assert (job.state, job.signal, job.started_at) == (JobState.TIMED_OUT, 15, 1_700_000_001_000_000)


@pytest.mark.parametrize(
    "record",
    [{}, {"job_id": None}, {"job_id": "seven"}, {"job_id": {"set": False}}, {"job_id": [1]}, {"job_id": True}],
)
def test_what_has_no_id_is_no_job(record: dict[str, object]) -> None:
    assert job_of(record) is None


@pytest.mark.parametrize("junk", [None, 7, "x", [], {}, [[]], {"current": 3}, [None, 4], True, {"number": {}}])
def test_wrong_types_anywhere_in_a_record_count_as_not_said(junk: object) -> None:
    names = ("name", "comment", "job_state", "state", "time", "state_reason", "exit_code", "restart_cnt", "submit_time")
    for name in names:
        job = job_of({"job_id": 7, name: junk})
        assert job is not None
        assert job.status("k").native_id == "7"


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("0:15", (0, 15)),
        ("3:0", (3, None)),
        (256, (1, None)),
        (15, (0, 15)),
        (None, (None, None)),
        ("x:y", (None, None)),
    ],
)
def test_exit_codes_come_in_several_shapes(told: object, meant: tuple[int | None, int | None]) -> None:
    assert exit_of(told) == meant


def test_a_job_script_is_what_a_person_would_write() -> None:
    assert job_script(SPEC, root="/pscratch/cf/", owner="inst1", umask="002").splitlines() == [
        "#!/bin/sh",
        "#SBATCH --job-name=cf0123456789abc",
        '#SBATCH --comment="crossfade inst1 cf0123456789abc dddddddddddddddd r1/solve@1 ann@example.org"',
        "#SBATCH --chdir=/pscratch/cf/runs/r1/solve@1",
        "#SBATCH --output=/pscratch/cf/runs/r1/solve@1/.crossfade/wrapper.log",
        "#SBATCH --open-mode=append",
        "#SBATCH --nodes=2",
        "#SBATCH --cpus-per-task=64",
        "#SBATCH --gpus-per-node=4",
        "#SBATCH --time=01:30:00",
        "#SBATCH --requeue",
        "#SBATCH --dependency=singleton",
        "#SBATCH --account=m1234_g",
        "#SBATCH --qos=regular",
        '#SBATCH --constraint="gpu&hbm80g"',
        "#SBATCH --exclusive",
        "",
        "umask 002",
        "cd /pscratch/cf/runs/r1/solve@1 || exit 1",
        "exec /bin/sh .crossfade/stage.sh",
    ]


@pytest.mark.parametrize(
    "value", ["a\n#SBATCH --uid=0", 'a" --uid=0 "', "$(reboot)", "`id`", "a\\", "a'b", "-x", "\x1b[2J", "ü", "a" * 600]
)
@pytest.mark.parametrize("word", ["account", "qos", "partition", "reservation", "constraint"])
def test_a_scheduler_word_cannot_become_another_line_or_option(word: str, value: str) -> None:
    with pytest.raises(RequestRefused):
        job_script(replace(SPEC, submit={word: value}), root="/r", owner="i")


@pytest.mark.parametrize(
    "word", ["job-name", "comment", "output", "wrap", "dependency", "a b", "-x", "x\n", "chdir", "Uid"]
)
def test_words_that_are_the_brokers_own_are_refused(word: str) -> None:
    with pytest.raises(RequestRefused):
        job_script(replace(SPEC, submit={word: "x"}), root="/r", owner="i")


@pytest.mark.parametrize("root", ["/r r", "/r\n#SBATCH -A x", "relative", "/r'", "/r$(x)", "/%j"])
def test_a_root_that_a_script_cannot_hold_is_refused(root: str) -> None:
    with pytest.raises(RequestRefused):
        job_script(SPEC, root=root, owner="i")


@pytest.mark.parametrize("directory", ["../x", "/etc", "a\nb"])
def test_a_directory_outside_the_root_is_refused(directory: str) -> None:
    with pytest.raises(UnsafePath):
        job_script(replace(SPEC, directory=directory), root="/r", owner="i")


def test_a_comment_holds_no_character_that_needs_quoting_and_is_read_again() -> None:
    spec = replace(SPEC, comment='r1/s@1 "$(id)`x`;\n' + "x" * 999)
    comment = comment_of(spec, "inst1")
    assert not set(comment) & set("\"'$`;\n\\")
    assert len(comment) <= 240
    label = label_of(comment)
    assert label is not None
    assert (label.owner, label.key) == ("inst1", spec.key)
    assert label.matches(spec)
    assert not label.matches(replace(spec, digest="e" * 64))


@pytest.mark.parametrize("comment", [None, 7, "", "hello", "crossfade", "crossfade a b", "xcrossfade a cf0 d0"])
def test_other_peoples_comments_are_not_ours(comment: object) -> None:
    assert label_of(comment) is None


def test_warning_and_tasks_are_asked_for_where_they_are_wanted() -> None:
    needs = Resources(nodes=16, cores=32, ranks=64, ranks_per_node=4, memory=128 << 30, walltime=90_000)
    script = job_script(replace(SPEC, resources=needs, submit={}, warn_before=720, requeue=False), root="/r", owner="i")
    for line in ("--ntasks-per-node=4", "--cpus-per-task=8", "--mem=131072M", "--time=1-01:00:00", "--no-requeue"):
        assert f"#SBATCH {line}\n" in script
    assert "#SBATCH --signal=B:USR1@720\n" in script
