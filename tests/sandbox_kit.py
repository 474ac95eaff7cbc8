"""A simulated site and jobs for it, for tests that let virtual days pass."""

from __future__ import annotations

import random
from collections.abc import Sequence

from broker.clock import VirtualClock, micros
from connectors.harness import (
    CheckpointRecord,
    ExitRecord,
    HarnessPlan,
    HarnessRestore,
    Output,
    StartRecord,
    parse_record,
    parse_spool_name,
    render,
)
from connectors.model import Accepted, JobSpec, JobState, JobStatus, Resources, SmallFile
from sandbox.connector import SimulatedSite
from sandbox.faults import FaultPlan, Odds, Window
from sandbox.shape import SiteShape
from sandbox.site import SiteModel

START = VirtualClock()()


def at(seconds: float) -> int:
    """So many seconds after the test has begun."""
    return START + micros(seconds)


def key_of(number: int) -> str:
    return f"cf{number:013d}"


def job(
    number: int = 1,
    sim: str = "",
    *,
    outputs: Sequence[str] = (),
    submit: dict[str, str] | None = None,
    resources: Resources | None = None,
    requeue: bool = True,
    directory: str = "",
    files: Sequence[SmallFile] = (),
    restore: int | None = None,
    **plan: object,
) -> JobSpec:
    """A job with the harness's own files; `sim` are the words of its `: sim` line."""
    harness = HarnessPlan(
        key=key_of(number),
        digest=f"d{number}",
        directory_depth=2,
        command=f": sim {sim}" if sim else "true",
        outputs=tuple(Output(path=path) for path in outputs),
        restore=None if restore is None else HarnessRestore(seq=restore),
        **plan,
    )
    return JobSpec(
        key=key_of(number),
        digest=f"d{number}",
        directory=directory or f"runs/{number}",
        entry=".crossfade/stage.sh",
        files=(*render(harness), *files),
        submit=submit or {},
        resources=resources or Resources(),
        requeue=requeue,
    )


class Place:
    """One site, its clock, and what a test asks of them."""

    def __init__(
        self, *faults: Window, odds: Odds | None = None, seed: int = 1, name: str = "sim", **shape: object
    ) -> None:
        self.clock = VirtualClock()
        self.model = SiteModel(
            name=name,
            shape=SiteShape(**shape),
            rng=random.Random(seed),
            start=self.clock(),
            faults=FaultPlan(timed=faults, odds=odds or Odds()),
        )
        self.site = SimulatedSite(self.model, self.clock)

    def submit(self, *specs: JobSpec) -> list[str]:
        """Native ids, in the order of the jobs."""
        answers = self.site.submit(specs)
        for answer in answers.values():
            assert isinstance(answer, Accepted), answer
        return [answers[spec.key].native_id for spec in specs]

    def go_to(self, seconds: float) -> None:
        """From event to event, as a simulator does."""
        while (event := self.model.next_event_at()) is not None and event <= at(seconds):
            self.clock.advance_to(event)
            self.model.advance(self.clock())
        self.clock.advance_to(at(seconds))
        self.model.advance(self.clock())

    def go_on(self) -> None:
        """Until nothing will happen any more."""
        for _ in range(100_000):
            event = self.model.next_event_at()
            if event is None:
                return
            self.clock.advance_to(event)
            self.model.advance(self.clock())
        raise AssertionError("there is no end of events")

    def all(self, number: int = 1) -> list[JobStatus]:
        return list(self.site.status([key_of(number)]).items)

    def status(self, number: int = 1) -> JobStatus:
        (status,) = self.all(number)
        return status

    def state(self, number: int = 1) -> JobState:
        return self.status(number).state

    def records(self, number: int = 1) -> list[StartRecord | CheckpointRecord | ExitRecord]:
        """The job's spool, in the order in which it was written."""
        found = []
        for info in self.model.disk.listing("spool"):
            key, generation, n, _ = parse_spool_name(info.path.removeprefix("spool/"))
            if key == key_of(number):
                found.append((generation, n, parse_record(self.model.disk.read(info.path))))
        return [record for _, _, record in sorted(found, key=lambda item: item[:2])]

    def exits(self, number: int = 1) -> list[ExitRecord]:
        return [record for record in self.records(number) if isinstance(record, ExitRecord)]

    def checkpoints(self, number: int = 1) -> list[CheckpointRecord]:
        return [record for record in self.records(number) if isinstance(record, CheckpointRecord)]

    def started(self, number: int = 1) -> float | None:
        """When the site says that it started, in seconds of the test."""
        at_ = self.status(number).started_at
        return None if at_ is None else (at_ - START) / 1_000_000

    def ends(self) -> list[str]:
        """How each execution ended, in order of start."""
        return [execution.how for execution in self.model.journal.executions]
