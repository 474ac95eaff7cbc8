"""docs/explanation/judgement.md says what the code does: its example, its rules, its states."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from policies.verdicts import State

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "judgement.md"


def test_the_example_is_the_codes_own() -> None:
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 6
    assert failed == 0


@pytest.mark.parametrize("state", State)
def test_every_state_is_told_of(state: State) -> None:
    assert f"\n| `{state.value}` |" in PAGE.read_text(encoding="utf-8")


def test_the_table_has_every_rule_and_no_other() -> None:
    files = (ROOT / "policies" / name for name in ("health.py", "measured.py"))
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    rules = set(re.findall(r'rule="(\w+)"', source)) | set(
        re.findall(r'rule="(\w+)" if [^\n]* else "(\w+)"', source)[0]
    )
    page = PAGE.read_text(encoding="utf-8")
    table = page[page.index("| rule | state |") : page.index("* **A green feed")]
    told = {
        name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1:2][0] if row else "")
    }
    assert told == rules
