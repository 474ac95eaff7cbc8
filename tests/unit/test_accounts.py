"""What the sites say of money: balances are read, told of in time, and charges compared with their accountings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from broker_kit import Lab, Stage, site

from connectors.errors import SiteUnreachable
from connectors.model import Accounted, Balance, Tariff
from policies.budget import MICRO, allocation_ends

HOUR = 3600.0
DAY = 86_400 * MICRO


class Books:
    """A site's account service, as a test tells it."""

    def __init__(self, lab: Lab, name: str = "nersc") -> None:
        self.granted, self.used, self.ends_at, self.dark, self.asked = 100.0, 0.0, None, False, 0
        self.elapsed: dict[str, float] = {}
        self.lab = lab
        behind: Any = lab.sites[name]
        behind.balances, behind.accounted = self.balances, self.accounted

    def balances(self, account: str) -> Sequence[Balance]:
        self.asked += 1
        if self.dark:
            raise SiteUnreachable("the account service is away", site="nersc")
        return [Balance(account=account, granted=self.granted, used=self.used, unit="node_hours", ends_at=self.ends_at)]

    def accounted(self, keys: Sequence[str], *, since: int) -> Mapping[str, Accounted]:
        assert since >= 0
        return {key: Accounted(key=key, node_seconds=self.elapsed[key]) for key in keys if key in self.elapsed}


def lab_and_books(**options: Any) -> tuple[Lab, Books]:
    lab = Lab(site("nersc", **{"tariff": Tariff(), "account": "m1234", "nodes": 8, **options}))
    return lab, Books(lab)


def stage(name: str, seconds: float, hours: float) -> Stage:
    return Stage(name, f"seconds={seconds:g}", rules={"resources": {"walltime": hours * HOUR}})


def told(lab: Lab) -> list[str]:
    events = [event for event in lab.store.events("site:nersc") if event.kind == "allocation_ending"]
    return [json.loads(event.data)["text"] for event in events]


def test_a_balance_is_read_now_and_then_and_kept_with_its_age() -> None:
    lab, books = lab_and_books()
    lab.run_for(60)
    (row,) = lab.store.money.allocations()
    assert (row.account, row.granted, row.used, row.unit) == ("m1234", 100 * MICRO, 0, "node_hours")
    lab.run_for(600, step=30)
    assert books.asked == 1
    books.used = 40.0
    lab.run_for(600, step=30)
    assert books.asked == 2
    (row,) = lab.store.money.allocations()
    assert row.used == 40 * MICRO


def test_a_balance_that_cannot_be_read_stays_as_it_was_and_says_why() -> None:
    lab, books = lab_and_books()
    lab.run_for(30)
    (first,) = lab.store.money.allocations()
    books.dark = True
    lab.run_for(1000, step=30)
    (row,) = lab.store.money.allocations()
    assert (row.granted, row.read_at) == (first.granted, first.read_at)
    assert "the account service is away" in row.detail


def test_a_site_that_charges_nothing_is_never_asked() -> None:
    lab, books = lab_and_books(tariff=None)
    lab.run_for(60)
    assert books.asked == 0
    assert lab.store.money.allocations() == []


def test_nothing_is_placed_that_the_balance_read_cannot_pay_for() -> None:
    lab, books = lab_and_books()
    books.used = 96.8
    lab.run_for(10)
    run = lab.submit(stage("a", 60, hours=4), stage("b", 60, hours=3))
    lab.run_for(20)
    assert "m1234 at nersc has 3.2 node-hours left, this needs 4 node-hours" in lab.stage(run, "a").reason
    assert lab.stage(run, "b").state != "READY"


def test_an_allocation_that_ends_is_told_of_once_for_each_reason() -> None:
    lab, books = lab_and_books()
    books.used = 96.0
    lab.run_for(2000, step=60)
    assert told(lab) == ["the allocation of m1234 at nersc has 4 node-hours left of 100 node-hours"]
    books.granted = 200.0
    lab.run_for(1000, step=60)
    assert len(told(lab)) == 1
    books.ends_at = lab.clock() + 5 * DAY
    lab.run_for(1000, step=60)
    assert told(lab)[1:] == ["the allocation of m1234 at nersc ends in 5 days, with 104 node-hours left"]


@pytest.mark.parametrize(
    ("left", "held", "ends_at", "words"),
    [
        (50, 0, None, ""),
        (4, 0, None, "has 4 node-hours left of 100 node-hours"),
        (30, 30, None, "has 30 node-hours left, and 30 node-hours of it are held"),
        (50, 0, 20 * DAY, ""),
        (50, 0, 13 * DAY, "ends in 13 days, with 50 node-hours left"),
        (50, 0, -1, "has ended"),
    ],
)
def test_what_makes_an_allocation_worth_a_word(left: int, held: int, ends_at: int | None, words: str) -> None:
    found = allocation_ends(left=left * MICRO, granted=100 * MICRO, held=held * MICRO, ends_at=ends_at, now=0)
    assert (found[1]("node_hours") if found else "") == words


def test_charges_are_compared_with_the_sites_own_accounting_once_they_are_over() -> None:
    lab, books = lab_and_books()
    run = lab.submit(stage("a", 900, hours=1))
    assert lab.finish(run, step=10) == "SUCCEEDED"
    (attempt,) = lab.attempts(run, "a")
    books.elapsed[attempt.submit_key] = 1800.0
    lab.run_for(600, step=30)
    assert lab.store.money.charges(run)[0].told is None  # the accounting may lag
    lab.run_for(2400, step=30)
    (row,) = lab.store.money.charges(run)
    assert row.told == MICRO // 2
    (line,) = lab.store.money.sums(run)
    assert (line.told, line.told_ours) == (row.told, row.actual)
    books.elapsed[attempt.submit_key] = 9999.0
    lab.run_for(2400, step=60)
    assert lab.store.money.charges(run)[0].told == MICRO // 2


def test_whoever_is_told_of_allocations_is_told_until_there_is_enough_again() -> None:
    from broker.alerts.standing import _allocations

    lab, books = lab_and_books()
    books.used = 99.0
    lab.run_for(30)
    (matter,) = _allocations(lab.store, lab.clock())
    assert (matter.kind, matter.about, list(matter.sites)) == ("allocation_ending", "nersc/m1234", ["nersc"])
    assert matter.text == "the allocation of m1234 at nersc has 1 node-hours left of 100 node-hours"
    books.granted = 1000.0
    lab.run_for(1000, step=60)
    assert list(_allocations(lab.store, lab.clock())) == []
