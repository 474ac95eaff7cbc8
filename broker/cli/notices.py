"""`ack`, and `notices ls`: who was told of what, whether it has arrived, and that somebody takes care."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from broker.cli.options import change_options, output_option, target_argument
from broker.cli.output import emit, rows_of, table
from broker.cli.session import Session

if TYPE_CHECKING:
    from broker.alerts.acking import Acking

_COLUMNS = ("notice", "kind", "state", "to", "sent", "next_at", "text")


@click.command()
@click.argument("target", metavar="[NOTICE|RUN[/STAGE]]", required=False)
@click.option("--all", "everything", is_flag=True, help="All that nobody has acknowledged.")
@change_options
@output_option
@click.pass_obj
def ack(
    session: Session, target: str | None, everything: bool, dry_run: bool, reason: str, yes: bool, output: str
) -> None:
    """Say that you take care: what is acknowledged is not told again. --reason is needed.

    NOTICE: its id, or the start of it; RUN or RUN/STAGE: all about it. When what a notice tells of has passed by
    itself, that is told once more.
    """
    del yes
    acking = _acking(session)
    rows = acking.wanted(target, everything=everything)
    if dry_run:
        from broker.alerts.acking import notice_view  # noqa: PLC0415 - needs the store

        views = [notice_view(row) for row in rows]
    else:
        views = acking.ack(rows, reason=reason)

    def text() -> str:
        done = "would acknowledge" if dry_run else "acknowledged"
        return "\n".join(f"{done} {view['notice']} ({view['kind']} to {view['to']})" for view in views)

    emit({"dry_run": dry_run, "notices": views}, output=output, text=text)


@click.group()
def notices() -> None:
    """List who was told of what."""


@notices.command("ls")
@target_argument
@click.option("--open", "open_only", is_flag=True, help="Only what lasts, and nobody has acknowledged.")
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many.")
@output_option
@click.pass_obj
def ls(session: Session, target: str | None, open_only: bool, limit: int, output: str) -> None:
    """List notices, newest first: to whom, how often it has arrived, when it is told again, and why it did not arrive.

    States: new, failing (tried again), given_up, told, acknowledged, over.
    """
    views = _acking(session).ls(target, open_only=open_only, limit=limit)
    emit(views, output=output, text=lambda: _text(views))


def _text(views: Sequence[Mapping[str, Any]]) -> str:
    lines = [table(_COLUMNS, rows_of(views, _COLUMNS), empty="nobody was told of anything")]
    for view in views:
        if view["error"]:
            lines.append(f"{view['notice']} was not taken by {view['to']} ({view['tries']} tries): {view['error']}")
        if view["acked_by"]:
            lines.append(f"{view['notice']} was acknowledged by {view['acked_by']}: {view['ack_reason']}")
    return "\n".join(lines)


def _acking(session: Session) -> Acking:
    from broker.alerts.acking import Acking  # noqa: PLC0415 - needs the store

    return Acking(session.service)
