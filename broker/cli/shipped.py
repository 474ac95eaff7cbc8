"""The examples that come with crossfade, in a checkout and in an installed package."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

FOLDER = ("share", "crossfade", "examples")
"""Where an installed package has them, below its data folder (see `data-files` in pyproject.toml)."""


def examples() -> dict[str, Path]:
    """Name to folder. In a checkout those at its top; else what the package's own record of files names."""
    top = Path(__file__).resolve().parents[2] / "examples"
    documents = top.glob("*/workflow.yaml") if top.is_dir() else _installed()
    return {document.parent.name: document.parent for document in sorted(documents)}


def _installed() -> list[Path]:
    return _listed(lambda parts: parts[-1] == "workflow.yaml" and parts[-5:-2] == FOLDER)


def _listed(wanted: Callable[[tuple[str, ...]], bool]) -> list[Path]:
    # the record knows where pip put data files, whatever the scheme (venv, --user, --prefix)
    try:
        listed = files("crossfade") or []
    except PackageNotFoundError:
        return []
    return [Path(str(file.locate())).resolve() for file in listed if wanted(tuple(file.parts))]


RUNBOOKS = ("share", "crossfade", "runbooks")


def runbooks() -> dict[str, Path]:
    """Name to page. In a checkout those of its documents; else what the package's own record of files names."""
    folder = Path(__file__).resolve().parents[2] / "docs" / "runbooks"
    pages = folder.glob("*.md") if folder.is_dir() else _listed(lambda parts: parts[-4:-1] == RUNBOOKS)
    return {page.stem: page for page in sorted(pages) if page.stem != "README" and page.suffix == ".md"}


def title(folder: Path) -> str:
    """An example in a line: its document's first comment."""
    with (folder / "workflow.yaml").open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()
