"""A machine that plays with the engine: submits, lets time pass, breaks sites, gives orders, ends workers.

After every step the rows must hold what they promise; at the end, with all sites answering, everything goes on to its
end. Hypothesis looks for the shortest story that breaks this.
"""

from __future__ import annotations

from broker_kit import CHECKPOINT, Lab, Stage, site
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from simulation.crashing import Crash, Points

from broker.audit import audit_run
from broker.clock import SECOND, micros
from broker.drill.truth import Broken, ends, judge
from broker.engine.booking import times_of
from broker.store.base import StoreError
from connectors.model import Tariff
from policies.budget import HOUR, Rate
from sandbox.faults import NodeFailure, Partition, Preemption

SITES = ("a", "b")
FINAL = ("SUCCEEDED", "FAILED", "CANCELED")
GIVE_UP = 60
"""Rounds of 30 s after which a run that is not over is stuck."""

graphs = st.lists(st.tuples(st.integers(0, 7), st.booleans(), st.sampled_from(("allow", "never", "ask"))), max_size=4)
"""For each further stage: which earlier ones it needs (bits), whether it takes their files, and its duplicates."""


def stages_of(graph: list[tuple[int, bool, str]]) -> list[Stage]:
    """The first one checkpoints; the others need what their bits say."""
    sim = "seconds=40 checkpoint_every=8 outputs=o0:9 tag=n0"
    first = Stage("n0", sim, outputs=["o0"], rules={"checkpoint": CHECKPOINT, "failover": {"after": 15.0}})
    stages = [first]
    for i, (bits, takes, duplicates) in enumerate(graph, start=1):
        needs = [stage.name for place, stage in enumerate(stages) if bits >> place & 1]
        inputs = [(f"from-{name}", name) for name in needs] if takes else []
        failover = {"after": 15.0, **({"failback": "never"} if bits & 1 else {})}
        rules = {"duplicates": duplicates, "required": bits % 3 != 2, "failover": failover}
        words = f"seconds={10 * i} outputs=o{i}:5 tag=n{i}" + (" exit=3" if bits == 5 else "")
        stages.append(Stage(f"n{i}", words, needs=needs, inputs=inputs, outputs=[f"o{i}"], rules=rules))
    return stages


class EngineMachine(RuleBasedStateMachine):
    """One worker at a time over two sites and one run after the other."""

    @initialize()
    def begin(self) -> None:
        sites = [
            site(
                name,
                slots=2,
                settle=5.0,
                heartbeat=5,
                fence=10,
                unreachable_seconds=10.0,
                unreachable_probes=2,
                tariff=Tariff(factor=1.5),
            )
            for name in SITES
        ]
        self.lab, self.points, self.workers = Lab(*sites), Points(), 0
        self.runs: list[str] = []
        self.overruled: set[str] = set()
        self.new_worker()

    def new_worker(self) -> None:
        self.workers += 1
        self.points.dead = False
        self.broker = self.lab.new_broker(f"w{self.workers}", hook=self.points)

    # -- what may happen ---------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.runs) < 3)
    @rule(graph=graphs)
    def submit(self, graph: list[tuple[int, bool, str]]) -> None:
        self.runs.append(self.lab.submit(*stages_of(graph)))

    @rule(seconds=st.sampled_from((0.0, 1.0, 5.0, 5.0, 20.0, 90.0)))
    def time_passes(self, seconds: float) -> None:
        self.lab.clock.advance(seconds)
        self.look_around()

    @rule(name=st.sampled_from(SITES), seconds=st.sampled_from((3, 20, 60, 200)))
    def a_site_goes_silent(self, name: str, seconds: int) -> None:
        now = self.lab.clock()
        self.lab.sites[name].model.inject(Partition(start=now, end=now + seconds * SECOND))

    @rule(name=st.sampled_from(SITES), what=st.sampled_from((Preemption, NodeFailure)), requeue=st.booleans())
    def a_job_loses_its_node(self, name: str, what: type[Preemption | NodeFailure], requeue: bool) -> None:
        self.lab.sites[name].model.inject(what(start=self.lab.clock(), requeue=requeue))

    @rule(
        name=st.sampled_from(SITES),
        odds=st.sampled_from(("request_lost", "reply_lost", "refused", "run_twice", "liar", "unreachable")),
    )
    def a_site_will_err(self, name: str, odds: str) -> None:
        self.lab.sites[name].model.ordain(odds)

    @precondition(lambda self: self.runs)
    @rule(
        run=st.integers(0, 2),
        stage=st.integers(0, 4),
        kind=st.sampled_from(("cancel", "retry", "move", "wait", "hold", "release", "cancel run")),
        to=st.sampled_from(SITES),
    )
    def somebody_asks(self, run: int, stage: int, kind: str, to: str) -> None:
        run_id, path = self.runs[run % len(self.runs)], f"n{stage}"
        if kind in ("hold", "release", "cancel run"):
            self.lab.command(run_id, kind.split(" ", maxsplit=1)[0])
            return
        paths = {row.path for row in self.lab.store.stages(run_id)}
        if path in paths and kind == "wait":  # for its silent site
            self.lab.command(run_id, "hold", path)
        elif path in paths:
            self.overruled |= {path} if kind in ("retry", "move") else set()
            self.lab.command(run_id, kind, path, **({"to": to} if kind == "move" else {}))

    @rule(name=st.sampled_from(SITES), mode=st.sampled_from(("drained", "up")))
    def a_site_is_drained(self, name: str, mode: str) -> None:
        self.lab.store.set_site_mode(name, mode=mode, by="tester", reason="because")

    @rule(ahead=st.integers(0, 60), variant=st.sampled_from(("crash", "reply")), at_once=st.booleans())
    def the_worker_will_end(self, ahead: int, variant: str, at_once: bool) -> None:
        """It ends, or loses an answer, so many calls from now; another one follows."""
        self.points.at, self.points.variant, self.points.struck = len(self.points.seen) + ahead, variant, False
        self.look_around()
        if at_once and self.workers > 1:
            self.lab.store.break_leases(lambda owner: owner != f"w{self.workers}")

    def look_around(self) -> None:
        """What a sweeper does, once."""
        try:
            for name in self.broker.sites_to_look_at():
                self.broker.look(name)
            for run_id in self.broker.due():
                while (drained := self.broker.go_on(run_id)) is not None and drained.busy:
                    pass
        except Crash:
            self.new_worker()
        except StoreError:
            return

    # -- what must hold ----------------------------------------------------------------------------------------

    @invariant()
    def the_rows_hold(self) -> None:
        for run_id in getattr(self, "runs", ()):
            assert audit_run(self.lab.store, run_id) == []

    @invariant()
    def the_truth_agrees(self) -> None:
        if hasattr(self, "runs"):
            assert judge(self.lab.store, self.lab.sites, Broken(overruled=self.overruled), over=False) == []

    def teardown(self) -> None:
        """Everything gets better, and then everything comes to an end."""
        if not hasattr(self, "runs"):
            return
        self.points.at = -1
        if self.points.dead:
            self.new_worker()
        for name in SITES:
            self.lab.store.set_site_mode(name, mode="up", by="tester", reason="")
        for run_id in self.runs:
            if self.lab.state(run_id) not in FINAL:
                self.lab.command(run_id, "release")
        self.lab.clock.advance(300)
        for _ in range(GIVE_UP):
            self.answer_questions()
            for _ in range(4):
                self.look_around()
                self.lab.clock.advance_to(self.lab.clock() + micros(7.5))
            if all(self.over(run_id) for run_id in self.runs):
                break
        open_ = [run_id for run_id in self.runs if not self.over(run_id)]
        assert not open_, [(ends(self.lab.store, run_id), self.lab.store.run(run_id)) for run_id in open_]
        assert judge(self.lab.store, self.lab.sites, Broken(overruled=self.overruled)) == []
        for run_id in self.runs:
            self.every_attempt_is_charged_once_for_the_time_that_it_took(run_id)

    def every_attempt_is_charged_once_for_the_time_that_it_took(self, run_id: str) -> None:
        charges = {(row.n, row.attempt): row for row in self.lab.store.money.charges(run_id)}
        attempts = {(row.n, row.number): row for row in self.lab.store.attempts(run_id)}
        assert charges.keys() == attempts.keys()
        took = 0
        for key, charge in charges.items():
            longest = charge.estimated * HOUR // charge.rate
            began, ended, _ = times_of(attempts[key], longest=longest, now=self.lab.clock())
            rate = Rate(unit=charge.unit, per_hour=charge.rate)
            took += rate.amount((0 if began is None else ended - began) + charge.cut)
        booked = self.lab.store.money.sums(run_id)
        assert (sum(row.actual for row in booked), sum(row.held for row in booked)) == (took, 0)

    def answer_questions(self) -> None:
        """A stage that asks is canceled: the one answer that needs no site."""
        for run_id in self.runs:
            for stage in self.lab.store.stages(run_id):
                if stage.state == "AWAITING_DECISION":
                    self.lab.command(run_id, "cancel", stage.path)

    def over(self, run_id: str) -> bool:
        run = self.lab.store.run(run_id)
        return run is not None and run.state in FINAL and not run.open_attempts and not run.commands


EngineMachine.TestCase.settings = settings(stateful_step_count=30)
TestEngineMachine = EngineMachine.TestCase
