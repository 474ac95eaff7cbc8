"""What somebody who watches a run sees on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

from broker.cli.telling import QUIET, clock_line
from broker.store.base import EventRow, RunRow

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

MOST_TOLD = 50
"""Runs with more stages are told in counts: nobody reads a thousand lines of «running»."""
COUNTS_EVERY = 5.0
"""Seconds between two lines of counts."""
_ALWAYS = frozenset({"failover", "unreachable", "reachable", "failed", "stuck", "asks", "judged", "move", "restore"})


class Progress(Protocol):
    """Told of a run's row and of what is new about it."""

    def show(self, run: RunRow, events: Sequence[EventRow]) -> None: ...


class Lines:
    """Plain lines on stderr."""

    def __init__(self) -> None:
        self._counted_at = time.monotonic()
        self._left = -1

    def show(self, run: RunRow, events: Sequence[EventRow]) -> None:
        for event in events:
            if worth_telling(event, many=run.stages > MOST_TOLD):
                click.echo(clock_line(event), err=True)
        now = time.monotonic()
        if run.stages > MOST_TOLD and now - self._counted_at >= COUNTS_EVERY and run.unsettled != self._left:
            self._counted_at, self._left = now, run.unsettled
            click.echo(f"{run.stages - run.unsettled} of {run.stages} stages are over", err=True)


class Bar:
    """A bar with the lines above it."""

    def __init__(self, bar: RichProgress) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=None)

    def show(self, run: RunRow, events: Sequence[EventRow]) -> None:
        for event in events:
            if worth_telling(event, many=run.stages > MOST_TOLD):
                self._bar.console.print(clock_line(event), markup=False, highlight=False)
        words = f"{run.name} {run.state}"
        self._bar.update(self._task, total=run.stages, completed=run.stages - run.unsettled, description=words)


def worth_telling(event: EventRow, *, many: bool) -> bool:
    """Would a person who watches want to read this?"""
    return event.kind in _ALWAYS if many else event.kind not in QUIET


@contextmanager
def watching() -> Iterator[Progress]:
    """The right kind of progress for this stderr."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, and only for terminals
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    from rich.progress import Progress as Rich  # noqa: PLC0415

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Rich(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Bar(bar)
