"""All rows of one run, and what may be wrong with them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from broker.store.base import (
    AttemptRow,
    ChargeRow,
    CheckpointRow,
    DecisionRow,
    DepRow,
    EffectRow,
    EventRow,
    ProductRow,
    RunRow,
    SiteRow,
    StageRow,
)


class Violation(NamedTuple):
    """Something that must never be."""

    rule: str
    where: str
    """The run, or RUN/STAGE, or RUN/STAGE@N."""
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where} {self.what}"


class Silence(NamedTuple):
    """From when until when a site gave no answer, as the watcher told it."""

    start: int
    end: int | None


@dataclass(frozen=True, kw_only=True)
class RunRows:
    """Everything that is stored about one run, as of one moment."""

    run: RunRow
    stages: Sequence[StageRow]
    deps: Sequence[DepRow]
    attempts: Sequence[AttemptRow]
    effects: Sequence[EffectRow]
    products: Sequence[ProductRow]
    checkpoints: Sequence[CheckpointRow]
    decisions: Sequence[DecisionRow]
    events: Sequence[EventRow]
    tip: str
    """Of the chain of events."""
    open_commands: int = 0
    silences: Mapping[str, Sequence[Silence]] = field(default_factory=dict)
    """Of the sites that were left or taken in a failover, or where something was left behind."""
    sites: Mapping[str, SiteRow] = field(default_factory=dict)
    """Those where the run has attempts."""
    charges: Sequence[ChargeRow] = ()
    now: int | None = None
    """When the rows were read, by the store's clock; None: not known, so nothing is asked of it."""

    @cached_property
    def by_stage(self) -> Mapping[int, Sequence[AttemptRow]]:
        """Attempts of each stage, by number."""
        grouped: dict[int, list[AttemptRow]] = defaultdict(list)
        for attempt in sorted(self.attempts, key=lambda row: row.number):
            grouped[attempt.n].append(attempt)
        return grouped

    @cached_property
    def stage_at(self) -> Mapping[int, StageRow]:
        return {stage.n: stage for stage in self.stages}

    @cached_property
    def effect_at(self) -> Mapping[str, EffectRow]:
        return {effect.key: effect for effect in self.effects}

    @cached_property
    def rules_at(self) -> Mapping[int, Mapping[str, Any]]:
        """The rules of each stage; equal texts are read once."""
        read = {text: json.loads(text) for text in {stage.rules for stage in self.stages}}
        return {stage.n: read[stage.rules] for stage in self.stages}

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Stages by path."""
        return {stage.path: stage.n for stage in self.stages}

    def name(self, n: int, number: int = 0) -> str:
        """RUN/STAGE@N."""
        stage = self.stage_at.get(n)
        path = f"{self.run.run_id}/{stage.path if stage else f'#{n}'}"
        return f"{path}@{number}" if number else path


def leads_on(kind: str, outcome: str) -> bool:
    """Is such a decision a cause for another attempt?"""
    return kind in ("failover", "retry", "command") or (kind, outcome) in (("leaving", "leave"), ("closed", "end"))


def failovers(events: Sequence[EventRow]) -> Sequence[tuple[EventRow, str, str]]:
    """Each failover, the site that it left and the one that it went to (empty: to none at once)."""
    found = []
    placed: dict[str, EventRow] = {}
    for event in reversed(events):
        if event.kind == "placed":
            placed[event.stage] = event
        elif event.kind == "failover":
            after = placed.get(event.stage)
            to = str(json.loads(after.data)["site"]) if after is not None and after.at == event.at else ""
            found.append((event, str(json.loads(event.data).get("from", "")), to))
    return found[::-1]


Found = Iterator[tuple[str, str]]
"""(where, what) of each violation of one rule."""
