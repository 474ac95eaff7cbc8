"""Serving an installation in this process: one at a time, and what was left behind is taken up again."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from broker.alerts.allowed import NotifyConfig
from broker.celery_app import PREFIX, make_app
from broker.clock import Clock, wall_clock
from broker.config import Settings
from broker.core import Broker, Parts, worker_is_dead, worker_name
from broker.embedded import Embedded
from broker.errors import UsageError
from broker.heart import gives_signs
from broker.limits import Limits
from broker.news import Announcer, make_client
from broker.rates import SharedLimits
from broker.residency import Residency
from broker.serve_lock import only_server
from broker.sites import Sites
from broker.store.base import Installation, NewEvent, Sightings, Store
from broker.tasks import RUNS, site_queue
from broker.traffic import Desk
from broker.traffic.direct import nobody_else
from broker.worker import USUAL, Habits, Worker
from connectors.base import PlaceFiles, Preparable, Site
from connectors.errors import CredentialError, RequestRefused, SiteBusy, SiteError, SiteUnreachable
from connectors.registry import (
    MoverSetup,
    PlaceConfig,
    PlaceSetup,
    SiteConfig,
    UnknownConnector,
    make_movers,
    make_place,
    make_site,
)
from connectors.unusable import UnusableSite
from policies.brake import PER_MINUTE
from policies.model import Cap
from policies.numbers import USUAL_NUMBERS, Numbers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """Connectors for every site of the document, and the mover between them."""

    configs: Mapping[str, SiteConfig]
    sites: Mapping[str, Site]
    mover: Desk
    places: Mapping[str, PlaceConfig] = field(default_factory=dict)
    place_files: Mapping[str, PlaceFiles] = field(default_factory=dict)
    """What looks into places, by their side, where anything does."""
    caps: Mapping[tuple[str, str], Cap] = field(default_factory=dict)
    """What projects and people may spend, by kind and name."""
    notify: NotifyConfig = field(default_factory=NotifyConfig)
    """How people are told."""

    def close(self) -> None:
        """Let go of threads and connections."""
        self.mover.close()


def connect(
    settings: Settings,
    sites: Sites,
    store: Store,
    *,
    clock: Clock = wall_clock,
    serves: Collection[str] | None = None,
    lives: Callable[[str], bool] = nobody_else,
) -> Connected:
    """Make the connectors. A site that was never prepared for this installation is, by who serves it (`serves`; None:
    all of them); one that was is taken as it is, or found dark: it is never made anew. `lives`: does the process of
    that name still work? Raises UsageError."""
    store.ensure_sites(sites.configs)
    ours = short_name(store.installation())
    configs: dict[str, SiteConfig] = {}
    made: dict[str, Site] = {}
    for name, config in sites.configs.items():
        named = replace(config, installation=ours)
        configs[name], made[name] = _connect(named, store, clock, prepares=serves is None or name in serves)
    settings.blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
    setup = MoverSetup(
        sites=made,
        configs=configs,
        blobs=settings.blobs,
        clock=clock,
        notes=store.notes,
        places=sites.places,
        globus=replace(sites.globus, tokens=settings.home / "globus"),
    )
    place_files = _place_files(setup)
    horizons = {name: config.purge for name, config in configs.items() if config.purge}
    movers, poll = make_movers(setup), sites.globus.poll
    residency = Residency(store=store, sites=configs, places=sites.places, clock=clock)
    desk = Desk(
        movers,
        store,
        clock,
        quick=poll,
        horizons=horizons,
        owner=worker_name(),
        lives=lives,
        against=residency.refused,
    )
    return Connected(
        configs=configs,
        sites=made,
        mover=desk,
        places=sites.places,
        place_files=place_files,
        caps=sites.caps,
        notify=sites.notify,
    )


def _place_files(setup: MoverSetup) -> dict[str, PlaceFiles]:
    """Raises UsageError."""
    try:
        made = {
            place.side: make_place(PlaceSetup(config=place, clock=setup.clock, globus=setup.globus))
            for place in setup.places.values()
        }
    except ValueError as error:
        raise UsageError(str(error), help="mend `places` in the site document") from error
    return {side: files for side, files in made.items() if files is not None}


def short_name(installation: Installation) -> str:
    """What stands in the comment of each job, so that two installations under one account know their own."""
    return "".join(letter for letter in installation.id if letter.isalnum())[-12:]


def _connect(config: SiteConfig, store: Store, clock: Clock, *, prepares: bool) -> tuple[SiteConfig, Site]:
    """The site, knowing the identity that its place had when it was prepared: another place in its stead is dark."""
    stream = f"site:{config.name}"
    site = _make(config, clock)
    if not isinstance(site, Preparable):
        return config, site
    known = _identities(store, stream)
    if not known and prepares:
        try:
            identity = site.prepare()
        except (SiteUnreachable, SiteBusy, CredentialError) as error:
            # a facility that is away must not keep the others from being served; it is prepared at the next start
            log.warning("site %s is not prepared yet: %s", config.name, error)
            return config, site
        except SiteError as error:
            raise UsageError(f"site {config.name} cannot be prepared: {error}", help="check its root") from error
        told = NewEvent(kind="prepared", data=json.dumps({"identity": identity}), actor="serving")
        store.record(Sightings(events=[(stream, told)]), now=clock())
        known = _identities(store, stream)
    if not known:
        return config, site
    sure = replace(config, options={**config.options, "identity": known[-1]})
    return sure, _make(sure, clock)


def _identities(store: Store, stream: str) -> list[str]:
    """Those that a site's place has had when it was prepared; one, but for places that were."""
    return [json.loads(e.data)["identity"] for e in store.events(stream, limit=100) if e.kind == "prepared"]


def _make(config: SiteConfig, clock: Clock) -> Site:
    try:
        return make_site(config, clock)
    except CredentialError as error:
        log.warning("site %s cannot be used: %s", config.name, error)
        return UnusableSite(config, clock, error)
    except (UnknownConnector, ValueError, RequestRefused) as error:
        raise UsageError(str(error), help="mend the site document: `crossfade site ls`") from error


def make_broker(
    connected: Connected,
    store: Store,
    *,
    clock: Clock = wall_clock,
    among_others: bool = False,
    serves: Collection[str] | None = None,
    limits: Limits | None = None,
    failovers_per_minute: int = PER_MINUTE,
    numbers: Numbers = USUAL_NUMBERS,
) -> Broker:
    """The engine over these connectors; claims and leases of dead predecessors are free from now on."""
    store.break_leases(worker_is_dead)
    return Broker(
        Parts(
            store=store,
            configs=connected.configs,
            sites=connected.sites,
            mover=connected.mover,
            turn=connected.mover.turn,
            direct=connected.mover.direct,
            clock=clock,
            owner=worker_name(),
            among_others=among_others,
            serves=serves,
            limits=limits,
            failovers_per_minute=failovers_per_minute,
            numbers=numbers,
            places=connected.places,
            caps=connected.caps,
            place_files=connected.place_files,
            notify=connected.notify,
        )
    )


@contextmanager
def serving(settings: Settings, sites: Sites, store: Store, *, clock: Clock = wall_clock) -> Iterator[Embedded]:
    """Serve in this process while the context lasts. Raises AlreadyServed."""
    with ExitStack() as stack:
        stack.enter_context(only_server(settings))
        connected = connect(settings, sites, store, clock=clock)
        stack.callback(connected.close)
        broker = make_broker(
            connected,
            store,
            clock=clock,
            failovers_per_minute=settings.failovers_per_minute,
            numbers=settings.numbers,
        )
        yield stack.enter_context(Embedded(broker))


@contextmanager
def working(
    settings: Settings,
    sites: Sites,
    store: Store,
    *,
    queues: Sequence[str] = (),
    habits: Habits = USUAL,
    clock: Clock,
) -> Iterator[Worker]:
    """A worker of a service, ready to run. `queues`: which it takes hints from; none: all there are. `clock`: the one
    that all of them share; sites go by this machine's own, as the jobs there do.

    Raises UsageError.
    """
    wanted = queues_of(sites, queues)
    redis = settings.transport()
    with ExitStack() as stack:
        client = stack.enter_context(make_client(redis, ca=settings.redis_ca))
        serves = [name for name in sites.configs if site_queue(name) in wanted]
        connected = connect(settings, sites, store, serves=serves, lives=lambda name: _lives(store, name, now=clock()))
        stack.callback(connected.close)
        rates = {name: config.submits_per_minute for name, config in sites.configs.items()}
        limits = SharedLimits(client, rates, PREFIX)
        broker = make_broker(
            connected,
            store,
            clock=clock,
            among_others=True,
            serves=serves,
            limits=limits,
            failovers_per_minute=settings.failovers_per_minute,
            numbers=settings.numbers,
        )
        yield Worker(
            broker,
            make_app(redis, ca=settings.redis_ca),
            name=worker_name(),
            queues=wanted,
            habits=habits,
            announcer=Announcer(client),
        )


def _lives(store: Store, name: str, *, now: int) -> bool:
    """Is the worker of that name still at work, here or elsewhere?"""
    return not worker_is_dead(name) and gives_signs(store, name, now=now)


def queues_of(sites: Sites, queues: Sequence[str]) -> list[str]:
    """The queues of these names: `runs`, `sites` (of every site), `site.NAME`. Raises UsageError."""
    every = [RUNS, *map(site_queue, sites.configs)]
    found: list[str] = []
    for name in queues or every:
        found += every[1:] if name == "sites" else [name]
    if unknown := sorted(set(found) - set(every)):
        raise UsageError(f"no queue {unknown[0]!r}", help=f"queues are: sites, {', '.join(every)}")
    return sorted(set(found))


@contextmanager
def serve_connected(
    settings: Settings, connected: Connected, store: Store, *, clock: Clock = wall_clock
) -> Iterator[Embedded]:
    """As `serving`, over connectors that the caller made and closes."""
    broker = make_broker(
        connected,
        store,
        clock=clock,
        failovers_per_minute=settings.failovers_per_minute,
        numbers=settings.numbers,
    )
    with only_server(settings), Embedded(broker) as embedded:
        yield embedded
