"""How a machine is: what its service publishes, whether its controller answers us, and when our token ends.

A planned downtime is good news until it begins, a present one bad news until it ends. What S3M publishes is renewed
every quarter of an hour: evidence of it is as old as it says itself, and counts for nothing when it is too old.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connectors.base import SiteFiles
from connectors.errors import BadReply, CredentialError, SiteError
from connectors.model import Evidence
from connectors.olcf.api import SlurmRest
from connectors.olcf.auth import end_of, token_of
from connectors.olcf.envelope import Envelope
from connectors.olcf.options import RestOptions
from connectors.registry import Clock, SiteConfig
from connectors.slurm.jobs import number

_SOON = 48 * 3600 * 1_000_000
"""µs: a downtime that is planned for later than this is no evidence yet."""
_FAR = 1 << 62
_UP = frozenset({"OPERATIONAL", "DEGRADED"})
_DOWN = frozenset({"UNAVAILABLE", "DOWN", "OFFLINE"})
_CAPABILITIES = ("submit", "compute")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What the service tells of our token; times are µs, texts empty where it is silent."""

    user: str = ""
    project: str = ""
    until: int | None = None
    since: int | None = None
    once: bool = False
    """Is it used up by its first call?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Downtime:
    """µs; `end` None: open."""

    start: int
    end: int | None
    text: str


class Health:
    def __init__(
        self, *, api: SlurmRest, config: SiteConfig, options: RestOptions, files: SiteFiles, clock: Clock
    ) -> None:
        self._api = api
        self._config = config
        self._options = options
        self._files = files
        self._clock = clock

    def probe(self) -> Sequence[Evidence]:
        asked = self.controller()
        refused = any(one.capability == "credentials" for one in asked)
        found = [*asked, *(() if refused else self.credentials())]
        # a status page that cannot be read says nothing of the machine
        with contextlib.suppress(SiteError):
            found += self.published()
        return [*found, *self.reachable_files()]

    # -- Slurm ---------------------------------------------------------------------------------------------

    def controller(self) -> Sequence[Evidence]:
        """Does Slurm's controller answer us?"""
        begun = self._api.http.elapsed()
        try:
            detail = answering(self._api.read("ping"), self._config.name)
        except CredentialError as error:
            return [self._evidence("credentials", ok=False, detail=str(error))]
        except SiteError as error:
            return [self._evidence("status", ok=False, detail=str(error))]
        latency = self._api.http.elapsed() - begun
        ok = not detail
        return [self._evidence("status", ok=ok, detail=detail or "the controller answers", latency=latency)]

    # -- our token -----------------------------------------------------------------------------------------

    def credentials(self) -> Sequence[Evidence]:
        """Until when the token is good. Nothing where that could not be asked: no fault of the token's."""
        try:
            token = self.token()
        except CredentialError as error:
            return [self._evidence("credentials", ok=False, detail=str(error))]
        except SiteError:
            return []
        now = self._clock()
        if token is None:
            return []
        if token.since is not None and token.since > now:
            detail = f"the token is good from {utc(token.since)} on"
            return [self._evidence("credentials", ok=False, detail=detail, until=token.since)]
        if token.until is None:
            return []
        ok = token.until > now
        detail = f"the token {'ends' if ok else 'ended'} at {utc(token.until)}"
        return [self._evidence("credentials", ok=ok, detail=detail, until=token.until if ok else None)]

    def token(self) -> Token | None:
        """By the service, else by the token itself; None: there is none to speak of. Raises SiteError."""
        if self._options.auth == "none":
            return None
        own = token_of(self._config)
        if not self._options.introspect_path:
            return Token(until=end_of(own))
        told = self._api.document(self._options.introspect_path)
        facts = told.get("token") if isinstance(told, dict) else None
        if not isinstance(facts, dict):
            raise BadReply(f"{self._config.name}: the service says nothing of the token", site=self._config.name)
        delayed = facts.get("delayedStart") is True
        return Token(
            user=_text(facts.get("username")),
            project=_text(facts.get("project")),
            until=moment(facts.get("plannedExpiration")) or end_of(own),
            since=moment(facts.get("delayDate")) if delayed else None,
            once=facts.get("oneTimeToken") is True,
        )

    # -- what is published ---------------------------------------------------------------------------------

    def published(self) -> Sequence[Evidence]:
        """Raises SiteError."""
        path = self._options.status_path
        if not path:
            return []
        begun = self._api.public.elapsed()
        told = self._api.document(f"{path}/{self._options.resource}", public=True)
        downtimes = self.downtimes()
        latency = self._api.public.elapsed() - begun
        found: list[Evidence] = []
        for one in _resources(told):
            if one.get("name") == self._options.resource:
                found += self._of(one, latency)
        return found + self._windows(downtimes)

    def downtimes(self) -> Sequence[Downtime]:
        """Present and planned ones of our machine. Raises SiteError."""
        told = self._api.document(f"{self._options.status_path}/downtimes", public=True)
        listed = told.get("downtimes") if isinstance(told, dict) else None
        if not isinstance(listed, list):
            raise BadReply(f"{self._config.name}: the reply has no list of downtimes", site=self._config.name)
        found = []
        for one in listed:
            if not isinstance(one, dict) or one.get("resourceName") != self._options.resource:
                continue
            start, end = moment(one.get("start")), moment(one.get("end"))
            if start is not None and (end or _FAR) > self._clock():
                found.append(Downtime(start=start, end=end, text=_text(one.get("description")) or "downtime"))
        return sorted(found, key=lambda item: item.start)

    def _of(self, one: Mapping[str, Any], latency: float) -> list[Evidence]:
        """By its published word; an unknown one, or an old one, is no evidence, neither way."""
        word, at = _text(one.get("status")).upper(), moment(one.get("retrievedAt")) or self._clock()
        if word not in _UP | _DOWN or self._clock() - at > self._options.stale * 1_000_000:
            return []
        detail = f"{self._options.resource} is {word.lower()}, as of {utc(at)}"
        ok = word in _UP
        own = "degraded" if word == "DEGRADED" else ""
        told = (self._evidence(name, ok=ok, detail=detail, latency=latency, at=at) for name in _CAPABILITIES)
        return [one.published(own) for one in told]

    def _windows(self, downtimes: Sequence[Downtime]) -> list[Evidence]:
        now, found = self._clock(), list[Evidence]()
        for one in downtimes:
            span = f"{one.text}, {utc(one.start)} to {utc(one.end) if one.end else 'an unknown end'}"
            for name in _CAPABILITIES:
                if one.start <= now:
                    found.append(self._evidence(name, ok=False, detail=span, until=one.end).published("maintenance"))
                elif one.start - now <= _SOON:
                    ahead = self._evidence(name, ok=True, detail=f"planned: {span}", until=one.start)
                    found.append(ahead.published("maintenance"))
        return found

    # -- files ---------------------------------------------------------------------------------------------

    def reachable_files(self) -> Sequence[Evidence]:
        begun = self._api.http.elapsed()
        try:
            self._files.list("spool")
        except CredentialError as error:
            return [self._evidence("credentials", ok=False, detail=f"files: {error}")]
        except SiteError as error:
            return [self._evidence("files", ok=False, detail=str(error))]
        return [self._evidence("files", ok=True, detail="", latency=self._api.http.elapsed() - begun)]

    def _evidence(
        self, name: str, *, ok: bool, detail: str, until: int | None = None, latency: float = 0.0, at: int | None = None
    ) -> Evidence:
        return Evidence(
            site=self._config.name,
            capability=name,
            ok=ok,
            at=self._clock() if at is None else min(at, self._clock()),
            latency=max(0.0, latency),
            detail=detail,
            until=until,
        )


def answering(ping: Envelope, site: str) -> str:
    """What is wrong with the controllers by this reply; empty: one of them answers. Raises BadReply."""
    pings = ping.items("pings", site)
    words = [_text(one.get("ping") or one.get("pinged")).upper() for one in pings if isinstance(one, Mapping)]
    if "UP" in words:
        return ""
    return f"the controller is {', '.join(word for word in words if word) or 'not told of'}".lower()


def moment(value: object) -> int | None:
    """ISO time (without a zone: UTC) or seconds since the epoch, as µs; None: none of that."""
    seconds = number(value)
    if seconds is not None:
        return seconds * 1_000_000 if 0 < seconds < 10**11 else None
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


def _resources(told: object) -> Sequence[Mapping[str, Any]]:
    listed = told.get("resources") if isinstance(told, dict) else None
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def _text(value: object) -> str:
    plain = "".join(letter if letter.isprintable() else " " for letter in value[:400]) if isinstance(value, str) else ""
    return " ".join(plain.split())[:200]
