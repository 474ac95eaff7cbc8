"""Bringing files: a stage's inputs and its checkpoint to where it starts, and checkpoints ahead to where it may go."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from broker.clock import Clock
from broker.effects.moving import CALLED_PAUSE, DARK_PAUSE, Batch, Moving, against_it, not_staged
from broker.effects.outcome import Result, again, compact, done
from broker.effects.placed_inputs import Absent, PlacedInputs
from broker.effects.standby import TAKEN, nearest
from broker.facts import World, rules_of
from broker.jobs import RESTORE, Job, fed_by, inbound, short_name
from broker.store.base import CheckpointRow, EffectRow, ProductRow, Store
from broker.traffic.rows import TrafficSeen
from broker.traffic.settling import copies_of, is_missing
from connectors.base import Site
from connectors.errors import Fault
from connectors.model import Transfer, TransferItem, TransferState, TransferStatus

WAIT_PAUSE = 5.0
"""Seconds until an input that is waited for is looked for again."""


class Carrier:
    """Performs `stage_in` and `ship`."""

    def __init__(self, *, store: Store, world: World, moving: Moving, inputs: PlacedInputs, clock: Clock) -> None:
        self._store, self._world, self._moving, self._inputs, self._clock = store, world, moving, inputs, clock

    def inbound(self, effect: EffectRow, job: Job) -> Sequence[Transfer]:
        """What a start of this attempt would bring, from where it lies. Raises Absent."""
        return self._inbound(effect, job)[0]

    def bring(self, _: Site, batch: Batch) -> Result:
        """Bring the attempts' files, then say so on their rows. The mover is asked once for all of them."""
        result = Result()
        wanted: list[tuple[EffectRow, Job, list[Transfer]]] = []
        sides: dict[str, str] = {}
        missed: dict[str, Collection[str]] = {}
        for effect, job in batch:
            try:
                lying, missed[effect.key] = self._inbound(effect, job)
                transfers = self._nearest(effect, job, lying)
            except Absent as absent:
                self._absent(effect, job, str(absent), result)
                continue
            if (against := self._moving.forbidden(job, transfers)) is not None:
                result.finish(effect, job, staged=against_it(job, against))
            else:
                wanted.append((effect, job, transfers))
                sides |= {one.key: was.source_site for one, was in zip(transfers, lying, strict=True)}
        anew = {transfer.key for effect, _, transfers in wanted if effect.tries > 1 for transfer in transfers}
        states = self._moving.move([transfer for _, _, transfers in wanted for transfer in transfers], anew=anew)
        for effect, job, transfers in wanted:
            if transfers:
                told = {t.key: states[t.key] for t in transfers}
                self._judge(effect, job, transfers, told, missed[effect.key], sides, result)
            else:
                result.finish(effect, job, staged=compact({"ok": True, **_weighed(job, (), {}, {})}))
        return result

    def _inbound(self, effect: EffectRow, job: Job) -> tuple[list[Transfer], Collection[str]]:
        """To the attempt's own folder, which nobody reads before all of it is there; and the inputs that are brought
        although the site mounts a place of theirs. Raises Absent."""
        a = job.attempt
        wanted = fed_by(job)
        products: dict[str, ProductRow] = {}
        if wanted:
            products = dict(self._store.products_of(a.run_id, wanted))
        urgent = "urgent" in rules_of(job.stage.rules).lane
        chosen, missed = self._inputs.looked_at(job, begun=self._moving.begun)
        skipped = sorted(wanted - products.keys())
        asked = inbound(self._world, job, products=products, skipped=skipped, chosen=chosen, missed=missed)
        return [replace(transfer, private=True, urgent=urgent, about=effect.key) for transfer in asked], missed

    def _nearest(self, effect: EffectRow, job: Job, lying: Sequence[Transfer]) -> list[Transfer]:
        """The same, taken at the attempt's own site where it was sent there ahead."""
        keys = json.loads(effect.payload).get("ahead", ())
        found = nearest(self._moving, job, lying, keys) if keys else {}
        return [found.get(transfer.key, transfer) for transfer in lying]

    def _absent(self, effect: EffectRow, job: Job, reason: str, result: Result) -> None:
        """It may still come, as long as the document waits for it; else this attempt has no input."""
        if self._inputs.may_come_later(job):
            result.again.append(again(effect, self._clock(), reason=f"waits: {reason}", pause=WAIT_PAUSE))
        else:
            result.finish(effect, job, staged=not_staged(reason, Fault.STAGING))

    def _judge(
        self,
        effect: EffectRow,
        job: Job,
        transfers: Sequence[Transfer],
        states: dict[str, TransferStatus],
        missed: Collection[str],
        sides: Mapping[str, str],
        result: Result,
    ) -> None:
        """Done, failed, or not yet. `sides`: where the files of each lie, wherever they were taken from."""
        failed = next((s for s in states.values() if s.state is TransferState.FAILED), None)
        if failed is not None:
            self._failed(effect, job, transfers, failed, result)
        elif all(s.state is TransferState.SUCCEEDED for s in states.values()) and len(states) == len(transfers):
            brought = {"brought": sorted(missed)} if missed else {}
            result.finish(
                effect, job, staged=compact({"ok": True, **brought, **_weighed(job, transfers, states, sides)})
            )
        else:
            self._moving.on_its_way(effect, job, states.values(), result)

    def _failed(
        self, effect: EffectRow, job: Job, transfers: Sequence[Transfer], failed: TransferStatus, result: Result
    ) -> None:
        """A side that is dark is waited for: whether that takes too long, the engine judges by the site's silence.
        Only a checkpoint whose source is dark is given up: an older one, or another copy, will do."""
        transfer = next(t for t in transfers if t.key == failed.key)
        if transfer.key.endswith(TAKEN):
            reason = f"what was sent ahead is of no use: {failed.reason}"
            result.again.append(again(effect, self._clock(), reason=reason, pause=0.0))
            return
        self._lost(job, transfer, failed)
        if self._inputs.may_still_come(job, failed):
            reason = f"waits: {failed.reason}"
            result.again.append(again(effect, self._clock(), reason=reason, pause=WAIT_PAUSE))
            return
        carries_restore = any(item.destination.endswith(".crossfade/restore/") for item in transfer.items)
        lost_restore = carries_restore and failed.site == transfer.source_site
        if failed.fault == Fault.SITE.value and not lost_restore:
            reason = f"{failed.site or 'the broker'} gives no answer: {failed.reason}"
            result.again.append(again(effect, self._clock(), reason=reason, pause=DARK_PAUSE))
            return
        gone = lost_restore and failed.fault != Fault.SITE.value
        fault = failed.fault or Fault.STAGING.value
        if fault == Fault.SITE.value:
            fault = Fault.STAGING.value
        result.finish(
            effect,
            job,
            staged=compact(
                {
                    "ok": False,
                    "reason": failed.reason,
                    "fault": fault,
                    "site": failed.site,
                    **({"gone": True} if gone else {}),
                }
            ),
        )

    def _lost(self, job: Job, transfer: Transfer, failed: TransferStatus) -> None:
        """Of what was copied on the spot nobody but us has seen that its source is gone."""
        side, run = transfer.source_site, job.attempt.run_id
        if is_missing(failed) and failed.bad_items and failed.site == side:
            lost = copies_of(side, transfer.items, failed, state="lost", failures=0, run_id=run)
            self._store.traffic.record(TrafficSeen(replicas=list(lost)), now=self._clock())

    def ship(self, _: Site, batch: Batch) -> Result:
        """Bring a copy of a checkpoint to another site; what arrived verified is a checkpoint there."""
        result = Result()
        asked = [json.loads(effect.payload) for effect, _ in batch]
        transfers = [self._shipment(effect, job, one) for (effect, job), one in zip(batch, asked, strict=True)]
        against = {
            transfer.key: reason
            for transfer, (_, job) in zip(transfers, batch, strict=True)
            if (reason := self._moving.forbidden(job, [transfer])) is not None
        }
        # what failed is not begun again: by then there is a newer one, and perhaps a better place for it
        states = self._moving.move([t for t in transfers if t.key not in against], anew=())
        for key, reason in against.items():
            told = f"{reason.rule}: {reason.fact}"
            states[key] = TransferStatus(key=key, state=TransferState.FAILED, reason=told)
        for (effect, job), one, transfer in zip(batch, asked, transfers, strict=True):
            self._shipped(effect, job, one, shipped_to(job, one), states[transfer.key], result)
        return result

    def _shipment(self, effect: EffectRow, job: Job, asked: dict[str, Any]) -> Transfer:
        label = f"checkpoint {asked['seq']} of {job.stage.run_id}/{job.stage.path}@{job.attempt.number}"
        return Transfer(
            key=_ship_key(effect, job, asked),
            source_site=asked["from"],
            destination_site=effect.site,
            items=(TransferItem(source=f"{asked['path']}/", destination=f"{shipped_to(job, asked)}/"),),
            label=label,
            private=True,
            urgent="urgent" in rules_of(job.stage.rules).lane,
            about=effect.key,
        )

    def _shipped(
        self,
        effect: EffectRow,
        job: Job,
        asked: dict[str, object],
        folder: str,
        status: TransferStatus,
        result: Result,
    ) -> None:
        now = self._clock()
        if status.state is TransferState.HELD:
            pause = CALLED_PAUSE if status.calls_back else 5.0
            result.again.append(again(effect, now, reason=f"held: {status.reason}", pause=pause))
            return
        if status.state not in (TransferState.SUCCEEDED, TransferState.FAILED):
            result.again.append(self._moving.later(effect, [status]))
            return
        arrived = status.state is TransferState.SUCCEEDED
        a = job.attempt
        result.done.append(done(effect, {"arrived": arrived, "reason": status.reason}))
        result.checkpoints.append(
            CheckpointRow(
                run_id=a.run_id,
                n=a.n,
                attempt=a.number,
                generation=int(str(asked["generation"])),
                seq=int(str(asked["seq"])),
                site=effect.site if arrived else a.site,
                state="verified" if arrived else "shipped",
                path=folder if arrived else str(asked["path"]),
                manifest="",
                bytes=status.bytes_moved,
                created_at=now,
                verified_at=now,
                reason="" if arrived else f"no copy at {effect.site}: {status.reason}"[:300],
            )
        )


def _weighed(
    job: Job, transfers: Sequence[Transfer], states: Mapping[str, TransferStatus], sides: Mapping[str, str]
) -> dict[str, object]:
    """Files and bytes that the start took from each side: who stands by brings the same, and who forecasts the next
    start goes by it. Nothing, where the size of any of them is not known."""
    found: dict[str, tuple[int, int]] = {}
    for transfer in transfers:
        inputs = [item for item in transfer.items if not item.destination.endswith(f"{RESTORE}/")]
        if not inputs:
            continue
        size = _size(job, transfer, inputs, states[transfer.key])
        if not size:
            return {}
        files, before = found.get(sides[transfer.key], (0, 0))
        count = max(len(inputs), states[transfer.key].files_moved)
        found[sides[transfer.key]] = (files + count, before + size)
    checkpoint = rules_of(job.stage.rules).checkpoint
    if not found and (checkpoint is None or checkpoint.ship == "never"):
        return {}  # nothing was moved, and nobody will ask
    return {"from": found}


def _size(job: Job, transfer: Transfer, inputs: Sequence[TransferItem], status: TransferStatus) -> int:
    """Bytes of its inputs; 0: not known."""
    if all(item.size is not None for item in inputs):
        return max(1, sum(item.size or 0 for item in inputs))
    with_it = len(inputs) < len(transfer.items)
    return max(0, status.bytes_moved - (json.loads(job.attempt.restore).get("bytes", 0) if with_it else 0))


def shipped_to(job: Job, asked: Mapping[str, Any]) -> str:
    """The folder that a checkpoint's copy has, at whichever site."""
    return f"checkpoints/{job.attempt.submit_key}/g{asked['generation']}/{asked['seq']:06d}"


def _ship_key(effect: EffectRow, job: Job, asked: dict[str, Any]) -> str:
    return f"{job.attempt.submit_key}-ship-{asked['generation']}-{asked['seq']}-{short_name(effect.site)}"
