"""The mover between Globus collections: one transfer is one task, verified, then published by rename.

What must outlive this process is in the notes (see `connectors.globus.note`); the items of a transfer are not: a mover
that was restarted answers UNKNOWN for what is under way, and asked again under the same key takes its task over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from connectors.base import Notes
from connectors.errors import CredentialError, Fault, SiteError
from connectors.globus.asking import Asking, StaleId
from connectors.globus.errand import Errand, Hold, Step, no_step, status_of
from connectors.globus.following import Following
from connectors.globus.note import Note, Phase, Unreadable, attempt_key, note_from, note_key
from connectors.globus.plan import Plan, make_plan, plan_digest, refusal
from connectors.globus.service import TaskService
from connectors.globus.settling import Digests
from connectors.globus.sides import Sides
from connectors.globus.task import Options
from connectors.globus_api.api import GlobusApi
from connectors.globus_api.faults import GLOBUS
from connectors.globus_api.identity import LONGEST_POST
from connectors.globus_api.storage import Storage
from connectors.model import (
    Accepted,
    Evidence,
    Refused,
    SubmitAnswer,
    Ticket,
    Transfer,
    TransferState,
    TransferStatus,
)
from connectors.registry import Clock, PlaceConfig, SiteConfig

MOST_ATTEMPTS = 1000
RETRY_IDS = 3
"""New submission ids that one call takes, when Globus refuses them."""
_CANCELED = "canceled"


class GlobusMover:
    """Thread-safe. Also `connectors.base.Able` and a source of evidence about Globus itself."""

    def __init__(
        self,
        api: GlobusApi,
        *,
        configs: Mapping[str, SiteConfig],
        places: Mapping[str, PlaceConfig],
        notes: Notes,
        clock: Clock,
        options: Options,
        digests: Digests,
        active: int = 3,
        unable: str = "",
        elapsed: Callable[[], float] = time.monotonic,
        step: Step = no_step,
    ) -> None:
        """`unable`: why nothing at all can be carried, as a sentence. `step` is told after everything that leaves a
        trace, for tests that stop there."""
        self.slots = active
        """Tasks that Globus works at, at a time; more than these wait there."""
        self._api, self._configs, self._places, self._unable = api, configs, places, unable
        self._notes, self._clock, self._elapsed, self._step = notes, clock, elapsed, step
        self._service, self._sides = TaskService(api), Sides(api)
        self._asking = Asking(
            service=self._service, sides=self._sides, identity=api.identity, options=options, clock=clock
        )
        self._following = Following(
            api,
            service=self._service,
            sides=self._sides,
            options=options,
            clock=clock,
            digests=digests,
            hold=self._asking.hold,
            elapsed=elapsed,
        )
        self._lock = threading.Lock()
        self._errands: dict[str, Errand] = {}
        self._renames: dict[str, bool] = {}

    # -- the port ------------------------------------------------------------------------------------------

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        """Begin. Ticket: it is kept here, and its status says what it waits for (HELD) or why it failed at once.

        Raises SiteUnreachable, SiteBusy with the site "globus" when Globus itself does not answer. What was asked for
        so far is kept in the notes; repeating all of them under the same keys is harmless.
        """
        return {transfer.key: self._begin(transfer) for transfer in transfers}

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        """One question to Globus for all of them, and a few more for each that has come to its end.

        Raises SiteUnreachable, SiteBusy with the site "globus" when Globus itself does not answer.
        """
        errands, found = self._known(keys)
        tasks = {}
        ids = [e.note.task_id for e in errands if e.note.task_id and e.note.phase is Phase.MOVING]
        try:
            tasks = dict(self._service.tasks(ids))
        except CredentialError as error:
            for errand in errands:
                errand.hold = self._hold(error)
                found[errand.key] = errand.status()
            return found
        for errand in errands:
            if errand.lock.acquire(blocking=False):  # else another thread is at it, and this is how it stands
                try:
                    self._advance(errand, tasks)
                finally:
                    errand.lock.release()
            found[errand.key] = errand.status()
            self._drop_ended(errand)
        return found

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """True: its task is surely at its end, or there never was one. What it had begun to publish is published."""
        return {key: self._cancel(key) for key in keys}

    def close(self) -> None:
        self._api.close()

    # -- beside the port -----------------------------------------------------------------------------------

    def refuses(self, transfer: Transfer) -> str:
        """Why it could not be carried, as a sentence; empty: it could. Asks nobody."""
        told, _ = self._refusal(transfer)
        if told or transfer.private:
            return told
        destination = self._plan(transfer, 1).destination
        return self._cannot_rename(destination.collection)

    def probe(self) -> Sequence[Evidence]:
        """Is there a token, and does the service answer with it? Never raises."""
        began, now = self._elapsed(), self._clock()

        def evidence(capability: str, *, ok: bool, detail: str = "") -> Evidence:
            latency = self._elapsed() - began
            return Evidence(site=GLOBUS, capability=capability, ok=ok, at=now, latency=latency, detail=detail)

        try:
            self._service.tasks(["00000000-0000-0000-0000-000000000000"])
        except CredentialError as error:
            return [evidence("credentials", ok=False, detail=f"{error}; `{error.help}`")]
        except SiteError as error:
            return [evidence("transfer", ok=False, detail=str(error))]
        return [evidence("credentials", ok=True), evidence("transfer", ok=True)]

    def forget(self, keys: Sequence[str]) -> None:
        """Drop the notes of transfers whose end is kept elsewhere. Asked for again under such a key, all is moved
        again."""
        ended = [key for key, note in self._noted(keys).items() if note.ended]
        with self._lock:
            for key in ended:
                self._errands.pop(key, None)
        attempts = [attempt_key(key, n) for key in ended for n in range(2, self._noted([key])[key].attempt + 1)]
        self._notes.drop([*map(note_key, ended), *attempts])

    # -- beginning -----------------------------------------------------------------------------------------

    def _begin(self, transfer: Transfer) -> SubmitAnswer:
        told, askers = self._refusal(transfer)
        if told:
            return Refused(reason=told, fault=(Fault.APPLICATION if askers else Fault.SITE).value)
        try:
            errand = self._errand(transfer)
        except Unreadable as error:
            return Refused(reason=f"{error}; `crossfade` of another version has written it")
        except CredentialError as error:
            return self._held_before(transfer, error)
        if errand is None:
            return Refused(reason=f"key {transfer.key} belongs to another transfer")
        with errand.lock:
            if errand.note.phase is Phase.DONE or (errand.note.task_id and not errand.note.ended):
                return Accepted(native_id=errand.note.task_id, adopted=True)
            if not transfer.private and (refused := self._looked_for_rename(errand)):
                return Refused(reason=refused)
            if errand.note.phase is Phase.FAILED:
                try:
                    self._asking.again(errand, self._plan(transfer, errand.note.attempt + 1))
                except CredentialError as error:
                    errand.hold = self._hold(error)
                    return Ticket(ticket=errand.note.submission_id)
            return self._post(errand)

    def _refusal(self, transfer: Transfer) -> tuple[str, bool]:
        told, askers = refusal(transfer, configs=self._configs, places=self._places)
        return (told, askers) if told else (self._unable, False)

    def _errand(self, transfer: Transfer) -> Errand | None:
        """This process's own, or a new one over the note that is kept; None: the key is another transfer's."""
        digest = plan_digest(transfer)
        with self._lock:
            known = self._errands.get(transfer.key)
        if known is not None:
            return known if known.note.digest in {digest, ""} else None
        note = self._noted([transfer.key]).get(transfer.key)
        if note is None:
            fresh = self._asking.first_note(self._plan(transfer, 1))
            self._step("id fetched")
            note = note_from(self._notes.put_first(note_key(transfer.key), fresh.text()))
            self._step("noted")
        if note.digest != digest:
            return None
        errand = Errand(plan=self._plan(transfer, note.attempt), note=note, notes=self._notes, step=self._step)
        with self._lock:
            return self._errands.setdefault(transfer.key, errand)

    def _held_before(self, transfer: Transfer, error: CredentialError) -> Ticket:
        """Not even a submission id is to be had. Nothing is noted; the status tells it, and tries again."""
        nothing = Note(digest="", submission_id="")
        errand = Errand(plan=self._plan(transfer, 1), note=nothing, notes=self._notes, step=self._step)
        errand.hold = self._hold(error)
        with self._lock:
            self._errands.setdefault(transfer.key, errand)
        return Ticket(ticket="")

    def _post(self, errand: Errand) -> SubmitAnswer:
        for _ in range(RETRY_IDS):
            try:
                return self._asking.post(errand)
            except StaleId:
                self._asking.again(errand, self._plan(errand.plan.transfer, errand.note.attempt + 1))
        errand.fail("Globus takes none of its own submission ids", fault=Fault.SITE.value)
        return Ticket(ticket=errand.note.submission_id)

    def _plan(self, transfer: Transfer, attempt: int) -> Plan:
        return make_plan(transfer, attempt=min(attempt, MOST_ATTEMPTS), configs=self._configs, places=self._places)

    def _looked_for_rename(self, errand: Errand) -> str:
        """Before anything is moved: could it be published there? What cannot be asked now counts as yes."""
        end = errand.plan.destination
        if end.collection not in self._renames:
            try:
                self._renames[end.collection] = Storage(self._api, end.collection).can_rename(end.top)
            except SiteError:
                return ""
        return self._cannot_rename(end.collection)

    def _cannot_rename(self, collection: str) -> str:
        if self._renames.get(collection, True):
            return ""
        return f"the storage behind collection {collection} cannot rename: verified files cannot be published there"

    # -- following -----------------------------------------------------------------------------------------

    def _known(self, keys: Sequence[str]) -> tuple[list[Errand], dict[str, TransferStatus]]:
        """The errands of this process, and how those stand that it has none of."""
        with self._lock:
            errands = [self._errands[key] for key in dict.fromkeys(keys) if key in self._errands]
        mine = {errand.key for errand in errands}
        rest = [key for key in keys if key not in mine]
        notes = self._noted(rest)
        found = {
            key: status_of(key, notes[key])
            if key in notes and notes[key].ended
            else TransferStatus(key=key, state=TransferState.UNKNOWN)
            for key in rest
        }
        return errands, found

    def _noted(self, keys: Sequence[str]) -> dict[str, Note]:
        """Raises Unreadable."""
        texts = self._notes.get([note_key(key) for key in keys]) if keys else {}
        return {key: note_from(texts[note_key(key)]) for key in keys if note_key(key) in texts}

    def _advance(self, errand: Errand, tasks: Mapping[str, object]) -> None:
        if errand.note.ended or (errand.note.phase is not Phase.MOVING and self._waits(errand)):
            return
        try:
            if not errand.note.task_id:
                self._ask_again(errand)
            else:
                self._following.advance(errand, tasks.get(errand.note.task_id))  # type: ignore[arg-type]
        except CredentialError as error:
            errand.hold = self._hold(error)
        except SiteError as error:
            errand.detail = str(error)

    def _hold(self, error: SiteError) -> Hold:
        return self._asking.hold(error)

    def _waits(self, errand: Errand) -> bool:
        """Is it too early to try again? Not where somebody has logged in since."""
        hold = errand.hold
        return hold is not None and self._clock() < hold.until and hold.stamp == self._asking.stamp()

    def _ask_again(self, errand: Errand) -> None:
        """It has no task yet, as far as is known here: once a person may have helped, or after a doubt."""
        if errand.note.submission_id:
            self._post(errand)
            return
        with self._lock:  # it was held before there was a note; begin as if it were asked for now
            self._errands.pop(errand.key, None)
        self._begin(errand.plan.transfer)
        with self._lock:
            now = self._errands.get(errand.key)
        if now is not None:
            errand.note, errand.hold, errand.plan = now.note, now.hold, now.plan

    def _drop_ended(self, errand: Errand) -> None:
        """What has ended is in its note."""
        if errand.note.ended:
            with self._lock:
                if self._errands.get(errand.key) is errand:
                    del self._errands[errand.key]

    # -- canceling -----------------------------------------------------------------------------------------

    def _cancel(self, key: str) -> bool:
        with self._lock:
            errand = self._errands.get(key)
        if errand is None:
            note = self._noted([key]).get(key)
            return note is None or note.ended or self._cancel_noted(key, note)
        with errand.lock:
            if errand.note.ended:
                return True
            if not errand.note.submission_id:
                with self._lock:
                    self._errands.pop(key, None)
                return True
            return self._cancel_errand(errand)

    def _cancel_errand(self, errand: Errand) -> bool:
        if errand.note.phase is Phase.PUBLISHING:
            self._following.publish(errand)
            return errand.note.ended
        if not errand.note.task_id and not self._asking.found(errand):
            return self._fenced(errand)
        self._service.cancel(errand.note.task_id)
        task = self._service.task(errand.note.task_id)
        if task is not None and task.open:
            return False
        errand.fail(_CANCELED, fault="")
        self._following.clean(errand.note, errand.key)
        return True

    def _fenced(self, errand: Errand) -> bool:
        """Nobody has a task for it. Whoever was asking for one at this moment has surely ended after a while."""
        if not self._is_old(errand.note):
            return False
        errand.fail(_CANCELED, fault="")
        return True

    def _cancel_noted(self, key: str, note: Note) -> bool:
        """Of a transfer that this process was not told of: its note knows enough, unless it was being published."""
        if note.phase is Phase.PUBLISHING:
            return False
        task_id = note.task_id or self._service.by_label(f"crossfade {key}.{note.attempt}")
        if not task_id and not self._is_old(note):
            return False
        if task_id:
            self._service.cancel(task_id)
            task = self._service.task(task_id)
            if task is not None and task.open:
                return False
        ended = replace(note, task_id=task_id, phase=Phase.FAILED, reason=_CANCELED)
        self._notes.put(note_key(key), ended.text())
        self._step("failed")
        self._following.clean(ended, key)
        return True

    def _is_old(self, note: Note) -> bool:
        return self._clock() - note.at > LONGEST_POST * 1e6
