"""What a task's state means for its transfer, and doing it: hold, give up, verify, publish, settle."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from connectors.errors import CredentialError, Fault, SiteError
from connectors.globus.causes import CORRUPT, Cause, cause_of
from connectors.globus.errand import Errand, Hold
from connectors.globus.judging import Judgement, Verdict, judge
from connectors.globus.note import Note, Phase
from connectors.globus.publishing import Lost, NotYet, Publishing, sweep
from connectors.globus.service import TaskService
from connectors.globus.settling import Digests, Settling
from connectors.globus.sides import Sides
from connectors.globus.task import Options, Task
from connectors.globus.verifying import Checked, check
from connectors.globus_api.api import GlobusApi
from connectors.globus_api.faults import LOGIN, NeedsLogin
from connectors.globus_api.storage import Storage
from connectors.registry import Clock

RECHECK = 60.0
"""Seconds between two looks for why something is held."""
MOST_LOOKED_FOR = 20
"""Sources that are looked for, when something was not found."""
_FAULTS = {
    Cause.SITE: Fault.SITE,
    Cause.AUTH: Fault.CREDENTIAL,
    Cause.DATA: Fault.STAGING,
    Cause.CAPACITY: Fault.QUOTA,
    Cause.PERMISSION: Fault.SITE,
    Cause.UNKNOWN: Fault.SITE,
}


class Following:
    """Brings an errand as far as its task has come. Whoever calls holds the errand's lock."""

    def __init__(
        self,
        api: GlobusApi,
        *,
        service: TaskService,
        sides: Sides,
        options: Options,
        clock: Clock,
        digests: Digests,
        hold: Callable[[SiteError], Hold],
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api, self._service, self._sides, self._hold = api, service, sides, hold
        self._options, self._clock, self._digests, self._elapsed = options, clock, digests, elapsed

    def advance(self, errand: Errand, task: Task | None) -> None:
        """`task`: as it was just told; None: Globus did not tell of it. Raises SiteUnreachable, SiteBusy of Globus
        itself: the errand stands, and may be advanced again."""
        if errand.note.phase is Phase.PUBLISHING:
            self.publish(errand)
            return
        if task is None:
            task = self._service.task(errand.note.task_id)
        if task is None:
            self._settle(errand)
            return
        errand.moved, errand.files, errand.faults = task.bytes_transferred, task.files_transferred, task.faults
        if task.open:
            errand.retrying = task.retrying
        judged = judge(task, errand.history, self._clock(), patience=self._options.patience)
        errand.history, errand.detail = judged.history, judged.reason or task.nice_status
        if errand.giving_up is not None and task.open:
            self.give_up(errand)
            return
        {
            Verdict.GOING: self._going,
            Verdict.ARRIVED: self._arrived,
            Verdict.ENDED: self._ended,
            Verdict.HELD: self._held,
            Verdict.STALLED: self._stalled,
            Verdict.HOPELESS: self._stalled,
        }[judged.verdict](errand, task, judged)

    # -- on its way ----------------------------------------------------------------------------------------

    def _going(self, errand: Errand, task: Task, judged: Judgement) -> None:  # noqa: ARG002
        errand.hold = None

    def _held(self, errand: Errand, task: Task, judged: Judgement) -> None:
        now = self._clock()
        if errand.hold is not None and now < errand.hold.until:
            return
        until = now + round(RECHECK * 1e6)
        if task.paused:
            said = ""
            with suppress(SiteError):
                said = self._service.pause_reason(task.task_id)
            reason = f"{judged.reason}{f': {said}' if said else ''}"
            errand.hold = Hold(reason=reason, help=f"globus task pause-info {task.task_id}", until=until)
            return
        needs = self._what_is_needed(errand)
        usual = LOGIN if self._api.identity.person else f"{LOGIN} --service"
        reason = f"{judged.reason}{f': {needs}' if needs else ''}"
        errand.hold = Hold(reason=reason, help=needs.help if needs else usual, until=until)

    def _what_is_needed(self, errand: Errand) -> NeedsLogin | None:
        """What a collection says when it is asked again now."""
        for end in (errand.plan.source, errand.plan.destination):
            try:
                Storage(self._api, end.collection).list(end.top, limit=1)
            except NeedsLogin as error:
                return error
            except SiteError:
                continue
        return None

    def _stalled(self, errand: Errand, task: Task, judged: Judgement) -> None:
        errand.hold = None
        errand.giving_up = (judged.reason, task.nice_status if judged.verdict is Verdict.HOPELESS else "")
        self.give_up(errand)

    def give_up(self, errand: Errand) -> bool:
        """Cancel the task, and see that it has ended; False: it has not yet."""
        reason, code = errand.giving_up or ("given up", "")
        self._service.cancel(errand.note.task_id)
        errand.step("canceled at Globus")
        task = self._service.task(errand.note.task_id)
        if task is not None and task.open:
            errand.detail = f"being canceled: {reason}"
            return False
        if task is not None and task.status == "SUCCEEDED":
            errand.giving_up = None
            self._verify(errand, task)
        elif code:
            self._fail(errand, code, reason)
        else:
            errand.fail(f"stalled: {reason}", fault=Fault.SITE.value, site=self._sides.at_fault(errand.plan))
            self.clean(errand.note, errand.key)
        return True

    # -- at its end ----------------------------------------------------------------------------------------

    def _arrived(self, errand: Errand, task: Task, judged: Judgement) -> None:  # noqa: ARG002
        self._verify(errand, task)

    def _ended(self, errand: Errand, task: Task, judged: Judgement) -> None:  # noqa: ARG002
        """Its fatal error says why, else the newest of its troubles."""
        code, words = task.fatal_code, task.fatal_words
        troubles = self._service.troubles(task.task_id)
        if cause_of(code) in {None, Cause.UNKNOWN} and troubles:
            code, words = troubles[0]
        self._fail(errand, code, words)

    def _fail(self, errand: Errand, code: str, words: str) -> None:
        cause = cause_of(code) or Cause.UNKNOWN
        plan = errand.plan
        bad: tuple[str, ...] = ()
        site, reason = "", f"{code or 'it was ended at Globus'}{f': {words}' if words else ''}"
        if cause is Cause.DATA:
            site = plan.source.side
            bad = self._missing(errand) if code == "FILE_NOT_FOUND" else self._named(errand)
            what = "corrupt" if code in CORRUPT else "source missing" if code == "FILE_NOT_FOUND" else "unfit"
            reason = f"{what}: {', '.join(bad) or 'some file'} ({reason})"
        elif cause is Cause.CAPACITY:
            site = plan.destination.side
        else:
            site = self._sides.at_fault(plan)
        errand.fail(reason, fault=_FAULTS[cause].value, site=site, bad=bad)
        self.clean(errand.note, errand.key)

    def _missing(self, errand: Errand) -> tuple[str, ...]:
        """Those of the sources that did not arrive which are really not there."""
        with suppress(SiteError):
            return tuple(self._sides.missing(errand.plan, self._not_carried(errand)[:MOST_LOOKED_FOR]))
        return ()

    def _named(self, errand: Errand) -> tuple[str, ...]:
        """Those of the items that the task's troubles speak of (their words are a hint, and decide nothing), or else
        those that did not arrive, where Globus was busy with no others."""
        with suppress(SiteError):
            words = " ".join(words for _, words in self._service.troubles(errand.note.task_id))
            named = [piece for piece in errand.plan.pieces if piece.source in words or piece.landing in words]
            if named:
                return tuple(piece.item.source for piece in named)
            left = self._not_carried(errand)
            return tuple(left) if len(left) <= errand.retrying else ()
        return ()

    def _not_carried(self, errand: Errand) -> list[str]:
        carried = {"/" + row.destination.strip("/") for row in self._service.arrived(errand.note.task_id)}
        return [piece.item.source for piece in errand.plan.pieces if piece.landing not in carried]

    def _verify(self, errand: Errand, task: Task) -> None:
        self._take(errand, check(errand.plan, task, self._service.arrived(task.task_id)))

    def _settle(self, errand: Errand) -> None:
        plan = errand.plan
        source, destination = (Storage(self._api, end.collection) for end in (plan.source, plan.destination))
        found = Settling(plan, source=source, destination=destination, digests=self._digests).check()
        if found.right:
            self._take(errand, found)
            return
        reason = f"Globus does not know the task any more, and {found.problems[0]}"
        errand.fail(reason, fault=Fault.STAGING.value, site=plan.destination.side)
        self.clean(errand.note, errand.key)

    def _take(self, errand: Errand, found: Checked) -> None:
        """What has landed is right, or it is not."""
        errand.hold = None
        if not found.right:
            more = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
            reason = f"{found.problems[0]}{more}"
            errand.fail(reason, fault=Fault.STAGING.value, site=errand.plan.source.side, bad=tuple(found.bad))
            self.clean(errand.note, errand.key)
            return
        errand.moved, errand.files = found.bytes, found.files
        whole = replace(errand.note, bytes=found.bytes, files=found.files, faults=errand.faults)
        if errand.plan.transfer.private:
            errand.keep("done", replace(whole, phase=Phase.DONE))
            return
        errand.keep("verified", replace(whole, phase=Phase.PUBLISHING))
        self.publish(errand)

    def publish(self, errand: Errand) -> None:
        """Rename what is left, as far as the time goes."""
        errand.moved, errand.files = errand.note.bytes, errand.note.files
        storage = Storage(self._api, errand.plan.destination.collection)
        try:
            Publishing(errand, storage, elapsed=self._elapsed).publish()
        except NotYet:
            errand.detail = f"publishing: {len(errand.renamed)} of {len(errand.plan.pieces)} items have their names"
            return
        except CredentialError as error:
            errand.hold = self._hold(error)
            return
        except (Lost, SiteError) as error:
            if isinstance(error, SiteError) and error.transient:
                errand.detail = f"verified, not all published: {error}"
            else:
                self._unpublished(errand, error)
            return
        errand.hold = None
        errand.keep("done", replace(errand.note, phase=Phase.DONE))
        self.clean(errand.note, errand.key)

    def _unpublished(self, errand: Errand, error: Exception) -> None:
        """What is at the names is in the way of it, or was taken away. What is published stays: it was verified."""
        done = len(errand.renamed)
        more = f" ({done} of {len(errand.plan.pieces)} items have their names)" if done else ""
        side = errand.plan.destination.side
        errand.fail(f"it cannot be published: {error}{more}", fault=Fault.STAGING.value, site=side)
        self.clean(errand.note, errand.key)

    def clean(self, note: Note, key: str) -> None:
        """Begin to delete what an attempt has left behind. Where that fails it stays: it is under a name of its own."""
        if note.incoming and note.task_id:
            with suppress(SiteError):
                sweep(Storage(self._api, note.collections[1]), note.incoming, key)
