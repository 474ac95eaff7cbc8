"""`policy test`: policies asked about facts in files, and held to what is expected there."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.options import output_option
from broker.cli.output import emit
from broker.errors import BrokerError


class NotAsExpected(BrokerError):
    """A policy decides otherwise than its cases say."""

    exit_code = 7


@click.command()
@click.argument("paths", type=click.Path(path_type=Path), metavar="[PATH]...", nargs=-1)
@output_option
def test(paths: tuple[Path, ...], output: str) -> None:
    """Ask the policies about the facts in files of cases, and compare outcome, ranking and reasons.

    PATH is such a file, or a folder of them; without any, the cases that come with crossfade are asked. Nothing of this
    installation is read or changed. Exit codes: 0 all is as expected, 7 a case is not, 2 a file cannot be read.
    """
    from broker.cases.read import files_in, read_cases, shipped  # noqa: PLC0415 - slow to import
    from broker.cases.run import as_text, as_view, asked  # noqa: PLC0415

    verdicts = [asked(case) for path in files_in(paths or [shipped()]) for case in read_cases(path)]
    emit(as_view(verdicts), output=output, text=lambda: as_text(verdicts))
    failed = sum(not verdict.ok for verdict in verdicts)
    if failed:
        raise NotAsExpected(f"{failed} of {len(verdicts)} cases failed", help="`-` was expected, `+` was not")
