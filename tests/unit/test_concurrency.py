"""`concurrency: {max}`: so many runs of one name go on at once, the others in order of submission, whatever happens."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from broker_kit import Lab, Stage, new_run, site

from broker.audit import audit_run
from broker.clock import VirtualClock
from broker.config import Settings
from broker.service import Request, Service
from broker.sites import load_sites
from broker.spec import DocumentError, compile_workflow, load_workflow, parse_document
from broker.store.sql import SqlStore

LONG = Stage("a", "seconds=100")


class Line(Lab):
    """A lab whose runs may not all go on at once."""

    def enter(self, *stages: Stage, at_once: int = 2, name: str = "tomo") -> str:
        run_id = f"run-{next(self._numbers):03d}"
        new = new_run(run_id, stages or (LONG,), now=self.clock(), name=name)
        row = new.run._replace(at_once=at_once, in_line=int(at_once > 0))
        self.store.create_run(new.__class__(**{**{f: getattr(new, f) for f in new.__slots__}, "run": row}))
        return run_id

    def states(self, *runs: str) -> list[str]:
        return [self.state(run) for run in runs]

    def going(self) -> int:
        return sum(row.ended_at is None and not row.in_line for row in self.store.runs(limit=1000))

    def sound(self) -> None:
        for row in self.store.runs(limit=1000):
            assert audit_run(self.store, row.run_id) == []


def line() -> Line:
    return Line(site("nersc", slots=50))


def test_so_many_go_on_and_the_others_wait_with_the_reason_in_order() -> None:
    made = line()
    runs = [made.enter() for _ in range(5)]
    made.run_for(5)
    assert made.states(*runs) == ["RUNNING", "RUNNING", "WAITING", "WAITING", "WAITING"]
    row = made.store.run(runs[2])
    assert row is not None
    assert row.reason == "concurrency.max: at most 2 runs of tomo go on at once"
    assert made.store.lines({"tomo", "other"}) == {runs[2]: 1, runs[3]: 2, runs[4]: 3}
    assert [made.finish(run) for run in runs] == ["SUCCEEDED"] * 5
    starts = [made.attempts(run, "a")[0].created_at for run in runs]
    assert starts == sorted(starts)
    made.sound()


def test_never_do_more_than_that_go_on_at_once() -> None:
    made = line()
    runs = [made.enter(Stage("a", f"seconds={seconds}"), at_once=3) for seconds in (5, 50, 5, 20, 5, 5, 40, 5)]
    most = 0
    while not all(state == "SUCCEEDED" for state in made.states(*runs)):
        made.step(2.0)
        most = max(most, made.going())
    assert most == 3
    made.sound()


def test_who_ends_wakes_the_next_one_at_once() -> None:
    made = line()
    first, second = made.enter(at_once=1), made.enter(at_once=1)
    made.finish(first)
    (ended,) = [row.ended_at for row in made.store.runs() if row.run_id == first]
    made.settle()
    (attempt,) = made.attempts(second, "a")
    assert attempt.created_at - ended <= 1


def test_other_names_have_lines_of_their_own_and_runs_without_a_bound_wait_for_nobody() -> None:
    made = line()
    runs = [
        made.enter(at_once=1),
        made.enter(at_once=1, name="other"),
        made.enter(at_once=0, name="free"),
        made.enter(at_once=1),
    ]
    made.run_for(5)
    assert made.states(*runs) == ["RUNNING", "RUNNING", "RUNNING", "WAITING"]
    made.sound()


def test_one_that_waits_can_be_canceled_and_the_others_move_up() -> None:
    made = line()
    runs = [made.enter(at_once=1) for _ in range(3)]
    made.run_for(5)
    made.command(runs[1], "cancel")
    made.run_for(5)
    assert made.states(*runs) == ["RUNNING", "CANCELED", "WAITING"]
    assert made.store.lines({"tomo"}) == {runs[2]: 1}
    assert made.attempts(runs[1], "a") == []
    assert made.finish(runs[2]) == "SUCCEEDED"
    made.sound()


def test_one_that_is_held_lets_the_others_pass_and_comes_first_when_it_is_released() -> None:
    made = line()
    runs = [made.enter(at_once=1) for _ in range(4)]
    made.run_for(5)
    made.command(runs[1], "hold")
    made.finish(runs[0])
    made.run_for(5)
    assert made.states(*runs[1:]) == ["WAITING", "RUNNING", "WAITING"]
    made.command(runs[1], "release")
    made.run_for(5)
    assert made.store.lines({"tomo"}) == {runs[1]: 1, runs[3]: 2}
    made.finish(runs[2])
    made.run_for(5)
    assert made.states(runs[1], runs[3]) == ["RUNNING", "WAITING"]
    made.finish(runs[3])
    made.sound()


def test_a_failed_run_that_is_tried_again_waits_for_its_turn_too() -> None:
    made = line()
    bad = {"retry": {"site_fault": 0, "app_fault": 0, "exit_codes": {}}}
    failed = made.enter(Stage("a", "seconds=5 exit=1", rules=bad), at_once=1)
    assert made.finish(failed) == "FAILED"
    other = made.enter(at_once=1)
    made.run_for(5)
    made.command(failed, "retry", "a")
    made.run_for(5)
    assert made.states(failed, other) == ["WAITING", "RUNNING"]
    assert len(made.attempts(failed, "a")) == 1
    made.finish(other)
    made.run_for(30)
    assert len(made.attempts(failed, "a")) == 2
    made.sound()


def test_copies_wait_for_their_runs_turn_as_other_stages_do() -> None:
    made = Line(site("nersc"), places=["spot", "cfs"])
    made.put("spot:x", b"raw")
    first = made.enter(at_once=1)
    second = made.enter(Stage("c", copies=[("spot:x", "cfs:x")]), at_once=1)
    made.run_for(20)
    assert made.lies("cfs:x") is None
    made.finish(first)
    assert made.finish(second) == "SUCCEEDED"
    assert made.lies("cfs:x") == b"raw"
    made.sound()


def test_a_bound_that_only_some_runs_have_counts_those_without_as_going_on() -> None:
    """Whoever has no bound wakes nobody: who is first in line asks by itself."""
    made = line()
    free, bound = made.enter(at_once=0), made.enter(at_once=1)
    made.run_for(5)
    assert made.states(free, bound) == ["RUNNING", "WAITING"]
    made.finish(free)
    made.run_for(10)
    assert made.state(bound) == "RUNNING"
    made.sound()


def test_one_that_ends_and_is_tried_again_leaves_the_line_and_no_row_behind() -> None:
    made = line()
    runs = [made.enter(at_once=1) for _ in range(2)]
    made.run_for(5)
    made.command(runs[1], "cancel")
    made.finish(runs[1])
    (row,) = [row for row in made.store.runs() if row.run_id == runs[1]]
    assert row.in_line == 0


# -- as a service --------------------------------------------------------------------------------------------

DOCUMENT = "crossfade: 1\nname: tomo\nparams: {n: {default: '1'}}\nconcurrency: {max: 1}\nstages: {a: {run: echo $$}}\n"


def service(folder: Path) -> Service:
    settings = Settings(home=folder, user="tester")
    clock = VirtualClock()
    sites = load_sites(None, home=folder, cwd=folder, env={"HOME": str(folder)})
    return Service(settings=settings, store=SqlStore.open(folder / "db", clock=clock), sites=sites, clock=clock)


def test_two_who_submit_at_once_are_one_behind_the_other(tmp_path: Path) -> None:
    """Whoever was stored later: the line goes by the times of submission, and then by their ids."""
    made = service(tmp_path)
    raw = parse_document(DOCUMENT, name="t.yaml")
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(made.submit(Request(document=raw, params={})).run_id))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    places = made.store.lines({"tomo"})
    assert sorted(places) == sorted(found)
    assert sorted(places.values()) == list(range(1, 9))
    assert [places[run] for run in sorted(found)] == list(range(1, 9))
    views = made.queue()
    assert {view["run"]: view["place"] for view in views} == places
    first = min(views, key=lambda view: str(view["run"]))
    assert first["reason"] == "concurrency.max: at most 1 runs of tomo go on at once; place 1 in line"
    assert made.status(found[0])["place"] == places[found[0]]
    made.store.close()


@pytest.mark.parametrize(("value", "words"), [("0", "out of range"), ("many", "expected a whole number")])
def test_the_bound_is_a_number_from_one(value: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        load_workflow(parse_document(DOCUMENT.replace("max: 1", f"max: {value}"), name="t.yaml"), base=None)


def test_a_document_without_it_is_stored_as_it_always_was() -> None:
    text = DOCUMENT.replace("concurrency: {max: 1}\n", "")
    run = compile_workflow(load_workflow(parse_document(text, name="t"), base=None), params={}, base=None)
    assert run.at_once == 0
    assert "concurrency" not in run.document
