"""What a fault script has happen at a facility by the clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.facilities.batch import BatchFacility
from sandbox.facility import Outage
from sandbox.faults import CAPABILITIES, ComputeDown, FaultKind, Maintenance, Partition, Window
from sandbox.script import BadScript, FaultScript, Rule

STOPPABLE = (*CAPABILITIES, "compute")


def arm(facility: BatchFacility, script: FaultScript) -> None:
    """Let all that happen, from now on. Raises BadScript for parameters that make no sense."""
    facility.faults = script.of(facility.name)
    for rule in script.timed(facility.name):
        start = script.began + round(rule.at * 1e6)
        end = None if rule.lasts is None else start + round(rule.lasts * 1e6)
        try:
            if rule.fault == "outage":
                _outage(facility, rule, start, end)
            else:
                kind: type[Window] = FaultKind[rule.fault].value
                facility.inject(kind(start=start, end=end, **rule.params))
        except (TypeError, ValueError) as error:
            raise BadScript(f"{rule.fault}: {error}") from error


def _outage(facility: BatchFacility, rule: Rule, start: int, end: int | None) -> None:
    words: Mapping[str, Any] = rule.params
    planned, degraded = _flag(words, "planned"), _flag(words, "degraded")
    stops = words.get("stops", [] if degraded else ["submit", "compute"])
    if not isinstance(stops, list) or not set(stops) <= set(STOPPABLE):
        raise ValueError(f"stops is a list of {', '.join(STOPPABLE)}, not {stops!r}")
    facility.announce(
        Outage(
            resource=str(words.get("resource", facility.name)),
            start=start,
            end=end,
            planned=planned,
            description=str(words.get("description", "Scheduled Maintenance" if planned else "System unavailable")),
            degraded=degraded,
        )
    )
    silent = [part for part in stops if part != "compute"]
    if silent:
        facility.inject(Partition(start=start, end=end, capabilities=silent))
    if "compute" in stops:
        facility.inject(Maintenance(start=start, end=end) if planned else ComputeDown(start=start, end=end))


def _flag(words: Mapping[str, Any], name: str) -> bool:
    value = words.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {value!r}")
    return value
