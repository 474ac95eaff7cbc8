"""What no single value shows: who needs whom, which files go where, what fits together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from broker.spec.copies import copy_faults, output_faults
from broker.spec.cycles import find_cycle
from broker.spec.errors import KeyPath, Wrong, nearest, quoted
from broker.spec.overlaps import folders, overlaps
from broker.spec.params import declaration_faults
from broker.spec.sources import FromStage, is_place, place, source
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
    if stage.copy_ is not None:
        yield from copy_faults(here, stage)
    elif stage.run is None:
        yield (*here, "run"), Wrong("is missing", "write what the stage runs, or what it copies", kind="missing")
    if stage.near is not None and (stage.near not in stages or stage.near == name):
        cure = partial(nearest, stage.near, [other for other in stages if other != name], what="stages")
        yield (*here, "near"), Wrong(f"{quoted(stage.near)} is no other stage", cure, kind="structure")
    for i, need in enumerate(stage.needs):
        if need not in stages:
            cure = partial(nearest, need, stages, what="stages")
            yield (*here, "needs", i), Wrong(f"there is no stage {quoted(need)}", cure, kind="structure")
    if stage.outputs:
        yield from overlaps((*here, "outputs"), [output.path for output in stage.outputs])
        yield from output_faults((*here, "outputs"), stage.outputs)
    if stage.inputs:
        targets = [given.as_ or given.name for given in stage.inputs]
        yield from overlaps((*here, "inputs"), targets)
        for i, given in enumerate(stage.inputs):
            yield from _input_faults(stages, (*here, "inputs", i), given)
    yield from _checkpoint_faults((*here, "checkpoint"), stage.checkpoint, None)
    yield from _resource_faults((*here, "resources"), stage.resources, None)
    for site, at in stage.at.items():
        yield from _resource_faults((*here, "at", site, "resources"), at.resources, stage.resources)
        yield from _checkpoint_faults((*here, "at", site, "checkpoint"), at.checkpoint, stage.checkpoint)


# -- files -------------------------------------------------------------------------------------------------


def _input_faults(stages: Mapping[str, Stage], here: KeyPath, given: Input) -> Iterator[Fault]:
    if any("${{" in text for text in given.from_) or "${{" in given.name:
        return
    if given.match is not None and not given.name.endswith("/"):
        yield (*here, "match"), Wrong("only a folder's files can be chosen", "end `name` with /", kind="structure")
    if len(given.from_) > 1 or is_place(given.from_[0]):
        yield from _replica_faults(here, given)
        return
    try:
        found = source(given.from_[0], stages)
    except Wrong as wrong:
        yield (*here, "from"), wrong
        return
    if given.wait is not None:
        yield (*here, "wait"), Wrong("only an input from a place can come later", "leave it out", kind="structure")
    if isinstance(found, FromStage) and stages[found.stage].copy_ is not None:
        message = f"{found.stage} only copies: it leaves no files of its own"
        cure = f"name the place that it brings them to, and write `needs: [{found.stage}]`"
        yield (*here, "from"), Wrong(message, cure, kind="structure")
    elif isinstance(found, FromStage):
        declared = [output.path.rstrip("/") for output in stages[found.stage].outputs]
        wanted = given.name.rstrip("/")
        if not any(path == wanted or path in folders(wanted) or "${{" in path for path in declared):
            cure = nearest(wanted, declared, what="its outputs") or f"declare it under stages.{found.stage}.outputs"
            message = f"{quoted(given.name)} is no output of {found.stage}"
            yield (*here, "name"), Wrong(message, cure, kind="structure")


def _replica_faults(here: KeyPath, given: Input) -> Iterator[Fault]:
    """An input that lies in a place, or in several."""
    for i, text in enumerate(given.from_):
        at: KeyPath = (*here, "from", i) if len(given.from_) > 1 else (*here, "from")
        try:
            found = place(text)
        except Wrong as wrong:
            yield at, wrong
            continue
        if found.path.endswith("/") is not given.name.endswith("/"):
            message = f"{quoted(given.name)} and {quoted(text)}: one is a folder, the other a file"
            yield at, Wrong(message, "end both with /, or neither", kind="structure")


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
