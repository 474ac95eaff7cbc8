"""What only a server can do: trips, prepared statements, several at once, passwords, limits of waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import psycopg
import pytest
from postgres_kit import PASSWORD, MovedClock, Server
from store_kit import (
    RUN,
    apply,
    attempt_row,
    deciding,
    effect_row,
    new_run,
    product_row,
    quiet,
    run_of,
    stage_of,
    stage_row,
)

from broker.clock import VirtualClock, seconds, wall_clock
from broker.store import pipeline
from broker.store.base import (
    AttemptSeen,
    Changes,
    EffectDone,
    LogTail,
    NewEvent,
    Sightings,
    StaleRow,
    StoreError,
    StoreGone,
)
from broker.store.sql import SqlStore


@pytest.fixture
def database(postgres: Server) -> str:
    return postgres.database()


@pytest.fixture
def store(postgres: Server, database: str) -> Iterator[SqlStore]:
    """By the server's own clock."""
    made = SqlStore(postgres.url(database), clock=VirtualClock())
    yield made
    made.close()


# -- trips -------------------------------------------------------------------------------------------------


def trips(store: SqlStore) -> int:
    return store.counts.trips


def test_a_round_costs_as_many_trips_for_one_stage_as_for_many(store: SqlStore) -> None:
    costs = []
    for run_id, count in (("one", 1), ("many", 500)):
        spent = [trips(store)]
        rows = [stage_row(n, run_id, state="READY") for n in range(count)]
        store.create_run(new_run(run_id=run_id, stages=rows))
        spent.append(trips(store))
        lease = store.acquire(run_id, owner="me", ttl=9)
        assert lease
        spent.append(trips(store))
        with store.deciding(lease, ttl=9) as tx:
            seen = tx.snapshot(now=1, limit=500, room=lambda _load, count=count: count)
            placed = Changes(
                stages=[row._replace(state="ACTIVE", attempt=1) for row in seen.stages],
                new_attempts=[attempt_row(row.n, run_id=run_id) for row in seen.stages],
                effects=[effect_row(f"{run_id}{row.n}", row.n, run_id, claim="me") for row in seen.stages],
                events=[NewEvent(kind="placed", n=row.n) for row in seen.stages],
            )
            tx.apply(placed, now=1)
        assert len(seen.stages) == count
        spent.append(trips(store))
        done = [EffectDone(key=f"{run_id}{n}", claim="me", outcome="{}") for n in range(count)]
        facts = [AttemptSeen(run_id=run_id, n=n, number=1, facts={"native_id": "j"}) for n in range(count)]
        store.record(Sightings(effects_done=done, attempts=facts), now=2)
        spent.append(trips(store))
        store.release(lease, due_at=None)
        spent.append(trips(store))
        assert store.run(run_id)
        spent.append(trips(store))
        costs.append([after - before for before, after in pairwise(spent)])
    # create: key, chain, commit; acquire; decide: lease, due and sites, queue, commit; record: runs, effects, commit;
    # release; read
    assert costs == [[3, 2, 4, 3, 2, 1]] * 2


def test_a_thousand_stages_with_two_thousand_needs_are_stored_in_one_commit_with_little_work(store: SqlStore) -> None:
    new = new_run([tuple(range(max(0, n - 2), n)) for n in range(1000)], stages=[stage_row(n) for n in range(1000)])
    before, started = (store.counts.commits, store.counts.trips), time.process_time()
    store.create_run(new)
    assert time.process_time() - started < 0.1
    assert (store.counts.commits - before[0], store.counts.trips - before[1]) == (1, 3)
    assert len(store.deps(RUN)) == 1997


def prepared(store: SqlStore) -> int:
    with store._database.asking() as tx:
        return tx._line.connection.pgconn and _asked(tx, "SELECT count(*) FROM pg_prepared_statements")


def _asked(tx: pipeline.Transaction, sql: str) -> int:
    sent = tx._line.command(sql.encode())
    tx._line.finish()
    return int(tx._line.rows(sent)[0][0])


def test_statements_are_prepared_once_and_survive_a_rollback(store: SqlStore) -> None:
    store.create_run(new_run())
    lease = store.acquire(RUN, owner="me", ttl=9)
    assert lease
    before = prepared(store)
    assert before > 0
    with pytest.raises(KeyError), store.deciding(lease, ttl=9):
        raise KeyError
    with store.deciding(lease, ttl=9) as tx:
        tx.snapshot(now=1, limit=9, room=lambda _load: 0)
    after = prepared(store)
    assert after > before
    with store.deciding(lease, ttl=9) as tx:
        tx.snapshot(now=1, limit=9, room=lambda _load: 0)
    assert prepared(store) == after


def test_behind_a_pooler_nothing_is_prepared_and_no_setting_is_sent(postgres: Server, database: str) -> None:
    store = SqlStore(f"{postgres.url(database)}?pgbouncer=true", clock=VirtualClock())
    store.create_run(new_run([(), (0,)]))
    apply(store, Changes(settled=[(0, "ok")]))
    assert stage_of(store, 1).unmet == 0
    assert prepared(store) == 0
    with store._database.asking() as tx:
        assert "lock_timeout" not in str(tx._line.connection.info.get_parameters().get("options"))
    store.close()


def test_every_session_has_limits_to_how_long_anything_may_take(store: SqlStore) -> None:
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "synchronous_commit")
    with store._database.asking() as tx:
        connection = tx._line.connection
        sent = [tx._line.command(f"SHOW {name}".encode()) for name in names]
        tx._line.finish()
        shown = [tx._line.rows(one)[0][0] for one in sent]
        told = connection.info.get_parameters()
    assert shown == ["7500ms", "1min", "15s", "on"]
    assert {"tcp_user_timeout", "keepalives_idle", "connect_timeout"} <= set(told)


# -- what a server keeps otherwise ---------------------------------------------------------------------------


def test_leases_go_by_the_servers_own_clock(store: SqlStore) -> None:
    assert abs(seconds(store.now() - wall_clock())) < 60  # the clock given to the store stands in another year
    store.create_run(new_run())
    store.acquire(RUN, owner="me", ttl=40)
    until = run_of(store).lease_until
    assert until
    assert 0 < seconds(until - store.now()) <= 40
    assert store.acquire(RUN, owner="other", ttl=1) is None


def test_texts_that_the_server_cannot_keep_are_kept_without_those_signs(store: SqlStore) -> None:
    store.create_run(new_run(stages=[stage_row(n, path=f"s{n}", reason="a\x00b\udc80") for n in range(2)]))
    store.create_run(new_run(run_id="one", name="a\x00b", stages=[stage_row(0, "one")]))
    assert [stage_of(store, n).reason for n in (0, 1)] == ["a\ufffdb?"] * 2
    assert run_of(store, "one").name == "a\ufffdb"


def test_texts_and_bytes_of_all_kinds_come_back_as_they_were(store: SqlStore) -> None:
    odd = [r"back\slash", 'quo"te', "{brace,}", "NULL", "", " ", "tab\t\n", "ünï☃", "'; DROP TABLE run; --", "$1 %s"]
    rows = [stage_row(n, path=f"{n}", reason=text, body=text, want=text) for n, text in enumerate(odd)]
    store.create_run(new_run(stages=rows))
    assert store.stages(RUN) == rows
    for n, row in enumerate(rows):
        apply(store, Changes(stages=[row._replace(reason=odd[n - 1])]))
        assert stage_of(store, n).reason == odd[n - 1]
    tail = bytes(range(256))
    store.record(Sightings(logs=[LogTail(RUN, 0, 1, name, tail, 1, 2) for name in ("stderr", "stdout")]), now=1)
    assert [log.tail for log in store.log_tails(RUN, 0, 1)] == [tail, tail]


# -- several at once -----------------------------------------------------------------------------------------


def waiting(postgres: Server, database: str) -> int:
    """Sessions there that wait for a lock."""
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'"
    return int(str(postgres.run(sql)[0][0]))


def until_one_waits(postgres: Server, database: str, count: int = 1) -> None:
    deadline = time.monotonic() + 20
    while waiting(postgres, database) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_two_decisions_at_once_do_not_give_one_place_away_twice(
    postgres: Server, database: str, store: SqlStore
) -> None:
    store.ensure_sites(["nersc"])
    for run_id in ("a", "b"):
        store.create_run(new_run(run_id=run_id, stages=[stage_row(0, run_id, state="READY")]))
    placed: list[str] = []

    def place(run_id: str, after_look: threading.Event | None = None) -> None:
        with deciding(store, run_id) as tx:
            seen = tx.snapshot(now=1, limit=9, room=lambda load: 1 - load["nersc"])
            if after_look:
                after_look.set()
                until_one_waits(postgres, database)
            for row in seen.stages:
                placed.append(run_id)
                tx.apply(Changes(new_attempts=[attempt_row(row.n, run_id=run_id)]), now=1)

    looked = threading.Event()
    first = threading.Thread(target=place, args=("a", looked))
    first.start()
    looked.wait(20)
    place("b")
    first.join()
    assert placed == ["a"]


def test_a_decision_hints_at_runs_it_can_have_and_waits_for_none(
    postgres: Server, database: str, store: SqlStore
) -> None:
    for at, run_id in enumerate((RUN, "held", "free")):
        store.create_run(new_run(run_id=run_id, wants=1, due_at=None, created_at=at))
    with psycopg.connect(postgres.dsn(database)) as other:
        other.execute("SELECT 1 FROM run WHERE run_id = 'held' FOR UPDATE")
        apply(store, Changes(wake_ready=3), now=10)
    assert [run_of(store, run_id).due_at for run_id in ("held", "free")] == [None, 10]


@pytest.mark.parametrize("due_at", [None, 0], ids=["quiet", "due already"])
def test_a_report_waits_for_the_decision_about_its_run_and_loses_nothing(
    postgres: Server, database: str, store: SqlStore, due_at: int | None
) -> None:
    store.create_run(new_run(due_at=due_at))
    apply(store, Changes(new_attempts=[attempt_row(0)]))
    quiet(store, 0)
    seen = Sightings(attempts=[AttemptSeen(run_id=RUN, n=0, number=1, facts={"native_id": "j1"})])
    report = threading.Thread(target=store.record, args=(seen,), kwargs={"now": 50})
    with deciding(store) as tx:
        tx.snapshot(now=1, limit=9, room=lambda _load: 0)
        report.start()
        until_one_waits(postgres, database)
        tx.apply(Changes(attempts=[attempt_row(0, state="QUEUED")]), now=1)
    report.join()
    (row,) = store.attempts(RUN)
    assert (row.state, row.native_id, stage_of(store, 0).due_at) == ("QUEUED", "j1", 50)


def test_many_who_decide_report_and_drain_sites_at_once_never_lock_in_a_ring(
    postgres: Server, database: str, store: SqlStore
) -> None:
    runs = [f"r{k}" for k in range(4)]
    store.ensure_sites(["nersc"])
    for run_id in runs:
        store.create_run(new_run([() for _ in range(8)], run_id=run_id, wants=1))
        apply(store, Changes(new_attempts=[attempt_row(n, run_id=run_id) for n in range(8)]), run_id=run_id)
    faults: list[BaseException] = []

    def guarded(work: object) -> None:
        try:
            for k in range(12):
                work(k)  # type: ignore[operator]
        except BaseException as error:
            faults.append(error)

    def decide(mine: str) -> object:
        def work(k: int) -> None:
            with deciding(store, mine) as tx:
                rows = tx.snapshot(now=10**9, limit=99, room=lambda _load: 0).stages
                tx.apply(Changes(stages=list(rows), wake_ready=9, events=[NewEvent(kind=f"k{k}")]), now=k)

        return work

    def report(k: int) -> None:
        facts = {"job": f"{k}", "seen_at": k}
        backwards = [(run_id, n) for run_id in reversed(runs) for n in range(7, -1, -1)]
        seen = [AttemptSeen(run_id=run_id, n=n, number=1, facts=facts) for run_id, n in backwards]
        store.record(Sightings(attempts=seen, wake_sites=["nersc"]), now=k)

    def drain(k: int) -> None:
        store.set_site_mode("nersc", mode="up", by="ann", reason=f"{k}")

    works = [*map(decide, runs), report, report, drain]
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert postgres.run(f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{database}'") == [(0,)]
    assert [len(store.events(run_id)) for run_id in runs] == [13] * 4
    assert len(store.events("site:nersc")) == 12


def test_a_decision_whose_row_was_changed_behind_its_back_keeps_nothing(
    postgres: Server, database: str, store: SqlStore
) -> None:
    store.create_run(new_run())
    row = stage_of(store, 0)
    postgres.run("UPDATE stage SET ver = ver + 1", database)
    with pytest.raises(StaleRow, match="stage"):
        apply(store, Changes(stages=[row], products=[product_row(0)], events=[NewEvent(kind="never")]))
    assert list(store.products(RUN)) == []
    assert len(store.events(RUN)) == 1


# -- how it is reached ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["mysql://u@h/d", "postgresql+psycopg2://u@h/d", "redis://h"])
def test_an_address_of_something_else_is_refused(address: str) -> None:
    with pytest.raises(StoreError, match="kept by sqlite:// or postgresql://"):
        SqlStore(address, clock=VirtualClock())


def all_that_is_said(error: BaseException | None) -> str:
    said = ""
    while error is not None:
        said += f"{error!s} {error!r} {error.args!r} "
        error = error.__cause__ or error.__context__
    return said


@pytest.mark.parametrize("form", ["postgresql", "postgresql+psycopg"])
def test_a_password_is_not_shown_by_anything(postgres: Server, database: str, form: str) -> None:
    right = postgres.url(database, user="locked", password=PASSWORD).replace("postgresql", form, 1)
    store = SqlStore(right, clock=VirtualClock())
    shown = [repr(thing) for thing in (store, store._database, store._database.url, store._database._behind)]
    with store._database.asking() as tx:
        shown += [repr(tx), repr(tx._line.connection)]
    store.close()
    wrong = [
        postgres.url(database, user="locked", password="canary-wrong"),
        postgres.url("nowhere", user="locked", password=PASSWORD),
        postgres.url(database, user="locked", password=PASSWORD).replace(str(postgres.port), "1"),
        f"postgresql://locked:{PASSWORD}@[bad/x",
    ]
    for address in wrong:
        with pytest.raises(StoreError) as refused:
            SqlStore(address, clock=VirtualClock())
        shown.append(all_that_is_said(refused.value))
    assert not [text for text in shown if "canary" in text]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("canary-4711", "wrong"), "does not let us in .*password authentication failed.*check user"),
        (("/made", "/nowhere"), "does not let us in .*does not exist"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(
    postgres: Server, database: str, change: tuple[str, str], said: str
) -> None:
    address = postgres.url(database, user="locked", password=PASSWORD).replace(*change)
    with pytest.raises(StoreError, match=said):
        SqlStore(address, clock=VirtualClock())


def test_a_server_that_is_not_there_is_gone(postgres: Server, database: str) -> None:
    with pytest.raises(StoreGone, match="does not answer"):
        SqlStore(postgres.url(database).replace(str(postgres.port), "1"), clock=VirtualClock())


def test_a_virtual_clock_moves_the_servers(postgres: Server, database: str) -> None:
    clock = MovedClock(5)
    store = SqlStore(clock.moves(postgres, database), clock=VirtualClock())
    clock.advance(2)
    assert store.now() == 2_000_005
    store.close()
    clock.close()


def test_of_processes_that_start_at_once_all_belong_to_one_installation(postgres: Server) -> None:
    url, met = postgres.url(postgres.database()), threading.Barrier(4)
    stores = [SqlStore(url, clock=wall_clock) for _ in range(4)]

    def identity(store: SqlStore) -> str:
        met.wait()
        return store.installation().id

    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(identity, stores))
    for store in stores:
        store.close()
    assert len(found) == 1
