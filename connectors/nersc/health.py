"""How NERSC is, in its own words: the published status of the machine and of what it needs, outages, our client's end.

Published words alone: a green feed says nothing of our own calls, which are evidence by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from connectors.errors import CredentialError, SiteError
from connectors.model import Evidence
from connectors.nersc.api import Superfacility, words
from connectors.nersc.options import NerscOptions
from connectors.registry import Clock

_SOON = 48 * 3600 * 1_000_000
"""µs: an outage that is planned for later than this is no evidence yet."""
_TRANSFER = frozenset({"globus", "dtns"})
_OVER = frozenset({"cancelled", "completed"})
_FAR = 1 << 62


class Health:
    """Three calls without a token, one with."""

    def __init__(
        self, *, api: Superfacility, site: str, options: NerscOptions, clock: Clock, client_id: Callable[[], str]
    ) -> None:
        self._api = api
        self._site = site
        self._machine = options.machine
        self._watch = tuple(dict.fromkeys((options.machine, *options.watch)))
        self._clock = clock
        self._client_id = client_id

    def probe(self) -> Sequence[Evidence]:
        return [*self.published(), *self.credentials()]

    def published(self) -> Sequence[Evidence]:
        """Status and outages."""
        begun = self._api.public.elapsed()
        try:
            status = self._api.status()
            outages = [*self._api.outages(planned=False), *self._api.outages(planned=True)]
        except SiteError as error:
            return [self._evidence(name, ok=False, detail=str(error)) for name in ("status", "submit")]
        latency = self._api.public.elapsed() - begun
        found = [self._evidence("status", ok=True, detail="the API answers", latency=latency)]
        for resource in self._watch:
            found += self._of(resource, status)
        return found + self._outages(outages)

    def credentials(self) -> Sequence[Evidence]:
        """Are we let in, and until when? Nothing where that could not be asked: that is no credential's fault."""
        begun = self._api.http.elapsed()
        try:
            clients = self._api.clients()
        except CredentialError as error:
            return [self._evidence("credentials", ok=False, detail=str(error))]
        except SiteError:
            return []
        latency = self._api.http.elapsed() - begun
        mine = self._client_id()
        client = next((one for one in clients if mine and one.get("clientId") == mine), None)
        until = moment(client.get("expiresAt")) if client else None
        if until is None:
            return [self._evidence("credentials", ok=True, detail="accepted; its end is not told", latency=latency)]
        # by its name: its id stands in the key file, no line of which is ever shown
        text = f"the client {words(str(client.get('name')))!r} ends at {utc(until)}" if client else ""
        ok = until > self._clock()
        return [self._evidence("credentials", ok=ok, detail=text, until=until if ok else None, latency=latency)]

    def notes(self) -> Sequence[str]:
        """Raises SiteError."""
        return self._api.notes()

    def _of(self, resource: str, status: Sequence[Mapping[str, Any]]) -> list[Evidence]:
        """By its published word; an unknown one is no evidence, neither way."""
        found = next((one for one in status if one.get("name") == resource), None)
        if found is None:
            return []
        word, text = str(found.get("status")).lower(), words(str(found.get("description") or ""))
        detail = f"{resource} is {word}" + (f": {text}" if text else "")
        if word in {"active", "degraded", "unavailable"}:
            ok = word != "unavailable"
            told = (self._evidence(name, ok=ok, detail=detail) for name in self._capabilities(resource))
            return [one.published("degraded" if word == "degraded" else "") for one in told]
        return []

    def _outages(self, outages: Sequence[Mapping[str, Any]]) -> list[Evidence]:
        """What is down now, until when; and what will be: good until then."""
        now, found, seen = self._clock(), list[Evidence](), set[tuple[object, ...]]()
        for one in outages:
            resource, state = one.get("name"), str(one.get("status")).lower()
            start, end = moment(one.get("start_at")), moment(one.get("end_at"))
            if resource not in self._watch or state in _OVER or start is None or (end or _FAR) <= now:
                continue
            if (resource, start, end) in seen:
                continue
            seen.add((resource, start, end))
            text = words(str(one.get("description") or "outage"))
            span = f"{utc(start)} to {utc(end) if end else 'an unknown end'}"
            for capability in self._capabilities(str(resource)):
                if start <= now:
                    ok = str(one.get("swo")).lower().startswith("degr")
                    one_now = self._evidence(capability, ok=ok, detail=f"{resource}: {text}, {span}", until=end)
                    found.append(one_now.published("degraded" if ok else "maintenance"))
                elif start - now <= _SOON:
                    detail = f"{resource}: planned: {text}, {span}"
                    ahead = self._evidence(capability, ok=True, detail=detail, until=start)
                    found.append(ahead.published("maintenance"))
        return found

    def _capabilities(self, resource: str) -> Sequence[str]:
        if resource == self._machine:
            return ("submit", "compute")
        return ("transfer",) if resource in _TRANSFER else ("files",)

    def _evidence(
        self, capability: str, *, ok: bool, detail: str, until: int | None = None, latency: float = 0.0
    ) -> Evidence:
        return Evidence(
            site=self._site,
            capability=capability,
            ok=ok,
            at=self._clock(),
            latency=max(0.0, latency),
            detail=detail,
            until=until,
        )


def moment(value: object) -> int | None:
    """An ISO time as µs, without a zone taken for UTC; None: none of that."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        return round(found.timestamp() * 1e6)
    except (ValueError, OverflowError, OSError):
        return None


def utc(at: int) -> str:
    """For a person."""
    try:
        return datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "an unknown time"
