"""What judging health costs: 20 sites from 10 000 rows of evidence, CPU milliseconds, the median of many turns.

python benchmarks/health.py
"""

from __future__ import annotations

import os
import random
import statistics
import time

from policies.blackhole import Subject, holes
from policies.evidence import CALL, FEED, JOB, LOOK, PROBE, TRANSFER, Fact
from policies.health import judge
from policies.verdicts import CAPABILITIES, Standing

SITES, ROWS, TURNS = 20, 10_000, 50
NOW = 1_800_000_000 * 1_000_000
BOUND = 10.0
"""Milliseconds."""
SOURCES = {"status": LOOK, "submit": CALL, "compute": JOB, "transfer": TRANSFER, "files": PROBE, "credentials": PROBE}


def evidence(seed: int = 1) -> dict[str, list[Fact]]:
    """Six hours of a busy installation: one fact in ten is a failure, one in twenty comes from a feed."""
    dice = random.Random(seed)
    rows: dict[str, list[Fact]] = {f"site{i}": [] for i in range(SITES)}
    for i in range(ROWS):
        site, capability = f"site{i % SITES}", CAPABILITIES[i // SITES % len(CAPABILITIES)]
        source = FEED if dice.random() < 0.05 else SOURCES[capability]
        whom = Subject(f"app{i % 7}", f"person{i % 3}", f"run{i}").text if source == JOB else ""
        at = NOW - dice.randrange(21_000_000_000)
        took = dice.randrange(1_000_000, 2_000_000_000)
        rows[site].append((site, at, capability, dice.random() > 0.1, took, "words", source, "", whom, None))
    for each in rows.values():
        each.sort(key=lambda row: -row[1])  # as the store answers: newest first
    return rows


def turn(rows: dict[str, list[Fact]]) -> float:
    """CPU milliseconds of one judgement of all sites."""
    begun = time.process_time()
    found = holes(rows, now=NOW)
    for site, facts in rows.items():
        judge(Standing(site=site, hole=found[site].site if site in found else None), facts, now=NOW)
    return (time.process_time() - begun) * 1e3


def main() -> None:
    rows = evidence()
    times = sorted(turn(rows) for _ in range(TURNS))
    median = statistics.median(times)
    print(f"health of {SITES} sites from {ROWS} rows: {median:.1f} ms CPU, median of {TURNS}")
    print(
        f"the quickest {times[0]:.1f} ms, the slowest {times[-1]:.1f} ms; load of the machine {os.getloadavg()[0]:.1f}"
    )
    print(f"bound {BOUND:g} ms: {'kept' if median < BOUND else 'BROKEN'}")


if __name__ == "__main__":
    main()
