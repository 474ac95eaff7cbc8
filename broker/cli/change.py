"""Verbs that ask for a change of a run: cancel, hold, release, retry, move.

What is asked for is kept as a row, and carried out by whoever serves; the verb waits a moment for the outcome.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import click

from broker.cli.options import change_options, confirm, output_option
from broker.cli.output import emit
from broker.cli.session import Session, note
from broker.errors import RefusedByPolicy, UsageError

OUTCOME_SECONDS = 3.0
"""How long to wait for a server to carry a command out."""
_LOOK_EVERY = 0.05


@click.command()
@click.argument("target", metavar="RUN[/STAGE]", required=False)
@click.option("--site", "site", metavar="SITE", help="With --all: all that is ours at that site.")
@click.option("--all", "everything", is_flag=True, help="With --site: also jobs that no run knows.")
@click.option(
    "--then",
    type=click.Choice(["wait", "elsewhere"]),
    default="wait",
    show_default=True,
    help="With --site: what becomes of its stages.",
)
@change_options
@output_option
@click.pass_obj
def cancel(
    session: Session,
    target: str | None,
    site: str | None,
    everything: bool,
    then: str,
    dry_run: bool,
    reason: str,
    yes: bool,
    output: str,
) -> None:
    """End a run or a stage for good: its jobs are ended at their sites, and no product is accepted any more.

    With --site S --all, for a facility that asks us to stop: everything of ours there is ended and that is confirmed,
    orphans and jobs that nobody knows too, and nothing new is sent until `site resume S`. The stages wait for a person
    then, or go on elsewhere. --reason is needed, and --yes where nobody can be asked.
    """
    if site is not None or everything:
        if site is None or not everything or target is not None:
            raise UsageError("cancel RUN[/STAGE], or cancel --site SITE --all")
        from broker.cli.leaving import close_site  # noqa: PLC0415 - rarely wanted

        close_site(session, site, then=then, dry_run=dry_run, reason=reason, yes=yes, output=output)
        return
    if target is None:
        raise UsageError("which run?", help="cancel RUN[/STAGE]; it is never guessed")
    ask_for(session, "cancel", target, dry_run=dry_run, reason=reason, yes=yes, output=output, ask=True)


@click.command()
@click.argument("target", metavar="[RUN[/STAGE]]", required=False)
@change_options
@output_option
@click.pass_obj
def hold(session: Session, target: str | None, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """Start nothing new of a run; what runs goes on. A STAGE waits for its site, which gives no answer."""
    ask_for(session, "hold", target, dry_run=dry_run, reason=reason, yes=yes, output=output)


@click.command()
@click.argument("target", metavar="[RUN[/STAGE]]", required=False)
@change_options
@output_option
@click.pass_obj
def release(session: Session, target: str | None, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """Let a held run go on, or a stage that waits for a person."""
    ask_for(session, "release", target, dry_run=dry_run, reason=reason, yes=yes, output=output)


@click.command()
@click.argument("target", metavar="[RUN[/STAGE]]", required=False)
@change_options
@output_option
@click.pass_obj
def retry(session: Session, target: str | None, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """Give a failed or waiting stage all its tries again; of a RUN, all such stages."""
    ask_for(session, "retry", target, dry_run=dry_run, reason=reason, yes=yes, output=output)


@click.command()
@click.argument("target", metavar="RUN[/STAGE]")
@click.option(
    "--to",
    "to",
    metavar="SITE",
    required=True,
    help="A site; `home`: what its document prefers, or where it began.",
)
@change_options
@output_option
@click.pass_obj
def move(session: Session, target: str, to: str, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """Carry a run's unfinished stages, or one stage, to another site, with their checkpoints."""
    if to != "home":
        session.service.site(to)  # refuses a site that nobody knows
    ask_for(session, "move", target, dry_run=dry_run, reason=reason, yes=yes, output=output, args={"to": to}, ask=True)


def ask_for(
    session: Session,
    kind: str,
    target: str | None,
    *,
    dry_run: bool,
    reason: str,
    yes: bool,
    output: str,
    args: Mapping[str, str] | None = None,
    ask: bool = False,
) -> None:
    """Ask for a change of a run or a stage, and wait a moment for the outcome. Raises BrokerError."""
    service = session.service
    run, stage = service.find(target)
    service.refuse_command(kind, run, stage)
    subject = f"{run.run_id}/{stage.path}" if stage else run.run_id
    state = stage.state if stage else run.state
    to = f" to {args['to']}" if args and "to" in args else ""
    which = f"@{args['attempt']}" if args and "attempt" in args else ""
    words = f"{kind} {subject}{which} ({run.name}, {state}){to}"
    view: dict[str, object] = {"command": None, "kind": kind, "run": run.run_id, "stage": stage.path if stage else None}
    if dry_run:
        emit({**view, "dry_run": True, "outcome": None}, output=output, text=lambda: f"would {words}")
        return
    if ask:
        confirm(f"{words}?", yes=yes)
    ident = service.command(kind, subject, reason=reason, args=args)
    outcome = _outcome(session, run.run_id, ident)
    if outcome is not None and outcome.startswith("not possible"):
        raise RefusedByPolicy(f"cannot {kind} {subject}: {outcome}", help=f"see `crossfade status {run.run_id}`")
    if outcome is None:
        note(f"kept; nobody has carried it out yet. Serve with `crossfade run --resume {run.run_id}`")
    view = {**view, "command": ident, "dry_run": False, "outcome": outcome}
    emit(view, output=output, text=lambda: f"{words}: {outcome or 'asked for'}")


def _outcome(session: Session, run_id: str, ident: str) -> str | None:
    """What became of it; at once None when nobody serves."""
    if not session.served_by():
        return None
    end = time.monotonic() + OUTCOME_SECONDS
    while time.monotonic() < end:
        outcome = session.service.command_outcome(run_id, ident)
        if outcome is not None:
            return outcome
        time.sleep(_LOOK_EVERY)
    return None
