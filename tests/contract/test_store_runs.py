"""Accepting runs and commands: whole, once, and under the right key."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from store_kit import RUN, apply, command_row, look, new_run, run_of, run_row, stage_of, stage_row

from broker.store import accepting
from broker.store.base import Changes, KeyTaken, NewRun, StoreError
from broker.store.connect import Tx
from broker.store.sql import SqlStore
from broker.store.statement import Row, Statement


def test_a_run_is_stored_whole(store: SqlStore) -> None:
    new = new_run([(), (0,), (0, 1)])
    assert store.create_run(new) == (RUN, True)
    assert store.run(RUN) == new.run
    assert store.document(RUN) == new.document
    assert store.stages(RUN) == new.stages
    assert store.deps(RUN) == new.deps
    assert [event.kind for event in store.events(RUN)] == ["accepted"]


def test_what_is_not_there_is_none_or_empty(store: SqlStore) -> None:
    assert store.run("nothing") is None
    assert store.document("nothing") is None
    assert store.effect("nothing") is None
    assert store.attempt_by_key("nothing") is None
    assert list(store.stages("nothing")) == []
    assert store.stages_at("nothing", []) == {}


def test_the_same_key_and_request_give_the_first_run_back(store: SqlStore) -> None:
    store.create_run(new_run(client_key="k"))
    assert store.create_run(new_run(run_id="other", client_key="k")) == (RUN, False)
    assert store.run("other") is None


def test_a_key_that_many_take_at_once_is_one_run(store: SqlStore) -> None:
    together = threading.Barrier(4)

    def take(n: int) -> tuple[str, bool]:
        together.wait(30)
        return store.create_run(new_run(run_id=f"run-{n}", client_key="k"))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(take, range(4)))
    assert len({run_id for run_id, _ in answers}) == 1
    assert sorted(is_new for _, is_new in answers) == [False, False, False, True]
    assert len(store.runs()) == 1


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_who_took_the_key_between_the_look_and_the_insert_keeps_it(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = accepting.create_run

    class Overtaken:
        """A transaction that another one overtakes, after its first look."""

        def __init__(self, tx: Tx) -> None:
            self._tx = tx

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tx, name)

        def rows(self, statement: Statement, given: Row = ()) -> Sequence[Any]:
            found = self._tx.rows(statement, given)
            monkeypatch.undo()
            with ThreadPoolExecutor(1) as another:
                quick = another.submit(store.create_run, new_run(run_id="quick", client_key="k"))
                assert quick.result(30) == ("quick", True)
            return found

    def slowly(tx: Any, new: NewRun, *, again: bool) -> tuple[str, bool]:
        return create(cast("Tx", Overtaken(tx)), new, again=again)

    monkeypatch.setattr(accepting, "create_run", slowly)
    assert store.create_run(new_run(run_id="slow", client_key="k")) == ("quick", False)
    assert run_of(store, "quick").client_key == "k"
    assert store.run("slow") is None


def test_the_same_key_with_another_request_is_refused_and_names_the_holder(store: SqlStore) -> None:
    store.create_run(new_run(client_key="k"))
    with pytest.raises(KeyTaken, match=RUN) as refused:
        store.create_run(new_run(run_id="other", client_key="k", request_digest="else"))
    assert refused.value.run_id == RUN
    assert store.run("other") is None


def test_again_takes_the_key_over(store: SqlStore) -> None:
    store.create_run(new_run(client_key="k"))
    assert store.create_run(new_run(run_id="other", client_key="k"), again=True) == ("other", True)
    assert run_of(store).client_key is None
    assert run_of(store, "other").client_key == "k"


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_a_run_that_was_given_up_yields_its_key(store: SqlStore, state: str) -> None:
    store.create_run(new_run(client_key="k"))
    apply(store, Changes(run=run_of(store)._replace(state=state)))
    assert store.create_run(new_run(run_id="other", client_key="k")) == ("other", True)


def test_a_run_that_succeeded_keeps_its_key(store: SqlStore) -> None:
    store.create_run(new_run(client_key="k"))
    apply(store, Changes(run=run_of(store)._replace(state="SUCCEEDED")))
    assert store.create_run(new_run(run_id="other", client_key="k")) == (RUN, False)


def test_storing_a_run_twice_whose_answer_was_lost_stores_it_once(store: SqlStore) -> None:
    store.create_run(new_run())
    assert store.create_run(new_run()) == (RUN, False)
    assert len(store.events(RUN)) == 1


def test_nothing_of_a_run_is_kept_when_one_of_its_rows_is_refused(store: SqlStore) -> None:
    twice = [stage_row(0), stage_row(1, path="s0")]
    with pytest.raises(StoreError):
        store.create_run(new_run(stages=twice))
    assert store.run(RUN) is None
    assert list(store.stages(RUN)) == []
    assert list(store.streams()) == []


def test_runs_are_listed_newest_first(store: SqlStore) -> None:
    for at, name in enumerate(["a", "b", "c"]):
        store.create_run(new_run(run_id=f"run-{name}", created_at=at, name=name))
    apply(store, Changes(run=run_of(store, "run-b")._replace(state="SUCCEEDED")), run_id="run-b")
    assert [row.run_id for row in store.runs()] == ["run-c", "run-b", "run-a"]
    assert [row.run_id for row in store.runs(limit=1)] == ["run-c"]
    assert [row.run_id for row in store.runs(unfinished=True)] == ["run-c", "run-a"]


def test_a_prefix_finds_ids_by_their_start_and_names_only_whole(store: SqlStore) -> None:
    for run_id, name in [("ab_1", "x"), ("abz1", "y"), ("zz", "ab_"), ("zy", "ab_long"), ("AB_1", "z")]:
        store.create_run(new_run(run_id=run_id, name=name))
    assert {row.run_id for row in store.runs(prefix="ab_")} == {"ab_1", "zz"}
    assert {row.run_id for row in store.runs(prefix="%")} == set()


def test_a_command_is_kept_counted_and_makes_its_run_due(store: SqlStore) -> None:
    store.create_run(new_run(due_at=None))
    store.add_command(command_row("c1", at=50))
    store.add_command(command_row("c2", at=60))
    row = run_of(store)
    assert (row.commands, row.due_at) == (2, 50)
    assert [command.id for command in look(store).commands] == ["c1", "c2"]


def test_a_command_for_a_stage_makes_that_stage_due(store: SqlStore) -> None:
    store.create_run(new_run(stages=[stage_row(0), stage_row(1)]))
    store.add_command(command_row("c1", stage="s1", at=50))
    assert [stage_of(store, n).due_at for n in (0, 1)] == [None, 50]


def test_a_command_that_arrives_twice_is_kept_once(store: SqlStore) -> None:
    store.create_run(new_run())
    store.add_command(command_row("c1"))
    store.add_command(command_row("c1"))
    assert run_of(store).commands == 1


def test_a_command_for_no_run_is_refused(store: SqlStore) -> None:
    with pytest.raises(StoreError, match="no run nowhere"):
        store.add_command(command_row("c1", "nowhere"))


def test_a_carried_out_command_is_no_longer_seen(store: SqlStore) -> None:
    store.create_run(new_run())
    store.add_command(command_row("c1"))
    apply(store, Changes(commands_done=[("c1", "held")]), now=70)
    assert run_of(store).commands == 0
    assert list(look(store).commands) == []
    (command,) = store.commands(RUN)
    assert (command.outcome, command.done_at) == ("held", 70)


def test_an_installation_keeps_its_identity(store: SqlStore) -> None:
    first = store.installation()
    assert len(first.id) == 16
    assert first.incarnation == 0
    assert store.installation() == first


def test_ten_thousand_stages_are_stored_in_one_commit_within_a_second_of_work(store: SqlStore) -> None:
    rows = [stage_row(n) for n in range(10_000)]
    needs = [tuple(range(max(0, n - 3), n)) for n in range(10_000)]
    new = new_run(needs, stages=rows)
    before, started = store.counts.commits, time.process_time()
    store.create_run(new)
    assert time.process_time() - started < 1.0
    assert store.counts.commits - before == 1
    assert len(store.deps(RUN)) == 29_994


def test_a_run_row_is_read_without_its_document(store: SqlStore) -> None:
    assert "document" not in run_row()._fields
