"""What no decision about a run leads to, and people must know in time: credentials that end, what an operator says that
ends, sites that are dark together. Each process that works looks, from the same rows; the same notice is written once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from broker.accounts import ending as ending_allocation
from broker.alerts.rows import Entries, addresses, entries_of, new_alert
from broker.clock import Clock
from broker.credentials import Reference, references
from broker.facts import override_of
from broker.health import dark_together, witnesses
from broker.store.base import RunRow, SiteRow, Store
from broker.views import when
from connectors.registry import SiteConfig

EVERY = 5.0
"""Seconds between two looks at the sites' rows,"""
CREDENTIALS_EVERY = 60.0
"""and at the credentials, which are files."""
AHEAD = ((7 * 86_400.0, "7 days"), (86_400.0, "1 day"), (3600.0, "1 hour"))
"""Seconds before a credential's end at which its end is told, and as what."""
OVERRIDE_AHEAD = 3600.0
MOST_RUNS = 1000


class Matter(NamedTuple):
    """Something that stands now."""

    kind: str
    about: str
    which: str
    """Which time that is: with kind and about, the notice's key."""
    text: str
    help: str
    sites: Sequence[str]
    """Runs with something there are concerned."""
    repeats: bool | None = None


@dataclass(slots=True)
class Lookout:
    """Looks now and then, and has the store keep what stands."""

    store: Store
    configs: Mapping[str, SiteConfig]
    tell: Entries
    """Whom the installation tells, of whatever it is."""
    clock: Clock
    serves: Callable[[str], bool]
    """Whose credentials does this process have?"""
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    _next: int = 0
    _credentials_next: int = 0

    def look(self) -> None:
        """If it is time."""
        now = self.clock()
        if now < self._next:
            return
        self._next = now + round(EVERY * 1e6)
        rows = {row.site: row for row in self.store.sites()}
        self._keep("freeze", self._dark(rows, now), "sites answer again", now=now)
        self._keep("override_ending", _overrides(rows, now), "the override has ended, or was renewed", now=now)
        self._keep("allocation_ending", _allocations(self.store, now), "there is enough again", now=now)
        if now >= self._credentials_next:
            self._credentials_next = now + round(CREDENTIALS_EVERY * 1e6)
            self._credentials(now)

    def _credentials(self, now: int) -> None:
        seen = [
            one
            for name, config in self.configs.items()
            if self.serves(name)
            for one in references(config, env=self.env)
        ]
        abouts = {f"{one.site}/{one.name}" for one in seen}
        matters = [matter for one in seen if (matter := ending(one, now)) is not None]
        self._keep("credential_ending", matters, "it was renewed", now=now, abouts=abouts)

    def _dark(self, rows: Mapping[str, SiteRow], now: int) -> Iterator[Matter]:
        """All that are dark together are one matter: the fault is more likely ours."""
        if all(row.cannot_ask_since is None for row in rows.values()):
            return
        together = dark_together(self.configs, rows, witnesses(self.store), now)
        if not together:
            return
        names = sorted(together)
        since = min(dark.since for dark, _ in together.values())
        text = (
            f"{', '.join(names)} fell silent together ({when(since)}): the fault is more likely ours, so nothing is "
            "carried elsewhere"
        )
        help = "look at this machine's network; crossfade site override SITE down --reason ... if they are really down"  # noqa: A001
        yield Matter("freeze", "", str(since), text, help, names)

    def _keep(
        self, kind: str, found: Iterable[Matter], why: str, *, now: int, abouts: Iterable[str] | None = None
    ) -> None:
        matters = list(found)
        runs = self._runs_told(kind) if matters else []
        installation = self.store.installation().id
        there = {name: self._runs_at(name) for matter in matters for name in matter.sites} if runs else {}
        rows = []
        for matter in matters:
            concerned = [run for run in runs if any(run.run_id in there[name] for name in matter.sites)]
            told = [("", to) for to in addresses(self.tell, kind)]
            told += [(run.run_id, to) for run in concerned for to in addresses(entries_of(run.notify), kind)]
            for run_id, to in told:
                key = f"{kind}:{run_id or matter.about}:{matter.about}:{matter.which}"
                body = {"kind": kind, "text": matter.text, "help": matter.help, "at": now}
                rows.append(
                    new_alert(
                        installation=installation,
                        key=key,
                        kind=kind,
                        address=to,
                        now=now,
                        body=body,
                        run_id=run_id,
                        about=matter.about,
                        repeats=matter.repeats,
                    )
                )
        self.store.alerts.keep_standing(
            rows,
            kind=kind,
            abouts=None if abouts is None else set(abouts),
            why=why,
            now=now,
            one_each=kind == "freeze",  # whoever joins the dark ones, or is seen again, makes it no other matter
        )

    def _runs_told(self, kind: str) -> list[RunRow]:
        runs = self.store.runs(unfinished=True, limit=MOST_RUNS)
        return [run for run in runs if run.notify and kind in run.notify]

    def _runs_at(self, site: str) -> set[str]:
        return {attempt.run_id for attempt in self.store.open_attempts(site)}


def ending(one: Reference, now: int) -> Matter | None:
    """A credential of which a person should know now; None: it is well, or does not say when it ends."""
    if one.expires_at is None:
        return None
    left = (one.expires_at - now) / 1e6
    about, end = f"{one.site}/{one.name}", when(one.expires_at)
    help = f"crossfade login {one.site}"  # noqa: A001 - the word of our errors
    if left <= 0:
        text = f"credential {one.name} of {one.site} has ended ({end}): nothing can be asked or submitted there"
        return Matter("credential_ending", about, f"{one.expires_at}:ended", text, help, (one.site,), repeats=True)
    words = next((words for seconds, words in reversed(AHEAD) if left <= seconds), "")
    if not words:
        return None
    text = f"credential {one.name} of {one.site} ends within {words}, at {end}"
    return Matter("credential_ending", about, f"{one.expires_at}:{words}", text, help, (one.site,))


def _allocations(store: Store, now: int) -> Iterator[Matter]:
    rows = store.money.allocations()
    held = store.money.purse("", projects=(), users=()).held if rows else {}
    for row in rows:
        found = ending_allocation(row, held.get((row.site, row.account, row.pool), 0), now)
        if found is not None:
            about = f"{row.site}/{row.account}" + (f"/{row.pool}" if row.pool else "")
            help = "crossfade budget show"  # noqa: A001 - the word of our errors
            yield Matter("allocation_ending", about, found.which, found.text, help, (row.site,))


def _overrides(rows: Mapping[str, SiteRow], now: int) -> Iterator[Matter]:
    for name, row in rows.items():
        override = override_of(row, now)
        if override is None or override.until - now > OVERRIDE_AHEAD * 1e6:
            continue
        text = (
            f"{override.by} said that {name} is {override.state.value} ({override.reason}); that ends at "
            f"{when(override.until)}, and evidence speaks again"
        )
        help = f"crossfade site override {name} {override.state.value} --for 24h --reason ..."  # noqa: A001
        yield Matter("override_ending", name, str(override.until), text, help, (name,))
