"""Leases: one decides, a stranger waits, and whoever was overtaken writes nothing."""

from __future__ import annotations

import threading

import pytest
from store_kit import RUN, apply, deciding, effect_row, new_run, run_of, stage_of

from broker.clock import VirtualClock
from broker.store.base import Changes, LeaseLost, NewEvent
from broker.store.sql import SqlStore


@pytest.fixture(autouse=True)
def _one_run(store: SqlStore) -> None:
    store.create_run(new_run())


def test_a_held_run_is_not_given_to_another(store: SqlStore) -> None:
    assert store.acquire(RUN, owner="a", ttl=10)
    assert store.acquire(RUN, owner="b", ttl=10) is None


def test_there_is_no_lease_on_a_run_that_does_not_exist(store: SqlStore) -> None:
    assert store.acquire("nowhere", owner="a", ttl=10) is None


def test_the_owner_may_take_it_again_and_the_token_grows(store: SqlStore) -> None:
    first = store.acquire(RUN, owner="a", ttl=10)
    second = store.acquire(RUN, owner="a", ttl=10)
    assert first
    assert second
    assert second.token == first.token + 1


def test_a_lapsed_lease_goes_to_whoever_asks(store: SqlStore, clock: VirtualClock) -> None:
    store.acquire(RUN, owner="a", ttl=10)
    clock.advance(9.999)
    assert store.acquire(RUN, owner="b", ttl=10) is None
    clock.advance(0.001)
    assert store.acquire(RUN, owner="b", ttl=10)


def test_a_lease_that_was_taken_over_cannot_write(store: SqlStore, clock: VirtualClock) -> None:
    old = store.acquire(RUN, owner="a", ttl=10)
    clock.advance(11)
    store.acquire(RUN, owner="b", ttl=10)
    assert old
    with pytest.raises(LeaseLost, match=RUN), store.deciding(old, ttl=10):
        pytest.fail("it was let in")


def test_a_lease_superseded_by_its_own_owner_cannot_write(store: SqlStore) -> None:
    old = store.acquire(RUN, owner="a", ttl=10)
    store.acquire(RUN, owner="a", ttl=10)
    assert old
    with pytest.raises(LeaseLost), store.deciding(old, ttl=10):
        pytest.fail("it was let in")


def test_a_lapsed_lease_that_nobody_took_still_writes(store: SqlStore, clock: VirtualClock) -> None:
    lease = store.acquire(RUN, owner="a", ttl=10)
    clock.advance(60)
    assert lease
    with store.deciding(lease, ttl=10) as tx:
        tx.apply(Changes(events=[NewEvent(kind="late")]), now=1)
    assert [event.kind for event in store.events(RUN)] == ["accepted", "late"]


def test_deciding_renews_the_lease(store: SqlStore, clock: VirtualClock) -> None:
    lease = store.acquire(RUN, owner="a", ttl=10)
    clock.advance(8)
    assert lease
    with store.deciding(lease, ttl=10) as tx:
        tx.apply(Changes(events=[NewEvent(kind="x")]), now=1)
    clock.advance(8)
    assert store.acquire(RUN, owner="b", ttl=10) is None


def test_a_lease_given_back_cannot_write_and_is_free(store: SqlStore) -> None:
    lease = store.acquire(RUN, owner="a", ttl=10)
    assert lease
    assert store.release(lease, due_at=None)
    assert not store.release(lease, due_at=None)
    with pytest.raises(LeaseLost), store.deciding(lease, ttl=10):
        pytest.fail("it was let in")
    assert store.acquire(RUN, owner="b", ttl=10)


def test_a_lost_lease_given_back_changes_nothing(store: SqlStore, clock: VirtualClock) -> None:
    old = store.acquire(RUN, owner="a", ttl=10)
    clock.advance(11)
    store.acquire(RUN, owner="b", ttl=10)
    before = run_of(store)
    assert old
    assert not store.release(old, due_at=77)
    assert run_of(store) == before


@pytest.mark.parametrize(
    ("asked", "stage", "effect", "expected"),
    [(50, 70, 90, 50), (90, 70, 50, 50), (None, 70, 90, 70), (60, None, None, 60), (None, None, None, None)],
)
def test_a_run_given_back_is_due_at_the_least_of_all_hints(
    store: SqlStore, asked: int | None, stage: int | None, effect: int | None, expected: int | None
) -> None:
    effects = [effect_row("e", due_at=effect)] if effect is not None else []
    apply(store, Changes(stages=[stage_of(store, 0)._replace(due_at=stage)], effects=effects))
    lease = store.acquire(RUN, owner="me", ttl=10)
    assert lease
    store.release(lease, due_at=asked)
    assert run_of(store).due_at == expected


def test_breaking_frees_the_leases_and_claims_of_the_dead_only(store: SqlStore) -> None:
    store.create_run(new_run(run_id="two"))
    lapses = store.now() + 10_000_000
    claims = {"e1": "dead/1", "e2": "alive/1"}
    effects = [effect_row(key, claim=claim, claim_until=lapses) for key, claim in claims.items()]
    with deciding(store, owner="dead/2") as tx:
        tx.apply(Changes(effects=effects), now=1)
    store.acquire("two", owner="alive/2", ttl=10)
    assert store.break_leases(lambda owner: owner.startswith("dead")) == 2
    assert store.acquire(RUN, owner="new", ttl=10)
    assert store.acquire("two", owner="new", ttl=10) is None
    claimed = store.claim_effects(claim="new", ttl=10, now=store.now(), limit=9)
    assert [row.key for row in claimed] == ["e1"]


def test_a_run_whose_lease_was_broken_is_due_at_once(store: SqlStore) -> None:
    lease = store.acquire(RUN, owner="dead", ttl=10)
    assert lease
    store.release(lease, due_at=None)
    store.acquire(RUN, owner="dead", ttl=1000)
    assert store.break_leases(lambda _owner: True) == 1
    assert list(store.due_runs(now=store.now(), limit=9, resend_after=5)) == [RUN]


def test_of_many_threads_that_ask_at_once_one_gets_the_run(store: SqlStore) -> None:
    start, got = threading.Barrier(8), []

    def ask(name: str) -> None:
        start.wait()
        if lease := store.acquire(RUN, owner=name, ttl=10):
            got.append(lease)

    threads = [threading.Thread(target=ask, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_tokens_never_fall_however_a_lease_ends(store: SqlStore, clock: VirtualClock) -> None:
    tokens = []
    for end in ("release", "lapse", "break", "release"):
        lease = store.acquire(RUN, owner="a", ttl=10)
        assert lease
        tokens.append(lease.token)
        if end == "release":
            store.release(lease, due_at=None)
        elif end == "lapse":
            clock.advance(11)
        else:
            store.break_leases(lambda _owner: True)
    assert tokens == [1, 2, 3, 4]


def test_a_second_transaction_inside_a_decision_is_an_error_and_no_deadlock(store: SqlStore) -> None:
    lease = store.acquire(RUN, owner="a", ttl=10)
    assert lease
    with pytest.raises(RuntimeError, match="inside a transaction"), store.deciding(lease, ttl=10):
        store.acquire(RUN, owner="b", ttl=10)
