"""The broker put together: store, sites, mover, hands, watcher and drainer, for one process.

What wakes it (Celery, a simulation, a test) stands outside; the three entry points are `go_on(run)`, `look(site)`
and `due()`.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from broker.accounts import AccountKeeper
from broker.alerts.allowed import NotifyConfig
from broker.alerts.sending import Sender
from broker.alerts.standing import Lookout
from broker.clock import Clock
from broker.drain import Drained, Drainer
from broker.effects import Hands, JobCache
from broker.engine.expand import AddedStage, ExpansionError, expand
from broker.facts import NOWHERE, SiteSetup, World
from broker.health import HealthKeeper
from broker.limits import Limits, OwnLimits
from broker.operating.closing import Closer
from broker.outages import OutageKeeper
from broker.past import PastKeeper
from broker.reconcile import Reconciler
from broker.retention import Retention
from broker.store.base import Store
from broker.traffic.direct import Direct
from broker.traffic.turn import Turn
from broker.turns import OwnTurns, SharedTurns, Turns
from broker.watch import Watcher
from connectors.base import Mover, PlaceFiles, Site
from connectors.registry import PlaceConfig, SiteConfig
from policies.brake import PER_MINUTE
from policies.model import Cap
from policies.numbers import USUAL_NUMBERS, Numbers

RESEND_AFTER = 2.0
"""Seconds after which a wake-up that led to nothing is sent again."""
EFFECTS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a broker is made of."""

    store: Store
    configs: Mapping[str, SiteConfig]
    sites: Mapping[str, Site]
    mover: Mover
    clock: Clock
    owner: str
    """Who this worker is (`worker_name`): leases and claims carry it."""
    turn: Turn | None = None
    """Of the movers whose transfers live in services of their own; None: there are none."""
    direct: Direct | None = None
    """Of what this process itself carries over a network; None: nothing."""
    elapsed: Callable[[], float] = time.monotonic
    """A stopwatch for budgets; seconds."""
    limits: Limits | None = None
    """How many jobs the sites may be given; None: as this process alone counts them."""
    numbers: Numbers = USUAL_NUMBERS
    """What the policies go by, where this installation has numbers of its own."""
    failovers_per_minute: int = PER_MINUTE
    """Stages that may be carried elsewhere within a minute; 0: any number."""
    among_others: bool = False
    """Several workers share the store: sites are looked at in turns, and slow calls are left to who acts there."""
    serves: Collection[str] | None = None
    """Sites whose calls this worker makes: one may be within reach of some machines only. None: all."""
    places: Mapping[str, PlaceConfig] = field(default_factory=dict)
    """Named storage, by name."""
    caps: Mapping[tuple[str, str], Cap] = field(default_factory=dict)
    """What projects and people may spend, by kind and name, as the site document has it."""
    place_files: Mapping[str, PlaceFiles] = field(default_factory=dict)
    """What looks into it, by its side (`NAME:`), where anything does."""
    notify: NotifyConfig = field(default_factory=NotifyConfig)
    """How people are told, and who is told of all runs."""


class Broker:
    """One worker's whole engine."""

    def __init__(self, parts: Parts) -> None:
        self.store, self.clock, self.sites = parts.store, parts.clock, parts.sites
        self.mover, self._turn, self._direct = parts.mover, parts.turn, parts.direct
        setups = {
            name: SiteSetup(
                config=config,
                inline=parts.sites[name].inline and (parts.serves is None or name in parts.serves),
                claim=config.claim or parts.sites[name].claim,
            )
            for name, config in parts.configs.items()
        }
        self._serves = parts.serves
        self.world = World(
            installation=parts.store.installation(),
            sites=setups,
            claimant=parts.owner,
            places=parts.places,
            caps=parts.caps,
            notify=parts.notify.tell,
            failovers_per_minute=parts.failovers_per_minute,
            numbers=parts.numbers,
        )
        rates = {name: config.submits_per_minute for name, config in parts.configs.items()}
        self.hands = Hands(
            store=parts.store,
            world=self.world,
            sites=parts.sites,
            mover=parts.mover,
            clock=parts.clock,
            places=parts.place_files,
            limits=parts.limits or OwnLimits(rates, elapsed=lambda: parts.clock() / 1e6),
        )
        self.watcher = Watcher(store=parts.store, setups=setups, sites=parts.sites, clock=parts.clock)
        self._health = HealthKeeper(store=parts.store, world=self.world, clock=parts.clock)
        self._outages = OutageKeeper(store=parts.store, world=self.world, clock=parts.clock)
        self._past = PastKeeper(store=parts.store, world=self.world, clock=parts.clock)
        self._accounts = AccountKeeper(store=parts.store, world=self.world, clock=parts.clock)
        self._reconciler = Reconciler(store=parts.store, world=self.world, sites=parts.sites, clock=parts.clock)
        self._closer = Closer(store=parts.store, sites=parts.sites, clock=parts.clock)
        self._owner = parts.owner
        self._turns = _turns(parts, self.watcher)
        self._drainer = Drainer(
            store=parts.store,
            world=self.world,
            hands=self.hands,
            watcher=self.watcher,
            clock=parts.clock,
            owner=parts.owner,
            elapsed=parts.elapsed,
            hasten=self._turns.hasten,
            acts_beside=parts.among_others,
        )
        self._among_others = parts.among_others
        self.retention = Retention(
            store=parts.store,
            configs=parts.configs,
            places=parts.places,
            files={**parts.sites, **parts.place_files},
            clock=parts.clock,
            serves=parts.serves,
        )
        self.lookout = Lookout(parts.store, parts.configs, parts.notify.tell, parts.clock, self.serves)
        self.sender = Sender(parts.store, parts.notify, clock=parts.clock, owner=parts.owner)

    def go_on(self, run_id: str, *, budget: float = 0.2) -> Drained | None:
        """Look at a run. None: another worker is at it."""
        return self._drainer.drain(run_id, budget=budget)

    def add_stages(self, run_id: str, by: str, added: Sequence[AddedStage]) -> bool:
        """Add stages to a run that goes on, on behalf of its stage `by`. False: another worker has the run now.

        Raises ExpansionError.
        """
        lease = self.store.acquire(run_id, owner=self._owner, ttl=60.0)
        if lease is None:
            return False
        try:
            run = self.store.run(run_id)
            first_n = run.stages if run is not None else 0
            with self.store.deciding(lease, ttl=60.0) as tx:
                rows = tx.stage_rows([by, *(f"{by}/{stage.name}" for stage in added)])
                if by not in rows:
                    raise ExpansionError(f"the run has no stage {by!r}")
                known = {path: row for path, row in rows.items() if path != by}
                changes = expand(rows[by], added, known=known, first_n=first_n, now=self.clock())
                if not changes.empty():
                    tx.apply(changes, now=self.clock())
        finally:
            self.store.release(lease, due_at=self.clock())
        return True

    def serves(self, site: str) -> bool:
        """Is this worker one that calls that site?"""
        return self._serves is None or site in self._serves

    def leave(self, site: str) -> None:
        """Nobody will look at that site now: it is the next one's turn."""
        self._turns.leave(site)

    def look(self, site: str) -> Collection[str]:
        """Look at a site; the runs that are concerned."""
        self._turns.begins(site)
        looked = self.watcher.look(site)
        runs: Collection[str] = ()
        if not looked.sightings.empty():
            runs = self.store.record(looked.sightings, now=self.clock())
        self.watcher.forget(site, looked)
        self._health.ask(site, self.sites[site])
        self._accounts.ask(site, self.sites[site])
        if self._reconciler.reconcile(site):
            self.watcher.hasten(site)
        self._closer.close(site)
        self._turns.looked(site)
        return runs

    def moves_due(self) -> bool:
        """Is a turn at the movers' services due? On the way, what others have learned of links is taken over."""
        if self._turn is None:
            return False
        self.world.links.update(self._turn.learned())
        return self._turn.due()

    def move(self) -> Collection[str]:
        """Take that turn; the runs that are concerned."""
        if self._turn is None:
            return ()
        return self._turn.take()

    def tend(self) -> Collection[str]:
        """Look after the transfers that this process itself carries; the runs that are concerned."""
        return () if self._direct is None else self._direct.tend()

    def act(self, *, site: str | None = None) -> Collection[str]:
        """Perform due effects, of one site or of any; the runs that wanted them."""
        effects = self.store.claim_effects(
            claim=self._owner, ttl=60.0, now=self.clock(), limit=EFFECTS_AT_ONCE, site=site
        )
        if not effects:
            return ()
        runs = self.store.record(self.hands.perform(effects, JobCache(self.store)), now=self.clock())
        for name in {effect.site for effect in effects if effect.site in self.sites}:
            self._turns.hasten(name)
        return runs

    def due(self) -> Sequence[str]:
        """Runs to wake now; each is named again only after a while, however often this is asked."""
        return self.store.due_runs(now=self.clock(), limit=1000, resend_after=RESEND_AFTER)

    def sites_to_act_at(self) -> Sequence[str]:
        """Sites of which something is wanted that no drain does."""
        if not self._among_others:
            return ()
        return [name for name in self.store.sites_wanted(now=self.clock()) if name != NOWHERE]  # drains do those

    def sites_to_look_at(self) -> Sequence[str]:
        """Sites that the caller is to look at now (see `broker.turns`). On the way, they are judged anew, and what
        their queues were like is read."""
        self._health.tend()
        self._outages.tend()
        self._past.tend()
        return self._turns.ripe()

    def next_look(self) -> int:
        """When the next look at any site is due."""
        return self._turns.next_look()


def _turns(parts: Parts, watcher: Watcher) -> Turns:
    if parts.among_others:
        polls = {name: config.poll for name, config in parts.configs.items()}
        return SharedTurns(store=parts.store, watcher=watcher, polls=polls, clock=parts.clock)
    return OwnTurns(store=parts.store, watcher=watcher, sites=list(parts.sites), clock=parts.clock)


def worker_name() -> str:
    """`pid@host:boot.namespace:start`: enough to tell later, on this host, whether this very process still lives."""
    return f"{os.getpid()}@{platform.node()}:{boot_id()}.{pid_namespace()}:{process_start(os.getpid())}"


def worker_is_dead(name: str) -> bool:
    """Is the process behind that name certainly gone? Of another host's process only the lease's end can tell."""
    try:
        pid, rest = name.split("@", 1)
        host, boot, start = rest.rsplit(":", 2)
        number = int(pid)
    except ValueError:
        return False
    if host != platform.node():
        return False
    boot, _, namespace = boot.partition(".")
    if boot == boot_id() and namespace != pid_namespace():
        return False  # two containers of one name: its number means another process here
    return boot != boot_id() or process_start(number) != start


def boot_id() -> str:
    """This boot of this machine; `unknown` where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()[:8]
    except OSError:
        return "unknown"


def pid_namespace() -> str:
    """Which numbering of processes this one lives in: containers have their own."""
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return "unknown"


def process_start(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty when there is no such process, or only its zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] == "Z" else fields[19]
