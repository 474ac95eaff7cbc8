"""The site document, whole: where work can go."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from broker.spec.budget import Budgets, Charge
from broker.spec.errors import Wrong, nearest, quoted
from broker.spec.machine_values import Bind, Container, Credential, Launcher, MachineWord, Passed, Umask
from broker.spec.part import Open, Part, always
from broker.spec.policy import LaneName
from broker.spec.raw import RawDocument, document_from
from broker.spec.telling import Telling
from broker.spec.values import (
    Count,
    Duration,
    EnvName,
    Flag,
    Line,
    Name,
    Number,
    Positive,
    SiteReference,
    Size,
    SubmitWord,
    VariableName,
    one_of,
    or_expression,
    or_word,
    read_variable,
    reads,
    whole,
)

Automatic = Annotated[
    int | str,
    reads(or_word("auto", whole(1, 1_000_000))),
    or_expression({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
]
Cores = Annotated[
    int | str,
    reads(or_word("auto", whole(0, 1_000_000))),
    or_expression({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 0}]}),
]


Claim = Literal["atomic_fs", "unique_name", "conditional_put", "none"]
Capability = Literal["signal", "requeue", "restart_count", "find_by_name", "idempotency_key", "accounting", "files"]


class Unreachable(Part):
    """Both budgets must be spent before a site that does not answer counts as unreachable."""

    probes: Positive = 5
    seconds: Duration = 60


class Losses(Part):
    """How often the site is lost together with its disks: for hours, or for good."""

    every: Duration | None = Field(
        default=None, description="On average; 30 days unless said. Checkpoints are copied elsewhere accordingly."
    )


class Limits(Part):
    """What the site allows us."""

    queued: Positive | None = Field(default=None, description="Jobs of ours there at once; caps `slots`.")
    submits_per_minute: Number = Field(default=0, description="0: no limit.")
    failovers_per_minute: Count | None = Field(
        default=None, description="Stages carried there from sites that died; 0: no limit."
    )
    relay_file: Size | None = Field(default=None, description="Of one file that goes through the broker's machine.")
    relay_transfer: Size | None = Field(default=None, description="Of all files of one such transfer together.")


class Step(Part):
    """Up to so many nodes, a job may last so long."""

    nodes: Positive
    max: Duration


class LaneOfSite(Part):
    """A lane: what its jobs are told to the scheduler, in the scheduler's own words, and what it takes."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, protected_namespaces=())
    __pydantic_extra__: dict[str, SubmitWord] = Field(init=False)

    charge: Number = Field(default=1, description="What a node hour there costs, in node hours.")
    min_walltime: Duration | None = None
    max_walltime: Duration | None = None
    min_nodes: Positive | None = None
    max_nodes: Positive | None = None
    walltimes: list[Step] = Field(default_factory=list, description="By nodes, ascending.")

    @model_validator(mode="after")
    def _check_words(self) -> LaneOfSite:
        for word in self.__pydantic_extra__:
            if word.startswith(("min_", "max_")):
                known = [name for name in type(self).model_fields if name.startswith(word[:4])]
                raise Wrong(f"the key {quoted(word)} is not known here", nearest(word, known), kind="unknown_key")
            read_variable(word)
        return self

    @property
    def words(self) -> dict[str, str]:
        """What the scheduler is told."""
        return dict(self.__pydantic_extra__)

    def written(self) -> dict[str, Any]:
        """As any part, with the words."""
        known = {name: value for name, value in super().written().items() if name not in self.__pydantic_extra__}
        return known | self.words


class Variables(Part):
    """How the scheduler tells a job about itself."""

    job_id: EnvName | None = None
    restarts: EnvName | None = Field(default=None, description="How often it was started again.")


class Machine(Part):
    """What a profile says of a machine, and an entry of the site document may say otherwise."""

    connector: Name | None = None
    slots: Automatic | None = Field(
        default=None, description="Stages there at once; auto: one per core of this machine."
    )
    poll: Duration | None = Field(default=None, description="Between two looks at the site.")
    unreachable: Unreachable = always(Unreachable())
    losses: Losses = always(Losses())
    cores: Cores | None = Field(
        default=None, description="Per node; auto: those of this machine. 0: not known, not checked."
    )
    gpus: Count | None = Field(default=None, description="Per node.")
    memory: Size | None = Field(default=None, description="Per node; 0: not checked.")
    nodes: Count | None = Field(default=None, description="0: not known, not checked.")
    max_walltime: Duration | None = None
    speed: Number | None = Field(
        default=None, gt=0, description="How quick it is; 2: twice as quick as walltimes are written for."
    )
    settle: Duration | None = Field(default=None, description="Until an accepted job must show in listings.")
    heartbeat: Duration | None = Field(default=None, description="Between two signs of life of the wrapper there.")
    fence: Duration | None = Field(
        default=None, description="Silence after which a former execution is taken for dead."
    )
    limits: Limits = always(Limits())
    launcher: Launcher | None = Field(default=None, description="What ${{ launch }} stands for; shell text.")
    launcher_ranks: Launcher | None = Field(
        default=None, description="Instead of it where more than one process is asked for."
    )
    launcher_gpu: Launcher | None = Field(default=None, description="Added to it where gpus are asked for.")
    container: Container | None = Field(
        default=None, description="What runs a container there; native: the site runs whole jobs in one."
    )
    container_bind: Bind | None = Field(
        default=None, description="Its option, one word, for each folder that the stage reads where it lies."
    )
    container_env: Passed | None = Field(
        default=None, description="Its option, one word, for each of the stage's own variables."
    )
    threads_per_core: Positive | None = Field(
        default=None, description="Hardware threads, where the scheduler calls each of them a CPU."
    )
    submit: dict[VariableName, MachineWord] = Field(
        default_factory=dict, description="Words that the scheduler is told for every job."
    )
    submit_gpu: dict[VariableName, MachineWord] = Field(
        default_factory=dict, description="And over them, where gpus are asked for."
    )
    lanes: dict[LaneName, LaneOfSite] = Field(default_factory=dict)
    exclusive: Flag | None = Field(default=None, description="Are whole nodes asked for?")
    claim: Annotated[Claim, one_of(Claim)] | None = Field(default=None, description="How the start gate claims there.")
    capabilities: list[Annotated[Capability, one_of(Capability)]] = Field(default_factory=list)
    variables: Variables = always(Variables())
    purge: Duration | None = Field(default=None, description="How long the machine keeps files below our root.")
    collection_base: Line | None = Field(
        default=None, description="The folder there that is the top of its Globus collection; else /."
    )
    vars: dict[VariableName, Line] = Field(default_factory=dict, description="What ${{ site.vars.NAME }} stands for.")
    options: Open = Field(default_factory=dict, description="What only its connector knows.")
    charge: Charge | None = Field(default=None, description="How what runs there is charged; nothing: it is not.")


class Profile(Machine):
    """A machine as shipped data."""

    about: Line
    elsewhere: Flag = Field(default=False, description="Its folders are not this machine's: roots are absolute there.")


class KeepAtSite(Part):
    """How long the folders of attempts stay at a site, once their run is over."""

    attempts: Duration | None = Field(default=None, description="Of runs that have succeeded.")
    failed: Duration | None = Field(default=None, description="Of runs that failed or were canceled.")


Clearance = Literal["export_control"]
Clearances = Annotated[
    list[Annotated[Clearance, one_of(Clearance)]], Field(description="What kinds of data may be there.")
]


class Site(Machine):
    """One site."""

    profile: SiteReference
    facility: Line = Field(default="", description="Sites of one facility fail together; empty: the site's own name.")
    provider: Line = Field(default="", description="Sites of one provider may fall silent together, and it is not us.")
    account: SubmitWord | None = Field(default=None, description="The allocation that pays.")
    root: Line | None = Field(default=None, description="The folder there below which everything of ours lives.")
    collection: Line | None = Field(default=None, description="The Globus collection that its files are reached by.")
    credentials: dict[VariableName, Credential] = Field(
        default_factory=dict, description="References, env:NAME or file:PATH."
    )
    secrets: dict[VariableName, Credential] = Field(
        default_factory=dict, description="By name, for `env: {X: secret:NAME}`; references. At local sites only."
    )
    umask: Umask | None = Field(default=None, description="For what jobs write there; octal.")
    keep: KeepAtSite = always(KeepAtSite())
    clearance: Clearances = Field(default_factory=list)


class Place(Part):
    """Named storage."""

    collection: Line | None = Field(default=None, description="The Globus collection that it is reached through.")
    url: Line | None = Field(default=None, description="Where it is read over HTTP.")
    path: Line | None = Field(default=None, description="Where it begins, on the collection or on this machine.")
    mounted: dict[Name, Line] = Field(
        default_factory=dict, description="By site, the folder under which its own file system shows the place."
    )
    prune: Flag = Field(default=False, description="May a declared `keep` delete from it?")
    clearance: Clearances = Field(default_factory=list)


class Globus(Part):
    """How this installation speaks to Globus."""

    client_id: Credential | None = Field(default=None, description="Of a service or native client; a reference.")
    client_secret: Credential | None = Field(default=None, description="A reference, env:NAME or file:PATH.")
    transfer_url: Line | None = Field(default=None, description="Of a stand-in.")
    auth_url: Line | None = Field(default=None, description="Of a stand-in.")
    active: Positive = Field(default=3, description="Transfers worked at, at a time, for one identity.")
    poll: Duration = Field(default=5, description="Between two looks while something changes; slower while not.")
    patience: Duration = Field(default=300, description="Without progress, until a transfer counts as stalled.")
    deadline: Duration = Field(default=604_800, description="Until Globus itself gives a transfer up.")
    encrypt: Flag = Field(default=True, description="Is data encrypted on its way?")


class SiteDocument(Part):
    """The sites that work may go to, and named storage."""

    crossfade: Literal[1] = Field(description="The format's number.")
    sites: dict[Name, Site] = Field(min_length=1, max_length=1_000)
    places: dict[Name, Place] = Field(default_factory=dict)
    globus: Globus = always(Globus())
    budgets: Budgets = always(Budgets())
    notify: Telling = always(Telling())

    _raw: RawDocument | None = PrivateAttr(default=None)

    @property
    def raw(self) -> RawDocument:
        """The plain data that it was read from, with its lines."""
        return self._raw or document_from(self.written(), name="sites")

    def read_from(self, raw: RawDocument) -> SiteDocument:
        """Itself, remembering where it comes from."""
        self._raw = raw
        return self
