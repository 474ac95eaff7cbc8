"""A broker, its backup, the hours that the backup does not know, and the restore."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker_kit import Lab

from broker.audit import audit_run
from broker.backup import Restored, back_up_file, open_backup, restore
from broker.clock import Clock, VirtualClock
from broker.store.sql import SqlStore
from connectors.registry import SiteConfig


@contextmanager
def lab(folder: Path, *sites: SiteConfig) -> Iterator[Lab]:
    """A lab whose store is a file."""
    clock = VirtualClock()
    made = Lab(*sites, clock=clock, store=SqlStore.open(folder / "crossfade.db", clock=clock))
    try:
        yield made
    finally:
        made.store.close()


def back_up(made: Lab, folder: Path) -> Path:
    """What `crossfade db backup` does."""
    return back_up_file(folder / "crossfade.db", folder / "backup.db").file


def put_back(file: Path, store: SqlStore, *, clock: Clock, replace: bool = True, keep_strays: bool = False) -> Restored:
    """What `crossfade db restore --replace` does."""
    with open_backup(file) as opened:
        return restore(opened, store._database, by="ann", now=clock(), replace=replace, keep_strays=keep_strays)


def go_back(made: Lab, file: Path, *, keep_strays: bool = False) -> Restored:
    """Restore, and begin to serve again as a new process would."""
    restored = put_back(file, made.store, clock=made.clock, keep_strays=keep_strays)
    made.store._installation = None  # what a new process would read again
    made.store.ensure_sites(made.sites)
    made.broker = made.new_broker()
    return restored


def kinds(made: Lab, stream: str) -> list[str]:
    return [event.kind for event in made.store.events(stream)]


def begun(made: Lab) -> dict[str, int]:
    """How often the payload of each key really began, at all sites together."""
    counts: dict[str, int] = {}
    for site in made.sites.values():
        for key, times in site.model.journal.runs().items():
            counts[key] = counts.get(key, 0) + times
    return counts


def assert_clean(made: Lab, *runs: str) -> None:
    """The audit finds nothing, and no payload ever ran beside itself."""
    for run in runs:
        assert audit_run(made.store, run) == []
    for site in made.sites.values():
        assert site.model.journal.overlaps() == []
