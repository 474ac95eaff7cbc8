"""`answer`: what a person says to a stage that waits for one."""

from __future__ import annotations

import click

from broker.cli.change import ask_for
from broker.cli.options import change_options, output_option
from broker.cli.session import Session
from broker.errors import RefusedByPolicy, UsageError

CHOICES = "retry, wait, cancel, or move:SITE"
_KINDS = {"retry": "retry", "wait": "hold", "cancel": "cancel", "move": "move"}
"""The command that each choice is."""


@click.command()
@click.argument("target", metavar="RUN/STAGE")
@click.argument("choice", metavar="CHOICE")
@change_options
@output_option
@click.pass_obj
def answer(session: Session, target: str, choice: str, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """Answer a stage that waits for a person. `crossfade status` lists them.

    CHOICE: `retry` it, with all its tries again; `wait` for its silent site, however long that takes; `move:SITE`, to
    go on there (`move:home`, too); `cancel` it for good.
    """
    word, colon, to = choice.partition(":")
    if word not in _KINDS or (word == "move") != bool(colon and to) or (colon and word != "move"):
        raise UsageError(f"{choice!r} is no answer", help=f"answers are: {CHOICES}")
    run, stage = session.service.find(target)
    if stage is None:
        raise UsageError(f"{target!r} names no stage", help="RUN/STAGE, as `crossfade status` lists it")
    if stage.state != "AWAITING_DECISION":
        told = f"{run.run_id}/{stage.path} waits for nobody: it is {stage.state}"
        raise RefusedByPolicy(told, help=f"crossfade status {run.run_id}")
    args, grave = {"to": to} if to else None, word in ("cancel", "move")
    kind = _KINDS[word]
    ask_for(session, kind, target, dry_run=dry_run, reason=reason, yes=yes, output=output, args=args, ask=grave)
