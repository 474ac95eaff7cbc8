"""What no single value shows: who needs whom, which files go where, what fits together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from broker.spec.cycles import find_cycle
from broker.spec.errors import KeyPath, Wrong, nearest, quoted
from broker.spec.params import declaration_faults
from broker.spec.sources import FromStage, source
from broker.spec.stage import Ask, Checkpoint, Input, Resources, Stage
from broker.spec.workflow import Workflow

Fault = tuple[KeyPath, Wrong]

_ASKS = ("file", "signal", "command")


def structure_faults(workflow: Workflow) -> list[Fault]:
    """Everything that contradicts itself in a document whose values are fine one by one."""
    faults = list(declaration_faults(workflow.params))
    for name, stage in workflow.stages.items():
        faults.extend(_stage_faults(workflow.stages, name, stage))
    if not faults:
        faults.extend(_cycle_fault(workflow.stages))
    return faults


def parents(stages: Mapping[str, Stage], name: str) -> list[str]:
    """The stages that this one waits for, each once: its `needs`, then those whose files it takes."""
    stage = stages[name]
    if not stage.inputs:
        return list(dict.fromkeys(stage.needs))
    taken = (given.from_[0] for given in stage.inputs if given.from_[0] in stages)
    return list(dict.fromkeys([*stage.needs, *taken]))


def _stage_faults(stages: Mapping[str, Stage], name: str, stage: Stage) -> Iterator[Fault]:
    here: KeyPath = ("stages", name)
    if stage.run is None:
        yield (*here, "run"), Wrong("is missing", "write what the stage runs", kind="missing")
    for i, need in enumerate(stage.needs):
        if need not in stages:
            cure = partial(nearest, need, stages, what="stages")
            yield (*here, "needs", i), Wrong(f"there is no stage {quoted(need)}", cure, kind="structure")
    if stage.outputs:
        yield from _overlaps((*here, "outputs"), [output.path for output in stage.outputs])
    if stage.inputs:
        targets = [given.as_ or given.name for given in stage.inputs]
        yield from _overlaps((*here, "inputs"), targets)
        for i, given in enumerate(stage.inputs):
            yield from _input_faults(stages, (*here, "inputs", i), given)
    yield from _checkpoint_faults((*here, "checkpoint"), stage.checkpoint, None)
    yield from _resource_faults((*here, "resources"), stage.resources, None)
    for site, at in stage.at.items():
        yield from _resource_faults((*here, "at", site, "resources"), at.resources, stage.resources)
        yield from _checkpoint_faults((*here, "at", site, "checkpoint"), at.checkpoint, stage.checkpoint)


# -- files -------------------------------------------------------------------------------------------------


def _overlaps(here: KeyPath, paths: Sequence[str]) -> Iterator[Fault]:
    """One path twice, or one inside another."""
    if len(paths) == 1:
        return
    plain = [path.rstrip("/") for path in paths]
    first = {path: i for i, path in reversed(list(enumerate(plain)))}
    for i, path in enumerate(plain):
        if first[path] != i:
            yield (*here, i), Wrong(f"{quoted(path)} stands here twice", "keep one of the two", kind="structure")
        around = next((folder for folder in _folders(path) if folder in first), None)
        if around is not None:
            message = f"{quoted(path)} lies within {quoted(around)}, which stands here too"
            yield (*here, i), Wrong(message, "keep one of the two", kind="structure")


def _folders(path: str) -> Iterator[str]:
    """The folders around a path, innermost first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _input_faults(stages: Mapping[str, Stage], here: KeyPath, given: Input) -> Iterator[Fault]:
    text = given.from_[0]
    if "${{" in text or "${{" in given.name:
        return
    try:
        found = source(text, stages)
    except Wrong as wrong:
        yield (*here, "from"), wrong
        return
    if given.match is not None and not given.name.endswith("/"):
        yield (*here, "match"), Wrong("only a folder's files can be chosen", "end `name` with /", kind="structure")
    if isinstance(found, FromStage):
        declared = [output.path.rstrip("/") for output in stages[found.stage].outputs]
        wanted = given.name.rstrip("/")
        if not any(path == wanted or path in _folders(wanted) or "${{" in path for path in declared):
            cure = nearest(wanted, declared, what="its outputs") or f"declare it under stages.{found.stage}.outputs"
            message = f"{quoted(given.name)} is no output of {found.stage}"
            yield (*here, "name"), Wrong(message, cure, kind="structure")


# -- resources ---------------------------------------------------------------------------------------------


def _resource_faults(here: KeyPath, asked: Resources, merged: Resources | None) -> Iterator[Fault]:
    """`merged`: what these keys add to, where they stand under `at`."""
    given = asked.model_fields_set
    by_rank = [key for key in ("ranks", "cores_per_rank", "gpus_per_rank", "memory_per_rank") if key in given]
    per_node = [key for key in ("cores", "gpus", "memory") if key in given]
    if by_rank and per_node:
        message = f"`{per_node[0]}` is per node, and does not go with `{by_rank[0]}`"
        yield (*here, per_node[0]), Wrong(message, f"write `{per_node[0]}_per_rank`", kind="structure")
    elif by_rank and asked.ranks is None and (merged is None or merged.ranks is None):
        yield (*here, by_rank[0]), Wrong("how many ranks is not said", "add `ranks`", kind="structure")


# -- checkpoints -------------------------------------------------------------------------------------------


def _checkpoint_faults(here: KeyPath, checkpoint: Checkpoint | None, merged: Checkpoint | None) -> Iterator[Fault]:
    """`merged`: what these keys add to, where they stand under `at`."""
    if checkpoint is None:
        return
    if checkpoint.complete is not None and checkpoint.match is None and (merged is None or merged.match is None):
        yield (*here, "complete"), Wrong("a marker needs checkpoints to mark", "add `match`", kind="structure")
    if checkpoint.ask is not None:
        count = len(asked_by(checkpoint.ask))
        if count > 1 or (not count and (merged is None or merged.ask is None)):
            yield (*here, "ask"), Wrong("one of file, signal and command asks", "write just one", kind="structure")


def asked_by(ask: Ask) -> list[tuple[str, str]]:
    """The ways in which an `ask` asks, each with its value; one, in a sound document."""
    return [(kind, value) for kind in _ASKS if (value := getattr(ask, kind)) is not None]


# -- cycles ------------------------------------------------------------------------------------------------


def _cycle_fault(stages: Mapping[str, Stage]) -> Iterator[Fault]:
    cycle = find_cycle({name: parents(stages, name) for name in stages})
    if cycle:
        shown = cycle if len(cycle) <= 12 else [*cycle[:10], "...", cycle[-1]]
        message = f"these stages wait for each other: {' -> '.join([*shown, cycle[0]])}"
        yield ("stages", cycle[0]), Wrong(message, "take one of the needs out", kind="structure")
