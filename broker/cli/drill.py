"""`drill`: rehearse an outage, and hold what it cost against bounds."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.options import output_option, parse_params
from broker.cli.output import emit, rows_of, table
from broker.cli.session import Session, note
from broker.errors import BoundBroken, NotFound, UsageError

if TYPE_CHECKING:
    from broker.drill.rehearse import Rehearsal, Told
    from broker.sites import Sites


@click.group()
def drill() -> None:
    """Rehearse outages under a virtual clock: days in seconds, from a seed, the same every time.

    The engine, the policies and the store are the real ones; time, sites, disks and the network are simulated. Nothing
    of this installation is read or changed.
    """


@drill.command("ls")
@output_option
def ls(output: str) -> None:
    """List the drills that come with crossfade."""
    from broker.drill.document import read_drill  # noqa: PLC0415 - slow to import
    from broker.drill.shipped import shipped  # noqa: PLC0415

    read = {name: read_drill(path)[0] for name, path in shipped().items()}
    views = [
        {"name": name, "title": one.title, "about": " ".join(one.about.split()), "sites": list(one.sites)}
        for name, one in read.items()
    ]
    columns = ("name", "title")
    emit(views, output=output, text=lambda: table(columns, rows_of(views, columns), empty="no drills here"))


@drill.command("show")
@click.argument("scenario")
def show(scenario: str) -> None:
    """Print a drill's file, to begin one of your own with."""
    click.echo(_path(scenario).read_text(encoding="utf-8"), nl=False)


@drill.command("run")
@click.argument("scenario")
@click.option(
    "--workflow",
    "workflow",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Play this workflow instead of the drill's own. Stages without a `: sim` line are given half their walltime "
    "of work; nothing of them is executed.",
)
@click.option("-p", "--param", "params", metavar="NAME=VALUE", multiple=True, help="Set a param; repeatable.")
@click.option("--twins", is_flag=True, help="Play with simulated twins of the sites of your own site document.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same one, the same answer.")
@output_option
@click.pass_obj
def run(
    session: Session,
    scenario: str,
    workflow: Path | None,
    params: tuple[str, ...],
    twins: bool,
    seed: int,
    output: str,
) -> None:
    """Run the drill SCENARIO: a name of `drill ls`, or a file.

    Exit code 7: it cost more than a bound allows, or an invariant did not hold.
    """
    from broker.drill.casting import cast  # noqa: PLC0415 - slow to import
    from broker.drill.document import read_drill  # noqa: PLC0415
    from broker.drill.rehearse import rehearse  # noqa: PLC0415
    from broker.drill.telling import as_view  # noqa: PLC0415
    from broker.spec import read_document  # noqa: PLC0415

    if params and workflow is None:
        raise UsageError("-p goes with --workflow", help="crossfade drill run --help")
    path = _path(scenario)
    name = path.stem
    asked, _ = read_drill(path)
    made = cast(
        asked,
        name=name,
        workflow=read_document(workflow) if workflow is not None else None,
        base=workflow.absolute().parent if workflow is not None else None,
        params=parse_params(params),
        twins_of=_own_sites(session) if twins else None,
    )
    if made.given:
        note(f"given work, for nothing is executed here: {', '.join(made.given)}")
    with quiet(), _progress(name) as told:
        found = rehearse(asked, made, name=name, seed=seed, others=twins or workflow is not None, told=told)
    emit(as_view(found), output=output, text=lambda: _text(found))
    if not found.ok:
        raise BoundBroken(f"the drill {name} was not passed", help="what broke is named above")


def _path(scenario: str) -> Path:
    """Raises NotFound."""
    from broker.drill.shipped import shipped  # noqa: PLC0415

    known = shipped()
    if scenario in known:
        return known[scenario]
    path = Path(scenario)
    if path.suffix in (".yaml", ".yml", ".json") or "/" in scenario:
        if not path.is_file():
            raise NotFound(f"there is no file {scenario}")
        return path
    raise NotFound(f"no drill {scenario!r}", help=f"there are: {', '.join(known)}; or name a file")


def _own_sites(session: Session) -> Sites:
    from broker.sites import load_sites  # noqa: PLC0415

    settings = session.settings
    found = load_sites(settings.sites, home=settings.home, cwd=Path.cwd(), env=os.environ)
    if len(found.configs) < 2:
        raise UsageError("there are no two sites in your site document", help=f"sites: {found.where}")
    return found


def _text(found: Rehearsal) -> str:
    from broker.drill.telling import COLUMNS, as_rows, check_lines  # noqa: PLC0415

    sites = ", ".join(found.cast.sites.configs)
    heading = f"{found.name}: {found.title}\nworkflow {found.cast.run.name}, sites {sites}, seed {found.seed}"
    lines = table(COLUMNS, as_rows(found.outcomes), empty="")
    return "\n".join([heading, "", lines, "", *check_lines(found)])


@contextmanager
def quiet() -> Iterator[None]:
    """What operators are warned of at a real site is nobody's news here."""
    log = logging.getLogger("broker")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def _progress(name: str) -> Iterator[Told | None]:
    """A bar on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=name, file=sys.stderr) as bar:

        def tell(over: int, of: int) -> None:
            bar.length = of
            bar.update(over - bar.pos)

        yield tell
