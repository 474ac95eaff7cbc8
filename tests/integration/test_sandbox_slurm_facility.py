"""A rehearsal facility whose scheduler is a real Slurm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_kit import SlurmCluster, wait_until

from connectors.errors import SiteUnreachable
from connectors.model import JobState
from sandbox.facilities.slurm import SlurmFacility
from sandbox.facility import Facility, Order, OrderRefused


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with SlurmCluster(tmp_path_factory.mktemp("slurm"), "fac", nodes=1) as cluster:
        yield cluster


@pytest.fixture
def facility(cluster: SlurmCluster, tmp_path: Path) -> Iterator[Facility]:
    with SlurmFacility("fac", tmp_path, cluster.environment) as facility:
        yield facility
    cluster.cancel_all()


def test_an_order_runs_in_slurm_and_is_seen_to_its_end(facility: Facility) -> None:
    root = facility.files.root
    order = Order(
        name="one", comment="c", script="#!/bin/sh\necho $A in $PWD\nexit 3\n", env={"A": "a"}, directory=root,
        stdout=f"{root}/out",
    )  # fmt: skip
    native_id = facility.submit(order)
    wait_until(lambda: (view := facility.job(native_id)) is not None and view.state.final, within=20)
    view = facility.job(native_id)
    assert view is not None
    assert (view.state, view.word, view.exit_code, view.order) == (JobState.FAILED, "FAILED", 3, order)
    assert facility.files.read(f"{root}/out") == f"a in {root}\n".encode()
    assert facility.accepted() == {"one": 1}
    assert [item.native_id for item in facility.accounting()][-1] == native_id


def test_a_job_is_held_released_and_canceled(facility: Facility) -> None:
    native_id = facility.submit(Order(name="two", argv=["sleep", "300"], hold=True))
    held = facility.job(native_id)
    assert held is not None
    assert (held.state, held.reason) == (JobState.HELD, "JobHeldUser")
    assert facility.hold(native_id, held=False)
    wait_until(lambda: (view := facility.job(native_id)) is not None and view.state is JobState.RUNNING, within=20)
    assert facility.cancel(native_id)
    wait_until(lambda: (view := facility.job(native_id)) is not None and view.state is JobState.CANCELED, within=20)
    assert not facility.cancel(native_id)


def test_a_refusal_comes_in_slurms_own_words(facility: Facility) -> None:
    with pytest.raises(OrderRefused, match="partition") as refused:
        facility.submit(Order(name="three", script="#!/bin/sh\ntrue\n", queue="nowhere"))
    assert refused.value.kind == "queue"
    assert facility.accepted() == {}


def test_a_dead_controller_is_no_answer(tmp_path: Path, cluster: SlurmCluster) -> None:
    with SlurmFacility("fac", tmp_path, cluster.environment) as facility:
        cluster.kill_controller()
        try:
            with pytest.raises(SiteUnreachable):
                facility.jobs()
            assert not facility.up("submit")
        finally:
            cluster.start_controller()
        assert facility.up("submit")
