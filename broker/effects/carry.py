"""Bringing files: a stage's inputs and its checkpoint to where it starts, and checkpoints ahead to where it may go."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from broker.clock import Clock
from broker.effects.outcome import Result, again, compact, done, seen
from broker.facts import World, rules_of
from broker.jobs import Job, inbound, short_name
from broker.store.base import CheckpointRow, EffectAgain, EffectRow, ProductRow, Store
from connectors.base import Mover, Site
from connectors.errors import Fault
from connectors.model import Refused, Transfer, TransferItem, TransferState, TransferStatus

Batch = Sequence[tuple[EffectRow, Job]]
DARK_PAUSE = 5.0
"""Seconds until a transfer whose source or destination is dark is tried again."""
CALLED_PAUSE = 30.0
"""Seconds until a transfer is asked for again whose end is told by itself, in case that this is lost."""


class Carrier:
    """Performs `stage_in` and `ship`."""

    def __init__(self, *, store: Store, world: World, mover: Mover, clock: Clock) -> None:
        self._store, self._world, self._mover, self._clock = store, world, mover, clock

    def bring(self, _: Site, batch: Batch) -> Result:
        """Bring the attempts' files, then say so on their rows. The mover is asked once for all of them."""
        result = Result()
        wanted = [(effect, job, self._inbound(effect, job)) for effect, job in batch]
        anew = {transfer.key for effect, _, transfers in wanted if effect.tries > 1 for transfer in transfers}
        states = self._move([transfer for _, _, transfers in wanted for transfer in transfers], anew=anew)
        for effect, job, transfers in wanted:
            if transfers:
                self._judge(effect, job, transfers, {t.key: states[t.key] for t in transfers}, result)
            else:
                result.finish(effect, job, staged=compact({"ok": True}))
        return result

    def _inbound(self, effect: EffectRow, job: Job) -> list[Transfer]:
        """To the attempt's own folder, which nobody reads before all of it is there."""
        a = job.attempt
        wanted = {given["stage"] for given in json.loads(job.stage.body)["inputs"] if "stage" in given}
        products: dict[str, ProductRow] = {}
        if wanted:
            products = dict(self._store.products_of(a.run_id, wanted))
        urgent = "urgent" in rules_of(job.stage.rules).lane
        asked = inbound(self._world, job, products=products, skipped=sorted(wanted - products.keys()))
        return [replace(transfer, private=True, urgent=urgent, about=effect.key) for transfer in asked]

    def _move(self, transfers: Sequence[Transfer], *, anew: Collection[str]) -> dict[str, TransferStatus]:
        """Begin what the mover does not know yet (and of those in `anew` what had failed), and say how all stand."""
        if not transfers:
            return {}
        states = dict(self._mover.status([transfer.key for transfer in transfers]))
        new = [t for t in transfers if t.key not in states or _to_begin(states[t.key], again=t.key in anew)]
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
        elif held := next((s for s in states.values() if s.state is TransferState.HELD), None):
            self._hold(effect, job, held, result)
        else:
            if _held(job):
                result.seen.append(seen(effect, job, staged=""))
            result.again.append(self._later(effect, states.values()))

    def _later(self, effect: EffectRow, states: Iterable[TransferStatus]) -> EffectAgain:
        """Nobody need ask often for what calls back."""
        called = all(s.calls_back for s in states if s.state is not TransferState.SUCCEEDED)
        return again(effect, self._clock(), reason="on its way", slowest=2.0, pause=CALLED_PAUSE if called else None)

    def _hold(self, effect: EffectRow, job: Job, held: TransferStatus, result: Result) -> None:
        """A person is asked; when that has helped, the transfer goes on by itself."""
        facts = {"held": held.reason or "the transfer waits for a person", "help": held.help}
        result.seen.append(seen(effect, job, staged=compact(facts)))
        reason = f"held: {held.reason}"
        result.again.append(again(effect, self._clock(), reason=reason, pause=CALLED_PAUSE if held.calls_back else 5.0))

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
        asked = [json.loads(effect.payload) for effect, _ in batch]
        transfers = [self._shipment(effect, job, one) for (effect, job), one in zip(batch, asked, strict=True)]
        anew = {t.key for t, (effect, _) in zip(transfers, batch, strict=True) if effect.tries > 1}
        states = self._move(transfers, anew=anew)
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
        if status.state not in (TransferState.SUCCEEDED, TransferState.FAILED):
            result.again.append(self._later(effect, [status]))
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


def shipped_to(job: Job, asked: Mapping[str, Any]) -> str:
    """The folder that a checkpoint's copy has, at whichever site."""
    return f"checkpoints/{job.attempt.submit_key}/g{asked['generation']}/{asked['seq']:06d}"


def _to_begin(status: TransferStatus, *, again: bool) -> bool:
    return status.state is TransferState.UNKNOWN or (again and status.state is TransferState.FAILED)


def _held(job: Job) -> bool:
    return job.attempt.staged.startswith('{"held"')


def _ship_key(effect: EffectRow, job: Job, asked: dict[str, Any]) -> str:
    return f"{job.attempt.submit_key}-ship-{asked['generation']}-{asked['seq']}-{short_name(effect.site)}"


def _refusal(key: str, answer: Refused) -> TransferStatus:
    return TransferStatus(key=key, state=TransferState.FAILED, reason=answer.reason, fault=answer.fault)
