"""However many jobs there are, a look of the broker asks each site for their states once: counted at the facility."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloud_kit
import iri_kit
import nersc_kit
import olcf_kit
import pytest
from broker_kit import Lab, Stage, site

from broker.facts import SiteSetup
from broker.watch import Watcher
from connectors.contract import new_key
from connectors.registry import SiteConfig
from sandbox.faces.iri.jobspec import order_of
from sandbox.facilities.heads import slurm_order
from sandbox.facility import Order

JOBS = 1000
THERE = 50
"""Of them, in the cluster: to make one there takes a while."""


@dataclass
class Crowd:
    """A site with that many jobs in its queue, and the face that hears every request."""

    site: Any
    face: Any
    clock: Callable[[], int]
    keys: list[str]
    asks: str
    """Paths of requests for the states of jobs."""
    calls: int = 1
    """Requests that one such question takes."""


def nersc(folder: Path) -> Crowd:
    there = nersc_kit.Rehearsal(folder)
    made, keys = there.site(), [new_key() for _ in range(JOBS)]
    made.prepare()
    base = Order(user="user", hold=True)
    for key in keys:
        script = made.script(nersc_kit.simulated_job(key)).script
        there.facility.submit(slurm_order(script, base=base))
    return Crowd(made, there.face, there.clock, keys, "/compute/jobs/")


def iri_v2(folder: Path) -> Crowd:
    there = iri_kit.Rehearsal(folder, "reference")
    made, keys = there.site(), [new_key() for _ in range(JOBS)]
    made.prepare()
    for key in keys:
        body = made._body(iri_kit.simulated_job(key, seconds=600))
        there.facility.submit(order_of(body, user="user"))
    return Crowd(made, there.face, there.clock, keys, "/compute/(job|status)")


def slurm_rest(folder: Path) -> Crowd:
    there = olcf_kit.Rehearsal(folder, flavor=olcf_kit.PLAIN_44)
    made, keys = there.site(), [new_key() for _ in range(JOBS)]
    for key in keys:
        order = Order(name=key, comment=f"crossfade here {key} d1", script="#!/bin/sh\nsleep 600\n", user="user")
        there.facility.submit(order)
    return Crowd(made, there.face, there.clock, keys, "/jobs?")


def kubernetes(folder: Path) -> Crowd:
    there = cloud_kit.VirtualCloud(folder)
    made, keys = there.connect(), [new_key() for _ in range(JOBS)]
    made.submit([there.job(key, seconds=600) for key in keys[:THERE]])  # the others are gone: asked for all the same
    return Crowd(made, there.face, there.clock, keys, "/(jobs|pods)", calls=2)


class Rows:
    """As much of a store as a look needs: open attempts of these keys."""

    def __init__(self, keys: list[str]) -> None:
        lab = Lab(site("nersc"))
        run = lab.submit(Stage("a", "seconds=5000"))
        lab.run_for(11, step=5)
        (row,) = lab.attempts(run, "a")
        self._rows = [
            row._replace(n=n, submit_key=key, native_id="", directory=f"runs/{key}") for n, key in enumerate(keys)
        ]

    def open_attempts(self, _: str) -> list[Any]:
        return self._rows

    def sites(self) -> list[Any]:
        return []

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a look at nothing but states asked the store for {name}")


@pytest.mark.parametrize("make", [nersc, iri_v2, slurm_rest, kubernetes])
def test_a_look_at_a_thousand_jobs_asks_for_their_states_once(
    make: Callable[[Path], Crowd], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(iri_kit.VARIABLE, iri_kit.TOKEN)
    crowd = make(tmp_path)
    name = crowd.site.name
    config = SiteConfig(name=name, connector="any")
    watcher = Watcher(
        store=Rows(crowd.keys),  # type: ignore[arg-type]
        setups={name: SiteSetup(config=config)},
        sites={name: crowd.site},
        clock=crowd.clock,
    )
    heard: list[tuple[str, str]] = []
    answer = crowd.face.handle

    def hear(request: Any) -> Any:
        heard.append((request.method, request.path))
        return answer(request)

    monkeypatch.setattr(crowd.face, "handle", hear)
    looked = watcher.look(name)
    assert len([path for _, path in heard if re.search(crowd.asks, path)]) == crowd.calls
    assert len(looked.sightings.attempts) >= THERE
