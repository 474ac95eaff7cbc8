"""ONE model of a batch site: pure, driven by events, the same every time from the same seed.

It has no clock, no thread and no randomness of its own. Every call brings the time (µs); `next_event_at` says when
something will happen by itself, so that a simulation can jump there, and `advance` lets it happen, in order. Calls
are the scheduler's and the file system's; that a front end may be silent is `knock`, which faces call first.
"""

from __future__ import annotations

import random
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from connectors.errors import CredentialError, Fault, SiteBusy, SiteUnreachable, UnsafePath
from connectors.model import (
    Accepted,
    Doubtful,
    JobSpec,
    JobState,
    JobStatus,
    Listing,
    Refused,
    SubmitAnswer,
)
from connectors.paths import clean
from sandbox.agenda import Agenda
from sandbox.compute import Compute, OnStart
from sandbox.dice import Dice
from sandbox.disk import Disk
from sandbox.executor import Executor
from sandbox.faults import (
    AccountingPurged,
    Busy,
    ComputeDown,
    ControllerCrash,
    CredentialExpired,
    DisksGone,
    FaultPlan,
    IncompleteListing,
    Maintenance,
    NodeFailure,
    Preemption,
    Refusing,
    SiteLost,
    Slow,
    StuckQueue,
    Window,
)
from sandbox.job import Execution, Job
from sandbox.journal import Journal
from sandbox.papers import Papers, read_papers
from sandbox.payload import BadSimLine
from sandbox.shape import SiteShape
from sandbox.weather import Weather
from sandbox.wrapper import Wrapper

_KEY = re.compile(r"[a-z0-9]{1,64}")


class SiteModel:
    """Books, queue, nodes and disks of one site."""

    def __init__(
        self,
        *,
        name: str,
        shape: SiteShape,
        rng: random.Random,
        start: int,
        faults: FaultPlan | None = None,
        remember: int | None = None,
    ) -> None:
        """`remember` bounds how many ended jobs are kept in the books, with their control files; None: all."""
        plan = faults or FaultPlan()
        self.name = name
        self.shape = shape
        self.disk = Disk()
        self.journal = Journal(keep=remember)
        self.lock = threading.RLock()
        """For faces that are called from several threads; the model itself takes no lock."""
        self._dice = Dice(plan.odds, rng)
        self._rng = rng
        self._agenda = Agenda(start)
        self._weather = Weather(())
        self._wrapper = Wrapper(self.disk, gate=shape.claim != "none")
        self._books: dict[str, tuple[Job, ...]] = {}
        self._ended: deque[Job] = deque()
        self._remember = remember
        self._next_id = shape.first_id
        self._end_hook: Callable[[Job], None] | None = None
        self._compute = Compute(
            shape=shape,
            agenda=self._agenda,
            weather=self._weather,
            wrapper=self._wrapper,
            journal=self.journal,
            dice=self._dice,
            on_end=self._on_end,
        )
        for fault in plan.timed:
            self.inject(fault)

    # -- time ----------------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self._agenda.now

    def next_event_at(self) -> int | None:
        """When something will happen by itself (µs); None: nothing will."""
        return self._agenda.next_at()

    def advance(self, now: int) -> None:
        """Let everything happen that is due, in order."""
        self._agenda.advance(now)

    def on_start(self, hook: OnStart | None) -> None:
        """Call `hook(spec, now)` whenever a payload really begins."""
        self._compute.on_start = hook

    @property
    def running_units(self) -> int:
        return self._compute.queue.used

    # -- the front end ---------------------------------------------------------------------------------------

    def knock(self, capability: str, now: int) -> None:
        """Does the front end answer? Raises SiteUnreachable, CredentialError or SiteBusy, with nothing done."""
        self.advance(now)
        if self._weather:
            self._knock_in_bad_weather(capability, now)
        if self._dice.falls("unreachable"):
            raise SiteUnreachable(f"{self.name}: no answer", site=self.name)

    def _knock_in_bad_weather(self, capability: str, now: int) -> None:
        why = self._weather.silent(capability, now)
        if not why and capability in ("files", "transfer") and self._weather.now(DisksGone, now):
            why = "the file system does not answer"
        if why:
            raise SiteUnreachable(f"{self.name}: {why}", site=self.name)
        if self._weather.now(CredentialExpired, now):
            raise CredentialError(f"{self.name}: the credential has expired", site=self.name)
        busy = self._weather.now(Busy, now) if capability == "submit" else None
        if busy is not None:
            raise SiteBusy(f"{self.name}: too many requests", site=self.name, retry_after=busy.retry_after)

    def reports(self, now: int) -> tuple[tuple[str, bool, str], ...]:
        """What a look at each capability finds: (capability, answers, detail). Draws nothing."""
        self.advance(now)
        found = []
        for capability in ("submit", "status", "files", "transfer"):
            try:
                self._knock_in_bad_weather(capability, now)
                found.append((capability, True, ""))
            except (SiteUnreachable, CredentialError, SiteBusy) as error:
                found.append((capability, False, str(error)))
        expired = self._weather.now(CredentialExpired, now) is not None
        found.append(("credentials", not expired, "expired" if expired else ""))
        if self._weather.silent("status", now):
            return tuple(found)
        down = self._weather.now(ComputeDown, now) is not None
        return (*found, ("compute", not down, self._compute_detail(now)))

    def latency(self, now: int) -> float:
        """Seconds that an answer takes."""
        slow = self._weather.now(Slow, now)
        return self.shape.latency * (slow.factor if slow else 1.0)

    def announced(self, now: int) -> Maintenance | None:
        """The planned window that whoever reaches the front end is told of."""
        return None if self._weather.silent("status", now) else self._weather.maintenance_after(now)

    def _compute_detail(self, now: int) -> str:
        window = self._weather.maintenance_after(now)
        if window is not None:
            return f"planned maintenance from {window.start} to {window.end}"
        return "the nodes are down" if self._weather.now(ComputeDown, now) else ""

    # -- the scheduler ---------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec], now: int) -> dict[str, SubmitAnswer]:
        """Take jobs into the queue; what can start does, before this returns."""
        self.advance(now)
        answers = {spec.key: self._submit(spec, now) for spec in specs}
        self._agenda.settle()
        return answers

    def _submit(self, spec: JobSpec, now: int) -> SubmitAnswer:
        refused = self._refusal(spec, now)
        if refused is not None:
            return refused
        if self._dice.falls("request_lost"):
            return Doubtful(reason=f"{self.name}: the connection broke before an answer came")
        if self.shape.adopts and (held := self._held(spec, now)) is not None:
            return held
        try:
            clean(spec.entry)
            papers = read_papers(spec.files)
            self.disk.fill(spec.directory, spec.files, now)
        except (BadSimLine, UnsafePath) as error:
            return Refused(reason=str(error), fault=Fault.APPLICATION.value)
        job = self._accept(spec, papers, now)
        if self._dice.falls("doubled"):
            job = self._accept(spec, papers, now)
        if self._dice.falls("reply_lost"):
            return Doubtful(reason=f"{self.name}: the connection broke before an answer came")
        return Accepted(native_id=job.native_id)

    def enter(
        self,
        spec: JobSpec,
        papers: Papers,
        now: int,
        *,
        priority: int = 0,
        parked: str = "",
        bare: bool = False,
        order: object = None,
    ) -> Job:
        """Take a job of any making into the queue; nothing about it is checked, and no file of it is written.

        `parked`: the reason for which it waits until `unpark`: JobHeldUser, Dependency, or one that time does not cure.
        """
        self.advance(now)
        job = self._booked(spec, papers, now)
        job.priority = priority
        job.bare = bare
        job.order = order
        if parked:
            self.park(job, parked)
        else:
            self._plan_entry(job, now)
        self._agenda.settle()
        return job

    def park(self, job: Job, reason: str) -> None:
        """Keep a waiting job from starting."""
        if job.state in (JobState.QUEUED, JobState.HELD):
            job.set(JobState.HELD if reason.startswith("JobHeld") else JobState.QUEUED, "PENDING", reason=reason)
            job.parked = True

    def unpark(self, job: Job, now: int) -> None:
        """It may start."""
        if job.parked:
            job.parked = False
            if job.state in (JobState.QUEUED, JobState.HELD):
                job.set(JobState.QUEUED, "PENDING")
                self._compute.enqueue(now, job)
                self._agenda.settle()

    def all_jobs(self) -> list[Job]:
        """The books, in order of acceptance."""
        return sorted(self._all_jobs(), key=lambda job: job.number)

    def end(self, job: Job, now: int) -> bool:
        """Cancel one job. True when it is dead on return."""
        self.advance(now)
        dead = self._compute.cancel(job, now)
        self._agenda.settle()
        return dead

    def befall(self, job: Job, what: str, now: int, *, notice: float = 0.0, requeue: bool = False) -> None:
        """Let this happen to a running job: preempted, or an end that `Compute.condemn` knows."""
        self.advance(now)
        if what == "preempted":
            self._compute.preempt(job, now, notice=notice, requeue=requeue)
        elif what == "node_failed":
            self._compute.fail_node_of(job, now, requeue=requeue)
        else:
            self._compute.condemn(job, now, what)
        self._agenda.settle()

    def plan(self, at: int, handler: Callable[[int], object]) -> None:
        """Call `handler` with the time, at that time."""
        self._agenda.plan(at, handler)

    def executed_by(self, executor: Executor) -> None:
        """From now on executions are real."""
        self._compute.executor = executor

    def exited(self, execution: Execution, now: int, *, code: int, signal: int | None) -> None:
        """A real execution has ended by itself."""
        self.advance(now)
        self._compute.exited(execution, now, code=code, signal=signal)
        self._agenda.settle()

    def on_begin(self, hook: Callable[[Job, int], None]) -> None:
        """Call `hook(job, now)` whenever a job is started; it may plan, and end nothing itself."""
        self._compute.on_begin = hook

    def on_end(self, hook: Callable[[Job], None]) -> None:
        """Call `hook(job)` whenever a job has come to its end; what it changes is settled afterwards."""
        self._end_hook = hook

    def _refusal(self, spec: JobSpec, now: int) -> Refused | None:
        if not _KEY.fullmatch(spec.key):
            return Refused(reason=f"{spec.key[:80]!r} is not a submit key", fault=Fault.APPLICATION.value)
        if self._weather:
            fault = self._weather.now(Refusing, now)
            if fault is not None:
                return Refused(reason=fault.reason, fault=fault.blame)
        if self._dice.falls("refused"):
            return Refused(reason="the scheduler refuses the job", fault=Fault.SITE.value)
        reservation = spec.submit.get("reservation", "")
        if reservation and reservation not in self._compute.queue.reservations:
            return Refused(reason="Requested reservation is invalid", fault=Fault.SITE.value)
        if self.shape.enforce_limits and (broken := self.shape.limit_broken(spec.resources)):
            return Refused(reason=broken, fault=Fault.SITE.value)
        return None

    def _held(self, spec: JobSpec, now: int) -> Accepted | Refused | None:
        """The job that already has this key, as far as listings show it."""
        for job in self._books.get(spec.key, ()):
            if job.listed_from <= now:
                if job.spec.digest == spec.digest:
                    return Accepted(native_id=job.native_id, adopted=True)
                what = f"{self.name} has a job {spec.key} of other content; it is not ours to adopt"
                return Refused(reason=what, fault=Fault.APPLICATION.value)
        return None

    def _accept(self, spec: JobSpec, papers: Papers, now: int) -> Job:
        job = self._booked(spec, papers, now)
        if not job.forgotten:
            job.priority = self.shape.priority(spec.submit) if spec.submit else 0
            job.stuck_reason = job.native_reason = self._stuck(spec, now)
            self._plan_entry(job, now)
        return job

    def _booked(self, spec: JobSpec, papers: Papers, now: int) -> Job:
        units = self.shape.units(spec.resources)
        job = Job(spec=spec, native_id=self._new_id(), papers=papers, units=units, now=now)
        job.number = self.journal.accepted_total
        job.reservation = spec.submit.get("reservation", "")
        if job.walltime is None:
            job.walltime = self.shape.max_walltime
        job.listed_from = now + _micros(self.shape.listing_lag)
        self.journal.accept(spec.key, job.native_id, spec.digest, now)
        job.forgotten = self._dice.falls("forgotten")
        if not job.forgotten:
            self._books[spec.key] = (*self._books.get(spec.key, ()), job)
        return job

    def _plan_entry(self, job: Job, now: int) -> None:
        if job.forgotten:
            return
        if self.shape.submit_latency > 0:
            self._agenda.plan(now + _micros(self.shape.submit_latency), self._compute.enqueue, job)
        else:
            self._compute.enqueue(now, job)

    def _stuck(self, spec: JobSpec, now: int) -> str:
        fault = self._weather.now(StuckQueue, now) if self._weather else None
        if fault is not None:
            return fault.reason
        if self._dice.falls("stuck"):
            return "PartitionTimeLimit"
        return "" if self.shape.enforce_limits else self.shape.limit_broken(spec.resources)

    def _new_id(self) -> str:
        if self._ended and self._dice.falls("id_reused"):
            return self._ended[self._rng.randrange(len(self._ended))].native_id
        native_id = str(self._next_id)
        self._next_id += 1
        return native_id

    def look_up(self, keys: Sequence[str], now: int) -> Listing:
        """The jobs behind these keys."""
        books = self._books
        return self._listing([job for key in keys for job in books.get(key, ())], now)

    def list_all(self, since: int, now: int) -> Listing:
        """Every job that lived at or after `since`."""
        return self._listing([job for job in self._all_jobs() if job.ended_at is None or job.ended_at >= since], now)

    def _listing(self, jobs: list[Job], now: int) -> Listing:
        hidden = self._hidden_share(now)
        if hidden is None:
            items = [job.status for job in jobs if job.listed_from <= now]
            return Listing(items=items, complete=True, as_of=now)
        seen: list[JobStatus] = [job.status for job in jobs if job.listed_from <= now and self._rng.random() >= hidden]
        return Listing(items=seen, complete=False, as_of=now)

    def _hidden_share(self, now: int) -> float | None:
        fault = self._weather.now(IncompleteListing, now) if self._weather else None
        if fault is not None:
            return fault.hidden
        return 0.5 if self._dice.falls("listing_incomplete") else None

    def cancel(self, keys: Sequence[str], now: int) -> dict[str, bool]:
        """End all jobs of each key. True: dead on return, or never there."""
        self.advance(now)
        answers = {}
        for key in keys:
            alive = [job for job in self._books.get(key, ()) if not self._compute.cancel(job, now)]
            answers[key] = not alive
        self._agenda.settle()
        return answers

    # -- files -----------------------------------------------------------------------------------------------

    def request(self, directory: str, content: bytes, now: int) -> None:
        """Somebody wrote `.crossfade/request` there: the wrapper that lives in that folder will find it."""
        word = content[:64].decode("ascii", "replace").strip()
        for job in self._all_jobs():
            if job.spec.directory == directory and job.execution is not None and job.execution.alive:
                self._compute.request(job.execution, word, now)

    # -- faults ----------------------------------------------------------------------------------------------

    def inject(self, fault: Window) -> None:
        """Let this go wrong too. What would have begun before now begins now."""
        self._weather.forget(self._agenda.now)
        self._weather.add(fault)
        plan = self._agenda.plan
        start = max(fault.start, self._agenda.now)
        match fault:
            case ComputeDown() | ControllerCrash() | DisksGone():
                plan(start, self._outage_begins, fault)
                if fault.end is not None:
                    plan(max(fault.end, start), self._outage_ends, fault)
            case Preemption() | NodeFailure() | SiteLost() | AccountingPurged():
                plan(start, self._moment, fault)

    def ordain(self, name: str, times: int = 1) -> None:
        """Let what `Odds` calls `name` befall at the very next occasions, whatever its chance."""
        self._dice.ordain(name, times)

    def _outage_begins(self, now: int, fault: Window) -> None:
        match fault:
            case DisksGone():
                self._wrapper.writable = False
                if fault.wiped:
                    self._wipe()
            case ComputeDown():
                self._compute.fail_all(now, requeue=fault.requeue)
            case ControllerCrash():
                self._crash(fault, now)

    def _outage_ends(self, now: int, fault: Window) -> None:
        if isinstance(fault, DisksGone):
            self._wrapper.writable = self._weather.now(DisksGone, now) is None
        self._compute.let_in(now)

    def _moment(self, now: int, fault: Window) -> None:
        match fault:
            case Preemption():
                self._compute.preempt_some(now, fault.count, notice=fault.notice, requeue=fault.requeue)
            case NodeFailure():
                self._compute.fail_some(now, fault.count, requeue=fault.requeue)
            case AccountingPurged():
                for job in [job for job in self._all_jobs() if job.state.final]:
                    self._strike(job)
            case SiteLost():
                self._compute.fail_all(now, requeue=False)
                self._compute.queue.clear()
                self._wrapper.writable = False
                self._wipe()

    def show_beat(self, path: str, now: int) -> None:
        """Bring a heartbeat file up to date; nobody but a reader of it would know."""
        self._wrapper.show_beat(path.split("/.crossfade/", 1)[0], now)

    def _wipe(self) -> None:
        self.disk.wipe()
        self._wrapper.wiped()

    def _crash(self, fault: ControllerCrash, now: int) -> None:
        horizon = now - _micros(fault.memory)
        again = now if fault.end is None else fault.end
        for job in list(self._all_jobs()):
            if job.submitted_at > horizon:
                self._compute.lose_memory_of(job, now)
                self._strike(job)
                if job.native_id.isdecimal():
                    self._next_id = min(self._next_id, int(job.native_id))
            elif job.state is JobState.RUNNING and job.started_at is not None and job.started_at > horizon:
                self._compute.start_again(job, now, again)

    # -- books -----------------------------------------------------------------------------------------------

    def _all_jobs(self) -> Iterator[Job]:
        return (job for jobs in self._books.values() for job in jobs)

    def _on_end(self, job: Job) -> None:
        if self._end_hook is not None:
            self._end_hook(job)
        self._ended.append(job)
        if self._remember is not None and len(self._ended) > self._remember:
            old = self._ended.popleft()
            self._strike(old)
            if old.execution is not None:
                self._wrapper.forget(old.execution)

    def _strike(self, job: Job) -> None:
        left = tuple(item for item in self._books.get(job.key, ()) if item is not job)
        if left:
            self._books[job.key] = left
        else:
            self._books.pop(job.key, None)


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)
