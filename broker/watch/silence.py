"""Whether a site answers: since when it does not, how often it was asked, and who is to know."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping

from broker.facts import SiteSetup, budgets_of
from broker.health import dark_together
from broker.store.base import EvidenceRow, NewEvent, Sightings, SiteRow
from connectors.errors import CredentialError, SiteError
from policies.doubt import words
from policies.evidence import LOOK, OURS, REFUSED
from policies.measured import spent

SEEN_EVERY = 10_000_000
"""Microseconds between two notes that a site answered and nothing had changed."""
SAID_EVERY = 60_000_000
"""Microseconds between two rows of evidence that say the same."""
RETURNS = 3
"""Good looks after a silence that are told one by one, ten seconds apart."""
_OF_ONE_ANSWER = re.compile(r"(?=[0-9A-Fa-f-]*[0-9])[0-9A-Fa-f-]{8,}")
"""Ids and times that are other ones in every answer, though it says the same."""


class Silence:
    """Notes of answers and of silence. Unreachable is what the policies make of them, not this."""

    def __init__(self, setups: Mapping[str, SiteSetup]) -> None:
        self._setups = setups
        self._next_note: dict[str, int] = defaultdict(int)
        self._told: dict[str, bool] = defaultdict(bool)
        """Were the stages there woken since both budgets were spent?"""
        self._doubted: dict[str, int] = {}
        """Since when the sites were silent of which self-doubt was told."""
        self._said: dict[str, tuple[str, str, int]] = {}
        """What was last written of a site that refuses to tell: capability, words, when."""
        self._good_at: dict[str, int] = {}
        self._bad_at: dict[str, int] = defaultdict(int)
        """When a good look, and a bad one, was last told."""
        self._back: dict[str, int] = defaultdict(int)
        """Good looks that are still told one by one, after a silence."""

    def answered(self, name: str, standing: SiteRow | None, now: int, sightings: Sightings) -> None:
        """Note that the site answered: at once when it had been silent, else only now and then."""
        self._said.pop(name, None)
        back = standing is not None and standing.cannot_ask_since is not None
        if not back and now < self._next_note[name]:
            return
        self._next_note[name] = now + SEEN_EVERY
        self._tell_good(name, back=back, now=now, sightings=sightings)
        row = standing or _no_row(name)
        sightings.sites.append(row._replace(last_ok_at=now, cannot_ask_since=None, probes=0, detail=""))
        if back and standing is not None and standing.cannot_ask_since is not None:
            sightings.wake_sites.append(name)
            data = {"silent_for": (now - standing.cannot_ask_since) / 1e6}
            sightings.events.append((f"site:{name}", NewEvent(kind="answers", data=json.dumps(data), actor="watch")))

    def _tell_good(self, name: str, *, back: bool, now: int, sightings: Sightings) -> None:
        """A row of evidence: once a minute, and more often while the site has to prove that it is back."""
        if back:
            self._back[name] = RETURNS
        elif not self._back[name] and now - self._good_at.get(name, -SAID_EVERY) < SAID_EVERY:
            return
        else:
            self._back[name] = max(0, self._back[name] - 1)
        self._good_at[name] = now
        sightings.evidence.append(_row(name, now, "status", ok=True, detail="answers again" if back else "answers"))

    def refused(self, name: str, error: SiteError, now: int, sightings: Sightings) -> None:
        """It answered: with «not you», «not now» or «not so», which is no outage."""
        capability = "credentials" if isinstance(error, CredentialError) else "status"
        self._say(name, capability, error, now, sightings)

    def silent(self, name: str, standing: SiteRow | None, error: SiteError, now: int, sightings: Sightings) -> None:
        """Note that the site did not answer."""
        row = standing or _no_row(name)
        first = row.cannot_ask_since is None
        since = now if row.cannot_ask_since is None else row.cannot_ask_since
        probes, config = row.probes + 1, self._setups[name].config
        sightings.sites.append(row._replace(cannot_ask_since=since, probes=probes, detail=str(error)[:300]))
        budgets = budgets_of(config)
        if first or now - self._bad_at[name] >= round(budgets.seconds / (2 * budgets.probes) * 1e6):
            self._bad_at[name] = (
                now  # twice as many as are needed to call it down: some sites are looked at all the time
            )
            sightings.evidence.append(_row(name, now, "status", ok=False, detail=str(error)[:300]))
        both = spent(since, probes, budgets, now)
        if first or (both and not self._told[name]):
            sightings.wake_sites.append(name)
        self._told[name] = both
        if first:
            data = {"detail": str(error)[:300]}
            sightings.events.append((f"site:{name}", NewEvent(kind="silent", data=json.dumps(data), actor="watch")))

    def doubt(
        self, name: str, rows: Mapping[str, SiteRow], seen: Mapping[str, int], now: int, sightings: Sightings
    ) -> str:
        """Is the silence of that site, which was just noted, more likely our own fault? Then it counts as such, and of
        those that fell silent together the second one tells why, once. Empty: there is nothing to tell."""
        configs = {each: setup.config for each, setup in self._setups.items()}
        dark, together = dark_together(configs, rows, seen, now).get(name, (None, ()))
        if dark is None:
            return ""
        sightings.evidence[:] = [row._replace(word=OURS) for row in sightings.evidence]
        if self._doubted.get(name) == dark.since:
            return ""
        order = sorted((one.since, one.name) for one in (dark, *together) if one.name in self._setups)
        if order[min(1, len(order) - 1)] != (dark.since, name):
            return ""
        self._doubted[name] = dark.since
        return words(dark, together)

    def _say(self, name: str, capability: str, error: SiteError, now: int, sightings: Sightings) -> None:
        """A row of evidence: at once when it says something new, else once a minute."""
        detail = str(error)[:300]
        words = _OF_ONE_ANSWER.sub("", detail)
        last = self._said.get(name)
        if last is not None and last[:2] == (capability, words) and now - last[2] < SAID_EVERY:
            return
        self._said[name] = (capability, words, now)
        word = REFUSED if capability == "status" else ""
        sightings.evidence.append(_row(name, now, capability, ok=False, detail=detail)._replace(word=word))


def _row(name: str, at: int, capability: str, *, ok: bool, detail: str) -> EvidenceRow:
    return EvidenceRow(name, at, capability, ok=ok, latency_us=0, detail=detail, source=LOOK)


def _no_row(name: str) -> SiteRow:
    return SiteRow(name, "up", "", "", None, None, None, None, 0, "", 0, 0)
