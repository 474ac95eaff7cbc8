"""The NERSC site: the ports over the Superfacility API. Keeps no state per job; ids are no identity, names are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from zoneinfo import ZoneInfo

from connectors.base import SiteFiles
from connectors.errors import CredentialError, RequestRefused, SiteBusy, SiteError
from connectors.files.held import HoldsFiles
from connectors.model import Accounted, Balance, Evidence, Finding, JobSpec, Listing, Script, SubmitAnswer
from connectors.nersc.accounts import accounted_of, balances_of
from connectors.nersc.api import Superfacility
from connectors.nersc.checking import Checking
from connectors.nersc.health import Health
from connectors.nersc.jobs import jobs_of, merged, ours
from connectors.nersc.options import NerscOptions
from connectors.nersc.submitting import Submitting
from connectors.registry import Clock, SiteConfig
from connectors.slurm import SlurmJob, job_script

_MOST_NAMES = 100
"""Names in one question to the accounting: an address may have some thousand characters."""


class NerscSite(HoldsFiles[SiteFiles]):
    """`connectors.base.Site`, Preparable, Scripted, Checkable, AllocationSource and Accounting."""

    inline = False
    claim = "atomic_fs"

    def __init__(
        self,
        config: SiteConfig,
        *,
        options: NerscOptions,
        api: Superfacility,
        files: SiteFiles,
        clock: Clock,
        client_id: Callable[[], str] = str,
    ) -> None:
        """`client_id`: says whose end `probe` looks for; empty: nobody's."""
        self.name = config.name
        self._config = config
        self._options = options
        self._api = api
        self.files = files
        self._clock = clock
        self._zone = ZoneInfo(options.timezone)
        self._user = options.user
        self._submitting = Submitting(
            api=api,
            files=files,
            held=self._held,
            script=self._script,
            site=config.name,
            owner=config.installation,
        )
        self._health = Health(api=api, site=config.name, options=options, clock=clock, client_id=client_id)
        self._checking = Checking(site=self, api=api, config=config, health=self._health, clock=clock)

    # -- jobs ----------------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        return self._submitting.submit(specs) if specs else {}

    def find(self, keys: Sequence[str]) -> Listing:
        return self._listed(self._asked(keys, always=True), keys) if keys else self._nothing()

    def status(self, keys: Sequence[str]) -> Listing:
        """One look at the queue; a second one, at the accounting, for jobs that have left it."""
        return self._listed(self._asked(keys, always=False), keys) if keys else self._nothing()

    def list_mine(self, since: int) -> Listing:
        now = self._clock()
        seconds = min(3650 * 86_400, max(60, (now - since) // 1_000_000 + 60))
        user = self.user()
        queue = self._queue(user)
        rows = self._api.jobs(sacct=True, user=user, starttime=f"now-{seconds}seconds")
        by_name = merged(queue, jobs_of(rows, self._zone))
        items = [
            job.status(name)
            for name, jobs in by_name.items()
            for job in jobs
            if job.label is not None and ours(job, self._config.installation)
        ]
        return Listing(items=tuple(items), complete=True, as_of=now)

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """Asks for the end of what lives; the answer True comes of a complete look alone."""
        if not keys:
            return {}
        by_name, complete, _ = self._asked(keys, always=True)
        dead: dict[str, bool] = {}
        for key in keys:
            living = [job for job in by_name.get(key, ()) if not job.state.final]
            dead[key] = complete and not living
            for job in living:
                try:
                    self._api.cancel(job.native_id)
                except (RequestRefused, SiteBusy):
                    continue  # ended meanwhile, or asked again next time: the look decides
        return dead

    def script(self, spec: JobSpec) -> Script:
        address = f"{self._options.base}/compute/jobs/{self._options.machine}"
        request = (
            f"POST {address}\nAuthorization: Bearer ...\nContent-Type: application/x-www-form-urlencoded\n\n"
            "isPath=false&job=(the script)"
        )
        return Script(script=self._script(spec), request=request)

    def _script(self, spec: JobSpec) -> str:
        config = self._config
        return job_script(spec, root=config.root, owner=config.installation, umask=config.umask)

    # -- looking -------------------------------------------------------------------------------------------

    def user(self) -> str:
        """Whose jobs ours are. Raises SiteError."""
        if not self._user:
            self._user = self._api.user()
        return self._user

    def _queue(self, user: str) -> Sequence[SlurmJob]:
        return jobs_of(self._api.jobs(sacct=False, user=user), self._zone)

    def _asked(self, keys: Sequence[str], *, always: bool) -> tuple[Mapping[str, Sequence[SlurmJob]], bool, int]:
        """The jobs of ours under these names, whether that is all of them, and as of when. `always`: the accounting
        is asked even when the queue has them all. Raises SiteError when the queue cannot be seen."""
        now, wanted = self._clock(), set(keys)
        user = self.user()
        queue = self._picked(self._queue(user), wanted)
        # BeginTime: a job of ours waits so after a requeue alone, and the queue's form tells no count of restarts
        missing = wanted - {job.name for job in queue if not job.state.final and job.reason != "BeginTime"}
        accounting: Sequence[SlurmJob] = ()
        complete = True
        if missing or always:
            try:
                accounting = self._picked(self._accounting(user, sorted(wanted if always else missing)), wanted)
            except CredentialError:
                raise
            except SiteError:
                complete = False  # what has left the queue cannot be told from what was never there
        return merged(queue, accounting), complete, now

    def _accounting(self, user: str, names: Sequence[str]) -> Sequence[SlurmJob]:
        more = {"name": ",".join(names)} if self._options.lookup == "name" and len(names) <= _MOST_NAMES else {}
        back = f"now-{round(self._options.history * 86_400)}seconds"
        return jobs_of(self._api.jobs(sacct=True, user=user, starttime=back, **more), self._zone)

    def _picked(self, jobs: Sequence[SlurmJob], wanted: set[str]) -> Sequence[SlurmJob]:
        return [job for job in jobs if job.name in wanted and ours(job, self._config.installation)]

    def _held(self, keys: Sequence[str]) -> Mapping[str, Sequence[SlurmJob]]:
        """For submitting: everything under these names, whoever's it says it is; all of it, or an error."""
        user, wanted = self.user(), set(keys)
        queue = [job for job in self._queue(user) if job.name in wanted]
        known = [job for job in self._accounting(user, keys) if job.name in wanted]
        return merged(queue, known)

    def _listed(self, asked: tuple[Mapping[str, Sequence[SlurmJob]], bool, int], keys: Sequence[str]) -> Listing:
        by_name, complete, now = asked
        items = [job.status(key) for key in dict.fromkeys(keys) for job in by_name.get(key, ())]
        return Listing(items=tuple(items), complete=complete, as_of=now)

    def _nothing(self) -> Listing:
        return Listing(items=(), complete=True, as_of=self._clock())

    def prepare(self) -> str:
        """Make the root at the machine; answers its identity."""
        made: str = self.files.prepare()  # type: ignore[attr-defined]
        return made

    # -- health --------------------------------------------------------------------------------------------

    def probe(self) -> Sequence[Evidence]:
        return self._health.probe()

    def check(self, *, canary: bool = False) -> Sequence[Finding]:
        return self._checking.check(canary=canary)

    # -- account -------------------------------------------------------------------------------------------

    def balances(self, account: str) -> Sequence[Balance]:
        """As the account service tells them, which it renews about once a day."""
        return balances_of(self._api.projects(), account, self.name)

    def accounted(self, keys: Sequence[str], *, since: int) -> Mapping[str, Accounted]:
        """By sacct, all jobs of a name together."""
        if not keys:
            return {}
        seconds = min(3650 * 86_400, max(60, (self._clock() - since) // 1_000_000 + 60))
        more = {"name": ",".join(keys)} if self._options.lookup == "name" and len(keys) <= _MOST_NAMES else {}
        rows = self._api.jobs(sacct=True, user=self.user(), starttime=f"now-{seconds}seconds", **more)
        return accounted_of(rows, keys)

    def close(self) -> None:
        """Let go of connections."""
        self._api.http.close()
        self._api.public.close()
