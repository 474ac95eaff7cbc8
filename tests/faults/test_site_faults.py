"""Sites that fall silent, forget, lie, or go down one after the other. Simulated, under a virtual clock.

The rows are judged by the audit, and by what really ran: the sites' own journals, which no broker reads.
"""

from __future__ import annotations

import json

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site
from simulation.truth import Broken, judge

from broker.clock import micros
from connectors.model import JobState
from sandbox.connector import SimulatedSite
from sandbox.faults import AccountingPurged, NodeFailure, Partition
from sandbox.site import SiteModel

HOUR = 3600.0
FOR_EVER = 1000 * HOUR
CARRIED = {"sites": {"prefer": ["old"]}}
"""Begins at `old`; after five minutes of silence it is carried elsewhere, where there is an elsewhere."""


def dark(lab: Lab, name: str, start: float, end: float) -> None:
    """No answer between these seconds from now; queue, jobs and disks go on behind it."""
    now = lab.clock()
    lab.sites[name].model.inject(Partition(start=now + micros(start), end=now + micros(end)))


def states(lab: Lab, run: str, stage: str = "a") -> list[tuple[str, str]]:
    return [(row.site, row.state) for row in lab.attempts(run, stage)]


def put_away(lab: Lab) -> list[str]:
    """What is wrong when everything has had its time to come to its end."""
    lab.run_for(400)
    return judge(lab.store, lab.sites, Broken())


# -- F31: the API is away, the job runs on --------------------------------------------------------------------


@pytest.mark.fault("F31")
def test_a_job_whose_sites_api_is_away_is_shown_as_unreachable_and_taken_up_when_it_answers() -> None:
    lab = Lab(site("old"), site("new"))
    run = lab.submit(Stage("a", "seconds=400 outputs=o:9", outputs=["o"], rules=CARRIED))
    lab.run_for(100)
    dark(lab, "old", 0, 200)
    lab.run_for(100)
    (attempt,) = lab.attempts(run, "a")
    assert (attempt.state, attempt.unreachable_since is not None) == ("RUNNING", True)
    assert lab.finish(run) == "SUCCEEDED"
    assert states(lab, run) == [("old", "SUCCEEDED")]
    assert put_away(lab) == []


@pytest.mark.fault("F31")
def test_a_job_that_ends_behind_a_silent_api_is_neither_lost_nor_run_again() -> None:
    lab = Lab(site("old"))
    run = lab.submit(Stage("a", "seconds=200 outputs=o:9", outputs=["o"], rules=CARRIED))
    lab.run_for(100)
    dark(lab, "old", 0, 10 * HOUR)
    lab.run_for(9 * HOUR, step=60)
    assert lab.state(run) == "RUNNING"
    assert lab.finish(run, step=60) == "SUCCEEDED"
    assert sum(e.began for e in lab.executions()) == 1
    assert put_away(lab) == []


@pytest.mark.fault("F31")
def test_a_copy_that_still_runs_when_its_site_answers_again_is_ended_there() -> None:
    lab = Lab(site("old"), site("new"))
    run = lab.submit(Stage("a", "seconds=3000 outputs=o:9", outputs=["o"], rules=CARRIED))
    lab.run_for(100)
    dark(lab, "old", 0, 600)
    lab.run_for(900)
    assert states(lab, run) == [("old", "CANCELED"), ("new", "RUNNING")]
    assert lab.finish(run) == "SUCCEEDED"
    assert put_away(lab) == []


# -- F32: both sites run it -----------------------------------------------------------------------------------


def both_run(lab: Lab, *, old: float, until: float, new_dark_from: float | None = None) -> str:
    """A stage of `old` seconds whose site is silent from 100 s to `until`; its second copy begins at about 400 s."""
    run = lab.submit(Stage("a", f"seconds={old:g} outputs=o:9", outputs=["o"], rules=CARRIED))
    lab.settle()
    dark(lab, "old", 100, until)
    if new_dark_from is not None:
        dark(lab, "new", new_dark_from, until)
    assert lab.finish(run) == "SUCCEEDED"
    copies = [e for e in lab.executions() if e.began]
    assert len(copies) == 2
    assert copies[1].started_at < (copies[0].ended_at or lab.clock())
    return run


@pytest.mark.fault("F32")
def test_when_the_old_copy_ends_first_its_result_is_taken_and_the_new_copy_ended() -> None:
    lab = Lab(site("old"), site("new"))
    run = both_run(lab, old=1000, until=1050)
    (product,) = lab.store.products(run)
    assert (product.site, product.adopted) == ("old", 1)
    assert put_away(lab) == []
    assert states(lab, run) == [("old", "SUCCEEDED"), ("new", "SUPERSEDED")]


@pytest.mark.fault("F32")
def test_when_the_old_copy_ends_last_it_changes_nothing_and_is_put_away() -> None:
    lab = Lab(site("old"), site("new"))
    run = both_run(lab, old=1000, until=5000)
    (product,) = lab.store.products(run)
    assert (product.site, product.adopted) == ("new", 0)
    lab.run_for(5000)
    assert put_away(lab) == []
    assert states(lab, run) == [("old", "SUPERSEDED"), ("new", "SUCCEEDED")]


@pytest.mark.fault("F32")
def test_when_both_copies_have_ended_at_the_same_look_one_of_them_counts() -> None:
    lab = Lab(site("old"), site("new"))
    run = both_run(lab, old=1000, until=2000, new_dark_from=900)
    assert len(lab.store.products(run)) == 1
    assert put_away(lab) == []
    assert not any(row.open for row in lab.attempts(run, "a"))
    assert sum(count for s in lab.sites.values() for count in s.model.journal.completions().values()) == 2


# -- F33: it comes back and knows nothing of the job ------------------------------------------------------------


def forget(lab: Lab, after: float) -> None:
    now = lab.clock()
    lab.sites["old"].model.inject(AccountingPurged(start=now + micros(after)))


@pytest.mark.fault("F33")
def test_of_a_job_that_its_site_has_forgotten_the_exit_record_and_the_files_say_that_it_succeeded() -> None:
    lab = Lab(site("old"))
    run = lab.submit(Stage("a", "seconds=200 outputs=o:9", outputs=["o"], rules=CARRIED))
    lab.run_for(100)
    dark(lab, "old", 0, 1000)
    forget(lab, 900)
    assert lab.finish(run) == "SUCCEEDED"
    (attempt,) = lab.attempts(run, "a")
    assert not lab.sites["old"].find([attempt.submit_key]).items
    assert sum(e.began for e in lab.executions()) == 1
    assert put_away(lab) == []


@pytest.mark.fault("F33")
def test_of_a_job_that_its_site_has_forgotten_the_exit_record_says_that_it_failed() -> None:
    lab = Lab(site("old"))
    run = lab.submit(Stage("a", "seconds=200 exit=3", rules=CARRIED))
    lab.run_for(100)
    dark(lab, "old", 0, 1000)
    forget(lab, 900)
    assert lab.finish(run) == "FAILED"
    assert [(row.failure, row.number) for row in lab.attempts(run, "a")] == [("application", 1)]
    assert put_away(lab) == []


@pytest.mark.fault("F33")
def test_a_forgotten_job_that_left_no_record_either_is_lost_and_begun_again() -> None:
    """Absence from a complete listing, and no sign of life: neither success nor the payload's failure is inferred."""
    lab = Lab(site("old"))
    run = lab.submit(Stage("a", "seconds=200 outputs=o:9", outputs=["o"], rules=CARRIED))
    lab.run_for(100)
    dark(lab, "old", 0, 1000)
    forget(lab, 900)
    lab.sites["old"].model.inject(NodeFailure(start=lab.clock() + micros(10)))
    assert lab.finish(run) == "SUCCEEDED"
    first, second = lab.attempts(run, "a")
    print(first)
    assert (first.state, second.state) == ("FAILED", "SUCCEEDED")
    assert put_away(lab) == []


# -- F34: it says "done" and it is not so ------------------------------------------------------------------------


def liar(lab: Lab, lie: str) -> SimulatedSite:
    """`old` tells this lie of the next success."""
    model: SiteModel = lab.sites["old"].model
    model._dice.lies = (lie,)
    model.ordain("liar")
    return lab.sites["old"]


@pytest.mark.fault("F34")
@pytest.mark.parametrize("lie", ["outputs missing", "outputs truncated", "no exit record"])
def test_what_a_site_calls_done_counts_only_when_its_outputs_are_there_and_whole(lie: str) -> None:
    lab = Lab(site("old"), site("new"))
    run = lab.submit(Stage("a", "seconds=50 outputs=o:900", outputs=["o"], rules=CARRIED))
    liar(lab, lie)
    assert lab.finish(run) == "SUCCEEDED"
    first, *others = lab.attempts(run, "a")
    (product,) = lab.store.products(run)
    print(lie, first, [(a.site, a.state, a.failure, a.reason) for a in lab.attempts(run, "a")])
    assert product.attempt == len(others) + 1
    assert put_away(lab) == []
