"""Bringing files: a stage's inputs and its checkpoint to where it starts, and checkpoints ahead to where it may go."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from broker.clock import Clock
from broker.effects.outcome import Result, again, compact, done
from broker.facts import World
from broker.jobs import Job, inbound, short_name
from broker.store.base import CheckpointRow, EffectRow, ProductRow, Store
from connectors.base import Mover, Site
from connectors.errors import Fault
from connectors.model import Refused, Transfer, TransferItem, TransferState, TransferStatus

Batch = Sequence[tuple[EffectRow, Job]]
DARK_PAUSE = 5.0
"""Seconds until a transfer whose source or destination is dark is tried again."""


class Carrier:
    """Performs `stage_in` and `ship`."""

    def __init__(self, *, store: Store, world: World, mover: Mover, clock: Clock) -> None:
        self._store, self._world, self._mover, self._clock = store, world, mover, clock

    def bring(self, _: Site, batch: Batch) -> Result:
        """Bring an attempt's files, then say so on its row."""
        result = Result()
        for effect, job in batch:
            transfers = self._inbound(job)
            if not transfers:
                result.finish(effect, job, staged=compact({"ok": True}))
                continue
            states = self._move(transfers, again=effect.tries > 1)
            self._judge(effect, job, transfers, states, result)
        return result

    def _inbound(self, job: Job) -> list[Transfer]:
        a = job.attempt
        wanted = {given["stage"] for given in json.loads(job.stage.body)["inputs"] if "stage" in given}
        products: dict[str, ProductRow] = {}
        if wanted:
            products = dict(self._store.products_of(a.run_id, wanted))
        return inbound(self._world, job, products=products, skipped=sorted(wanted - products.keys()))

    def _move(self, transfers: Sequence[Transfer], *, again: bool) -> dict[str, TransferStatus]:
        """Begin what the mover does not know yet (`again`: also what had failed), and say how all stand."""
        keys = [transfer.key for transfer in transfers]
        states = dict(self._mover.status(keys))
        begin = (TransferState.UNKNOWN, TransferState.FAILED) if again else (TransferState.UNKNOWN,)
        new = [t for t in transfers if t.key not in states or states[t.key].state in begin]
        if new:
            answers = self._mover.submit(new)
            states.update(self._mover.status([t.key for t in new]))
            states.update({key: _refusal(key, a) for key, a in answers.items() if isinstance(a, Refused)})
        return states

    def _judge(
        self,
        effect: EffectRow,
        job: Job,
        transfers: Sequence[Transfer],
        states: dict[str, TransferStatus],
        result: Result,
    ) -> None:
        """Done, failed, or not yet."""
        failed = next((s for s in states.values() if s.state is TransferState.FAILED), None)
        if failed is not None:
            self._failed(effect, job, transfers, failed, result)
        elif all(s.state is TransferState.SUCCEEDED for s in states.values()) and len(states) == len(transfers):
            result.finish(effect, job, staged=compact({"ok": True}))
        else:
            result.again.append(again(effect, self._clock(), reason="on its way", slowest=2.0))

    def _failed(
        self, effect: EffectRow, job: Job, transfers: Sequence[Transfer], failed: TransferStatus, result: Result
    ) -> None:
        """A side that is dark is waited for: whether that takes too long, the engine judges by the site's silence.
        Only a checkpoint whose source is dark is given up: an older one, or another copy, will do."""
        transfer = next(t for t in transfers if t.key == failed.key)
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

    def ship(self, _: Site, batch: Batch) -> Result:
        """Bring a copy of a checkpoint to another site; what arrived verified is a checkpoint there."""
        result = Result()
        for effect, job in batch:
            asked = json.loads(effect.payload)
            folder = f"checkpoints/{job.attempt.submit_key}/g{asked['generation']}/{asked['seq']:06d}"
            transfer = Transfer(
                key=_ship_key(effect, job, asked),
                source_site=asked["from"],
                destination_site=effect.site,
                items=(TransferItem(source=f"{asked['path']}/", destination=f"{folder}/"),),
                label=f"checkpoint {asked['seq']} of {job.stage.run_id}/{job.stage.path}@{job.attempt.number}",
            )
            status = self._move([transfer], again=effect.tries > 1)[transfer.key]
            self._shipped(effect, job, asked, folder, status, result)
        return result

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
        if status.state not in (TransferState.SUCCEEDED, TransferState.FAILED):
            result.again.append(again(effect, now, reason="on its way", slowest=2.0))
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


def _ship_key(effect: EffectRow, job: Job, asked: dict[str, Any]) -> str:
    return f"{job.attempt.submit_key}-ship-{asked['generation']}-{asked['seq']}-{short_name(effect.site)}"


def _refusal(key: str, answer: Refused) -> TransferStatus:
    return TransferStatus(key=key, state=TransferState.FAILED, reason=answer.reason, fault=answer.fault)
