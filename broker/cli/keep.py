"""`keep ls|run`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import click

from broker.cli.options import confirm, output_option
from broker.cli.output import emit, rows_of, table
from broker.cli.session import Session
from broker.errors import UsageError

_COLUMNS = ("side", "path", "state", "due_at", "run", "reason")
_RUN_COLUMNS = ("side", "path", "outcome", "files", "bytes", "reason")


@click.group()
def keep() -> None:
    """List what declared `keep`s remove, and remove what is due."""


@keep.command("ls")
@click.option("--due", is_flag=True, help="Only what is due by now.")
@output_option
@click.pass_obj
def ls(session: Session, due: bool, output: str) -> None:
    """List what is to be removed and what has been: where, when, and why not."""
    views = session.service.kept(due=due)
    emit(views, output=output, text=lambda: table(_COLUMNS, rows_of(views, _COLUMNS), empty="nothing is to be removed"))


@keep.command("run")
@click.option("--dry-run", is_flag=True, help="Say what would be removed; change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--limit", type=click.IntRange(min=1, max=10_000), default=100, show_default=True, help="Entries.")
@output_option
@click.pass_obj
def run(session: Session, dry_run: bool, yes: bool, limit: int, output: str) -> None:
    """Remove now what is due, as whoever serves does every minute.

    Removed is only what a document or the site document declares, and only where the same files were found by their
    digests elsewhere.
    """
    if not dry_run:
        if not yes and not sys.stdin.isatty():
            raise UsageError("nobody can be asked here", help="--dry-run says what would be removed, --yes removes it")
        confirm("remove what is due?", yes=yes)
    views = list(_outcomes(session, dry_run=dry_run, limit=limit))
    emit(views, output=output, text=lambda: _text(views))


def _outcomes(session: Session, *, dry_run: bool, limit: int) -> Iterator[dict[str, object]]:
    from broker.retention import Retention  # noqa: PLC0415 - slow to import
    from broker.serving import connect  # noqa: PLC0415
    from broker.views import retention_view  # noqa: PLC0415

    service = session.service
    connected = connect(service.settings, service.sites, service.store, serves=())
    try:
        retention = Retention(
            store=service.store,
            configs=connected.configs,
            places=connected.places,
            files={**connected.sites, **connected.place_files},
            clock=service.clock,
        )
        outcomes = retention.rehearse(limit=limit) if dry_run else retention.run(limit=limit)
        for made in outcomes:
            why = "; ".join(reason.fact for reason in made.decision.reasons)
            yield {**retention_view(made.row, made.decision.outcome, why, made.files, made.bytes), "dry_run": dry_run}
    finally:
        connected.close()


def _text(views: Sequence[dict[str, object]]) -> str:
    return table(_RUN_COLUMNS, rows_of(views, _RUN_COLUMNS), empty="nothing is due")
