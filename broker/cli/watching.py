"""Looking again and again: redrawn in place on a terminal, elsewhere a line for each change."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import click

from broker.cli.output import emit
from broker.cli.stopping import Stop, stop_on_signals

HOME, REST, BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
"""To the upper left; away with the rest of the line; with all that is below."""
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""A screen of its own without a cursor, and back to what was there before."""
Lines = Callable[[], Mapping[str, str]]
"""What there is now, by what it is about, without ages."""


def watch(*, every: float, screen: Callable[[], str], lines: Lines, over: Callable[[], bool] = lambda: False) -> None:
    """Until somebody presses Ctrl-C, or `over`. `screen`: the whole picture."""
    with stop_on_signals() as stop:
        if redraws():
            _redraw(stop, every, screen, over)
        else:
            _tell_changes(stop, every, lines, over)


def watch_views(look: Callable[[], Mapping[str, Any]], *, every: float, over: Callable[[], bool], output: str) -> None:
    """The same for programs: one document for each look; JSON on one line each."""
    with stop_on_signals() as stop:
        while True:
            view = look()
            if output == "json":
                click.echo(json.dumps(view, ensure_ascii=False))
            else:
                click.echo("---")
                emit(view, output=output, text=str)
            sys.stdout.flush()
            if over() or stop.wait(every):
                return


def redraws() -> bool:
    """Is there a terminal that can be drawn on?"""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _redraw(stop: Stop, every: float, screen: Callable[[], str], over: Callable[[], bool]) -> None:
    click.echo(ENTER, nl=False)
    last = ""
    try:
        while True:
            last = screen()
            room = max(1, _height() - 1)
            rows = last.split("\n")
            shown = rows if len(rows) <= room else [*rows[: room - 1], f"... {len(rows) - room + 1} more lines"]
            click.echo(HOME + "".join(f"{row}{REST}\n" for row in shown) + BELOW, nl=False)
            sys.stdout.flush()
            if over() or stop.wait(every):
                return
    finally:
        click.echo(LEAVE, nl=False)
        click.echo(last)  # what was seen last stays


def _tell_changes(stop: Stop, every: float, lines: Lines, over: Callable[[], bool]) -> None:
    known: dict[str, str] = {}
    while True:
        now = dict(lines())
        for about, line in now.items():
            if known.get(about) != line:
                click.echo(f"{_stamp()} {line}")
        for about, line in known.items():
            if about not in now:
                click.echo(f"{_stamp()} no more: {line}")
        known = now
        sys.stdout.flush()
        if over() or stop.wait(every):
            return


def _stamp() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")


def _height() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).lines or 24
    except (OSError, ValueError):
        return 24
