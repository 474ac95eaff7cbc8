"""The NERSC connector against the contract that all connectors share: over the rehearsal facility's face in this
process and under a virtual clock; and, a part of it, over a socket with real processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from nersc_kit import Rehearsal, Wire, simulated_job

from connectors.base import Checkable, Preparable, Scripted, Site
from connectors.contract import ComputeContract, FilesContract, HealthContract, SiteContract, new_key
from connectors.model import Accepted, JobSpec, JobState, Resources, SmallFile
from connectors.nersc import NerscSite
from sandbox.facilities import LiveFacility
from sandbox.facilities.heads import slurm_order
from sandbox.facility import Order
from sandbox.serving import FaceServer


class NerscRig:
    """Jobs are simulated, time is virtual, files lie in memory, commands run in a real shell over them."""

    def __init__(self, folder: Path) -> None:
        self.rehearsal = Rehearsal(folder)
        self.wire = Wire(self.rehearsal.transport)
        self.connect().prepare()

    def connect(self) -> NerscSite:
        return self.rehearsal.site(transport=self.wire)

    def job(self, key: str, *, seconds: float = 0.0, exit_code: int = 0, digest: str = "d1") -> JobSpec:
        return simulated_job(key, seconds=seconds, exit_code=exit_code, digest=digest)

    def executions(self, key: str) -> int:
        return self.rehearsal.facility.model.journal.runs()[key]

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        for _ in range(60):
            if predicate():
                return
            self.rehearsal.clock.advance(within / 60)
        assert predicate(), f"did not come true within {within} s"

    def darken(self) -> None:
        self.wire.cut = True

    def brighten(self) -> None:
        self.wire.cut = False

    def lose_next_reply(self, site: Site) -> bool:
        self.wire.losing = 1
        return True


class TestNerscSite(SiteContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> NerscRig:
        return NerscRig(tmp_path)

    def test_it_is_all_that_a_site_can_be(self, rig: NerscRig) -> None:
        site = rig.connect()
        assert isinstance(site, Preparable)
        assert isinstance(site, Scripted)
        assert isinstance(site, Checkable)
        assert site.prepare() == rig.connect().prepare()
        assert not site.inline

    def test_a_thousand_jobs_are_asked_for_by_one_call(self, rig: NerscRig) -> None:
        site, keys = rig.connect(), [new_key() for _ in range(1000)]
        assert site.status(keys).items == ()
        base = Order(user="user", hold=True)  # all of them are in the queue
        for key in keys:
            rig.rehearsal.facility.submit(slurm_order(site.script(rig.job(key)).script, base=base))
        rig.wire.asked.clear()
        listing = site.status(keys)
        assert listing.complete
        assert {item.key for item in listing.items} == set(keys)
        assert rig.wire.asked == [("GET", "/api/v1.2/compute/jobs/perlmutter")]


SCRIPT = """\
echo begun >> begun.log
{wait}
exit {exit_code}
"""


class LiveRig:
    """The same over a socket: real time, real processes, a real folder."""

    def __init__(self, folder: Path) -> None:
        self.rehearsal = Rehearsal(folder, live=True)
        self.server = FaceServer(self.rehearsal.face, self.rehearsal.script.of("nersc"), name="superfacility")
        self.wire = Wire(httpx.HTTPTransport())
        self.root = Path(self.rehearsal.facility.files.root)

    def connect(self) -> NerscSite:
        return self.rehearsal.site(transport=self.wire, address=self.server.address)

    def job(self, key: str, *, seconds: float = 0.0, exit_code: int = 0, digest: str = "d1") -> JobSpec:
        script = SCRIPT.format(wait=f"sleep {seconds}" if seconds else ":", exit_code=exit_code)
        return JobSpec(
            key=key,
            digest=digest,
            directory=f"runs/{key}",
            entry="job.sh",
            files=(SmallFile(path="job.sh", content=script.encode()),),
            resources=Resources(walltime=3600.0),
        )

    def executions(self, key: str) -> int:
        log = self.root / "runs" / key / "begun.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        deadline = time.monotonic() + within
        while not predicate():
            assert time.monotonic() < deadline, f"did not come true within {within} s"
            time.sleep(0.02)

    def darken(self) -> None:
        self.wire.cut = True

    def brighten(self) -> None:
        self.wire.cut = False

    def lose_next_reply(self, site: Site) -> bool:
        self.wire.losing = 1
        return True


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveRig]:
    rig = LiveRig(tmp_path)
    facility = rig.rehearsal.facility
    assert isinstance(facility, LiveFacility)
    with facility, rig.server:
        rig.connect().prepare()
        yield rig
        rig.wire.close()


class TestNerscSiteOverASocket(ComputeContract, HealthContract):
    # the spelling of paths is checked before anything is sent: the run in this process shows it
    test_a_job_with_an_unsafe_path_is_refused_and_leaves_nothing = None

    @pytest.fixture
    def rig(self, live: LiveRig) -> LiveRig:
        return live

    def test_what_a_job_prints_is_in_its_log(self, rig: LiveRig) -> None:
        site, key = rig.connect(), new_key()
        job = rig.job(key)
        loud = SmallFile(path="job.sh", content=b"echo loud; echo louder >&2\n")
        assert isinstance(
            site.submit([JobSpec(key=key, digest="d", directory=job.directory, entry="job.sh", files=(loud,))])[key],
            Accepted,
        )
        rig.wait_until(lambda: all(item.state is JobState.SUCCEEDED for item in site.status([key]).items), within=20)
        assert site.read(f"{job.directory}/.crossfade/wrapper.log") == b"loud\nlouder\n"


class TestNerscFilesOverASocket(FilesContract):
    test_an_unsafe_path_is_refused_by_every_verb = None
    test_of_several_files_none_is_written_outside = None

    @pytest.fixture
    def rig(self, live: LiveRig) -> LiveRig:
        return live
