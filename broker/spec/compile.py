"""A sound workflow and its params to what the store keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broker.spec.body import BodyMaker
from broker.spec.compiled import FORMAT, CompiledRun, CompiledStage
from broker.spec.expressions import ParamValue
from broker.spec.files import FileFinder
from broker.spec.load import filled_workflow
from broker.spec.params import param_values
from broker.spec.rules import stage_rules
from broker.spec.structure import parents
from broker.spec.warnings import warnings_of
from broker.spec.workflow import Workflow


def compile_workflow(
    workflow: Workflow, *, params: Mapping[str, str], base: Path | None, probe_budget: float = 60.0
) -> CompiledRun:
    """The workflow with these params, its files looked up below `base` (the document's folder).

    Without a `base` the document came by itself, from somewhere else: a file that it names is refused, unlooked at.
    `probe_budget`: seconds that it takes at most until a site counts as unreachable; a `failover.after` below it is
    worth a warning. Raises DocumentError; opens files, stores nothing.
    """
    values, faults = param_values(workflow.params, params)
    if faults:
        raise workflow.raw.refuse(faults)
    if workflow.params or not workflow.loaded:
        workflow = filled_workflow(workflow.raw, values)
    bodies = BodyMaker(workflow, FileFinder(base))
    stages = _stages(workflow, bodies)
    if bodies.faults:
        raise workflow.raw.refuse(bodies.faults)
    document = _document(workflow, values)
    return CompiledRun(
        name=workflow.name,
        key=workflow.key,
        contact=workflow.contact,
        document=document,
        digest=_digest(canonical({"document": document, "stages": [stage.digest for stage in stages]})),
        warnings=warnings_of(workflow, probe_budget),
        blobs={sha256: found.source for sha256, found in bodies.blobs.items()},
        stages=stages,
    )


def canonical(value: object) -> str:
    """Compact JSON with sorted keys: equal values have equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _stages(workflow: Workflow, bodies: BodyMaker) -> list[CompiledStage]:
    numbers = {name: n for n, name in enumerate(workflow.stages)}
    shared: dict[str, str] = {}
    compiled = []
    for name, stage in workflow.stages.items():
        rules = canonical(stage_rules(workflow.policy, stage))
        rules = shared.setdefault(rules, rules)
        body = canonical(bodies.body(name, stage))
        taken = {given.from_[0] for given in stage.inputs}
        compiled.append(
            CompiledStage(
                path=name,
                needs=sorted(numbers[parent] for parent in parents(workflow.stages, name)),
                input_needs=frozenset(numbers[parent] for parent in taken if parent in numbers),
                rules=rules,
                body=body,
                digest=_digest(f"{rules}\n{body}"),
            )
        )
    return compiled


def _document(workflow: Workflow, values: Mapping[str, ParamValue]) -> Mapping[str, Any]:
    """The document as it was run: each param's value stands as its default, so that it reads as a document again."""
    document = workflow.written()
    if values:
        document["params"] = {name: {"type": value.type, "default": value.value} for name, value in values.items()}
    return document


def _digest(text: str) -> str:
    return hashlib.sha256(f"crossfade {FORMAT}\n{text}".encode()).hexdigest()
