"""What may be spent, and how a machine charges: `policy.budget` of workflows, `charge` and `budgets` of the sites."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema, model_validator

from broker.spec.errors import Wrong, quoted
from broker.spec.expressions import Filling
from broker.spec.part import Part
from broker.spec.values import Name, Number, Positive, SiteReference, SubmitWord, or_expression, reads, text

_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?) ?%")
_SHARE_CURE = "write a part of the budget as in 25%"
Unit = Literal["node_hours", "core_hours", "gpu_hours", "usd"]


def _share(value: object, filling: Filling) -> object:
    """A part of a whole, from 0 to 1."""
    value, pending = filling.typed(value)
    if pending:
        return value
    if isinstance(value, float) and 0 <= value <= 1:  # as documents are written out
        return value
    found = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or float(found[1]) > 100:
        raise Wrong(f"{quoted(value)} is no part of a budget", _SHARE_CURE)
    return float(found[1]) / 100


def _moment(value: object, _: Filling) -> str:
    """A time, with its zone; as text, in UTC."""
    try:
        found = datetime.fromisoformat(text(value))
    except ValueError as error:
        raise Wrong(f"{quoted(value)} is no time", "write it as in 2026-03-01T08:00:00Z") from error
    if found.tzinfo is None:
        raise Wrong(f"{quoted(value)} does not say in which zone it is", "write it as in 2026-03-01T08:00:00Z")
    return found.astimezone(UTC).isoformat()


Share = Annotated[
    float,
    reads(_share),
    or_expression({"type": ["string", "number"], "pattern": r"^[0-9.]+ ?%$", "minimum": 0, "maximum": 1}),
]
Moment = Annotated[str, reads(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]


class Bound(Part):
    """What may be spent at the most."""

    node_hours: Number | None = Field(default=None, description="As the sites charge them: factors are in it.")
    usd: Number | None = Field(default=None, description="Dollars, where hours are paid for. 0: nowhere.")


class Budget(Bound):
    """Of the run for all its stages together, or of a stage for its own attempts."""

    per_site: dict[SiteReference, Bound] = Field(
        default_factory=dict, description="By site, facility or profile, within the whole."
    )
    resilience: Share | None = Field(
        default=None, description="The part that lost work and copies beside each other may take, as in 25%."
    )

    @model_validator(mode="after")
    def _check_share(self) -> Budget:
        if self.resilience is not None and self.node_hours is None and self.usd is None:
            raise Wrong("`resilience` is a part of `node_hours` or `usd`, and neither is said", "say one of them")
        return self


class ReservedNodes(Part):
    """Nodes kept for us for a time: all of it is charged, used or not."""

    nodes: Positive
    start: Moment
    end: Moment

    @model_validator(mode="after")
    def _check_order(self) -> ReservedNodes:
        if datetime.fromisoformat(self.end) <= datetime.fromisoformat(self.start):
            raise Wrong("the reservation ends before it begins", "exchange `start` and `end`")
        return self


class Charge(Part):
    """How what runs there is charged. A lane's own factor is `charge` of the lane."""

    unit: Annotated[Unit, reads(lambda value, _: _unit(value), schema=Unit)] = Field(
        default="node_hours", description="What is counted; usd: nodes, paid for in money."
    )
    factor: Number = Field(default=1, description="What one node, core or GPU costs in an hour, in the unit.")
    usd_per_hour: Number = Field(default=0, description="Dollars for one unit, where hours are bought.")
    reservations: dict[SubmitWord, ReservedNodes] = Field(
        default_factory=dict, description="By the name that jobs ask for them by."
    )


def _unit(value: object) -> str:
    word = text(value)
    if word not in ("node_hours", "core_hours", "gpu_hours", "usd"):
        raise Wrong(f"{quoted(word)} is no unit of charges", "choose one of node_hours, core_hours, gpu_hours, usd")
    return word


class Budgets(Part):
    """Caps for all runs together. `crossfade budget set` says others over them."""

    projects: dict[SubmitWord, Bound] = Field(default_factory=dict, description="By `account`, over all sites.")
    users: dict[Name, Bound] = Field(default_factory=dict, description="By who submitted.")
