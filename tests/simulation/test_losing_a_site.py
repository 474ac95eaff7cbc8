"""The drill `every-tenth`: a reconstruction's site dies with its disks, at every tenth of the work, and little of it is
done twice. `crossfade drill run every-tenth` prints what each loss cost."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from broker.drill.casting import cast
from broker.drill.document import DrillDocument, Incident, checked, plays_of, read_drill
from broker.drill.measure import Figures, measure
from broker.drill.play import play
from broker.drill.rehearse import rehearse
from broker.drill.shipped import shipped
from broker.spec import document_from

DRILL, RAW = read_drill(shipped()["every-tenth"])
EVERY = 120.0
"""Seconds between two checkpoints of the drill."""


def shipping(how: str) -> DrillDocument:
    """The drill, with copies sent as that word says."""
    data: dict[str, Any] = {**RAW.data}
    recon = {**data["workflow"]["stages"]["recon"], "checkpoint": {"path": ".", "ship": how}}
    return checked(document_from({**data, "workflow": {**data["workflow"], "stages": {"recon": recon}}}, name="drill"))


def cost(drill: DrillDocument, incidents: list[Incident], seed: int = 1) -> Figures:
    with closing((played := play(drill, cast(drill, name="drill"), incidents, seed=seed)).ground):
        return measure(played, drill.carrying)


@pytest.mark.parametrize("part", range(len(plays_of(DRILL))), ids=lambda part: f"{5 + 10 * part}%")
def test_a_site_that_dies_with_its_disks_costs_no_more_than_was_meant(part: int) -> None:
    one = DRILL.model_copy(update={"incidents": plays_of(DRILL)[part]})
    (outcome,) = rehearse(one, cast(one, name="drill"), name="drill").outcomes
    assert outcome.verdict.ok, outcome.verdict
    figures = outcome.figures
    assert 0 < figures.lost <= figures.shipping
    assert figures.products == figures.moves == 1
    assert figures.restores == 1, "the first one left at once"
    assert figures.copies <= 3 + part, "no more copies than were meant"


def test_without_copies_all_of_it_is_done_again() -> None:
    figures = cost(shipping("never"), plays_of(DRILL)[5])
    assert figures.lost == pytest.approx(0.55 * 7200, abs=1)
    assert figures.lost > figures.shipping, "which is more than the drill allows"


def test_with_every_copy_only_the_time_on_the_way_is_lost() -> None:
    figures = cost(shipping("always"), plays_of(DRILL)[5])
    assert 0 < figures.lost <= 3 * EVERY + 2 * 100 + 60
