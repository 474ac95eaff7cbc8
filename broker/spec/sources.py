"""What an input's `from` means: a stage, or a path beside the document."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from broker.spec.errors import Wrong, nearest, quoted
from broker.spec.values import cleaned_path


@dataclass(frozen=True, slots=True)
class FromStage:
    stage: str


@dataclass(frozen=True, slots=True)
class FromPath:
    """Absolute, or relative to the document's folder; a trailing `/` means a folder."""

    path: str


def source(text: str, stages: Collection[str]) -> FromStage | FromPath:
    """Raises Wrong for what is neither."""
    if text in stages:
        return FromStage(text)
    if text.startswith("/"):
        cleaned = cleaned_path(text.lstrip("/"))
        if not cleaned:
            raise Wrong("the whole file system cannot be an input", "name a file or a folder")
        return FromPath(f"/{cleaned}")
    if "/" in text:
        cleaned = cleaned_path(text)
        if not cleaned:
            raise Wrong("the document's whole folder cannot be an input", "name a file or a folder in it")
        return FromPath(cleaned)
    raise Wrong(f"there is no stage {quoted(text)}", partial(_stage_cure, text, stages), kind="structure")


def _stage_cure(text: str, stages: Collection[str]) -> str:
    path = f"a file beside the document is written ./{quoted(text)[1:-1]}"
    return f"{nearest(text, stages, what='stages')} ({path})"
