"""`attempt ls|show`."""

from __future__ import annotations

import click

from broker.cli.options import output_option, target_argument
from broker.cli.output import cell, emit, rows_of, table
from broker.cli.session import Session
from broker.errors import NotFound

_COLUMNS = ("stage", "number", "site", "state", "why", "key", "native_id", "from_checkpoint", "reason")


@click.group()
def attempt() -> None:
    """List and show attempts: one try of a stage at one site each."""


@attempt.command("ls")
@target_argument
@output_option
@click.pass_obj
def ls(session: Session, target: str | None, output: str) -> None:
    """List the attempts of a run or a stage, with their keys and native ids."""
    views = session.service.attempts(target)
    emit(views, output=output, text=lambda: table(_COLUMNS, rows_of(views, _COLUMNS), empty="no attempts yet"))


@attempt.command("show")
@click.argument("target", metavar="RUN/STAGE[@N]")
@output_option
@click.pass_obj
def show(session: Session, target: str, output: str) -> None:
    """Show one attempt whole; without @N, the newest."""
    service = session.service
    run, stage, row = service.attempt(target)
    views = service.attempts(f"{run.run_id}/{stage.path}@{row.number}")
    if not views:
        raise NotFound(f"{run.run_id}/{stage.path} has no attempt {row.number}")
    view = {"run": run.run_id, **views[0]}
    emit(view, output=output, text=lambda: "\n".join(f"{name:20} {cell(value)}" for name, value in view.items()))
