"""`where`: which sides hold a product, how much of it, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from broker.cli.options import output_option, target_argument
from broker.cli.output import cell, emit, table
from broker.cli.session import Session
from policies.intervals import amount

_COLUMNS = ("stage", "at", "files", "size", "state", "verified_at", "purged_from", "reason")
_PATHS = ("stage", "at", "file", "path", "size", "state")


@click.command()
@target_argument
@click.option("--files", "each", is_flag=True, help="Every file, with its path.")
@output_option
@click.pass_obj
def where(session: Session, target: str | None, each: bool, output: str) -> None:
    """Show where the products of a run, or of one stage, are: at the site that made them, and every verified copy.

    A copy whose site purges files is counted on until shortly before `purged_from`. Copies that are being made are
    listed as `copying`, with the transfer that brings them and how far it has come.
    """
    views = session.service.where(target)
    emit(views, output=output, text=lambda: (_each if each else _sides)(views))


def _sides(views: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            view["stage"],
            copy["at"],
            f"{copy['files']} of {view['files']}",
            _amount([file["bytes"] for file in copy["paths"]]),
            copy["state"],
            *(cell(copy[name]) for name in _COLUMNS[-3:]),
        ]
        for view in views
        for copy in view["copies"]
    ]
    return table(_COLUMNS, rows, empty="no products")


def _each(views: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [view["stage"], copy["at"], file["file"], file["path"], _amount([file["bytes"]]), file["state"]]
        for view in views
        for copy in view["copies"]
        for file in copy["paths"]
    ]
    return table(_PATHS, rows, empty="no products")


def _amount(sizes: Sequence[int | None]) -> str:
    """Of files whose sizes are known; a folder's is known only when it has arrived."""
    return "-" if None in sizes else amount(sum(size for size in sizes if size is not None))
