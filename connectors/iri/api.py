"""The routes of the IRI Facility API that we use, and what their answers mean. No policy here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from connectors.errors import BadReply, SiteError
from connectors.http import Http, Refusal, Reply
from connectors.iri.jobs import IriJob, job_of
from connectors.iri.quirks import Quirks
from connectors.model import Accepted, Doubtful, Refused, SubmitAnswer

MOST_PAGES = 100


@dataclass(frozen=True, slots=True)
class Jobs:
    """Jobs of this account; those absent count as unknown to the site only when `complete`."""

    items: Sequence[IriJob]
    complete: bool


class IriApi:
    """One compute resource of one site."""

    def __init__(self, http: Http, *, public: Http, resource: str, quirks: Quirks) -> None:
        """`public`: the same address without a credential, for what everybody may read: how a site is must be seen
        with an expired token, too."""
        self._http, self._public = http, public
        self._resource = quote(resource, safe="")
        self._quirks = quirks
        self._has_store = quirks.idempotency != "no"
        """Does the site keep a store of idempotency keys, as far as we know?"""

    # -- jobs --------------------------------------------------------------------------------------------------

    def submit(self, key: str, body: Mapping[str, Any]) -> SubmitAnswer:
        """Ask for one job, once. Raises SiteError where no answer came, or one that is no refusal."""
        path = f"compute/job/{self._resource}"
        headers = {"Idempotency-Key": key} if self._has_store else {}
        try:
            reply = self._http.ask("POST", path, json=body, headers=headers, accept={409, 422, 501})
        except Refusal as error:
            return Refused(reason=str(error))
        if reply.status == 501 and headers and self._keeps_none(reply):
            # nothing was done, and nothing will be: the same request without the header is still the first one
            self._has_store = False
            reply = self._http.ask("POST", path, json=body, accept={409, 422, 501})
        return self._answer(reply, key)

    def _keeps_none(self, reply: Reply) -> bool:
        """Is it the missing store that a 501 speaks of, and not a field that the site does not take?"""
        return self._quirks.idempotency == "auto" and "idempotency" in said(reply).lower()

    def _answer(self, reply: Reply, key: str) -> SubmitAnswer:
        if reply.status == 409:
            wait = reply.headers.get("retry-after", "")[:20]
            return Doubtful(reason=f"the same request is still being worked on{f', for {wait} s' if wait else ''}")
        if reply.status == 422 and "idempotency" in said(reply).lower():
            return Refused(reason=f"another job was asked for under the key {key}: {said(reply)}")
        if reply.status >= 400:
            return Refused(reason=f"{reply.site}: refused with {reply.status}: {said(reply)}")
        job = job_of(reply.mapping())
        if job is None:
            raise BadReply(f"{reply.site}: the job was taken, but no id was told", site=reply.site)
        return Accepted(native_id=job.native_id, adopted=reply.headers.get("idempotency-key-reply", "") == "hit")

    def jobs(self, *, spec: bool = False, enough: Callable[[Sequence[IriJob]], bool] | None = None) -> Jobs:
        """All jobs that the site knows, ended ones too. `enough`: stop asking for more pages once it holds."""
        params: dict[str, str] = {"limit": str(self._quirks.page)}
        if self._quirks.takes("historical"):
            params["historical"] = "true"
        if spec and self._quirks.takes("include_spec"):
            params["include_spec"] = "true"
        found: list[IriJob] = []
        seen: set[str] = set()
        for page in range(MOST_PAGES):
            if page:
                params["offset"] = str(page * self._quirks.page)
            reply = self._http.ask("POST", f"compute/status/{self._resource}", params=params, safe=True)
            records = reply.items()
            jobs = [job_of(record) for record in records]
            fresh = [job for job in jobs if job is not None and job.native_id not in seen]
            found += fresh
            seen.update(job.native_id for job in fresh)
            if None in jobs:
                return Jobs(found, complete=False)  # who knows whose that is
            if len(records) < self._quirks.page:
                return Jobs(found, complete=True)
            if enough is not None and enough(found):
                return Jobs(found, complete=True)
            if not fresh or not self._quirks.takes("offset"):
                return Jobs(found, complete=False)  # the same page again
        return Jobs(found, complete=False)

    def each(self, native_ids: Sequence[str]) -> Jobs:
        """These jobs, each asked for by itself."""
        if len(native_ids) <= 1:
            found = [self.job(native_id) for native_id in native_ids]
        else:
            with ThreadPoolExecutor(min(self._quirks.parallel, len(native_ids))) as pool:
                found = list(pool.map(self.job, native_ids))
        return Jobs([job for job in found if job is not None], complete=True)

    def job(self, native_id: str) -> IriJob | None:
        """One job; None: the site does not know it."""
        params = {"historical": "true"} if self._quirks.takes("historical") else None
        path = f"compute/status/{self._resource}/{quote(native_id, safe='')}"
        try:
            reply = self._http.get(path, params=params)
        except Refusal as error:
            if self._unknown(error):
                return None
            raise
        job = job_of(reply.mapping())
        if job is None:
            raise BadReply(f"{reply.site}: a job without an id", site=reply.site)
        return job

    def reach(self) -> str:
        """Are we let in to jobs? What was seen. Raises SiteError."""
        if self._quirks.listing == "single":
            self.job("0")  # an id that no job has
            return "single jobs can be asked for"
        jobs = self.jobs()
        return f"{len(jobs.items)} jobs of this account are listed" + ("" if jobs.complete else ", not all of them")

    def cancel(self, native_id: str) -> None:
        """Ask for its end. That the site does not know it, or calls it ended, is fine."""
        path = f"compute/cancel/{self._resource}/{quote(native_id, safe='')}"
        try:
            self._http.ask("DELETE", path)
        except Refusal as error:
            if error.status not in {400, 404, 409, 410}:
                raise

    def _unknown(self, error: Refusal) -> bool:
        if error.status not in self._quirks.unknown_job:
            return False
        if error.status == 404:
            # not every 404 is about the job: a wrong resource would look like a site that has lost all its jobs
            return not error.detail.lower().startswith("resource") and isinstance(error.document, dict)
        return "not found" in error.detail.lower() or "unknown job" in error.detail.lower()

    # -- how the site is ---------------------------------------------------------------------------------------

    def resource(self, resource_id: str = "") -> Mapping[str, Any]:
        """The resource's record."""
        wanted = quote(resource_id, safe="") if resource_id else self._resource
        return self._public.get(f"status/resources/{wanted}").mapping()

    def incidents(self) -> Sequence[Mapping[str, Any]]:
        """Those of this resource that are not over. An empty list is answered as 404."""
        reply = self._public.get("status/incidents", params={"limit": "100"}, accept={404})
        if reply.status == 404:
            if not isinstance(reply.mapping().get("status"), int):
                raise BadReply(f"{reply.site}: there are no incidents at this address", site=reply.site)
            return ()
        return [item for item in reply.items() if isinstance(item, dict) and self._concerns(item)]

    def _concerns(self, incident: Mapping[str, Any]) -> bool:
        uris = incident.get("resource_uris")
        mine = isinstance(uris, list) and any(
            isinstance(uri, str) and uri.rstrip("/").endswith(f"/{self._resource}") for uri in uris
        )
        return mine and incident.get("resolution") not in ("cancelled", "completed")

    def allocations(self, account: str) -> Sequence[tuple[float, float, str]] | None:
        """(granted, used, unit) of the account; None: the site does not know it."""
        for project in self._http.get("account/projects").items():
            if not isinstance(project, dict) or account not in (project.get("name"), project.get("id")):
                continue
            path = f"account/projects/{quote(str(project.get('id')), safe='')}/project_allocations"
            found = self._http.get(path).items()
            entries = [entry for item in found if isinstance(item, dict) for entry in _list(item.get("entries"))]
            return [amount for entry in entries if (amount := _amount(entry)) is not None]
        return None


_HOURS = {"node": "node_hours", "core": "core_hours", "cpu": "core_hours", "gpu": "gpu_hours"}


def hours_of(unit: str) -> str:
    """A unit of ours for `node_hours` or `urn:...:node-hours`; empty: it is none of hours."""
    kind, _, hours = unit.rpartition(":")[2].replace("-", "_").partition("_")
    return _HOURS.get(kind, "") if hours == "hours" else ""


def said(reply: Reply) -> str:
    """What a problem says, in a line."""
    try:
        document = reply.mapping()
    except SiteError:
        return "no reason was given"
    text = next((document[name] for name in ("detail", "title") if isinstance(document.get(name), str)), "")
    return " ".join("".join(c if c.isprintable() else " " for c in text[:600]).split())[:300]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _amount(entry: object) -> tuple[float, float, str] | None:
    if not isinstance(entry, dict):
        return None
    granted, used, unit = entry.get("allocation"), entry.get("usage"), entry.get("unit")
    if isinstance(granted, int | float) and isinstance(used, int | float) and isinstance(unit, str):
        return float(granted), float(used), unit[:60]
    return None
