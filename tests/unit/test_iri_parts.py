"""Parts of the IRI connector that need no site: credentials, the script, the words of jobs, options."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from iri_kit import TOKEN, VARIABLE, Rehearsal, simulated_job

from broker.clock import VirtualClock
from connectors.errors import CredentialError, RequestRefused
from connectors.http import Http
from connectors.iri.auth import credential, expiry_of
from connectors.iri.body import body_of, label_text, script_of
from connectors.iri.jobs import job_of
from connectors.iri.marks import FOLDER, short_id
from connectors.iri.quirks import Quirks, quirks_of
from connectors.model import JobSpec, JobState, Resources
from connectors.names import label_of

HOUR = 3600 * 1_000_000


def jwt(claims: object) -> str:
    parts = [{"alg": "RS256"}, claims]
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*coded, "c2lnbmF0dXJl"])


# -- credentials -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "end"),
    [
        (jwt({"exp": 1_800_000_000}), 1_800_000_000 * 1_000_000),
        (jwt({"exp": 1_800_000_000.5}), 1_800_000_000_500_000),
        (jwt({"exp": True}), None),
        (jwt({"exp": "soon"}), None),
        (jwt({"exp": 10**30}), None),
        (jwt([1]), None),
        ("opaque-token", None),
        ("a.b.c", None),
        ("a.%%%.c", None),
        (".".join(["a", "x" * 100_000, "c"]), None),
    ],
)
def test_a_tokens_end_is_read_where_it_says_one(token: str, end: int | None) -> None:
    assert expiry_of(token) == end


def test_a_token_that_ends_is_told_with_its_end_and_an_ended_one_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Rehearsal(tmp_path, "reference")
    end = (there.clock() + HOUR) // 1_000_000 * 1_000_000
    monkeypatch.setenv(VARIABLE, jwt({"exp": end // 1_000_000}))
    site = there.site()
    (found,) = [item for item in site.probe() if item.capability == "credentials"]
    assert (found.ok, found.until) == (True, end)
    there.clock.advance(3601)
    (found,) = [item for item in site.probe() if item.capability == "credentials"]
    assert (found.ok, found.until) == (False, end)
    assert [item.ok for item in site.check() if item.step == "expiry"] == [False]
    there.close()


def test_an_opaque_tokens_end_is_told_by_the_site_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Rehearsal(tmp_path, "reference")
    monkeypatch.setenv(VARIABLE, TOKEN)
    site = there.site(options={"token_expires": "2030-01-01T00:00:00Z"})
    (found,) = [item for item in site.probe() if item.capability == "credentials"]
    assert found.until == 1_893_456_000 * 1_000_000
    there.close()


def test_a_refresh_token_fetches_access_tokens_and_renews_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRI_REFRESH", "refresh-secret-1")
    monkeypatch.setenv("IRI_CLIENT", "client-1")
    clock, asked = VirtualClock(), []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.content.decode())
        return httpx.Response(200, json={"access_token": f"access-token-{len(asked)}", "expires_in": 1000})

    door = Http("https://auth.test/token", site="there", transport=httpx.MockTransport(answer))
    given = {"client_id": "env:IRI_CLIENT", "refresh_token": "env:IRI_REFRESH"}
    who = credential(given, site="there", clock=clock, http=lambda _: door)
    assert who.headers() == {"Authorization": "Bearer access-token-1"}
    assert "refresh_token=refresh-secret-1" in asked[0]
    assert who.expires_at() is None
    clock.advance(801)
    assert who.headers() == {"Authorization": "Bearer access-token-2"}
    door.close()


def test_no_credential_at_all_is_said_at_once() -> None:
    with pytest.raises(CredentialError, match="refresh_token"):
        credential({}, site="there", clock=VirtualClock(), http=lambda url: Http(url, site="there"))


# -- the script and the body ---------------------------------------------------------------------------------------


def spec(**more: object) -> JobSpec:
    return replace(simulated_job("cf0123456789abc"), **more)  # type: ignore[arg-type]


def test_the_first_line_of_the_script_is_our_label() -> None:
    body = body_of(spec(), Quirks(), root="/root", owner="home")
    label = label_of(label_text(body))
    assert label is not None
    assert (label.owner, label.key) == ("home", "cf0123456789abc")
    assert label.matches(spec())


def run(script: str, folder: Path, **env: str) -> list[str]:
    subprocess.run(["/bin/sh", "-c", script], env={"PATH": "/usr/bin:/bin", **env}, check=False, cwd=folder)
    return sorted(path.name for path in (folder / FOLDER).glob("*"))


@pytest.mark.parametrize(
    ("native_id", "marks"),
    [
        ("4711.polaris-pbs-01", ["cf0123456789abc.d1.home.4711.polaris-pbs-01"]),
        ("", []),
        ("../../etc", []),
        (".hidden", []),
        ("1;touch x", []),
    ],
)
def test_a_job_marks_itself_with_an_id_that_is_one(tmp_path: Path, native_id: str, marks: list[str]) -> None:
    root = tmp_path / "a root with 'quotes'"
    folder = root / "runs" / "cf0123456789abc" / ".crossfade"
    folder.mkdir(parents=True)
    (folder / "stage.sh").write_text("echo it ran\n")
    script = script_of(spec(), Quirks(job_id_variable="PBS_JOBID"), root=str(root), owner="home", umask="027")
    assert run(script, root, PBS_JOBID=native_id) == marks
    assert (folder / "wrapper.log").read_text() == "it ran\n"


def test_only_what_a_site_takes_is_sent() -> None:
    needs = Resources(nodes=2, cores=16, gpus=4, ranks_per_node=4, memory=1 << 30, exclusive=True, walltime=59.5)
    wanted = spec(resources=needs, submit={"queue": "prod", "reservation": "R1", "filesystems": "home"})
    whole = body_of(wanted, Quirks(), root="/root", owner="", account="A")
    assert whole["resources"] == {
        "node_count": 2,
        "processes_per_node": 4,
        "cpu_cores_per_process": 4,
        "gpu_cores_per_process": 1,
        "memory": 1 << 30,
        "exclusive_node_use": True,
    }
    assert whole["attributes"] == {
        "duration": 60,
        "account": "A",
        "queue_name": "prod",
        "reservation_id": "R1",
        "custom_attributes": {"filesystems": "home"},
    }
    few = Quirks(refuses=frozenset({*whole["resources"], "reservation_id"} - {"node_count"}))
    less = body_of(wanted, few, root="/root", owner="", account="A")
    assert less["resources"] == {"node_count": 2}
    assert less["attributes"]["queue_name"] == "R1", "where there are no reservations, they are queues"


@pytest.mark.parametrize("umask", ["9", "0022; x", "abc"])
def test_a_umask_that_is_none_is_refused(umask: str) -> None:
    with pytest.raises(RequestRefused):
        script_of(spec(), Quirks(), root="/root", owner="", umask=umask)


# -- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"state": "new"}, JobState.QUEUED),
        ({"state": "queued"}, JobState.QUEUED),
        ({"state": "held"}, JobState.HELD),
        ({"state": "active"}, JobState.RUNNING),
        ({"state": "completed"}, JobState.SUCCEEDED),
        ({"state": "completed", "exit_code": 0}, JobState.SUCCEEDED),
        ({"state": "completed", "exit_code": 1}, JobState.FAILED),
        ({"state": "completed", "exit_code": -3}, JobState.FAILED),
        ({"state": "failed", "exit_code": 1}, JobState.FAILED),
        ({"state": "failed", "meta_data": {"state": "TIMEOUT"}}, JobState.TIMED_OUT),
        ({"state": "failed", "meta_data": {"job_state": ["NODE_FAIL"]}}, JobState.NODE_FAILED),
        ({"state": "failed", "message": "slurm says OUT_OF_MEMORY"}, JobState.OUT_OF_MEMORY),
        ({"state": "canceled"}, JobState.CANCELED),
        ({"state": "canceled", "meta_data": {"state": "CANCELLED by 1000"}}, JobState.CANCELED),
        ({"state": "canceled", "meta_data": {"state": "PREEMPTED"}}, JobState.PREEMPTED),
        ({"state": "failed", "message": "deleted at request of Scheduler"}, JobState.PREEMPTED),
        ({"state": "failed", "meta_data": {"state": "COMPLETED"}}, JobState.FAILED),
        ({"state": "hibernated"}, JobState.UNKNOWN),
        ({}, JobState.UNKNOWN),
    ],
)
def test_every_word_has_a_meaning_or_none(status: object, state: JobState) -> None:
    job = job_of({"id": "1", "status": status})
    assert job is not None
    assert job.state is state


@pytest.mark.parametrize(
    ("message", "stuck"),
    [
        ("Priority", ""),
        ("QOSMaxWallDurationPerJobLimit", "QOSMaxWallDurationPerJobLimit"),
        ("Not Running: insufficient ncpus", ""),
        ("Can Never Run: eagle_fs (True != False)", "Can Never Run: eagle_fs (True != False)"),
        ("job held, too many failed attempts to run", "job held, too many failed attempts to run"),
    ],
)
def test_a_reason_that_time_will_not_cure_is_told(message: str, stuck: str) -> None:
    job = job_of({"id": "1", "status": {"state": "queued", "message": message}})
    assert job is not None
    assert job.status("key").stuck_reason == stuck


@pytest.mark.parametrize("record", [None, [], {}, {"id": None}, {"id": True}, {"id": "a b"}, {"id": "x" * 999}])
def test_what_has_no_id_is_no_job(record: object) -> None:
    assert job_of(record) is None


@pytest.mark.parametrize(
    ("told", "short"), [("4711", "4711"), ("4711.pbs-01", "4711"), ("4711_pbs", "4711"), ("a.b", "a.b")]
)
def test_ids_of_one_job_are_compared_in_short(told: str, short: str) -> None:
    assert short_id(told) == short


def test_quirks_are_read_by_their_names() -> None:
    told = quirks_of("there", {"names": False, "refuses": ["memory"], "url": "else"}, job_id_variable="PBS_JOBID")
    assert told == Quirks(names=False, refuses=frozenset({"memory"}), job_id_variable="PBS_JOBID")
    assert not told.by_name
    with pytest.raises(ValueError, match="job_id_variable"):
        quirks_of("there", {}, job_id_variable="a b")
