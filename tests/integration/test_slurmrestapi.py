"""SchedMD's own generated client, as it is, against the face of a slurmrestd: over a socket, with real processes. Its
models are strict in types and words: what they read is what a real slurmrestd of these versions would say."""

from __future__ import annotations

import json
import time
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import slurmrestapi
from olcf_kit import PLAIN_44, S3M_43, SHAPE, TOKEN, Rehearsal, simulated_job
from slurmrestapi import models
from slurmrestapi.api.slurm_api import SlurmApi
from slurmrestapi.api.slurmdb_api import SlurmdbApi
from slurmrestapi.exceptions import ApiException

from connectors.model import Resources
from connectors.olcf.options import RestOptions
from connectors.olcf.request import description
from connectors.registry import SiteConfig
from sandbox.faces.http import Request
from sandbox.facilities import LiveFacility
from sandbox.facility import Order
from sandbox.serving import FaceServer

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")  # what it says of old versions
VERSIONS = ("0041", "0042", "0043", "0044")


class Client:
    """The generated client, its calls by their names in one version."""

    def __init__(self, address: str, version: str, *, token: str = TOKEN, user: str = "user") -> None:
        configuration = slurmrestapi.Configuration(host=address, api_key={"user": user, "token": token})
        self.inner = slurmrestapi.ApiClient(configuration)
        self.slurm, self.slurmdb, self.version = SlurmApi(self.inner), SlurmdbApi(self.inner), version

    def __getattr__(self, name: str) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(self.slurm, f"slurm_v{self.version}_{name}")
        return found

    def remembered(self, **more: Any) -> Any:
        return getattr(self.slurmdb, f"slurmdb_v{self.version}_get_jobs")(**more)

    def model(self, name: str) -> Any:
        return getattr(models, f"V{self.version}{name}")

    def submitted(self, script: str, *, many: bool = False, **fields: Any) -> Any:
        job = {
            "name": "cfabc",
            "comment": "of a test",
            "current_working_directory": self.folder,
            "environment": ["PATH=/usr/bin:/bin", "GREETING=hello world"],
            "time_limit": {"set": True, "infinite": False, "number": 5},
            "tasks": 1,
            **fields,
        }
        body = {"script": script, **({"jobs": [job]} if many else {"job": job})}
        return self.post_job_submit(self.model("JobSubmitReq").from_dict(body))

    folder = "/"


@pytest.fixture
def rehearsal(tmp_path: Path) -> Iterator[Rehearsal]:
    rehearsal = Rehearsal(tmp_path, flavor=PLAIN_44, live=True)
    assert isinstance(rehearsal.facility, LiveFacility)
    with rehearsal.facility:
        yield rehearsal


@pytest.fixture
def address(rehearsal: Rehearsal) -> Iterator[str]:
    with FaceServer(rehearsal.face, rehearsal.faults, name="slurmrest") as server:
        yield server.address


@pytest.fixture(params=VERSIONS)
def client(request: pytest.FixtureRequest, rehearsal: Rehearsal, address: str) -> Iterator[Client]:
    client = Client(address, request.param)
    client.folder = rehearsal.facility.files.root
    yield client
    client.inner.rest_client.pool_manager.clear()


def wait_until(predicate: Callable[[], object], within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not predicate():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.02)


def test_a_job_is_submitted_watched_and_listed(client: Client) -> None:
    answer = client.submitted("#!/bin/sh\necho $GREETING > said\nexit 3\n", many=client.version == "0044")
    assert answer.job_id
    assert not answer.errors
    native_id = str(answer.job_id)
    wait_until(lambda: client.get_job(native_id).jobs[0].job_state == ["FAILED"])
    job = client.get_job(native_id).jobs[0]
    assert (job.name, job.comment, job.user_name) == ("cfabc", "of a test", "user")
    assert job.exit_code.return_code.number == 3
    assert job.time_limit.number == 5
    assert job.job_id in {one.job_id for one in client.get_jobs().jobs}
    assert (Path(client.folder) / "said").read_text() == "hello world\n"


def test_a_job_is_deleted(client: Client) -> None:
    native_id = str(client.submitted("#!/bin/sh\nsleep 600\n").job_id)
    wait_until(lambda: client.get_job(native_id).jobs[0].job_state == ["RUNNING"])
    assert not client.delete_job(native_id).errors
    wait_until(lambda: client.get_job(native_id).jobs[0].job_state == ["CANCELLED"])


def test_a_job_that_can_never_run_is_taken_and_waits(client: Client) -> None:
    answer = client.submitted("#!/bin/sh\nsleep 1\n", partition="debug", time_limit={"set": True, "number": 500})
    assert answer.job_id
    assert [error.error_number for error in answer.errors] == [2015]
    job = client.get_job(str(answer.job_id)).jobs[0]
    assert (job.job_state, job.state_reason) == (["PENDING"], "PartitionTimeLimit")


def test_what_slurm_refuses_is_refused_with_its_number(client: Client) -> None:
    with pytest.raises(ApiException) as caught:
        client.submitted("#!/bin/sh\nsleep 1\n", partition="nowhere")
    reply = client.model("OpenapiJobSubmitResponse").from_json(caught.value.body)
    assert [error.error_number for error in reply.errors] == [2000]
    with pytest.raises(ApiException) as caught:
        client.get_job("999999")
    reply = client.model("OpenapiJobInfoResp").from_json(caught.value.body)
    assert [error.error_number for error in reply.errors] == [2017]
    assert reply.jobs == []


def test_the_machine_is_described(client: Client) -> None:
    (ping,) = client.get_ping().pings
    assert ping.pinged == "UP"
    listed = client.get_partitions().partitions
    assert [one.name for one in listed] == ["batch", "debug"]
    assert listed[1].maximums.time.number == 60
    found = client.get_nodes().nodes
    assert len(found) == SHAPE.nodes
    assert found[0].state == ["IDLE"]
    assert client.get_node(found[3].name).nodes[0].name == found[3].name
    (held,) = client.get_reservations().reservations
    assert (held.name, held.node_count) == ("beam", 1)
    client.submitted("#!/bin/sh\nsleep 600\n")
    wait_until(lambda: client.get_diag().statistics.jobs_running == 1)
    wait_until(lambda: any(node.state != ["IDLE"] for node in client.get_nodes().nodes))


def test_the_accounting_is_asked_by_name(client: Client) -> None:
    client.submitted("#!/bin/sh\nexit 4\n", name="wanted")
    client.submitted("#!/bin/sh\nexit 0\n", name="other")
    wait_until(lambda: all(job.state.current == ["FAILED"] for job in client.remembered(job_name="wanted").jobs))
    (job,) = client.remembered(job_name="wanted").jobs
    assert (job.name, job.comment.job, job.exit_code.return_code.number) == ("wanted", "of a test", 4)


def test_a_bad_token_is_refused_and_another_users_job_left_alone(client: Client, rehearsal: Rehearsal) -> None:
    stranger = Client(client.inner.configuration.host, client.version, token="wrong-token-of-a-stranger")
    with pytest.raises(ApiException) as caught:
        stranger.get_jobs()
    assert caught.value.status == 401
    native_id = rehearsal.facility.submit(Order(name="theirs", script="#!/bin/sh\nsleep 600\n", user="somebody"))
    with pytest.raises(ApiException) as caught:
        client.delete_job(native_id)
    assert "Access/permission denied" in str(caught.value.body)
    stranger.inner.rest_client.pool_manager.clear()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_our_connector_submits_is_what_the_model_reads(version: str, tmp_path: Path) -> None:
    options = RestOptions.read("s", {"resource": "odo", "version": f"v0.0.{version[2:]}"})
    config = SiteConfig(name="s", connector="olcf", root="/lustre/orion/abc123/crossfade", installation="here")
    spec = simulated_job(
        "cf0123456789abc",
        resources=Resources(nodes=3, cores=8, gpus=4, memory=1 << 30, walltime=90, ranks_per_node=2, exclusive=True),
        warn_before=120,
        submit={"queue": "batch", "account": "abc123", "time-min": "30", "mem-per-cpu": "2G", "constraint": "nvme",
                "gpus": "2", "exclude": "node1,node2", "mail-type": "END"},
    )  # fmt: skip
    job = description(spec, config, options)
    model = getattr(models, f"V{version}JobDescMsg")
    assert set(job) <= {field.alias or name for name, field in model.model_fields.items()}
    read = model.from_dict(job)
    assert (read.minimum_nodes, read.tasks, read.cpus_per_task, read.time_limit.number) == (3, 6, 4, 2)
    assert read.kill_warning_flags == ["BATCH_JOB"]
    assert read.kill_warning_delay.number == 120


def test_s3m_serves_the_same_below_its_own_prefix(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, flavor=S3M_43)
    path = "/slurm/open/v0.0.43/defiant/"
    with FaceServer(rehearsal.face, name="slurmrest") as server:
        configuration = slurmrestapi.Configuration(host=server.address)
        client = slurmrestapi.ApiClient(configuration, header_name="Authorization", header_value=TOKEN)
        native_id = rehearsal.facility.submit(Order(name="a", script="#!/bin/sh\nsleep 600\n", user="user"))
        for what, name in {
            "ping": "OpenapiPingArrayResp",
            "jobs": "OpenapiJobInfoResp",
            f"job/{native_id}": "OpenapiJobInfoResp",
            "nodes": "OpenapiNodesResp",
            "partitions": "OpenapiPartitionResp",
            "reservations": "OpenapiReservationResp",
            "diag": "OpenapiDiagResp",
        }.items():
            called = client.param_serialize("GET", path + what, header_params={"Accept": "application/json"})
            reply = client.call_api(*called)
            reply.read()
            read = client.response_deserialize(reply, {"200": f"V0043{name}"}).data
            assert not read.errors
            assert read.meta.slurm.cluster == "defiant"
        client.rest_client.pool_manager.clear()


@pytest.mark.parametrize("version", VERSIONS)
def test_no_field_of_the_models_is_left_out(version: str, tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, flavor=PLAIN_44)
    rehearsal.facility.submit(Order(name="a", script="#!/bin/sh\nsleep 600\n", user="user"))
    rehearsal.clock.advance(5)
    for what, model in {
        "slurm/jobs": "OpenapiJobInfoResp",
        "slurm/nodes": "OpenapiNodesResp",
        "slurm/partitions": "OpenapiPartitionResp",
        "slurm/reservations": "OpenapiReservationResp",
        "slurm/ping": "OpenapiPingArrayResp",
        "slurm/diag": "OpenapiDiagResp",
        "slurmdb/jobs": "OpenapiSlurmdbdJobsResp",
    }.items():
        kind, _, name = what.partition("/")
        path = f"/{kind}/v0.0.{version[2:]}/{name}"
        reply = rehearsal.face.handle(Request(method="GET", path=path, headers={"x-slurm-user-token": TOKEN}))
        told = json.loads(reply.body)
        envelope = getattr(models, f"V{version}{model}")
        (field,) = set(envelope.model_fields) & {"jobs", "nodes", "partitions", "reservations", "pings", "statistics"}
        kind_of = envelope.model_fields[field].annotation
        record = told[field][0] if isinstance(told[field], list) else told[field]
        inner = (typing.get_args(kind_of) or [kind_of])[0]
        assert {one.alias or name for name, one in inner.model_fields.items()} <= set(record), what
        envelope.from_dict(told)
