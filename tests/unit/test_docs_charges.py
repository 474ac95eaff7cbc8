"""docs/explanation/charges.md says what the code does: its example, its causes, its rules."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from policies.budget import Cause

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "charges.md"


def test_the_example_is_the_codes_own() -> None:
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 6
    assert failed == 0


def test_every_cause_is_told_of_and_no_other() -> None:
    page = PAGE.read_text(encoding="utf-8")
    table = page.partition("| cause |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == {cause.value for cause in Cause if cause.value}


def test_every_rule_that_money_refuses_by_is_told_of_and_no_other() -> None:
    source = (ROOT / "broker/engine/books.py").read_text() + (ROOT / "policies/budget.py").read_text()
    named = set(re.findall(r'"((?:budget|cap|allocation)(?:\.\w+)?)"', source)) - {"budget.resilience"}
    named |= {"cap.project", "cap.user"}
    table = PAGE.read_text(encoding="utf-8").partition("| rule in `explain` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([\w.]+)`", table, re.MULTILINE)) == named
