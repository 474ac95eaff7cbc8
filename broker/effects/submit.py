"""Submitting a job exactly as often as it must be, and ending it.

The key was committed before the first call. After any doubt (no clear answer, or a worker that died between call
and record) the order is: find by key; adopt what is found; where a complete listing shows nothing, wait, look again,
and only then submit again, under the same key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from broker.clock import Clock
from broker.effects.contacts import Contacts
from broker.effects.outcome import Result, again, compact, died_since, note_of
from broker.engine.start import FIND_FIRST
from broker.facts import World, rules_of
from broker.ids import submit_key
from broker.jobs import Job, NoLongerFits, fed_by, job_spec
from broker.limits import NO_LIMITS, Limits
from broker.operating.rows import FREEZE_SUBMITS
from broker.operating.standing import frozen, told
from broker.residency import Residency
from broker.spec import MissingSiteVariable
from broker.store.base import AttemptRow, EffectRow, EvidenceRow, Store
from connectors.base import Site
from connectors.errors import BadReply, CredentialError, Fault, SiteBusy, SiteError, SiteUnreachable
from connectors.harness import UnsafePlan, UnsupportedPattern
from connectors.model import Accepted, Doubtful, JobSpec, Listing, Refused, SubmitAnswer
from policies.evidence import CALL
from policies.model import Reason

WELL_EVERY = 10_000_000
"""Microseconds between two rows of evidence that a site takes jobs."""
LOOK_FOR_THAW = 5.0
"""Seconds after which it is asked again whether a freeze still holds."""
LOOKS_BEFORE_RESUBMIT = 2
"""Complete listings without the key, a settle time apart from the first doubt, before it is submitted again."""

Batch = Sequence[tuple[EffectRow, Job]]


class Submitter:
    """Performs `submit` and `cancel`."""

    def __init__(self, *, store: Store, world: World, clock: Clock, limits: Limits = NO_LIMITS) -> None:
        self._store, self._world, self._clock, self._limits = store, world, clock, limits
        self._contacts = Contacts(store)
        self._residency = Residency.of(store, world, clock)
        self._told_well: dict[str, int] = defaultdict(int)

    # -- submit --------------------------------------------------------------------------------------------

    def submit(self, site: Site, batch: Batch) -> Result:
        """Submit what is surely new; look the rest up by key first."""
        result = Result()
        fresh = [(effect, job) for effect, job in batch if not self._in_doubt(effect, job)]
        doubted = [(effect, job) for effect, job in batch if self._in_doubt(effect, job)]
        looked_up = self._find_first(site, doubted, result) if doubted else []
        # asked last, for looking up takes its time; and what was claimed after the decision that wanted it, a later one
        # may have let go
        if doubted or not site.inline:
            fresh = [(effect, job) for effect, job in fresh if self._wanted(effect, job, result)]
        fresh.extend(looked_up)
        if fresh and (allowed := self._thawed(site, fresh, result)):
            self._send(site, self._allowed(site, allowed, result), result)
        return result

    def _thawed(self, site: Site, batch: Batch, result: Result) -> Batch:
        """What may be sent: nothing, while an operator's freeze on submissions holds there. What was decided before it
        was said, and what was brought since, waits with it; what may be there already was looked up all the same."""
        now = self._clock()
        row = frozen(self._store.notices.open(now=now), FREEZE_SUBMITS, site.name, now=now)
        if row is None:
            return batch
        wait = min(LOOK_FOR_THAW, (row.ends_at - now) / 1e6)
        result.again += [again(one, now, reason=told(row), note={"clean": True}, pause=wait) for one, _ in batch]
        return ()

    def _allowed(self, site: Site, batch: Batch, result: Result) -> Batch:
        """As many as the site may be given now; the others are tried when it may be given more."""
        granted = self._limits.take(site.name, len(batch))
        for place, (effect, _) in enumerate(batch[granted.count :], 1):
            reason = "the site is given no more jobs per minute"
            wait = max(0.05, granted.wait * place)
            result.again.append(again(effect, self._clock(), reason=reason, note={"clean": True}, pause=wait))
        return batch[: granted.count]

    def _in_doubt(self, effect: EffectRow, job: Job) -> bool:
        """May the job exist already? It was tried before, or it may have been, before a backup was restored: what was
        decided under an older incarnation may have been carried out in the hours that are lost."""
        if effect.tries > 1 or effect.payload == FIND_FIRST:
            return True
        home, a = self._world.installation, job.attempt
        if not home.incarnation:
            return False
        number = a.number
        return a.submit_key != submit_key(home.id, home.incarnation, a.run_id, job.stage.path, number, job.stage.digest)

    def _send(self, site: Site, batch: Batch, result: Result) -> None:
        """The one call. Its failure is a doubt unless the error says that nothing can have happened."""
        specs: list[JobSpec] = []
        sent: list[tuple[EffectRow, Job]] = []
        for effect, job in batch:
            if effect.claim_until is not None and effect.claim_until <= self._clock():
                continue  # this worker stood still for too long: another one may be at it by now
            if (against := self._forbidden(effect, job)) is not None:  # a job reads in place what its site mounts
                result.finish(effect, job, answer=_refusal(f"{against.rule}: {against.fact}", Fault.SITE))
                continue
            try:
                specs.append(job_spec(self._world, completed(job, self._store, self._contacts)))
                sent.append((effect, job))
            except (UnsafePlan, UnsupportedPattern) as error:
                result.finish(effect, job, answer=_refusal(str(error), Fault.APPLICATION))
            except (MissingSiteVariable, NoLongerFits) as error:  # it was not so when the stage was placed
                result.finish(effect, job, answer=_refusal(str(error), Fault.SITE))
        try:
            answers: Mapping[str, SubmitAnswer | None] = site.submit(specs) if specs else {}
        except SiteError as error:
            answers = {spec.key: _answer_to(error) for spec in specs}
            self._tell(site.name, error, result)
        else:
            if specs:
                self._tell(site.name, None, result)
        for effect, job in sent:
            missing = Doubtful(reason="the site's answer left this job out")
            self._take(effect, job, answers.get(job.attempt.submit_key, missing), result)

    def _forbidden(self, effect: EffectRow, job: Job) -> Reason | None:
        """Why the stage's data may not be at that site, asked a second time now that the job would be there."""
        rule = rules_of(job.stage.rules).data
        return None if rule is None else self._residency.against(rule, effect.run_id, effect.site)

    def _tell(self, site: str, error: SiteError | None, result: Result) -> None:
        """How submitting fares there, as evidence: each failure, and now and then that it works. «Not now» and «not
        so» are answers; «not you» is the credential's."""
        now = self._clock()
        if error is None and now < self._told_well[site]:
            return
        capability = "credentials" if isinstance(error, CredentialError) else "submit"
        if error is None or isinstance(error, (CredentialError, SiteUnreachable, BadReply)):
            self._told_well[site] = 0 if error else now + WELL_EVERY
            detail = str(error)[:300] if error else "takes jobs"
            result.evidence.append(
                EvidenceRow(site, now, capability, ok=error is None, latency_us=0, detail=detail, source=CALL)
            )

    def _take(self, effect: EffectRow, job: Job, answer: SubmitAnswer | None, result: Result) -> None:
        now = self._clock()
        if isinstance(answer, Accepted):
            self._accept(effect, job, answer.native_id, result)
        elif isinstance(answer, Refused):
            result.finish(effect, job, answer=compact({"refused": answer.reason, "fault": answer.fault}))
        elif answer is None:  # busy: certainly nothing happened
            result.again.append(again(effect, now, reason="the site is busy", note={"clean": True}))
        else:
            reason = answer.reason if isinstance(answer, Doubtful) else "the site will say later which job it became"
            note = {"doubt_since": now, "looks": 0}  # a new doubt, whatever had become of an older one
            result.again.append(again(effect, now, reason=reason, note=note))

    def _accept(self, effect: EffectRow, job: Job, native_id: str, result: Result) -> None:
        answer = compact({"accepted": native_id, "at": self._clock()})
        result.finish(effect, job, answer=answer, native_id=native_id)

    def _find_first(self, site: Site, batch: Batch, result: Result) -> list[tuple[EffectRow, Job]]:
        """Look the keys up; answers with those that may be submitted (again)."""
        listing = site.find([job.attempt.submit_key for _, job in batch])
        found = {item.key: item for item in listing.items}
        clear: list[tuple[EffectRow, Job]] = []
        for effect, job in batch:
            item = found.get(job.attempt.submit_key)
            if item is not None:
                self._accept(effect, job, item.native_id, result)
            elif self._may_send(effect, job, listing, result):
                clear.append((effect, job))
        return clear

    def _may_send(self, effect: EffectRow, job: Job, listing: Listing, result: Result) -> bool:
        """Nothing was found under the key. Is that believed, and is the job still wanted?"""
        now, note = self._clock(), {} if died_since(effect) else note_of(effect)
        settle = round(self._world.sites[effect.site].config.settle * 1e6)
        if not note.get("clean"):
            since = int(str(note.setdefault("doubt_since", now)))
            looks = int(str(note.get("looks", 0))) + (1 if listing.complete else 0)
            note["looks"] = looks
            if looks < LOOKS_BEFORE_RESUBMIT or now - since < settle:
                reason = "not found yet" if listing.complete else "the site's listing was not complete"
                pause = max(0.05, settle / 1e6 / 2)
                result.again.append(again(effect, now, reason=reason, note=note, pause=pause))
                return False
        return self._wanted(effect, job, result)

    def _wanted(self, effect: EffectRow, job: Job, result: Result) -> bool:
        """Does anybody still want this job, which surely does not exist? If not, its attempt is dead."""
        current = self._current(job)
        if current is None or current.orphan or current.cancel_requested_at is not None or not current.open:
            result.finish(effect, job, dead=compact({"how": "never submitted"}))
            return False
        return True

    def _current(self, job: Job) -> AttemptRow | None:
        """The attempt as it is now: a decision may have let it go since the effect was written."""
        a = job.attempt
        return next((row for row in self._store.attempts(a.run_id, a.n) if row.number == a.number), None)

    # -- cancel --------------------------------------------------------------------------------------------

    def cancel(self, site: Site, batch: Batch) -> Result:
        """End jobs, again and again until the site confirms that they are dead."""
        result = Result()
        ended = site.cancel([job.attempt.submit_key for _, job in batch])
        for effect, job in batch:
            if ended.get(job.attempt.submit_key):
                result.finish(effect, job, dead=compact({"how": "canceled and confirmed"}))
            else:
                result.again.append(again(effect, self._clock(), reason="asked, not yet confirmed"))
        return result


def completed(job: Job, store: Store, contacts: Contacts) -> Job:
    """The job with what only the store knows of it, as its site is asked for it. Raises StoreError."""
    run_id, feeders = job.attempt.run_id, fed_by(job)
    products = store.products_of(run_id, feeders) if feeders else {}
    return replace(job, contact=contacts.of(run_id), products=products)


def _refusal(reason: str, fault: Fault) -> str:
    return compact({"refused": reason, "fault": fault.value})


def _answer_to(error: SiteError) -> SubmitAnswer | None:
    if isinstance(error, SiteBusy):
        return None
    if error.effect_possible:
        return Doubtful(reason=str(error))
    return Refused(reason=str(error), fault=error.fault.value)
