"""The protocols' own clients, unmodified, against the IRI face over a socket: all replies pass their strict models."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import amsc_iri_v2
import httpx
import nersc_iri
import pytest
from iri_kit import TOKEN, Rehearsal

from sandbox.facilities import LiveFacility
from sandbox.facility import Outage
from sandbox.serving import FaceServer

HOUR = 3600 * 1_000_000


class Client:
    """One generated client and what differs between the two."""

    def __init__(self, package: Any, rehearsal: Rehearsal, address: str) -> None:
        self.package, self.rehearsal = package, rehearsal
        self.root = rehearsal.facility.files.root
        self.raw = package.ApiClient(package.Configuration(host=address, access_token=TOKEN))
        self.compute = package.ComputeApi(self.raw)
        self.status = package.StatusApi(self.raw)
        self.account = package.AccountApi(self.raw)
        self.facility = package.FacilityApi(self.raw)
        self.files = package.FilesystemApi(self.raw)
        self.tasks = package.TaskApi(self.raw)
        self.v1 = package is nersc_iri
        self.machine, self.storage = rehearsal.compute, rehearsal.storage

    def spec(self, script: str, name: str = "first", **more: Any) -> Any:
        model = self.package.JobSpecInput if self.v1 else self.package.JobSpec
        return model.from_dict(
            {
                "executable": "/bin/sh",
                "arguments": ["-c", script],
                "name": name,
                "directory": self.root,
                "stdout_path": f"{self.root}/{name}.out",
                "resources": {"node_count": 1},
                "attributes": {"duration": 600, "queue_name": "debug", "account": "projA"},
                **more,
            }
        )

    def launched(self, script: str, **more: Any) -> str:
        """A job; its id."""
        return str(self.compute.launch_job(self.machine, self.spec(script, **more)).id)

    def ended(self, native_id: str) -> Any:
        """The job, once it has ended."""
        end = time.monotonic() + 20
        while True:
            job = self.compute.get_job(self.machine, native_id, include_spec=True)
            if job.status.state.value in {"completed", "failed", "canceled"}:
                return job
            assert time.monotonic() < end, job
            time.sleep(0.02)

    def file(self, verb: str, **words: Any) -> Any:
        """A file operation, to its end; its result."""
        call = getattr(self.files, verb)
        names = {
            "chmod": "PutFileChmodRequest", "mkdir": "PostMakeDirRequest", "mv": "PostMoveRequest",
            "cp": "PostCopyRequest", "compress": "PostCompressRequest", "extract": "PostExtractRequest",
            "symlink": "PostFileSymlinkRequest",
        }  # fmt: skip
        if self.v1 and verb not in names:
            task = call(self.storage, **words)
        else:
            plain = {"ls": "PostLsRequest", "rm": "PostRmRequest"}.get(verb, f"Post{verb.capitalize()}Request")
            model = getattr(self.package, names.get(verb, plain))
            task = call(self.storage, model.from_dict(words))
        found = self.tasks.get_task(task.task_id)
        assert found.status.value == "completed", found
        return found.result


@pytest.fixture(params=["v1", "v2"])
def client(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Client]:
    v1 = request.param == "v1"
    rehearsal = Rehearsal(tmp_path, "nersc" if v1 else "reference", live=True, lists_jobs=True)
    facility = rehearsal.facility
    assert isinstance(facility, LiveFacility)
    with ExitStack() as stack:
        stack.enter_context(facility)
        server = stack.enter_context(FaceServer(rehearsal.face, rehearsal.faults, name="iri"))
        made = Client(nersc_iri if v1 else amsc_iri_v2, rehearsal, server.address)
        yield made
        made.raw.rest_client.pool_manager.clear()
        rehearsal.close()


def test_a_job_is_launched_watched_and_ends_well(client: Client) -> None:
    job = client.ended(client.launched("echo hello"))
    assert job.status.state.value == "completed"
    assert job.status.exit_code == 0
    assert job.job_spec.name == "first"
    assert client.rehearsal.facility.accepted() == {"first": 1}
    assert (Path(client.root) / "first.out").read_text() == "hello\n"


def test_a_failing_job_tells_its_exit_code(client: Client) -> None:
    job = client.ended(client.launched("exit 7"))
    assert (job.status.state.value, job.status.exit_code) == ("failed", 7)


def test_all_jobs_are_listed_the_living_alone_unless_asked(client: Client) -> None:
    ended, living = client.launched("exit 0"), client.launched("sleep 60", name="second")
    client.ended(ended)
    assert [job.id for job in client.compute.get_jobs(client.machine)] == [living]
    both = client.compute.get_jobs(client.machine, historical=True, include_spec=True)
    assert {job.id: job.job_spec.name for job in both} == {ended: "first", living: "second"}
    page = client.compute.get_jobs(client.machine, historical=True, offset=1, limit=1)
    assert [job.id for job in page] == [living]
    found = client.compute.get_jobs(client.machine, historical=True, request_body={"name": "second"})
    assert [job.id for job in found] == [living]


def test_a_job_is_canceled(client: Client) -> None:
    native_id = client.launched("sleep 60")
    client.compute.cancel_job(client.machine, native_id)
    assert client.ended(native_id).status.state.value == "canceled"


def test_a_job_that_is_altered_into_itself_stays_as_it_is(client: Client) -> None:
    spec = client.spec("sleep 60")
    native_id = client.compute.launch_job(client.machine, spec).id
    told = client.rehearsal.facility.job(native_id)
    assert told is not None
    assert client.compute.update_job(client.machine, native_id, spec).id == native_id
    with pytest.raises(client.package.exceptions.BadRequestException):
        client.compute.update_job(client.machine, native_id, client.spec("sleep 61"))


def test_errors_are_problems(client: Client) -> None:
    with pytest.raises(client.package.exceptions.NotFoundException) as caught:
        client.compute.get_job(client.machine, "nobody")
    problem = client.package.Problem.from_json(caught.value.body)
    assert (problem.status, problem.type.rpartition("/")[2]) == (404, "not-found")
    with pytest.raises(client.package.exceptions.BadRequestException):
        client.launched("exit 0", attributes={"queue_name": "no-such-queue"})
    stranger = client.package.ApiClient(
        client.package.Configuration(host=client.raw.configuration.host, access_token="x" * 9)
    )
    with pytest.raises(client.package.exceptions.UnauthorizedException):
        client.package.ComputeApi(stranger).get_jobs(client.machine)
    stranger.rest_client.pool_manager.clear()


def test_resources_incidents_and_events_are_told(client: Client) -> None:
    facility = client.rehearsal.facility
    with pytest.raises(client.package.exceptions.NotFoundException):
        client.status.get_incidents()  # an empty list is answered so
    now = facility.now()
    name = client.rehearsal.profile.resources[0].name
    facility.announce(Outage(resource=name, start=now - HOUR, end=now + HOUR, planned=False, description="cooling"))
    facility.announce(Outage(resource=name, start=now + HOUR, end=now + 2 * HOUR, planned=True, description="upgrade"))
    machine = client.status.get_resource(client.machine)
    assert (machine.name, machine.current_status.value) == (name, "down")
    assert {found.id for found in client.status.get_resources()} == {client.machine, client.storage}
    incidents = client.status.get_incidents(resource_id=client.machine)
    assert [(found.type.value, found.resolution.value) for found in incidents] == [
        ("unplanned", "unresolved"),
        ("planned", "pending"),
    ]
    assert [found.name for found in client.status.get_incidents(type="planned")] == ["upgrade"]
    assert client.status.get_incident(incidents[0].id).name == "cooling"
    events = client.status.get_events_by_incident()
    assert [found.status.value for found in events] == ["down"]
    assert client.status.get_event_by_incident(events[0].id).incident_uri.endswith(incidents[0].id)
    # the older way, by the incident, which other clients of v1 still know
    below = f"{events[0].incident_uri}/events"
    listed = httpx.get(below).json()
    assert [found["id"] for found in listed] == [events[0].id]
    assert httpx.get(f"{below}/{events[0].id}").json() == listed[0]
    assert httpx.get(f"{below}/nothing").status_code == 404
    assert httpx.get(below.replace(incidents[0].id, "nothing")).status_code == 404


def test_the_facility_and_the_account_are_told(client: Client) -> None:
    assert client.facility.get_facility().short_name == client.rehearsal.facility.name
    site = client.facility.get_sites()[0]
    assert client.facility.get_site(site.id).resource_uris == site.resource_uris
    capability = client.account.get_capabilities()[0]
    assert client.account.get_capability(capability.id).units
    project = client.account.get_projects()[0]
    assert client.account.get_project(project.id).name == "projA"
    allocation = client.account.get_project_allocations_by_project(project.id)[0]
    assert client.account.get_project_allocation_by_project(project.id, allocation.id).entries[0].allocation == 1000
    share = client.account.get_user_allocations_by_project_allocation(project.id, allocation.id)[0]
    mine = client.account.get_user_allocation_by_project_allocation(project.id, allocation.id, share.id)
    assert mine.user_id == "user"
    if not client.v1:
        assert client.account.whoami().username == "user"


def test_files_go_up_come_down_and_are_moved(client: Client) -> None:
    root = client.root
    content = bytes(range(256))
    client.file("mkdir", path=f"{root}/deep/er", parent=True)
    task = client.files.upload(client.storage, f"{root}/deep/er/file", ("file", content))
    assert client.tasks.get_task(task.task_id).status.value == "completed"
    assert base64.b64decode(client.file("download", path=f"{root}/deep/er/file")["output"]) == content
    assert client.file("stat", path=f"{root}/deep/er/file")["output"]["size"] == 256
    client.file("chmod", path=f"{root}/deep/er/file", mode="640")
    client.file("mv", path=f"{root}/deep/er/file", target_path=f"{root}/moved")
    client.file("cp", path=f"{root}/moved", target_path=f"{root}/copied")
    listed = client.file("ls", path=root)["output"]
    assert [entry["name"] for entry in listed if entry["type"] == "file"] == ["copied", "moved"]
    assert len(client.file("checksum", path=f"{root}/moved")["output"]["checksum"]) == 64
    client.file("rm", path=f"{root}/copied")
    assert "copied" not in [entry["name"] for entry in client.file("ls", path=root)["output"]]


def test_text_is_read_in_parts_and_archives_are_made(client: Client) -> None:
    root = client.root
    (Path(root) / "folder").mkdir()
    (Path(root) / "folder" / "lines").write_text("one\ntwo\nthree\n")
    path = f"{root}/folder/lines"
    assert client.file("head", path=path, lines=1)["output"]["content"] == "one\n"
    assert client.file("tail", path=path, lines=1)["output"]["content"] == "three\n"
    assert client.file("view", path=path, size=3, offset=4)["output"]["content"] == "two"
    kind = "gzip" if client.v1 else "urn:doe-iri:compression:gzip"
    archive = f"{root}/archive.tar.gz"
    client.file("compress", path=f"{root}/folder", target_path=archive, compression=kind)
    client.file("mkdir", path=f"{root}/out")
    client.file("extract", path=archive, target_path=f"{root}/out", compression=kind)
    assert (Path(root) / "out" / "lines").read_text() == "one\ntwo\nthree\n"


def test_tasks_are_listed_and_deleted(client: Client) -> None:
    client.file("ls", path=client.root)
    tasks = client.tasks.get_tasks()
    assert [task.command.command for task in tasks] == ["ls"]
    assert client.tasks.delete_task(tasks[0].id) == tasks[0].id


def test_an_idempotency_key_makes_one_job_of_two_requests(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, "reference", live=True)
    facility = rehearsal.facility
    assert isinstance(facility, LiveFacility)
    with facility, FaceServer(rehearsal.face, name="iri") as server:
        client = Client(amsc_iri_v2, rehearsal, server.address)
        spec = client.spec("exit 0")
        first = client.compute.launch_job_with_http_info(client.machine, spec, idempotency_key="key-1")
        again = client.compute.launch_job_with_http_info(client.machine, spec, idempotency_key="key-1")
        assert first.data.id == again.data.id
        assert again.headers["idempotency-key-reply"] == "hit"
        with pytest.raises(amsc_iri_v2.exceptions.UnprocessableEntityException):
            client.compute.launch_job(client.machine, client.spec("exit 1"), idempotency_key="key-1")
        assert facility.accepted() == {"first": 1}
        assert [found.name for found in client.compute.get_compute_resources()] == ["machine"]
        assert [found.name for found in client.files.get_filesystem_resources()] == ["scratch"]
        storage = amsc_iri_v2.StorageApi(client.raw)
        assert storage.get_storage_locations(client.storage)[0].path == facility.files.root
        assert storage.get_storage_access_endpoints(client.storage) == []
        client.raw.rest_client.pool_manager.clear()
    rehearsal.close()
