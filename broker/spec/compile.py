"""A sound workflow and its params to what the store keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from broker.spec.body import BodyMaker
from broker.spec.compiled import FORMAT, CompiledRun, CompiledStage
from broker.spec.conditions import reason_against
from broker.spec.copies import DELIVERY
from broker.spec.errors import Wrong
from broker.spec.expressions import ParamValue
from broker.spec.files import FileFinder
from broker.spec.load import filled_workflow
from broker.spec.moving import delivers, delivery_body, is_waited_for
from broker.spec.params import param_values
from broker.spec.places import place_faults, prune_warnings
from broker.spec.rules import deadline_of, moving_rules, stage_rules
from broker.spec.stage import Stage
from broker.spec.structure import parents
from broker.spec.warnings import warnings_of
from broker.spec.workflow import Workflow
from connectors.registry import PlaceConfig

Json = dict[str, Any]


def compile_workflow(
    workflow: Workflow,
    *,
    params: Mapping[str, str],
    base: Path | None,
    probe_budget: float = 60.0,
    places: Mapping[str, PlaceConfig] | None = None,
) -> CompiledRun:
    """The workflow with these params, its files looked up below `base` (the document's folder).

    Without a `base` the document came by itself, from somewhere else: a file that it names is refused, unlooked at.
    `probe_budget`: seconds that it takes at most until a site counts as unreachable; a `failover.after` below it is
    worth a warning. `places`: those of the site document; None: not known, so that only the form of what the document
    says of them is checked. Raises DocumentError; opens files, stores nothing.
    """
    values, faults = param_values(workflow.params, params)
    if faults:
        raise workflow.raw.refuse(faults)
    if workflow.params or not workflow.loaded:
        workflow = filled_workflow(workflow.raw, values)
    unknown = list(place_faults(workflow, places)) if places is not None else []
    deadline = workflow.policy.deadline
    if deadline is not None and deadline.from_ == "ready":
        cure = "write it at the stages, or count from submit or event"
        unknown.append((("policy", "deadline", "from"), Wrong("a run is never ready, its stages are", cure)))
    if unknown:
        raise workflow.raw.refuse(unknown)
    against = skipped(workflow.stages, values)
    bodies = BodyMaker(workflow, FileFinder(base), skipped=against)
    stages = _stages(workflow, bodies, against)
    if bodies.faults:
        raise workflow.raw.refuse(bodies.faults)
    document = _document(workflow, values)
    return CompiledRun(
        name=workflow.name,
        key=workflow.key,
        contact=workflow.contact,
        document=document,
        digest=_digest(canonical({"document": document, "stages": [stage.digest for stage in stages]})),
        warnings=[*warnings_of(workflow, probe_budget), *(prune_warnings(workflow, places) if places else ())],
        blobs={sha256: found.source for sha256, found in bodies.blobs.items()},
        stages=stages,
        notify=[(entry.to, list(entry.when)) for entry in workflow.notify],
        deadline=deadline_of(workflow.policy),
        at_once=workflow.concurrency.max if workflow.concurrency is not None else 0,
    )


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(value: object) -> str:
    """Compact JSON with sorted keys: equal values have equal texts."""
    return _CANONICAL.encode(value)


def _stages(workflow: Workflow, bodies: BodyMaker, against: Mapping[str, str]) -> list[CompiledStage]:
    """Each stage, and right after it the one that delivers what it leaves, if anything is to be delivered."""
    stages = workflow.stages
    delivered = {name: delivery_of(name) for name, stage in stages.items() if stage.outputs and delivers(stage)}
    waited_for = {name for name in delivered if is_waited_for(stages[name])}
    numbers = _numbers(stages, delivered)
    shared: dict[str, str] = {}
    compiled = []

    def add(path: str, needs: Iterable[str], takes: Iterable[str], rules: Json, body: Json) -> None:
        text = canonical(rules)
        text = shared.setdefault(text, text)
        told = canonical(body)
        compiled.append(
            CompiledStage(
                path=path,
                needs=sorted(numbers[parent] for parent in needs),
                input_needs=frozenset(numbers[parent] for parent in takes),
                rules=text,
                body=told,
                digest=_digest(f"{text}\n{told}"),
            )
        )

    for name, stage in stages.items():
        needs = parents(stages, name)
        if waited_for:
            needs += [delivered[parent] for parent in needs if parent in waited_for]
        taken = {given.from_[0] for given in stage.inputs}
        takes = [parent for parent in taken if parent in numbers]
        skip = {"skip": against[name]} if name in against else {}
        add(name, needs, takes, _rules(workflow, stage, numbers) | skip, bodies.body(name, stage))
        if name in delivered:
            rules = moving_rules(workflow.policy, stage) | skip
            add(delivered[name], [name], [name], rules, delivery_body(name, stage.outputs))
    return compiled


def skipped(stages: Mapping[str, Stage], values: Mapping[str, ParamValue]) -> dict[str, str]:
    """The stages that are not run with these params, and why: their own `when` is false, or that of a stage whose
    files they take."""
    found: dict[str, str] = {}

    def against(name: str) -> str:
        if name not in found:
            own = reason_against(stages[name].when, values)
            taken = (given.from_[0] for given in stages[name].inputs if given.from_[0] in stages)
            found[name] = own or next(
                (f"takes files of {other}: {why}" for other in taken if (why := against(other))), ""
            )
        return found[name]

    if all(stage.when is None for stage in stages.values()):
        return found
    return {name: why for name in _parents_first(stages) if (why := against(name))}


def _parents_first(stages: Mapping[str, Stage]) -> Iterator[str]:
    """Each after all that it waits for, so that no chain of them is followed deeply. There is no cycle."""
    done: set[str] = set()
    for first in stages:
        path = [first]
        while path:
            left = [name for name in parents(stages, path[-1]) if name not in done]
            if left:
                path.append(left[0])
            elif (name := path.pop()) not in done:
                done.add(name)
                yield name


def delivery_of(name: str) -> str:
    """The path of the stage that delivers what this one leaves."""
    return f"{name}/{DELIVERY}"


def _numbers(stages: Iterable[str], delivered: Mapping[str, str]) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for name in stages:
        numbers[name] = len(numbers)
        if name in delivered:
            numbers[delivered[name]] = len(numbers)
    return numbers


def _rules(workflow: Workflow, stage: Stage, numbers: Mapping[str, int]) -> Json:
    if stage.copy_ is not None:
        deadline = deadline_of(stage.policy)
        return moving_rules(workflow.policy, stage) | ({"deadline": deadline} if deadline else {})
    rules = stage_rules(workflow.policy, stage)
    return rules if stage.near is None else rules | {"near": numbers[stage.near]}


def _document(workflow: Workflow, values: Mapping[str, ParamValue]) -> Mapping[str, Any]:
    """The document as it was run: each param's value stands as its default, so that it reads as a document again."""
    document = workflow.written()
    if values:
        document["params"] = {name: {"type": value.type, "default": value.value} for name, value in values.items()}
    return document


def _digest(text: str) -> str:
    return hashlib.sha256(f"crossfade {FORMAT}\n{text}".encode()).hexdigest()
