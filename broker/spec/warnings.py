"""What is sound in a workflow and yet hardly meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from broker.spec.stage import Stage
from broker.spec.structure import parents
from broker.spec.workflow import Workflow
from policies.deadline import Work, doubtful, expected_ends
from policies.model import FailoverRule


def warnings_of(workflow: Workflow, probe_budget: float) -> list[str]:
    """Sentences, each once however many stages it concerns."""
    found: dict[str, list[str]] = {}
    for name, stage in workflow.stages.items():
        for sentence in _stage_warnings(workflow, stage, probe_budget):
            found.setdefault(sentence, []).append(name)
    told = [f"{_told(names)}: {sentence}" for sentence, names in found.items()]
    return [*told, *_deadline_warnings(workflow)]


def _stage_warnings(workflow: Workflow, stage: Stage, probe_budget: float) -> Iterator[str]:
    own = stage.policy.failover
    after = (own if "after" in own.model_fields_set else workflow.policy.failover).after
    if after < probe_budget:
        yield (
            f"failover.after is {after:g} s, but a site counts as unreachable only after {probe_budget:g} s; "
            "nothing is carried elsewhere earlier than that"
        )
    if stage.checkpoint is None and not any(at.checkpoint for at in stage.at.values()):
        if stage.continue_ is not None:
            yield "`continue` without `checkpoint` begins every segment from nothing"
        if stage.restart is not None:
            yield "`restart` is never used without `checkpoint`"
    yield from _launch_warnings(stage)
    if stage.outputs and len({output.deliver for output in stage.outputs if output.to}) > 1:
        yield "one of its outputs is to be delivered before_done: what needs it waits for all that it delivers"
    optional = [need for need in _taken(stage, workflow.stages) if workflow.stages[need].required is False]
    if optional and stage.required:
        yield f"it must succeed, but takes files of {optional[0]}, which need not"


def _deadline_warnings(workflow: Workflow) -> Iterator[str]:
    """Of deadlines that could not be met, at all or if a site faded."""
    of_stages = {name: stage.policy.deadline for name, stage in workflow.stages.items() if stage.policy.deadline}
    own = workflow.policy.deadline
    if own is None and not of_stages:
        return
    names = list(workflow.stages)
    numbers = {name: n for n, name in enumerate(names)}
    needs = {numbers[name]: [numbers[need] for need in parents(workflow.stages, name)] for name in names}
    works = [Work(n=n, name=name, seconds=_walltime(workflow.stages[name])) for name, n in numbers.items()]
    ends = expected_ends(works, needs, now=0)
    if own is not None:
        longest = max(ends.values()) / 1e6
        if sentence := doubtful(within=own.within, longest=longest, failover=_failover(workflow, None)):
            yield f"policy.deadline: {sentence}"
    for name, deadline in of_stages.items():
        stage = workflow.stages[name]
        longest = _walltime(stage) if deadline.from_ == "ready" else ends[numbers[name]] / 1e6
        if sentence := doubtful(within=deadline.within, longest=longest, failover=_failover(workflow, stage)):
            yield f"stage {name}: policy.deadline: {sentence}"


def _walltime(stage: Stage) -> float:
    """Seconds; 0: it does not say."""
    walltime = stage.resources.walltime
    return walltime if isinstance(walltime, int | float) else 0.0


def _failover(workflow: Workflow, stage: Stage | None) -> FailoverRule:
    own, of_run = stage.policy.failover if stage is not None else None, workflow.policy.failover
    found = {
        name: getattr(own if own is not None and name in own.model_fields_set else of_run, name)
        for name in ("act", "after", "max")
    }
    return FailoverRule(**found)


def _launch_warnings(stage: Stage) -> Iterator[str]:
    """What has no effect unless the command says where it belongs."""
    parts = [stage, *stage.at.values()]
    texts = [text for part in parts for text in (part.run, part.restart) if text]
    if any("${{" in text and re.search(r"\$\{\{\s*launch\s*\}\}", text) for text in texts):
        return
    if any(part.software.image for part in parts):
        yield (
            "`software.image` without ${{ launch }} in `run`: nothing is run in the container, except at sites that "
            "run whole jobs in it"
        )
    if any((part.resources.ranks or 1) > 1 for part in parts):
        yield "`ranks` without ${{ launch }} in `run`: the command is started once, on the first node"
    if any(part.launch for part in parts):
        yield "`launch` is not used without ${{ launch }} in `run`"


def _taken(stage: Stage, stages: Mapping[str, Stage]) -> Sequence[str]:
    return [given.from_[0] for given in stage.inputs if given.from_[0] in stages]


def _told(names: Sequence[str]) -> str:
    return f"stage {names[0]}" if len(names) == 1 else f"stages {names[0]} and {len(names) - 1} more"
