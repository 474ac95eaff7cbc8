"""`attempt ls|show`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from broker.cli.options import output_option, target_argument
from broker.cli.output import cell, emit, rows_of, table
from broker.cli.scripted import script_text
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
@click.option("--script", is_flag=True, help="Print the exact job script and request that its site is given instead.")
@output_option
@click.pass_obj
def show(session: Session, target: str, script: bool, output: str) -> None:
    """Show one attempt whole; without @N, the newest."""
    service = session.service
    if script:
        scripted = service.attempt_script(target)
        emit(scripted, output=output, text=lambda: script_text(scripted))
        return
    run, stage, row = service.attempt(target)
    views = service.attempts(f"{run.run_id}/{stage.path}@{row.number}")
    if not views:
        raise NotFound(f"{run.run_id}/{stage.path} has no attempt {row.number}")
    view = {"run": run.run_id, **views[0]}
    emit(view, output=output, text=lambda: "\n".join(_lines(view)))


def _lines(view: Mapping[str, Any]) -> Iterable[str]:
    from broker.charged import charge_words  # noqa: PLC0415 - needs the store

    for name, value in view.items():
        words = charge_words(value) if name == "charge" and value else value
        yield f"{name:20} {cell(words)}"
