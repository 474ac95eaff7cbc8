"""A stage: the unit of placement and failover, as people write it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from broker.spec.machine_values import EnvValue, Image, Launch, SiteLine, When
from broker.spec.part import Open, Part, always
from broker.spec.policy import Failover, Lanes, Policy
from broker.spec.values import (
    CheckpointPattern,
    Command,
    Count,
    Duration,
    End,
    EnvName,
    ExitCode,
    Flag,
    Folder,
    Interval,
    Line,
    Name,
    Positive,
    RelativePath,
    Signal,
    SiteReference,
    Size,
    SubmitWord,
    VariableName,
    Walltime,
    check_name,
    many,
    one_of,
)

Duplicates = Annotated[Literal["allow", "never", "ask"], one_of(Literal["allow", "never", "ask"])]
Restore = Annotated[Literal["dir", "in_place"], one_of(Literal["dir", "in_place"])]
Ship = Annotated[Literal["auto", "never", "always"], one_of(Literal["auto", "never", "always"])]
Deliver = Annotated[Literal["before_done", "later"], one_of(Literal["before_done", "later"])]
ExitAction = Annotated[
    Literal["fail", "retry", "continue", "more_memory"],
    one_of(Literal["fail", "retry", "continue", "more_memory"]),
]
Lines = Annotated[list[Line], BeforeValidator(many, json_schema_input_type=str | list[str])]
Names = Annotated[list[Name], BeforeValidator(many, json_schema_input_type=str | list[str])]


class Software(Part):
    """What the payload needs around it."""

    setup: Command | None = Field(default=None, description="Shell lines before the payload, run without -u.")
    image: Image | None = Field(default=None, description="Container image of the payload.")
    options: list[SiteLine] = Field(default_factory=list, description="For the command that runs the container.")


class Input(Part):
    """Files that must be there before the stage starts."""

    name: RelativePath = Field(description="What the producer calls it; a trailing / means a folder.")
    from_: Lines = Field(
        alias="from",
        min_length=1,
        description="A stage, a path beginning with ./ or /, or PLACE:path; several places hold the same.",
    )
    as_: RelativePath | None = Field(default=None, alias="as", description="Its path here.")
    match: Line | None = Field(default=None, description="Of a folder, only files that match this glob.")
    wait: Duration | None = Field(default=None, description="How long it may still be missing from its place.")


class Keep(Part):
    """What is removed, and when: by place, a time after everything arrived."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, protected_namespaces=())
    __pydantic_extra__: dict[str, Duration] = Field(init=False)

    attempt: Duration | None = Field(default=None, description="Of what lies in the attempt's directory at its site.")
    if_verified_at: Names = Field(
        default_factory=list, description="Only when these places hold the same files, by digest."
    )

    @model_validator(mode="after")
    def _check_names(self) -> Keep:
        for name in self.__pydantic_extra__:
            check_name(name, "the name of a place")
        return self

    @property
    def places(self) -> dict[str, float]:
        """By place, the seconds after which it is removed there."""
        return {name: float(value) for name, value in self.__pydantic_extra__.items()}

    def written(self) -> dict[str, Any]:
        """As any part, with the places."""
        known = {name: value for name, value in super().written().items() if name not in self.__pydantic_extra__}
        return {**self.__pydantic_extra__, **known}


class Copy(Part):
    """A file or folder, from one place to another."""

    from_: Lines = Field(alias="from", min_length=1, description="PLACE:path; several hold the same.")
    to: Line = Field(description="PLACE:path.")
    keep: Keep | None = Field(default=None, description="What is removed afterwards.")


class Output(Part):
    """A file or folder that the stage leaves."""

    path: RelativePath = Field(description="A trailing / means a folder.")
    required: Flag = Field(default=True, description="Without it the stage has failed.")
    to: Lines = Field(default_factory=list, description="PLACE:path, where it is brought; several: to each.")
    deliver: Deliver = Field(
        default="later", description="before_done: stages that need this one wait until it has arrived."
    )
    keep: Keep | None = Field(default=None, description="What is removed afterwards.")


class Resources(Part):
    """What the stage asks of a site: by ranks, or per node."""

    nodes: Positive = 1
    cores: Positive = Field(default=1, description="Per node.")
    gpus: Count = Field(default=0, description="Per node.")
    memory: Size = Field(default=0, description="Per node; 0: the site's own default.")
    walltime: Walltime = Field(default="max", description="max: the longest that the site gives.")
    ranks: Positive | None = Field(default=None, description="Processes; nodes follow from the site's node shape.")
    cores_per_rank: Positive | None = None
    gpus_per_rank: Count | None = None
    memory_per_rank: Size | None = None


class Ask(Part):
    """How the payload is asked for a checkpoint: one of file, signal or command."""

    file: RelativePath | None = Field(default=None, description="The wrapper makes this file.")
    signal: Signal | None = Field(default=None, description="Sent to the payload's processes.")
    command: Command | None = Field(default=None, description="Run beside the payload.")
    before_end: Duration = Field(default=120, description="How long before its end it is asked.")


class Checkpoint(Part):
    """How the payload writes checkpoints, and how they are used."""

    path: Folder = Field(default=".", description="The folder that they are in.")
    match: CheckpointPattern | None = Field(
        default=None, description="Their files; group 1 is the checkpoint's number."
    )
    complete: CheckpointPattern | None = Field(default=None, description="The marker that one is whole; same group 1.")
    ask: Ask | None = None
    every: Interval | None = Field(default=None, description="How often it is asked for.")
    restore: Restore = "dir"
    ship: Ship = Field(default="auto", description="Are copies sent to the next candidate site beforehand?")
    keep: Positive = Field(default=2, description="How many stay at the site, and copies elsewhere.")
    portable: Open | None = None


class Continue(Part):
    """When an end is only the end of a segment."""

    on: list[End] = Field(min_length=1, description="time_limit, or `exit N`.")
    max: Positive = Field(default=100, description="Segments after the first.")
    no_progress: Positive = Field(default=2, description="Stop after that many without a newer checkpoint.")


class Retry(Part):
    """How often the stage is tried again, by whose fault it was."""

    site_fault: Count = 3
    app_fault: Count = 0
    exit_codes: dict[ExitCode, ExitAction] = Field(default_factory=dict)


class SitePolicy(Part):
    """The part of a policy that can differ from site to site."""

    failover: Failover = always(Failover())
    lane: Lanes = Field(default_factory=list)


class Differs(Part):
    """What may differ from site to site: everything but the graph and what the stage leaves."""

    run: Command | None = Field(default=None, description="Shell text, run as /bin/sh -eu.")
    restart: Command | None = Field(default=None, description="Run instead when a checkpoint is restored.")
    files: list[RelativePath] = Field(default_factory=list, description="Files and folders beside the document.")
    env: dict[EnvName, EnvValue] = Field(
        default_factory=dict, description="secret:NAME: what a local site's owner keeps under that name."
    )
    software: Software = always(Software())
    resources: Resources = always(Resources())
    checkpoint: Checkpoint | None = None
    continue_: Continue | None = Field(default=None, alias="continue")
    retry: Retry = always(Retry())
    duplicates: Duplicates = Field(default="allow", description="May copies overlap? One commits anyway.")
    launch: Launch | None = Field(default=None, description="Instead of the site's launcher.")


class AtSite(Differs):
    """A stage's keys for one site or profile, and words for its scheduler."""

    submit: dict[VariableName, SubmitWord] = Field(default_factory=dict)
    policy: SitePolicy = always(SitePolicy())
    inputs: list[Open] = Field(default_factory=list)
    outputs: list[Open] = Field(default_factory=list)


class Stage(Differs):
    """One stage of the workflow."""

    needs: list[Name] = Field(default_factory=list, description="Stages that must have succeeded before.")
    inputs: list[Input] = Field(default_factory=list)
    outputs: list[Output] = Field(default_factory=list)
    policy: Policy = always(Policy())
    required: Flag = Field(default=True, description="false: its failure is noted and fails nothing.")
    at: dict[SiteReference, AtSite] = Field(default_factory=dict)
    copy_: Annotated[list[Copy], Field(min_length=1, max_length=1_000)] | None = Field(
        default=None, alias="copy", description="Only move data: no run, no site, no job."
    )
    near: Name | None = Field(default=None, description="Rather at the site where that stage's files are.")
    start: Literal["early"] | None = None
    kind: Literal["service"] | None = None
    ready: Open | None = None
    gate: Open | None = None
    redo: Name | None = None
    when: When | None = Field(default=None, description="A condition over params; false: the stage is skipped.")
    map: Any = None
    reduce: Any = None
    loop: Any = None
    expand: Any = None
    group: Any = None
    channel: Any = None
    signal: Any = None
