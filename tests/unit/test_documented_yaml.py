"""Every YAML block in the documents, and every example, is what crossfade accepts today."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from broker.cases.read import read_cases
from broker.drill.document import checked
from broker.policy_file import policy_file
from broker.sites import sites_of
from broker.spec import RawDocument, load_workflow, parse_document
from sandbox.script import parse_rule

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```ya?ml\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]


def blocks() -> Iterator[tuple[str, str]]:
    """(`page:line`, text)"""
    for page in sorted(PAGES):
        text = page.read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            yield f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}", found[1]


def examples() -> list[Path]:
    return sorted((ROOT / "examples").glob("*/workflow.yaml"))


def make_files(raw: RawDocument, folder: Path) -> None:
    """What a page's workflow takes from beside it; the page shows the document alone."""
    for stage in raw.data.get("stages", {}).values():
        for name in stage.get("files", []):
            assert not PurePosixPath(name).is_absolute()
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()


@pytest.mark.parametrize("text", [pytest.param(text, id=place) for place, text in blocks()])
def test_what_a_page_shows_is_accepted(text: str, tmp_path: Path) -> None:
    raw = parse_document(text, name="block")
    if "drill" in raw.data:
        assert checked(raw).incidents
    elif "numbers" in raw.data:
        assert policy_file(raw, name="block").numbers is not None
    elif "cases" in raw.data:
        (tmp_path / "cases.yaml").write_text(text)
        assert read_cases(tmp_path / "cases.yaml")
    elif "stages" in raw.data:
        make_files(raw, tmp_path)
        assert load_workflow(raw, base=tmp_path).stages
    elif "faults" in raw.data:
        assert [parse_rule(rule) for rule in raw.data["faults"]]
    else:
        assert sites_of(raw, base=tmp_path, where="a page").configs


@pytest.mark.parametrize("path", [pytest.param(path, id=path.parent.name) for path in examples()])
def test_an_example_is_accepted_as_it_lies_there(path: Path) -> None:
    assert load_workflow(path, base=path.parent).stages


def test_the_readmes_first_screen_has_a_workflow_of_ten_lines() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    first = lines[lines.index("```yaml") + 1 :]
    assert len(first[: first.index("```")]) == 10
    assert [line[7:11] for line in lines[:30] if line.startswith("$ make ")] == ["demo", "test"]
