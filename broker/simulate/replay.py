"""One start under one policy, through the real broker; what became of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise

from broker.simulate.clockwork import Clockwork
from broker.simulate.outcome import Outcome
from broker.simulate.setting import Setting
from broker.simulate.uptime import Uptime
from broker.simulate.waste import Piece, booked, wasted
from broker.simulate.world import Wait, World
from broker.spec import CompiledRun
from policies.numbers import USUAL_NUMBERS, Numbers
from sandbox.job import Execution

LOST = frozenset({"preempted", "node_failed"})
FEW_SWEEPS = (100_000, 50, 50)
"""Thresholds of the garbage collector while starts are replayed: rows are many, live shortly and form no circles, and
looking through them took a quarter of the time."""


def replay(
    traces: Sequence[Uptime],
    setting: Setting,
    made: CompiledRun,
    start: float,
    *,
    seed: int = 0,
    every_look: bool = False,
    waits: Mapping[str, Wait] | None = None,
    numbers: Numbers = USUAL_NUMBERS,
) -> Outcome:
    """The stage, started at that second of the traces. The same arguments bring the same outcome."""
    with closing(World(traces, setting, made, start=start, seed=seed, waits=waits, numbers=numbers)) as world:
        Clockwork(world, every_look=every_look).run()
        return outcome(world)


@contextmanager
def rarely_swept() -> Iterator[None]:
    """The garbage collector looks rarely, and never at what was there before."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*FEW_SWEEPS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def outcome(world: World) -> Outcome:
    """What the broker's rows and the sites' own books say of a run that is over, or has run into the limit."""
    row = world.store.run(world.run_id)
    ended = row.ended_at if row is not None and row.state == "SUCCEEDED" else None
    ran = sorted(
        ((name, execution) for name, site in world.sites.items() for execution in site.model.journal.executions),
        key=lambda pair: pair[1].started_at,
    )
    began = [(name, execution) for name, execution in ran if execution.began]
    products = world.store.products(world.run_id)
    lap = world.setting.lap
    saved = max((_reached(world, execution) // lap * lap for _, execution in began), default=0.0)
    worked = sum(_worked(world, execution) for _, execution in began)
    kept = saved if ended is None else world.setting.whole
    pieces = (
        Piece(start=execution.progress, worked=_worked(world, execution), lost=execution.how in LOST)
        for _, execution in began
    )
    return Outcome(
        span=None if ended is None else (ended - world.start) / 1e6,
        lost=max(0.0, worked - kept),
        spent=worked,
        waste=wasted(pieces, kept=kept),
        booked=None if world.setting.charge is None else booked(world.store.money.charges(world.run_id)),
        failures=sum(execution.how in LOST for _, execution in began),
        moves=sum(former != latter for (former, _), (latter, _) in pairwise(began)),
        double_submissions=sum(
            count - 1 for site in world.sites.values() for count in site.model.journal.submissions().values()
        ),
        products=len(products),
        digest=products[0].manifest_digest if products else "",
    )


def _worked(world: World, execution: Execution) -> float:
    """Seconds that an execution worked."""
    now = world.clock()
    end = now if execution.ended_at is None else min(execution.ended_at, now)
    return max(0.0, (end - execution.progress_at) / 1e6)


def _reached(world: World, execution: Execution) -> float:
    """How far in the stage's work it came, what it was restored with included."""
    return execution.progress + _worked(world, execution)
