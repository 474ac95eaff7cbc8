"""What tests of faults have in common: documents of some length, what a process is told first, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from service_kit import House, Process, until

from broker.clock import wall_clock

CHAIN: Mapping[str, Mapping[str, Any]] = {
    "a": {"run": "sleep 0.3; echo 1 > x", "outputs": [{"path": "x"}]},
    "b": {"needs": ["a"], "run": "sleep 0.3"},
    "c": {"needs": ["b"], "run": "sleep 0.3"},
}
"""Work that goes on for two seconds and asks the broker in between."""

QUICK = """
import functools, broker.worker
broker.worker.Habits = functools.partial(broker.worker.Habits, beat_every=0.5, stuck_after=4.0)
"""
"""For `House.start(first=...)`: a worker that knows after 4 s, not 60 s, that it is stuck."""


def went_well(home: House, *runs: str) -> None:
    """Every run succeeded, no payload was started twice, and the audit finds nothing."""
    for run in runs:
        assert home.ended(run) == "SUCCEEDED", home.told()
    wanted = sum(len(home.store.stages(run)) for run in runs)
    starts = home.starts()
    assert set(starts.values()) == {1}, f"started more than once: {starts}"
    assert len(starts) == wanted
    assert home.wrong() == []


def begun(home: House, *, payloads: int = 1) -> None:
    """Wait until so many payloads have started."""
    until(lambda: sum(home.starts().values()) >= payloads, f"{payloads} payloads start", pause=0.02)


def hints_flow(home: House, verb: str = "worker") -> None:
    """Wait until work gets through to every worker that runs, from now on."""
    home.gets_on(verb, since=wall_clock())


def says(process: Process, text: str) -> None:
    """Wait until it is in that process' log."""
    until(lambda: text in process.told(), f"{process.name} says {text!r}")


def gone(process: Process) -> int:
    """Wait until a process that is not kept has ended; its exit code."""
    running = process.running
    assert running is not None
    until(lambda: running.poll() is not None, f"{process.name} ends")
    return int(running.returncode)


@contextmanager
def meanwhile(do: Callable[[], object], *, every: float) -> Iterator[None]:
    """Do it again and again, `every` seconds, while the context lasts. What it raises is raised at the end."""
    over, failures = Event(), list[BaseException]()

    def work() -> None:
        try:
            while not over.wait(every):
                do()
        except BaseException as error:
            failures.append(error)

    thread = Thread(target=work, name="meanwhile")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def stopwatch() -> Callable[[], float]:
    """Seconds since now."""
    begun_at = time.monotonic()
    return lambda: time.monotonic() - begun_at
