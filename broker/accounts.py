"""What the sites say of money: what is left of allocations, read now and then, and what their accounting has booked for
jobs that are over. Each process that looks at a site does it for that site."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from broker.clock import Clock, micros
from broker.engine.books import price_at
from broker.facts import World, rules_at, site_facts
from broker.store.base import AllocationRow, ChargeRow, NewEvent, Store
from connectors.base import Accounting, AllocationSource, Site
from connectors.errors import SiteError
from connectors.model import Accounted, Balance
from connectors.secrets import scrub
from policies.budget import MICRO, allocation_ends

BALANCES_EVERY = 900.0
"""Seconds between two readings of a site's balances; the sites themselves renew theirs about once a day."""
RECONCILED_EVERY = 600.0
RECONCILED_AFTER = 900.0
"""Seconds after a job's end at which the site's accounting is taken to have it."""
AT_ONCE = 100
DROPPED_AFTER = 7 * 86_400.0
"""Seconds after which what the accounting does not know is asked for no more."""

log = logging.getLogger(__name__)


class Ending(NamedTuple):
    """An allocation of which a person should know now."""

    site: str
    account: str
    which: str
    """Which time that is."""
    text: str


class AccountKeeper:
    """Keeps up what the store knows of allocations, and compares charges with the sites' accountings."""

    def __init__(self, *, store: Store, world: World, clock: Clock) -> None:
        self._store, self._world, self._clock = store, world, clock
        self._read_at: dict[str, int] = {}
        self._compared_at: dict[str, int] = {}

    def ask(self, name: str, site: Site) -> None:
        """If it is time. A site that is never charged is never asked; one that gives no answer is told of as such."""
        setup = self._world.sites.get(name)
        if setup is None or setup.config.tariff is None:
            return
        now = self._clock()
        if setup.config.account and isinstance(site, AllocationSource) and self._due(self._read_at, name, now):
            self._read_at[name] = now + micros(BALANCES_EVERY)
            self._read(name, site, setup.config.account, now)
        if isinstance(site, Accounting) and self._due(self._compared_at, name, now):
            self._compared_at[name] = now + micros(RECONCILED_EVERY)
            self._compare(name, site, now)

    @staticmethod
    def _due(times: Mapping[str, int], name: str, now: int) -> bool:
        return now >= times.get(name, 0)

    # -- balances ----------------------------------------------------------------------------------------------

    def _read(self, name: str, site: AllocationSource, account: str, now: int) -> None:
        before = self._store.money.allocations(name)
        try:
            rows = [_row(name, balance, now) for balance in site.balances(account)]
        except SiteError as error:
            log.warning("the allocations of %s cannot be read: %s", name, scrub(str(error))[:300])
            rows = [row._replace(detail=scrub(str(error))[:300]) for row in before]
        warned = {row[1:3]: row.warned for row in before}
        told = []
        kept = []
        for row in rows:
            found = ending(row, self._held(row), now)
            row = row._replace(warned=found.which if found else "")
            if found and found.which != warned.get(row[1:3], ""):
                data = {"account": row.account, "pool": row.pool, "text": found.text}
                told.append(NewEvent(kind="allocation_ending", data=json.dumps(data), actor="watch"))
            kept.append(row)
        if kept or before:
            self._store.money.keep_allocations(name, kept, told=told, now=now)

    def _held(self, row: AllocationRow) -> int:
        held = self._store.money.purse("", projects=(), users=()).held
        return held.get((row.site, row.account, row.pool), 0)

    # -- the sites' accountings --------------------------------------------------------------------------------

    def _compare(self, name: str, site: Accounting, now: int) -> None:
        rows = self._store.money.unreconciled(name, until=now - micros(RECONCILED_AFTER), limit=AT_ONCE)
        keys = {row: key for row in rows if (key := self._key(row))}
        if not keys:
            return
        since = min(row.booked_at for row in keys)
        try:
            found = site.accounted(sorted(set(keys.values())), since=since)
        except SiteError as error:
            log.warning("the accounting of %s cannot be asked: %s", name, scrub(str(error))[:300])
            return
        self._store.money.reconcile([*self._told(keys, found, now)])

    def _key(self, row: ChargeRow) -> str:
        attempts = self._store.attempts(row.run_id, row.n)
        return next((one.submit_key for one in attempts if one.number == row.attempt), "")

    def _told(self, keys: Mapping[ChargeRow, str], found: Mapping[str, Accounted], now: int) -> Iterable[ChargeRow]:
        for row, key in keys.items():
            said = found.get(key)
            if said is not None and said.complete:
                yield row._replace(told=told_amount(row, said, nodes=self._nodes(row)), told_at=now)
            elif said is None and row.settled_at is not None and now - row.settled_at > micros(DROPPED_AFTER):
                yield row._replace(told=0, told_at=now)  # nothing was booked for it there

    def _nodes(self, row: ChargeRow) -> int:
        """Nodes that the attempt asked for."""
        setup = self._world.sites[row.site]
        stage = self._store.stages_at(row.run_id, [row.n])[row.n]
        rules = rules_at(stage.rules, row.site, setup.config.profile)
        price = price_at(rules, stage.body, site_facts(setup, None, load=0, share=0, now=0), setup.config)
        return price.nodes if price is not None else 1


def told_amount(row: ChargeRow, said: Accounted, *, nodes: int) -> int:
    """What the site booked, at the rate that we book by, in millionths of the unit."""
    return round(row.rate * said.node_seconds / max(1, nodes) / 3600)


def ending(row: AllocationRow, held: int, now: int) -> Ending | None:
    """Is the allocation about to end, by what is left of it or by its date?"""
    found = allocation_ends(left=row.granted - row.used, granted=row.granted, held=held, ends_at=row.ends_at, now=now)
    if found is None:
        return None
    which, words = found
    pool = f" ({row.pool})" if row.pool else ""
    return Ending(
        row.site, row.account, which, f"the allocation of {row.account}{pool} at {row.site} {words(row.unit)}"
    )


def _row(site: str, balance: Balance, now: int) -> AllocationRow:
    return AllocationRow(
        site=site,
        account=balance.account,
        pool=balance.pool,
        unit=balance.unit,
        granted=round(balance.granted * MICRO),
        used=round(balance.used * MICRO),
        ends_at=balance.ends_at,
        read_at=now,
        detail="",
        warned="",
    )
