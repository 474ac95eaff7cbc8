"""Several brokers over one store and the same sites, interleaved at every call by one seeded generator.

Each process has two threads, which are greenlets: whoever comes to a seam stands there until the generator lets it go
on. So every order of calls that threads and machines could have can happen, and the same seed brings the same one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from greenlet import greenlet
from simulation.glance import Glance
from simulation.seams import Call

from broker.clock import VirtualClock, micros
from broker.core import Broker
from broker.store.base import Store, StoreError


class Killed(BaseException):
    """kill -9: nothing in the broker may catch this and live."""


@dataclass(eq=False)
class Process:
    """One worker process: a broker, and what its threads are at."""

    owner: str
    crew: Crew
    broker: Broker = field(init=False)
    alive: bool = True
    wakes_at: int = 0
    """Stopped until then (SIGSTOP)."""
    threads: list[greenlet] = field(default_factory=list)

    # -- what happens at the seams of its broker

    def before(self, call: Call) -> None:
        self._stand(call)
        if call.verb == "submit" and call.of.startswith("site:"):
            self.crew.note_submission(self, [spec.key for spec in call.args[0]])

    def after(self, call: Call) -> None:
        if call.writes:
            self._stand(call)

    def between(self) -> None:
        """Between snapshot and write of a decision that is two transactions."""
        self._stand(Call("store", "between", ()))

    def _stand(self, call: Call) -> None:
        if not self.alive:
            raise Killed
        if call.of == "decision":  # nobody can go between; but the process may die in it
            if self.crew.falls("kill") and call.writes:
                self.crew.kill(self)
            return
        self.crew.stand(self, call)
        if not self.alive:
            raise Killed


class Crew:
    """Processes, their messages, and the generator that says who goes on."""

    THREADS = 2

    def __init__(
        self,
        *,
        rng: random.Random,
        clock: VirtualClock,
        store: Store,
        glance: Glance,
        shared: bool,
        make: Callable[[Process], Broker],
    ) -> None:
        """`shared`: the processes take turns, and act for one another's runs."""
        self.shared = shared
        self.rng, self.clock, self.store, self.glance, self._make = rng, clock, store, glance, make
        self.processes: list[Process] = []
        self.late: set[str] = set()
        self.stormy = True
        """May processes die, stand still, and messages go astray?"""
        self.odds = {"kill": 0.0015, "stop": 0.003, "lose": 0.1, "double": 0.1, "delay": 0.15, "linger": 0.15}
        self._messages: list[tuple[int, int, str, str]] = []
        self._count = 0
        self._submitted: dict[str, int] = {}
        """Key to the end of the claim under which it was last submitted."""
        self._dying: list[greenlet] = []
        self._main = greenlet.getcurrent()
        self._births = 0
        self.steps = 0
        self.acts = 0
        """How often something was done at a site beside the drains."""

    # -- processes ---------------------------------------------------------------------------------------------

    def start_process(self) -> Process:
        self._births += 1
        process = Process(f"p{self._births}", self)
        process.broker = self._make(process)
        self.processes.append(process)
        return process

    def kill(self, process: Process) -> None:
        """It is dead from now on, wherever its threads stand. Called by one of them, which ends here."""
        process.alive = False
        self.processes.remove(process)
        self._dying += [thread for thread in process.threads if thread is not greenlet.getcurrent()]
        raise Killed

    def falls(self, what: str, times: float = 1.0) -> bool:
        return self.stormy and self.rng.random() < self.odds[what] * times

    def stand(self, process: Process, call: Call) -> None:
        """A thread waits at a seam until it is let go on."""
        self.steps += 1
        if greenlet.getcurrent() is self._main:
            return  # while a process is being made
        dear = 12.0 if call.verb in ("submit", "cancel", "between") else 1.0
        if self.falls("kill", dear):
            self.kill(process)
        if self.falls("stop", dear):
            seconds = self.rng.choice((3.0, 20.0, 70.0, 130.0))
            process.wakes_at = self.clock() + micros(seconds)
        if self.falls("linger"):
            self.clock.advance(self.rng.random())
        self._main.switch()

    def note_submission(self, process: Process, keys: list[str]) -> None:
        """Is a submission made by one whose right to make it has lapsed? Nothing at the broker's side can stop it."""
        now = self.clock()
        for key in keys:
            row = self.store.effect(f"submit:{key}")
            ours = row is not None and row.state == "pending" and row.claim == process.owner
            until = row.claim_until or 0 if row is not None else 0
            if not ours or until <= now or self._submitted.get(key) == until:
                self.late.add(key)  # the last: two threads of one process under one claim
            self._submitted[key] = until

    # -- messages ----------------------------------------------------------------------------------------------

    def send(self, kind: str, name: str) -> None:
        """A hint; it may come never, twice, or late."""
        for _ in range(2 if self.falls("double") else 1):
            if self.falls("lose"):
                continue
            later = self.rng.expovariate(1 / 15) if self.falls("delay") else 0.0
            self._count += 1
            heappush(self._messages, (self.clock() + micros(later), self._count, kind, name))

    def sweepers(self) -> list[Process]:
        """Who may sweep. In calm weather one is enough, and costs half the time."""
        able = [p for p in self.processes if p.wakes_at <= self.clock()]
        return able if self.stormy else able[:1]

    def looks_at(self, name: str) -> list[int | None]:
        """When somebody wants to look at that site."""
        if self.shared:
            return [self.glance.next_poll(name)]
        return [process.broker.watcher.next_look(name) for process in self.sweepers()]

    def sweep(self) -> None:
        """What every process does now and then: wake whatever is due."""
        able = self.sweepers()
        if not able:
            return
        broker = self.rng.choice(able).broker
        now = self.clock()
        if self.shared:
            for name in broker.sites_to_look_at():
                self.send("site", name)
            for name in broker.sites_to_act_at():
                self.send("act", name)
        else:
            for name in self.glance.watched():
                if broker.watcher.next_look(name) <= now:
                    self.send("site", name)
        due = self.glance.next_due()
        if due is not None and due <= now:
            for run_id in self.store.due_runs(now=now, limit=100, resend_after=2.0):
                self.send("run", run_id)

    # -- going on ----------------------------------------------------------------------------------------------

    def go_on(self) -> bool:
        """Let one thread go on to its next seam; False: none can."""
        while self._dying:
            thread = self._dying.pop()
            if thread:  # one that has not begun, or has ended, has nothing to lose
                thread.throw(Killed)
        now = self.clock()
        able: list[greenlet] = []
        for process in self.processes:
            process.threads = [thread for thread in process.threads if not thread.dead]
            if process.wakes_at <= now:
                able += process.threads
                if self._messages and self._messages[0][0] <= now and len(process.threads) < self.THREADS:
                    able.append(self._taken(process))
        if not able:
            return False
        self.rng.choice(able).switch()
        return True

    def next_message(self) -> int | None:
        return self._messages[0][0] if self._messages else None

    def _taken(self, process: Process) -> greenlet:
        """A thread with the next message."""
        _, _, kind, name = heappop(self._messages)
        thread = greenlet(lambda: self._work(process, kind, name), self._main)
        process.threads.append(thread)
        return thread

    def _work(self, process: Process, kind: str, name: str) -> None:
        broker = process.broker
        try:
            if kind != "run":
                runs = broker.look(name) if kind == "site" else broker.act(site=name)
                self.acts += kind == "act" and len(runs)
                for run_id in runs:
                    self.send("run", run_id)
                return
            drained = broker.go_on(name)
            if drained is not None and drained.busy:
                self.send("run", name)
            for site in sorted(drained.acts) if drained is not None else ():
                self.send("act", site)
        except (StoreError, Killed):
            return
