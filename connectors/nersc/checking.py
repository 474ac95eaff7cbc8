"""`site check` for NERSC: what works, what does not, and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from connectors.checks import canary_step, files_step, submit_step
from connectors.errors import CredentialError, SiteError
from connectors.model import Finding
from connectors.nersc.api import Superfacility
from connectors.nersc.health import Health
from connectors.registry import Clock, SiteConfig

if TYPE_CHECKING:
    from connectors.nersc.site import NerscSite

_SOON = 12 * 3600 * 1_000_000
_RENEW = "make a new client in Iris (profile, Superfacility API clients) and put its key in the credentials file"


class Checking:
    """The walk, step by step; each step's failure is a finding."""

    def __init__(
        self, *, site: NerscSite, api: Superfacility, config: SiteConfig, health: Health, clock: Clock
    ) -> None:
        self._site = site
        self._api = api
        self._config = config
        self._health = health
        self._clock = clock

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
            del steps["submit"]
            steps["canary"] = self._canary
        found: list[Finding] = []
        for step, walk in steps.items():
            try:
                found += walk()
            except SiteError as error:
                helping = _RENEW if isinstance(error, CredentialError) and error.help == CredentialError.help else ""
                found.append(Finding(step=step, ok=False, detail=str(error), help=helping or error.help))
        return found

    def _credentials(self) -> Iterator[Finding]:
        user = self._api.user()
        yield Finding(step="credentials", ok=True, detail=f"accepted as {user}")

    def _expiry(self) -> Iterator[Finding]:
        for one in self._health.credentials():
            soon = one.until is not None and one.until - self._clock() < _SOON
            yield Finding(
                step="expiry",
                ok=one.ok and (None if one.until is None else not soon),
                detail=one.detail,
                help=_RENEW if soon or not one.ok else "",
            )

    def _status(self) -> Iterator[Finding]:
        told = {(one.detail, one.ok): None for one in self._health.published()}  # one for several capabilities
        for detail, ok in told:
            yield Finding(step="status", ok=ok, detail=detail, help="" if ok else "wait, or move the work")
        for note in self._health.notes():
            yield Finding(step="status", ok=None, detail=f"note: {note}")
        jobs = len(self._site.list_mine(self._clock()).items)
        yield Finding(step="status", ok=True, detail=f"queue and accounting answer; {jobs} jobs of this installation")

    def _allocation(self) -> Iterator[Finding]:
        account = self._config.account
        projects = {str(one.get("repo_name")): one for one in self._api.projects()}
        if not account:
            known = ", ".join(sorted(projects)) or "none"
            yield Finding(step="allocation", ok=None, detail=f"no `account` is set; yours: {known}")
            return
        # Perlmutter's GPU hours are charged to NAME_g, which the account service lists under NAME
        project = projects.get(account) or projects.get(account.removesuffix("_g"))
        if project is None:
            detail = f"{account} is not among your projects ({', '.join(sorted(projects)) or 'none'})"
            yield Finding(step="allocation", ok=False, detail=detail, help="set `account` in the site document")
            return
        for kind in ("cpu", "gpu"):
            given, used = project.get(f"{kind}_hours_given"), project.get(f"{kind}_hours_used")
            if not isinstance(given, (int, float)) or not isinstance(used, (int, float)) or not given:
                continue
            left = given - used
            detail = f"{account}: {left:,.0f} of {given:,.0f} {kind.upper()} node hours left"
            helping = "" if left > 0 else "ask for more in Iris, or set another `account`"
            yield Finding(step="allocation", ok=left > 0, detail=detail, help=helping)

    def _files(self) -> Iterator[Finding]:
        self._site.prepare()
        yield files_step(self._site, self._config.root)

    def _submit(self) -> Iterator[Finding]:
        yield submit_step(self._site, self._config)

    def _canary(self) -> Iterator[Finding]:
        http = self._api.http
        yield canary_step(self._site, self._config, elapsed=http.elapsed, sleep=http.sleep)
