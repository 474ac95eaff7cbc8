"""Seeing to it that a closed site holds nothing of ours any more: also what no row knows is ended there."""

from __future__ import annotations

import json
from collections.abc import Mapping

from broker.clock import Clock
from broker.store.base import NewEvent, Sightings, SiteRow, Store
from connectors.base import Site
from connectors.errors import SiteError

LISTED_EVERY = 5.0
"""Seconds between two listings of a closed site by one process, until it is clear."""


class Closer:
    """Lists what is ours at closed sites, ends it, and writes down when nothing is left."""

    def __init__(self, *, store: Store, sites: Mapping[str, Site], clock: Clock) -> None:
        self._store, self._sites, self._clock = store, sites, clock
        self._next_at: dict[str, int] = {}

    def close(self, name: str) -> None:
        """Go on with it, if that site is closed and not clear yet. What the site does not answer is asked again."""
        row = next((row for row in self._store.sites() if row.site == name), None)
        if row is None or row.mode != "closed" or row.clear_at is not None:
            self._next_at.pop(name, None)
            return
        now = self._clock()
        if now < self._next_at.get(name, 0):
            return
        self._next_at[name] = now + round(LISTED_EVERY * 1e6)
        try:
            self._sweep(row)
        except SiteError:
            return  # the watcher tells of its silence; what was ended stays so

    def _sweep(self, row: SiteRow) -> None:
        site, now = self._sites[row.site], self._clock()
        ours = {attempt.submit_key for attempt in self._store.open_attempts(row.site)}
        listing = site.list_mine(self._store.installation().created_at)
        alive = sorted({item.key for item in listing.items if not item.state.final})
        strangers = [key for key in alive if key not in ours]
        if strangers:
            # those of open attempts are ended by their effects, which wait for the site's word
            ended = site.cancel(strangers)
            data = {"keys": strangers[:20], "count": len(strangers), "ended": sum(map(bool, ended.values()))}
            told = NewEvent(kind="strangers_ended", data=json.dumps(data), actor="closer")
            self._store.record(Sightings(events=[(f"site:{row.site}", told)]), now=now)
        if listing.complete and not alive and not ours and row.mode_at is not None:
            told = NewEvent(kind="site_clear", data=json.dumps({"listed": len(listing.items)}), actor="closer")
            self._store.site_is_clear(row.site, told, since=row.mode_at, now=now)
