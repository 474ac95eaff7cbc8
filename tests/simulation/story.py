"""A story from a seed: sites, a small graph of stages, and everything that will go wrong until the weather clears."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from broker_kit import CHECKPOINT, Stage, site

from broker.clock import micros
from connectors.model import Tariff
from connectors.registry import SiteConfig
from sandbox.faults import (
    AccountingPurged,
    Busy,
    ComputeDown,
    ControllerCrash,
    DisksGone,
    IncompleteListing,
    NodeFailure,
    Partition,
    Preemption,
    SiteLost,
    Window,
)

ODDS = {
    "unreachable": 0.03,
    "request_lost": 0.15,
    "reply_lost": 0.12,
    "refused": 0.02,
    "run_twice": 0.05,
    "preempted": 0.06,
    "node_failed": 0.04,
    "liar": 0.06,
    "listing_incomplete": 0.05,
}
SOME = (("submit",), ("status",), ("files",), ("submit", "status"), ("files", "transfer"))


@dataclass
class Ordeal:
    """One site's part of a story."""

    config: SiteConfig
    faults: list[Window] = field(default_factory=list)
    """Times count from 0; the player moves them to its own clock."""
    dishonest: bool = False
    doubles: bool = False
    """It may take one submission twice: more than one job of a key is its own doing."""
    slow: bool = False
    """Its calls take too long to be made inside the drain that decides them."""
    lost: bool = False
    wiped: bool = False


@dataclass(frozen=True)
class Story:
    """What a seed tells."""

    seed: int
    ordeals: Sequence[Ordeal]
    stages: Sequence[Stage]
    commands: Sequence[tuple[float, str, str, dict[str, str]]]
    """(when, kind, stage or empty, arguments), in order of time"""
    drains: Sequence[tuple[float, str, str]]
    """(when, site, mode)"""
    tears: Sequence[tuple[float, str]]
    """(when, site): one of the checkpoints there is torn by then"""
    clears: float
    """Seconds after which nothing goes wrong any more."""
    split: bool
    """Are snapshot and write of a decision two transactions, which only the guards hold together?"""
    shared: bool
    """Do the processes know of each other, as workers of a service do: sites looked at in turns, slow calls left to
    whoever acts there?"""


def tell(seed: int) -> Story:
    """The story of that seed; the same every time."""
    rng = random.Random(seed)
    clears = rng.uniform(150, 420)
    count = rng.choice((2, 2, 3))
    lost = rng.randrange(count) if rng.random() < 0.08 else None
    ordeals = [_ordeal(rng, f"s{i}", clears, seed, lost=i == lost) for i in range(count)]
    stages = _stages(rng, count)
    stages += _copies(random.Random(f"copies {seed}"), stages, delivers=lost is None)
    return Story(
        seed=seed,
        ordeals=ordeals,
        stages=stages,
        commands=_commands(rng, stages, count, clears),
        drains=_drains(rng, count, clears),
        clears=clears,
        split=rng.random() < 0.4,
        tears=[(rng.uniform(0, clears), f"s{rng.randrange(count)}") for _ in range(rng.choice((0, 0, 1, 3)))],
        shared=rng.random() < 0.3,
    )


def _ordeal(rng: random.Random, name: str, clears: float, seed: int, *, lost: bool) -> Ordeal:
    dishonest, doubles = rng.random() < 0.06, rng.random() < 0.2
    odds = {what: chance for what, chance in ODDS.items() if rng.random() < 0.5}
    if doubles:
        odds["doubled"] = 0.3
    if dishonest:
        odds |= {"forgotten": 0.1, "id_reused": 0.3}
    config = site(
        name,
        slots=rng.randint(1, 3),
        settle=5.0,
        heartbeat=5,
        fence=10,
        unreachable_probes=rng.choice((1, 2, 3)),
        unreachable_seconds=rng.choice((0.0, 5.0, 15.0)),
        adopts=rng.random() < 0.4,
        listing_lag=rng.choice((0.0, 0.0, 3.0)),
        submit_latency=rng.choice((0.0, 0.0, 4.0)),
        cancel_grace=rng.choice((0.0, 0.0, 8.0)),
        requeue_delay=rng.choice((0.0, 6.0)),
        preempt_notice=rng.choice((0.0, 3.0)),
        odds=odds,
        seed=seed,
        tariff=Tariff(),
    )
    ordeal = Ordeal(config, dishonest=dishonest, doubles=doubles, lost=lost, slow=rng.random() < 0.25)
    _weather(rng, ordeal, clears)
    return ordeal


def _weather(rng: random.Random, ordeal: Ordeal, clears: float) -> None:
    def window(longest: float) -> dict[str, Any]:
        start = rng.uniform(0, clears * 0.9)
        return {"start": micros(start), "end": micros(min(clears, start + rng.uniform(3, longest)))}

    faults = ordeal.faults
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        faults.append(Partition(**window(150)))
    if rng.random() < 0.3:
        faults.append(Partition(**window(60), capabilities=rng.choice(SOME)))
    if rng.random() < 0.2:
        faults.append(Busy(**window(60)))
    if rng.random() < 0.2:
        faults.append(IncompleteListing(**window(60)))
    if rng.random() < 0.15:
        faults.append(ComputeDown(**window(60), requeue=rng.random() < 0.5))
    if rng.random() < 0.1:
        ordeal.wiped = rng.random() < 0.5
        faults.append(DisksGone(**window(60), wiped=ordeal.wiped))
    for _ in range(rng.choice((0, 0, 1, 2))):
        at = micros(rng.uniform(0, clears))
        requeue = rng.random() < 0.7
        faults.append(Preemption(start=at, count=2, notice=rng.choice((0.0, 4.0)), requeue=requeue))
    if rng.random() < 0.15:
        faults.append(NodeFailure(start=micros(rng.uniform(0, clears)), requeue=rng.random() < 0.5))
    if ordeal.dishonest and rng.random() < 0.5:
        faults.append(ControllerCrash(**window(20)))
    if ordeal.dishonest and rng.random() < 0.5:
        faults.append(AccountingPurged(start=micros(rng.uniform(0, clears))))
    if ordeal.lost:
        faults.append(SiteLost(start=micros(rng.uniform(10, clears))))


def _stages(rng: random.Random, sites: int) -> list[Stage]:
    stages: list[Stage] = []
    for i in range(rng.randint(2, 5)):
        parents = [stage for stage in stages if rng.random() < 0.4]
        takes = [p for p in parents if p.outputs and rng.random() < 0.6]
        stages.append(_stage(rng, i, parents, takes, sites))
    return stages


PLACES = ("spot", "data", "cfs")
LIES = ("spot:raw/x", "spot:raw/y", "spot:d/1", "spot:d/e/2")
"""What there is from the beginning."""


def _copies(rng: random.Random, stages: Sequence[Stage], *, delivers: bool) -> list[Stage]:
    """In some stories data is moved too: between places, and from what stages leave. From a generator of their own, so
    that the others stay as they are. Without `delivers`: a site is lost for good, and what it holds with it."""
    if rng.random() > 0.35:
        return []
    made = [Stage("c0", copies=[("spot:raw/x", "data:raw/x"), ("spot:d/", "cfs:d/")], rules=_tried(rng))]
    if rng.random() < 0.3:
        made.append(Stage("c1", copies=[("spot:none", "data:none")], needs=["c0"], rules={"required": False}))
    for stage in stages if delivers else ():
        if stage.outputs and rng.random() < 0.6:
            (path,) = stage.outputs
            to = [(f"{stage.name}/{path}", f"{place}:{stage.name}") for place in ("data", "cfs")]
            rules = {**_tried(rng), "required": stage.rules["required"]}
            made.append(Stage(f"{stage.name}/deliver", copies=to[: rng.choice((1, 2))], rules=rules))
    return made


def _tried(rng: random.Random) -> dict[str, Any]:
    return {"retry": {"site_fault": rng.choice((3, 5))}}


def _stage(rng: random.Random, i: int, parents: Sequence[Stage], takes: Sequence[Stage], sites: int) -> Stage:
    words = [f"seconds={rng.choice((0, 4, 15, 40, 80))}", f"tag=t{i}"]
    outputs = [f"o{i}"] if rng.random() < 0.8 else []
    words += [f"outputs={path}:{rng.randint(1, 99)}" for path in outputs]
    checkpoint = rng.random() < 0.5
    if checkpoint:
        words.append(f"checkpoint_every={rng.choice((6, 10, 17))}")
    if rng.random() < 0.06:
        words.append("exit=3")
    prefer = [f"s{rng.randrange(sites)}"] if rng.random() < 0.5 else []
    rules: dict[str, Any] = {
        "sites": {"prefer": prefer},
        "failover": {
            "after": rng.choice((5.0, 20.0, 40.0)),
            "max": rng.choice((1, 3)),
            "old_copy": rng.choice(("kill", "kill", "drain")),
            "act": rng.choice(("auto", "auto", "auto", "auto", "ask")),
        },
        "duplicates": rng.choice(("allow", "allow", "allow", "never", "ask")),
        "retry": {"site_fault": rng.choice((1, 3, 4)), "app_fault": rng.choice((0, 1))},
        "required": rng.random() < 0.85,
    }
    if checkpoint:
        rules["checkpoint"] = {**CHECKPOINT, "ship": ("always", "auto")[i % 2], "keep": 1 + i % 3}
    return Stage(
        name=f"t{i}",
        sim=" ".join(words),
        needs=[p.name for p in parents],
        outputs=outputs,
        inputs=[(f"in{n}", p.name) for n, p in enumerate(takes)],
        rules=rules,
    )


def _commands(
    rng: random.Random, stages: Sequence[Stage], sites: int, clears: float
) -> list[tuple[float, str, str, dict[str, str]]]:
    asked: list[tuple[float, str, str, dict[str, str]]] = []

    def when() -> float:
        return rng.uniform(0, clears)

    placed = [stage for stage in stages if not stage.copies]

    def one() -> str:
        return rng.choice(placed).name

    if rng.random() < 0.07:
        asked.append((when(), "cancel", "", {}))
    if rng.random() < 0.1:
        asked.append((when(), "cancel", one(), {}))
    if rng.random() < 0.1:
        at = when()
        asked += [(at, "hold", "", {}), (at + rng.uniform(1, 60), "release", "", {})]
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        asked.append((when(), "move", one(), {"to": f"s{rng.randrange(sites)}"}))
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        asked.append((when(), "retry", one(), {}))
    return sorted(asked, key=lambda entry: entry[0])


def _drains(rng: random.Random, sites: int, clears: float) -> list[tuple[float, str, str]]:
    if rng.random() > 0.12:
        return []
    name, at = f"s{rng.randrange(sites)}", rng.uniform(0, clears)
    return [(at, name, "drained"), (min(clears, at + rng.uniform(5, 90)), name, "up")]
