"""The places that a document names, held against those that there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from broker.spec.errors import KeyPath, Wrong, nearest, quoted
from broker.spec.sources import is_place, place
from broker.spec.stage import Keep, Stage
from broker.spec.workflow import Workflow
from connectors.registry import PlaceConfig

Fault = tuple[KeyPath, Wrong]
Named = tuple[KeyPath, str, bool]
"""Where it stands, PLACE:path, and is something brought there?"""


def place_faults(workflow: Workflow, places: Mapping[str, PlaceConfig]) -> Iterator[Fault]:
    """Places that are not in the site document, and such that nothing can be brought to. The params are filled in."""
    for name, stage in workflow.stages.items():
        for path, text, brought in _named(("stages", name), stage):
            known = place(text).place
            if known not in places:
                cure = partial(_cure, known, places)
                yield path, Wrong(f"there is no place {quoted(known)}", cure, kind="structure")
            elif brought and places[known].url:
                message = f"{quoted(known)} is read over HTTP: nothing can be brought there"
                yield path, Wrong(message, "name a place with a collection or a path", kind="structure")


def prune_warnings(workflow: Workflow, places: Mapping[str, PlaceConfig]) -> Iterator[str]:
    """Sentences on what a `keep` asks for and nobody may do."""
    asked: dict[str, str] = {}
    for name, stage in workflow.stages.items():
        for keep in _keeps(stage):
            for where in keep.places:
                if where in places and not places[where].prune:
                    asked.setdefault(where, name)
    for where, name in asked.items():
        yield (
            f"stage {name}: `keep` is to remove from {where}, which the site document does not mark `prune: true`; "
            "nothing will be removed there"
        )


def _named(here: KeyPath, stage: Stage) -> Iterator[Named]:
    for i, given in enumerate(stage.inputs):
        yield from (((*here, "inputs", i, "from"), text, False) for text in given.from_ if is_place(text))
    for i, copy in enumerate(stage.copy_ or ()):
        yield from (((*here, "copy", i, "from"), text, False) for text in copy.from_)
        yield (*here, "copy", i, "to"), copy.to, True
    for i, output in enumerate(stage.outputs):
        yield from (((*here, "outputs", i, "to"), text, True) for text in output.to)


def _keeps(stage: Stage) -> Iterator[Keep]:
    yield from (copy.keep for copy in stage.copy_ or () if copy.keep is not None)
    yield from (output.keep for output in stage.outputs if output.keep is not None)


def _cure(name: str, places: Mapping[str, PlaceConfig]) -> str:
    near = nearest(name, places, what="places")
    return near or f"name it under `places` of the site document: `places: {{{name}: {{path: /...}}}}`"
