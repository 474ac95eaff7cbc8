"""Checking a database whole, run by run: memory grows with the largest run, not with their number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from broker.audit.reading import audit_run
from broker.audit.rows import Violation
from broker.store.audit import verify_chain
from broker.store.base import EventRow, Store

PAGE = 1000


@dataclass(slots=True)
class Checked:
    """How much was looked at."""

    runs: int = 0
    streams: int = 0
    found: int = 0
    by_rule: dict[str, int] = field(default_factory=dict)


def check_all(store: Store, checked: Checked) -> Iterator[Violation]:
    """Everything that is wrong with any run, with the streams of sites and operators, and between the tables."""
    for violation in _all(store, checked):
        checked.found += 1
        checked.by_rule[violation.rule] = checked.by_rule.get(violation.rule, 0) + 1
        yield violation


def check_run(store: Store, run_id: str, checked: Checked) -> Iterator[Violation]:
    """Everything that is wrong with one run."""
    checked.runs, checked.streams = 1, 1
    for violation in audit_run(store, run_id):
        checked.found += 1
        checked.by_rule[violation.rule] = checked.by_rule.get(violation.rule, 0) + 1
        yield violation


def _all(store: Store, checked: Checked) -> Iterator[Violation]:
    after = ""
    while page := store.run_ids(after=after, limit=PAGE):
        for run_id in page:
            checked.runs += 1
            checked.streams += 1
            yield from audit_run(store, run_id)
        after = page[-1]
    for name, seq, tip in store.other_streams():
        checked.streams += 1
        broken = verify_chain(events_of(store, name, until=seq), tip)
        if broken is not None:
            yield Violation("I19", name, broken.why)
    for table, run_id in store.lost_rows():
        yield Violation("rows", run_id or "(no run)", f"the table {table} holds rows of it, and the run is not there")


def events_of(store: Store, stream: str, *, until: int) -> Iterator[EventRow]:
    """A stream's events up to that one, a page at a time: what is appended meanwhile is after the tip."""
    after = 0
    while after < until and (page := store.events(stream, after=after, limit=min(PAGE, until - after))):
        yield from page
        after = page[-1].seq
