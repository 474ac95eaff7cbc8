"""The NERSC connector's parts by themselves: rows, options, scripts on login nodes, and what its face answers."""

from __future__ import annotations

import gzip
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from nersc_kit import ADDRESS, Rehearsal, simulated_job

from connectors.errors import RequestRefused, SiteUnreachable
from connectors.model import JobState
from connectors.nersc import NerscOptions, make
from connectors.nersc.jobs import job_of, jobs_of, merged, moment, ours
from connectors.nersc.shell import LONGEST, LoginShell
from connectors.slurm.words import STATES
from sandbox.faces.http import Request
from sandbox.faces.superfacility import BASE

ZONE = ZoneInfo("America/Los_Angeles")
QUEUE = {
    "jobid": "51", "name": "cfabc", "state": "RUNNING", "st": "R", "reason": "None", "user": "ada",
    "comment": "crossfade here cfabc d1", "submit_time": "2026-07-01T08:00:00", "start_time": "2026-07-01T08:05:00",
    "end_time": "2026-07-01T09:05:00",
}  # fmt: skip
BOOKS = {
    "jobid": "51", "jobname": "cfabc", "state": "CANCELLED by 1000", "exitcode": "0:15", "reason": "None",
    "restarts": "2", "comment": "", "submit": "2026-07-01T08:00:00", "start": "2026-07-01T08:05:00",
    "end": "2026-07-01T08:06:00",
}  # fmt: skip


def test_a_row_of_the_queue_is_a_job() -> None:
    job = job_of(QUEUE, ZONE)
    assert job is not None
    assert (job.native_id, job.name, job.state, job.reason) == ("51", "cfabc", JobState.RUNNING, "")
    assert (job.started_at, job.ended_at) == (1_782_918_300_000_000, None)
    assert ours(job, "here")
    assert not ours(job, "there")


def test_a_row_of_the_accounting_tells_the_end() -> None:
    job = job_of(BOOKS, ZONE)
    assert job is not None
    assert (job.state, job.exit_code, job.signal, job.restarts) == (JobState.CANCELED, 0, 15, 2)
    assert (job.ended_at or 0) - (job.started_at or 0) == 60_000_000


@pytest.mark.parametrize("jobid", ["51.batch", "51.extern", "51.0", "51_3", "", "x", "-1", "5" * 30, None, [], {}])
def test_steps_members_of_arrays_and_nonsense_are_no_jobs(jobid: object) -> None:
    assert job_of({**BOOKS, "jobid": jobid}, ZONE) is None


@pytest.mark.parametrize("word", sorted(STATES))
def test_every_word_of_slurm_is_classified(word: str) -> None:
    job = job_of({**QUEUE, "state": word}, ZONE)
    assert job is not None
    assert job.state is STATES[word]


@pytest.mark.parametrize("value", [7, None, [], {}, "x" * 10_000, "\n", "\ud800"])
@pytest.mark.parametrize("name", sorted(QUEUE.keys() | BOOKS.keys()))
def test_a_field_that_is_nonsense_does_no_harm(name: str, value: object) -> None:
    for row in (QUEUE, BOOKS):
        jobs = jobs_of([{**row, name: value}], ZONE)
        for found in merged(jobs, jobs).values():
            assert all(job.status("cfabc").native_id.isdecimal() for job in found)


def test_the_queue_and_the_accounting_make_one_job() -> None:
    both = merged(jobs_of([QUEUE], ZONE), jobs_of([BOOKS], ZONE))
    [job] = both["cfabc"]
    assert (job.state, job.restarts, job.comment) == (JobState.RUNNING, 2, "crossfade here cfabc d1")


def test_two_jobs_under_one_name_are_two_the_oldest_first() -> None:
    rows = [{**QUEUE, "jobid": number} for number in ("52", "9", "51")]
    assert [job.native_id for job in merged(jobs_of(rows, ZONE), [])["cfabc"]] == ["9", "51", "52"]


def test_an_accounting_without_comments_still_knows_our_jobs() -> None:
    job = job_of({**BOOKS, "comment": ""}, ZONE)
    assert job is not None
    assert ours(job, "here")
    other = job_of({**BOOKS, "comment": "somebody's job"}, ZONE)
    assert other is not None
    assert not ours(other, "here")


@pytest.mark.parametrize("text", ["", "Unknown", "None", "N/A", "2026-13-01T00:00:00", "9999999"])
def test_a_time_that_is_none_is_none(text: str) -> None:
    assert moment(text, ZONE) is None


# -- options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("bass", "x"),
        ("base", "ftp://x"),
        ("base", "https://user:word@api.test"),
        ("token_url", 7),
        ("machine", "perl/mutter"),
        ("user", "a b"),
        ("watch", "global_homes"),
        ("watch", ["a/b"]),
        ("lookup", "id"),
        ("files", "globus"),
        ("history", 0),
        ("deadline", True),
        ("task_seconds", 1e9),
        ("timezone", "Mars/Base"),
        ("mount", "relative"),
    ],
)
def test_an_option_that_is_wrong_is_named(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=option):
        NerscOptions.read("nersc", {option: value})


@pytest.mark.parametrize("root", ["relative", ""])
def test_a_root_must_be_absolute(tmp_path: Path, root: str) -> None:
    with pytest.raises(ValueError, match="absolute"):
        make(Rehearsal(tmp_path).config(root=root), lambda: 0)


@pytest.mark.parametrize("root", ["/global/cfs/a b", "/global/$(id)", "/global/x;y", "/global/x\ny"])
def test_a_root_that_no_command_could_name_is_refused(tmp_path: Path, root: str) -> None:
    with pytest.raises(RequestRefused):
        make(Rehearsal(tmp_path).config(root=root), lambda: 0)


def test_files_may_be_a_mount(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    rehearsal = Rehearsal(tmp_path / "there")
    site = rehearsal.site(options={"files": "mounted", "mount": str(mount)})
    site.prepare()
    site.write("a/b", b"words")
    assert (mount / "a" / "b").read_bytes() == b"words"
    with pytest.raises(ValueError, match="mount"):
        rehearsal.site(options={"files": "mounted"})


# -- scripts on a login node ---------------------------------------------------------------------------------


class Machine:
    """Runs commands as an API might: through a shell, or split into words without one."""

    site = "nersc"

    def __init__(self, way: str, *, noise: str = "") -> None:
        self.way, self.noise = way, noise
        self.commands: list[str] = []
        self.uploads: dict[str, bytes] = {}

    def command(self, executable: str) -> str:
        self.commands.append(executable)
        argv = shlex.split(executable) if self.way == "split" else [self.way, "-c", executable]
        done = subprocess.run(argv, capture_output=True, check=False, timeout=30, stdin=subprocess.DEVNULL)
        return self.noise + done.stdout.decode() + self.noise

    def upload(self, path: str, content: bytes) -> None:
        self.uploads[path] = content
        Path(path).write_bytes(content)


SCRIPT = """\
printf 'it'"'"'s "$HOME" !1 %s %%\\n' '`x`'
while IFS= read -r line; do printf '<%s>' "$line"; done
printf '\\000\\377'
exit 3
"""
TOLD = b'it\'s "$HOME" !1 `x` %\n<one><two  words><\\n>\x00\xff'


@pytest.mark.parametrize("way", ["/bin/sh", "/bin/bash", "split"])
@pytest.mark.parametrize("noise", ["", "Welcome to Perlmutter <CF> \n"])
def test_a_script_runs_the_same_however_the_command_is_read(tmp_path: Path, way: str, noise: str) -> None:
    machine: Any = Machine(way, noise=noise)
    assert LoginShell(machine, root=str(tmp_path)).run(SCRIPT, b"one\ntwo  words\n\\n\n") == TOLD
    assert len(machine.commands) == 1


def test_input_too_long_for_a_command_goes_as_a_file_that_is_gone_afterwards(tmp_path: Path) -> None:
    machine: Any = Machine("/bin/sh")
    import random

    noise = random.Random(7).randbytes(2 * LONGEST)
    assert LoginShell(machine, root=str(tmp_path)).run("cat", noise) == noise
    assert len(machine.commands[0]) < LONGEST
    assert [gzip.decompress(content) for content in machine.uploads.values()] == [noise]
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_did_not_run_is_no_answer(tmp_path: Path) -> None:
    machine: Any = Machine("/bin/sh")
    machine.command = lambda _: "Your password has expired\n"
    with pytest.raises(SiteUnreachable, match="password has expired"):
        LoginShell(machine, root=str(tmp_path)).run("echo", b"")


# -- the face's manners --------------------------------------------------------------------------------------


@pytest.fixture
def http(tmp_path: Path) -> Any:
    return Rehearsal(tmp_path).site()._api.http


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "nowhere", {}, 404),
        ("GET", "status/nowhere", {}, 404),
        ("GET", "tasks/999", {}, 404),
        ("GET", "compute/jobs/cori", {}, 422),
        ("POST", "compute/jobs/perlmutter", {"form": {"isPath": "false"}}, 422),
        ("POST", "compute/jobs/perlmutter", {"form": {"job": "x", "isPath": "perhaps"}}, 422),
        ("POST", "utilities/command/perlmutter", {}, 422),
        ("PUT", "utilities/upload/perlmutter/x", {}, 422),
        ("PUT", "compute/jobs/perlmutter", {}, 405),
        ("GET", "compute/jobs/perlmutter", {"params": {"sacct": "maybe"}}, 422),
    ],
)
def test_errors_have_fastapis_shape(http: Any, method: str, path: str, more: Mapping[str, Any], status: int) -> None:
    reply = http.ask(method, path, accept={404, 405, 422}, **more)
    assert reply.status == status
    detail = reply.mapping()["detail"]
    assert isinstance(detail, list) == (status == 422)
    if status == 422:
        assert set(detail[0]) == {"loc", "msg", "type"}


def test_an_option_that_slurm_does_not_have_is_an_error_in_an_envelope(http: Any) -> None:
    for sacct in ("true", "false"):
        told = http.get("compute/jobs/perlmutter", params={"sacct": sacct, "kwargs": "frob=1"}).mapping()
        assert (told["status"], "unrecognized option" in told["error"]) == ("ERROR", True)


def test_without_a_token_only_status_and_meta_answer(tmp_path: Path) -> None:
    face = Rehearsal(tmp_path).face
    for path, status in {
        "/status": 200, "/meta/changelog": 200, "/meta/config": 200, "/account/": 401, "/tasks": 401,
        "/compute/jobs/perlmutter": 401, "/storage/globus/transfer/x": 401, "/utilities/ls/perlmutter/tmp": 401,
    }.items():  # fmt: skip
        assert face.handle(Request(method="GET", path=BASE + path)).status == status, path
    assert face.handle(Request(method="GET", path="/")).status == 404


def test_a_green_client_may_read_and_not_submit(tmp_path: Path) -> None:
    from dataclasses import replace

    rehearsal = Rehearsal(tmp_path)
    keeper = rehearsal.face.doorkeeper
    keeper.clients[rehearsal.client.client_id] = replace(rehearsal.client, colour="green")
    site = rehearsal.site()
    assert site.status(["cfabc"]).complete
    [finding] = [one for one in site.check() if one.step == "files"]
    assert (finding.ok, "403" in finding.detail) == (False, True)
    assert rehearsal.facility.accepted() == {}


def test_the_accounting_begins_at_midnight_unless_asked_otherwise(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path)
    site = rehearsal.site()
    site.prepare()
    site.submit([simulated_job("cfabc", seconds=5)])
    rehearsal.clock.advance(1.5 * 86_400)
    http = site._api.http

    def rows(*kwargs: str) -> int:
        params = [("sacct", "true"), ("cached", "false"), *(("kwargs", one) for one in kwargs)]
        return len(http.get("compute/jobs/perlmutter", params=params).mapping()["output"])

    assert rows("user=user") == 0
    assert rows("user=user", "starttime=now-3days") == 3
    assert rows("user=user", "starttime=now-3days", "name=cfabc,other") == 3
    assert rows("user=user", "starttime=now-3days", "name=other") == 0
    assert rows("jobid=40001") == 3


def test_the_wire_carries_what_the_script_says(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path)
    sent: list[httpx.Request] = []

    class Spy(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            sent.append(request)
            return rehearsal.transport.handle_request(request)

    site = rehearsal.site(transport=Spy())
    site.prepare()
    job = simulated_job("cfabc", seconds=5)
    site.submit([job])
    [post] = [one for one in sent if one.method == "POST" and "/compute/jobs/" in one.url.path]
    form = dict(httpx.QueryParams(post.content.decode()))
    assert form == {"job": site.script(job).script, "isPath": "false"}
    assert site.script(job).request.startswith(f"POST {post.url}\n")
    assert str(post.url).startswith(ADDRESS)


ODD = [
    "",
    "x",
    "..",
    "%00",
    "9" * 400,
    "é",
    "a\nb",
    "0001-01-01",
    "9999-12-31T23:59:59",
    "now-999999999999weeks",
    "[]",
    "\0",
    "now+9weeks",
]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_request_is_no_failure_of_the_face(tmp_path: Path, odd: str) -> None:
    rehearsal = Rehearsal(tmp_path)
    site = rehearsal.site()
    site.prepare()
    site.submit([simulated_job("cfabc", seconds=600)])
    headers = dict(site._api.http.auth.headers())
    headers = {name.lower(): value for name, value in headers.items()}
    body = str(httpx.QueryParams({"job": odd, "isPath": "true", "executable": odd})).encode()
    kinds = ["application/x-www-form-urlencoded", f"multipart/form-data; boundary={odd}", "multipart/form-data", odd]
    for path in (
        "/compute/jobs/perlmutter", f"/compute/jobs/perlmutter/{odd}", f"/compute/jobs/{odd}", f"/tasks/{odd}",
        f"/{odd}", f"/status/{odd}", f"/status/outages/{odd}", f"/utilities/ls/perlmutter/{odd}", f"/account/{odd}",
        f"/utilities/download/perlmutter/{odd}", f"/utilities/upload/perlmutter/{odd}", "/utilities/command/perlmutter",
        f"/storage/globus/transfer/{odd}",
    ):  # fmt: skip
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"):
            for kind, name in zip(kinds, ("jobid", "name", "starttime", "endtime"), strict=True):
                query = [("kwargs", f"{name}={odd}"), ("sacct", "true"), ("cached", "false")]
                request = Request(
                    method=method,
                    path=BASE + path,
                    query=query,
                    headers={**headers, "content-type": kind},
                    body=body,
                    host=ADDRESS,
                )
                assert rehearsal.face.handle(request).status < 500, (method, path, kind)
