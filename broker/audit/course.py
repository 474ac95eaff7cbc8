"""The course of a run, as its events tell it: nothing goes back, nothing is left without a cause, and every end was
told with what ended. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from broker.audit.rows import Found, RunRows, Violation, failovers, leads_on
from broker.audit.rules import PLACED
from broker.states import RunState, StageState
from broker.store.base import AttemptRow, CheckpointRow
from policies.retry import MEMORY_RAISES

_S = StageState
STALE = 60_000_000
"""Microseconds that a decision may be older than what it is held against: as long as its lease."""
_USABLE = ("verified", "shipped")
_ENDS = {"failed": _S.FAILED, "canceled": _S.CANCELED, "skipped": _S.SKIPPED, "published": _S.SUCCEEDED}


def course(rows: RunRows) -> list[Violation]:
    """All violations, by rule."""
    return [Violation(rule, where, what) for rule, check in _RULES for where, what in check(rows)]


def _versions(rows: RunRows) -> Found:
    """Each change raises a row's version by one. One that has changed more often than its version says went back."""
    changed: dict[tuple[int, int], set[int]] = defaultdict(set)
    for event in rows.events:
        if event.kind == "superseded" or {"from", "to"} <= json.loads(event.data).keys():
            changed[rows.numbers.get(event.stage, -1), event.attempt].add(event.at)
    for row in rows.attempts:
        if len(times := changed[row.n, row.number]) > row.ver:
            yield rows.name(row.n, row.number), f"changed at {len(times)} times, but its version is {row.ver}"
    for stage in rows.stages:
        if (placed := len(rows.by_stage.get(stage.n, ()))) > stage.ver:
            yield rows.name(stage.n), f"was placed {placed} times, but its version is {stage.ver}"


def _ends_told(rows: RunRows) -> Found:
    """What is over was told of in the transaction that ended it, and nothing since has opened it again."""
    last_of_run = next((e.kind for e in reversed(rows.events) if e.kind.startswith("run_")), "run_pending")
    if last_of_run != f"run_{rows.run.state.lower()}":
        yield rows.run.run_id, f"is {rows.run.state}, but the last thing told of it is {last_of_run}"
    if RunState(rows.run.state).final is (rows.run.ended_at is None):
        yield rows.run.run_id, f"is {rows.run.state}, and its end is {rows.run.ended_at}"
    told: dict[int, StageState | None] = {}
    for event in rows.events:
        n = rows.numbers.get(event.stage, -1)
        if event.kind == "reopened":
            told[n] = None
        elif event.kind in _ENDS and (event.attempt == 0 or event.kind == "published"):
            told[n] = _ENDS[event.kind]
    for stage in rows.stages:
        state = StageState(stage.state)
        if told.get(stage.n) != (state if state.final else None):
            yield rows.name(stage.n), f"is {state}, but the events say {told.get(stage.n) or 'that it goes on'}"


def _newest_restored(rows: RunRows) -> Found:
    """A restart takes the newest checkpoint that was known as good where it read, or where it started."""
    attempts = {(row.n, row.number): row for row in rows.attempts}
    states: dict[tuple[int, int, int], list[CheckpointRow]] = defaultdict(list)
    for copy in rows.checkpoints:
        states[copy.n, copy.attempt, copy.seq].append(copy)
    known: dict[int, list[tuple[AttemptRow, int]]] = defaultdict(list)
    for event in rows.events:
        row = attempts.get((rows.numbers.get(event.stage, -1), event.attempt))
        if row is None:
            continue
        if event.kind == "ship":  # told as soon as a check has found it good
            known[row.n].append((row, int(json.loads(event.data)["seq"])))
        elif event.kind == "placed" and row.restore:
            chosen = json.loads(row.restore)
            for of, seq in known[row.n]:
                there = of.site in (chosen["site"], row.site)
                if there and seq > chosen["seq"] and _is_good(states[row.n, of.number, seq]):
                    yield rows.name(row.n, row.number), f"starts from checkpoint {chosen['seq']}, {seq} was there"


def _newest_of_its_decision(rows: RunRows) -> Found:
    """An attempt starts from the newest of those that its own decision saw as readable."""
    seen = {
        (row.n, row.attempt): json.loads(row.detail)["facts"].get("newest_readable")
        for row in rows.decisions
        if (row.kind, row.outcome) == ("checkpoint", "restore")
    }
    for row in rows.attempts:
        newest = seen.get((row.n, row.number))
        if newest is not None and row.restore and json.loads(row.restore)["seq"] < newest:
            yield rows.name(row.n, row.number), f"starts from a checkpoint older than {newest}, which it saw"


def _is_good(copies: Sequence[CheckpointRow]) -> bool:
    return bool(copies) and all(copy.state in _USABLE for copy in copies)


# -- failovers -------------------------------------------------------------------------------------------------


def _silent(rows: RunRows, site: str, at: int) -> bool:
    """Had that site not answered by then, as far as a decision of that moment could know?"""
    return any(s.start <= at and (s.end is None or s.end > at - STALE) for s in rows.silences.get(site, ()))


def _left_with_evidence(rows: RunRows) -> Found:
    decided = {decision.seq for decision in rows.decisions if (decision.kind, decision.outcome) == ("failover", "move")}
    for event, site, _ in failovers(rows.events):
        if not _silent(rows, site, event.at):
            yield f"{rows.run.run_id}/{event.stage}", f"left {site}, which was not seen to give no answer then"
        if event.seq not in decided:
            yield f"{rows.run.run_id}/{event.stage}", f"left {site}, and no decision says why"


def _witnessed(rows: RunRows) -> Found:
    """Whoever leaves a site goes to one that answers: so it was not the broker's own network that was down."""
    for event, left, to in failovers(rows.events):
        if any(s.start < event.at - STALE and (s.end is None or s.end > event.at) for s in rows.silences.get(to, ())):
            yield f"{rows.run.run_id}/{event.stage}", f"left {left} for {to}, which gave no answer either"


def _decisions_told(rows: RunRows) -> Found:
    events = {event.seq: event for event in rows.events}
    for decision in rows.decisions:
        event = events.get(decision.seq)
        if event is None or (rows.numbers.get(event.stage, -1), event.attempt) != (decision.n, decision.attempt):
            yield rows.name(decision.n, decision.attempt), f"the decision {decision.kind} hangs on no event of its own"


# -- what was spent --------------------------------------------------------------------------------------------


def _within_limits(rows: RunRows) -> Found:
    """Tries, moves and segments are no more than the document allows."""
    for stage in rows.stages:
        for name, limit in _allowed(rows.rules_at[stage.n]).items():
            if (spent := getattr(stage, name)) > limit:
                yield rows.name(stage.n), f"{name} is {spent}, the document allows {limit}"


def _allowed(rules: Mapping[str, Any]) -> Mapping[str, int]:
    """The most that a stage's rules allow at any site, by the stage's column."""
    parts = [rules, *(rules.get("at") or {}).values()]

    def most(section: str, name: str) -> list[int]:
        return [part[section][name] for part in parts if name in (part.get(section) or {})]

    named = [3] if any(most("retry", "exit_codes")) else []
    limits = {
        "failovers": most("failover", "max"),
        "site_retries": most("retry", "site_fault"),
        "app_retries": [*most("retry", "app_fault"), *named],
        "continuations": [] if named else most("continue", "max"),
        "memory_raises": [MEMORY_RAISES],
    }
    return {name: max(values) for name, values in limits.items() if values}


def _each_paid_for(rows: RunRows) -> Found:
    """Every attempt after the first has a judgement, a failover or a person's word of its own: none is begun for
    nothing, so what a stage costs is bounded by what was decided."""
    placed: dict[tuple[int, int], int] = {}
    causes: dict[int, list[int]] = defaultdict(list)
    for decision in rows.decisions:
        if decision.kind == "placement" and decision.outcome in PLACED:
            placed[decision.n, decision.attempt] = decision.seq
        elif leads_on(decision.kind, decision.outcome):
            causes[decision.n].append(decision.seq)
    for (n, number), seq in placed.items():
        if (before := sum(cause < seq for cause in causes[n])) < number - 1:
            yield rows.name(n, number), f"is the stage's attempt {number}, after {before} causes for another one"


_RULES: Sequence[tuple[str, Callable[[RunRows], Found]]] = (
    ("I3", _versions),
    ("I13", _ends_told),
    ("I15", _newest_restored),
    ("I15", _newest_of_its_decision),
    ("I17", _witnessed),
    ("I18", _left_with_evidence),
    ("I18", _decisions_told),
    ("I24", _within_limits),
    ("I24", _each_paid_for),
)

NAMES = tuple(dict.fromkeys(name for name, _ in _RULES))
"""The rules, by the names of the invariants that they see part of."""
