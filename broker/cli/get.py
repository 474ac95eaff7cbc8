"""`get`: copy a run's products here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.options import output_option
from broker.cli.output import emit
from broker.cli.session import Session, note

if TYPE_CHECKING:
    from broker.fetch import Wanted

TOLD_EVERY = 64 << 20
"""Bytes of one file between two lines."""


@click.command()
@click.argument("target", metavar="RUN[/STAGE]")
@click.argument("destination", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("-y", "--yes", is_flag=True, help="Overwrite files that are there and differ.")
@click.option("--dry-run", is_flag=True, help="List the files, and copy none.")
@output_option
@click.pass_obj
def get(session: Session, target: str, destination: Path, yes: bool, dry_run: bool, output: str) -> None:
    """Copy the products of a run into FOLDER, a folder per stage; of one stage, straight into FOLDER.

    Every file is checked against the digest it was accepted with. Exit code 5: its site cannot be asked.
    """
    from broker.fetch import fetch, refuse_overwriting, wanted_files  # noqa: PLC0415 - imports the connectors
    from broker.serving import connect  # noqa: PLC0415

    service = session.service
    run, stage = service.find(target)
    stages = [stage] if stage else service.store.stages(run.run_id)
    files = wanted_files(stages, service.store.products(run.run_id), destination=destination, flat=stage is not None)
    view: dict[str, object] = {
        "run": run.run_id,
        "files": [{"path": str(f.target), "stage": f.stage, "site": f.site, "bytes": f.size} for f in files],
    }
    if dry_run:
        emit({**view, "dry_run": True}, output=output, text=lambda: "\n".join(str(f.target) for f in files))
        return
    if not yes:
        refuse_overwriting(files)
    connected = connect(service.settings, service.sites, service.store)
    try:
        brought, kept = fetch(files, connected.sites, told=_tell)
    finally:
        connected.close()
    total = sum(f.size for f in files)
    words = f"{brought} files, {kept} were here already, {total} bytes in {destination}"
    emit({**view, "brought": brought, "kept": kept}, output=output, text=lambda: words)


def _tell(file: Wanted, offset: int) -> None:
    if offset % TOLD_EVERY == 0 and offset < file.size:
        note(f"{file.target}: {offset >> 20} of {file.size >> 20} MiB")
