"""A rehearsal site with an IRI face for tests: facility, faces, and the connector that speaks to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from broker.clock import VirtualClock
from connectors.iri import IriSite, make
from connectors.model import JobSpec, JobStatus, Resources, SmallFile, SubmitAnswer
from connectors.registry import SiteConfig
from sandbox.faces.activity import ActivityFace
from sandbox.faces.iri import ALCF, NERSC, REFERENCE, IriFace, IriProfile
from sandbox.facilities import FacilityShape, LiveFacility, Queue, VirtualFacility
from sandbox.facility import Order
from sandbox.script import FaultScript, script_of
from sandbox.serving import InProcess

HOUR = 3600 * 1_000_000
SUBMIT = {"method": "POST", "path": "/compute/job/"}
"""The request that asks for a job, for fault scripts."""
ADDRESS = "http://iri.test"
FEED = "http://status.test"
TOKEN = "iri-test-token"
VARIABLE = "IRI_TEST_TOKEN"
QUEUES = {"debug": Queue(), "prod": Queue()}

ALCF_QUIRKS: Mapping[str, object] = {
    "dialect": "v1",
    "refuses": [
        "inherit_environment",
        "process_count",
        "processes_per_node",
        "cpu_cores_per_process",
        "gpu_cores_per_process",
        "exclusive_node_use",
        "reservation_id",
        "include_spec",
    ],
    "unknown_job": [400, 404],
    "names": False,
    "idempotency": "no",
    "custom_attributes": {"filesystems": "home:eagle"},
}
NERSC_QUIRKS: Mapping[str, object] = {"dialect": "v1", "listing": "single", "idempotency": "no"}
KINDS: Mapping[str, tuple[IriProfile, Mapping[str, object], str]] = {
    "alcf": (ALCF, ALCF_QUIRKS, "pbs"),
    "nersc": (NERSC, NERSC_QUIRKS, "slurm"),
    "reference": (REFERENCE, {}, "slurm"),
}
"""Of each kind: how the face behaves, what the connector is told of that, and whose words jobs find."""


class Rehearsal:
    """A virtual facility with its faces in this process; or, `live`, a real folder, real processes and real time."""

    def __init__(self, folder: Path, kind: str, *rules: Mapping[str, Any], live: bool = False, **profile: Any) -> None:
        """`profile`: what is different from the kind's own."""
        self.clock = VirtualClock()
        self.live = live
        self.now: Callable[[], int] = (lambda: time.time_ns() // 1000) if live else self.clock
        known, self.quirks, dialect = KINDS[kind]
        self.profile = replace(known, **profile)
        self.script: FaultScript = script_of(*rules, clock=self.now)
        self.faults = self.script.of(kind)
        shape = FacilityShape(
            name=kind, dialect=dialect, nodes=20, queues=QUEUES, first_id=4_001, cancel_grace=0.2, requeue_delay=5.0
        )
        folder.mkdir(exist_ok=True)
        self.facility: LiveFacility | VirtualFacility
        if live:
            self.facility = LiveFacility(shape, folder / "facility", faults=self.faults)
        else:
            self.facility = VirtualFacility(shape, folder / "facility", clock=self.clock, faults=self.faults)
        self.face = IriFace(self.facility, self.profile, tokens={TOKEN: "user"})
        self.feed = ActivityFace(self.facility)
        self.compute = next(item.id for item in self.profile.resources if item.kind == "compute")
        self.storage = next(item.id for item in self.profile.resources if item.kind == "storage")
        self.wire = Wire(
            {
                httpx.URL(ADDRESS).host: InProcess(self.face, self.faults, name="iri", sleep=self.sleep),
                httpx.URL(FEED).host: InProcess(self.feed, self.faults, name="activity", sleep=self.sleep),
            }
        )
        self.dialect = dialect

    def sleep(self, seconds: float) -> None:
        if self.live:
            time.sleep(min(seconds, 0.02))
        else:
            self.clock.advance(seconds)

    def elapsed(self) -> float:
        return time.monotonic() if self.live else self.clock() / 1e6

    def config(self, *, address: str = ADDRESS, **more: Any) -> SiteConfig:
        options = {
            "url": f"{address}{self.face.base}",
            "resource": self.compute,
            "files": "iri",
            "file_system": self.storage,
            **self.quirks,
            **more.pop("options", {}),
        }
        given: dict[str, Any] = {
            "name": "there",
            "connector": "iri",
            "root": self.facility.files.root,
            "installation": "here",
            "account": "projA",
            "job_id_variable": "PBS_JOBID" if self.dialect == "pbs" else "SLURM_JOB_ID",
            "credentials": {"token": f"env:{VARIABLE}"},
            "options": options,
        }
        return SiteConfig(**(given | more))

    def site(self, *, transport: httpx.BaseTransport | None = None, **more: Any) -> IriSite:
        """A new connector object."""
        return make(
            self.config(**more),
            self.now,
            transport=transport or self.wire,
            sleep=self.sleep,
            elapsed=self.elapsed,
        )

    def close(self) -> None:
        self.wire.close()


class Wire(httpx.BaseTransport):
    """What lies between connector and faces: it can be cut, and it can lose an answer to a submission."""

    def __init__(self, hosts: Mapping[str, httpx.BaseTransport]) -> None:
        self._hosts = hosts
        self.cut = False
        self.losing = 0
        self.asked: list[tuple[str, str]] = []
        self.headers: list[Mapping[str, str]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.cut:
            raise httpx.ConnectError("no route to host", request=request)
        self.asked.append((request.method, request.url.path))
        self.headers.append(dict(request.headers))
        inner = self._hosts.get(request.url.host) or self._hosts["*"]
        response = inner.handle_request(request)
        if self.losing and request.method == "POST" and "/compute/job/" in request.url.path:
            self.losing -= 1
            raise httpx.ReadTimeout("no answer in time", request=request)
        return response

    def count(self, method: str, part: str) -> int:
        """How many requests there were of that kind."""
        return sum(1 for asked, path in self.asked if asked == method and part in path)

    def close(self) -> None:
        for inner in self._hosts.values():
            inner.close()


def simulated_job(key: str, *, seconds: float = 0.0, exit_code: int = 0, digest: str = "d1", **more: Any) -> JobSpec:
    """A job whose payload says how it would go."""
    given: dict[str, Any] = {
        "key": key,
        "digest": digest,
        "directory": f"runs/{key}",
        "entry": ".crossfade/stage.sh",
        "files": (
            SmallFile(path=".crossfade/stage.sh", content=b"exit 0\n"),
            SmallFile(path=".crossfade/payload.sh", content=f": sim seconds={seconds} exit={exit_code}\n".encode()),
            SmallFile(
                path=".crossfade/job.conf",
                content=f"cf_key='{key}'\ncf_digest='{digest}'\ncf_beat='1'\ncf_fence='1'\n".encode(),
            ),
        ),
        "resources": Resources(walltime=3600.0),
    }
    return JobSpec(**(given | more))


class Stage:
    """A rehearsal and one connector object."""

    def __init__(self, folder: Path, kind: str, *rules: Mapping[str, Any], options: Any = None, **profile: Any) -> None:
        self.rehearsal = Rehearsal(folder, kind, *rules, **profile)
        self.facility, self.clock, self.wire = self.rehearsal.facility, self.rehearsal.clock, self.rehearsal.wire
        self.site: IriSite = self.rehearsal.site(options=options or {})
        self.site.prepare()

    def submit(self, key: str, **more: Any) -> SubmitAnswer:
        return self.site.submit([simulated_job(key, **more)])[key]

    def status(self, key: str) -> JobStatus:
        listing = self.site.status([key])
        assert listing.complete
        assert len(listing.items) == 1, listing
        return listing.items[0]

    def wait(self, what: Callable[[], object], seconds: float = 60.0) -> None:
        for _ in range(120):
            if what():
                return
            self.clock.advance(seconds / 120)
        assert what(), "it did not come true"

    def ended(self, key: str) -> JobStatus:
        self.wait(lambda: self.status(key).state.final)
        return self.status(key)

    def accepted(self, key: str) -> int:
        return self.facility.accepted().get(key, 0)

    def runs(self, key: str) -> int:
        return self.facility.model.journal.runs()[key]


class Stages:
    """Makes them, each in a folder of its own; a context manager that closes all."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._made = folder, list[Stage]()

    def __call__(self, kind: str, *rules: Mapping[str, Any], **more: Any) -> Stage:
        self._made.append(Stage(self._folder / str(len(self._made)), kind, *rules, **more))
        return self._made[-1]

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._made:
            one.rehearsal.close()


def fill(there: Stage, count: int = 40) -> list[str]:
    """Other people's jobs on every node: what is submitted now waits."""
    argv = ["/bin/sh", "-c", "\nsleep 5000\n"]
    return [there.facility.submit(Order(name="other", argv=argv, user="other", walltime=9000.0)) for _ in range(count)]
