"""A stage's body as it is stored: what runs, with which files, and what it leaves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broker.spec.effective import input_matches
from broker.spec.errors import KeyPath, Wrong
from broker.spec.files import FileFinder, FoundFile
from broker.spec.moving import copy_body
from broker.spec.sources import FromPath, FromStage, is_place, place, source
from broker.spec.stage import AtSite, Differs, Input, Stage
from broker.spec.workflow import Workflow

Json = dict[str, Any]
Fault = tuple[KeyPath, Wrong]


class BodyMaker:
    """Makes the bodies of one workflow; `blobs` and `faults` grow meanwhile."""

    def __init__(self, workflow: Workflow, finder: FileFinder, *, skipped: Collection[str] = ()) -> None:
        """`skipped`: the stages that are not run with these params."""
        self._stages = workflow.stages
        self._finder = finder
        self._absent = _brought(workflow.stages, skipped) if skipped else frozenset()
        self.blobs: dict[str, FoundFile] = {}
        self.faults: list[Fault] = []

    def body(self, name: str, stage: Stage) -> Json:
        if stage.copy_ is not None:
            return copy_body(stage)
        here: KeyPath = ("stages", name)
        return _launching(stage) | {
            "run": stage.run,
            "restart": stage.restart,
            "setup": stage.software.setup or "",
            "env": stage.env,
            "files": self._files(here, stage),
            "inputs": self._inputs(here, stage),
            "outputs": [{"path": output.path, "required": output.required} for output in stage.outputs],
            "submit": {},
            "at": {site: body for site, at in stage.at.items() if (body := self._body_at(here, site, at))},
        }

    def _body_at(self, here: KeyPath, site: str, at: AtSite) -> Json:
        """The keys that this site changes."""
        body: Json = {
            key: getattr(at, key) for key in ("run", "restart", "env", "submit") if key in at.model_fields_set
        }
        body |= _launching(at)
        if "setup" in at.software.model_fields_set:
            body["setup"] = at.software.setup or ""
        if "files" in at.model_fields_set:
            body["files"] = self._files((*here, "at", site), at)
        return body

    def _files(self, here: KeyPath, part: Differs) -> list[Json]:
        files: dict[str, Json] = {}
        for i, path in enumerate(part.files):
            for found in self._found((*here, "files", i), path):
                target = f"{path.rstrip('/')}/{found.path}" if found.path else path
                files[target] = {"path": target, "sha256": found.sha256, "size": found.size, "mode": found.mode}
        return list(files.values())

    def _inputs(self, here: KeyPath, stage: Stage) -> list[Json]:
        inputs: list[Json] = []
        for i, given in enumerate(stage.inputs):
            if is_place(given.from_[0]):
                inputs.append(_from_places(given, self._absent))
                continue
            meant = source(given.from_[0], self._stages)  # sound, or the structure check would have refused it
            if isinstance(meant, FromStage):
                inputs.append(_from_stage(given, meant.stage))
            elif isinstance(meant, FromPath):
                inputs.extend(self._from_path((*here, "inputs", i, "from"), given, meant.path))
        return inputs

    def _from_path(self, here: KeyPath, given: Input, path: str) -> list[Json]:
        target = (given.as_ or given.name).rstrip("/")
        return [
            {
                "name": f"{target}/{found.path}" if found.path else target,
                "blob": found.sha256,
                "size": found.size,
                "mode": found.mode,
            }
            for found in self._found(here, path)
            if not found.path or input_matches(given.match, found.path)
        ]

    def _found(self, here: KeyPath, path: str) -> list[FoundFile]:
        try:
            found = self._finder.find(path)
        except Wrong as wrong:
            self.faults.append((here, wrong))
            return []
        self.blobs.update((file.sha256, file) for file in found)
        return found


def _launching(part: Differs) -> Json:
    """How the payload is launched, as far as it is said; where it is not, the body stays as it has always been."""
    software, told = part.software, part.software.model_fields_set
    body: Json = {key: getattr(software, key) for key in ("image", "options") if key in told}
    return body | ({"launch": part.launch} if "launch" in part.model_fields_set else {})


def _from_stage(given: Input, stage: str) -> Json:
    return {"name": given.as_ or given.name, "stage": stage, "from": given.name, "match": given.match}


def _brought(stages: Mapping[str, Stage], skipped: Collection[str]) -> frozenset[str]:
    """What only stages that are skipped would bring to places: nobody will find it there."""
    by_skipped, by_others = set[str](), set[str]()
    for name, stage in stages.items():
        to = [copy.to for copy in stage.copy_ or ()] + [text for output in stage.outputs for text in output.to]
        (by_skipped if name in skipped else by_others).update(to)
    return frozenset(by_skipped - by_others)


def _from_places(given: Input, absent: Collection[str]) -> Json:
    """`places`: all hold the same, the document's first choice first; what will not be there only if nothing will."""
    there = [text for text in given.from_ if text not in absent] or given.from_
    body: Json = {
        "name": given.as_ or given.name,
        "places": [list(place(text).side) for text in there],
        "match": given.match,
    }
    return body | ({"wait": given.wait} if given.wait else {})
