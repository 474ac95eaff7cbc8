"""A facility over the batch model: what live and virtual facilities have in common."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from connectors.errors import CredentialError, SiteBusy, SiteUnreachable
from connectors.model import JobSpec, JobState, Resources
from connectors.registry import Clock
from sandbox.facilities.outages import OutageBook
from sandbox.facilities.rules import check, never_runs, priority_of
from sandbox.facilities.shape import FacilityShape
from sandbox.facility import FaultScript, JobView, NoFaults, Order, OrderRefused, Outage
from sandbox.faults import Window
from sandbox.job import Job
from sandbox.papers import Papers, read_papers
from sandbox.site import SiteModel

_AT_START = ("preempt", "node_fail", "time_out", "deadline", "out_of_memory", "boot_fail")
"""Faults that befall a job some seconds after its start."""
_FATES = {"time_out": "timed_out", "deadline": "deadline", "out_of_memory": "out_of_memory", "boot_fail": "boot_failed"}
_EMPTY = read_papers(())


class BatchFacility:
    """Queue, books and outages. Thread-safe: one lock, the model's."""

    def __init__(
        self, shape: FacilityShape, *, clock: Clock, faults: FaultScript | None = None, remember: int = 20_000
    ) -> None:
        self.name = shape.name
        self.shape = shape
        self.faults: FaultScript = faults or NoFaults()
        self.book = OutageBook()
        self._clock = clock
        self.model = SiteModel(
            name=shape.name,
            shape=shape.site(),
            rng=random.Random(shape.name),  # noqa: S311 - a reproducible story, no secret
            start=clock(),
            remember=remember,
        )
        self.model.on_end(self._ended)
        self.model.on_begin(self._begun)
        self._accepted: Counter[str] = Counter()
        self._words: dict[Job, Mapping[str, Any]] = {}
        """Jobs whose state is told by a word that nobody knows."""
        self._used = 0.0
        """Node hours of jobs that have ended."""

    def now(self) -> int:
        return self._clock()

    # -- orders ----------------------------------------------------------------------------------------------

    def submit(self, order: Order) -> str:
        with self.model.lock:
            now = self._asked("submit")
            order = self._completed(order)
            if (params := self.faults.take("refuse", job=order.name)) is not None:
                raise OrderRefused(str(params.get("kind", "limit")), str(params.get("text", "the scheduler refuses")))
            check(order, self.shape)
            spec, papers, bare = self._read(order)
            forgotten = self.faults.take("forget", job=order.name)
            if forgotten is not None:
                self.model.ordain("forgotten")
            job = self.model.enter(
                spec,
                papers,
                now,
                priority=priority_of(order, self.shape),
                parked=self._parked(order),
                bare=bare,
                order=order,
            )
            hidden = self.faults.take("hide", job=order.name)
            if hidden is not None:
                job.listed_from = now + _micros(float(hidden.get("seconds", 10)))
            word = self.faults.take("unknown_word", job=order.name)
            if word is not None:
                self._words[job] = word
            self._accepted[order.name] += 1
            self._taken(job)
            return job.native_id

    def _completed(self, order: Order) -> Order:
        queue = order.queue or self.shape.default_queue
        limits = self.shape.queues.get(queue)
        walltime = order.walltime
        if walltime is None and limits is not None:
            walltime = limits.max_walltime
        return replace(order, queue=queue, walltime=walltime, user=order.user or self.shape.user)

    def _parked(self, order: Order) -> str:
        stuck = self.faults.take("stuck", job=order.name)
        if stuck is not None:
            return str(stuck.get("reason", "PartitionTimeLimit"))
        if broken := never_runs(order, self.shape):
            return broken
        if order.hold:
            return "JobHeldUser"
        return "Dependency" if order.singleton and self._namesakes(order.name, order.user) else ""

    def _namesakes(self, name: str, user: str) -> list[Job]:
        """Jobs of that name that have not ended, oldest first."""
        found = []
        for job in self.model.all_jobs():
            order = order_of(job)
            if not job.state.final and order.name == name and order.user == user:
                found.append(job)
        return found

    def _read(self, order: Order) -> tuple[JobSpec, Papers, bool]:
        """What the model is told of this order, and whether it runs without our harness."""
        return self._spec(order, f"job{self.model.journal.accepted_total}"), _EMPTY, True

    def _spec(self, order: Order, key: str, *, digest: str = "", directory: str = "") -> JobSpec:
        cores = self.shape.cores_per_node if self.shape.whole_nodes and order.nodes == 1 else order.cores
        return JobSpec(
            key=key,
            digest=digest,
            directory=directory,
            entry="",
            resources=Resources(
                nodes=order.nodes, cores=max(1, cores), gpus=order.gpus, memory=order.memory, walltime=order.walltime
            ),
            submit={"reservation": order.reservation} if order.reservation else {},
            warn_before=order.warn_before,
            requeue=order.requeue,
            comment=order.comment,
        )

    def _taken(self, job: Job) -> None:
        """A job has come into the queue."""

    def _begun(self, job: Job, now: int) -> None:
        for name in _AT_START:
            params = self.faults.take(name, job=order_of(job).name)
            if params is not None:
                self._plan_fate(job, name, params, now)

    def _plan_fate(self, job: Job, name: str, params: Mapping[str, Any], now: int) -> None:
        restarts = job.restarts

        def befall(at: int) -> None:
            if job.restarts == restarts:
                self.befall(job, name, params, at)

        self.model.plan(now + _micros(float(params.get("after", 0))), befall)

    def befall(self, job: Job, name: str, params: Mapping[str, Any], now: int) -> None:
        """One of the faults that happen to a running job, by its name in fault scripts."""
        requeue = bool(params.get("requeue", name == "preempt"))
        if name == "preempt":
            notice = float(params.get("notice", self.shape.preempt_notice))
            self.model.befall(job, "preempted", now, notice=notice, requeue=requeue)
        elif name == "node_fail":
            self.model.befall(job, "node_failed", now, requeue=requeue)
        else:
            self.model.befall(job, _FATES[name], now)

    def _ended(self, job: Job) -> None:
        if job.started_at is not None and job.ended_at is not None:
            self._used += order_of(job).nodes * (job.ended_at - job.started_at) / 3.6e9
        order = order_of(job)
        if order.name:
            self.model.plan(self.model.now, self._wake_namesakes(order.name, order.user))

    def _wake_namesakes(self, name: str, user: str) -> Callable[[int], None]:
        def wake(now: int) -> None:
            oldest = self._namesakes(name, user)
            if oldest and oldest[0].parked and oldest[0].native_reason == "Dependency":
                self.model.unpark(oldest[0], now)

        return wake

    # -- looking -----------------------------------------------------------------------------------------------

    def jobs(self, *, ended_too: bool = True) -> Sequence[JobView]:
        with self.model.lock:
            now = self._asked("status")
            known = self._known(now, self.shape.min_job_age)
            return [self._view(job, now) for job in known if ended_too or not job.state.final]

    def accounting(self) -> Sequence[JobView]:
        with self.model.lock:
            now = self._asked("status")
            return [self._view(job, now) for job in self._known(now, self.shape.accounting_age)]

    def job(self, native_id: str) -> JobView | None:
        return next((view for view in reversed(self.jobs()) if view.native_id == native_id), None)

    def _known(self, now: int, age: float) -> Iterator[Job]:
        oldest = now - _micros(age)
        for job in self.model.all_jobs():
            if job.listed_from <= now and (job.ended_at is None or job.ended_at >= oldest):
                yield job

    def _find(self, native_id: str, now: int) -> Job | None:
        known = [job for job in self._known(now, self.shape.min_job_age) if job.native_id == native_id]
        return known[-1] if known else None

    def _view(self, job: Job, now: int) -> JobView:
        state, word = job.state, job.native_state
        if job.execution is not None and job.execution.alive and job.fate:
            word = "COMPLETING"
        if (strange := self._words.get(job)) is not None and _told_now(strange, job, now):
            state, word = JobState.UNKNOWN, str(strange.get("word", "HIBERNATED"))
        reason = job.native_reason
        if not reason and state is JobState.QUEUED:
            reason = "Resources"
        return JobView(
            native_id=job.native_id,
            order=order_of(job),
            state=state,
            word=word,
            reason=reason,
            restarts=job.restarts,
            exit_code=job.exit_code,
            signal=job.signal,
            submitted_at=job.submitted_at,
            started_at=job.started_at,
            ended_at=job.ended_at,
            nodes=self._nodes(job),
        )

    def _nodes(self, job: Job) -> Sequence[str]:
        if job.execution is None:
            return ()
        first = int(job.execution.host.removeprefix("node"))
        return [f"node{(first + n) % 1000:03d}" for n in range(order_of(job).nodes)]

    def queued(self) -> Mapping[str, int]:
        waiting = Counter(view.order.queue for view in self.jobs(ended_too=False) if view.state is JobState.QUEUED)
        return {queue: waiting[queue] for queue in self.shape.queues}

    def accepted(self) -> Mapping[str, int]:
        with self.model.lock:
            return dict(self._accepted)

    def use_of(self, account: str) -> tuple[float, float]:  # noqa: ARG002 - one allocation for all
        with self.model.lock:
            now = self.now()
            self.model.advance(now)  # what has ended by now takes no more hours
            running = sum(
                order_of(job).nodes * (now - job.started_at) / 3.6e9
                for job in self.model.all_jobs()
                if job.started_at is not None and job.ended_at is None
            )
            return self.shape.granted_node_hours, round(self._used + running, 4)

    # -- acting ------------------------------------------------------------------------------------------------

    def cancel(self, native_id: str, *, signal: str = "") -> bool:
        with self.model.lock:
            now = self._asked("submit")
            job = self._find(native_id, now)
            if job is None or job.state.final:
                return False
            if signal and signal.upper().removeprefix("SIG") not in {"KILL", "TERM", "9", "15"}:
                return self._send(job, signal.upper().removeprefix("SIG"))
            if self.faults.take("ignore_cancel", job=order_of(job).name) is None:
                self.model.end(job, now)
            return True

    def _send(self, job: Job, signal: str) -> bool:  # noqa: ARG002 - only real processes hear signals
        return job.execution is not None

    def hold(self, native_id: str, *, held: bool) -> bool:
        with self.model.lock:
            now = self._asked("submit")
            job = self._find(native_id, now)
            if job is None or job.state not in (JobState.QUEUED, JobState.HELD):
                return False
            if held:
                self.model.park(job, "JobHeldUser")
            elif job.state is JobState.HELD:
                self.model.unpark(job, now)
            return True

    # -- weather -----------------------------------------------------------------------------------------------

    def outages(self) -> Sequence[Outage]:
        with self.model.lock:
            return self.book.told(self.now())

    def announce(self, outage: Outage, *, window: Window | None = None) -> None:
        """Tell of an outage, and let it happen too, where a window of the model says how."""
        with self.model.lock:
            self.book.add(outage)
            if window is not None:
                self.inject(window)

    def inject(self, window: Window) -> None:
        """Let this go wrong."""
        with self.model.lock:
            self.model.inject(window)
            self._changed()

    def plan(self, at: int, what: Callable[[int], object]) -> None:
        """Do something at that time (µs)."""
        with self.model.lock:
            self.model.plan(at, what)
            self._changed()

    def _changed(self) -> None:
        """Something will happen at another time than was known."""

    def up(self, capability: str = "status") -> bool:
        with self.model.lock:
            reports = {name: ok for name, ok, _ in self.model.reports(self.now())}
            return reports.get(capability, False)

    @contextmanager
    def held_still(self) -> Iterator[None]:
        with self.model.lock:
            yield

    def _knock_at_files(self) -> int:
        with self.model.lock:
            return self._asked("files")

    def _asked(self, capability: str) -> int:
        """Bring the model up to date. Raises SiteUnreachable where this part is down."""
        now = self.now()
        try:
            self.model.knock(capability, now)
        except (CredentialError, SiteBusy) as error:
            raise SiteUnreachable(str(error), site=self.name) from error
        return now


def _told_now(params: Mapping[str, Any], job: Job, now: int) -> bool:
    if job.started_at is None:
        return False
    since = (now - job.started_at) / 1e6
    after = float(params.get("after", 0))
    return after <= since < after + float(params.get("seconds", 1e9))


def order_of(job: Job) -> Order:
    assert isinstance(job.order, Order)  # noqa: S101 - `submit` is the only way in
    return job.order


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)
