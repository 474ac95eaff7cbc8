"""`example`: list the shipped examples, or write one here."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from broker.cli.options import output_option
from broker.cli.output import emit, rows_of, table
from broker.cli.session import Session
from broker.cli.shipped import examples, title
from broker.errors import NotFound, UsageError

_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")


@click.command()
@click.argument("name", required=False)
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("-y", "--yes", is_flag=True, help="Write into a folder that is there already.")
@output_option
@click.pass_obj
def example(session: Session, name: str | None, folder: Path | None, yes: bool, output: str) -> None:
    """List the shipped examples, or write the example NAME into FOLDER (default: ./NAME)."""
    del session
    known = examples()
    if name is None:
        views: list[dict[str, object]] = [{"name": key, "about": title(path)} for key, path in known.items()]
        columns = ("name", "about")
        emit(views, output=output, text=lambda: table(columns, rows_of(views, columns), empty="no examples here"))
        return
    if name not in known:
        raise NotFound(f"no example {name!r}", help=f"there are: {', '.join(known) or 'none'}")
    target = folder or Path(name)
    if target.exists() and not yes:
        raise UsageError(f"{target} is there already", help="name another folder, or --yes to write into it")
    shutil.copytree(known[name], target, ignore=_LEFT_OUT, dirs_exist_ok=True)
    view = {"name": name, "folder": str(target), "files": sorted(str(p) for p in target.rglob("*") if p.is_file())}
    emit(view, output=output, text=lambda: f"wrote {target}: crossfade run {target}/workflow.yaml")
