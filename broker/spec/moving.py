"""The stored bodies of stages that only move data: a stage's `copy`, and what delivers a stage's outputs.

`copy` is a list of {from, to}: `to` is [side, path]; `from` is a list of such, which all hold the same, or {stage,
path} for what a stage has left. `keep` is a list of {side, path, after, entry, all, any}: after so many seconds what
lies there is removed, when all of `all` hold it too, and one of `any`. The side "" is the attempt's own directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.spec.sources import FromPlace, place
from broker.spec.stage import Keep, Output, Stage

Json = dict[str, Any]
Side = tuple[str, str]


def delivers(stage: Stage) -> bool:
    """Is anything of it brought to a place?"""
    return any(output.to for output in stage.outputs)


def is_waited_for(stage: Stage) -> bool:
    """Do the stages that need it wait until all of that has arrived?"""
    return any(output.to and output.deliver == "before_done" for output in stage.outputs)


def copy_body(stage: Stage) -> Json:
    """Of a stage that only copies."""
    entries: list[Json] = []
    kept: list[Json] = []
    for number, copy in enumerate(stage.copy_ or ()):
        sources, target = [place(text) for text in copy.from_], place(copy.to)
        entries.append({"from": [list(found.side) for found in sources], "to": list(target.side)})
        kept += _kept(copy.keep, number, [*sources, target], own="")
    return _body(entries, kept)


def delivery_body(name: str, outputs: Sequence[Output]) -> Json:
    """Of what brings a stage's outputs to their places."""
    entries: list[Json] = []
    kept: list[Json] = []
    for output in outputs:
        targets = [place(text) for text in output.to]
        kept += _kept(output.keep, len(entries), targets, own=output.path)
        entries += [{"from": {"stage": name, "path": output.path}, "to": list(found.side)} for found in targets]
    return _body(entries, kept)


def _body(entries: list[Json], kept: list[Json]) -> Json:
    return {"copy": entries} | ({"keep": kept} if kept else {})


def _kept(keep: Keep | None, entry: int, places: Sequence[FromPlace], *, own: str) -> list[Json]:
    """`own`: the path in the attempt's directory, where that holds the files too."""
    if keep is None:
        return []
    here: list[tuple[Side, float | None]] = [(found.side, keep.places.get(found.place)) for found in places]
    if own:
        here.append((("", own), keep.attempt))
    needed = [found.side for found in places if found.place in keep.if_verified_at]
    return [
        {
            "side": side[0],
            "path": side[1],
            "after": after,
            "entry": entry,
            "all": [list(other) for other in needed],
            "any": [list(other) for other, _ in here if other != side],
        }
        for side, after in here
        if after is not None
    ]
