"""Names to connectors and movers, through the entry point groups `crossfade.connectors` and `crossfade.movers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

from connectors.base import ClosableMover, Site

Clock = Callable[[], int]
"""Says the time: microseconds since the Unix epoch, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteConfig:
    """One site, its profile's defaults and its entry in the site document merged."""

    name: str
    connector: str
    profile: str = ""
    facility: str = ""
    """Sites of one facility fail together. Empty: the site's own name."""
    root: str = ""
    """The folder at the site below which everything of ours lives; absolute."""
    slots: int = 1
    """How many stages may be there at once."""
    poll: float = 1.0
    """Seconds between two looks at the site."""
    unreachable_probes: int = 5
    unreachable_seconds: float = 60.0
    """Both budgets must be spent before the site counts as unreachable."""
    cores: int = 1
    gpus: int = 0
    memory: int = 0
    """Per node; bytes. 0: not known, not checked."""
    nodes: int = 1
    max_walltime: float | None = None
    """Seconds."""
    submits_per_minute: float = 0.0
    """0: no limit."""
    settle: float = 10.0
    """Seconds that a job may take to turn up in the site's listings after it was accepted, or an exit record after
    the job's end."""
    heartbeat: int = 15
    """Seconds between two signs of life of the harness there."""
    fence: int = 60
    """Seconds of silence after which the harness takes a former execution for dead."""
    vars: Mapping[str, str] = field(default_factory=dict)
    launcher: str = ""
    account: str = ""
    """The allocation that jobs are charged to."""
    credentials: Mapping[str, str] = field(default_factory=dict)
    """References (`env:NAME`, `file:PATH`), never values: see connectors.secrets."""
    collection: str = ""
    """The Globus collection through which the site's files are reached."""
    umask: str = ""
    """Octal digits for what jobs write there; empty: the site's own."""
    lanes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Scheduler words for urgent, normal and preemptible work."""
    submit: Mapping[str, str] = field(default_factory=dict)
    """Scheduler words that every job there needs."""
    container: str = ""
    """What runs a container there; `{image}` and `{options}` stand for the stage's."""
    installation: str = ""
    """Short name of this installation, in the comment of every job: two of them may share an account."""
    options: Mapping[str, object] = field(default_factory=dict)
    """What only this connector knows."""


Factory = Callable[[SiteConfig, Clock], Site]


MoverFactory = Callable[[Mapping[str, Site], Path, Clock], ClosableMover]
"""Makes a mover between these sites and the broker's own store of documents' files, a folder (named "")."""


class UnknownConnector(LookupError):
    """No connector of that name is installed."""


def make_site(config: SiteConfig, clock: Clock) -> Site:
    """Build the connector that `config` names. Raises UnknownConnector with the names there are."""
    found = entry_points(group="crossfade.connectors")
    for entry in found:
        if entry.name == config.connector:
            factory: Factory = entry.load()
            return factory(config, clock)
    known = ", ".join(sorted(entry.name for entry in found)) or "none"
    raise UnknownConnector(f"site {config.name}: no connector {config.connector!r} (installed: {known})")


def make_mover(
    sites: Mapping[str, Site], configs: Mapping[str, SiteConfig], blobs: Path, clock: Clock
) -> ClosableMover:
    """The mover that serves these sites: the one named as their connector if they all have the same and it has one,
    else the one that copies between folders of this machine."""
    movers = {entry.name: entry for entry in entry_points(group="crossfade.movers")}
    names = {config.connector for config in configs.values()}
    only = names.pop() if len(names) == 1 else ""
    factory: MoverFactory = (movers.get(only) or movers["copy"]).load()
    return factory(sites, blobs, clock)
