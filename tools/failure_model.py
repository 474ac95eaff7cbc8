"""Write the table of the failure model: each fault, what holds then, and the tests that show it.

    python tools/failure_model.py            write it into docs/explanation/failure-model.md
    python tools/failure_model.py --check    exit code 1 when the page is not current

The faults are in tests/faults/matrix.py; which test shows which is read from the marks in the tests' source. Nothing
is imported but the matrix, and no test is run.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "explanation" / "failure-model.md"
TESTS = ROOT / "tests"
BEGIN = "<!-- made by tools/failure_model.py from the marks in the tests: do not edit below -->"
END = "<!-- made by tools/failure_model.py: do not edit above -->"

Shown = Mapping[str, Sequence[str]]
"""`file::test` by the name of the row that they show."""


def rows() -> Sequence[Any]:
    """All rows of the matrix."""
    spec = importlib.util.spec_from_file_location("failure_matrix", TESTS / "faults" / "matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Sequence[Any] = module.ROWS
    return found


def shown(folder: Path = TESTS) -> Shown:
    """Which tests show which row, as their marks say."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("test_*.py")):
        for row, name in marks(ast.parse(path.read_text(encoding="utf-8"))):
            found[row].append(f"{path.relative_to(folder.parent).as_posix()}::{name}")
    return found


def marks(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(row, test) of every mark in a module, one on the whole module included."""
    everywhere = [
        row
        for item in tree.body
        if isinstance(item, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in item.targets)
        for row in _rows_in(item.value)
    ]
    for item in tree.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name.startswith("test_"):
            own = [row for mark in item.decorator_list for row in _rows_in(mark)]
            yield from ((row, item.name) for row in dict.fromkeys([*everywhere, *own]))


def _rows_in(node: ast.expr) -> Iterator[str]:
    """The rows that `pytest.mark.fault(...)` names, wherever in an expression."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.fault":
            yield from (ast.literal_eval(argument) for argument in call.args)


def table(found: Shown) -> str:
    """The table as Markdown."""
    lines = ["| row | what goes wrong | what holds | shown by |", "|---|---|---|---|"]
    for row in rows():
        tests = _links(found.get(row.name, ())) or f"*{row.later}*"
        lines.append(f"| {row.name} | {row.fault} | {row.holds} | {tests} |")
    return "\n".join(lines)


def _links(tests: Sequence[str]) -> str:
    """Each file once, and below it its tests."""
    by_file: dict[str, list[str]] = defaultdict(list)
    for test in tests:
        path, _, name = test.partition("::")
        by_file[path].append(f"::{name}")
    return "<br>".join(f"[{Path(path).name}](../../{path})<br>{'<br>'.join(names)}" for path, names in by_file.items())


def page(text: str) -> str:
    """The page with the table of now. Raises ValueError when the markers are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE}: the lines {BEGIN!r} and {END!r} must both be there")
    return f"{before}{BEGIN}\n\n{table(shown())}\n\n{END}{after}"


def main(words: Sequence[str]) -> int:
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if "--check" in words:
        if new != old:
            print(f"{PAGE.relative_to(ROOT)} is not current: run python tools/failure_model.py", file=sys.stderr)
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
