"""The IRI connector against the contract that all connectors share: v1 with the marks that ALCF needs, and v2 as the
reference server speaks it, both in this process under a virtual clock; and a part of it over a socket."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from iri_kit import TOKEN, VARIABLE, Rehearsal, Wire, simulated_job

from broker.canary import Patience
from broker.store.base import Installation
from broker.trial import try_site
from connectors.base import Checkable, Preparable, Scripted, Site
from connectors.contract import ComputeContract, HealthContract, SiteContract, new_key
from connectors.iri import IriSite
from connectors.model import Accepted, JobSpec, JobState, Resources, SmallFile
from sandbox.faces.iri.jobspec import order_of
from sandbox.facilities import LiveFacility
from sandbox.serving import FaceServer


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)


class IriRig:
    """Jobs are simulated, time is virtual, files lie in memory."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.rehearsal = Rehearsal(folder, kind)
        self.wire = self.rehearsal.wire
        self.connect().prepare()

    def connect(self) -> IriSite:
        return self.rehearsal.site()

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

    def thousand(self, site: IriSite) -> list[str]:
        """Accepted by the site, and not through the connector."""
        jobs = {}
        for key in [new_key() for _ in range(1000)]:
            job = self.job(key, seconds=600)
            jobs[key] = job, self.rehearsal.facility.submit(order_of(site._body(job), user="user"))
        site._finder.accepted(jobs)
        return list(jobs)


class _Whole(SiteContract):
    def test_it_is_all_that_a_site_can_be(self, rig: IriRig) -> None:
        site = rig.connect()
        assert isinstance(site, Preparable)
        assert isinstance(site, Scripted)
        assert isinstance(site, Checkable)
        assert site.prepare() == rig.connect().prepare()
        assert not site.inline

    def test_a_thousand_jobs_are_asked_for_by_one_call(self, rig: IriRig) -> None:
        site = rig.connect()
        keys = rig.thousand(site)
        rig.wire.asked.clear()
        listing = site.status(keys)
        assert listing.complete
        assert {item.key for item in listing.items} == set(keys)
        assert rig.wire.asked == [("POST", f"{rig.rehearsal.face.base}/compute/status/{rig.rehearsal.compute}")]


class TestAlcf(_Whole):
    """v1; no names in replies: found by marks."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> IriRig:
        return IriRig(tmp_path, "alcf")


class TestReference(_Whole):
    """v2; names in replies."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> IriRig:
        return IriRig(tmp_path, "reference")


SCRIPT = """\
echo begun >> begun.log
{wait}
exit {exit_code}
"""


class LiveRig:
    """The same over sockets: real time, real processes, a real folder."""

    def __init__(self, folder: Path, kind: str, *, mounted: bool) -> None:
        self.rehearsal = Rehearsal(folder, kind, live=True)
        self.options = {"files": "mounted", "mount": self.rehearsal.facility.files.root} if mounted else {}
        self.server = FaceServer(self.rehearsal.face, self.rehearsal.faults, name="iri")
        self.wire = Wire({"*": httpx.HTTPTransport()})
        self.root = Path(self.rehearsal.facility.files.root)

    def connect(self) -> IriSite:
        return self.rehearsal.site(transport=self.wire, address=self.server.address, options=self.options)

    def job(self, key: str, *, seconds: float = 0.0, exit_code: int = 0, digest: str = "d1") -> JobSpec:
        script = SCRIPT.format(wait=f"sleep {seconds}" if seconds else ":", exit_code=exit_code)
        return self.spec(key, script, digest=digest)

    def spec(self, key: str, script: str, *, digest: str = "d1") -> JobSpec:
        return JobSpec(
            key=key,
            digest=digest,
            directory=f"runs/{key}",
            entry="job.sh",
            files=(
                SmallFile(path="job.sh", content=script.encode()),
                SmallFile(path=".crossfade/nothing", content=b""),
            ),
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


@pytest.fixture(params=["alcf-mounted", "nersc", "reference"])
def live(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LiveRig]:
    kind, _, mounted = request.param.partition("-")
    rig = LiveRig(tmp_path, kind, mounted=bool(mounted))
    facility = rig.rehearsal.facility
    assert isinstance(facility, LiveFacility)
    with facility, rig.server:
        rig.connect().prepare()
        yield rig
        rig.wire.close()
        rig.rehearsal.close()


class TestIriOverASocket(ComputeContract, HealthContract):
    # the spelling of paths is checked before anything is sent: the runs in this process show it
    test_a_job_with_an_unsafe_path_is_refused_and_leaves_nothing = None

    @pytest.fixture
    def rig(self, live: LiveRig) -> LiveRig:
        return live

    def test_what_a_job_prints_is_in_its_log(self, rig: LiveRig) -> None:
        site, key = rig.connect(), new_key()
        job = rig.spec(key, "echo loud; echo louder >&2\n")
        assert isinstance(site.submit([job])[key], Accepted)
        rig.wait_until(lambda: all(item.state is JobState.SUCCEEDED for item in site.status([key]).items), within=20)
        assert site.read(f"{job.directory}/.crossfade/wrapper.log") == b"loud\nlouder\n"

    def test_a_trial_with_a_canary_finds_nothing_wrong(self, rig: LiveRig) -> None:
        site, config = rig.connect(), rig.rehearsal.config(address=rig.server.address, options=rig.options)
        home = Installation(id="rehearsal", incarnation=0, created_at=0)
        patience = Patience(seconds=30.0, sleep=lambda _: time.sleep(0.05), elapsed=time.monotonic)
        trial = try_site(site, config, home, clock=rig.rehearsal.now, bits=random.getrandbits, canary=patience)
        findings = {finding.step: finding for finding in trial.findings}
        assert trial.ok, trial.findings
        assert findings["canary"].ok is True
        assert findings["status"].detail.startswith(rig.rehearsal.profile.resources[0].name)
