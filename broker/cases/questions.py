"""The policies that can be asked, each by the pure function that decides in the broker."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.cases.values import NOON, arguments, hints, unsaid
from broker.spec.errors import KeyPath
from policies import checkpoint, doubt, failover, health, intervals, placement, retry, shipping

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """One policy."""

    name: str
    function: Callable[..., Any]
    also: Mapping[str, Callable[[Callable[..., Any], Arguments], object]] = field(default_factory=dict)
    """What else can be expected of its answer, worked out where it is expected."""

    @property
    def wanted(self) -> Mapping[str, Any]:
        """What it takes: the declared types of its arguments, by name."""
        return hints(self.function)

    def made(self, given: Mapping[str, Any], path: KeyPath) -> dict[str, Any]:
        """Its arguments: what is given, and defaults. Raises Misfit."""
        now = given.get("now", NOON)
        now = now if isinstance(now, int) else NOON
        told = arguments(self.wanted, given, path, now=now)
        for name, parameter in inspect.signature(self.function).parameters.items():
            if name not in told and parameter.default is inspect.Parameter.empty:
                told[name] = unsaid(self.wanted[name], name, path, now=now)
        return told


def ranking(place: Callable[..., Any], given: Arguments) -> list[str]:
    """The sites in the order in which they would be taken, each when those before it are not there."""
    order: list[str] = []
    left = list(given["candidates"])
    while left:
        decision = place(**{**given, "candidates": left})
        if decision.outcome != "place":
            break
        order.append(decision.site)
        left = [candidate for candidate in left if candidate.site.name != decision.site]
    return order


QUESTIONS: Mapping[str, Question] = {
    question.name: question
    for question in (
        Question("placement", placement.place, {"ranking": ranking}),
        Question("failover", failover.judge),
        Question("retry", retry.after_failure),
        Question("health", health.judge),
        Question("doubt", doubt.companions),
        Question("shipping", shipping.ship),
        Question("inputs", shipping.send_inputs),
        Question("prune", shipping.prune),
        Question("checkpoint", checkpoint.choose),
        Question("interval", intervals.ask_every),
    )
}
