"""Inputs of a stage at the site that would take it over, before it has to: ordered, used, removed. Pure.

An order is an effect under a key of the stage's own, so that what was ordered is known by the orders themselves. It
ends with the stage, not with an attempt: a stage that starts again goes on being stood by for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from broker.engine.forecasting import loads_in, over_link
from broker.engine.look import Look
from broker.engine.start import brings_files, named_effect
from broker.engine.words import compact
from broker.facts import World
from broker.ids import standby_key
from broker.jobs import in_place
from broker.spec import body_for
from broker.store.base import AttemptRow, CheckpointRow, EffectRow, StageRow
from policies import shipping
from policies.model import CheckpointRule, Decision, SiteFacts

Json = Mapping[str, Any]
SEND, RECALL = "ahead", "recall"
"""Kinds of effects."""
MOST_ORDERS = 2
"""Of a stage: when the first has failed, or the likely site is another one by now, there is a second."""
_ORDERED = frozenset({"shipped", "gone", "suspect", "bad"})
"""States of a checkpoint of which a copy may have been sent; inputs only ever follow one."""


def order_keys(run_id: str, n: int) -> list[str]:
    """The keys that a stage's orders may have, and those of their removal."""
    return [f"{kind}:{run_id}:{n}:{k}" for kind in (SEND, RECALL) for k in range(1, MOST_ORDERS + 1)]


def may_have_orders(rows: Iterable[CheckpointRow]) -> bool:
    """Cheap, and never wrong about a no: by what is known of a stage's checkpoints."""
    return any(row.state in _ORDERED for row in rows)


def judge(
    look: Look,
    stage: StageRow,
    row: AttemptRow,
    rule: CheckpointRule,
    *,
    at: SiteFacts,
    to: str,
    moment: shipping.Moment,
) -> Decision | None:
    """Do the inputs follow the checkpoint that leaves for `to`? None: there is nothing to decide."""
    orders = _orders(look, stage, SEND)
    standing = [order for order in orders if not _recalled(look, stage, order)]
    there = any(_under_way(order) or (order.site == to and _arrived(order)) for order in standing)
    if there or len(orders) >= MOST_ORDERS:
        return None
    inputs = _inputs(look, stage, row, at, to)
    if inputs is None:
        return None
    return shipping.send_inputs(rule, at=at, to=to, inputs=inputs, moment=moment, numbers=look.world.numbers.shipping)


def order(look: Look, stage: StageRow, row: AttemptRow, decision: Decision) -> None:
    """Have the inputs sent, and say so."""
    k = len(_orders(look, stage, SEND)) + 1
    key = f"{SEND}:{stage.run_id}:{stage.n}:{k}"
    payload = compact({"key": standby_key(stage.run_id, stage.n, k)})
    of = (stage.run_id, stage.n, row.number)
    look.changes.effects.append(
        named_effect(look.world, key, of, SEND, now=look.now, payload=payload, site=decision.site)
    )
    why = "; ".join(reason.fact for reason in decision.reasons)
    data = {"to": decision.site, "bytes": decision.facts.get("bytes"), "why": why}
    look.tell(stage, "inputs", attempt=row.number, data=data, decision=decision)


def sent_to(look: Look, stage: StageRow, site: str) -> list[str]:
    """The keys under which inputs may lie there. An order that is on its way yields: the attempt that is begun there
    brings them itself, and waits for nothing that goes when there is room."""
    keys = []
    for order in _orders(look, stage, SEND):
        if order.site == site and not _recalled(look, stage, order):
            keys.append(_key(order))
            if _under_way(order):
                look.changes.dropped_effects.append(order.key)
    return keys


def recall(look: Look, stage: StageRow) -> None:
    """The stage is over: nothing is sent any more, and what was is removed."""
    for order in _orders(look, stage, SEND):
        if _recalled(look, stage, order):
            continue
        if _under_way(order):
            look.changes.dropped_effects.append(order.key)
        key = order.key.replace(SEND, RECALL, 1)
        payload = compact({"key": _key(order), "order": order.key})
        of = (stage.run_id, stage.n, order.attempt)
        if order.site in look.world.sites:
            look.changes.effects.append(
                named_effect(look.world, key, of, RECALL, now=look.now, payload=payload, site=order.site)
            )


# -- the orders ------------------------------------------------------------------------------------------------


def _orders(look: Look, stage: StageRow, kind: str) -> Sequence[EffectRow]:
    if not look.standby:  # as in nearly every look: no copy of any checkpoint was sent
        return ()
    return [row for row in look.standby.get(stage.n, ()) if row.kind == kind]


def _under_way(order: EffectRow) -> bool:
    return order.state == "pending"


def _arrived(order: EffectRow) -> bool:
    return order.state == "done" and bool(json.loads(order.outcome or "{}").get("arrived"))


def _recalled(look: Look, stage: StageRow, order: EffectRow) -> bool:
    key = order.key.replace(SEND, RECALL, 1)
    return any(row.key == key for row in _orders(look, stage, RECALL))


def _key(order: EffectRow) -> str:
    return str(json.loads(order.payload)["key"])


# -- what would be sent ----------------------------------------------------------------------------------------


def _inputs(look: Look, stage: StageRow, row: AttemptRow, at: SiteFacts, to: str) -> shipping.Inputs | None:
    """As they were when this attempt was started: they do not change. None: nothing would be brought there."""
    body = body_for(json.loads(stage.body), to, look.world.sites[to].config.profile)
    if not brings_files(body) or not _brought(look.world, body, to):
        return None
    loads = loads_in(row.staged)
    if loads is None or _read_in_place_only_here(look.world, body, row.site, to):
        return shipping.Inputs(bytes=None)
    loads = tuple(load for load in loads if load.side != to)
    if not loads:
        return None
    return shipping.Inputs(
        bytes=sum(load.bytes for load in loads),
        seconds=sum(over_link(look.world, load.side, to, bytes=load.bytes, files=load.files).p50 for load in loads),
        fade=any((site := look.site(load.side)) is not None and site.facility == at.facility for load in loads),
    )


def _brought(world: World, body: Json, to: str) -> bool:
    """Is anything brought there that is not read where it is?"""
    return bool(body["files"]) or any(in_place(world, given, to) is None for given in body["inputs"])


def _read_in_place_only_here(world: World, body: Json, here: str, to: str) -> bool:
    """Nobody has counted what the running attempt reads where it is."""
    return any(in_place(world, given, here) and not in_place(world, given, to) for given in body["inputs"])
