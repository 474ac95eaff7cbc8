"""What an input's `from` means, or a copy's sides: a stage, a path beside the document, or a path in a place."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from broker.spec.errors import Wrong, nearest, quoted
from broker.spec.values import check_name, cleaned_path

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")


@dataclass(frozen=True, slots=True)
class FromStage:
    stage: str


@dataclass(frozen=True, slots=True)
class FromPath:
    """Absolute, or relative to the document's folder; a trailing `/` means a folder."""

    path: str


@dataclass(frozen=True, slots=True)
class FromPlace:
    """Relative to where the place begins; a trailing `/` means a folder."""

    place: str
    path: str

    @property
    def side(self) -> tuple[str, str]:
        """As stored: the place as transfers call it, and the path."""
        return f"{self.place}:", self.path

    def __str__(self) -> str:
        return f"{self.place}:{self.path}"


def is_place(text: str) -> bool:
    """Is it written as a path in a place, `cfs:raw/x.h5`? Whether it is a sound one is another question."""
    return ":" in text.partition("/")[0]


def place(text: str) -> FromPlace:
    """A path in a place. Raises Wrong."""
    name, colon, path = text.partition(":")
    if not colon or not is_place(text):
        raise Wrong(f"{quoted(text)} names no place", "write PLACE:path, as in cfs:raw/x.h5")
    if _ADDRESS.match(text):
        cure = "name the place under `places` of the site document, and write NAME:path here"
        raise Wrong(f"{quoted(text)} is an address, not a path in a place", cure)
    check_name(name, "the name of a place")
    if path.startswith("/"):
        cure = f"write {name}:{quoted(path.lstrip('/'))[1:-1]}: it is meant from where the place begins"
        raise Wrong(f"{quoted(text)}: a path in a place does not begin with /", cure)
    cleaned = cleaned_path(path)
    if not cleaned:
        raise Wrong(f"{quoted(text)} is the whole place", "name a file or a folder in it")
    return FromPlace(name, cleaned)


def source(text: str, stages: Collection[str]) -> FromStage | FromPath | FromPlace:
    """Raises Wrong for what is none of these."""
    if text in stages:
        return FromStage(text)
    if text.startswith("/"):
        cleaned = cleaned_path(text.lstrip("/"))
        if not cleaned:
            raise Wrong("the whole file system cannot be an input", "name a file or a folder")
        return FromPath(f"/{cleaned}")
    if is_place(text):
        return place(text)
    if "/" in text:
        cleaned = cleaned_path(text)
        if not cleaned:
            raise Wrong("the document's whole folder cannot be an input", "name a file or a folder in it")
        return FromPath(cleaned)
    raise Wrong(f"there is no stage {quoted(text)}", partial(_stage_cure, text, stages), kind="structure")


def _stage_cure(text: str, stages: Collection[str]) -> str:
    path = f"a file beside the document is written ./{quoted(text)[1:-1]}"
    return f"{nearest(text, stages, what='stages')} ({path})"
