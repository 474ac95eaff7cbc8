"""What one look at a run knows and collects: the world as it stands, and the changes so far. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from broker.engine.attempt import Progress
from broker.engine.books import Books
from broker.engine.forecasting import Forecasts, Known
from broker.engine.words import in_line
from broker.facts import (
    NOWHERE,
    World,
    body_refusal,
    brings_files,
    fair_share,
    may_lack,
    raised,
    rules_at,
    rules_of,
    site_facts,
    waived_now,
)
from broker.health import in_doubt, job_ended
from broker.spec import body_for
from broker.states import AttemptState, StageState
from broker.store.base import (
    AttemptRow,
    Changes,
    CheckpointRow,
    EffectRow,
    Line,
    NewEvent,
    Purse,
    Snapshot,
    StageRow,
    StrayRow,
    WaiverRow,
)
from policies import placement
from policies.brake import Carried
from policies.history import Load
from policies.model import CheckpointFacts, Decision, Failure, Reason, Rules, SiteFacts

_S, _A = StageState, AttemptState


class Look:
    """One look at a run: collects the changes while it goes from stage to stage."""

    def __init__(
        self,
        world: World,
        snapshot: Snapshot,
        *,
        now: int,
        checkpoints: Mapping[int, Sequence[CheckpointRow]],
        strays: Mapping[int, StrayRow],
        near: Mapping[int, str],
        lying: Mapping[int, Sequence[Load]],
        standby: Mapping[int, Sequence[EffectRow]],
        waivers: Sequence[WaiverRow],
        purse: Purse | None = None,
        carried: Sequence[Carried],
        line: Line | None,
    ) -> None:
        self.world, self.snapshot, self.now = world, snapshot, now
        self.changes = Changes()
        self.done: set[int] = set()
        """Stages that a command has dealt with already."""
        self.again: set[int] = set()
        """Those of them for which another command waits."""
        self.run_row = snapshot.run
        self.checkpoints = checkpoints
        self.strays = strays
        self.near = near
        self.lying = lying
        """By stage: the products that it takes files of, where they are."""
        self.standby = standby
        self.waived = waived_now(waivers, now=now)
        """The run's waivers that are in force."""
        self.books = Books(world, purse, snapshot.run) if purse is not None else None
        """None: nothing is charged anywhere."""
        self.load = Counter(snapshot.load)
        self.own = Counter(snapshot.own_load)
        self.seen: dict[int, dict[int, Progress]] = {}
        self.static: dict[str, dict[str, Reason | None]] = {}
        self.sites: dict[str, SiteFacts] = {}
        self.doubts = in_doubt(world, snapshot.sites, now)
        """Sites whose silence may be our own fault, and why."""
        self.carried = list(carried)
        """Stages of all runs that were carried elsewhere lately, with those of this look."""
        self.braked: Counter[str] = Counter()
        """By lane, the stages that this look has made wait for their turn to be carried."""
        self.forecasts = Forecasts(world)
        self._went_well: set[str] = set()
        self.wants = False
        self.line = line
        """Where the run stands among those of its name, if it is in line, or was until now."""
        self.waits_for: str = in_line(self.run_row) if self.run_row.in_line else ""

    def site(self, name: str) -> SiteFacts | None:
        """A site as it stands, with what this look has placed there already."""
        facts = self.sites.get(name)
        if facts is None and name in self.world.sites:
            setup = self.world.sites[name]
            load = self.load[name]
            share = fair_share(slots=setup.config.slots, load=load, own=self.own[name], rivals=self.snapshot.rivals)
            facts = site_facts(
                setup,
                self.snapshot.sites.get(name),
                load=load,
                share=share,
                now=self.now,
                window=self.world.windows.get(name),
                judged=self.world.health.get(name),
                job=(self.run_row.name, self.run_row.created_by),
                doubt=self.doubts.get(name, ""),
                brake=self.world.numbers.brake,
                notices=self.snapshot.notices,
            )
            self.sites[name] = facts
        return facts

    def room_somewhere(self) -> bool:
        """Has any site a place left for this run?"""
        return any(facts.share > 0 for name in self.world.sites if (facts := self.site(name)) is not None)

    def took(self, name: str) -> None:
        """An attempt was begun there; one that only moves data takes no place anywhere."""
        if name == NOWHERE:
            return
        self.load[name] += 1
        self.own[name] += 1
        self.sites.pop(name, None)

    def candidates(self, stage: StageRow) -> tuple[list[placement.Candidate], dict[str, Reason | None]]:
        """Every site with the stage's rules there, and the lasting refusals (worked out once per text of rules)."""
        candidates = []
        for name, setup in self.world.sites.items():
            facts = self.site(name)
            if facts is not None:
                rules = raised(rules_at(stage.rules, name, setup.config.profile), stage.memory_raises)
                candidates.append(placement.Candidate(site=facts, rules=rules))
        cache_key = f"{stage.memory_raises}{stage.rules}"
        static = self.static.get(cache_key)
        if static is None:
            static = {c.site.name: placement.static_refusal(c.rules, c.site, self.waived) for c in candidates}
            self.static[cache_key] = static
        if may_lack(stage.body):
            static = {**static, **self.lacking(stage, static)}
        return candidates, static

    def forecast(
        self,
        stage: StageRow,
        candidates: Sequence[placement.Candidate],
        static: Mapping[str, Reason | None],
        *,
        checkpoints: Sequence[CheckpointFacts] = (),
    ) -> list[placement.Candidate]:
        """The candidates, with when the stage would be done at each that could take it."""
        known = Known(
            app=self.run_row.name,
            path=stage.path,
            brings=brings_files(stage.body),
            checkpoints=checkpoints,
            products=self.lying.get(stage.n),
            attempts=self.snapshot.attempts.get(stage.n, ()) if stage.attempt else (),
            dark=self.dark() if checkpoints else (),
        )
        alike = stage.memory_raises, stage.rules
        return self.forecasts.with_them(candidates, alike=alike, known=known, static=static)

    def dark(self) -> set[str]:
        """Sites that do not answer."""
        return {name for name in self.world.sites if (facts := self.site(name)) and not facts.answers}

    def lacking(self, stage: StageRow, static: Mapping[str, Reason | None]) -> dict[str, Reason | None]:
        """Sites that lack what the stage's commands name: a variable, or containers."""
        lacking: dict[str, Reason | None] = {}
        for name, setup in self.world.sites.items():
            if static[name] is None:
                body = body_for(json.loads(stage.body), name, setup.config.profile)
                lacking[name] = body_refusal(body, setup.config)
        return lacking

    def tell(
        self,
        stage: StageRow,
        kind: str,
        *,
        attempt: int = 0,
        data: Mapping[str, object] | None = None,
        decision: Decision | None = None,
        actor: str = "engine",
    ) -> None:
        """Add an event to the run's chain, with the decision that it tells of."""
        self.changes.events.append(
            NewEvent(
                kind=kind,
                stage=stage.path,
                n=stage.n,
                attempt=attempt,
                data=json.dumps(data, separators=(",", ":")) if data else "{}",
                actor=actor,
                decision=(decision.kind, decision.outcome, decision.json) if decision else None,
            )
        )

    def note_end(self, row: AttemptRow, failure: Failure | None) -> None:
        """How a job ended, for who judges sites: each failure, and one success of a site is enough for a look."""
        if row.submitted_at is None or (failure is None and row.site in self._went_well):
            return
        if failure is None:
            self._went_well.add(row.site)
        evidence = job_ended(self.run_row, row, failure, now=self.now)
        self.changes.evidence.append(evidence._replace(at=self.now + len(self.changes.evidence)))

    def rewrite(self, row: AttemptRow) -> AttemptRow:
        """Replace what this look has written of an attempt so far."""
        kept = self.changes.attempts
        for i, other in enumerate(kept):
            if (other.n, other.number) == (row.n, row.number):
                kept[i] = row
                return row
        kept.append(row)
        return row

    def open_attempts(self, stage: StageRow) -> list[AttemptRow]:
        """The stage's attempts that are not over, as this look has left them."""
        rewritten = {row[1:3]: row for row in self.changes.attempts}
        rows = (rewritten.get(p.row[1:3], p.row) for p in self.seen.get(stage.n, {}).values())
        return [row for row in rows if row.open]

    def mark(self, copy: CheckpointRow, state: str, reason: str = "") -> None:
        """Write down what has become of a copy. Whoever looks from now on sees that."""
        marked = copy._replace(state=state, reason=reason)
        self.changes.checkpoint_states.append(marked)
        rows = [marked if row[:6] == copy[:6] else row for row in self.checkpoints.get(copy.n, ())]
        self.checkpoints = {**self.checkpoints, copy.n: rows}

    def rules_there(self, stage: StageRow, site: str) -> Rules:
        setup = self.world.sites.get(site)
        rules = rules_at(stage.rules, site, setup.config.profile) if setup else rules_of(stage.rules)
        return raised(rules, stage.memory_raises)

    def answers(self, name: str) -> bool:
        """Can its site be asked? What is at no site is asked of the mover, which always answers."""
        if name == NOWHERE:
            return True
        facts = self.site(name)
        return facts is not None and facts.answers

    def silence_begun(self, site: str) -> bool:
        facts = self.site(site)
        return facts is not None and not facts.answers
