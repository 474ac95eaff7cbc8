"""What placing by expected finish costs: one stage over 20 sites with history; CPU milliseconds, median of many turns.

python benchmarks/forecast.py
"""

from __future__ import annotations

import os
import random
import statistics
import time

from broker.engine.forecasting import Forecasts, Known
from broker.facts import World, site_facts, site_setup
from broker.store.base import Installation
from connectors.model import Resources
from connectors.registry import SiteConfig
from policies.history import History
from policies.model import Rules, SiteFacts
from policies.placement import Candidate, place
from policies.waits import NEWEST, Job
from policies.waits import learn as learn_queue
from policies.work import Ran
from policies.work import learn as learn_works

SITES, STAGES, TURNS = 20, 100, 300
NOW = 1_800_000_000 * 1_000_000
BOUND = 1.0
"""Milliseconds for one decision."""
RULES = Rules(resources=Resources(walltime=3600.0))


def history(seed: int = 1) -> tuple[History, float]:
    """Two busy weeks: 400 jobs at each site, 100 stages that ran at most of them; and the CPU that learning took."""
    dice = random.Random(seed)
    names = [f"site{i:02}" for i in range(SITES)]
    jobs = {name: [_job(dice, i) for i in range(NEWEST)] for name in names}
    runs = [
        Ran(("app", f"stage{i}"), f"d{i}", name, dice.lognormvariate(7, 0.3), NOW - dice.randrange(10**12))
        for i in range(STAGES)
        for name in names
        for _ in range(dice.randrange(5))
    ]
    begun = time.process_time()
    queues = {name: learn_queue(known, now=NOW) for name, known in jobs.items()}
    works = learn_works(runs)
    return History(queues=queues, works=works), (time.process_time() - begun) * 1e3


def _job(dice: random.Random, i: int) -> Job:
    submitted = NOW - dice.randrange(12 * 86_400) * 1_000_000
    started = None if i % 40 == 0 else submitted + round(dice.lognormvariate(6, 1.5) * 1e6)
    return Job(dice.choice(("normal", "urgent")), dice.choice((1, 4, 32)), submitted, started)


def world(learned: History) -> tuple[World, list[SiteFacts]]:
    configs = [SiteConfig(name=name, connector="command", slots=50, nodes=64, cores=64) for name in learned.queues]
    setups = {config.name: site_setup(config) for config in configs}
    facts = [site_facts(setup, None, load=i, share=20, now=NOW) for i, setup in enumerate(setups.values())]
    return World(installation=Installation("i", 0, NOW), sites=setups, history=learned), facts


def decide(forecasts: Forecasts, facts: list[SiteFacts], path: str) -> int:
    """One decision as the engine makes it, with its text; its length."""
    known = Known(app="app", path=path)
    static = dict.fromkeys(site.name for site in facts)
    plain = [Candidate(site=site, rules=RULES) for site in facts]
    told = forecasts.with_them(plain, alike=(0, "rules"), known=known, static=static)
    return len(place(told, now=NOW, static=static).json)


def measured(learned: History, path: str) -> list[float]:
    """CPU milliseconds of each decision of one look, the first one left out: it works out what all share."""
    around, facts = world(learned)
    forecasts = Forecasts(around)
    decide(forecasts, facts, path)
    times = []
    for _ in range(TURNS):
        begun = time.process_time()
        decide(forecasts, facts, path)
        times.append((time.process_time() - begun) * 1e3)
    return sorted(times)


def main() -> None:
    learned, learning = history()
    median = 0.0
    for what, path in (("with runs of its own", "stage1"), ("like all others of its rules", "never")):
        times = measured(learned, path)
        median = max(median, statistics.median(times))
        print(
            f"a stage {what}: {statistics.median(times):.2f} ms CPU over {SITES} sites, median of {TURNS} "
            f"(the quickest {times[0]:.2f} ms, the slowest {times[-1]:.2f} ms)"
        )
    print(f"learning {SITES} queues of {NEWEST} jobs and {STAGES} stages: {learning:.0f} ms CPU, every 15 s at most")
    print(f"load of the machine {os.getloadavg()[0]:.1f}")
    print(f"bound {BOUND:g} ms: {'kept' if median < BOUND else 'BROKEN'}")


if __name__ == "__main__":
    main()
