"""The command connector's parts against replies that no test machine gives: newer Slurms, accountings, broken words."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from connectors.command.calls import Section, sections
from connectors.command.options import CommandOptions
from connectors.command.pbs import PbsDialect
from connectors.command.slurm import _BOOK_FIELDS, _QUEUE_FIELDS, SlurmDialect
from connectors.errors import BadReply, CredentialError, RequestRefused, SiteError, SiteUnreachable
from connectors.model import Accepted, Doubtful, JobSpec, JobState, Refused, Resources
from connectors.pbs import job_of, jobs_of_text, state_of
from connectors.pbs.script import job_script
from connectors.ssh.openssh import OpenSshTransport
from connectors.ssh.transport import LocalTransport

KEY = "cfabcdefghijklm"
COMMENT = f"crossfade me {KEY} d1"


def slurm(**options: Any) -> SlurmDialect:
    return SlurmDialect(site="s", root="/r", owner="me", umask="", options=CommandOptions.read("s", options))


def pbs() -> PbsDialect:
    return PbsDialect(site="s", root="/r", owner="me", umask="", options=CommandOptions.read("s", {"scheduler": "pbs"}))


def section(out: str = "", err: str = "", code: int = 0) -> Section:
    return Section(code=code, out=out, err=err)


def row(fields: tuple[str, ...], **values: str) -> str:
    return "\x1f".join(values.get(field, "") for field in fields)


# -- Slurm ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "job",
    [
        {"job_state": "RUNNING", "exit_code": 0, "restart_cnt": 1, "start_time": 1_700_000_000},
        {
            "job_state": ["RUNNING"],
            "exit_code": {"return_code": {"set": True, "infinite": False, "number": 0}},
            "restart_cnt": 1,
            "start_time": {"set": True, "infinite": False, "number": 1_700_000_000},
        },
    ],
    ids=["22.05", "24.11"],
)
def test_jobs_of_old_and_new_json_are_the_same(job):
    text = json.dumps({"meta": {}, "jobs": [{"job_id": 7, "name": KEY, "comment": COMMENT, **job}]})
    found = slurm().answered({"queue_json": section(f"a warning\n{text}\nmore words")})
    (status,) = (job.status(KEY) for job in found.jobs)
    assert (status.native_id, status.state, status.restarts) == ("7", JobState.RUNNING, 1)
    assert status.started_at == 1_700_000_000 * 1_000_000
    assert found.complete


@pytest.mark.parametrize("text", ["", "<html>", "{", "[]", '{"jobs": 3}', '{"jobs": null}', "{" * 100_000])
def test_what_is_no_json_of_squeue_is_a_bad_reply(text):
    with pytest.raises(BadReply):
        slurm().answered({"queue_json": section(text)})


@pytest.mark.parametrize(
    "record", [None, 3, {}, {"job_id": "x"}, {"job_id": [], "name": 3}, {"job_id": {"number": {}}}]
)
def test_records_that_make_no_sense_are_passed_over(record):
    assert not slurm().answered({"queue_json": section(json.dumps({"jobs": [record]}))}).jobs


def test_a_queue_that_cannot_be_asked_is_unreachable_with_its_words():
    for told in (
        {"queue_text": section("slurm_load_jobs error: Unable to contact slurm controller", code=1)},
        {"queue_text": section("/bin/sh: squeue: not found", code=127)},
        {},
    ):
        with pytest.raises(SiteUnreachable, match="squeue"):
            slurm().answered(told)


def book(**values: str) -> str:
    told = {"JobIDRaw": "7", "JobName": KEY, "State": "COMPLETED", "ExitCode": "0:0", "Comment": COMMENT, **values}
    return row(_BOOK_FIELDS, **told)


@pytest.mark.parametrize(
    ("state", "code", "is_"),
    [
        ("COMPLETED", "0:0", (JobState.SUCCEEDED, 0, None)),
        ("CANCELLED by 1000", "0:15", (JobState.CANCELED, 0, 15)),
        ("FAILED", "3:0", (JobState.FAILED, 3, None)),
        ("OUT_OF_MEMORY", "0:125", (JobState.OUT_OF_MEMORY, 0, 125)),
        ("PREEMPTED", "0:0", (JobState.PREEMPTED, 0, None)),
        ("DEADLINE", "0:0", (JobState.TIMED_OUT, 0, None)),
        ("BRAND_NEW", "0:0", (JobState.UNKNOWN, None, None)),
    ],
)
def test_the_accounting_tells_how_a_job_ended(state, code, is_):
    told = {"queue_text": section(), "books": section(book(State=state, ExitCode=code, End="1700000000") + "\n")}
    (status,) = (job.status(KEY) for job in slurm().answered(told).jobs)
    assert (status.state, status.exit_code, status.signal) == is_


def test_executions_of_a_requeued_job_are_its_restarts():
    rows = "\n".join([book(State="PREEMPTED"), book(State="NODE_FAIL"), book(State="COMPLETED")])
    (job,) = slurm().answered({"queue_text": section(), "books": section(rows)}).jobs
    assert (job.status(KEY).state, job.status(KEY).restarts) == (JobState.SUCCEEDED, 2)


def test_the_queue_knows_better_than_the_accounting_and_reused_ids_are_two_jobs():
    live = row(_QUEUE_FIELDS, JobID="7", Name=KEY, State="RUNNING", RestartCnt="1", Comment=COMMENT)
    books = "\n".join([book(State="PREEMPTED"), book(JobName="cfanother", State="FAILED")])
    jobs = slurm().answered({"queue_text": section(live), "books": section(books)}).jobs
    assert {(job.name, job.status(job.name).state) for job in jobs} == {
        (KEY, JobState.RUNNING),
        ("cfanother", JobState.FAILED),
    }


def test_no_accounting_is_a_complete_answer_and_a_silent_one_is_not():
    none, silent = "Slurm accounting storage is disabled", "sacct: error: Problem talking to the database"
    assert slurm().answered({"queue_text": section(), "books": section(err=none, code=1)}).complete
    assert not slurm().answered({"queue_text": section(), "books": section(err=silent, code=1)}).complete
    assert not slurm(accounting="on").answered({"queue_text": section(), "books": section(err=none, code=1)}).complete


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (section("123\n"), Accepted),
        (section("welcome\n123;cluster\n"), Accepted),
        (section("no id\n"), Doubtful),
        (None, Doubtful),
        (section(err="sbatch: error: Socket timed out on send/recv operation", code=1), Doubtful),
        (section(err="sbatch: error: Unable to contact slurm controller (connect failure)", code=1), Doubtful),
        (section("123", err="killed", code=137), Doubtful),
        (section(err="sbatch: error: Batch job submission failed: Invalid qos specification", code=1), Refused),
    ],
)  # fmt: skip
def test_what_sbatch_says_is_acceptance_refusal_or_doubt(told, kind):
    assert isinstance(slurm().submitted(told), kind)


def test_limits_of_an_account_are_a_matter_of_quota():
    answer = slurm().submitted(section(err="sbatch: error: QOSMaxSubmitJobPerUserLimit", code=1))
    assert isinstance(answer, Refused)
    assert answer.fault == "quota"


# -- PBS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "status", "comment", "overtime", "state"),
    [
        ("F", 0, "", False, JobState.SUCCEEDED),
        ("F", 7, "", False, JobState.FAILED),
        ("F", 265, "", False, JobState.CANCELED),
        ("F", 271, "", True, JobState.TIMED_OUT),
        ("F", 271, "Job 7 has exceeded walltime: walltime 61 exceeded limit 60", False, JobState.TIMED_OUT),
        ("F", 267, "", False, JobState.FAILED),
        ("F", -3, "", False, JobState.NODE_FAILED),
        ("F", None, "", False, JobState.CANCELED),
        ("F", 265, "to be deleted at request of Scheduler", False, JobState.PREEMPTED),
        ("F", 265, "mem 9gb exceeded limit 8gb", False, JobState.OUT_OF_MEMORY),
        ("Q", None, "", False, JobState.QUEUED),
        ("H", None, "", False, JobState.HELD),
        ("S", None, "", False, JobState.RUNNING),
        ("E", 0, "", False, JobState.RUNNING),
        ("Z", None, "", False, JobState.UNKNOWN),
        ("", None, "", False, JobState.UNKNOWN),
    ],
)
def test_every_state_of_pbs_has_its_meaning(word, status, comment, overtime, state):
    assert state_of(word, exit_status=status, comment=comment, overtime=overtime) is state


def test_a_job_that_ran_and_waits_again_has_been_restarted():
    waiting = job_of("1.p", {"Job_Name": KEY, "job_state": "Q", "run_count": 1})
    running = job_of("1.p", {"Job_Name": KEY, "job_state": "R", "run_count": "2"})
    assert (waiting.restarts, running.restarts) == (1, 1)


def test_a_signal_in_the_exit_status_is_told_as_one():
    status = job_of("1.p", {"job_state": "F", "Exit_status": 267}).status(KEY)
    assert (status.exit_code, status.signal) == (None, 11)


@pytest.mark.parametrize("record", [{}, {"job_state": 3, "Variable_List": 4, "comment": [], "Exit_status": "x"},
                                    {"Resource_List": 3, "stime": "yesterday", "run_count": {}}])  # fmt: skip
def test_attributes_that_make_no_sense_are_not_told(record):
    job = job_of("1.p", record)
    assert job.state is JobState.UNKNOWN
    assert job.label is None


def test_text_of_qstat_is_read_wrapped_or_not():
    told = (
        "Job Id: 12.pbs-01\n    Job_Name = cfkey\n    job_state = F\n    Exit_status = 3\n"
        "    Variable_List = PBS_O_HOME=/home/ann,N=6,CROSSFADE_LABEL=crossfade.\n\tme.cfkey.d1,X=a b\n"
        "    stime = Fri Nov  4 11:04:12 2022\n\nJob Id: 13.pbs-01\n    job_state = Q\n"
    )
    first, second = (job_of(native_id, attributes) for native_id, attributes in jobs_of_text(told))
    assert (first.native_id, first.name, first.exit_code) == ("12.pbs-01", "cfkey", 3)
    assert first.label is not None
    assert (first.label.owner, first.label.key, first.label.digest) == ("me", "cfkey", "d1")
    assert first.started_at == 1_667_559_852 * 1_000_000
    assert (second.native_id, second.state) == ("13.pbs-01", JobState.QUEUED)


def test_jobs_that_were_listed_and_are_not_told_of_make_the_answer_incomplete():
    select, told = section("1.p\n2.p\n"), section(json.dumps({"Jobs": {"1.p": {"Job_Name": KEY, "job_state": "R"}}}))
    assert not pbs().answered({"select": select, "json": told}).complete
    gone = Section(code=153, out=told.out, err="qstat: Unknown Job Id 2.p")
    assert pbs().answered({"select": select, "json": gone}).complete


@pytest.mark.parametrize("words", [{"queue": "a b"}, {"account": "x\n#PBS -q y"}, {"walltime": "1"}, {"-q": "x"},
                                   {"filesystems": "'"}, {"select": "1;id"}])  # fmt: skip
def test_words_that_would_be_more_than_an_option_are_refused(words):
    with pytest.raises(RequestRefused):
        job_script(JobSpec(key=KEY, digest="d", directory="d", entry="e", submit=words), root="/r", owner="me")


def test_whole_nodes_and_own_chunks_are_asked_for_as_told():
    def script(**more: Any) -> str:
        return job_script(JobSpec(key=KEY, digest="d", directory="d", entry="e", **more), root="/r", owner="")

    assert "#PBS -l place=scatter:excl\n" in script(resources=Resources(nodes=2, exclusive=True))
    own = script(submit={"select": "2:system=polaris", "place": "pack"})
    assert "#PBS -l select=2:system=polaris\n" in own
    assert "#PBS -l place=pack\n" in own
    assert own.count("select=") == own.count("place=") == 1


def test_a_key_that_pbs_would_cut_is_refused():
    with pytest.raises(RequestRefused, match="15"):
        job_script(JobSpec(key=f"{KEY}x", digest="d", directory="d", entry="e"), root="/r", owner="me")


# -- replies and transports ------------------------------------------------------------------------------------


def test_a_reply_is_taken_apart_and_noise_around_it_left_out():
    told = "Welcome\n\ncrossfade n out a\nline\n\ncrossfade n err a 3\nwords\ncrossfade n end\nbye"
    assert sections(told, "n", "s") == {"a": Section(code=3, out="line\n", err="words")}


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ("", SiteUnreachable),
        ("<html>502</html>", SiteUnreachable),
        ("\ncrossfade n out a\nline", SiteUnreachable),
        ("\ncrossfade other out a\n\ncrossfade other end\n", SiteUnreachable),
        ("\ncrossfade n err a 3\nwords\ncrossfade n end\n", BadReply),
        ("\ncrossfade n out a\n\ncrossfade n err b 0\n\ncrossfade n end\n", BadReply),
        ("\ncrossfade n out a\n\ncrossfade n err a x\n\ncrossfade n end\n", BadReply),
    ],
)
def test_a_reply_that_is_cut_or_in_disorder_is_none(told, error):
    with pytest.raises(error):
        sections(told, "n", "s")


def test_a_command_that_does_not_end_is_ended_with_all_its_children(tmp_path):
    script = f"sleep 600 & echo $! >{tmp_path}/pid; wait"
    with pytest.raises(SiteUnreachable, match="in time") as caught:
        LocalTransport(site="s").run(script, b"", deadline=0.5)
    assert caught.value.effect_possible
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while _lives(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_command_that_leaves_something_behind_does_not_hold_the_reply(tmp_path):
    begun = time.monotonic()
    script = f"sleep 600 & echo $! >{tmp_path}/pid; echo told"
    assert LocalTransport(site="s").run(script, b"", deadline=30) == b"told\n"
    os.kill(int((tmp_path / "pid").read_text()), 9)
    assert time.monotonic() - begun < 20


def test_much_goes_in_and_out_and_too_much_does_not():
    transport, much = LocalTransport(site="s"), os.urandom(1 << 20)
    assert transport.run("cat", much, deadline=30) == much
    assert transport.run("echo ready", much, deadline=30) == b"ready\n"  # who does not read it, does not
    with pytest.raises(BadReply, match="larger"):
        transport.run("head -c 80000000 /dev/zero", b"", deadline=30)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def fake_ssh(tmp_path):
    """An ssh that says these words and ends with 255."""

    def make(words: str, code: int = 255) -> OpenSshTransport:
        (tmp_path / "words").write_text(words)
        program = tmp_path / "ssh"
        program.write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/argv\ncat {tmp_path}/words >&2\nexit {code}\n')
        program.chmod(0o755)
        options = {"host": "there", "ssh": str(program), "control": str(tmp_path / "c")}
        return OpenSshTransport(site="s", options=CommandOptions.read("s", options))

    return make


@pytest.mark.parametrize(
    ("words", "error", "possible"),
    [
        ("ann@there: Permission denied (publickey,keyboard-interactive).", CredentialError, False),
        ("Host key verification failed.", CredentialError, False),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @", CredentialError, False),
        ("ssh: Could not resolve hostname there: Name or service not known", SiteUnreachable, False),
        ("ssh: connect to host there port 22: Connection timed out", SiteUnreachable, False),
        ("Connection closed by 10.0.0.1 port 22", SiteUnreachable, False),
        ("kex_exchange_identification: read: Connection reset by peer", SiteUnreachable, False),
        ("client_loop: send disconnect: Broken pipe", SiteUnreachable, True),
        ("Timeout, server there not responding.", SiteUnreachable, True),
        ("", SiteUnreachable, True),
    ],
)
def test_what_ssh_says_tells_whether_anything_was_done(fake_ssh, words, error, possible):
    with pytest.raises(SiteError) as caught:
        fake_ssh(words).run("true", b"", deadline=10)
    assert type(caught.value) is error
    assert caught.value.effect_possible is possible


def test_ssh_never_asks_and_gets_the_script_as_one_word_of_plain_letters(fake_ssh, tmp_path):
    fake_ssh("", code=0).run("echo '$(id)'; rm -rf \"$HOME\"", b"", deadline=10)
    argv = (tmp_path / "argv").read_text()
    for setting in ("BatchMode=yes", "ControlMaster=auto", "ServerAliveInterval=5", "ForwardAgent=no"):
        assert f"-o {setting}" in argv
    assert "-- there exec /bin/sh -c 'eval" in argv
    assert "$HOME" not in argv
    assert "id)" not in argv


def test_a_folder_for_connections_that_others_may_use_is_refused(fake_ssh, tmp_path):
    transport = fake_ssh("")
    (tmp_path / "c").mkdir(mode=0o777)
    (tmp_path / "c").chmod(0o777)
    with pytest.raises(CredentialError, match="chmod 700"):
        transport.run("true", b"", deadline=10)


@pytest.mark.parametrize(
    "options",
    [
        {"host": "-oProxyCommand=id"},
        {"host": "a b"},
        {"host": 3},
        {"scheduler": "lsf"},
        {"path": ["relative"]},
        {"path": ["/a:/b"]},
        {"environment": {"A B": "c"}},
        {"environment": {"A": 3}},
        {"environment": ["A"]},
        {"persist": "soon"},
        {"deadline": 0},
        {"deadline": True},
        {"singleton": "yes"},
        {"unheard": 1},
    ],
)
def test_an_option_that_makes_no_sense_is_named(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        CommandOptions.read("s", options)


def test_options_are_read_as_people_write_them():
    read = CommandOptions.read("s", {"persist": "2h", "deadline": 1.5, "accounting": True, "path": "/opt/slurm/bin"})
    assert (read.persist, read.deadline, read.accounting, read.path) == (7200, 1.5, "on", ("/opt/slurm/bin",))


def test_a_machine_that_is_reached_over_ssh_is_never_taken_for_this_one() -> None:
    """Its entry may leave the host out; a folder of its name made here would look like a site that works."""
    assert CommandOptions.read("frontier", {"over": "ssh"}).host == "frontier"
    assert CommandOptions.read("frontier", {"over": "ssh", "host": "login.x"}).host == "login.x"
    assert CommandOptions.read("here", {}).host == ""
