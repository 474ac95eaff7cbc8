"""Charges as they are written: one when an attempt begins, settled once when it is over. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from broker.engine.books import HEDGE
from broker.engine.look import Look
from broker.facts import USABLE_CHECKPOINTS
from broker.states import AttemptState
from broker.store.base import AttemptRow, Changes, ChargeRow, CheckpointRow, Snapshot
from connectors.model import JobState
from policies.budget import HOUR, Ending, Rate, after_checkpoint, settle

_A = AttemptState


def open_charges(look: Look) -> None:
    """Book what each attempt that this look began may cost."""
    if look.books is None or not look.changes.new_attempts:
        return
    stages = {stage.n: stage for stage in look.snapshot.stages}
    for row in look.changes.new_attempts:
        price = look.books.price(stages[row.n], row.site)
        if price is None:
            continue
        look.changes.new_charges.append(
            ChargeRow(
                run_id=row.run_id,
                n=row.n,
                attempt=row.number,
                site=row.site,
                account=price.account,
                pool=price.pool,
                person=look.run_row.created_by,
                lane=price.lane,
                reservation=price.reservation,
                unit=price.rate.unit,
                rate=price.rate.per_hour,
                usd=price.rate.usd,
                nodes=price.rate.nodes,
                estimated=price.units,
                actual=0,
                wasted=0,
                cause="",
                source="",
                doubles=int(row.why == HEDGE),
                cut=0,
                cut_wasted=0,
                booked_at=look.now,
                settled_at=None,
                told=None,
                told_at=None,
            )
        )


def concerned(snapshot: Snapshot, changes: Changes, charged: Collection[str]) -> set[tuple[int, int]]:
    """Attempts at those sites of which the charge changes: they are over, left behind, or begun again by the site."""
    if not changes.attempts:
        return set()
    before = {(row.n, row.number): row for rows in snapshot.attempts.values() for row in rows}
    return {
        (row.n, row.number)
        for row in changes.attempts
        if row.site in charged and (old := before.get((row.n, row.number))) is not None and _matters(old, row)
    }


def _matters(old: AttemptRow, new: AttemptRow) -> bool:
    return (old.open and not new.open) or (new.orphan and not old.orphan) or _cut(old, new)


def _cut(old: AttemptRow, new: AttemptRow) -> bool:
    """Did the site end its execution, to start it again?"""
    return old.state == _A.RUNNING and new.state == _A.QUEUED


def settle_charges(
    snapshot: Snapshot,
    changes: Changes,
    charges: Sequence[ChargeRow],
    *,
    checkpoints: Mapping[int, Sequence[CheckpointRow]],
    now: int,
) -> list[ChargeRow]:
    """The charges of those attempts, as they are now. What is settled already is left as it is."""
    new = {(row.n, row.number): row for row in changes.attempts}
    old = {(row.n, row.number): row for rows in snapshot.attempts.values() for row in rows}
    won = {(product.n, product.attempt) for product in changes.products}
    settled = []
    for charge in charges:
        key = (charge.n, charge.attempt)
        if charge.settled_at is not None or key not in new or not _matters(old[key], new[key]):
            continue
        taken = _taken(checkpoints.get(charge.n, ()), charge.attempt)
        after = _with_cut(charge, old[key], taken, now) if _cut(old[key], new[key]) else charge
        after = after._replace(doubles=int(bool(new[key].orphan) or new[key].why == HEDGE))
        settled.append(after if new[key].open else _settled(after, new[key], won=key in won, taken=taken, now=now))
    return settled


def _taken(rows: Sequence[CheckpointRow], attempt: int) -> Sequence[int]:
    """When its checkpoints were taken that may be started from."""
    return [row.created_at for row in rows if row.attempt == attempt and row.state in USABLE_CHECKPOINTS]


def _with_cut(charge: ChargeRow, old: AttemptRow, taken: Sequence[int], now: int) -> ChargeRow:
    began = _read(old.started).get("at") or old.started_at
    return charge if began is None else _cut_off(charge, began, now, taken)


def _cut_off(charge: ChargeRow, began: int, ended: int, taken: Sequence[int]) -> ChargeRow:
    """With an execution that the site ended, to start it again."""
    last = max((at for at in taken if at <= ended), default=None)
    return charge._replace(
        cut=charge.cut + max(0, ended - began), cut_wasted=charge.cut_wasted + after_checkpoint(began, ended, last)
    )


def _settled(charge: ChargeRow, row: AttemptRow, *, won: bool, taken: Sequence[int], now: int) -> ChargeRow:
    rate = Rate(unit=charge.unit, per_hour=charge.rate, usd=charge.usd, nodes=charge.nodes)
    longest = charge.estimated * HOUR // charge.rate if charge.rate else None
    began, ended, source = times_of(row, longest=longest, now=now)
    again = _read(row.started).get("generation", 1) > 1
    if again and not charge.cut and began is not None and row.started_at is not None:
        # the site started it again between two looks: how long it waited then, nobody saw
        charge = _cut_off(charge, row.started_at, max(row.started_at, began), taken)
    end = settle(
        rate,
        Ending(
            started_at=began,
            ended_at=ended,
            state=row.state.lower(),
            fault=row.failure,
            orphan=bool(row.orphan),
            hedge=row.why == HEDGE,
            won=won,
            checkpoint_at=max(taken, default=None),
            cut=charge.cut,
            cut_wasted=charge.cut_wasted,
        ),
    )
    return charge._replace(
        actual=end.actual,
        wasted=end.wasted,
        cause=end.cause.value,
        source=source,
        settled_at=now,
    )


def times_of(row: AttemptRow, *, longest: int | None, now: int) -> tuple[int | None, int, str]:
    """When an attempt's last execution began (None: it never did) and ended, and who says so.

    The site's own times go before those of the harness, and these before what we have seen. `longest`: microseconds
    after which the site ends a job; what is only seen to be over later than that has ended then.
    """
    job, exited = _read(row.job), _read(row.exit)
    over = bool(job) and JobState(job["state"]).final
    if over and job.get("started_at") is not None and job.get("ended_at") is not None:
        return job["started_at"], max(job["started_at"], job["ended_at"]), "site"
    if exited.get("started_at") is not None and exited.get("ended_at") is not None:
        return exited["started_at"], max(exited["started_at"], exited["ended_at"]), "harness"
    began = _read(row.started).get("at") or job.get("started_at") or row.started_at
    ended = row.ended_at or now
    if began is None:
        return None, ended, "none"
    return began, max(began, ended if longest is None else min(ended, began + longest)), "broker"


def _read(text: str) -> dict[str, Any]:
    return json.loads(text) if text else {}
