"""`attempt ls|show|adopt|reap`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from broker.cli.change import ask_for
from broker.cli.options import change_options, output_option, target_argument
from broker.cli.output import cell, emit, rows_of, table
from broker.cli.scripted import script_text
from broker.cli.session import Session
from broker.errors import NotFound, UsageError

_LEFT = ("attempt", "site", "state", "since", "end_asked_at", "native_id", "reason")
_COLUMNS = ("stage", "number", "site", "state", "why", "key", "native_id", "from_checkpoint", "reason")


@click.group()
def attempt() -> None:
    """List and show attempts, one try of a stage at one site each; take over or end those that were left behind."""


@attempt.command("ls")
@target_argument
@click.option("--orphans", is_flag=True, help="Of all runs: those that were left behind, and may still live.")
@output_option
@click.pass_obj
def ls(session: Session, target: str | None, orphans: bool, output: str) -> None:
    """List the attempts of a run or a stage, with their keys and native ids."""
    if orphans:
        from broker.operating.orphans import orphans_of  # noqa: PLC0415 - rarely wanted

        found = orphans_of(session.service, target)
        emit(found, output=output, text=lambda: table(_LEFT, rows_of(found, _LEFT), empty="nothing was left behind"))
        return
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


@attempt.command("adopt")
@click.argument("target", metavar="RUN/STAGE@N")
@change_options
@output_option
@click.pass_obj
def adopt(session: Session, target: str, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """Make a copy that was left behind the stage's own again; the newer copy is ended. Its job must be seen to live.

    A copy with a verified result needs no word: it wins by itself.
    """
    _left_behind(session, "adopt", target, dry_run=dry_run, reason=reason, yes=yes, output=output)


@attempt.command("reap")
@click.argument("target", metavar="RUN/STAGE@N")
@change_options
@output_option
@click.pass_obj
def reap(session: Session, target: str, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """End a copy that was left behind, now; a site that gives no answer is asked until it confirms."""
    _left_behind(session, "reap", target, dry_run=dry_run, reason=reason, yes=yes, output=output)


def _left_behind(
    session: Session, kind: str, target: str, *, dry_run: bool, reason: str, yes: bool, output: str
) -> None:
    if session.service.attempt_number(target) is None:
        raise UsageError(f"{target!r} names no attempt", help="RUN/STAGE@2; see `crossfade attempt ls --orphans`")
    _, _, row = session.service.attempt(target)
    stage = target.rpartition("@")[0]
    args = {"attempt": str(row.number)}
    ask_for(session, kind, stage, dry_run=dry_run, reason=reason, yes=yes, output=output, args=args, ask=True)
