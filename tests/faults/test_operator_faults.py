"""People and brokers who act at the same time: on each other's runs, and on what is just coming to its end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from broker_kit import Lab, Stage, site
from kill_kit import Workshop, workshop
from postgres_kit import Server
from simulation.seams import Call

from broker.audit import audit_run
from broker.core import Broker
from broker.drill.truth import Broken, judge
from broker.store.base import StoreBusy

FAST = {"unreachable_probes": 2, "unreachable_seconds": 5.0, "settle": 5.0}
STEP = 5.0


class Between:
    """Does something once, before the call of that number; or counts the calls where it can be done."""

    def __init__(self, at: int, do: Callable[[], object]) -> None:
        self.at, self.do = at, do
        self.seen = 0
        self._deciding = False

    def before(self, call: Call) -> None:
        if self._deciding and call.of != "decision":
            self._deciding = False
        if call.of == "decision":  # SQLite has one writer: nobody can come between
            return
        self.seen += 1
        if self.seen - 1 == self.at:
            self.do()

    def after(self, call: Call) -> None:
        """Only what comes before a call matters: the call after it comes next."""


def play(lab: Lab, broker: Broker, run: str, *, rounds: int = 60) -> None:
    """What a sweeper does, until all is put away."""
    for _ in range(rounds):
        round_of(broker)
        row = lab.store.run(run)
        assert row is not None
        if row.ended_at and not row.open_attempts and not any(e.state == "pending" for e in lab.store.effects(run)):
            return
        lab.clock.advance(STEP)


def round_of(broker: Broker) -> None:
    for name in broker.sites_to_look_at():
        broker.look(name)
    for run in broker.due():
        while (drained := broker.go_on(run)) is not None and drained.busy:
            pass


def everywhere(story: Callable[[int], int], *, fewest: int) -> int:
    """Play the story once for each of its calls; how many there were. The story answers with how many calls it saw."""
    calls = story(-1)
    assert calls >= fewest, "something is no longer seen"
    for at in range(calls):
        story(at)
    return calls


# -- F44: an operator, and a stage that is just ending -----------------------------------------------------------

PAIR = [
    Stage("a", "seconds=12 outputs=o:10", outputs=["o"]),
    Stage("b", "seconds=8 outputs=p:10", outputs=["p"], inputs=[("in", "a")]),
]


@pytest.mark.fault("F44")
def test_a_cancel_at_any_moment_leads_to_a_product_or_to_a_canceled_stage_and_never_to_both() -> None:
    ends: Counter[tuple[str, ...]] = Counter()

    def story(at: int) -> int:
        lab = Lab(site("here", cancel_grace=4.0, **FAST))
        run = lab.submit(*PAIR, run_id="run")
        between = Between(at, lambda: lab.command(run, "cancel"))
        play(lab, lab.new_broker(hook=between), run)
        assert judge(lab.store, lab.sites, Broken()) == []
        stages = lab.store.stages(run)
        have = {product.n for product in lab.store.products(run)}
        assert have == {stage.n for stage in stages if stage.state == "SUCCEEDED"}
        ends[tuple(stage.state for stage in stages)] += 1
        return between.seen

    everywhere(story, fewest=40)
    assert set(ends) == {("CANCELED", "CANCELED"), ("SUCCEEDED", "CANCELED"), ("SUCCEEDED", "SUCCEEDED")}


@pytest.mark.fault("F44")
def test_a_cancel_of_one_stage_that_comes_too_late_says_so_and_takes_nothing_away() -> None:
    outcomes: Counter[tuple[str, str]] = Counter()

    def story(at: int) -> int:
        lab = Lab(site("here", **FAST))
        run = lab.submit(PAIR[0], run_id="run")
        between = Between(at, lambda: lab.command(run, "cancel", "a"))
        play(lab, lab.new_broker(hook=between), run)
        lab.settle()
        assert judge(lab.store, lab.sites, Broken()) == []
        told = "".join(e.data for e in lab.store.events(run) if (e.kind, e.actor) == ("cancel", "tester"))
        outcomes[lab.stage(run, "a").state, told if at >= 0 else "nobody asked"] += 1
        return between.seen

    everywhere(story, fewest=20)
    assert set(outcomes) == {
        ("CANCELED", '{"outcome":"canceled"}'),
        ("SUCCEEDED", '{"outcome":"not possible: the stage is SUCCEEDED"}'),
        ("SUCCEEDED", '{"outcome":"not possible: the run is SUCCEEDED"}'),
        ("SUCCEEDED", "nobody asked"),
    }


@pytest.mark.fault("F44")
def test_a_drain_at_any_moment_lets_what_is_there_finish_and_sends_nothing_new_there() -> None:
    begun_at: Counter[str] = Counter()

    def story(at: int) -> int:
        lab = Lab(site("here", **FAST), site("there", **FAST))
        stages = [Stage(s.name, s.sim, outputs=s.outputs, inputs=s.inputs, rules=PREFERRED) for s in PAIR]
        run = lab.submit(*stages, run_id="run")
        drained_at: list[int] = []

        def drain() -> None:
            lab.store.set_site_mode("here", mode="drained", by="op", reason="maintenance")
            drained_at.append(lab.clock())

        between = Between(at, drain)
        play(lab, lab.new_broker(hook=between), run)
        assert lab.state(run) == "SUCCEEDED"
        assert judge(lab.store, lab.sites, Broken()) == []
        late = [row for row in lab.store.attempts(run) if drained_at and row.created_at > drained_at[0]]
        assert {row.site for row in late} <= {"there"}
        assert Counter(row.n for row in lab.store.attempts(run)) == {0: 1, 1: 1}
        begun_at.update(row.site for row in lab.store.attempts(run))
        return between.seen

    everywhere(story, fewest=40)
    assert begun_at["there"] > 0
    assert begun_at["here"] > 0


PREFERRED = {"sites": {"prefer": ["here"]}}


# -- F45: two of them --------------------------------------------------------------------------------------------


@pytest.mark.fault("F45")
def test_a_second_broker_may_come_between_any_two_calls_of_the_first_and_nothing_is_done_twice() -> None:
    """It looks at every site and goes on with every run; where the first one holds the run it is turned away."""
    turned_away = 0

    def story(at: int) -> int:
        lab = Lab(site("here", **FAST))
        run = lab.submit(*PAIR, run_id="run")

        def another() -> None:
            nonlocal turned_away
            other = lab.new_broker()
            other.look("here")
            turned_away += other.go_on(run) is None

        between = Between(at, another)
        play(lab, lab.new_broker(hook=between), run)
        assert lab.state(run) == "SUCCEEDED"
        assert judge(lab.store, lab.sites, Broken()) == []
        assert set(lab.sites["here"].model.journal.submissions().values()) == {1}
        return between.seen

    everywhere(story, fewest=40)
    assert turned_away > 0


@pytest.mark.fault("F45")
def test_a_broker_that_comes_while_the_first_one_stands_still_goes_on_and_the_first_one_writes_nothing() -> None:
    """It stands for longer than its lease, before any call but the submission itself; then it goes on."""

    def story(at: int) -> int:
        lab = Lab(site("here", **FAST))
        run = lab.submit(*PAIR, run_id="run")

        def another() -> None:
            other = lab.new_broker()
            lab.clock.advance(70)
            round_of(other)

        between = Between(at, another)
        first = lab.new_broker(hook=between)
        for _ in range(60):
            try:
                round_of(first)
            except StoreBusy:
                continue
            if lab.state(run) == "SUCCEEDED":
                break
            lab.clock.advance(STEP)
        play(lab, lab.new_broker(), run)
        assert lab.state(run) == "SUCCEEDED"
        assert sum(e.began for e in lab.executions()) == 2
        late = {key for key, count in lab.sites["here"].model.journal.submissions().items() if count > 1}
        assert judge(lab.store, lab.sites, Broken(late_keys=late)) == []
        return between.seen

    everywhere(story, fewest=40)


@pytest.mark.fault("F45")
@pytest.mark.parametrize("orders", [("there", "third"), ("third", "there")])
def test_of_two_operators_who_move_one_stage_to_different_sites_the_last_one_has_it_and_both_are_told(
    orders: tuple[str, str],
) -> None:
    lab = Lab(site("here", **FAST), site("there", **FAST), site("third", **FAST))
    run = lab.submit(Stage("a", "seconds=60 outputs=o:10", outputs=["o"], rules=PREFERRED))
    lab.run_for(10)
    for to in orders:
        lab.command(run, "move", "a", to=to)
    assert lab.finish(run) == "SUCCEEDED"
    lab.run_for(60)
    assert judge(lab.store, lab.sites, Broken()) == []
    assert [row.site for row in lab.attempts(run, "a")] == ["here", orders[1]]
    first, second = [json.loads(e.data)["outcome"] for e in lab.store.events(run) if e.actor == "tester"]
    assert f"goes on at {orders[0]}" in first
    assert f"goes on at {orders[1]}" in second


@pytest.mark.fault("F45")
def test_the_same_order_of_two_operators_is_carried_out_once_and_a_late_one_is_told_so() -> None:
    lab = Lab(site("here", **FAST))
    run = lab.submit(PAIR[0])
    lab.run_for(5)
    for _ in range(2):
        lab.command(run, "cancel")
    lab.finish(run)
    lab.command(run, "cancel")
    lab.run_for(60)
    outcomes = [command.outcome for command in lab.store.commands(run)]
    assert outcomes == ["canceling", "canceling", "not possible: the run is CANCELED"]
    assert [effect.kind for effect in lab.store.effects(run)].count("cancel") == 1
    assert judge(lab.store, lab.sites, Broken()) == []


# -- for real ----------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path, postgres: Server) -> Iterator[Workshop]:
    """An installation over PostgreSQL."""
    with workshop(tmp_path, database=postgres.url(postgres.database())) as made:
        yield made


@pytest.mark.fault("F45")
def test_two_brokers_in_two_processes_over_one_database_start_nothing_twice(shared: Workshop) -> None:
    """Neither hears from the other; both sweep the same rows and look at the same site."""
    both = [shared.process() for _ in range(2)]
    shared.wait(lambda: len(shared.decided()) == 2, "both serve")
    runs = [shared.submit(WIDE, name=name) for name in ("one", "two")]
    for process in both:
        assert process.wait(90) == 0, shared.told()
    assert shared.starts() == {name: len(runs) for name in WIDE}
    for run in runs:
        row = shared.store.run(run)
        assert row is not None
        assert row.state == "SUCCEEDED"
        assert [str(found) for found in audit_run(shared.store, run)] == []
        assert len(shared.store.attempts(run)) == len(WIDE)
    assert all(shared.decided()), "one of them had no part in it"


REFUSED = 4
"""Exit code of an order that comes too late."""
WIDE = {
    **{f"s{n}": {"run": f"sleep 0.{n}; echo {n} >x", "outputs": [{"path": "x"}]} for n in range(1, 7)},
    "all": {"needs": [f"s{n}" for n in range(1, 7)], "run": ":"},
}


@pytest.mark.fault("F45")
def test_two_operators_in_two_processes_cancel_one_run_and_both_are_told_that_it_is_over(shared: Workshop) -> None:
    run = shared.submit({"a": {"run": "sleep 60"}, "b": {"needs": ["a"], "run": ":"}})
    serving = shared.process()
    shared.wait(lambda: shared.starts()["a"], "the payload starts")
    operators = [shared.crossfade("cancel", run, "--yes") for _ in range(2)]
    codes = sorted(operator.wait(60) for operator in operators)
    told = shared.told()
    assert codes in ([0, 0], [0, REFUSED]), told
    assert told.count(f"cancel {run} (flow, RUNNING): ") == codes.count(0)
    assert told.count(f"cannot cancel {run}: ") == codes.count(REFUSED)
    assert serving.wait(60) == 0, shared.told()
    row = shared.store.run(run)
    assert row is not None
    assert (row.state, shared.store.products(run)) == ("CANCELED", [])
    assert [(r.state, r.open) for r in shared.store.attempts(run)] == [("CANCELED", 0)]
    assert [str(found) for found in audit_run(shared.store, run)] == []
