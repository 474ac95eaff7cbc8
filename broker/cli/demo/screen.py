"""What somebody who watches sees on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

from broker.cli.demo.script import Script

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Screen(Protocol):
    """Told of what happens and of how far things are."""

    def say(self, words: str) -> None: ...

    def progress(self, words: str, name: str, done: int, total: int) -> None:
        """`name` tells one bar from another; `words` stand before it."""
        ...


class Lines:
    """Plain lines, each with the seconds since the beginning. Progress by counts is left to those with a terminal."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, words: str) -> None:
        click.echo(f"{time.monotonic() - self._began:5.1f} s  {words}", err=True)

    def progress(self, words: str, name: str, done: int, total: int) -> None:
        del words, name, done, total


class Bars:
    """A bar per run, with the lines above."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._began = time.monotonic()

    def say(self, words: str) -> None:
        elapsed = f"{time.monotonic() - self._began:5.1f} s"
        self._bars.console.print(f"{elapsed}  {words}", markup=False, highlight=False, soft_wrap=True)

    def progress(self, words: str, name: str, done: int, total: int) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(words, total=total)
        self._bars.update(self._tasks[name], description=words, completed=min(done, total))


@contextmanager
def screen(script: Script) -> Iterator[Screen]:
    """The right kind for this stderr, with a first line that says what is about to happen."""
    with _screen() as shown:
        shown.say(
            f"four sites on this machine; {script.slices} slices of {script.size} x {script.size} pixels, "
            f"a checkpoint every {script.checkpoint_every}"
        )
        yield shown
    click.echo(err=True)  # the report follows


@contextmanager
def _screen() -> Iterator[Screen]:
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, and only for terminals
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (
        TextColumn("         {task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("slices"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield Bars(bars)
