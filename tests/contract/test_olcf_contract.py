"""The connector for Slurm's REST API against the contract that all connectors share: over the rehearsal faces of S3M
and of a plain slurmrestd, in this process and under a virtual clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from olcf_kit import BARE_38, PLAIN_38, PLAIN_44, S3M_43, S3M_44, Flavor, Rehearsal, Wire, simulated_job

from connectors.base import Checkable, Preparable, Scripted, Site
from connectors.contract import ComputeContract, HealthContract, SiteContract, new_key
from connectors.harness import ENTRY, ExitRecord, HarnessPlan, StartRecord, parse_record, render
from connectors.model import Accepted, JobSpec, JobState, Resources
from connectors.olcf import RestSite
from sandbox.facilities import LiveFacility
from sandbox.facility import Order
from sandbox.serving import FaceServer


class RestRig:
    """Jobs are simulated, time is virtual, files lie in memory."""

    def __init__(self, folder: Path, flavor: Flavor) -> None:
        self.rehearsal = Rehearsal(folder, flavor=flavor)
        self.wire = self.rehearsal.wire

    def connect(self) -> RestSite:
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


class More:
    """What is asked beyond the contract of every connector."""

    jobs_path: str

    def test_it_is_all_that_a_site_can_be(self, rig: RestRig) -> None:
        site = rig.connect()
        assert isinstance(site, Preparable)
        assert isinstance(site, Scripted)
        assert isinstance(site, Checkable)

    def test_a_thousand_jobs_are_asked_for_by_one_call(self, rig: RestRig) -> None:
        site, keys = rig.connect(), [new_key() for _ in range(1000)]
        for key in keys:
            comment = f"crossfade here {key} d1"
            rig.rehearsal.facility.submit(
                Order(name=key, comment=comment, script="#!/bin/sh\nsleep 600\n", user="user")
            )
        rig.wire.asked.clear()
        listing = site.status(keys)
        assert listing.complete
        assert {item.key for item in listing.items} == set(keys)
        assert rig.wire.asked == [("GET", self.jobs_path)]

    def test_each_job_is_posted_once(self, rig: RestRig) -> None:
        site, keys = rig.connect(), [new_key() for _ in range(5)]
        site.submit([rig.job(key, seconds=600) for key in keys])
        site.submit([rig.job(key, seconds=600) for key in keys])
        assert rig.wire.count("POST", "/job/submit") == 5
        assert rig.rehearsal.facility.accepted() == dict.fromkeys(keys, 1)


class TestS3mInVersion43(SiteContract, More):
    jobs_path = "/slurm/open/v0.0.43/defiant/jobs"

    @pytest.fixture
    def rig(self, tmp_path: Path) -> RestRig:
        return RestRig(tmp_path, S3M_43)


class TestS3mInVersion44(SiteContract, More):
    jobs_path = "/slurm/open/v0.0.44/defiant/jobs"

    @pytest.fixture
    def rig(self, tmp_path: Path) -> RestRig:
        return RestRig(tmp_path, S3M_44)


class TestSlurmrestdInVersion38(SiteContract, More):
    jobs_path = "/slurm/v0.0.38/jobs"

    @pytest.fixture
    def rig(self, tmp_path: Path) -> RestRig:
        return RestRig(tmp_path, PLAIN_38)


class TestSlurmrestdInVersion38WithoutAccounting(ComputeContract, HealthContract):
    # the spelling of paths is checked before anything is sent: the other runs show it
    test_a_job_with_an_unsafe_path_is_refused_and_leaves_nothing = None

    @pytest.fixture
    def rig(self, tmp_path: Path) -> RestRig:
        return RestRig(tmp_path, BARE_38)


class TestSlurmrestdInVersion44(ComputeContract, HealthContract, More):
    test_a_job_with_an_unsafe_path_is_refused_and_leaves_nothing = None
    jobs_path = "/slurm/v0.0.44/jobs"

    @pytest.fixture
    def rig(self, tmp_path: Path) -> RestRig:
        return RestRig(tmp_path, PLAIN_44)


def test_our_harness_runs_over_a_socket_and_its_records_are_read(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, flavor=S3M_44, live=True)
    facility = rehearsal.facility
    assert isinstance(facility, LiveFacility)
    key = new_key()
    plan = HarnessPlan(
        key=key, digest="d1", directory_depth=2, command="echo $SLURM_JOB_NAME > said; exit 4", outputs=()
    )
    spec = JobSpec(
        key=key,
        digest="d1",
        directory=f"runs/{key}",
        entry=ENTRY,
        files=render(plan),
        resources=Resources(walltime=600.0),
    )
    with facility, FaceServer(rehearsal.face, name="slurmrest") as server:
        wire = Wire(httpx.HTTPTransport())
        rehearsal.wire = wire
        site = rehearsal.site(address=server.address)
        site.prepare()
        assert isinstance(site.submit([spec])[key], Accepted)
        deadline = time.monotonic() + 20
        while not site.status([key]).items[0].state.final:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (ended,) = site.status([key]).items
        assert (ended.state, ended.exit_code) == (JobState.FAILED, 4)
        assert site.read(f"runs/{key}/said").decode().strip() == key
        kinds = {type(parse_record(site.read(info.path))) for info in site.list("spool")}
        assert {StartRecord, ExitRecord} <= kinds
        wire.close()
