"""The course of events: a run, the loss of a site in its middle, and beside the rest the same again, undisturbed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from broker.cli.demo.ground import Ground, Lost
from broker.cli.demo.interrupt import Interrupt
from broker.cli.demo.measured import Pace
from broker.cli.demo.report import Report
from broker.cli.demo.review import Course, restored_seq, review
from broker.cli.demo.screen import Screen
from broker.cli.demo.script import LOG, STAGE, Script
from broker.cli.telling import sentence, subject
from broker.config import Settings
from broker.embedded import Embedded
from broker.errors import RunFailed, WaitTimedOut
from broker.service import Request, Service, open_service
from broker.serving import connect, serve_connected
from broker.states import RunState
from broker.store.base import AttemptRow, RunRow
from broker.waiting import only_people_help

LOOK_EVERY = 0.05
GIVE_UP_AFTER = 300.0
"""Seconds."""
PEOPLE_AFTER = 20
"""Looks without anything new, after which it is worth asking whether a person is waited for."""
_TOLD = frozenset({"running", "unreachable", "failover", "restore", "published", "failed", "timed_out", "stuck"})


def play(script: Script, screen: Screen, interrupt: Interrupt) -> Report:
    """Play it. Whatever happens, no process of it is left. Raises Detached, RunFailed, WaitTimedOut, UsageError."""
    began = time.monotonic()
    with ExitStack() as stack:
        # first in, last out: whatever happens, no process of a facility is left
        ground = stack.enter_context(Ground(script.home))
        for line in ground.introduction():
            screen.say(line)
        settings = Settings(home=script.home, sites=ground.document, user="demo")
        service = open_service(settings)
        store = service.store
        stack.callback(store.close)
        connected = connect(settings, service.sites, store)
        stack.callback(connected.close)
        with serve_connected(settings, connected, store) as embedded:
            course = _Stage(script, screen, interrupt, service, ground, embedded).perform()
        return review(script, course, service=service, ground=ground, sites=connected.sites, began=began)


@dataclass(slots=True)
class _Followed:
    """A run, and how much of it was told."""

    run_id: str
    heading: str
    pace: Pace = field(default_factory=Pace)
    told: int = 0
    ver: int = -1
    still: int = 0
    """Looks since its row changed."""


class _Stage:
    """Where it is played."""

    def __init__(
        self,
        script: Script,
        screen: Screen,
        interrupt: Interrupt,
        service: Service,
        ground: Ground,
        embedded: Embedded,
    ) -> None:
        self._script, self._screen, self._interrupt = script, screen, interrupt
        self._service, self._store = service, service.store
        self._ground, self._embedded = ground, embedded
        self._deadline = time.monotonic() + GIVE_UP_AFTER

    def perform(self) -> Course:
        """All of it, until both runs are over."""
        first = self._submit("reconstruction")
        self._until(lambda: self._over(first) or self._ripe(first), first)
        if self._over(first):
            self._too_late(first)
        lost = self._lose_site_of(first)
        self._screen.say("the same document once more at the sites that are left, undisturbed, to compare")
        second = self._submit("undisturbed")
        self._until(lambda: self._over(first) and self._over(second), first, second)
        return Course(run_id=first.run_id, undisturbed=second.run_id, lost=lost, pace=first.pace)

    def _submit(self, heading: str) -> _Followed:
        request = Request(document=self._script.document, params=self._script.params, again=True)
        run_id = self._service.submit(request).run_id
        self._embedded.wake(run_id)
        return _Followed(run_id=run_id, heading=heading)

    # -- waiting -----------------------------------------------------------------------------------------------

    def _until(self, holds: Callable[[], bool], *runs: _Followed) -> None:
        while not holds():
            for run in runs:
                self._look(run)
            if time.monotonic() > self._deadline:
                raise WaitTimedOut(f"the demo was not over after {GIVE_UP_AFTER:g} s", help="is the machine very busy?")
            self._interrupt.wait(LOOK_EVERY)
        for run in runs:
            self._look(run)

    def _look(self, run: _Followed) -> None:
        """Tell what is new about a run, and how far it is."""
        attempt = self._current(run)
        if attempt is not None and attempt.unreachable_since is None:
            done = self._ground.lines(attempt, LOG)
            if attempt.number == 1:
                run.pace.saw(done, at=time.monotonic())
            whole = done + restored_seq(attempt)
            self._screen.progress(f"{run.heading} at {attempt.site}", run.heading, whole, self._script.slices)
        row = self._row(run)
        run.still = run.still + 1 if row.ver == run.ver else 0
        run.ver = row.ver
        for event in self._store.events(run.run_id, after=run.told):
            run.told = event.seq
            if event.kind in _TOLD:
                who = subject(event) if run.heading == "reconstruction" else f"{run.heading}: {subject(event)}"
                # paths below the demo's own folder are as telling without it
                self._screen.say(f"{who} {sentence(event)}".replace(f"{self._script.home}/", ""))

    def _over(self, run: _Followed) -> bool:
        """Has it ended, or will it not go on by itself?"""
        if RunState(self._row(run).state).final:
            return True
        if run.still < PEOPLE_AFTER:
            return False
        run.still = 0
        return only_people_help(self._store.stages(run.run_id))

    # -- losing a site -----------------------------------------------------------------------------------------

    def _ripe(self, run: _Followed) -> bool:
        """Is the stage half-way, with a copy elsewhere of a checkpoint that is not half an interval old?

        A copy that does not come is not waited for to the end: what the broker makes of that is what we want to see.
        """
        attempt = self._current(run)
        if attempt is None:
            return False
        done = self._ground.lines(attempt, LOG)
        if done < self._script.half:
            return False
        copied = self._copied(attempt)
        return (copied > 0 and done - copied <= self._script.fresh) or done >= self._script.latest

    def _lose_site_of(self, run: _Followed) -> Lost:
        attempt = self._current(run)
        assert attempt is not None  # noqa: S101 - it was there when it was ripe, and attempts do not go
        done, copied = self._ground.lines(attempt, LOG), self._copied(attempt)
        lost = self._ground.lose(attempt.site, now=self._store.now())
        copy = f"a copy of checkpoint {copied} is elsewhere" if copied else "no copy of a checkpoint is elsewhere"
        self._screen.say(
            f"{done} of {self._script.slices} slices are done, {copy}: {lost.site} is lost now "
            f"(nobody answers there, {lost.processes} processes killed, its files taken away)"
        )
        return lost

    def _too_late(self, run: _Followed) -> None:
        """It ended before anything could happen to it."""
        row, errors = self._row(run), self._service.errors(run.run_id)
        why = f"{errors[-1]['reason']}; {errors[-1]['stderr']}" if errors else row.reason
        raise RunFailed(
            f"the run was {row.state} before a site could be taken away{f': {why}' if why else ''}",
            help="" if why else "give it more --slices or a longer --pace",
        )

    # -- rows --------------------------------------------------------------------------------------------------

    def _row(self, run: _Followed) -> RunRow:
        row = self._store.run(run.run_id)
        if row is None:
            raise LookupError(f"run {run.run_id} has gone from the store")
        return row

    def _current(self, run: _Followed) -> AttemptRow | None:
        """The newest attempt of the stage that computes."""
        _, stage = self._service.find(f"{run.run_id}/{STAGE}")
        assert stage is not None  # noqa: S101 - NotFound is raised instead
        attempts = self._store.attempts(run.run_id, stage.n)
        return next((row for row in attempts if row.number == stage.attempt), None)

    def _copied(self, attempt: AttemptRow) -> int:
        """The newest checkpoint of that attempt of which a verified copy is at another site; 0: none is."""
        return max(
            (
                copy.seq
                for copy in self._store.checkpoints(attempt.run_id)
                if (copy.n, copy.attempt) == (attempt.n, attempt.number)
                and copy.site != attempt.site
                and copy.state == "verified"
            ),
            default=0,
        )
