"""PostgreSQL when things go wrong with it: killed in mid-commit, frozen, out of connections, transactions that clash.

The judge is the same as for every story: the audit of the rows, and what the simulated sites say really happened.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest
from broker_kit import Lab, Stage, site
from postgres_kit import MovedClock, Server
from simulation.crashing import Rig, Scenario
from simulation.scenarios import CHAIN, FAILOVER
from simulation.striking import undisturbed
from store_kit import RUN, TTL, apply, attempt_row, command_row, deciding, effect_row, new_run, run_of, stage_of

from broker.audit import audit_run
from broker.clock import VirtualClock
from broker.store import chain, connect, pipeline
from broker.store.base import (
    AttemptSeen,
    Changes,
    DecisionTx,
    EffectDone,
    NewEvent,
    Sightings,
    StageRow,
    StoreBusy,
    StoreError,
    StoreGone,
)
from broker.store.sql import SqlStore
from broker.store.transaction import Tx
from broker.store.wake import AT_SITE, hint_runs, hold

MOMENTS = ("before", "during", "after")
"""Of a commit: it was never sent; it was sent, and nobody knows; it was kept, and its answer is lost."""


class Cuts:
    """Kills the server, and starts it again, at chosen commits of this process."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self._server, self._real = server, pipeline.Transaction.commit
        self.moment_of: Callable[[int], str | None] = lambda _number: None
        self.commits, self.made = 0, 0
        monkeypatch.setattr(pipeline.Transaction, "commit", lambda tx: self._commit(tx))  # noqa: PLW0108  (a method)

    def _commit(self, tx: pipeline.Transaction) -> None:
        moment = self.moment_of(self.commits)
        self.commits += 1
        if moment is None:
            self._real(tx)
            return
        self.made += 1
        if moment == "after":
            self._real(tx)
        elif moment == "during":
            tx._line.command(b"COMMIT")
            tx._line._pgconn.pipeline_sync()
            tx._line._pgconn.flush()
        self._server.kill9()
        self._server.start()
        raise psycopg.OperationalError("the connection was lost")


@pytest.fixture
def cuts(own_postgres: Server, monkeypatch: pytest.MonkeyPatch) -> Cuts:
    return Cuts(own_postgres, monkeypatch)


@contextmanager
def opened(url: str, clock: VirtualClock | None = None, *, busy_seconds: float = 30.0) -> Iterator[SqlStore]:
    bits = random.Random(1).getrandbits
    store = SqlStore(url, clock=clock or VirtualClock(), bits=bits, busy_seconds=busy_seconds)
    try:
        yield store
    finally:
        store.close()


# -- F19: the server is killed -------------------------------------------------------------------------------


@pytest.mark.fault("F19")
@pytest.mark.parametrize(
    ("scenario", "offset"), [(CHAIN, 0), (CHAIN, 3), (FAILOVER, 1)], ids=lambda value: str(value)[:1]
)
def test_a_run_comes_to_the_same_end_however_often_the_server_is_killed_in_mid_commit(
    own_postgres: Server, cuts: Cuts, scenario: Scenario, offset: int
) -> None:
    clock = MovedClock()
    with opened(clock.moves(own_postgres, own_postgres.database()), clock) as store:
        cuts.commits = 0
        cuts.moment_of = lambda number: MOMENTS[number // 6 % 3] if number % 6 == offset else None
        played = Rig(scenario, ground=lambda: (clock, store)).play()
        assert cuts.made >= 6
        assert played.found == []
        assert played.ends == undisturbed(scenario).ends
    clock.close()


@pytest.mark.fault("F19")
@pytest.mark.parametrize("moment", MOMENTS)
def test_what_is_asked_of_the_store_is_done_once_when_the_server_dies_in_its_commit(
    own_postgres: Server, cuts: Cuts, moment: str
) -> None:
    """Each in turn: the method itself finds out whether its first try was kept."""
    with opened(own_postgres.url(own_postgres.database())) as store:
        store.ensure_sites(["nersc"])
        identity = store.installation()

        def cut_next() -> None:
            first = cuts.commits
            cuts.moment_of = lambda number: moment if number == first else None

        cut_next()
        assert store.create_run(new_run([(), (0,)], client_key="k")) == (RUN, True)
        assert store.create_run(new_run(run_id="other", client_key="k")) == (RUN, False)
        cut_next()
        store.add_command(command_row("c1"))
        assert run_of(store).commands == 1
        cut_next()
        assert list(store.due_runs(now=store.now(), limit=9, resend_after=60)) == [RUN]
        cut_next()
        lease = store.acquire(RUN, owner="me", ttl=TTL)
        assert lease
        assert run_of(store).lease_token == lease.token
        effects = [effect_row(f"e{k}") for k in range(3)]
        with store.deciding(lease, ttl=TTL) as tx:
            tx.apply(Changes(new_attempts=[attempt_row(0)], effects=effects), now=1)
        cut_next()
        claimed = store.claim_effects(claim="me", ttl=60, now=store.now(), limit=2)
        assert [(row.key, row.tries) for row in claimed] == [("e0", 1), ("e1", 1)]
        cut_next()
        facts = {"native_id": "j1"}
        standing = store.sites()[0]._replace(last_ok_at=5)
        seen = Sightings(
            effects_done=[EffectDone(key="e0", claim="me", outcome="{}", tries=1)],
            attempts=[AttemptSeen(run_id=RUN, n=0, number=1, facts=facts, effect="e0")],
            sites=[standing],
            events=[("site:nersc", NewEvent(kind="answers"))],
        )
        store.record(seen, now=70)
        states = {row.key: row.state for row in store.effects(RUN)}
        assert states == {"e0": "done", "e1": "pending", "e2": "pending"}
        assert store.attempts(RUN)[0].native_id == "j1"
        assert [event.kind for event in store.events("site:nersc")] == ["answers"]
        cut_next()
        store.release(lease, due_at=90)
        assert (run_of(store).lease_owner, run_of(store).due_at) == (None, 0)  # the hint of the effect left
        assert cuts.made == 7
        assert store.installation() == identity


@pytest.mark.fault("F19")
@pytest.mark.parametrize(("moment", "kept"), [("before", False), ("after", True), ("during", None)])
def test_a_decision_whose_commit_was_cut_is_kept_whole_or_not_at_all_and_never_made_twice(
    own_postgres: Server, cuts: Cuts, moment: str, kept: bool | None
) -> None:
    with opened(own_postgres.url(own_postgres.database())) as store:
        store.create_run(new_run([() for _ in range(50)]))
        rows = [row._replace(state="ACTIVE", attempt=1) for row in store.stages(RUN)]
        changes = Changes(
            stages=rows,
            new_attempts=[attempt_row(row.n) for row in rows],
            effects=[effect_row(f"e{row.n}", row.n) for row in rows],
            events=[NewEvent(kind="placed", n=row.n) for row in rows],
        )
        last = cuts.commits + 1
        cuts.moment_of = lambda number: moment if number == last else None
        with pytest.raises(StoreGone, match="whether a write just then was kept is unknown"):
            apply(store, changes)
        counts = {
            len(store.attempts(RUN)),
            len(store.effects(RUN)),
            len(store.events(RUN)) - 1,
            sum(row.state == "ACTIVE" for row in store.stages(RUN)),
            run_of(store).open_attempts,
        }
        assert counts in ([{0}, {50}] if kept is None else [{50}] if kept else [{0}])


@pytest.mark.fault("F19")
def test_while_the_server_is_away_callers_are_told_and_when_it_is_back_they_need_do_nothing(
    own_postgres: Server,
) -> None:
    with opened(own_postgres.url(own_postgres.database())) as store:
        store.create_run(new_run())
        own_postgres.kill9()
        for ask in (store.now, lambda: store.run(RUN), lambda: store.create_run(new_run(run_id="two"))):
            with pytest.raises(StoreGone, match="does not answer"):
                ask()
        own_postgres.start()
        assert run_of(store).run_id == RUN
        assert store.create_run(new_run(run_id="two")) == ("two", True)


@pytest.mark.fault("F19")
def test_connections_that_the_server_has_cut_are_noticed_by_nobody(postgres: Server) -> None:
    name = postgres.database()
    with opened(postgres.url(name)) as store:
        store.create_run(new_run())
        for work in (lambda: store.run(RUN), lambda: store.add_command(command_row("c"))):
            with store._database.reading(), store._database.reading(), store._database.reading():
                pass  # so that several lie ready to be used
            postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            work()
        assert run_of(store).commands == 1


@pytest.mark.fault("F19")
def test_a_server_that_stands_still_is_given_up_after_a_while(
    own_postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(own_postgres.url(own_postgres.database())) as store:
        store.create_run(new_run())
        monkeypatch.setattr(pipeline.Connection, "patience", 0.3)
        monkeypatch.setattr(
            store._database._behind, "_arguments", store._database._behind._arguments | {"connect_timeout": 2}
        )
        own_postgres.freeze()
        with pytest.raises(StoreGone):
            store.add_command(command_row("c"))
        own_postgres.thaw()
        store.add_command(command_row("c"))
        assert run_of(store).commands == 1


# -- F20: transactions that clash -----------------------------------------------------------------------------


@contextmanager
def holding(server: Server, database: str, run_id: str = RUN) -> Iterator[psycopg.Connection]:
    """Another session that holds that run's row."""
    with psycopg.connect(server.dsn(database)) as other:
        other.execute("SELECT 1 FROM run WHERE run_id = %s FOR UPDATE", (run_id,))
        yield other


@pytest.mark.fault("F20")
def test_who_waits_too_long_for_a_row_is_told_so_and_nothing_is_kept(postgres: Server) -> None:
    name = postgres.database()
    with opened(postgres.url(name), busy_seconds=0.2) as store:
        store.create_run(new_run())
        with holding(postgres, name), pytest.raises(StoreBusy, match="lock timeout"):
            store.add_command(command_row("c"))
        assert run_of(store).commands == 0
        store.add_command(command_row("c"))
        assert run_of(store).commands == 1


@pytest.mark.fault("F20")
def test_a_row_that_comes_free_between_two_tries_is_taken(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    name, pauses = postgres.database(), []
    with opened(postgres.url(name), busy_seconds=0.2) as store:
        store.create_run(new_run())
        with holding(postgres, name) as other:

            def let_go(number: int) -> None:
                pauses.append(number)
                other.rollback()

            monkeypatch.setattr(connect, "_pause", let_go)
            assert store.acquire(RUN, owner="me", ttl=TTL)
        assert pauses == [0]


@pytest.mark.fault("F20")
def test_of_two_in_a_ring_the_one_that_has_to_give_way_does_its_work_after_the_other(postgres: Server) -> None:
    name, tries = postgres.database(), []
    with opened(postgres.url(name)) as store, psycopg.connect(postgres.dsn(name)) as other:
        for run_id in ("a", "b"):
            store.create_run(new_run(run_id=run_id, due_at=None))
        other.execute("SET deadlock_timeout = '60s'")  # so that it is the store's session that finds the ring
        other.execute("UPDATE run SET ver = 7 WHERE run_id = 'b'")

        def close_the_ring() -> None:
            other.execute("UPDATE run SET ver = 7 WHERE run_id = 'a'")
            other.commit()

        ring = threading.Thread(target=close_the_ring)

        def work(tx: Tx) -> None:
            tries.append(1)
            hold(tx, ["a"])
            tx.rows(AT_SITE, ("waits until it is held",))
            if len(tries) == 1:
                ring.start()
                until_one_waits(postgres, name)
            hold(tx, ["b"])
            hint_runs(tx, ["a", "b"], now=5)

        store._database.do(work)
        ring.join()
        assert len(tries) == 2
        assert [(run_of(store, run_id).ver, run_of(store, run_id).due_at) for run_id in ("a", "b")] == [(7, 5)] * 2


@pytest.mark.fault("F20")
@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
def test_a_transaction_that_the_server_sends_away_is_done_again_whole(
    postgres: Server, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """As often as it is told, up to a limit; with nothing of the former tries kept."""
    with opened(postgres.url(postgres.database())) as store:
        store.create_run(new_run(due_at=None))
        tries: list[int] = []

        def work(refusals: int) -> Callable[[Tx], None]:
            def wanted(tx: Tx) -> None:
                tries.append(1)
                chain.append(tx, RUN, [NewEvent(kind="once")], at=1)
                if len(tries) <= refusals:
                    tx._line.command(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$".encode())

            return wanted

        store._database.do(work(2))
        assert len(tries) == 3
        assert [event.kind for event in store.events(RUN)] == ["accepted", "once"]
        tries.clear()
        with pytest.raises(StoreBusy, match="try again"):
            store._database.do(work(99))
        assert len(tries) == connect.TRIES
        assert len(store.events(RUN)) == 2


@pytest.mark.fault("F20")
def test_a_decision_that_clashes_keeps_nothing_and_is_made_by_a_later_wake_up(postgres: Server) -> None:
    name, clock = postgres.database(), MovedClock()
    with opened(clock.moves(postgres, name), clock, busy_seconds=0.2) as store:
        lab = Lab(site("a"), clock=clock, store=store)
        run_id = lab.submit(Stage("one", "seconds=5 outputs=o:1", outputs=["o"]))
        with psycopg.connect(postgres.dsn(name)) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", (pipeline.PLACES,))
            before = store.stages(run_id), store.events(run_id)
            with pytest.raises(StoreBusy):
                lab.broker.go_on(run_id)
            assert (store.stages(run_id), store.events(run_id)) == before
            assert run_of(store, run_id).lease_owner is None
        assert lab.finish(run_id) == "SUCCEEDED"
        assert audit_run(store, run_id) == []
    clock.close()


# -- F21: no connection left -----------------------------------------------------------------------------------


@pytest.mark.fault("F21")
def test_when_all_connections_are_in_use_the_store_is_busy_and_nothing_is_half_written(postgres: Server) -> None:
    name = postgres.database()
    with opened(f"{postgres.url(name)}?pool_size=2", busy_seconds=0.2) as store:
        store.create_run(new_run([(), ()]))
        refused: list[StoreError] = []

        def ask() -> None:
            for work in (lambda: store.create_run(new_run(run_id="two")), lambda: store.run(RUN), store.now):
                try:
                    work()
                except StoreError as error:
                    refused.append(error)

        with deciding(store) as tx, store._database.reading():
            asking = threading.Thread(target=ask)
            asking.start()
            asking.join()
            tx.apply(Changes(stages=[stage_of_tx(tx)._replace(state="READY")]), now=1)
        assert [type(error) for error in refused] == [StoreBusy] * 3
        assert "all 2 connections" in str(refused[0])
        assert stage_of(store, 0).state == "READY"
        assert store.run("two") is None
        assert store.create_run(new_run(run_id="two")) == ("two", True)
        assert connections(postgres, name) <= 2


@pytest.mark.fault("F21")
def test_when_the_server_takes_no_more_connections_callers_are_told_and_nothing_is_lost(own_postgres: Server) -> None:
    name = own_postgres.database()
    own_postgres.restart(max_connections=8, superuser_reserved_connections=0)
    with opened(own_postgres.url(name)) as store:
        store.create_run(new_run())
        lease = store.acquire(RUN, owner="me", ttl=TTL)
        assert lease
        others = []
        with suppress(psycopg.OperationalError):
            while True:
                others.append(psycopg.connect(own_postgres.dsn(name)))
        with store.deciding(lease, ttl=TTL) as tx, pytest.raises(StoreGone, match="too many clients"):
            store.run(RUN)
        for other in others:
            other.close()
        assert run_of(store).run_id == RUN
        assert tx is not None


def connections(server: Server, database: str) -> int:
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND application_name = 'crossfade'"
    return int(str(server.run(sql)[0][0]))


def stage_of_tx(tx: DecisionTx) -> StageRow:
    return tx.stage_rows(["s0"])["s0"]


def until_one_waits(server: Server, database: str) -> None:
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + 20
    while server.run(sql) == [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
