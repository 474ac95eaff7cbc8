"""Stages that only move data: what they bring from place to place, and how that is ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from broker.clock import Clock
from broker.effects.moving import DARK_PAUSE, Batch, Moving, against_it, not_staged
from broker.effects.outcome import Result, again, compact, done
from broker.jobs import Job, Taken, outbound
from broker.store.base import AttemptRow, EffectRow, ProductRow, Store
from connectors.base import Mover
from connectors.errors import Fault
from connectors.model import Transfer, TransferState, TransferStatus

DARK_PATIENCE = 86_400.0
"""Seconds that a stage which only moves data waits for a side that is dark, before that counts as a failed try."""


class Copier:
    """Performs `copy`, and the cancel of what only moves data."""

    def __init__(self, *, store: Store, moving: Moving, mover: Mover, clock: Clock) -> None:
        self._store, self._moving, self._mover, self._clock = store, moving, mover, clock

    def copy(self, batch: Batch) -> Result:
        """Bring what stages are to bring, then say so on their attempts' rows. The mover is asked once for all."""
        result = Result()
        wanted: list[tuple[EffectRow, Job, list[Transfer], dict[int, Taken]]] = []
        for effect, job in batch:
            current = self._current(job)
            if current is None or not current.open or current.cancel_requested_at is not None:
                result.done.append(done(effect, {"dropped": "nobody wants it any more"}))
                continue
            try:
                transfers, taken = outbound(job, products=self._delivered(job))
            except KeyError as missing:
                reason = f"{missing.args[0]} has left nothing that could be delivered"
                result.finish(effect, job, staged=not_staged(reason, Fault.STAGING))
                continue
            if (against := self._moving.forbidden(job, transfers)) is not None:
                result.finish(effect, job, staged=against_it(job, against))
            else:
                asked = [replace(transfer, about=effect.key) for transfer in transfers]
                wanted.append((effect, job, asked, taken))
        # what an earlier attempt has failed at is begun anew, what it has brought stays
        anew = {t.key for effect, job, ts, _ in wanted if effect.tries > 1 or job.attempt.number > 1 for t in ts}
        states = self._moving.move([transfer for _, _, transfers, _ in wanted for transfer in transfers], anew=anew)
        for effect, job, transfers, taken in wanted:
            self._judge_copy(effect, job, {t.key: states[t.key] for t in transfers}, taken, result)
        return result

    def stop(self, batch: Batch) -> Result:
        """Cancel what a stage moves, again and again until the mover confirms that nothing more is written."""
        result = Result()
        for effect, job in batch:
            moving = self._store.effect(f"copy:{job.attempt.submit_key}")
            others = moving is not None and moving.state == "pending" and moving.claim not in ("", effect.claim)
            if others and moving is not None and (moving.claim_until or 0) > self._clock():
                result.again.append(again(effect, self._clock(), reason="another worker is just asking for it"))
                continue
            try:
                keys = [transfer.key for transfer in outbound(job, products=self._delivered(job))[0]]
            except KeyError:
                keys = []
            ended = self._mover.cancel(keys) if keys else {}
            if all(ended.get(key) for key in keys):
                result.finish(effect, job, dead=compact({"how": "canceled and confirmed"}))
            else:
                result.again.append(again(effect, self._clock(), reason="asked, not yet confirmed"))
        return result

    def _delivered(self, job: Job) -> Mapping[str, ProductRow]:
        entries = json.loads(job.stage.body)["copy"]
        stages = {entry["from"]["stage"] for entry in entries if isinstance(entry["from"], dict)}
        return self._store.products_of(job.attempt.run_id, stages) if stages else {}

    def _current(self, job: Job) -> AttemptRow | None:
        """The attempt as it is now."""
        a = job.attempt
        return next((row for row in self._store.attempts(a.run_id, a.n) if row.number == a.number), None)

    def _judge_copy(
        self,
        effect: EffectRow,
        job: Job,
        states: Mapping[str, TransferStatus],
        taken: Mapping[int, Taken],
        result: Result,
    ) -> None:
        """Done, failed, or not yet. A side that is dark is waited for, though not for ever: no site's silence tells
        here when it is enough."""
        failed = next((s for s in states.values() if s.state is TransferState.FAILED), None)
        if failed is None and all(s.state is TransferState.SUCCEEDED for s in states.values()):
            result.finish(effect, job, staged=_copied(job, states, taken))
        elif failed is None:
            self._moving.on_its_way(effect, job, states.values(), result)
        elif failed.fault == Fault.SITE.value and self._clock() - effect.created_at < DARK_PATIENCE * 1e6:
            reason = f"{failed.site or 'the broker'} gives no answer: {failed.reason}"
            result.again.append(again(effect, self._clock(), reason=reason, pause=DARK_PAUSE))
        else:
            fault = Fault.STAGING if failed.fault in ("", Fault.SITE.value) else Fault(failed.fault)
            result.finish(effect, job, staged=not_staged(failed.reason, fault, site=failed.site))


def _copied(job: Job, states: Mapping[str, TransferStatus], taken: Mapping[int, Taken]) -> str:
    """What was brought; and of deliveries that something is to be kept of, what was taken from where."""
    answer: dict[str, object] = {"ok": True, "bytes": sum(s.bytes_moved for s in states.values())}
    wanted = {wish["entry"] for wish in json.loads(job.stage.body).get("keep", ())}
    found = {
        str(number): {"site": one.site, "path": one.path, "files": one.files}
        for number, one in taken.items()
        if number in wanted and one.files
    }
    return compact({**answer, "taken": found} if found else answer)
