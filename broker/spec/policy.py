"""`policy`: where a stage may run, and what happens when that place fades."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from broker.spec.budget import Budget
from broker.spec.errors import Wrong
from broker.spec.part import Part, always
from broker.spec.values import Count, Duration, Flag, SiteReference, many, one_of

Act = Annotated[Literal["auto", "ask", "never"], one_of(Literal["auto", "ask", "never"])]
OldCopy = Annotated[Literal["kill", "drain", "leave"], one_of(Literal["kill", "drain", "leave"])]
Hedge = Annotated[Literal["never", "start", "finish"], one_of(Literal["never", "start", "finish"])]
Lane = Literal["urgent", "normal", "preemptible"]
LaneName = Annotated[Lane, one_of(Lane)]
Lanes = Annotated[list[LaneName], BeforeValidator(many, json_schema_input_type=LaneName | list[LaneName])]
Since = Annotated[Literal["event", "submit", "ready"], one_of(Literal["event", "submit", "ready"])]
OnMiss = Annotated[Literal["continue", "cancel"], one_of(Literal["continue", "cancel"])]
Failback = Annotated[Literal["next_stage", "never"], one_of(Literal["next_stage", "never"])]


class Sites(Part):
    """Names of sites, facilities or profiles."""

    allow: list[SiteReference] = Field(default_factory=list, description="Only these; empty: every site.")
    prefer: list[SiteReference] = Field(default_factory=list, description="These first, in this order.")
    deny: list[SiteReference] = Field(default_factory=list, description="None of these.")


class Failover(Part):
    """When and how a stage is carried to another site."""

    act: Act = Field(default="auto", description="never still prints every decision.")
    after: Duration = Field(default=900, description="Silence of a site before its stages are carried elsewhere.")
    max: Count = Field(default=3, description="Times that one stage may be carried elsewhere.")
    old_copy: OldCopy = Field(default="kill", description="What happens to the copy left behind.")
    hedge: Hedge = Field(default="never", description="Copies at several sites at once.")
    failback: Failback = Field(default="next_stage", description="When work goes home again.")


class Data(Part):
    """Where data may be."""

    export_control: Flag = Field(default=False, description="Only where `clearance` names export_control.")
    stay: list[SiteReference] = Field(
        default_factory=list, description="Sites, facilities, profiles or places; empty: anywhere."
    )


def _deadline(value: object) -> object:
    return value if isinstance(value, dict) else {"within": value}


class Deadline(Part):
    """Until when."""

    within: Duration
    from_: Since = Field(default="submit", alias="from", description="What it is counted from.")
    probability: Any = None
    on_miss: OnMiss = Field(default="continue", description="What becomes of what is not done then.")

    @model_validator(mode="after")
    def _check(self) -> Deadline:
        if not isinstance(self.within, str) and self.within <= 0:  # text: params are not known yet
            raise Wrong("a deadline needs time", "write within: 20m")
        return self


WithinOrMore = Annotated[Deadline, BeforeValidator(_deadline, json_schema_input_type=str | float | Deadline)]


class Policy(Part):
    """Of the run for all its stages, or of a stage: what the stage says replaces what the run says."""

    sites: Sites = always(Sites())
    failover: Failover = always(Failover())
    data: Data = always(Data())
    lane: Lanes = Field(
        default_factory=list, description="Best first; a site that has none of them is refused. Empty: normal."
    )
    deadline: Annotated[Deadline, BeforeValidator(_deadline, json_schema_input_type=str | float | Deadline)] | None = (
        None
    )
    budget: Budget | None = None
