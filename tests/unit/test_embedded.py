"""Serving in this process: real Celery over its memory transport, real processes of this machine."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from broker_kit import Stage, new_run
from simulation.seams import Call, StoreSeam

from broker.clock import wall_clock
from broker.core import Broker, Parts, worker_is_dead, worker_name
from broker.embedded import Embedded
from broker.store.base import StoreBusy, StoreError, StoreFull
from broker.store.sql import SqlStore
from broker.tasks import LOOK_AT_RUNS, LOOK_AT_SITE, RUNS
from connectors.base import Preparable
from connectors.model import JobSpec
from connectors.notes import MemoryNotes
from connectors.registry import MoverSetup, SiteConfig, make_movers, make_site

PATIENCE = 30.0


@dataclass
class Shell(Stage):
    """A stage that runs a line of shell on this machine."""

    line: str = ":"

    def body(self) -> dict[str, Any]:
        return {**super().body(), "run": self.line}


class House:
    """A store in a file, one local site, and brokers over them."""

    def __init__(self, folder: Path) -> None:
        self.config = SiteConfig(
            name="here", connector="local", root=str(folder / "site"), slots=4, poll=0.05, settle=1
        )
        self.store = SqlStore.open(folder / "crossfade.db", clock=wall_clock)
        (folder / "blobs").mkdir()
        self._folder = folder
        site = make_site(self.config, wall_clock)
        assert isinstance(site, Preparable)
        site.prepare()
        self.sites = {"here": site}
        setup = MoverSetup(
            sites=self.sites,
            configs={"here": self.config},
            blobs=folder / "blobs",
            clock=wall_clock,
            notes=MemoryNotes(),
        )
        (self.mover,) = make_movers(setup).values()
        self.store.ensure_sites(self.sites)
        self._runs = 0

    def broker(self, *, hook: Any = None) -> Broker:
        return Broker(
            Parts(
                store=StoreSeam(self.store, "store", hook) if hook else self.store,
                configs={"here": self.config},
                sites=self.sites,
                mover=self.mover,
                clock=wall_clock,
                owner=worker_name(),
            )
        )

    def submit(self, *stages: Stage) -> str:
        self._runs += 1
        run = f"run-{self._runs}"
        self.store.create_run(new_run(run, stages, now=wall_clock()))
        return run

    def state(self, run: str) -> str:
        row = self.store.run(run)
        assert row is not None
        return row.state

    def close(self) -> None:
        self.mover.close()
        self.store.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.01)


def ended(house: House, run: str) -> str:
    until(lambda: house.state(run) in ("SUCCEEDED", "FAILED", "CANCELED"), f"{run} ends")
    return house.state(run)


def ours() -> list[str]:
    """Threads that must not outlive a broker."""
    return [thread.name for thread in threading.enumerate() if thread.name == "crossfade-sweeper"]


# -- going well ----------------------------------------------------


def test_a_run_of_a_few_stages_succeeds(house: House) -> None:
    run = house.submit(
        Shell("make", line="echo one > x", outputs=["x"]),
        Shell("take", line="cat x > y; echo two >> y", inputs=[("x", "make")], outputs=["y"]),
        Shell("beside", line="exit 3", rules={"required": False}),
    )
    with Embedded(house.broker()) as embedded:
        embedded.wake(run)
        assert ended(house, run) == "SUCCEEDED"
    (product,) = house.store.products_of(run, ["take"]).values()
    assert house.sites["here"].read(f"{product.path}/y") == b"one\ntwo\n"
    assert {s.path: s.state for s in house.store.stages(run)}["beside"] == "FAILED"


@pytest.mark.fault("F48")
@pytest.mark.parametrize("how", ["missing", "cut short"])
def test_an_input_that_vanishes_before_its_job_starts_is_brought_again_and_the_payload_never_ran_without(
    house: House, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = house.submit(
        Shell("make", line="echo one > x", outputs=["x"]),
        Shell("take", line="cat x > y; echo ran >> ../../ran", inputs=[("x", "make")], outputs=["y"]),
    )
    site, spoiled = house.sites["here"], list[str]()
    submit = site.submit

    def spoil(specs: Sequence[JobSpec]) -> Any:
        for spec in specs:
            given = f"{spec.directory}/x"
            if not spoiled and any(file.path == ".crossfade/inputs" for file in spec.files):
                site.remove([given])
                if how == "cut short":
                    site.write(given, b"on")
                spoiled.append(given)
        return submit(specs)

    monkeypatch.setattr(site, "submit", spoil)
    with Embedded(house.broker()) as embedded:
        embedded.wake(run)
        assert ended(house, run) == "SUCCEEDED"
    first, second = (row for row in house.store.attempts(run) if row.n == 1)
    assert (first.state, first.failure, second.state) == ("FAILED", "staging", "SUCCEEDED")
    assert (
        first.reason
        == {
            "missing": "it could not start: x is not in its place",
            "cut short": "it could not start: x has 2 bytes, not what was brought",
        }[how]
    )
    assert site.read(f"{second.directory}/y") == b"one\n"
    assert (Path(house.config.root) / second.directory).parents[1].joinpath("ran").read_text() == "ran\n"


def test_a_run_that_nobody_wakes_is_found_by_the_sweeper(house: House) -> None:
    run = house.submit(Shell("a"))
    with Embedded(house.broker()):
        assert ended(house, run) == "SUCCEEDED"


def test_opening_and_closing_again_and_again_leaves_no_thread_and_no_warning(
    house: House, recwarn: pytest.WarningsRecorder
) -> None:
    for _ in range(3):
        run = house.submit(Shell("a"))
        with Embedded(house.broker()) as embedded:
            embedded.wake(run)
            assert ended(house, run) == "SUCCEEDED"
        assert ours() == []
    assert [str(w.message) for w in recwarn] == []


def test_nothing_is_done_any_more_once_it_is_closed(house: House) -> None:
    with Embedded(house.broker()) as embedded:
        pass
    run = house.submit(Shell("a"))
    embedded.wake(run)
    time.sleep(0.6)  # longer than two sweeps
    assert house.state(run) == "PENDING"
    with Embedded(house.broker()):
        assert ended(house, run) == "SUCCEEDED"


def test_a_job_goes_on_while_nobody_serves_and_is_taken_up_again(house: House) -> None:
    run = house.submit(Shell("a", line="sleep 1; echo done > x", outputs=["x"]))
    with Embedded(house.broker()):
        until(lambda: any(a.state == "RUNNING" for a in house.store.attempts(run)), "the job runs")
    with Embedded(house.broker()):
        assert ended(house, run) == "SUCCEEDED"
    assert len(house.store.attempts(run)) == 1


# -- the store is in trouble ----------------------------------------------------


class Trouble:
    """The store fails at every decision for as long as it is told to."""

    def __init__(self, error: StoreError) -> None:
        self.error: StoreError | None = error

    def before(self, call: Call) -> None:
        if self.error is not None and call.verb in ("deciding", "record"):
            raise self.error

    def after(self, call: Call) -> None:
        pass


@pytest.mark.parametrize("error", [StoreFull("no space left on the disk"), StoreBusy("locked by another writer")])
def test_a_store_that_is_full_or_busy_is_told_and_tried_again(
    house: House, error: StoreError, caplog: pytest.LogCaptureFixture
) -> None:
    trouble, told = Trouble(error), list[BaseException]()
    run = house.submit(Shell("a"))
    with Embedded(house.broker(hook=trouble), on_error=told.append):
        until(lambda: len(told) >= 2, "it is told, and tried again")
        assert house.state(run) == "PENDING"
        trouble.error = None
        assert ended(house, run) == "SUCCEEDED"
    assert set(map(str, told)) == {str(error)}
    assert str(error) in caplog.text


# -- messages that are no hints ----------------------------------------------------


def put(embedded: Embedded, body: bytes, *, task: str = LOOK_AT_RUNS, content_type: str = "application/json") -> None:
    """A message into the memory queue, as if from a stranger."""
    ident = str(uuid.uuid4())
    headers = {
        "lang": "py",
        "task": task,
        "id": ident,
        "root_id": ident,
        "parent_id": None,
        "argsrepr": "",
        "kwargsrepr": "",
    }
    with embedded._app.connection_for_write() as connection:
        producer = connection.Producer(serializer=None)
        producer.publish(
            body,
            routing_key=RUNS,
            headers=headers,
            correlation_id=ident,
            content_type=content_type,
            content_encoding="utf-8",
        )


EMPTY: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def args(*values: Any) -> bytes:
    return json.dumps([list(values), {}, EMPTY]).encode()


POISON: dict[str, dict[str, Any]] = {
    "a task that is not known": {"body": args("x"), "task": "somebody.elses"},
    "no JSON": {"body": b"{{{"},
    "JSON, but no arguments": {"body": b'"hello"'},
    "JSON of another shape": {"body": b'{"a": 1}'},
    "arguments that are none": {"body": b"[1, 2, 3]"},
    "a number": {"body": b"7"},
    "nothing": {"body": b"null"},
    "too few arguments": {"body": args()},
    "too many arguments": {"body": args("a", "b", "c")},
    "an argument of another kind": {"body": args({"a": [1]})},
    "a run that does not exist": {"body": args("no-such-run")},
    "a site that does not exist": {"body": args("nowhere"), "task": LOOK_AT_SITE},
    "a pickle": {"body": b"\x80\x04N.", "content_type": "application/x-python-serialize"},
    "bytes": {"body": b"\x00\xff\xfe", "content_type": "application/data"},
}


def test_a_message_that_is_no_hint_stops_nobody(house: House, caplog: pytest.LogCaptureFixture) -> None:
    with Embedded(house.broker()) as embedded:
        for poison in POISON.values():
            put(embedded, **poison)
        run = house.submit(Shell("a"))
        embedded.wake(run)
        assert ended(house, run) == "SUCCEEDED"
        until(lambda: all(words in caplog.text for words in REFUSALS), "all of it is refused, and told")
        later = house.submit(Shell("a"))
        embedded.wake(later)
        assert ended(house, later) == "SUCCEEDED"
    assert "Unrecoverable" not in caplog.text


REFUSALS = ("unregistered task", "Refusing to deserialize", "invalid task message", "raised unexpected")
"""Celery's words for them, in its log."""


def test_hints_that_are_lost_cost_time_only(house: House) -> None:
    run = house.submit(Shell("a"), Shell("b", needs=["a"]))
    embedded = Embedded(house.broker())
    lost: list[Sequence[str]] = []
    wakeups = embedded._hints._wakeups

    def lose_one(names: Sequence[str]) -> None:
        if not lost:
            lost.append(names)
        else:
            wakeups.look_at_runs(names)

    embedded._hints._wakeups = replace(wakeups, look_at_runs=lose_one)
    with embedded:
        assert ended(house, run) == "SUCCEEDED"
    assert len(lost) == 1


def test_hints_that_come_twice_start_nothing_twice(house: House) -> None:
    run = house.submit(Shell("a", line="echo x >> ../../count"))
    with Embedded(house.broker()) as embedded:
        for _ in range(20):
            embedded._hints._wakeups.look_at_runs([run])
            embedded._hints._wakeups.look_at_site("here")
        assert ended(house, run) == "SUCCEEDED"
    assert len(house.store.attempts(run)) == 1


# -- who is dead ----------------------------------------------------


def test_a_worker_knows_itself_alive() -> None:
    assert not worker_is_dead(worker_name())


def test_a_worker_whose_process_is_another_by_now_is_dead() -> None:
    pid, rest = worker_name().split("@", 1)
    host, boot, start = rest.rsplit(":", 2)
    assert worker_is_dead(f"{pid}@{host}:{boot}:{int(start) - 1}")  # the same number, a later start
    assert worker_is_dead(f"{pid}@{host}:00000000:{start}")  # before this boot
    assert worker_is_dead(f"4194304999@{host}:{boot}:{start}")  # no such process


@pytest.mark.parametrize("name", ["", "worker-1", "12@elsewhere:abcd1234:77", "x@y", "1@a:b"])
def test_nothing_is_said_of_workers_elsewhere_or_of_names_that_are_none(name: str) -> None:
    assert not worker_is_dead(name)


def test_a_name_without_a_number_is_nobody_that_could_be_dead() -> None:
    _, rest = worker_name().split("@", 1)
    assert not worker_is_dead(f"me@{rest}")
