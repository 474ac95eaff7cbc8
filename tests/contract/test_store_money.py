"""Charges, caps and allocations in the store: booked and settled once, summed exactly, the same on every database."""

from __future__ import annotations

from store_kit import RUN, attempt_row, deciding, new_run, stage_row

from broker.store.base import AllocationRow, CapRow, Changes, ChargeRow
from broker.store.sql import SqlStore


def charge(n: int = 0, attempt: int = 1, **said: object) -> ChargeRow:
    row = ChargeRow(
        run_id=RUN, n=n, attempt=attempt, site="nersc", account="m1", pool="cpu", person="ann", lane="normal",
        reservation="", unit="node_hours", rate=1_000_000, usd=0, nodes=1_000_000, estimated=4_000_000, actual=0,
        wasted=0, cause="", source="", doubles=0, cut=0, cut_wasted=0, booked_at=5, settled_at=None, told=None,
        told_at=None,
    )  # fmt: skip
    return row._replace(**said)


def stored(store: SqlStore, *rows: ChargeRow) -> None:
    store.ensure_sites(["nersc"])
    store.create_run(new_run(stages=[stage_row(n, state="READY") for n in range(3)]))
    with deciding(store) as tx:
        tx.apply(Changes(new_attempts=[attempt_row(row.n) for row in rows], new_charges=list(rows)), now=5)


def settled(store: SqlStore, *rows: ChargeRow) -> None:
    with deciding(store) as tx:
        tx.apply(Changes(charges=list(rows)), now=9)


def test_a_charge_is_settled_once_and_what_comes_later_changes_nothing(store: SqlStore) -> None:
    stored(store, charge())
    over = charge(actual=3_000_000, wasted=1_000_000, cause="lost", source="site", settled_at=9)
    settled(store, over)
    settled(store, over._replace(actual=9, wasted=9, cause="queue", settled_at=12))
    assert list(store.money.charges(RUN)) == [over]
    assert store.money.charges(RUN, 1) == []


def test_sums_tell_apart_what_is_held_spent_wasted_and_doubled(store: SqlStore) -> None:
    stored(store, charge(0), charge(1, doubles=1), charge(2))
    settled(store, charge(2, actual=3_000_000, wasted=1_000_000, cause="lost", source="site", settled_at=9))
    rows = {row.cause: row for row in store.money.sums()}
    assert (rows[""].attempts, rows[""].open, rows[""].held, rows[""].actual) == (2, 2, 8_000_000, 0)
    assert (rows["lost"].actual, rows["lost"].wasted, rows["lost"].held) == (3_000_000, 1_000_000, 0)
    assert sum(row.doubled for row in rows.values()) == 5_000_000
    assert store.money.sums(RUN) == store.money.sums()
    assert store.money.sums("another") == []


def test_a_decision_sees_what_it_has_booked_itself(store: SqlStore) -> None:
    stored(store, charge(0))
    store.money.set_cap(CapRow("project", "m1", 10_000_000, None, "pi", "because", 6))
    with deciding(store) as tx:
        before = tx.purse(by_stage=False, projects=(), users=("ann",))
        assert [row.held for row in before.own] == [4_000_000]
        assert [row.held for row in before.shared["project", "m1"]] == [4_000_000]
        assert [row.held for row in before.shared["user", "ann"]] == [4_000_000]
        tx.apply(Changes(new_attempts=[attempt_row(1)], new_charges=[charge(1)]), now=7)
        after = tx.purse(by_stage=True, projects=(), users=())
    assert [(row.n, row.held) for row in sorted(after.own)] == [(0, 4_000_000), (1, 4_000_000)]
    assert [row.held for row in after.shared["project", "m1"]] == [8_000_000]


def test_of_an_allocation_that_was_read_only_what_came_since_is_held(store: SqlStore) -> None:
    stored(store, charge(0), charge(1, pool="gpu"), charge(2))
    settled(store, charge(2, actual=3_000_000, source="site", settled_at=9))
    rows = [
        AllocationRow("nersc", "m1", "cpu", "node_hours", 9_000_000, 0, None, 8, "", ""),
        AllocationRow("nersc", "m1", "", "node_hours", 9_000_000, 0, None, 10, "", ""),
    ]
    store.money.keep_allocations("nersc", rows, told=(), now=8)
    assert store.money.purse(RUN, projects=(), users=()).held == {
        ("nersc", "m1", "cpu"): 7_000_000,
        ("nersc", "m1", ""): 8_000_000,
    }
    store.money.keep_allocations("nersc", rows[:1], told=(), now=8)
    assert list(store.money.allocations()) == rows[:1]


def test_a_cap_is_set_replaced_and_removed_and_told_of(store: SqlStore) -> None:
    stored(store)
    first = CapRow("run", RUN, 10_000_000, None, "pi", "because", 6)
    store.money.set_cap(first)
    store.money.set_cap(first._replace(usd=5_000_000, at=7))
    assert list(store.money.caps()) == [first._replace(usd=5_000_000, at=7)]
    store.money.set_cap(first._replace(node_hours=None, at=8))
    assert store.money.caps() == []
    assert [event.kind for event in store.events(RUN)].count("budget_set") == 3
    assert all(stage.due_at == 8 for stage in store.stages(RUN))


def test_what_a_sites_accounting_says_is_written_once(store: SqlStore) -> None:
    stored(store, charge(0), charge(1), charge(2))
    over = [charge(n, actual=3_000_000, source="site", settled_at=9 + n) for n in range(2)]
    settled(store, *over, charge(2, cause="queue", source="none", settled_at=9))
    assert list(store.money.unreconciled("nersc", until=9, limit=9)) == over[:1]
    assert list(store.money.unreconciled("nersc", until=99, limit=9)) == over
    store.money.reconcile([over[0]._replace(told=3_100_000, told_at=50)])
    store.money.reconcile([over[0]._replace(told=1, told_at=60)])
    assert store.money.charges(RUN, 0)[0].told == 3_100_000
    assert list(store.money.unreconciled("nersc", until=99, limit=9)) == over[1:]
