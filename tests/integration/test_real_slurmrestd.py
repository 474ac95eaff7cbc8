"""The connector against a real slurmrestd of Slurm 22.05: with tokens over TCP, and on a socket of this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from olcf_kit import BARE_38, TOKEN, Rehearsal
from slurm_kit import SlurmCluster, wait_until
from slurmrest_kit import RealRig, RestDaemon

from connectors.contract import ComputeContract, new_key
from connectors.errors import CredentialError, RequestRefused, SiteUnreachable
from connectors.model import Accepted, Doubtful, JobState, Refused, Resources
from connectors.olcf.request import _FIELDS
from connectors.olcf.reservations import reservations
from sandbox.faces.slurmrest.orders import _PLAIN

WITHIN = 30.0


@pytest.fixture(scope="module")
def daemon(slurm_cluster: SlurmCluster) -> Iterator[RestDaemon]:
    with RestDaemon(slurm_cluster) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def socket_daemon(slurm_cluster: SlurmCluster) -> Iterator[RestDaemon]:
    with RestDaemon(slurm_cluster, unix=True) as daemon:
        yield daemon


@pytest.fixture
def rig_of(tmp_path: Path) -> Iterator[Callable[..., RealRig]]:
    made: list[RealRig] = []

    def make(daemon: RestDaemon, **more: str) -> RealRig:
        made.append(RealRig(daemon, tmp_path, **more))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(daemon: RestDaemon, rig_of: Callable[..., RealRig]) -> Iterator[RealRig]:
    yield rig_of(daemon)
    daemon.cluster.cancel_all()


class TestRealSlurmrestd(ComputeContract):
    # the spelling of paths is checked before anything is sent: the runs under virtual time show it
    test_a_job_with_an_unsafe_path_is_refused_and_leaves_nothing = None

    @pytest.fixture
    def rig(self, daemon: RestDaemon, rig_of: Callable[..., RealRig]) -> Iterator[RealRig]:
        yield rig_of(daemon)
        daemon.cluster.run("scancel", "--quiet", "--user=root", check=False)


@pytest.mark.parametrize("version", ["v0.0.36", "v0.0.37", "v0.0.38"])
def test_a_job_runs_as_it_was_asked_for_in_every_version(
    daemon: RestDaemon, rig_of: Callable[..., RealRig], version: str
) -> None:
    rig = rig_of(daemon, version=version)
    site, key = rig.connect(), new_key()
    needs = Resources(nodes=2, cores=4, ranks_per_node=2, memory=64 << 20, walltime=601.0)
    spec = rig.job(key, seconds=20, resources=needs, submit={"queue": "realtime", "nice": "3"})
    assert isinstance(site.submit([spec])[key], Accepted)
    wait_until(lambda: rig.cluster.job(key)["job_state"] == "RUNNING", within=WITHIN)
    job = rig.cluster.job(key)
    assert (job["node_count"], job["tasks"], job["tasks_per_node"], job["cpus"]) == (2, 4, 2, 8)
    assert (job["partition"], job["time_limit"], job["memory_per_node"], job["dependency"]) == ("realtime", 11, 64, "")
    assert job["comment"].startswith(f"crossfade here {key} d1")
    assert site.cancel([key]) in ({key: True}, {key: False})
    wait_until(lambda: site.cancel([key])[key], within=WITHIN)


def test_a_socket_of_this_machine_needs_no_token(socket_daemon: RestDaemon, rig_of: Callable[..., RealRig]) -> None:
    rig = rig_of(socket_daemon)
    site, key = rig.connect(), new_key()
    assert isinstance(site.submit([rig.job(key, exit_code=7)])[key], Accepted)
    wait_until(lambda: site.status([key]).items[0].state is JobState.FAILED, within=WITHIN)
    assert site.status([key]).items[0].exit_code == 7
    assert all(one.ok for one in site.probe())
    assert "TOKEN" not in site.script(rig.job(key)).request


def test_every_field_that_is_sent_is_one_that_slurmrestd_knows(daemon: RestDaemon) -> None:
    headers = {"X-SLURM-USER-NAME": "root", "X-SLURM-USER-TOKEN": daemon.cluster.token()}
    known = json.loads(httpx.get(f"{daemon.address}/openapi/v3", headers=headers).content)
    fields = set(known["components"]["schemas"]["v0.0.38_job_properties"]["properties"])
    assert {field for _, field, _ in _FIELDS.values() if field} <= fields
    assert fields == _PLAIN, "the face's list of fields has drifted"


def test_a_job_that_can_never_run_is_accepted_and_says_so(rig: RealRig) -> None:
    site, key = rig.connect(), new_key()
    answer = site.submit([rig.job(key, resources=Resources(walltime=3600.0), submit={"queue": "short"})])[key]
    assert isinstance(answer, Accepted), "Slurm took it: the error beside its number is no refusal"
    status = site.status([key]).items[0]
    assert status.state is JobState.QUEUED
    assert status.stuck_reason in {"PartitionTimeLimit", "PartitionConfig"}


@pytest.mark.fault("F28")
def test_what_slurm_refuses_is_refused_and_starts_nothing(rig: RealRig) -> None:
    site, queue, held = rig.connect(), new_key(), new_key()
    answers = site.submit(
        [rig.job(queue, submit={"queue": "nowhere"}), rig.job(held, submit={"reservation": "nothing"})]
    )
    assert answers[queue] == Refused(reason="Invalid partition name specified")
    assert answers[held] == Refused(reason="Requested reservation is invalid")
    assert not site.find([queue, held]).items


def test_an_unknown_job_is_no_outage(rig: RealRig) -> None:
    site = rig.connect()
    api = site._api
    assert api.end_job("99999") is None
    with pytest.raises(RequestRefused, match="Invalid job id"):
        api.read("job/99999")
    assert site.cancel([new_key()]).popitem()[1]


def test_a_token_that_slurm_does_not_take_is_a_credentials_fault(rig: RealRig) -> None:
    site, key = rig.connect(), new_key()
    good = rig.token_file.read_text().strip()
    site.submit([rig.job(key, seconds=60)])
    for token in (good[:-6] + "AAAAAA", "not.a.token"):
        rig.put_token(token)
        for verb in (lambda: site.status([key]), lambda: site.cancel([key]), lambda: site.submit([rig.job(new_key())])):
            with pytest.raises(CredentialError) as caught:
                verb()
            assert token not in str(caught.value)
        told = {one.capability: one.ok for one in site.probe()}
        assert told["credentials"] is False
        assert "status" not in told, "a refused token says nothing of the controller"
    rig.put_token(good)
    assert site.status([key]).items


@pytest.mark.fault("F30")
def test_a_token_that_has_ended_is_known_as_such(rig: RealRig) -> None:
    site = rig.connect()
    rig.put_token(rig.cluster.token(1))
    wait_until(lambda: _is_refused(lambda: site.status([new_key()])), within=WITHIN)
    assert {one.capability for one in site.probe() if not one.ok} == {"credentials"}
    findings = {one.step: one for one in site.check()}
    assert findings["expiry"].ok is False
    assert "scontrol token" in findings["credentials"].help


def _is_refused(verb: Callable[[], object]) -> bool:
    try:
        verb()
    except CredentialError:
        return True
    return False


def test_no_token_is_a_credentials_fault(rig: RealRig) -> None:
    answer = httpx.get(f"{rig.daemon.address}/slurm/v0.0.38/ping")
    assert answer.status_code == 401
    with pytest.raises(CredentialError):
        rig.connect(auth="bearer").status([new_key()])


def test_a_version_that_is_not_offered_is_told(rig: RealRig) -> None:
    with pytest.raises(RequestRefused, match="404"):
        rig.connect(version="v0.0.44").status([new_key()])


@pytest.mark.fault("F43")
def test_a_requeued_job_is_seen_by_its_restart_count(rig: RealRig) -> None:
    site, key = rig.connect(), new_key()
    site.submit([rig.job(key, seconds=60)])
    wait_until(lambda: site.status([key]).items[0].state is JobState.RUNNING, within=WITHIN)
    rig.cluster.run("scontrol", "requeue", site.status([key]).items[0].native_id)
    wait_until(lambda: site.status([key]).items[0].state is JobState.QUEUED, within=WITHIN)
    assert site.status([key]).items[0].restarts == 1


def test_a_copy_that_slipped_in_waits_for_the_first(rig: RealRig) -> None:
    site, key = rig.connect(), new_key()
    site.submit([rig.job(key, seconds=60)])
    body = site._submitting._body(rig.job(key, seconds=60))
    site._api.submit(body)
    wait_until(lambda: any(one.state is JobState.RUNNING for one in site.find([key]).items), within=WITHIN)
    assert sorted(one.native_state for one in site.find([key]).items) == ["PENDING", "RUNNING"]
    assert rig.executions(key) <= 1


def test_reservations_are_read(rig: RealRig) -> None:
    cluster = rig.cluster
    words = ["reservationname=beam", "starttime=now", "duration=10", "users=root", "flags=ignore_jobs"]
    cluster.run("scontrol", "create", "reservation", *words, f"nodes={cluster.nodes[0]}")
    try:
        (found,) = reservations(rig.connect()._api)
    finally:
        cluster.run("scontrol", "delete", "reservationname=beam")
    assert (found.name, found.nodes, found.users) == ("beam", 1, "root")
    assert found.start is not None
    assert found.end == found.start + 600_000_000


def test_the_check_goes_through_with_a_canary(rig: RealRig) -> None:
    findings = rig.connect().check(canary=True)
    steps = [one.step for one in findings]
    assert steps[:2] == ["credentials", "expiry"]
    assert [one for one in findings if one.ok is False] == []
    (canary,) = (one for one in findings if one.step == "canary")
    assert canary.ok
    assert "COMPLETED" in canary.detail


class Freezing(httpx.BaseTransport):
    """Does something to the cluster just before a submission reaches slurmrestd."""

    def __init__(self, inner: httpx.BaseTransport, strike: Callable[[], object]) -> None:
        self._inner, self._strike = inner, strike

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self._strike()
        return self._inner.handle_request(request)


@pytest.mark.fault("F43")
def test_a_controller_that_is_away_is_an_outage_and_a_silent_one_leaves_a_doubt(
    make_slurm: Callable[..., SlurmCluster], rig_of: Callable[..., RealRig]
) -> None:
    cluster = make_slurm("doomed", nodes=1)
    with RestDaemon(cluster) as daemon:
        rig = rig_of(daemon)
        site, key = rig.connect(), new_key()
        inner = rig.wire._inner
        rig.wire._inner = Freezing(inner, cluster.freeze)
        answer = site.submit([rig.job(key, seconds=600)])[key]
        assert isinstance(answer, Doubtful), answer
        assert "timed out" in answer.reason
        rig.wire._inner = inner
        cluster.thaw()
        wait_until(lambda: bool(site.find([key]).items), within=WITHIN)  # it took the job when it woke
        again = site.submit([rig.job(key, seconds=600)])[key]
        assert isinstance(again, Accepted)
        assert again.adopted
        cluster.wait_saved()
        cluster.kill_controller()
        with pytest.raises(SiteUnreachable):
            site.status([key])
        cluster.start_controller()
        wait_until(lambda: site.status([key]).items[0].state is JobState.RUNNING, within=WITHIN)
        assert rig.executions(key) == 1
        assert len(site.find([key]).items) == 1


class Both:
    """The same question to the real slurmrestd and to the rehearsal's face."""

    def __init__(self, daemon: RestDaemon, folder: Path) -> None:
        self._real = {"X-SLURM-USER-NAME": "root", "X-SLURM-USER-TOKEN": daemon.cluster.token()}
        self._face = {"X-SLURM-USER-NAME": "user", "X-SLURM-USER-TOKEN": TOKEN}
        self.real = httpx.Client(base_url=daemon.address, headers=self._real)
        self.rehearsal = Rehearsal(folder, flavor=BARE_38)
        self.face = httpx.Client(base_url="http://face", headers=self._face, transport=self.rehearsal.wire)

    def ask(self, method: str, path: str, **more: Any) -> tuple[httpx.Response, httpx.Response]:
        return tuple(client.request(method, path, **more) for client in (self.real, self.face))  # type: ignore[return-value]

    def close(self) -> None:
        self.real.close()
        self.face.close()


@pytest.fixture
def both(daemon: RestDaemon, tmp_path: Path) -> Iterator[Both]:
    both = Both(daemon, tmp_path)
    yield both
    both.close()
    daemon.cluster.cancel_all()


BODY = {
    "job": {
        "name": "twin",
        "comment": "c",
        "current_working_directory": "/tmp",
        "environment": {"PATH": "/usr/bin:/bin"},
    },
    "script": "#!/bin/sh\nsleep 600\n",
}


def changed(**fields: Any) -> dict[str, Any]:
    return {**BODY, "job": {name: value for name, value in {**BODY["job"], **fields}.items() if value is not ...}}  # type: ignore[dict-item]


def test_the_face_tells_what_the_real_one_tells_field_by_field(both: Both) -> None:
    # held: a job that waits, however quick the real scheduler is
    held = [reply.json() for reply in both.ask("POST", "/slurm/v0.0.38/job/submit", json=changed(hold=True))]
    assert [reply["step_id"] for reply in held] == ["BATCH", "BATCH"]
    both.rehearsal.clock.advance(2)
    for what, name in {
        "ping": "pings",
        "jobs": "jobs",
        "nodes": "nodes",
        "partitions": "partitions",
        "diag": "statistics",
    }.items():
        real, face = (reply.json() for reply in both.ask("GET", f"/slurm/v0.0.38/{what}"))
        assert set(real) == set(face)
        assert real["meta"] == face["meta"]
        if what == "jobs":  # the real one remembers those of other tests too
            (one,), (other,) = (
                [job for job in told[name] if job["job_id"] == reply["job_id"]]
                for told, reply in zip((real, face), held, strict=True)
            )
        else:
            one, other = (told[name][0] if isinstance(told[name], list) else told[name] for told in (real, face))
        assert set(one) == set(other), what
        kinds = {key: (one[key], other[key]) for key in one if None not in (one[key], other[key])}
        odd = {key: pair for key, pair in kinds.items() if type(pair[0]) is not type(pair[1])}
        assert odd == {}, what


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/slurm/v0.0.38/job/99999", None),
        ("DELETE", "/slurm/v0.0.38/job/99999", None),
        ("POST", "/slurm/v0.0.38/job/submit", changed(partition="nowhere")),
        ("POST", "/slurm/v0.0.38/job/submit", changed(reservation="nothing")),
        ("POST", "/slurm/v0.0.38/job/submit", changed(environment=...)),
        ("POST", "/slurm/v0.0.38/job/submit", changed(environment=["PATH=/bin"])),
        ("POST", "/slurm/v0.0.38/job/submit", changed(colour="red")),
        ("GET", "/slurm/v0.0.38/colours", None),
        ("GET", "/slurm/v0.0.40/jobs", None),
        ("PUT", "/slurm/v0.0.38/jobs", None),
    ],
)
def test_the_face_refuses_as_the_real_one_does(both: Both, method: str, path: str, body: object) -> None:
    real, face = both.ask(method, path, **({} if body is None else {"json": body}))
    assert real.status_code == face.status_code
    assert real.headers["content-type"] == face.headers["content-type"]
    if real.headers["content-type"] == "text/plain":
        assert real.text.strip() == face.text.strip()
        return
    first, second = ({_number(one) for one in reply.json()["errors"]} - {-1, 9001} for reply in (real, face))
    assert first == second


def test_the_face_minds_tokens_as_the_real_one_does(both: Both) -> None:
    for client in (both.real, both.face):
        client.headers["X-SLURM-USER-TOKEN"] = "not.a.token"
    for method, path in (("GET", "jobs"), ("GET", "ping"), ("DELETE", "job/7"), ("POST", "job/submit")):
        more = {"json": BODY} if method == "POST" else {}
        real, face = both.ask(method, f"/slurm/v0.0.38/{path}", **more)
        assert (real.status_code, _number(real.json()["errors"][0])) == (
            face.status_code,
            _number(face.json()["errors"][0]),
        )
    for client in (both.real, both.face):
        del client.headers["X-SLURM-USER-TOKEN"]
    real, face = both.ask("GET", "/slurm/v0.0.38/jobs")
    assert (real.status_code, real.text.strip()) == (face.status_code, face.text.strip())


def _number(error: dict[str, Any]) -> int:
    return int(error.get("error_number", error.get("error_code", -1)))
