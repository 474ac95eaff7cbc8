"""Looking at a site: what became of its jobs, what lies in its spool, and whether it answers at all.

One look makes a fixed number of calls however many jobs there are: one status call, one listing of the spool, one
read of what is new there. The order matters: a job that the status call shows as ended has written its exit record
before, so the spool is read after.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence

from broker.clock import Clock
from broker.facts import SiteSetup
from broker.health import witnesses
from broker.store.base import AttemptRow, AttemptSeen, NewEvent, Sightings, Store
from broker.watch.jobs import statuses, take_word
from broker.watch.logs import Logs
from broker.watch.looked import Facts, Looked
from broker.watch.pace import Pace
from broker.watch.records import Spool
from broker.watch.silence import Silence
from connectors.base import Site
from connectors.errors import BadReply, SiteError, SiteUnreachable

log = logging.getLogger(__name__)


class Watcher:
    """Looks at sites. One per process; safe to run twice, at the price of a second look."""

    def __init__(
        self, *, store: Store, setups: Mapping[str, SiteSetup], sites: Mapping[str, Site], clock: Clock
    ) -> None:
        self._store, self._setups, self._sites, self._clock = store, setups, sites, clock
        self.pace = Pace(setups, clock)
        self._spool, self._logs, self._silence = Spool(store, setups), Logs(), Silence(setups)

    def next_look(self, name: str) -> int:
        """When that site wants to be looked at."""
        return self.pace.next_look(name)

    def idle_look_due(self, name: str) -> bool:
        """Has a site where nothing of ours is not been looked at for long?"""
        return self.pace.idle_look_due(name)

    def put_off(self, name: str) -> None:
        """Nothing of ours is there: no look is due before the next poll, unless hastened."""
        self.pace.put_off(name)

    def hasten(self, name: str) -> None:
        """Something was just done there: look soon."""
        self.pace.hasten(name)

    def look(self, name: str) -> Looked:
        """Look at one site. Never raises for what the site does: silence is something seen, too."""
        looked = Looked()
        site, rows = self._sites[name], self._store.open_attempts(name)
        standing = next((row for row in self._store.sites() if row.site == name), None)
        now = self._clock()
        try:
            self._look(site, rows, looked)
        except (SiteUnreachable, BadReply) as error:
            looked = Looked()
            self._silence.silent(name, standing, error, now, looked.sightings)
            self._tell_doubt(name, now, looked.sightings)
        except SiteError as error:
            looked = Looked()
            self._silence.refused(name, error, now, looked.sightings)
        else:
            self._silence.answered(name, standing, now, looked.sightings)
        self.pace.looked(name, changed=not looked.sightings.empty())
        return looked

    def _tell_doubt(self, name: str, now: int, sightings: Sightings) -> None:
        """Tell the operator, once, that several sites fell silent together."""
        rows = {row.site: row for row in (*self._store.sites(), *sightings.sites)}
        since = rows[name].cannot_ask_since
        doubt = self._silence.doubt(name, rows, witnesses(self._store), now, sightings)
        stream = f"site:{name}"
        if not doubt or any(e.kind == "self_doubt" and e.at >= (since or 0) for e in self._store.events(stream)):
            return  # another process may have told it
        log.warning("%s; nothing is carried elsewhere on that account", doubt)
        told = {"reason": doubt, "help": f"crossfade site override {name} down --reason ... if it is really down"}
        sightings.events.append((stream, NewEvent(kind="self_doubt", data=json.dumps(told), actor="watch")))

    def forget(self, name: str, looked: Looked) -> None:
        """The sightings are recorded: the spool files behind them may go."""
        if looked.used:
            try:
                self._sites[name].remove(looked.used)
            except SiteError:
                return  # the site has just gone dark; they are read again when it is back, which is harmless

    def _look(self, site: Site, rows: Sequence[AttemptRow], looked: Looked) -> None:
        asked = [row for row in rows if row.answer or row.state not in ("PLANNED", "STAGING_IN")]
        said, complete = statuses(site, asked)
        by_key = {row.submit_key: row for row in rows}
        facts: Facts = {}
        self._spool.read(site, by_key, facts, looked)
        now, config = self._clock(), self._setups[site.name].config
        for row in asked:
            take_word(site, row, said.get(row.submit_key), complete=complete, config=config, now=now, facts=facts)
        for key, found in facts.items():
            row = by_key[key]
            looked.sightings.attempts.append(
                AttemptSeen(run_id=row.run_id, n=row.n, number=row.number, facts={**found, "seen_at": now})
            )
        self._logs.read(site, rows, facts, now, looked)
