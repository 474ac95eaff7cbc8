"""A site dies with the only copy of a stage's inputs, and the stage goes on elsewhere: they were sent there before.

Real processes, files through the stand-in of Globus, a site really taken away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from broker.audit import audit_run
from broker.cli.demo.ground import Ground
from broker.cli.telling import sentence
from broker.config import Settings
from broker.service import Request, Service, open_service
from broker.serving import connect, serve_connected

pytestmark = pytest.mark.long

WORKFLOW = """
crossfade: 1
name: standby
policy:
  sites: {allow: [nersc, olcf], prefer: [nersc]}
  failover: {after: 1s}
stages:
  scan:
    run: mkdir raw; head -c 300000 /dev/zero > raw/a; echo b > raw/b
    outputs: [{path: raw/, required: true}]
  recon:
    near: scan
    inputs: [{name: raw/, from: scan}]
    resources: {walltime: 20m}
    checkpoint: {path: ckpt/, match: 's_([0-9]+)'}
    run: |
      mkdir -p ckpt
      for i in 1 2 3 4 5 6; do
        echo $i > ckpt/s_$i.tmp && mv ckpt/s_$i.tmp ckpt/s_$i
        [ -d "${CROSSFADE_RESTORE_DIR:-/nowhere}" ] && break
        sleep 8
      done
      cat raw/a raw/b | sha256sum > sum
    outputs: [{path: sum, required: true}]
"""


class House:
    """The sandbox's facilities and a broker that serves in this process."""

    def __init__(self, ground: Ground, service: Service, run: str) -> None:
        self.ground, self.service, self.run = ground, service, run
        self.store = service.store

    def effects(self, kind: str) -> list[Any]:
        return [row for row in self.store.effects(self.run) if row.kind == kind]

    def attempts(self, path: str) -> list[Any]:
        stage = next(stage for stage in self.store.stages(self.run) if stage.path == path)
        return list(self.store.attempts(self.run, stage.n))


def until(true: Callable[[], bool], what: str, *, within: float = 90.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {what}"
        time.sleep(0.05)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    (tmp_path / "flow.yaml").write_text(WORKFLOW)
    with ExitStack() as stack:
        ground = stack.enter_context(Ground(tmp_path))
        settings = Settings(home=tmp_path, sites=ground.document, user="tests")
        service = open_service(settings)
        stack.callback(service.store.close)
        connected = connect(settings, service.sites, service.store)
        stack.callback(connected.close)
        embedded = stack.enter_context(serve_connected(settings, connected, service.store))
        run = service.submit(Request(document=tmp_path / "flow.yaml", params={}, again=True)).run_id
        embedded.wake(run)
        yield House(ground, service, run)


def test_a_failover_finds_its_inputs_there_and_none_is_moved_then(house: House) -> None:
    until(lambda: [row.state for row in house.effects("ahead")] == ["done"], "the inputs are sent ahead")
    until(lambda: [row.state for row in house.effects("ship")][:1] == ["done"], "a checkpoint is sent")
    words = [sentence(event) for event in house.store.events(house.run) if event.kind == "inputs"]
    assert len(words) == 1
    assert words[0].startswith("inputs sent ahead to olcf: ")
    assert "are lost together with nersc" in words[0]
    (shown,) = [view["inputs"] for view in house.service.checkpoints(house.run) if view["stage"] == "recon"]
    assert [(one["site"], one["state"]) for one in shown] == [("olcf", "there")]  # type: ignore[attr-defined]

    house.ground.lose("nersc", now=house.store.now())
    until(lambda: house.store.run(house.run).state == "SUCCEEDED", "the run goes on to its end")  # type: ignore[union-attr]
    first, second = house.attempts("recon")
    assert (first.site, second.site) == ("nersc", "olcf")
    moved = [row for row in house.store.traffic.movements_of(house.run) if (row.n, row.attempt) == (second.n, 2)]
    assert moved
    assert {(row.source, row.destination) for row in moved if "-in-" in row.key} == {("olcf", "olcf")}
    until(lambda: [row.state for row in house.effects("recall")] == ["done"], "what was sent ahead is removed")
    assert [str(found) for found in audit_run(house.store, house.run)] == []
