"""Who is told of what a decision led to. Pure: rows of notices, written together with what they tell of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from broker.alerts.rows import Over, addresses, entries_of, new_alert
from broker.deadlines import RUN
from broker.engine.look import Look
from broker.states import RunState, StageState
from broker.store.base import NewEvent, StageRow

_S = StageState
EVERYTHING = ""
"""Of `Over`: every kind, about whichever stage."""


class News(NamedTuple):
    """One thing to be told, whoever is told it."""

    kind: str
    which: str
    """Which time that is: with the kind and what it is about, the notice's key."""
    n: int
    stage: str
    text: str
    help: str = ""


def tell_people(look: Look) -> None:
    """Add notices for what this look has decided, and end those whose matter has passed."""
    entries = [*entries_of(look.run_row.notify), *look.world.notify]
    if not entries:
        look.changes.alerts_over.clear()
        return
    look.changes.alerts_over += _passed(look)
    run, installation = look.run_row, look.world.installation.id
    for news in (*_of_stages(look), *_of_events(look)):
        key = f"{news.kind}:{run.run_id}:{news.n}:{news.which}"
        about = f"run {run.run_id} ({run.name})" + (f" stage {news.stage}" if news.stage else "")
        body = {
            "kind": news.kind,
            "run": run.run_id,
            "name": run.name,
            "stage": news.stage,
            "text": f"{about}: {news.text}",
            "help": news.help,
            "at": look.now,
        }
        look.changes.alerts += [
            new_alert(
                installation=installation,
                key=key,
                kind=news.kind,
                address=address,
                now=look.now,
                body=body,
                run_id=run.run_id,
                n=news.n,
                about=news.stage,
            )
            for address in addresses(entries, news.kind)
        ]


def _of_stages(look: Look) -> Iterator[News]:
    """Stages that wait for a person from now on, and the first one that makes its run fail."""
    before = {row.n: row for row in look.snapshot.stages}
    failed = {n for n, how in look.changes.settled if how == "failed"}
    first = look.run_row.failed == 0
    for row in look.changes.stages:
        if row.state == _S.AWAITING_DECISION and not _waited(before, row):
            help = f"crossfade explain {row.run_id}/{row.path}, then retry, move or cancel it"  # noqa: A001
            yield News("needs_person", str(row.ver), row.n, row.path, f"waits for a person: {row.reason}", help)
        elif row.state == _S.FAILED and row.n in failed and first:
            first = False
            text, help = f"failed: {row.reason}", f"crossfade errors {row.run_id}/{row.path}"  # noqa: A001
            yield News("failed", str(row.ver), row.n, row.path, text, help)


def _of_events(look: Look) -> Iterator[News]:
    run = look.snapshot.run
    untouched = not run.open_attempts and run.unsettled == run.stages
    for event in look.changes.events:
        data = json.loads(event.data)
        if event.kind == "placed" and data["why"] in ("failover", "move"):
            text = f"goes on at {data['site']} ({data['why']})"
            help = f"crossfade explain {look.run_row.run_id}/{event.stage}"  # noqa: A001
            yield News("moved", str(event.attempt), event.n, event.stage, text, help)
        elif event.kind in ("deadline_at_risk", "deadline_missed"):
            yield _of_deadline(look, event, data)
        elif event.kind == "run_succeeded":
            yield News("done", "", RUN, "", "done: every stage has its product", "")
        elif event.kind == "placed" and event.attempt == 1 and untouched:
            # its key is the same for a stage that is the first once more: it is told once
            where = f" at {data['site']}" if data["site"] else ""
            yield News("started", "", RUN, "", f"has started: {event.stage}{where}")
            untouched = False


def _of_deadline(look: Look, event: NewEvent, data: Mapping[str, object]) -> News:
    run, then = look.run_row.run_id, ""
    if event.kind == "deadline_missed":
        then = "; it is canceled" if data["on_miss"] == "cancel" else "; it goes on"
    words = "its deadline is missed" if event.kind == "deadline_missed" else "its deadline is at risk"
    where = f"{run}/{event.stage}" if event.stage else run
    return News(event.kind, str(data["time"]), event.n, event.stage, f"{words}: {data['fact']}{then}", _watch(where))


def _watch(where: str) -> str:
    return f"crossfade explain {where}"


def _passed(look: Look) -> Iterator[Over]:
    """What a person was asked about, and need not be any more."""
    run = look.run_row
    if RunState(run.state).final:
        yield Over(run.run_id, RUN, EVERYTHING, f"the run has ended: {run.state.lower()}")
        return
    before = {row.n: row for row in look.snapshot.stages}
    for row in look.changes.stages:
        if row.state != _S.AWAITING_DECISION and _waited(before, row):
            yield Over(run.run_id, row.n, "needs_person", f"nobody needs to act any more: {row.state.lower()}")


def _waited(before: Mapping[int, StageRow], row: StageRow) -> bool:
    former = before.get(row.n)
    return former is not None and former.state == _S.AWAITING_DECISION
