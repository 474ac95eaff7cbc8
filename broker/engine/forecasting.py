"""When a stage would be done at each of its candidates. Pure: everything is looked up in what is known already.

A look may place a thousand stages with the same rules. What does not depend on the stage is worked out once for each
site and text of rules; stages of which more is known (runs before, a checkpoint, inputs) are worked out one by one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from broker.facts import World
from broker.store.base import AttemptRow
from policies.checkpoint import choose
from policies.fit import NORMAL, Fit, fit
from policies.forecast import Forecast, Term
from policies.history import Load
from policies.intervals import COST, amount, young
from policies.links import PRIOR, LinkEstimate
from policies.model import CheckpointFacts, Reason
from policies.placement import Candidate

_Rules = tuple[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one stage, beside its rules."""

    app: str
    """The workflow's name."""
    path: str
    brings: bool = False
    """Does it need files that are brought?"""
    products: Sequence[Load] | None = None
    """Of other stages, of which it takes files: where they are. None: not known, or it takes none."""
    checkpoints: Sequence[CheckpointFacts] = ()
    attempts: Sequence[AttemptRow] = ()
    dark: Collection[str] = ()
    """Sites that do not answer."""


class Forecasts:
    """Those of one look, or of one plan."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._speeds = {name: setup.config.speed for name, setup in world.sites.items()}
        self._tables: dict[_Rules, dict[str, Forecast]] = {}

    def with_them(
        self,
        candidates: Sequence[Candidate],
        *,
        alike: _Rules,
        known: Known,
        static: Mapping[str, Reason | None],
    ) -> list[Candidate]:
        """The candidates, each that is not refused for good with its forecast. `alike`: the text of the rules and
        how often its memory was raised, which make stages alike."""
        table = self._tables.setdefault(alike, {})
        return [
            c
            if static[c.site.name] is not None
            else Candidate(site=c.site, rules=c.rules, forecast=self._at(c, table, known))
            for c in candidates
        ]

    def _at(self, candidate: Candidate, table: dict[str, Forecast], known: Known) -> Forecast:
        name = candidate.site.name
        base = table.get(name)
        if base is None:
            base = table[name] = self._base(candidate)
        history = self._world.history
        stage = (known.app, known.path)
        found = base
        if stage in history.works.stages:
            found = self._with_work(found, candidate, stage)
        if known.brings:
            found = replace(found, stage_in=self._stage_in(name, stage, known))
        return self._restored(found, known) if known.checkpoints else found

    def _base(self, candidate: Candidate) -> Forecast:
        """What holds for every stage with these rules."""
        site, rules = candidate.site, candidate.rules
        found = fit(rules, site)
        lane, nodes, longest = NORMAL, rules.resources.nodes, site.max_walltime
        if isinstance(found, Fit):
            lane, nodes, longest = found.lane, found.resources.nodes, found.resources.walltime
        wait = self._world.history.queue(site.name).expect(lane, nodes)
        works = self._world.history.works
        walltime = rules.resources.walltime
        work = works.expect(("", ""), site.name, walltime=walltime, speeds=self._speeds, longest=longest)
        forecast = Forecast(
            site=site.name,
            lane=lane,
            wait=wait,
            work=work.term,
            speed=work.speed,
            losses_every=site.losses_every,
        )
        shipped = rules.checkpoint is not None and rules.checkpoint.ship != "never"
        return replace(forecast, at_stake=young(COST, site.losses_every)) if shipped else forecast

    def _with_work(self, forecast: Forecast, candidate: Candidate, stage: tuple[str, str]) -> Forecast:
        walltime = candidate.rules.resources.walltime
        found = self._world.history.works.expect(stage, forecast.site, walltime=walltime, speeds=self._speeds)
        return forecast.with_work(found.term, found.speed)

    # -- what is brought -------------------------------------------------------------------------------------------

    def _stage_in(self, to: str, stage: tuple[str, str], known: Known) -> Term:
        """Products of other stages from where they are now; what comes from places, or with the document, as large as
        the last time. Where nothing of that is known, all as the last time, this run's attempts first."""
        before, whose = self._as_before(stage, known)
        if known.products is not None:
            stored = [load for load in before or () if load.side not in self._world.sites]
            return self._brought(to, [load for load in (*known.products, *stored) if load.side != to], "as it is now")
        if before is None:
            return Term(0.0, 0.0, "nobody knows how large the inputs are: not counted")
        return self._brought(to, [load for load in before if load.side != to], whose)

    def _as_before(self, stage: tuple[str, str], known: Known) -> tuple[Sequence[Load] | None, str]:
        """What the stage brought in the last time, and when that was."""
        told = (loads_in(row.staged) for row in reversed(known.attempts) if not row.restore)
        mine = next((loads for loads in told if loads is not None), None)
        if mine is not None:
            return mine, "as its attempt before"
        return self._world.history.loads.get(stage), "as its newest run"

    def _brought(self, to: str, loads: Sequence[Load], whose: str) -> Term:
        if not loads:
            return Term(0.0, 0.0, f"its inputs lie there, {whose}")
        told = [over_link(self._world, load.side, to, bytes=load.bytes, files=load.files) for load in loads]
        size, sides = amount(sum(load.bytes for load in loads)), ", ".join(load.side for load in loads)
        seen = min(one.samples for one in told)
        by = f"{seen} transfers on that way" if seen else "the way was never used: a guess"
        source = f"{size} from {sides}, {whose}; {by}"
        return Term(sum(one.p50 for one in told), sum(one.p90 for one in told), source, seen)

    # -- what is saved -----------------------------------------------------------------------------------------------

    def _restored(self, forecast: Forecast, known: Known) -> Forecast:
        """With the checkpoint that it would start from: less work, and that to be brought."""
        best, _ = choose(known.checkpoints, target=forecast.site, dark=known.dark, started_before=True)
        if best is None:
            return forecast
        stage_in = forecast.stage_in
        if best.site != forecast.site:
            link = over_link(self._world, best.site, forecast.site, bytes=best.bytes, files=1)
            words = f"checkpoint {best.seq} ({amount(best.bytes)}) from {best.site}"
            source = f"{stage_in.source}; {words}" if stage_in.source else words
            stage_in = Term(stage_in.p50 + link.p50, stage_in.p90 + link.p90, source, link.samples)
        done = self._done(best, known.attempts, forecast.site)
        if done is None:
            source = f"{forecast.work.source}; how far checkpoint {best.seq} is, is not known"
            return replace(forecast, stage_in=stage_in, work=replace(forecast.work, source=source))
        source = f"{forecast.work.source}, less what checkpoint {best.seq} saves"
        work = replace(forecast.work.less(done), source=source)
        return replace(forecast, stage_in=stage_in, work=work, saved=min(done, forecast.work.p50))

    def _done(self, best: CheckpointFacts, attempts: Sequence[AttemptRow], there: str) -> float | None:
        """Seconds of work at a site that a checkpoint saves: from when it was written, since its attempt started."""
        for row in attempts:
            origin: Mapping[str, object] = json.loads(row.restore) if row.restore else {}
            before = origin.get("done")
            done = float(before) if isinstance(before, int | float) else 0.0
            if row.number == best.attempt and row.started_at is not None and (before is not None or not origin):
                seconds = max(0.0, (best.at - row.started_at) / 1e6) + done
            elif before is not None and (origin["attempt"], origin["seq"]) == (best.attempt, best.seq):
                seconds = done
            else:
                continue
            slower, _ = self._world.history.works.slowness(there, row.site, self._speeds)
            return seconds * slower
        return None


def loads_in(staged: str) -> tuple[Load, ...] | None:
    """What an attempt brought in, as its row has it; None: it is not known of all of it how large it is."""
    told = json.loads(staged).get("from") if staged else None
    return None if told is None else tuple(Load(side, files, size) for side, (files, size) in told.items())


def over_link(world: World, source: str, to: str, *, bytes: int, files: int) -> LinkEstimate:  # noqa: A002
    """How long so much will take, by the quickest mover that is known to go there."""
    known = [learned for (side, target, _), learned in world.links.items() if (side, target) == (source, to)]
    estimates = [learned.estimate(bytes=bytes, files=files) for learned in known or (PRIOR,)]
    return min(estimates, key=lambda one: one.p50)


__all__ = ["Forecasts", "Known", "loads_in", "over_link"]
