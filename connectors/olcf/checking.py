"""`site check` for a machine behind Slurm's REST API: what works, what does not, and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import httpx

from connectors.checks import canary_step, files_step, submit_step
from connectors.errors import CredentialError, SiteError
from connectors.model import Finding
from connectors.olcf.api import SlurmRest
from connectors.olcf.health import Health, answering, utc
from connectors.olcf.options import RestOptions
from connectors.olcf.reservations import reservations
from connectors.registry import Clock, SiteConfig

if TYPE_CHECKING:
    from connectors.olcf.site import RestSite

_SOON = 24 * 3600 * 1_000_000
_RENEW = {
    "s3m": "make a new project access token in myOLCF (permission compute-ace) and put it where `credentials` points",
    "slurmrestd": "make a new token (`scontrol token lifespan=SECONDS`) and put it where `credentials` points",
}


class Checking:
    """The walk, step by step; each step's failure is a finding."""

    def __init__(
        self,
        *,
        site: RestSite,
        api: SlurmRest,
        config: SiteConfig,
        options: RestOptions,
        health: Health,
        clock: Clock,
    ) -> None:
        self._site = site
        self._api = api
        self._config = config
        self._options = options
        self._health = health
        self._clock = clock
        self._renew = _RENEW[options.api]

    def check(self, *, canary: bool) -> Sequence[Finding]:
        steps: dict[str, Callable[[], Iterator[Finding]]] = {
            "credentials": self._credentials,
            "expiry": self._expiry,
            "status": self._status,
            "allocation": self._allocation,
            "files": self._files,
            "submit": self._submit,
        }
        if canary:
            steps["canary"] = self._canary
        found: list[Finding] = []
        for step, walk in steps.items():
            try:
                found += walk()
            except SiteError as error:
                helping = self._renew if isinstance(error, CredentialError) else error.help
                found.append(Finding(step=step, ok=False, detail=str(error), help=helping))
        return found

    def _credentials(self) -> Iterator[Finding]:
        self._api.read("ping")
        detail = "no token is needed" if self._options.auth == "none" else "the token is accepted"
        yield Finding(step="credentials", ok=True, detail=detail)
        address = httpx.URL(self._options.url)
        near = address.host in {"localhost", "127.0.0.1", "::1"} or address.scheme == "unix"
        if address.scheme == "http" and not near and self._options.auth != "none":
            yield Finding(
                step="credentials",
                ok=None,
                detail=f"the token goes to {address.host} in the clear",
                help="give an https address, or a tunnel",
            )

    def _expiry(self) -> Iterator[Finding]:
        token = self._health.token()
        if token is not None and token.once:
            detail = "a one-time token: its first call uses it up"
            yield Finding(step="expiry", ok=False, detail=detail, help="make one that is not one-time")
        told = self._health.credentials()
        for one in told:
            soon = one.until is not None and one.until - self._clock() < _SOON
            helping = self._renew if soon or not one.ok else ""
            yield Finding(step="expiry", ok=one.ok and not soon, detail=one.detail, help=helping)
        if not told:
            yield Finding(step="expiry", ok=None, detail="when the token ends is not told")

    def _status(self) -> Iterator[Finding]:
        wrong = answering(self._api.read("ping"), self._config.name)
        yield Finding(step="status", ok=not wrong, detail=wrong or f"Slurm answers in {self._options.version}")
        yield from self._published()
        if self._config.poll >= self._options.min_job_age:
            age = self._options.min_job_age
            detail = f"ended jobs are told of for {age:g} s, and asked for every {self._config.poll:g} s"
            yield Finding(step="status", ok=False, detail=detail, help="set a shorter `poll`")
        for held in reservations(self._api):
            until = utc(held.end) if held.end else "an unknown end"
            detail = f"reservation {held.name}: {held.nodes} nodes until {until}"
            yield Finding(step="status", ok=None, detail=detail)

    def _published(self) -> Iterator[Finding]:
        try:
            published = self._health.published()
        except SiteError as error:
            yield Finding(step="status", ok=None, detail=f"what is published could not be read: {error}")
            return
        for one in published:
            yield Finding(step="status", ok=one.ok, detail=one.detail, help="" if one.ok else "wait, or move the work")
        if self._options.status_path and not published:
            yield Finding(step="status", ok=None, detail="what is published is too old, or says nothing we know")

    def _allocation(self) -> Iterator[Finding]:
        """No route tells of balances; S3M's token at least names its project."""
        account, project = self._config.account, ""
        if self._options.introspect_path:
            token = self._health.token()
            project = token.project if token is not None else ""
        if not project:
            yield Finding(step="allocation", ok=None, detail="this API tells nothing of allocations")
            return
        same = not account or account.lower() == project.lower()
        detail = f"the token is of project {project}" + ("" if same else f", `account` is {account}")
        yield Finding(step="allocation", ok=same, detail=detail, help="" if same else f"set `account: {project}`")

    def _files(self) -> Iterator[Finding]:
        self._site.prepare()
        yield files_step(self._site, self._config.root)

    def _submit(self) -> Iterator[Finding]:
        names = [one.get("name") for one in self._api.read("partitions").items("partitions", self._config.name)
                 if isinstance(one, Mapping)]  # fmt: skip
        asked = self._config.submit.get("partition", self._config.submit.get("queue", ""))
        if asked and asked not in names:
            detail = f"there is no partition {asked} (there are {', '.join(str(name) for name in names[:20])})"
            yield Finding(step="submit", ok=False, detail=detail, help="mend `submit` or `lanes`")
        yield submit_step(self._site, self._config)

    def _canary(self) -> Iterator[Finding]:
        http = self._api.http
        yield canary_step(self._site, self._config, elapsed=http.elapsed, sleep=http.sleep)
