"""A broker whose wires to its sites can be cut at a chosen call, and one attempt to perform effects about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from broker_kit import Lab, Stage
from simulation.seams import Call

from broker.effects.moving import Moving
from broker.effects.outcome import Result
from broker.facts import World
from broker.jobs import Job
from broker.residency import Residency
from broker.store.base import EffectRow
from connectors.errors import SiteUnreachable
from connectors.model import Transfer, TransferState, TransferStatus


@dataclass
class Wire:
    """Sees every call; cuts those it was told to cut."""

    calls: list[Call] = field(default_factory=list)
    cuts: list[tuple[str, str, BaseException]] = field(default_factory=list)

    def lose_request(self, verb: str, *, times: int = 1, error: BaseException | None = None) -> None:
        """The next calls of this verb never arrive."""
        self.cuts += [("before", verb, error or SiteUnreachable("no answer"))] * times

    def lose_reply(self, verb: str, *, times: int = 1) -> None:
        """The next calls of this verb arrive, and their answer is lost."""
        self.cuts += [("after", verb, SiteUnreachable("no answer"))] * times

    def before(self, call: Call) -> None:
        if call.of.startswith(("site:", "mover")):
            self.calls.append(call)
        self._cut("before", call)

    def after(self, call: Call) -> None:
        self._cut("after", call)

    def _cut(self, when: str, call: Call) -> None:
        for cut in self.cuts:
            if call.of.startswith("site:") and cut[:2] == (when, call.verb):
                self.cuts.remove(cut)
                raise cut[2]

    def verbs(self, *wanted: str) -> list[str]:
        """The site's calls so far, in order; only these verbs, if any are named."""
        return [c.verb for c in self.calls if c.of.startswith("site:") and (not wanted or c.verb in wanted)]


def wired(*sites: Any) -> tuple[Lab, Wire]:
    """A lab whose broker speaks over a wire."""
    lab, wire = Lab(*sites), Wire()
    lab.broker = lab.new_broker(hook=wire)
    return lab, wire


@dataclass
class Case:
    """One placed attempt whose effects nobody has performed yet."""

    lab: Lab
    run: str
    world: World
    job: Job
    effect: EffectRow

    def again(self, **changed: Any) -> EffectRow:
        """The effect at its second try."""
        return self.effect._replace(**{"tries": 2, **changed})


def placed(lab: Lab, stage: Stage, kind: str = "submit") -> Case:
    """Decide for a run of one stage, and perform nothing."""
    run = lab.submit(stage)
    world = replace(lab.broker.world, claimant="")  # so that no drain performs what it has decided
    broker = lab.new_broker()
    broker._drainer._world = world
    broker._drainer._unfinished = lambda _: ()
    broker.go_on(run)
    (attempt,) = lab.attempts(run, stage.name)
    effect = next(e for e in lab.store.effects(run) if e.kind == kind)
    return Case(lab, run, world, Job(stage=lab.stage(run, stage.name), attempt=attempt), effect._replace(tries=1))


def facts(result: Result) -> dict[str, object]:
    """What one attempt was seen to be."""
    merged: dict[str, object] = {}
    for sighting in result.seen:
        merged |= sighting.facts
    return merged


class Porter:
    """A mover that answers what it was told to, and remembers what it was asked."""

    def __init__(self, *states: TransferStatus | TransferState, answers: Mapping[str, Any] | None = None) -> None:
        self._states = list(states)
        """One for each time that it is asked; the last one for ever."""
        self._answers = answers or {}
        self.asked: list[Transfer] = []

    def submit(self, transfers: Sequence[Transfer]) -> dict[str, Any]:
        self.asked += transfers
        return {transfer.key: self._answers.get("submit") for transfer in transfers}

    def status(self, keys: Sequence[str]) -> dict[str, TransferStatus]:
        told = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if isinstance(told, TransferState):
            return {key: TransferStatus(key=key, state=told) for key in keys}
        return {key: replace(told, key=key) for key in keys}

    def cancel(self, keys: Sequence[str]) -> dict[str, bool]:
        return dict.fromkeys(keys, True)


def moving_of(lab: Lab, world: World, mover: Any) -> Moving:
    """What all that has files moved goes by, over that mover."""
    return Moving(residency=Residency.of(lab.store, world, lab.clock), mover=mover, clock=lab.clock)
