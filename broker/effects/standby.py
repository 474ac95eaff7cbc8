"""Inputs at the site that would take a stage over: sent there, taken from there, and removed again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from broker.clock import Clock
from broker.effects.cleaning import remove_inputs
from broker.effects.moving import CALLED_PAUSE, Batch, Moving
from broker.effects.outcome import Result, again, done
from broker.effects.placed_inputs import Absent
from broker.jobs import RESTORE, Job
from broker.states import StageState
from broker.store.base import EffectDone, EffectRow, Store
from broker.traffic.routes import by_catalogue
from broker.traffic.rows import TrafficSeen
from connectors.base import Site
from connectors.model import Origin, Transfer, TransferItem, TransferState, TransferStatus

Asked = Callable[[EffectRow, Job], Sequence[Transfer]]
"""The transfers that an attempt's start asks for. Raises Absent."""
FOLDER = "inputs"
"""Of a site, for what is sent there ahead."""
GIVE_WAY = 10.0
"""Seconds until it is tried again to send something ahead, when the movers have other things to do."""
TAKEN = "-ahead"
"""Ends the key of a transfer that takes at its own site what was sent there."""


class Standby:
    """Performs `ahead` and `recall`."""

    def __init__(self, *, store: Store, moving: Moving, asked: Asked, clock: Clock) -> None:
        self._store, self._moving, self._asked, self._clock = store, moving, asked, clock

    # -- there -----------------------------------------------------------------------------------------------

    def send(self, _: Site, batch: Batch) -> Result:
        """Bring the inputs that the stage would need there, when nobody else needs the movers."""
        result = Result()
        for effect, job in batch:
            if StageState(job.stage.state).final:
                result.done.append(_not_there(effect, "its stage is over"))
                continue
            try:
                transfers = [one for one in self._transfers(effect, job) if not self._is_there(one)]
            except Absent as absent:
                result.done.append(_not_there(effect, str(absent)))
                continue
            self._send(effect, job, transfers, result)
        return result

    def _send(self, effect: EffectRow, job: Job, transfers: Sequence[Transfer], result: Result) -> None:
        against = self._moving.forbidden(job, transfers)
        if against is not None:
            result.done.append(_not_there(effect, f"{against.rule}: {against.fact}"))
        elif self._gives_way(transfers):
            reason = "other transfers go first"
            result.again.append(again(effect, self._clock(), reason=reason, pause=GIVE_WAY))
        else:
            # what failed is not begun again: the stage's start brings it from where it lies, as ever
            states = self._moving.move(transfers, anew=())
            self._judge(effect, transfers, states, result)

    def _transfers(self, effect: EffectRow, job: Job) -> list[Transfer]:
        """As if an attempt without a checkpoint began there, in the order's own folder. Raises Absent."""
        key = str(json.loads(effect.payload)["key"])
        attempt = job.attempt._replace(
            site=effect.site, directory=f"{FOLDER}/{key}", submit_key=key, restore="", staged=""
        )
        label = f"inputs of {job.stage.run_id}/{job.stage.path}, ahead"
        return [
            replace(transfer, urgent=False, about=effect.key, label=label)
            for transfer in self._asked(effect, replace(job, attempt=attempt))
            if transfer.source_site != effect.site
        ]

    def _is_there(self, transfer: Transfer) -> bool:
        """Does the catalogue know all of its files at that site already? A start finds them there by itself."""
        digests = {item.sha256 for item in transfer.items if item.sha256}
        known = self._store.traffic.replicas(digests)
        asked = [Origin(site=transfer.source_site, items=transfer.items)]
        # what this order itself has brought there stays its own: else it would be asked for in part only
        return any(
            origin.site == transfer.destination_site
            and all(item.source != own.destination for item, own in zip(origin.items, transfer.items, strict=True))
            for origin in by_catalogue(asked, known)
        )

    def _gives_way(self, transfers: Sequence[Transfer]) -> bool:
        """Does anything else wait to be begun? What is begun goes on."""
        waiting = self._store.traffic.wanted(now=self._clock(), limit=1)
        if not waiting or waiting[0].about in {transfer.about for transfer in transfers}:
            return False
        return not any(self._moving.begun(transfer.key) for transfer in transfers)

    def _judge(
        self, effect: EffectRow, transfers: Sequence[Transfer], states: Mapping[str, TransferStatus], result: Result
    ) -> None:
        told = [states[transfer.key] for transfer in transfers]
        failed = next((one for one in told if one.state is TransferState.FAILED), None)
        held = next((one for one in told if one.state is TransferState.HELD), None)
        if failed is not None:
            result.done.append(_not_there(effect, failed.reason))
        elif all(one.state is TransferState.SUCCEEDED for one in told):
            moved = sum(one.bytes_moved for one in told)
            result.done.append(done(effect, {"arrived": True, "bytes": moved, "transfers": len(told)}))
        elif held is not None:
            pause = CALLED_PAUSE if held.calls_back else GIVE_WAY
            result.again.append(again(effect, self._clock(), reason=f"held: {held.reason}", pause=pause))
        else:
            result.again.append(self._moving.later(effect, told))

    # -- and back --------------------------------------------------------------------------------------------

    def recall(self, site: Site, batch: Batch) -> Result:
        """End what is still sent, and remove what has arrived. Raises SiteError."""
        result = Result()
        for effect, job in batch:
            asked = json.loads(effect.payload)
            order = self._store.effect(asked["order"])
            if order is not None and order.state == "pending":
                result.again.append(again(effect, self._clock(), reason="somebody still looks after what is sent"))
                continue
            transfers = self._as_sent(effect, job)
            if not self._moving.end([transfer.key for transfer in transfers]):
                result.again.append(again(effect, self._clock(), reason="what is on its way is being stopped"))
                continue
            removed = remove_inputs(site, f"{FOLDER}/{asked['key']}")
            self._forget(effect, transfers)
            result.done.append(done(effect, {"removed": removed}))
        return result

    def _as_sent(self, effect: EffectRow, job: Job) -> list[Transfer]:
        try:
            return self._transfers(effect, job)
        except Absent:  # what it would have taken is not there any more: so nothing is on its way
            return []

    def _forget(self, effect: EffectRow, transfers: Sequence[Transfer]) -> None:
        """The catalogue does not look for them there any more."""
        brought = {item.destination for transfer in transfers for item in transfer.items}
        digests = {item.sha256 for transfer in transfers for item in transfer.items if item.sha256}
        gone = [
            row._replace(state="lost", reason="sent ahead, not needed, and removed")
            for rows in self._store.traffic.replicas(digests).values()
            for row in rows
            if row.side == effect.site and row.path in brought
        ]
        if gone:
            self._store.traffic.record(TrafficSeen(replicas=gone), now=self._clock())


def nearest(moving: Moving, job: Job, transfers: Sequence[Transfer], keys: Iterable[str]) -> dict[str, Transfer]:
    """The transfers that can be replaced, by their keys, by ones that take the same files at the attempt's own site,
    where they were sent ahead under one of `keys`. What cannot be taken from there comes from where it lies, and so
    does what is on its way already."""
    found: dict[str, Transfer] = {}
    for key in keys:
        pairs = [(one, _sent_as(one, job, key)) for one in transfers if not _carries_restore(one)]
        known = moving.standing([name for one, sent in pairs for name in (one.key, sent, f"{one.key}{TAKEN}")])
        for one, sent in pairs:
            arrived = _state(known, sent) is TransferState.SUCCEEDED
            spoiled = _state(known, f"{one.key}{TAKEN}") is TransferState.FAILED
            begun = _state(known, one.key) not in (None, TransferState.UNKNOWN)
            if arrived and not spoiled and not begun and one.source_site != job.attempt.site:
                found.setdefault(one.key, _taken_there(one, job, key))
    return found


def _sent_as(transfer: Transfer, job: Job, key: str) -> str:
    return f"{key}{transfer.key.removeprefix(job.attempt.submit_key)}"


def _state(known: Mapping[str, TransferStatus], key: str) -> TransferState | None:
    return known[key].state if key in known else None


def _carries_restore(transfer: Transfer) -> bool:
    return any(item.destination.endswith(f"{RESTORE}/") for item in transfer.items)


def _taken_there(transfer: Transfer, job: Job, key: str) -> Transfer:
    a = job.attempt

    def there(item: TransferItem) -> TransferItem:
        return replace(item, source=f"{FOLDER}/{key}{item.destination.removeprefix(a.directory)}")

    items = tuple(there(item) for item in transfer.items)
    return replace(transfer, key=f"{transfer.key}{TAKEN}", source_site=a.site, items=items, others=())


def _not_there(effect: EffectRow, reason: str) -> EffectDone:
    return done(effect, {"arrived": False, "reason": reason[:300]})
