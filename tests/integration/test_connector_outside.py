"""The connector that the how-to page writes, as a package outside the repository, under the contract kit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "write-a-connector.md"
BLOCK = re.compile(r"^```(?:python)\n# (?P<name>\S+)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
ENTRY_POINTS = "[crossfade.connectors]\nacme = acme:make\n"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The page's files, and what an installer would leave beside them."""
    files = {found["name"]: found["code"] for found in BLOCK.finditer(PAGE.read_text())}
    assert set(files) == {"acme/__init__.py", "test_acme.py"}
    info = {"METADATA": "Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n", "entry_points.txt": ENTRY_POINTS}
    files |= {f"acme-1.0.dist-info/{name}": text for name, text in info.items()}
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def run_kit(package: Path, *options: str) -> tuple[int, str]:
    """How the page's own tests end, in a process that sees the repository only as what is installed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *options, "test_acme.py"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    env |= {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(command, cwd=package, env=env, capture_output=True, text=True, timeout=180, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def test_a_connector_outside_the_repository_passes_the_kit(package: Path) -> None:
    code, said = run_kit(package)
    assert code == 0, said
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed[1]) > 100
    assert "skipped" not in said


@pytest.mark.parametrize(
    ("sound", "broken"),
    [
        ("if holder else self._start(spec)", "if False else self._start(spec)"),
        ("if label is None or not label.matches(spec):", "if False:"),
        ('self._http.ask("DELETE", "/jobs", params={"names": ",".join(keys)})', "pass"),
        ('reply.get("complete") is True', "False"),
    ],
    ids=["looks up no key", "adopts anything", "cancels nothing", "sees only parts"],
)
def test_the_kit_finds_out_a_connector_that_is_broken(package: Path, sound: str, broken: str) -> None:
    file = package / "acme" / "__init__.py"
    text = file.read_text()
    assert text.count(sound) == 1
    file.write_text(text.replace(sound, broken))
    code, said = run_kit(package, "-x")
    assert code == 1, said
