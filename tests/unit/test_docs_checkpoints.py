"""The worked example of docs/explanation/checkpoints.md is what the code says."""

from __future__ import annotations

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "checkpoints.md"


def test_the_figures_of_the_example_are_the_codes_own() -> None:
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 8
    assert failed == 0
