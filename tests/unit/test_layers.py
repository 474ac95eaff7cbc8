"""Judgement needs no world: what decides can be loaded where there is no network, database or queue."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import policies

ROOT = Path(__file__).parents[2]
OUTSIDE = ("celery", "kombu", "redis", "sqlalchemy", "httpx", "globus_sdk", "subprocess")
POLICIES = [f"policies.{module.name}" for module in pkgutil.iter_modules(policies.__path__)]

TELL = """\
import importlib, sys
before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(*(name for name in sys.argv[2:] if name in sys.modules and name not in before))
"""


def brings(module: str) -> str:
    """Which of the modules with an outside effect are loaded by importing this one, in a fresh interpreter."""
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{TELL}", module, *OUTSIDE]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.mark.parametrize("module", ["policies.placement", "policies.explain", "broker.states", "broker.engine"])
def test_what_decides_brings_in_nothing_that_acts(module: str) -> None:
    assert brings(module) == ""


def test_the_probe_sees_what_is_brought_in() -> None:
    assert "sqlalchemy" in brings("broker.store.sql")


def test_every_policy_is_loaded_without_the_broker() -> None:
    code = (
        "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint('broker' in sys.modules)"
    )
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", *POLICIES]
    assert len(POLICIES) >= 6
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"


@pytest.mark.parametrize("folder", ["policies", "broker/engine"])
def test_what_decides_asks_no_clock_and_no_dice(folder: str) -> None:
    for path in sorted((ROOT / folder).glob("*.py")):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in {"time", "random", "secrets", "os", "threading", "logging"}, path
