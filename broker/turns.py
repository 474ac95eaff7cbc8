"""Whose turn it is to look at a site, and when: within one process, or among many that share the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker.clock import Clock, micros
from broker.store.base import SiteRow, Store
from broker.watch import Watcher
from broker.watch.pace import BESIDE_DRAINS, IDLE_EVERY

LOOK_SECONDS = 20.0
"""How long a look may take before another worker takes its turn; at least three polls."""
HINT_SECONDS = 3.0
"""How long a hint to look may be on its way before it is taken for lost, and another one is sent."""


class Turns(Protocol):
    """Says which sites are to be looked at now by who asks."""

    def ripe(self) -> Sequence[str]:
        """Sites whose time has come: something of ours is there, they had stopped answering, or nobody has looked
        for long. Whoever got a name looks."""
        ...

    def leave(self, site: str) -> None:
        """Whoever got the name does not look, nor does anybody else."""
        ...

    def begins(self, site: str) -> None:
        """A look begins."""
        ...

    def looked(self, site: str) -> None:
        """The look is over."""
        ...

    def hasten(self, site: str) -> None:
        """Something was just done there: look soon."""
        ...

    def next_look(self) -> int:
        """When it is worth while to ask again."""
        ...


class OwnTurns:
    """One process looks; the watcher's own pace is all there is."""

    def __init__(self, *, store: Store, watcher: Watcher, sites: Sequence[str], clock: Clock) -> None:
        self._store, self._watcher, self._sites, self._clock = store, watcher, sites, clock

    def ripe(self) -> Sequence[str]:
        now = self._clock()
        ripe = [name for name in self._sites if self._watcher.next_look(name) <= now]
        if not ripe:
            return []
        silent = {row.site for row in self._store.sites() if row.cannot_ask_since is not None or row.quarantined}
        wanted = []
        for name in ripe:
            if name in silent or self._watcher.idle_look_due(name) or self._store.open_attempts(name):
                wanted.append(name)
            else:  # else whoever sleeps until the next look would not sleep at all
                self._watcher.put_off(name)
        return wanted

    def leave(self, site: str) -> None:
        """Nothing was taken."""

    def begins(self, site: str) -> None:
        """Nobody else looks."""

    def looked(self, site: str) -> None:
        """The watcher has set its pace."""

    def hasten(self, site: str) -> None:
        self._watcher.hasten(site)

    def next_look(self) -> int:
        return min((self._watcher.next_look(name) for name in self._sites), default=self._clock() + 1_000_000)


class SharedTurns:
    """Many workers look. The next look is a column of the site's row, and one statement takes the turn."""

    def __init__(self, *, store: Store, watcher: Watcher, polls: dict[str, float], clock: Clock) -> None:
        """`polls`: seconds between two looks, by site."""
        self._store, self._watcher, self._polls, self._clock = store, watcher, polls, clock
        self._idle_until: dict[str, int] = {}
        self._hastened_to: dict[str, int] = {}

    def ripe(self) -> Sequence[str]:
        now = self._clock()
        rows = {row.site: row for row in self._store.sites()}
        return [name for name in self._polls if self._take(name, rows.get(name), now)]

    def leave(self, site: str) -> None:
        self._store.hasten_look(site, at=self._clock())

    def begins(self, site: str) -> None:
        until = self._clock() + max(micros(LOOK_SECONDS), 3 * self._poll(site))
        self._store.take_look(site, now=until, until=until)

    def looked(self, site: str) -> None:
        self._store.hasten_look(site, at=self._watcher.next_look(site))

    def hasten(self, site: str) -> None:
        now = self._clock()
        self._idle_until.pop(site, None)
        if self._hastened_to.get(site, 0) > now:
            return
        at = self._hastened_to[site] = now + self._poll(site)
        self._store.hasten_look(site, at=at)

    def next_look(self) -> int:
        """The row may be moved by others at any time: the sweep's own period is what counts."""
        return self._clock() + 1_000_000

    def _take(self, name: str, row: SiteRow | None, now: int) -> bool:
        if row is not None and row.next_poll_at is not None and row.next_poll_at > now:
            return False
        if self._idle_until.get(name, 0) > now:
            return False
        answered = 0 if row is None or row.last_ok_at is None else row.last_ok_at
        silent = row is not None and (row.cannot_ask_since is not None or row.quarantined)
        if not (silent or now - answered >= IDLE_EVERY or self._store.open_attempts(name)):
            self._idle_until[name] = now + self._poll(name)
            return False
        return self._store.take_look(name, now=now, until=now + micros(HINT_SECONDS))

    def _poll(self, name: str) -> int:
        return micros(self._polls[name] or BESIDE_DRAINS)
