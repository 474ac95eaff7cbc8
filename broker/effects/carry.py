"""Bringing files: a stage's inputs and its checkpoint to where it starts, checkpoints ahead to where it may go, and
whatever a stage that only moves data is for."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from broker.clock import Clock
from broker.effects.outcome import Result, again, compact, done, seen
from broker.facts import World, rules_of, side_facts
from broker.jobs import Job, Taken, in_place, inbound, outbound, place_key, short_name
from broker.spec import body_for, input_matches
from broker.store.base import AttemptRow, CheckpointRow, EffectAgain, EffectRow, ProductRow, Store
from connectors.base import Mover, PlaceFiles, Site
from connectors.errors import Fault, SiteError
from connectors.model import Refused, Transfer, TransferItem, TransferState, TransferStatus
from policies.model import Reason
from policies.residency import allowed

Batch = Sequence[tuple[EffectRow, Job]]
DARK_PAUSE = 5.0
"""Seconds until a transfer whose source or destination is dark is tried again."""
CALLED_PAUSE = 30.0
"""Seconds until a transfer is asked for again whose end is told by itself, in case that this is lost."""
DARK_PATIENCE = 86_400.0
"""Seconds that a stage which only moves data waits for a side that is dark, before that counts as a failed try."""
WAIT_PAUSE = 5.0
"""Seconds until an input that is waited for is looked for again."""
NO_PLACES: Mapping[str, PlaceFiles] = {}


class Absent(Exception):
    """An input is not in its place, or nobody can look. The message is for people."""


class Carrier:
    """Performs `stage_in`, `ship` and `copy`, and the cancel of what only moves data."""

    def __init__(
        self,
        *,
        store: Store,
        world: World,
        mover: Mover,
        clock: Clock,
        places: Mapping[str, PlaceFiles] = NO_PLACES,
    ) -> None:
        """`places`: what looks into places, by their side, where anything does."""
        self._store, self._world, self._mover, self._clock = store, world, mover, clock
        self._places = places

    def bring(self, _: Site, batch: Batch) -> Result:
        """Bring the attempts' files, then say so on their rows. The mover is asked once for all of them."""
        result = Result()
        wanted: list[tuple[EffectRow, Job, list[Transfer]]] = []
        for effect, job in batch:
            try:
                transfers = self._inbound(effect, job)
            except Absent as absent:
                self._absent(effect, job, str(absent), result)
                continue
            if (against := self._forbidden(job, transfers)) is not None:
                result.finish(effect, job, staged=_against(against))
            else:
                wanted.append((effect, job, transfers))
        anew = {transfer.key for effect, _, transfers in wanted if effect.tries > 1 for transfer in transfers}
        states = self._move([transfer for _, _, transfers in wanted for transfer in transfers], anew=anew)
        for effect, job, transfers in wanted:
            if transfers:
                self._judge(effect, job, transfers, {t.key: states[t.key] for t in transfers}, result)
            else:
                result.finish(effect, job, staged=compact({"ok": True}))
        return result

    def _inbound(self, effect: EffectRow, job: Job) -> list[Transfer]:
        """To the attempt's own folder, which nobody reads before all of it is there. Raises Absent."""
        a = job.attempt
        wanted = {given["stage"] for given in json.loads(job.stage.body)["inputs"] if "stage" in given}
        products: dict[str, ProductRow] = {}
        if wanted:
            products = dict(self._store.products_of(a.run_id, wanted))
        urgent = "urgent" in rules_of(job.stage.rules).lane
        chosen, skipped = self._seen_in_places(job), sorted(wanted - products.keys())
        asked = inbound(self._world, job, products=products, skipped=skipped, chosen=chosen)
        return [replace(transfer, private=True, urgent=urgent, about=effect.key) for transfer in asked]

    def _seen_in_places(self, job: Job) -> dict[str, list[str]]:
        """Inputs that are read in place are there, as far as anybody here can look; and what `match` takes of those
        that are brought. Raises Absent."""
        chosen: dict[str, list[str]] = {}
        for given in self._from_places(job):
            here = in_place(self._world, given, job.attempt.site)
            if here is not None:
                side, path, _ = here
                if side in self._places and not self._listed(side, path):
                    raise Absent(f"{side}{path} is not there")
            elif given["match"] is not None:
                chosen[given["name"]] = self._matching(given)
        return chosen

    def _matching(self, given: Mapping[str, Any]) -> list[str]:
        for side, path in given["places"]:
            if side in self._places:
                found = [inner for inner in self._listed(side, path) if input_matches(given["match"], inner)]
                if not found:
                    raise Absent(f"nothing in {side}{path} matches {given['match']}")
                return found
        names = ", ".join(side for side, _ in given["places"])
        raise Absent(f"{names} cannot be listed from here yet, so `match` cannot be gone by")

    def _listed(self, side: str, path: str) -> list[str]:
        """Paths below a folder, or the name of a file, if it is there. Raises Absent."""
        folder, files = path.rstrip("/"), self._places[side]
        try:
            if path.endswith("/"):
                return [i.path[len(folder) + 1 :] for i in files.list(folder, recursive=True) if not i.is_dir]
            around = files.list(folder.rpartition("/")[0])
            return [folder] if any(info.path == folder and not info.is_dir for info in around) else []
        except SiteError as error:
            raise Absent(f"{side}{path} cannot be looked at: {error}") from error

    def _absent(self, effect: EffectRow, job: Job, reason: str, result: Result) -> None:
        """It may still come, as long as the document waits for it; else this attempt has no input."""
        until = max((self._waits_until(job, given) for given in self._from_places(job)), default=0)
        if self._clock() < until:
            result.again.append(again(effect, self._clock(), reason=f"waits: {reason}", pause=WAIT_PAUSE))
        else:
            result.finish(effect, job, staged=_not_staged(reason, Fault.STAGING))

    def _from_places(self, job: Job) -> list[Mapping[str, Any]]:
        site = self._world.sites[job.attempt.site].config
        body = body_for(json.loads(job.stage.body), site.name, site.profile)
        return [given for given in body["inputs"] if "places" in given]

    def _waits_until(self, job: Job, given: Mapping[str, Any]) -> int:
        return job.attempt.created_at + round(float(given.get("wait", 0)) * 1e6)

    def _forbidden(self, job: Job, transfers: Sequence[Transfer]) -> Reason | None:
        """Why the document does not want one of these moved, asked a second time now that it would be."""
        rule = rules_of(job.stage.rules).data
        if rule is None:
            return None
        sites = {name: setup.config for name, setup in self._world.sites.items()}
        for to in dict.fromkeys(transfer.destination_site for transfer in transfers):
            against = allowed(rule, to, side_facts(to, sites=sites, places=self._world.places))
            if against is not None:
                return against
        return None

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
        if self._may_still_come(job, failed):
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

    def _may_still_come(self, job: Job, failed: TransferStatus) -> bool:
        """Is it an input that is missing from its place, and waited for?"""
        if failed.fault != Fault.STAGING.value:
            return False
        waited = [given for given in self._from_places(job) if place_key(job, given) == failed.key]
        return any(self._clock() < self._waits_until(job, given) for given in waited)

    # -- stages that only move data ------------------------------------------------------------------------

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
                result.finish(effect, job, staged=_not_staged(reason, Fault.STAGING))
                continue
            if (against := self._forbidden(job, transfers)) is not None:
                result.finish(effect, job, staged=_against(against))
            else:
                asked = [replace(transfer, about=effect.key) for transfer in transfers]
                wanted.append((effect, job, asked, taken))
        # what an earlier attempt has failed at is begun anew, what it has brought stays
        anew = {t.key for effect, job, ts, _ in wanted if effect.tries > 1 or job.attempt.number > 1 for t in ts}
        states = self._move([transfer for _, _, transfers, _ in wanted for transfer in transfers], anew=anew)
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
        elif failed is None and (held := next((s for s in states.values() if s.state is TransferState.HELD), None)):
            self._hold(effect, job, held, result)
        elif failed is None:
            if _held(job):
                result.seen.append(seen(effect, job, staged=""))
            result.again.append(self._later(effect, states.values()))
        elif failed.fault == Fault.SITE.value and self._clock() - effect.created_at < DARK_PATIENCE * 1e6:
            reason = f"{failed.site or 'the broker'} gives no answer: {failed.reason}"
            result.again.append(again(effect, self._clock(), reason=reason, pause=DARK_PAUSE))
        else:
            fault = Fault.STAGING if failed.fault in ("", Fault.SITE.value) else Fault(failed.fault)
            result.finish(effect, job, staged=_not_staged(failed.reason, fault, site=failed.site))

    # -- checkpoints ---------------------------------------------------------------------------------------

    def ship(self, _: Site, batch: Batch) -> Result:
        """Bring a copy of a checkpoint to another site; what arrived verified is a checkpoint there."""
        result = Result()
        asked = [json.loads(effect.payload) for effect, _ in batch]
        transfers = [self._shipment(effect, job, one) for (effect, job), one in zip(batch, asked, strict=True)]
        against = {
            transfer.key: reason
            for transfer, (_, job) in zip(transfers, batch, strict=True)
            if (reason := self._forbidden(job, [transfer])) is not None
        }
        # what failed is not begun again: by then there is a newer one, and perhaps a better place for it
        states = self._move([t for t in transfers if t.key not in against], anew=())
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


def _not_staged(reason: str, fault: Fault, *, site: str = "") -> str:
    return compact({"ok": False, "reason": reason, "fault": fault.value, "site": site})


def _against(reason: Reason) -> str:
    return _not_staged(f"{reason.rule}: {reason.fact}", Fault.POLICY, site=reason.site)


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


def _ship_key(effect: EffectRow, job: Job, asked: dict[str, Any]) -> str:
    return f"{job.attempt.submit_key}-ship-{asked['generation']}-{asked['seq']}-{short_name(effect.site)}"


def _refusal(key: str, answer: Refused) -> TransferStatus:
    return TransferStatus(key=key, state=TransferState.FAILED, reason=answer.reason, fault=answer.fault)
