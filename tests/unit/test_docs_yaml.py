"""Every workflow and site document that our texts show is one that is taken."""

import re
from pathlib import Path

import pytest

from broker.simulate.setting import Setting
from broker.simulate.stage import compiled, policy_of
from broker.sites import sites_of
from broker.spec import RawDocument, load_workflow, parse_document

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(?P<indent> *)```ya?ml\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)


def _blocks():
    """(place, text, folder of its files) of each YAML block that begins as a document of ours."""
    texts = [*sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("examples/**/*.md")), ROOT / "README.md"]
    for path in (path for path in texts if path.is_file()):
        content = path.read_text()
        for found in FENCE.finditer(content):
            body = re.sub(rf"^{found['indent']}", "", found["body"], flags=re.MULTILINE)
            if re.match(r"(#.*\n)*crossfade: 1\b", body):
                line = content.count("\n", 0, found.start()) + 2
                yield pytest.param(body, path.parent, id=f"{path.relative_to(ROOT)}:{line}")
    for path in sorted(ROOT.glob("examples/**/*.y*ml")):
        yield pytest.param(path.read_text(), path.parent, id=str(path.relative_to(ROOT)))


def _with_files(raw: RawDocument, folder: Path) -> Path:
    """Files that a text's document names are made up, as a reader would have them."""
    for stage in raw.data.get("stages", {}).values():
        for name in stage.get("files", []):
            if "${{" not in name and not (folder / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).touch() if not name.endswith("/") else (folder / name).mkdir()
    return folder


@pytest.mark.parametrize(("text", "folder"), list(_blocks()))
def test_a_document_in_our_texts_is_valid(text, folder, tmp_path):
    raw = parse_document(text, name="block.yaml")
    if "stages" in raw.data:
        in_a_text = folder.is_relative_to(ROOT / "docs") or folder == ROOT
        load_workflow(raw, base=_with_files(raw, tmp_path) if in_a_text else folder)
    elif "policy" in raw.data:  # a file for `policy simulate`
        compiled(policy_of(raw, name="policy"), Setting())
    else:
        sites_of(raw, base=tmp_path, where="")


def test_the_texts_are_looked_into():
    assert list(_blocks())
