"""Calls to Slurm's REST API: reading ones are judged here, so that a refused token is never taken for an outage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.errors import BadReply, CredentialError, RequestRefused, SiteError, SiteUnreachable
from connectors.http import Http, Refusal, Reply
from connectors.olcf.envelope import ALREADY_DONE, DENIED, UNKNOWN_JOB, Envelope, envelope_of
from connectors.olcf.options import RestOptions
from connectors.slurm import SlurmJob, job_of

LARGEST = 96 << 20
"""Bytes of a listing: it has all jobs of the machine, at some kilobytes each."""
NOBODYS = 2_147_483_647
"""A job's number that Slurm never gives: its own are below 2^26."""
_AT_ONCE = 3.0
"""Seconds within which a controller refuses a token; one that is away is waited for longer than this."""


class SlurmRest:
    """One machine's Slurm behind one address. Thread-safe."""

    def __init__(self, http: Http, public: Http, options: RestOptions) -> None:
        """`public`: the same service without a token."""
        self.http = http
        self.public = public
        self.options = options
        self.site = http.site
        self._without_accounting = False

    def close(self) -> None:
        self.http.close()
        self.public.close()

    # -- reading -------------------------------------------------------------------------------------------

    def read(self, what: str, params: Mapping[str, Any] | None = None) -> Envelope:
        """`ping`, `jobs`, `partitions`, ... of the machine. Raises SiteError; errors beside an answer are no error."""
        return self._asked(self.options.path(what), params)

    def jobs(self) -> tuple[Sequence[SlurmJob], bool]:
        """All jobs that the queue tells of, and whether that is all of them. Raises SiteError."""
        return _jobs(self.read("jobs"), self.site)

    def accounting(self, *, names: Sequence[str] = (), since: int = 0) -> tuple[Sequence[SlurmJob], bool] | None:
        """As the accounting tells; None: the service has none. `since`: µs. Raises SiteError."""
        path = self.options.accounting_path
        if not path or self._without_accounting:
            return None
        params = {"start_time": str(since // 1_000_000)}
        if names:
            params["job_name"] = ",".join(names)
        try:
            return _jobs(self._asked(path, params), self.site)
        except Refusal as error:
            if error.status != 404:
                raise
            self._without_accounting = True
            return None

    def document(self, path: str, *, public: bool = False) -> Any:
        """What is no Slurm's: published status, facts of a token. Raises SiteError."""
        return (self.public if public else self.http).get(path).json()

    def _asked(self, path: str, params: Mapping[str, Any] | None) -> Envelope:
        reply = self.http.get(path, params=params, accept=(500,), limit=LARGEST)
        found = _enveloped(reply)
        if found is None:
            if reply.status >= 400:
                raise self._away(f"GET {path} was answered with {reply.status}")
            raise BadReply(f"{self.site}: GET {path}: the reply is none of Slurm's", site=self.site)
        if reply.status < 400:
            if found.credential:
                raise CredentialError(f"{self.site}: the token is not accepted: {found.text}", site=self.site)
            return found
        raise self._why(found, f"GET {path}", reply.seconds)

    def _why(self, found: Envelope, what: str, seconds: float) -> SiteError:
        """Why a question was not answered, after so many seconds."""
        said = f"{self.site}: {what}: {found.text}"
        if found.credential or found.has(DENIED):
            return CredentialError(said, site=self.site)
        if found.unspecified and seconds < _AT_ONCE and self.token_refused():
            told = f"{self.site}: the token is not accepted (expired, or for another machine)"
            return CredentialError(told, site=self.site)
        if any(one.refusal for one in found.errors):
            return RequestRefused(said, site=self.site)
        return self._away(f"{what}: {found.text}")

    def token_refused(self) -> bool:
        """Where reading says only «unspecified error»: asked to end a job that never is, Slurm's controller tells
        whether it is away (1800), silent (5004), or hangs up on our token (5005)."""
        if self.options.auth == "none":
            return False
        try:
            found = self.end_job(str(NOBODYS))
        except SiteError:
            return False
        return found is not None and (found.credential or found.has(5005))

    # -- acting --------------------------------------------------------------------------------------------

    def submit(self, body: Mapping[str, Any]) -> Envelope:
        """The one call that starts a job; never made twice. Raises SiteError: SiteUnreachable and BadReply where it
        may have been done."""
        path = self.options.path("job/submit")
        try:
            reply = self.http.ask("POST", path, json=body, accept=(400, 500))
        except SiteError as error:
            # whatever an odd answer says of itself, the question had been put
            error.effect_possible = error.effect_possible or isinstance(error, BadReply)
            raise
        found = _enveloped(reply)
        if found is None and reply.status == 400:
            raise RequestRefused(f"{self.site}: POST {path} was answered with 400: no JSON", site=self.site)
        if found is None:
            raise self._away(f"POST {path} was answered with {reply.status} and none of Slurm's words")
        return found

    def cancel(self, native_id: str) -> None:
        """Ask for a job's end. Raises SiteError where that was not heard; a refusal is none: a look will tell."""
        found = self.end_job(native_id)
        if found is None:
            return
        if found.credential or found.has(DENIED):
            raise CredentialError(f"{self.site}: job {native_id} was not ended: {found.text}", site=self.site)
        if not any(one.refusal for one in found.errors):
            raise self._away(f"job {native_id} was not ended: {found.text}")

    def end_job(self, native_id: str) -> Envelope | None:
        """Ask for a job's end; None: done, or there was none to end. Raises SiteError where nothing was said."""
        reply = self.http.ask("DELETE", self.options.path(f"job/{native_id}"), accept=(404, 500))
        found = _enveloped(reply)
        if found is None and reply.status >= 500:
            raise self._away(f"DELETE of job {native_id} was answered with {reply.status}")
        done = found is None or not found.errors or found.has(UNKNOWN_JOB) or found.has(ALREADY_DONE)
        return None if done else found

    def _away(self, why: str) -> SiteUnreachable:
        return SiteUnreachable(f"{self.site}: {why}", site=self.site)


def _enveloped(reply: Reply) -> Envelope | None:
    try:
        return envelope_of(reply.json(), reply.status)
    except BadReply:
        if reply.status < 400:
            raise
        return None


def _jobs(found: Envelope, site: str) -> tuple[Sequence[SlurmJob], bool]:
    records = found.items("jobs", site)
    jobs = [job for one in records if isinstance(one, Mapping) and (job := job_of(one)) is not None]
    return jobs, not found.errors and len(jobs) == len(records)
