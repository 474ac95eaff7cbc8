"""Names to connectors, movers, and what looks into places: through the entry point groups `crossfade.connectors`,
`crossfade.movers` and `crossfade.places`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

from connectors.base import ClosableMover, Notes, OnThisMachine, PlaceFiles, Site
from connectors.model import LaneLimits, Tariff
from connectors.ssh.reach import OverSsh

Clock = Callable[[], int]
"""Says the time: microseconds since the Unix epoch, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobusConfig:
    """How this installation speaks to Globus. References, as in a site's credentials; never values."""

    client_id: str = ""
    client_secret: str = ""
    """Empty: there is no service client, and a person logs in (`crossfade login globus`)."""
    transfer_url: str = ""
    auth_url: str = ""
    """Of a stand-in; empty: Globus's own."""
    tokens: Path | None = None
    """The folder that a person's tokens are kept in, readable by nobody else."""
    active: int = 3
    """Transfers that the service works at, at a time, for one identity."""
    poll: float = 5.0
    """Seconds between two looks at its transfers while something changes; twelve times that while nothing does."""
    patience: float = 300.0
    """Seconds without any progress after which a transfer counts as stalled."""
    deadline: float = 7 * 86_400.0
    """Seconds after which the service gives a transfer up, where nobody asks for less."""
    encrypt: bool = True
    """Is data encrypted on its way?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteConfig:
    """One site, its profile's defaults and its entry in the site document merged."""

    name: str
    connector: str
    profile: str = ""
    facility: str = ""
    """Sites of one facility fail together. Empty: the site's own name."""
    provider: str = ""
    """Whose they are: sites of one provider may fall silent together for a reason of its own, and that casts no doubt
    on us; their disks are apart. Empty: it has none in common with others."""
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
    losses_every: float = 30 * 86_400.0
    """Seconds, on average, between two losses of the site together with its disks: for hours, or for good."""
    speed: float = 1.0
    """How quick it is for work as walltimes are written for it; 2: twice as quick. Until runs tell better."""
    submits_per_minute: float = 0.0
    """0: no limit."""
    failovers_per_minute: int | None = None
    """Stages that may be carried there from sites that died; 0: any number, None: as many as submissions."""
    relay_file: int = 0
    relay_transfer: int = 0
    """Bytes of one file, and of all in one transfer, that may go to or from there through this machine; 0: as usual."""
    settle: float = 10.0
    """Seconds that a job may take to turn up in the site's listings after it was accepted, or an exit record after
    the job's end."""
    heartbeat: int = 15
    """Seconds between two signs of life of the harness there."""
    fence: int = 60
    """Seconds of silence after which the harness takes a former execution for dead."""
    vars: Mapping[str, str] = field(default_factory=dict)
    launcher: str = ""
    """What `${{ launch }}` stands for: shell text, with `{ranks}` and the like for a stage's figures."""
    launcher_ranks: str = ""
    """The launcher where more than one process is asked for; empty: the same."""
    launcher_gpu: str = ""
    """What the launcher is told besides, where the stage asks for gpus."""
    container: str = ""
    """What runs a container there, after the launcher; `{image}` and `{options}` stand for the stage's. `native`: the
    site itself runs the whole job in the image. Empty: no containers."""
    container_bind: str = ""
    """Its option for a folder (`{path}`) that a stage reads where it lies; empty: such folders are in it anyway."""
    container_env: str = ""
    """Its option for one of a stage's own variables, `{name}`; empty: it brings all of them."""
    threads_per_core: int = 1
    """What the scheduler calls a CPU, where it counts hardware threads: so many to a core."""
    account: str = ""
    """The allocation that jobs are charged to."""
    tariff: Tariff | None = None
    """How they are charged; None: nothing is booked for this site."""
    credentials: Mapping[str, str] = field(default_factory=dict)
    """References (`env:NAME`, `file:PATH`), never values: see connectors.secrets."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """By name, references to what jobs may be told in their environment; of sites on this machine only."""
    collection: str = ""
    """The Globus collection through which the site's files are reached."""
    collection_base: str = "/"
    """The folder of the site's own file system that is the collection's top."""
    globus: GlobusConfig = field(default_factory=GlobusConfig)
    """How the installation speaks to Globus, for a site whose files are reached through its collection."""
    purge: float = 0.0
    """Seconds for which the machine keeps files that nobody touches; 0: not known, for ever."""
    umask: str = ""
    """Octal digits for what jobs write there; empty: the site's own."""
    lanes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Scheduler words for urgent, normal and preemptible work."""
    lane_limits: Mapping[str, LaneLimits] = field(default_factory=dict)
    """What each lane takes; a lane that is not here has no limits of its own."""
    submit: Mapping[str, str] = field(default_factory=dict)
    """Scheduler words that every job there needs, with figures in braces as in `launcher`."""
    submit_gpu: Mapping[str, str] = field(default_factory=dict)
    """Those of jobs that ask for gpus, over them."""
    exclusive: bool = False
    """Are nodes given whole, shared with nobody, unless a job asks otherwise?"""
    capabilities: frozenset[str] = frozenset()
    """What the machine is said to be able to do, as `signal`: its scheduler can warn a job before its end."""
    claim: str = ""
    """How the start gate claims there, where the connector's own word is not right; empty: it is."""
    job_id_variable: str = ""
    """The environment variable in which the scheduler tells a job its id (SLURM_JOB_ID); empty: there is none."""
    restarts_variable: str = ""
    """The one that counts how often the scheduler started the job again (SLURM_RESTART_COUNT)."""
    installation: str = ""
    """Short name of this installation, in the comment of every job: two of them may share an account."""
    clearance: frozenset[str] = frozenset()
    """Kinds of data that may be there, beside what may be anywhere: export_control."""
    keep_attempts: float | None = None
    keep_failed: float | None = None
    """Seconds that folders of attempts stay after their run has succeeded, or has not; None: for ever."""
    options: Mapping[str, object] = field(default_factory=dict)
    """What only this connector knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceConfig:
    """Named storage, as the site document has it. As a side of a transfer it is called `NAME:`."""

    name: str
    collection: str = ""
    """UUID of the Globus collection that it is reached through; empty: by other ways."""
    url: str = ""
    """Where it can be read over HTTP, without a trailing `/`."""
    path: str = "/"
    """Where it begins: on the collection, or as an absolute folder of this machine where there is no collection."""
    mounted: Mapping[str, str] = field(default_factory=dict)
    """The folder under which a site's own file system shows it, by site."""
    prune: bool = False
    """May be deleted from, by a declared `keep`."""
    clearance: frozenset[str] = frozenset()
    """As a site's."""

    @property
    def side(self) -> str:
        """Its name as a side of a transfer."""
        return f"{self.name}:"


Factory = Callable[[SiteConfig, Clock], Site]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoverSetup:
    """What movers are made from."""

    sites: Mapping[str, Site]
    configs: Mapping[str, SiteConfig]
    blobs: Path
    """The broker's own store of documents' files, a folder; the side "" of transfers."""
    clock: Clock
    notes: Notes
    """Where a mover keeps what must outlive its process."""
    places: Mapping[str, PlaceConfig] = field(default_factory=dict)
    globus: GlobusConfig = field(default_factory=GlobusConfig)

    def on_this_machine(self) -> dict[str, Callable[[], Path]]:
        """By the names that transfers call them, the folders that this machine sees: the broker's own store (""),
        sites and places. Each raises SiteUnreachable while it is away."""
        folders = {"": self.blobs} | {
            place.side: Path(place.path) for place in self.places.values() if not place.collection and not place.url
        }
        sites = {name: site.live_root for name, site in self.sites.items() if isinstance(site, OnThisMachine)}
        return {name: partial(Path, folder) for name, folder in folders.items()} | sites


MoverFactory = Callable[[MoverSetup], ClosableMover]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceSetup:
    """What the files of a place are reached with."""

    config: PlaceConfig
    clock: Clock
    globus: GlobusConfig = field(default_factory=GlobusConfig)


PlaceFactory = Callable[[PlaceSetup], PlaceFiles]


class UnknownConnector(LookupError):
    """No connector of that name is installed, or not whole."""


def make_site(config: SiteConfig, clock: Clock) -> Site:
    """Build the connector that `config` names. Raises UnknownConnector with the names there are."""
    found = entry_points(group="crossfade.connectors")
    for entry in found:
        if entry.name == config.connector:
            try:
                factory: Factory = entry.load()
            except ImportError as error:
                lacks = f"site {config.name}: connector {config.connector!r} cannot be loaded: {error}"
                raise UnknownConnector(f"{lacks} (is everything installed that it needs?)") from error
            return factory(config, clock)
    known = ", ".join(sorted(entry.name for entry in found)) or "none"
    raise UnknownConnector(f"site {config.name}: no connector {config.connector!r} (installed: {known})")


def make_place(setup: PlaceSetup) -> PlaceFiles | None:
    """The files of a place: what looks into that kind of place, through the entry point group `crossfade.places`
    (`folder`, `collection`, `url`). None: nothing does yet."""
    config = setup.config
    kind = "collection" if config.collection else "url" if config.url else "folder"
    found = next((e for e in entry_points(group="crossfade.places") if e.name == kind), None)
    if found is None:
        return None
    factory: PlaceFactory = found.load()
    return factory(setup)


def make_movers(setup: MoverSetup) -> Mapping[str, ClosableMover]:
    """The movers that serve these sites and places, the preferred first: the one named as their connector if they all
    have the same and it has one; else the one that copies between folders of this machine, the one of the collections
    where any is named, rsync where a site is behind ssh, the one of buckets where a site has one, and where not all is
    on this machine, a relay. See docs/explanation/movers.md."""
    movers = {entry.name: entry for entry in entry_points(group="crossfade.movers")}
    connectors = {config.connector for config in setup.configs.values()}
    only = connectors.pop() if len(connectors) == 1 else ""

    def make(*names: str) -> Mapping[str, ClosableMover]:
        made: dict[str, ClosableMover] = {}
        for name in names:
            factory: MoverFactory = movers[name].load()
            made[name] = factory(setup)
        return made

    if only in movers:
        return make(only)
    here = {name for name, site in setup.sites.items() if isinstance(site, OnThisMachine)}
    collections = [
        *(config.collection for config in setup.configs.values()),
        *(p.collection for p in setup.places.values()),
    ]
    far = any(place.collection or place.url for place in setup.places.values())
    fits = {
        "copy": True,
        "globus": any(collections),
        "rsync": any(isinstance(site, OverSsh) and site.reach() is not None for site in setup.sites.values()),
        "s3": any(config.root.startswith("s3://") for config in setup.configs.values()),
        "relay": far or not here.issuperset(setup.sites),
    }
    return make(*(name for name, needed in fits.items() if needed and name in movers))
