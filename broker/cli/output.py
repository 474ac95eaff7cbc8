"""Answers on stdout: tables for people, JSON and YAML for programs.

With `-o json` or `-o yaml` exactly one document is printed. Tables are plain aligned lines unless stdout is a
terminal, so that they can be cut and searched.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence

import click

TABLE, JSON, YAML = "table", "json", "yaml"
Text = Callable[[], str]


def emit(view: object, *, output: str, text: Text) -> None:
    """Print an answer: `view` for programs, `text()` for people."""
    if output == JSON:
        click.echo(json.dumps(view, indent=2, ensure_ascii=False))
    elif output == YAML:
        import yaml  # noqa: PLC0415 - slow to import, rarely wanted

        click.echo(yaml.dump(view, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True), nl=False)
    elif words := text():
        click.echo(words)


def rows_of(views: Sequence[Mapping[str, object]], columns: Sequence[str]) -> list[list[str]]:
    """The values of these columns as cells. A column is a key of the views."""
    return [[cell(view.get(column)) for column in columns] for view in views]


def cell(value: object) -> str:
    """One value on one line."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(str(value).split())


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> str:
    """Aligned lines under headings; `empty` when there is nothing to list."""
    if not rows:
        return empty
    lines = [[heading.upper().replace("_", " ") for heading in headings], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    if sys.stdout.isatty():
        _narrow(widths, shutil.get_terminal_size().columns)
    printed = [_line(line, widths) for line in lines]
    if styled(sys.stdout):
        printed[0] = click.style(printed[0], bold=True)
    return "\n".join(printed)


def _narrow(widths: list[int], room: int) -> None:
    """On a terminal the last column, the one with words, gives way; elsewhere nothing is cut."""
    taken = sum(widths[:-1]) + 2 * (len(widths) - 1)
    widths[-1] = max(20, min(widths[-1], room - taken))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    fitted = [
        text if len(text) <= width else f"{text[: width - 1]}…" for text, width in zip(cells, widths, strict=True)
    ]
    return "  ".join(text.ljust(width) for text, width in zip(fitted, widths, strict=True)).rstrip()


def styled(stream: object) -> bool:
    """May this stream carry colours?"""
    isatty = getattr(stream, "isatty", None)
    return bool(isatty and isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


_COLOURS = {
    "SUCCEEDED": "green",
    "up": "green",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "silent": "red",
    "UNREACHABLE": "yellow",
    "AWAITING_DECISION": "yellow",
    "WAITING": "yellow",
    "drained": "yellow",
}


def colour(state: str) -> str:
    """A state, coloured where stdout may be."""
    wanted = _COLOURS.get(state)
    return click.style(state, fg=wanted) if wanted and styled(sys.stdout) else state
