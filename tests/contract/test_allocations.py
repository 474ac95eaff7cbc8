"""What sites with an account service say is left, and what their accounting says of jobs: over rehearsal faces."""

from __future__ import annotations

from pathlib import Path

import iri_kit
import nersc_kit
import pytest

from connectors.base import Accounting, AllocationSource
from connectors.errors import RequestRefused
from connectors.model import Accepted
from connectors.nersc.accounts import accounted_of, balances_of

KEYS = ("cfaaaaaaaaaaaa1", "cfaaaaaaaaaaaa2")


def test_nersc_tells_what_was_given_and_used_and_each_job_takes_from_it(tmp_path: Path) -> None:
    there = nersc_kit.Rehearsal(tmp_path)
    site = there.site()
    assert isinstance(site, AllocationSource)
    site.prepare()
    before = {one.pool: one for one in site.balances("m1234")}
    assert before.keys() == {"cpu", "gpu"}
    assert {one.unit for one in before.values()} == {"node_hours"}
    answers = site.submit([nersc_kit.simulated_job(KEYS[0], seconds=1800.0)])
    assert isinstance(answers[KEYS[0]], Accepted)
    there.sleep(3600.0)
    after = {one.pool: one for one in site.balances("m1234")}
    assert after["cpu"].granted == before["cpu"].granted
    assert after["cpu"].used - before["cpu"].used == pytest.approx(0.5, abs=0.02)
    assert after["cpu"].left == after["cpu"].granted - after["cpu"].used


def test_the_gpu_name_of_a_project_is_the_same_project_and_a_strange_one_is_refused(tmp_path: Path) -> None:
    site = nersc_kit.Rehearsal(tmp_path).site()
    assert {one.account for one in site.balances("m1234_g")} == {"m1234_g"}
    with pytest.raises(RequestRefused, match="m9 is not among your projects"):
        site.balances("m9")


def test_nerscs_accounting_tells_what_jobs_took_that_are_over(tmp_path: Path) -> None:
    there = nersc_kit.Rehearsal(tmp_path)
    site = there.site()
    assert isinstance(site, Accounting)
    site.prepare()
    began = there.now()
    site.submit([nersc_kit.simulated_job(KEYS[0], seconds=600.0), nersc_kit.simulated_job(KEYS[1], seconds=99_999.0)])
    there.sleep(1200.0)
    found = site.accounted([*KEYS, "cfzzzzzzzzzzzz9"], since=began)
    assert found.keys() == set(KEYS)
    assert found[KEYS[0]].node_seconds == pytest.approx(600, abs=60)
    assert (found[KEYS[0]].complete, found[KEYS[1]].complete) == (True, False)


def test_all_executions_under_one_name_are_added_up_and_steps_are_not() -> None:
    row = {"jobname": "k", "elapsedraw": "100", "allocnodes": "2", "alloccpus": "64", "end": "2026-01-01T00:00:00"}
    rows = [{**row, "jobid": "1"}, {**row, "jobid": "2"}, {**row, "jobid": "2.batch"}, {**row, "jobid": "x"}]
    found = accounted_of(rows, ["k"])["k"]
    assert (found.node_seconds, found.core_seconds, found.complete) == (400.0, 12_800.0, True)
    odd = accounted_of([{**row, "jobid": "3", "elapsedraw": "-5", "allocnodes": None, "end": "Unknown"}], ["k"])["k"]
    assert (odd.node_seconds, odd.complete) == (0.0, False)


def test_figures_of_a_project_that_are_no_figures_are_left_out() -> None:
    projects = [{"repo_name": "m1", "cpu_hours_given": "many", "cpu_hours_used": 1, "gpu_hours_given": 0}]
    assert balances_of(projects, "m1", "nersc") == []


@pytest.mark.parametrize("kind", ["alcf", "reference"])
def test_an_iri_site_tells_the_hours_of_its_projects(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(iri_kit.VARIABLE, iri_kit.TOKEN)
    there = iri_kit.Rehearsal(tmp_path, kind)
    site = there.site()
    assert isinstance(site, AllocationSource)
    account = site._place.account or "m1234"
    (balance,) = site.balances(account)
    assert (balance.account, balance.unit, balance.pool) == (account, "node_hours", "")
    assert balance.granted > 0
    with pytest.raises(RequestRefused, match="no project 'm9'"):
        site.balances("m9")
