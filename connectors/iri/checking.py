"""`site check` for an IRI site: one step after the other, on after a failure."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence

from connectors.base import SiteFiles
from connectors.errors import BadReply, QuotaError, SiteError
from connectors.iri.api import IriApi
from connectors.iri.auth import Credential
from connectors.iri.health import planned
from connectors.model import Finding
from connectors.registry import Clock

SOON = 6 * 3600
"""Seconds of a credential's rest below which the check says so."""


class Checker:
    """Walks through what the site needs."""

    def __init__(
        self,
        *,
        api: IriApi,
        files: SiteFiles,
        credential: Credential,
        account: str,
        clock: Clock,
    ) -> None:
        self._api, self._files, self._credential = api, files, credential
        self._account, self._clock = account, clock

    def check(self) -> Sequence[Finding]:
        return list(self._steps())

    def _steps(self) -> Iterator[Finding]:
        yield self._credentials()
        yield self._expiry()
        yield self._step("status", self._status, help="see the facility's status page")
        yield self._step("allocation", self._allocation, help="set `account` to a project of yours at this facility")
        yield self._step("files", self._written_and_read, help="set `files` and what it needs: see docs/howto")
        yield self._step("submit", self._api.reach, help="ask the facility for access to compute through the API")

    def _step(self, step: str, do: Callable[[], str | None], *, help: str = "") -> Finding:  # noqa: A002
        try:
            told = do()
        except SiteError as error:
            return Finding(step=step, ok=False, detail=str(error) or type(error).__name__, help=help or error.help)
        return Finding(step=step, ok=None if told is None else True, detail=told or "nothing to look at")

    def _credentials(self) -> Finding:
        try:
            self._credential.headers()
        except SiteError as error:
            return Finding(
                step="credentials", ok=False, detail=str(error), help="put a token where `credentials: token:` says"
            )
        return Finding(step="credentials", ok=True, detail="a token is there")

    def _expiry(self) -> Finding:
        try:
            until = self._credential.expires_at()
        except SiteError as error:
            return Finding(step="expiry", ok=False, detail=str(error))
        if until is None:
            return Finding(step="expiry", ok=None, detail="the token does not say when it ends")
        left = (until - self._clock()) / 1e6
        if left <= 0:
            return Finding(step="expiry", ok=False, detail="the token has expired", help="crossfade login SITE")
        hours = f"{left / 3600:.1f} hours left"
        return Finding(step="expiry", ok=True, detail=hours, help="renew it soon" if left < SOON else "")

    def _status(self) -> str:
        told = self._api.resource()
        words = [f"{told.get('name') or 'the resource'} is {told.get('current_status') or 'not described'}"]
        now = self._clock()
        for start, _, name in planned(self._api.incidents(), now)[:3]:
            words.append(f"{name or 'an outage'} planned in {(start - now) / 3.6e9:.1f} hours")
        return "; ".join(words)[:400]

    def _allocation(self) -> str | None:
        if not self._account:
            return None
        found = self._api.allocations(self._account)
        if found is None:
            raise BadReply(f"no project {self._account!r} is told by the site")
        hours = [granted - used for granted, used, unit in found if "hours" in unit]
        if hours and max(hours) <= 0:
            raise QuotaError(f"no hours are left on {self._account!r}")
        return "; ".join(f"{used:g} of {granted:g} {unit} used" for granted, used, unit in found) or "no figures told"

    def _written_and_read(self) -> str:
        path, content = f".crossfade-check/{secrets.token_hex(8)}", secrets.token_bytes(32)
        self._files.write(path, content)
        try:
            if self._files.read(path) != content:
                raise BadReply("a file that was written reads differently")
        finally:
            self._files.remove([path])
        return "written, read and removed"
