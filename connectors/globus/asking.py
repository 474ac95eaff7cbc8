"""Asking Globus for a task, once for each attempt, whatever is lost on the way.

    submission id from Globus  →  kept in the notes  →  POST under it  →  task id kept in the notes

Repeating the POST under the same submission id leads to the same task, so every doubt is settled by repeating it. An
id that Globus refuses (too old) can have been used: the task is looked for by its label, and only where there is none
a new attempt begins, with a folder of its own.
"""

from __future__ import annotations

from dataclasses import replace

from connectors.errors import CredentialError, Fault, QuotaError, RequestRefused, SiteBusy, SiteError, SiteUnreachable
from connectors.globus.errand import Errand, Hold
from connectors.globus.note import Note, Phase, attempt_key
from connectors.globus.plan import Plan, label_mark, plan_digest
from connectors.globus.service import TaskService
from connectors.globus.sides import Sides
from connectors.globus.task import Options, request_of
from connectors.globus_api.faults import CollectionAway, CollectionPaused, Gone, NotAllowed, Refusal
from connectors.globus_api.identity import Identity
from connectors.model import Accepted, SubmitAnswer, Ticket
from connectors.registry import Clock

AGAIN = 60.0
"""Seconds between two tries of what waits for a person."""


class StaleId(Exception):
    """Globus does not take this attempt's submission id, and has no task under its label: a new attempt is due."""


class Asking:
    """Begins attempts."""

    def __init__(
        self, *, service: TaskService, sides: Sides, identity: Identity, options: Options, clock: Clock
    ) -> None:
        self._service, self._sides, self._identity = service, sides, identity
        self._options, self._clock = options, clock

    def first_note(self, plan: Plan) -> Note:
        """A new attempt's note, with a submission id; not kept yet. Raises SiteError: nothing was begun."""
        return Note(
            digest=plan_digest(plan.transfer),
            submission_id=self._service.submission_id(),
            attempt=plan.attempt,
            at=self._clock(),
            collections=plan.collections,
            incoming="" if plan.transfer.private else plan.incoming,
        )

    def again(self, errand: Errand, plan: Plan) -> None:
        """Let the errand be a later attempt: two processes that begin one at once agree on the submission id."""
        fresh = self.first_note(plan)
        kept = errand.notes.put_first(attempt_key(plan.transfer.key, plan.attempt), fresh.submission_id)
        errand.step("next id noted")
        errand.begin(plan)
        errand.keep("noted", replace(fresh, submission_id=kept))

    def post(self, errand: Errand) -> SubmitAnswer:
        """Ask for the task, or hold the errand, or fail it. Raises StaleId; SiteUnreachable, SiteBusy: Globus itself is
        away, and the errand stands as it stood."""
        data = request_of(errand.plan, self._options, submission_id=errand.note.submission_id, now=self._clock())
        try:
            task_id = self._service.submit(data, errand.plan.collections)
        except (CredentialError, CollectionPaused) as error:
            return self._held(errand, error)
        except CollectionAway as error:
            return self._away(errand, error)
        except (SiteUnreachable, SiteBusy):
            raise
        except RequestRefused as error:
            return self._refused(errand, error)
        except QuotaError as error:
            errand.fail(str(error), fault=Fault.QUOTA.value)
            return Ticket(ticket=errand.note.submission_id)
        errand.step("posted")
        return self._taken(errand, task_id, adopted=False)

    def found(self, errand: Errand) -> bool:
        """Is there a task under this attempt's label? It is taken over then."""
        task_id = self._service.by_label(label_mark(errand.key, errand.note.attempt))
        if task_id:
            self._taken(errand, task_id, adopted=True)
        return bool(task_id)

    def _taken(self, errand: Errand, task_id: str, *, adopted: bool) -> Accepted:
        errand.hold = None
        errand.keep("task noted", replace(errand.note, task_id=task_id, phase=Phase.MOVING))
        return Accepted(native_id=task_id, adopted=adopted)

    def hold(self, error: SiteError) -> Hold:
        """Until a person may have helped."""
        until = self._clock() + round(AGAIN * 1e6)
        return Hold(reason=str(error), help=error.help, until=until, stamp=self.stamp())

    def stamp(self) -> object:
        """Of the login that there is; None: there is none."""
        try:
            return self._identity.stamp()
        except CredentialError:
            return None

    def _held(self, errand: Errand, error: SiteError) -> Ticket:
        errand.hold = self.hold(error)
        return Ticket(ticket=errand.note.submission_id)

    def _away(self, errand: Errand, error: SiteError) -> Ticket:
        """Globus has looked and said no: there is no task."""
        errand.fail(str(error), fault=Fault.SITE.value, site=self._sides.at_fault(errand.plan))
        return Ticket(ticket=errand.note.submission_id)

    def _refused(self, errand: Errand, error: SiteError) -> SubmitAnswer:
        if self.found(errand):
            return Accepted(native_id=errand.note.task_id, adopted=True)
        if isinstance(error, NotAllowed | Gone):
            errand.fail(str(error), fault=Fault.SITE.value, site=self._sides.at_fault(errand.plan))
            return Ticket(ticket=errand.note.submission_id)
        if isinstance(error, Refusal) and _is_about_the_id(error):
            raise StaleId(str(error)) from error
        errand.fail(str(error), fault=Fault.STAGING.value)
        return Ticket(ticket=errand.note.submission_id)


def _is_about_the_id(error: Refusal) -> bool:
    return "submission" in f"{error.code} {error}".casefold()
