"""`policy replay`: which of our own decisions another policy would have changed."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.options import duration, output_option
from broker.cli.output import emit, rows_of, table
from broker.cli.session import Session

COLUMNS = ("at", "run", "stage", "kind", "was", "would_be", "why")


@click.command()
@click.option(
    "--policy", "file", type=click.Path(path_type=Path), metavar="FILE", required=True, help="The policy file to try."
)
@click.option(
    "--since", type=duration, default="30d", show_default=True, metavar="TIME", help="How far back decisions are read."
)
@output_option
@click.pass_obj
def replay(session: Session, file: Path, since: float, output: str) -> None:
    """Make the decisions of the past anew with another policy, and list those that it would have changed.

    Each is asked what it was asked then, at the same moment: what would have followed from another answer is not
    played on. Decisions that did not keep what they were asked are counted and named, never guessed.
    """
    from broker.clock import micros  # noqa: PLC0415 - slow to import
    from broker.policy_file import read_policy_file  # noqa: PLC0415
    from broker.policy_replay import as_view, replayed, told  # noqa: PLC0415

    policy = read_policy_file(file)
    service = session.service
    start = service.clock() - micros(since)
    view = as_view(replayed(service.store, policy, since=start), policy=policy.name, since=start)
    emit(
        view,
        output=output,
        text=lambda: "\n".join(
            [table(COLUMNS, rows_of(view["changed"], COLUMNS), empty="it would have changed none of them"), *told(view)]
        ),
    )
