"""The nodes of a simulated site: starting jobs, letting them work, and all the ways in which they end."""

from __future__ import annotations

from collections.abc import Callable

from connectors.harness import GATED, RESTORE_FAILED, TOO_LATE
from connectors.model import JobSpec, JobState
from sandbox.agenda import Agenda
from sandbox.dice import Dice
from sandbox.executor import Executor
from sandbox.faults import ComputeDown, ControllerCrash, SiteLost, Slow
from sandbox.job import Execution, Job
from sandbox.journal import Journal
from sandbox.queue import JobQueue
from sandbox.shape import SiteShape
from sandbox.weather import Weather
from sandbox.wrapper import Wrapper

OnStart = Callable[[JobSpec, int], None]
OnEnd = Callable[[Job], None]

_STATES = {
    "timed_out": (JobState.TIMED_OUT, "TIMEOUT", 15),
    "preempted": (JobState.PREEMPTED, "PREEMPTED", 15),
    "node_failed": (JobState.NODE_FAILED, "NODE_FAIL", None),
    "canceled": (JobState.CANCELED, "CANCELLED", 15),
    "out_of_memory": (JobState.OUT_OF_MEMORY, "OUT_OF_MEMORY", 9),
    "deadline": (JobState.TIMED_OUT, "DEADLINE", 15),
    "boot_failed": (JobState.NODE_FAILED, "BOOT_FAIL", None),
}
"""How the site books an end of its own making: state, Slurm's word, signal."""


class Compute:
    """Runs what the queue gives it. Every change of a job after its acceptance happens here."""

    def __init__(
        self,
        *,
        shape: SiteShape,
        agenda: Agenda,
        weather: Weather,
        wrapper: Wrapper,
        journal: Journal,
        dice: Dice,
        on_end: OnEnd,
    ) -> None:
        self.queue = JobQueue(capacity=shape.capacity, reservations=shape.reservations)
        self.on_start: OnStart | None = None
        """Called when a payload really begins; for benchmarks."""
        self.on_begin: Callable[[Job, int], None] | None = None
        """Called when a job is started, before its payload is."""
        self.executor: Executor | None = None
        """Where executions are real processes. None: payloads and harness are simulated."""
        self._shape = shape
        self._agenda = agenda
        self._weather = weather
        self._wrapper = wrapper
        self._journal = journal
        self._dice = dice
        self._rng = dice.rng
        self._on_end = on_end
        self._running: dict[Execution, None] = {}
        self._aside: list[Job] = []
        """Jobs that would reach into a planned maintenance; they let others pass."""
        self._starts = 0
        agenda.on_settle(self._schedule)
        for window in shape.reservations:
            agenda.plan(window.start, self._look)
            agenda.plan(window.end, self._look)

    # -- the queue ---------------------------------------------------------------------------------------

    def enqueue(self, _now: int, job: Job) -> None:
        """The scheduler has seen the job."""
        if job.state is JobState.QUEUED and not job.stuck_reason and not job.parked:
            self.queue.put(job)
            self._agenda.touch()

    def _look(self, _now: int) -> None:
        self._agenda.touch()

    def _schedule(self, now: int) -> None:
        if self._closed(now):
            return
        while (job := self._next(now)) is not None:
            self._start(job, now)

    def _closed(self, now: int) -> bool:
        weather = self._weather
        if not weather:
            return False
        return any(weather.now(kind, now) is not None for kind in (ComputeDown, ControllerCrash, SiteLost))

    def _next(self, now: int) -> Job | None:
        queue = self.queue
        while (job := queue.pop_reserved(now)) is not None:
            if job.state is JobState.QUEUED and not job.parked:
                return job
        while (head := queue.head()) is not None:
            if head.state is not JobState.QUEUED or head.parked:
                queue.pop_head()
            elif self._weather and self._meets_maintenance(head, now):
                self._aside.append(queue.pop_head())
            elif (missing := queue.missing(head, now)) > 0:
                self._make_room(head, missing, now)
                return None
            else:
                return queue.pop_head()
        return None

    def _meets_maintenance(self, job: Job, now: int) -> bool:
        window = self._weather.maintenance_after(now)
        return window is not None and job.walltime is not None and now + _micros(job.walltime) > window.start

    def _make_room(self, job: Job, missing: int, now: int) -> None:
        """Push out preemptible jobs, the youngest first, where the site does that and the job is worth it."""
        if not self._shape.preempting or job.priority <= 0:
            return
        missing -= sum(item.job.units for item in self._running if item.job.fate)
        for execution in reversed(list(self._running)):
            victim = execution.job
            if missing <= 0:
                return
            if victim.priority < 0 and not victim.fate:
                missing -= victim.units
                self.preempt(victim, now, notice=self._shape.preempt_notice, requeue=True)

    def let_in(self, now: int) -> None:
        """A window is over: everybody may try again."""
        aside, self._aside = self._aside, []
        for job in aside:
            self.enqueue(now, job)
        self._agenda.touch()

    # -- a job's life --------------------------------------------------------------------------------------

    def _start(self, job: Job, now: int) -> None:
        self.queue.take(job)
        execution = self._execution(job, now)
        job.begin(execution, now)
        if self.on_begin is not None:
            self.on_begin(job, now)
        self._run(execution, now)
        if self._dice.falls("run_twice"):
            self._run(self._execution(job, now), now)

    def _execution(self, job: Job, now: int) -> Execution:
        self._starts += 1
        slow = self._weather.now(Slow, now) if self._weather else None
        host = f"node{self._starts % 1000:03d}"
        return Execution(job=job, host=host, factor=slow.factor if slow else 1.0, nonce=self._starts, now=now)

    def _run(self, execution: Execution, now: int) -> None:
        self._journal.start(execution)
        self._running[execution] = None
        if self.executor is None:
            self._open(now, execution)
        else:
            self._launch(execution, self.executor, now)

    # -- executions that are real ------------------------------------------------------------------------

    def _launch(self, execution: Execution, executor: Executor, now: int) -> None:
        """Begin for real, with the site's own bounds alone: what a harness does it does by itself."""
        execution.began = True
        self._journal.started_total += 1
        spec, walltime = execution.job.spec, execution.job.walltime
        if self.on_start is not None:
            self.on_start(spec, now)
        if walltime is not None:
            end = now + _micros(walltime)
            self._agenda.plan(end, self._time_is_up, execution, "timed_out")
            if spec.warn_before:
                self._agenda.plan(max(now, end - _micros(spec.warn_before)), self._warn, execution)
        if self._dice.falls("node_failed"):
            span = _micros(walltime or 60.0)
            self._agenda.plan(now + round(self._rng.random() * span), self._site_kills, execution, "node_failed")
        executor.start(execution, now)

    def _warn(self, _now: int, execution: Execution) -> None:
        if execution.alive and self.executor is not None:
            self.executor.signal(execution, "USR1", shell_only=True)

    def _time_is_up(self, now: int, execution: Execution, how: str) -> None:
        """TERM, and KILL after `kill_wait` seconds; the site books the time limit whatever the job does then."""
        if execution.alive and not execution.job.fate:
            execution.job.fate = how
            self._term(execution, now, how)
            self._agenda.plan(now + _micros(self._shape.kill_wait), self._site_kills, execution, how)

    def condemn(self, job: Job, now: int, how: str) -> None:
        """End a running job as if the site had: timed_out, deadline, node_failed, boot_failed, out_of_memory."""
        if job.execution is not None:
            self._killed(job.execution, how, now)

    def exited(self, execution: Execution, now: int, *, code: int, signal: int | None) -> None:
        """The process of a real execution is gone by itself."""
        if execution.alive:
            if code == 0 and signal is None:
                self._journal.completed_total += 1
            how = "failed" if code or signal else "done"
            self._end(execution, how, now, code=code, signal=signal)

    def _open(self, now: int, execution: Execution) -> None:
        """Pass the start gate, restore, and begin the payload; or end before it."""
        if not execution.alive:
            return
        papers = execution.job.papers
        if not self._wrapper.writable:
            self._end(execution, "no_disk", now, code=1)
            return
        if execution.job.bare:
            self._begin(execution, now)
            return
        wait = self._wrapper.gate(execution, papers, now)
        if wait is None:
            self._end(execution, "gated", now, code=GATED)
        elif wait > 0:
            self._agenda.plan(now + wait, self._open, execution)
        elif papers.too_late(now):
            self._finish(execution, "too_late", now, code=TOO_LATE)
        elif not self._wrapper.restore(execution, papers):
            self._finish(execution, "restore_failed", now, code=RESTORE_FAILED)
        else:
            self._begin(execution, now)

    def _begin(self, execution: Execution, now: int) -> None:
        execution.progress_at = now
        if not execution.job.bare:
            self._wrapper.begin(execution, now)
        execution.began = True
        self._journal.started_total += 1
        if self.on_start is not None:
            self.on_start(execution.job.spec, now)
        payload = execution.job.papers.payload
        if payload.seconds <= 0 and payload.fail_at is None and payload.oom_at is None:
            self._payload_exits(execution, now, payload.exit_code)
            return
        self._plan_bounds(execution, now)
        self._plan_next(execution, now)
        self._plan_misfortune(execution, now)

    def _plan_bounds(self, execution: Execution, now: int) -> None:
        """The wrapper ends the payload a little before the bounds that it knows; the site kills at its own."""
        papers = execution.job.papers
        end = papers.end(execution.started_at)
        if end is not None:
            self._agenda.plan(max(now, end), self._bound_reached, execution)
            if papers.before_end:
                self._agenda.plan(max(now, end - _micros(papers.before_end)), self._ask, execution, "before_end")
        if papers.every:
            self._agenda.plan(now + _micros(papers.every), self._ask_again, execution)
        if execution.job.walltime is not None:
            at = execution.started_at + _micros(execution.job.walltime)
            self._agenda.plan(at, self._site_kills, execution, "timed_out")

    def _plan_next(self, execution: Execution, now: int) -> None:
        """The next thing that the payload itself will do."""
        payload = execution.job.papers.payload
        done = execution.work_done(now)
        target, what = payload.seconds, self._work_done
        if payload.fail_at is not None and payload.fail_at < target:
            target, what = payload.fail_at, self._payload_fails
        if payload.oom_at is not None and payload.oom_at < target:
            target, what = payload.oom_at, self._payload_grows
        if payload.checkpoint_every > 0:
            # the millionth is for the rounding of microseconds: the checkpoint just written must not come again
            nth = int(done / payload.checkpoint_every + 1e-6) + 1
            if nth * payload.checkpoint_every < target:
                target, what = nth * payload.checkpoint_every, self._own_checkpoint
        self._agenda.plan(max(now, execution.when(target)), what, execution)

    def _plan_misfortune(self, execution: Execution, now: int) -> None:
        span = execution.when(execution.job.papers.payload.seconds) - now
        if self._dice.falls("node_failed"):
            self._agenda.plan(now + round(self._rng.random() * span), self._site_kills, execution, "node_failed")
        if self._dice.falls("preempted"):
            self._agenda.plan(now + round(self._rng.random() * span), self._must_go, execution)

    def _own_checkpoint(self, now: int, execution: Execution) -> None:
        if execution.alive:
            payload = execution.job.papers.payload
            nth = round(execution.work_done(now) / payload.checkpoint_every)
            self._commit(execution, nth * payload.checkpoint_every, now)
            self._plan_next(execution, now)

    def _commit(self, execution: Execution, progress: float, now: int) -> None:
        papers = execution.job.papers
        self._wrapper.checkpoint(execution, papers.payload.saved(progress), now, keep=papers.keep)

    def _work_done(self, now: int, execution: Execution) -> None:
        if execution.alive:
            self._payload_exits(execution, now, execution.job.papers.payload.exit_code)

    def _payload_fails(self, now: int, execution: Execution) -> None:
        if execution.alive:
            self._payload_exits(execution, now, execution.job.papers.payload.exit_code or 1)

    def _payload_grows(self, now: int, execution: Execution) -> None:
        """Out of memory: the kernel kills the wrapper with it."""
        self._killed(execution, "out_of_memory", now)

    def _payload_exits(self, execution: Execution, now: int, code: int) -> None:
        lie = ""
        if code == 0 and self._dice.falls("liar"):
            lie = self._rng.choice(self._dice.lies)
        self._finish(execution, "failed" if code else "done", now, code=code, lie=lie)

    # -- being asked, and being told -----------------------------------------------------------------------

    def request(self, execution: Execution, word: str, now: int) -> None:
        """The broker has left a `request` file; the wrapper finds it at its next beat."""
        beat = _micros(execution.job.papers.beat)
        at = now + (execution.started_at - now) % beat
        if word == "stop":
            self._agenda.plan(at, self._told_to_stop, execution)
        elif word == "checkpoint":
            self._agenda.plan(at, self._ask, execution, "request")

    def _ask(self, now: int, execution: Execution, why: str) -> bool:
        """The payload should save itself. Answers whether it will."""
        papers = execution.job.papers
        if not execution.alive or not papers.can_ask:
            return False
        execution.asked = why
        if papers.payload.deaf:
            return False
        self._agenda.plan(now + _micros(papers.payload.checkpoint_notice), self._asked_checkpoint, execution)
        return True

    def _ask_again(self, now: int, execution: Execution) -> None:
        every = execution.job.papers.every
        if execution.alive and every:
            self._ask(now, execution, "every")
            self._agenda.plan(now + _micros(every), self._ask_again, execution)

    def _asked_checkpoint(self, now: int, execution: Execution) -> None:
        if execution.alive:
            self._commit(execution, execution.work_done(now), now)

    def _term(self, execution: Execution, now: int, how: str) -> None:
        """The scheduler's TERM: a wrapper that still waits at the gate dies of it."""
        if self.executor is not None:
            self.executor.signal(execution, "TERM")
        elif execution.began:
            self._told_to_stop(now, execution)
        else:
            self._killed(execution, how, now)

    def _told_to_stop(self, now: int, execution: Execution) -> None:
        """Ask the payload for a checkpoint, wait for it within bounds, end it."""
        if not execution.alive or not execution.began:
            return
        papers = execution.job.papers
        patience = max(papers.grace, papers.before_end)
        wait = 0.0
        if self._ask(now, execution, "stop"):
            wait = min(papers.payload.checkpoint_notice, patience)
        if papers.payload.deaf:
            wait = patience + papers.grace
        self._agenda.plan(now + _micros(wait), self._wrapper_ends, execution, "stopped")

    def _bound_reached(self, now: int, execution: Execution) -> None:
        papers = execution.job.papers
        wait = papers.lead(execution.started_at) if papers.payload.deaf else 0
        self._agenda.plan(now + wait, self._wrapper_ends, execution, "timed_out")

    def _wrapper_ends(self, now: int, execution: Execution, how: str) -> None:
        if execution.alive:
            signal = 9 if execution.job.papers.payload.deaf else 15
            self._finish(execution, how, now, code=128 + signal, signal=signal)

    # -- what the site does to jobs --------------------------------------------------------------------------

    def preempt_some(self, now: int, count: int, *, notice: float, requeue: bool) -> None:
        """Jobs drawn from those running, the preemptible ones first."""
        running = [item.job for item in self._running if item.job.execution is item and not item.job.fate]
        self._rng.shuffle(running)
        running.sort(key=lambda job: job.priority)
        for job in running[:count]:
            self.preempt(job, now, notice=notice, requeue=requeue)

    def preempt(self, job: Job, now: int, *, notice: float, requeue: bool) -> None:
        """TERM, and KILL after `notice` seconds. However the job ends then, the site books a preemption."""
        execution = job.execution
        if execution is None or not execution.alive or job.fate:
            return
        job.fate = "requeued" if requeue and job.spec.requeue else "preempted"
        if notice > 0:
            self._term(execution, now, "preempted")
        self._agenda.plan(now + _micros(notice), self._site_kills, execution, "preempted")

    def _must_go(self, now: int, execution: Execution) -> None:
        if execution.alive and execution.job.execution is execution:
            self.preempt(execution.job, now, notice=self._shape.preempt_notice, requeue=True)

    def _site_kills(self, now: int, execution: Execution, how: str) -> None:
        self._killed(execution, how, now)

    def fail_some(self, now: int, count: int, *, requeue: bool) -> None:
        """Running jobs, drawn, die with their nodes."""
        victims = list(self._running)
        for execution in self._rng.sample(victims, min(count, len(victims))):
            self._node_fails(execution, now, requeue=requeue)

    def fail_all(self, now: int, *, requeue: bool) -> None:
        for execution in list(self._running):
            self._node_fails(execution, now, requeue=requeue)

    def _node_fails(self, execution: Execution, now: int, *, requeue: bool) -> None:
        job = execution.job
        if requeue and job.spec.requeue and job.execution is execution and not job.fate:
            job.fate = "requeued"
        self._killed(execution, "node_failed", now)

    def fail_node_of(self, job: Job, now: int, *, requeue: bool) -> None:
        """The node under this job fails."""
        if job.execution is not None:
            self._node_fails(job.execution, now, requeue=requeue)

    def cancel(self, job: Job, now: int) -> bool:
        """True when the job is dead on return."""
        if job.state.final:
            return True
        execution = job.execution
        if execution is None:
            job.end(JobState.CANCELED, "CANCELLED", now, code=None, signal=None)
            self._on_end(job)
            self._agenda.touch()
            return True
        if job.fate != "canceled":
            job.fate = "canceled"
            if self._shape.cancel_grace > 0:
                self._term(execution, now, "canceled")
            self._agenda.plan(now + _micros(self._shape.cancel_grace), self._site_kills, execution, "canceled")
        if self._shape.cancel_grace <= 0:
            self._killed(execution, "canceled", now)
        return job.state.final

    def lose_memory_of(self, job: Job, now: int) -> None:
        """The scheduler forgets that it has this job; what runs goes on, unknown to anybody."""
        if job.execution is not None and job.execution.alive:
            self.queue.give_back(job)
        job.execution = None
        job.end(JobState.LOST, "", now, code=None, signal=None)

    def start_again(self, job: Job, now: int, at: int) -> None:
        """The scheduler forgets that it has started this job; the one that runs is killed, or goes on."""
        execution = job.execution
        if execution is None or not execution.alive:
            return
        self.queue.give_back(job)
        job.execution = None
        job.started_at = None
        job.set(JobState.QUEUED, "PENDING")
        if self._rng.random() < 0.5:
            self._killed(execution, "node_failed", now)
        self._agenda.plan(at, self.enqueue, job)

    # -- ends --------------------------------------------------------------------------------------------------

    def _finish(
        self, execution: Execution, how: str, now: int, *, code: int, signal: int | None = None, lie: str = ""
    ) -> None:
        """The wrapper comes to its own end, and leaves a record."""
        execution.how = how
        if not execution.job.bare:
            self._wrapper.end(execution, execution.job.papers, now, code=code, signal=signal, lie=lie)
        if how == "done":
            self._journal.completed_total += 1
        self._end(execution, how, now, code=code)

    def _end(self, execution: Execution, how: str, now: int, *, code: int, signal: int | None = None) -> None:
        """The script is over, with that exit code; the site books it where it still believes in it."""
        self._close(execution, how, now)
        job = execution.job
        if job.execution is execution:
            self.queue.give_back(job)
            if job.fate:
                self._book(job, job.fate, now)
                return
            state, word = (JobState.FAILED, "FAILED") if code or signal else (JobState.SUCCEEDED, "COMPLETED")
            job.end(state, word, now, code=code, signal=signal)
            self._on_end(job)
            self._agenda.touch()

    def _killed(self, execution: Execution, how: str, now: int) -> None:
        """The site ends it, and nothing is left behind but what was written before."""
        if not execution.alive:
            return
        if self.executor is not None:
            self.executor.kill(execution)
        self._close(execution, how, now)
        job = execution.job
        if job.execution is execution:
            self.queue.give_back(job)
            self._book(job, job.fate or how, now)

    def _book(self, job: Job, fate: str, now: int) -> None:
        self._agenda.touch()
        if fate == "requeued":
            job.back_in_queue(reason="BeginTime")
            self._agenda.plan(now + _micros(self._shape.requeue_delay), self.enqueue, job)
            return
        state, word, signal = _STATES[fate]
        job.end(state, word, now, code=None if signal is None else 0, signal=signal)
        self._on_end(job)

    def _close(self, execution: Execution, how: str, now: int) -> None:
        execution.alive = False
        execution.how = how
        execution.ended_at = now
        self._running.pop(execution, None)


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)
