"""The site document, whole: where work can go."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PrivateAttr

from broker.spec.part import Open, Part, always
from broker.spec.raw import RawDocument, document_from
from broker.spec.values import (
    Count,
    Duration,
    Line,
    Name,
    Number,
    Positive,
    SiteReference,
    Size,
    VariableName,
    or_expression,
    or_word,
    reads,
    whole,
)

Automatic = Annotated[
    int | str,
    reads(or_word("auto", whole(1, 1_000_000))),
    or_expression({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
]


class Unreachable(Part):
    """Both budgets must be spent before a site that does not answer counts as unreachable."""

    probes: Positive = 5
    seconds: Duration = 60


class Limits(Part):
    """What the site allows us."""

    queued: Positive | None = Field(default=None, description="Jobs of ours there at once; caps `slots`.")
    submits_per_minute: Number = Field(default=0, description="0: no limit.")


class Machine(Part):
    """What a profile says of a machine, and an entry of the site document may say otherwise."""

    connector: Name | None = None
    slots: Automatic | None = Field(
        default=None, description="Stages there at once; auto: one per core of this machine."
    )
    poll: Duration | None = Field(default=None, description="Between two looks at the site.")
    unreachable: Unreachable = always(Unreachable())
    cores: Automatic | None = Field(default=None, description="Per node; auto: those of this machine.")
    gpus: Count | None = Field(default=None, description="Per node.")
    memory: Size | None = Field(default=None, description="Per node; 0: not checked.")
    nodes: Positive | None = None
    max_walltime: Duration | None = None
    settle: Duration | None = Field(default=None, description="Until an accepted job must show in listings.")
    heartbeat: Duration | None = Field(default=None, description="Between two signs of life of the wrapper there.")
    fence: Duration | None = Field(
        default=None, description="Silence after which a former execution is taken for dead."
    )
    limits: Limits = always(Limits())
    launcher: Line | None = Field(default=None, description="What ${{ launch }} stands for; shell text.")
    vars: dict[VariableName, Line] = Field(default_factory=dict, description="What ${{ site.vars.NAME }} stands for.")
    options: Open = Field(default_factory=dict, description="What only its connector knows.")
    lanes: Open | None = None
    charge: Open | None = None


class Profile(Machine):
    """A machine as shipped data."""

    about: Line


class Site(Machine):
    """One site."""

    profile: SiteReference
    facility: Line = Field(default="", description="Sites of one facility fail together; empty: the site's own name.")
    account: Line | None = None
    root: Line | None = Field(default=None, description="The folder there below which everything of ours lives.")
    collection: Line | None = None
    credentials: Open | None = None
    umask: Line | None = None
    keep: Open | None = None
    clearance: list[Line] | None = None


class Place(Part):
    """Named storage."""

    collection: Line | None = None
    url: Line | None = None
    path: Line | None = None
    mounted: dict[Name, Line] = Field(default_factory=dict)
    prune: bool = False


class SiteDocument(Part):
    """The sites that work may go to, and named storage."""

    crossfade: Literal[1] = Field(description="The format's number.")
    sites: dict[Name, Site] = Field(min_length=1, max_length=1_000)
    places: dict[Name, Place] = Field(default_factory=dict)

    _raw: RawDocument | None = PrivateAttr(default=None)

    @property
    def raw(self) -> RawDocument:
        """The plain data that it was read from, with its lines."""
        return self._raw or document_from(self.written(), name="sites")

    def read_from(self, raw: RawDocument) -> SiteDocument:
        """Itself, remembering where it comes from."""
        self._raw = raw
        return self
