"""A machine behind Slurm's REST API: the ports. Keeps no state per job; numbers are no identity, names and comments
are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from connectors.base import SiteFiles
from connectors.errors import SiteError, SiteUnreachable
from connectors.files.held import HoldsFiles
from connectors.model import Evidence, Finding, JobSpec, Listing, Script, SubmitAnswer
from connectors.olcf.api import SlurmRest
from connectors.olcf.checking import Checking
from connectors.olcf.health import Health
from connectors.olcf.listing import merged, ours
from connectors.olcf.options import RestOptions
from connectors.olcf.request import body_of, script_of
from connectors.olcf.submitting import Submitting
from connectors.registry import Clock, SiteConfig
from connectors.slurm import SlurmJob

_MOST_NAMES = 100
"""Names in one question to the accounting: an address may have some thousand characters."""
_BACK = 14 * 86_400 * 1_000_000
"""µs that the accounting is asked to look back."""


class RestSite(HoldsFiles[SiteFiles]):
    """`connectors.base.Site`, Preparable, Scripted and Checkable."""

    inline = False

    def __init__(
        self, config: SiteConfig, *, options: RestOptions, api: SlurmRest, files: SiteFiles, clock: Clock
    ) -> None:
        self.name = config.name
        self.claim = options.claim
        self._config = config
        self._options = options
        self._api = api
        self.files = files
        self._clock = clock
        self._submitting = Submitting(
            api=api, files=files, held=self._held, body=lambda spec: body_of(spec, config, options)
        )
        self._health = Health(api=api, config=config, options=options, files=files, clock=clock)
        self._checking = Checking(site=self, api=api, config=config, options=options, health=self._health, clock=clock)

    # -- jobs ----------------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        return self._submitting.submit(specs) if specs else {}

    def find(self, keys: Sequence[str]) -> Listing:
        """The queue, and the accounting where there is one."""
        return self._listing(keys, always=True)

    def status(self, keys: Sequence[str]) -> Listing:
        """One look at the queue, however many keys; the accounting, where there is one, only for those that left it."""
        return self._listing(keys, always=False)

    def list_mine(self, since: int) -> Listing:
        now = self._clock()
        queue, complete = self._api.jobs()
        known: Sequence[SlurmJob] = ()
        try:
            told = self._api.accounting(since=max(0, since))
        except SiteError:
            complete = False
        else:
            known, whole = told if told is not None else ((), True)
            complete = complete and whole
        by_name = merged(self._mine(queue), self._mine(known))
        items = [job.status(name) for name, jobs in by_name.items() for job in jobs]
        return Listing(items=tuple(items), complete=complete, as_of=now)

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """Asks for the end of what lives, then looks again: an accepted request proves nothing."""
        if not keys:
            return {}
        living, complete = self._living(keys)
        asked = False
        for job in (job for jobs in living.values() for job in jobs):
            self._api.cancel(job.native_id)
            asked = True
        if asked:
            living, complete = self._living(keys)
        return {key: complete and not living.get(key) for key in keys}

    def script(self, spec: JobSpec) -> Script:
        body = body_of(spec, self._config, self._options)
        headers = {
            "raw": "Authorization: ...\n",
            "bearer": "Authorization: Bearer ...\n",
            "slurm": f"X-SLURM-USER-NAME: {self._options.user}\nX-SLURM-USER-TOKEN: ...\n",
        }.get(self._options.auth, "")
        shown = json.dumps({**body, "script": "(the script)"}, indent=2)
        address = self._options.url + self._options.path("job/submit")
        request = f"POST {address}\n{headers}Content-Type: application/json\n\n{shown}"
        return Script(script=script_of(spec, self._config), request=request)

    # -- looking -------------------------------------------------------------------------------------------

    def _mine(self, jobs: Sequence[SlurmJob]) -> Sequence[SlurmJob]:
        return [job for job in jobs if ours(job, owner=self._config.installation, user=self._options.user)]

    def _held(self, keys: Sequence[str]) -> Mapping[str, Sequence[SlurmJob]]:
        wanted = set(keys)
        queue, complete = self._api.jobs()
        if not complete:
            error = SiteUnreachable(f"{self.name}: the queue's listing is not complete: nothing is submitted on it")
            error.effect_possible = False
            raise error
        return merged([job for job in self._mine(queue) if job.name in wanted], ())

    def _living(self, keys: Sequence[str]) -> tuple[Mapping[str, Sequence[SlurmJob]], bool]:
        wanted = set(keys)
        queue, complete = self._api.jobs()
        return merged([job for job in self._mine(queue) if job.name in wanted and not job.state.final], ()), complete

    def _listing(self, keys: Sequence[str], *, always: bool) -> Listing:
        now = self._clock()
        if not keys:
            return Listing(items=(), complete=True, as_of=now)
        wanted = set(keys)
        queue, complete = self._api.jobs()
        found = [job for job in self._mine(queue) if job.name in wanted]
        gone = sorted(wanted if always else wanted - {job.name for job in found})
        known: Sequence[SlurmJob] = ()
        if gone:
            known, whole = self._remembered(gone, now)
            # what the queue shows to be somebody else's is that in the accounting, too
            shown = {(job.native_id, job.name) for job in queue} - {(job.native_id, job.name) for job in found}
            known = [job for job in known if (job.native_id, job.name) not in shown]
            complete = complete and whole
        by_name = merged(found, known)
        items = [job.status(key) for key in dict.fromkeys(keys) for job in by_name.get(key, ())]
        return Listing(items=tuple(items), complete=complete, as_of=now)

    def _remembered(self, names: Sequence[str], now: int) -> tuple[Sequence[SlurmJob], bool]:
        """What the accounting knows of these; nothing, and not all, while it cannot be asked."""
        wanted = set(names)
        asked = names if len(names) <= _MOST_NAMES else ()
        try:
            told = self._api.accounting(names=asked, since=max(0, now - _BACK))
        except SiteError:
            return (), False
        jobs, complete = told if told is not None else ((), True)
        found = [job for job in jobs if job.name in wanted]
        # some accountings keep no comments: there the name, which nobody guesses, has to do
        return [job for job in found if not job.comment or self._mine([job])], complete

    def prepare(self) -> str:
        """Make the root, where the way to its files can; answers its identity."""
        made: str = self.files.prepare() if hasattr(self.files, "prepare") else ""
        return made

    # -- health --------------------------------------------------------------------------------------------

    def probe(self) -> Sequence[Evidence]:
        return self._health.probe()

    def check(self, *, canary: bool = False) -> Sequence[Finding]:
        return self._checking.check(canary=canary)

    def close(self) -> None:
        """Let go of connections."""
        self._api.close()
        if hasattr(self.files, "close"):
            self.files.close()
