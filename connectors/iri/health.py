"""How an IRI site is: what its status pages say, and whether what we need answers."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectors.base import SiteFiles
from connectors.errors import CredentialError, SiteError
from connectors.iri.activity import ActivityFeed
from connectors.iri.api import IriApi
from connectors.iri.auth import Credential
from connectors.iri.marks import MARKER
from connectors.model import Evidence
from connectors.registry import Clock

_WORDS = {"up": True, "degraded": True, "down": False}
"""`unknown`, and every word that is not here, is no evidence of anything."""


class Health:
    """Measures; judges nothing."""

    def __init__(
        self,
        site: str,
        *,
        api: IriApi,
        files: SiteFiles,
        credential: Credential,
        clock: Clock,
        activity: ActivityFeed | None = None,
        watched: Sequence[str] = (),
    ) -> None:
        """`watched`: ids of other resources without which jobs here cannot run, such as file systems."""
        self._site, self._api, self._files, self._clock = site, api, files, clock
        self._credential, self._activity, self._watched = credential, activity, watched

    def probe(self) -> Sequence[Evidence]:
        found = [self._credentials(), *self._machine()]
        for resource in self._watched:
            found += self._resource(resource, "files")
        found.append(self._measured("files", lambda: self._files.read(MARKER, limit=64)))
        if self._activity is not None:
            found += self._activity.probe()
        return found

    def _credentials(self) -> Evidence:
        try:
            until = self._credential.expires_at()
        except SiteError as error:
            return self._evidence("credentials", ok=False, detail=str(error))
        now = self._clock()
        if until is not None and until <= now:
            return self._evidence("credentials", ok=False, detail="the token has expired", until=until)
        return self._evidence("credentials", ok=True, until=until)

    def _machine(self) -> list[Evidence]:
        found = self._resource("", "compute")
        try:
            incidents = self._api.incidents()
        except CredentialError as error:
            return [*found, self._evidence("credentials", ok=False, detail=str(error))]
        except SiteError as error:
            return [*found, self._evidence("status", ok=False, detail=str(error))]
        now = self._clock()
        for incident in incidents:
            start, end = moment_of(incident.get("start")), moment_of(incident.get("end"))
            if incident.get("type") != "reservation" and start is not None and start <= now and (not end or now < end):
                bad = incident.get("status") == "down"
                detail = f"{incident.get('type')}: {_line(incident.get('name'))}"
                window = "maintenance" if incident.get("type") == "planned" else ""
                told = self._evidence("compute", ok=not bad, detail=detail, until=end)
                found.append(told.published(window if bad else "degraded"))
        return found

    def _resource(self, resource: str, capability: str) -> list[Evidence]:
        begun = self._clock()
        try:
            told = self._api.resource(resource)
        except CredentialError as error:
            return [self._evidence("credentials", ok=False, detail=str(error))]
        except SiteError as error:
            return [self._evidence("status", ok=False, detail=str(error))]
        latency = (self._clock() - begun) / 1e6
        found = [self._evidence("status", ok=True, latency=latency)]
        word = told.get("current_status")
        if isinstance(word, str) and word in _WORDS:
            name = _line(told.get("name")) or resource
            told_of = self._evidence(capability, ok=_WORDS[word], detail=f"{name} is {word}", latency=latency)
            found.append(told_of.published("degraded" if word == "degraded" else ""))
        return found

    def _measured(self, capability: str, ask: Callable[[], object]) -> Evidence:
        begun = self._clock()
        try:
            ask()
        except SiteError as error:
            return self._evidence(capability, ok=False, detail=str(error) or type(error).__name__)
        return self._evidence(capability, ok=True, latency=(self._clock() - begun) / 1e6)

    def _evidence(
        self, capability: str, *, ok: bool, detail: str = "", until: int | None = None, latency: float = 0.0
    ) -> Evidence:
        return Evidence(
            site=self._site,
            capability=capability,
            ok=ok,
            at=self._clock(),
            latency=latency,
            detail=detail[:400],
            until=until,
        )


def planned(incidents: Sequence[Mapping[str, Any]], now: int) -> list[tuple[int, int | None, str]]:
    """Windows that are still to come: start, end, and what they are called. Raises nothing."""
    found = []
    for incident in incidents:
        start = moment_of(incident.get("start"))
        if start is not None and start > now:
            found.append((start, moment_of(incident.get("end")), _line(incident.get("name"))))
    return sorted(found, key=lambda item: item[0])


def moment_of(value: object) -> int | None:
    """An ISO time with its zone, as µs; None: it is none."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        when = datetime.datetime.fromisoformat(value)
        return round(when.timestamp() * 1e6) if when.tzinfo is not None else None
    except (ValueError, OverflowError, OSError):
        return None


def _line(value: object) -> str:
    return " ".join(value[:200].split()) if isinstance(value, str) else ""
