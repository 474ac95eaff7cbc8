"""The failure model's page: its table comes from the tests' marks, its figures from the code."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from broker.spec.profiles import profile

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "failure-model.md"
FIGURE = re.compile(r"^\| (?P<what>[^|]+) \| (?P<number>[0-9.]+) [a-z]+ \| `(?P<origin>[^`]+)` \|$", re.MULTILINE)


@cache
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("failure_model", ROOT / "tools" / "failure_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def value(origin: str) -> float:
    """What stands behind a name in the table of delays; seconds, or a count."""
    if origin.startswith("profile "):
        name, _, word = origin.removeprefix("profile ").partition(": ")
        return float(getattr(profile(name), word))
    words = origin.split(".")
    places = next(n for n in range(len(words) - 1, 0, -1) if _is_module(".".join(words[:n])))
    found = import_module(".".join(words[:places]))
    for word in words[places:-1]:
        found = getattr(found, word)
    return _seconds(_default(found, words[-1]))


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _default(owner: object, name: str) -> float:
    if dataclasses.is_dataclass(owner):
        return next(item.default for item in dataclasses.fields(owner) if item.name == name)
    if hasattr(owner, "model_fields"):
        return owner.model_fields[name].default
    return getattr(owner, name)


def _seconds(number: float) -> float:
    """Times in rows are microseconds; none of them is as short as a tenth of a second."""
    return number / 1e6 if number >= 100_000 else float(number)


# -- the table -------------------------------------------------------------------------------------------------


def test_the_page_is_current() -> None:
    text = PAGE.read_text()
    assert tool().page(text) == text, "run: python tools/failure_model.py"


def test_the_matrix_has_each_row_once_and_in_order() -> None:
    assert [row.name for row in tool().rows()] == [f"F{number:02}" for number in range(1, 50)]


def test_every_row_has_a_test_that_shows_it_unless_it_says_with_what_its_tests_come() -> None:
    found = tool().shown()
    assert [row.name for row in tool().rows() if not row.later and not found.get(row.name)] == []


def test_rows_whose_tests_come_later_are_those_that_need_what_is_not_there_yet() -> None:
    later = {row.name for row in tool().rows() if row.later}
    assert later == set()


def test_every_mark_names_a_row_that_there_is() -> None:
    names = {row.name for row in tool().rows()}
    assert {row: tests for row, tests in tool().shown().items() if row not in names} == {}


def test_marks_are_found_on_functions_in_parameters_and_on_whole_modules() -> None:
    source = """
import pytest
pytestmark = [pytest.mark.slow, pytest.mark.fault("F01")]

@pytest.mark.fault("F02", "F03")
def test_one(): ...

@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.fault("F04"))])
async def test_two(x): ...

@pytest.mark.fault("F05")
def helper(): ...
"""
    found = list(tool().marks(ast.parse(source)))
    assert found == [
        ("F01", "test_one"), ("F02", "test_one"), ("F03", "test_one"), ("F01", "test_two"), ("F04", "test_two"),
    ]  # fmt: skip


def test_a_page_without_its_markers_is_refused_rather_than_overwritten() -> None:
    with pytest.raises(ValueError, match="must both be there"):
        tool().page("# a page\n")


# -- the figures -----------------------------------------------------------------------------------------------


def figures() -> list[tuple[str, str]]:
    """(origin, figure) of every line in the table of delays."""
    return [(match["origin"], match["number"]) for match in FIGURE.finditer(PAGE.read_text())]


@pytest.mark.parametrize(("origin", "figure"), figures())
def test_a_figure_of_the_page_is_what_the_code_says(origin: str, figure: str) -> None:
    assert value(origin) == float(figure)


def test_every_line_of_the_table_of_delays_is_compared() -> None:
    table = PAGE.read_text().split("| delay | figure | from |\n|---|---|---|\n")[1].split("\n\n")[0]
    assert len(table.splitlines()) == len(figures()) > 25
