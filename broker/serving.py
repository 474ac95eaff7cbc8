"""Serving an installation in this process: one at a time, and what was left behind is taken up again."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

from broker.clock import Clock, wall_clock
from broker.config import Settings
from broker.core import Broker, Parts, worker_is_dead, worker_name
from broker.embedded import Embedded
from broker.errors import BrokerError, UsageError
from broker.jobs import BLOBS
from broker.sites import Sites
from broker.store.base import Store
from connectors.base import Mover, Preparable, Site
from connectors.copy import CopyMover
from connectors.errors import SiteError
from connectors.registry import SiteConfig, UnknownConnector, make_site


@runtime_checkable
class OnThisMachine(Protocol):
    """A site whose files this machine sees: the copy mover serves it."""

    def live_root(self) -> Path:
        """The site's folder; raises SiteUnreachable when it is away."""
        ...


class AlreadyServed(BrokerError):
    """Another process serves this installation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """Connectors for every site of the document, and the mover between them."""

    configs: Mapping[str, SiteConfig]
    sites: Mapping[str, Site]
    mover: CopyMover

    def close(self) -> None:
        """Let go of threads and connections."""
        self.mover.close()


def connect(settings: Settings, sites: Sites, store: Store, *, clock: Clock = wall_clock) -> Connected:
    """Make the connectors. A site that this installation sees for the first time is prepared; one that it knew
    before is taken as it is, or found dark: it is never made anew."""
    made: dict[str, Site] = {}
    for name, config in sites.configs.items():
        try:
            made[name] = make_site(config, clock)
        except (UnknownConnector, ValueError) as error:
            raise UsageError(str(error), help="mend the site document: `crossfade site ls`") from error
    new = store.ensure_sites(made)
    for name in new:
        _prepare(name, made[name])
    settings.blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
    roots: dict[str, Path | Callable[[], Path]] = {BLOBS: settings.blobs}
    for name, site in made.items():
        if isinstance(site, OnThisMachine):
            roots[name] = site.live_root
    return Connected(configs=sites.configs, sites=made, mover=CopyMover(roots, clock))


def _prepare(name: str, site: Site) -> None:
    if isinstance(site, Preparable):
        try:
            site.prepare()
        except SiteError as error:
            raise UsageError(f"site {name} cannot be prepared: {error}", help="check its root") from error


def make_broker(connected: Connected, store: Store, *, clock: Clock = wall_clock) -> Broker:
    """The engine over these connectors; claims and leases of dead predecessors are free from now on."""
    store.break_leases(worker_is_dead)
    mover: Mover = connected.mover
    return Broker(
        Parts(
            store=store,
            configs=connected.configs,
            sites=connected.sites,
            mover=mover,
            clock=clock,
            owner=worker_name(),
        )
    )


@contextmanager
def only_server(settings: Settings) -> Iterator[None]:
    """Hold the installation's serving lock. Raises AlreadyServed, naming the holder."""
    file = _open_lock(settings.lock)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = settings.lock.read_text().strip() or "another process"
            raise AlreadyServed(f"process {holder} serves {settings.home} already") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def served_by(settings: Settings) -> str:
    """The process that serves this installation now; empty: nobody."""
    try:
        with only_server(settings):
            return ""
    except AlreadyServed:
        return settings.lock.read_text().strip() or "unknown"


def _open_lock(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "r+", encoding="utf-8")


@contextmanager
def serving(settings: Settings, sites: Sites, store: Store, *, clock: Clock = wall_clock) -> Iterator[Embedded]:
    """Serve in this process while the context lasts. Raises AlreadyServed."""
    with only_server(settings):
        connected = connect(settings, sites, store, clock=clock)
        try:
            with Embedded(make_broker(connected, store, clock=clock)) as embedded:
                yield embedded
        finally:
            connected.close()
