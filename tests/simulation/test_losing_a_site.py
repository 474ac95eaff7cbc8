"""The drill: a reconstruction's site dies with its disks, at every tenth of the work, and little of it is done twice.

`pytest tests/simulation/test_losing_a_site.py -s` prints what each loss cost.
"""

from __future__ import annotations

import json

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site

from broker.audit import audit_run
from broker.clock import seconds
from policies.intervals import young
from policies.links import PRIOR, Sample
from sandbox.faults import SiteLost

WORK, EVERY = 7200.0, 120.0
"""Seconds of the reconstruction, and between two of its checkpoints."""
SIZE, BANDWIDTH, LATENCY = 2_000_000, 50_000.0, 60.0
COPY = LATENCY + SIZE / BANDWIDTH
LOSSES = 6 * 3600.0
STEP = 15.0
LOOKS = 4 * STEP
"""A checkpoint is seen, found good, and its copy seen to have arrived, each at the broker's next look."""
TENTHS = [part / 100 for part in range(5, 100, 10)]


def lab_of(seed: int) -> Lab:
    """Two facilities and a link that is known from thirty transfers like these."""
    lab = Lab(site("nersc", losses_every=LOSSES), site("alcf", losses_every=LOSSES), seed=seed)
    lab.mover._latency, lab.mover._bandwidth = LATENCY, BANDWIDTH
    known = PRIOR
    for _ in range(30):
        known = known.with_sample(Sample(bytes=SIZE, files=2, seconds=COPY))
    lab.broker.world.links.update({("nersc", "alcf", "globus"): known, ("alcf", "nersc", "globus"): known})
    return lab


def reconstruction(lab: Lab, ship: str) -> str:
    return lab.submit(
        Stage(
            "recon",
            f"seconds={WORK:.0f} checkpoint_every={EVERY:.0f} checkpoint_bytes={SIZE} outputs=volume:10",
            outputs=["volume"],
            rules={"checkpoint": {**CHECKPOINT, "ship": ship}, "sites": {"prefer": ["nersc"]}},
        )
    )


def lose(lab: Lab, run: str, part: float) -> tuple[float, float]:
    """Let the site die with its disks after that part of the work, and the run end; seconds of work that were done at
    the site by then, and that the copy which went on had not to do again."""
    lab.run_for(part * WORK, step=STEP)
    nersc = lab.sites["nersc"].model
    nersc.inject(SiteLost(start=lab.clock()))
    (first,) = nersc.journal.executions
    done = seconds(lab.clock() - first.started_at)
    assert lab.finish(run, step=STEP) == "SUCCEEDED"
    (second,) = lab.sites["alcf"].model.journal.executions
    return done, (second.restore_seq or 0) * EVERY


@pytest.mark.parametrize("part", TENTHS)
def test_a_site_that_dies_with_its_disks_costs_no_more_than_was_meant(part: float) -> None:
    lab = lab_of(seed=round(part * 100))
    run = reconstruction(lab, "auto")
    done, kept = lose(lab, run, part)
    interval = young(COPY, LOSSES)
    bound = interval + COPY + EVERY + LOOKS
    sent = [row for row in lab.store.decisions(run) if (row.kind, row.outcome) == ("ship", "ship") and row.attempt == 1]
    lost, share = done - kept, (done - kept) / WORK
    print(  # noqa: T201 - for whoever runs the drill
        f"lost after {part:4.0%}: {done:5.0f} s done, {kept:5.0f} s kept elsewhere, {lost:5.0f} s done again "
        f"({share:4.1%}; at the most {bound:.0f} s), {len(sent)} copies of {done // EVERY:.0f} checkpoints"
    )
    assert 0 <= lost <= bound
    assert len(sent) <= 2 + done / interval, "no more copies than were meant"
    assert kept > 0 or done <= EVERY + COPY + LOOKS, "the first one left at once"
    assert len(lab.store.products(run)) == 1
    assert [str(found) for found in audit_run(lab.store, run)] == []


def test_without_copies_all_of_it_is_done_again() -> None:
    lab = lab_of(seed=1)
    run = reconstruction(lab, "never")
    assert lose(lab, run, 0.55)[1] == 0
    assert len(lab.store.products(run)) == 1


def test_with_every_copy_only_the_time_on_the_way_is_lost() -> None:
    lab = lab_of(seed=1)
    run = reconstruction(lab, "always")
    done, kept = lose(lab, run, 0.55)
    assert 0 <= done - kept <= 2 * COPY + EVERY + LOOKS
    (second,) = [row for row in lab.store.attempts(run) if row.number == 2]
    assert json.loads(second.restore)["site"] == "alcf"
