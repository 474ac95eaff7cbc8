"""Verbs that list: queue, history, timeline, errors."""

from __future__ import annotations

import click

from broker.cli.options import output_option, target_argument
from broker.cli.output import cell, colour, emit, rows_of, table
from broker.cli.session import Session

_RUN_COLUMNS = ("run", "name", "state", "stages_left", "stages_total", "failed", "seconds", "reason")


def runs_table(views: list[dict[str, object]], *, empty: str) -> str:
    """Runs as lines."""
    rows = rows_of(views, _RUN_COLUMNS)
    return table(("run", "name", "state", "left", "stages", "failed", "seconds", "reason"), rows, empty=empty)


@click.command()
@output_option
@click.pass_obj
def queue(session: Session, output: str) -> None:
    """List the unfinished runs, newest first."""
    views = session.service.queue()
    emit(views, output=output, text=lambda: runs_table(views, empty="no unfinished runs"))


@click.command()
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many.")
@output_option
@click.pass_obj
def history(session: Session, limit: int, output: str) -> None:
    """List all runs, newest first."""
    views = session.service.history(limit=limit)
    emit(views, output=output, text=lambda: runs_table(views, empty="no runs yet"))


@click.command()
@target_argument
@output_option
@click.pass_obj
def timeline(session: Session, target: str | None, output: str) -> None:
    """Tell what happened to a run or a stage, in order."""
    from broker.cli.telling import local_time, sentence, subject  # noqa: PLC0415 - needs the store's rows

    service = session.service
    views = service.timeline(target)

    def text() -> str:
        run, stage = service.find(target)
        events = [e for e in service.store.events(run.run_id) if stage is None or e.stage == stage.path]
        rows = [[local_time(e.at), subject(e), e.actor, sentence(e)] for e in events]
        return table(("at", "who", "by", "what"), rows, empty="nothing has happened yet")

    emit(views, output=output, text=text)


@click.command()
@target_argument
@output_option
@click.pass_obj
def errors(session: Session, target: str | None, output: str) -> None:
    """Show how attempts ended badly, with the end of their stderr."""
    views = session.service.errors(target)

    def text() -> str:
        blocks = []
        for view in views:
            head = f"{view['stage']}@{view['attempt']} {colour(str(view['state']))} at {view['site']}"
            fault = f" ({view['fault']})" if view["fault"] else ""
            lines = view["stderr"] if isinstance(view["stderr"], list) else []
            blocks.append("\n".join([f"{head}{fault}: {cell(view['reason'])}", *(f"    {line}" for line in lines)]))
        return "\n".join(blocks) or "no errors"

    emit(views, output=output, text=text)
