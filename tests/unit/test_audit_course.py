"""The audit of a run's course: in rows of runs that really happened, one thing is made wrong, and the rule finds it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from simulation.crashing import Rig, Scenario
from simulation.scenarios import CHAIN, CONTINUED, FAILOVER, OPTIONAL, RETRIED

import broker.audit
from broker.audit import course, history, rules, waiting
from broker.audit.reading import read_run
from broker.audit.rows import RunRows, Silence

ROOT = Path(__file__).parents[2]
HOUR = 3_600_000_000


@cache
def rows_of(name: str) -> RunRows:
    """The rows that this scenario leaves."""
    scenario = next(s for s in SCENARIOS if s.name == name)
    rig = Rig(scenario)
    assert rig.play().found == []
    store = rig.lab.store
    run = store.run(rig.run_id)
    assert run is not None
    return read_run(store, run)


SCENARIOS = (CHAIN, CONTINUED, FAILOVER, OPTIONAL, RETRIED)


def found(rows: RunRows) -> set[str]:
    checks = (rules.audit, history.history, course.course, waiting.waiting)
    return {violation.rule for check in checks for violation in check(rows)}


def attempt(rows: RunRows, number: int = 1, **values: Any) -> RunRows:
    """With that attempt of the first stage changed."""
    changed = [r._replace(**values) if (r.n, r.number) == (0, number) else r for r in rows.attempts]
    return replace(rows, attempts=changed)


def stage(rows: RunRows, **values: Any) -> RunRows:
    """With the first stage changed."""
    return replace(rows, stages=[r._replace(**values) if r.n == 0 else r for r in rows.stages])


def run(rows: RunRows, **values: Any) -> RunRows:
    return replace(rows, run=rows.run._replace(**values))


def effect(rows: RunRows, **values: Any) -> RunRows:
    """With the first effect changed."""
    return replace(rows, effects=[rows.effects[0]._replace(**values), *rows.effects[1:]])


def left_behind(rows: RunRows, **values: Any) -> RunRows:
    """The attempt that a failover left is still open, long after its site answers again."""
    site = rows.sites["a"]._replace(last_ok_at=rows.run.created_at + HOUR, cannot_ask_since=None)
    opened = attempt(rows, open=1, orphan=1, state="RUNNING", cancel_requested_at=None, **values)
    return replace(opened, sites={**rows.sites, "a": site})


def starting_from(rows: RunRows, number: int, seq: int) -> RunRows:
    origin = next(r.restore for r in rows.attempts if (r.n, r.number) == (0, number))
    return attempt(rows, number, restore=json.dumps({**json.loads(origin), "seq": seq}))


def without_events(rows: RunRows, kind: str) -> RunRows:
    return replace(rows, events=[event for event in rows.events if event.kind != kind])


def without_decisions(rows: RunRows, kind: str) -> RunRows:
    return replace(rows, decisions=[decision for decision in rows.decisions if decision.kind != kind])


def silent(rows: RunRows, **silences: list[Silence]) -> RunRows:
    return replace(rows, silences={**rows.silences, **silences})


def now(rows: RunRows) -> int:
    assert rows.now is not None
    return rows.now


FALSE: dict[str, tuple[str, Scenario, Callable[[RunRows], RunRows]]] = {
    "an attempt that went back": ("I3", CHAIN, lambda rows: attempt(rows, ver=0)),
    "a stage that went back": ("I3", FAILOVER, lambda rows: stage(rows, ver=1)),
    "a copy that is not put away": ("I7", FAILOVER, left_behind),
    "a lease without an end": ("I8", CHAIN, lambda rows: run(rows, lease_owner="w", lease_until=None)),
    "a lease for days": ("I8", CHAIN, lambda rows: run(rows, lease_owner="w", lease_until=now(rows) + 48 * HOUR)),
    "a claim without an end": ("I8", CHAIN, lambda rows: effect(rows, state="pending", claim="w", due_at=1)),
    "an effect far away": ("I8", CHAIN, lambda rows: effect(rows, state="pending", due_at=now(rows) + 2 * HOUR)),
    "a wake-up sent in days to come": ("I9", CHAIN, lambda rows: run(rows, wake_sent_at=now(rows) + 48 * HOUR)),
    "a run whose end was not told": ("I13", CHAIN, lambda rows: without_events(rows, "run_succeeded")),
    "a run that ended otherwise": ("I13", CHAIN, lambda rows: run(rows, state="FAILED")),
    "a run that ended at no time": ("I13", CHAIN, lambda rows: run(rows, ended_at=None)),
    "a stage that ended otherwise": ("I13", OPTIONAL, lambda rows: stage(rows, state="CANCELED")),
    "a stage whose end was not told": ("I13", OPTIONAL, lambda rows: without_events(rows, "skipped")),
    "a stage that was reopened and not told": ("I13", RETRIED, lambda rows: stage(rows, state="ACTIVE")),
    "an older checkpoint than need be": ("I15", CONTINUED, lambda rows: starting_from(rows, 2, 1)),
    "a failover into the dark": ("I17", FAILOVER, lambda rows: silent(rows, b=[Silence(1, None)])),
    "a failover from a site that answered": ("I18", FAILOVER, lambda rows: silent(rows, a=[])),
    "a failover after the site was back": ("I18", FAILOVER, lambda rows: silent(rows, a=[Silence(1, 2)])),
    "a failover that nobody decided": ("I18", FAILOVER, lambda rows: without_decisions(rows, "failover")),
    "a decision that was not told": (
        "I18",
        CHAIN,
        lambda rows: replace(rows, decisions=[rows.decisions[0]._replace(seq=999), *rows.decisions[1:]]),
    ),
    "more failovers than allowed": ("I24", FAILOVER, lambda rows: stage(rows, failovers=4)),
    "more tries than allowed": ("I24", CHAIN, lambda rows: stage(rows, site_retries=4)),
    "more segments than allowed": ("I24", CONTINUED, lambda rows: stage(rows, continuations=11)),
    "an attempt for nothing": ("I24", CONTINUED, lambda rows: without_decisions(rows, "retry")),
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_rows_of_a_run_that_went_well_have_no_violation(scenario: Scenario) -> None:
    assert found(rows_of(scenario.name)) == set()


@pytest.mark.parametrize(("rule", "scenario", "falsified"), FALSE.values(), ids=FALSE)
def test_the_audit_finds(rule: str, scenario: Scenario, falsified: Callable[[RunRows], RunRows]) -> None:
    assert rule in found(falsified(rows_of(scenario.name)))


def test_what_was_left_behind_may_stay_where_the_document_lets_it_run_on() -> None:
    rows = rows_of(FAILOVER.name)
    drained = json.loads(rows.stages[0].rules)
    drained["failover"]["old_copy"] = "drain"
    active = stage(left_behind(rows), state="ACTIVE", rules=json.dumps(drained))
    killed = stage(left_behind(rows), state="ACTIVE")
    assert [violation.rule for violation in waiting.waiting(killed)] == ["I7"]
    assert waiting.waiting(active) == []


def test_what_a_site_was_not_asked_yet_may_still_be_open() -> None:
    """It has only just answered again, or does not answer now."""
    rows = left_behind(rows_of(FAILOVER.name))
    last = rows.sites["a"].last_ok_at
    assert last is not None
    assert waiting.waiting(silent(rows, a=[Silence(1, last - 1)])) == []
    dark = replace(rows, sites={"a": rows.sites["a"]._replace(cannot_ask_since=last)})
    assert waiting.waiting(dark) == []


def test_the_audit_says_of_every_invariant_where_it_is_checked() -> None:
    text = broker.audit.__doc__ or ""
    described = re.findall(r"^(I\d+|counters)\b", text, flags=re.MULTILINE)
    assert described == [*(f"I{number}" for number in range(1, 25)), "counters"]
    tables = (rules._RULES, history._RULES, course._RULES, waiting._RULES)
    checked = {rule for table in tables for rule, _ in table}
    elsewhere = {name for name in described if re.search(rf"^{name} +\[tests/", text, flags=re.MULTILINE)}
    assert checked | elsewhere == set(described)
    assert not checked & elsewhere


def test_the_tests_that_the_audit_names_are_there() -> None:
    """Files, or folders of tests."""
    named = re.findall(r"tests/[a-z_/]*(?:\.py)?", broker.audit.__doc__ or "")
    assert len(named) > 8
    assert [path for path in named if not (ROOT / path).exists()] == []
