"""Stages that a stage adds while its run goes on. Pure.

What a stage adds lies below its own path, needs it, and is written in one transaction or not at all; adding the same
again changes nothing, so a worker that died in between does no harm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from broker.engine.words import compact
from broker.rows import stage_row
from broker.states import StageState
from broker.store.base import Changes, DepRow, NewEvent, StageRow

MOST_AT_ONCE = 10_000


class ExpansionError(ValueError):
    """The stages to add do not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedStage:
    """One stage to add. `rules` and `body` are compiled, as a document's stages are."""

    name: str
    needs: Sequence[str] = ()
    """Names of others that are added with it; the stage that adds them is needed anyhow."""
    takes: Collection[str] = ()
    """Those of `needs` whose files it takes."""
    rules: str
    body: str
    digest: str


def expand(
    parent: StageRow, added: Sequence[AddedStage], *, known: Mapping[str, StageRow], first_n: int, now: int
) -> Changes:
    """What to write. `known`: rows that have one of the new paths already; `first_n`: the run's next free number.

    Raises ExpansionError for a stage that is over, unknown or doubled names, cycles, or too many at once.
    """
    paths = {stage.name: f"{parent.path}/{stage.name}" for stage in added}
    if known.keys() >= set(paths.values()):
        return Changes()
    _check(parent, added, paths)
    numbers = {stage.name: first_n + k for k, stage in enumerate(added)}
    changes = Changes()
    for stage in added:
        row = stage_row(
            parent.run_id,
            numbers[stage.name],
            paths[stage.name],
            stage.rules,
            stage.body,
            stage.digest,
            1 + len(set(stage.needs)),
            now,
        )
        changes.new_stages.append(row)
        changes.new_deps.append(DepRow(parent.run_id, parent.n, row.n, 0))
        changes.new_deps.extend(
            DepRow(parent.run_id, numbers[name], row.n, int(name in stage.takes)) for name in sorted(set(stage.needs))
        )
    data = compact({"stages": sorted(paths.values())})
    changes.events.append(NewEvent(kind="expanded", stage=parent.path, n=parent.n, attempt=parent.attempt, data=data))
    return changes


def _check(parent: StageRow, added: Sequence[AddedStage], paths: Mapping[str, str]) -> None:
    if StageState(parent.state).final:
        raise ExpansionError(f"{parent.path} is {parent.state}: it can add no stages any more")
    if len(added) > MOST_AT_ONCE:
        raise ExpansionError(f"{parent.path} adds {len(added)} stages at once; {MOST_AT_ONCE} are allowed")
    if len(paths) != len(added):
        raise ExpansionError(f"{parent.path} adds two stages of one name")
    done: set[str] = set()
    for stage in added:  # in an order in which every need comes first, so that there can be no cycle
        missing = [name for name in stage.needs if name not in done]
        if missing:
            raise ExpansionError(f"{stage.name} needs {missing[0]}, which is not added before it")
        done.add(stage.name)
