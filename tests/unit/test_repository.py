"""The repository itself: what its files may say, and that what they point at is there."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import broker

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("broker", "connectors", "policies", "sandbox")
LEFT_OUT = {".venv", ".venv-globus-cli", ".git", "build", "dist", "demo-output", "__pycache__"}

ADDRESS = re.compile(r"pypi\.|pythonhosted|index-url|find-links|/simple\b|trusted-host")
SOMEBODYS_HOME = re.compile(r"/(?:home|Users)/[a-z][a-z0-9_-]*/")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def tracked() -> list[Path]:
    """Files that are, or would be, committed; in a copy without git, all but what tools leave behind."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode == 0 and done.stdout:
        found = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    else:
        found = [Path(folder, name) for folder, _, names in walk() for name in names]
    return sorted(path for path in found if path.is_file())


def walk() -> Iterator[tuple[str, list[str], list[str]]]:
    for folder, below, names in os.walk(ROOT):
        below[:] = [name for name in below if name not in LEFT_OUT and not name.endswith(("_cache", ".egg-info"))]
        yield folder, below, names


def texts(*suffixes: str) -> Iterator[tuple[Path, str]]:
    """(path, content) of tracked text files, of these suffixes or of all."""
    for path in tracked():
        if not suffixes or path.suffix in suffixes:
            content = path.read_bytes()
            if b"\0" not in content:
                yield path.relative_to(ROOT), content.decode("utf-8", errors="replace")


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()}"
        for path, content in texts()
        if path != Path(__file__).relative_to(ROOT)
        for number, line in enumerate(content.splitlines(), 1)
        if pattern.search(line)
    ]


def headings(text: str) -> set[str]:
    """Anchors as forges make them of headings."""
    plain = (re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()) for heading in HEADING.findall(text))
    return {heading.replace(" ", "-") for heading in plain}


def modules() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in PACKAGES]


def test_no_file_says_where_packages_come_from() -> None:
    assert lines_with(ADDRESS) == []


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    here = re.compile(rf"{re.escape(str(ROOT))}\b|{re.escape(str(ROOT.parent / 'shared'))}\b")
    assert lines_with(here) + lines_with(SOMEBODYS_HOME) == []


def test_every_link_between_documents_leads_somewhere() -> None:
    broken = []
    for path, text in texts(".md"):
        for target in LINK.findall(FENCE.sub("", text)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            there = (ROOT / path.parent / name).resolve() if name else ROOT / path
            if not there.exists():
                broken.append(f"{path}: {target} is not there")
            elif anchor and anchor not in headings(FENCE.sub("", there.read_text(encoding="utf-8"))):
                broken.append(f"{path}: {target} names no heading")
    assert broken == []


def test_every_page_below_docs_can_be_reached_from_its_map() -> None:
    pages = {(ROOT / path).resolve(): text for path, text in texts(".md")}
    reached, ahead = set[Path](), [ROOT / "docs/README.md"]
    while ahead:
        page = ahead.pop()
        if page in pages and page not in reached:
            reached.add(page)
            ahead += [(page.parent / target.partition("#")[0]).resolve() for target in LINK.findall(pages[page])]
    assert {page for page in pages if page.is_relative_to(ROOT / "docs")} - reached == set()


def test_every_public_name_of_a_package_is_bound_there_and_told_once() -> None:
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                listed = ast.literal_eval(node.value)
                assert len(listed) == len(set(listed)), path
                assert set(listed) <= set(bound_in(tree)), path


def bound_in(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from map(ast.unparse, node.targets)
        elif isinstance(node, ast.AnnAssign):
            yield ast.unparse(node.target)


def test_nothing_imports_another_modules_private_names() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {alias.name} of {node.module}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert found == []


def test_the_changelog_speaks_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[([^\]]+)\]", text, re.MULTILINE)
    released = [Version(name) for name in sections if name != "Unreleased"]
    assert sections[0] == "Unreleased"
    assert released == sorted(released, reverse=True)
    assert f"## [{broker.__version__}]" in text or f"Becomes {broker.__version__}." in text


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def requirements() -> list[Requirement]:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = data["project"]
    groups = [*project["optional-dependencies"].values(), *data["dependency-groups"].values()]
    wanted = [*data["build-system"]["requires"], *project["dependencies"], *(one for group in groups for one in group)]
    return [Requirement(one) for one in wanted if not one.startswith(project["name"])]


@pytest.mark.parametrize("wanted", requirements(), ids=str)
def test_what_the_project_asks_for_is_pinned_to_a_version_it_allows(wanted: Requirement) -> None:
    assert pins()[canonicalize_name(wanted.name)] in wanted.specifier


def test_scripts_can_be_started_and_stop_at_the_first_unset_name() -> None:
    for path in [ROOT / ".ci/run", *sorted((ROOT / "tools").glob("*.sh"))]:
        first, *rest = path.read_text(encoding="utf-8").splitlines()
        assert first in ("#!/bin/sh", "#!/usr/bin/env bash"), path
        assert any(re.match(r"set -\w*u", line) for line in rest), path
        assert os.access(path, os.X_OK), path


def test_make_alone_tells_every_target_that_the_readme_names() -> None:
    told = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"`?make ([a-z]+)`?", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert named
    assert {name for name in named if f"make {name} " not in told} == set()
