"""`policy simulate`: a policy over recorded outages, against baselines and an oracle."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.options import duration, output_option
from broker.cli.output import emit
from broker.cli.session import note
from broker.errors import Unwritable, UsageError

if TYPE_CHECKING:
    from broker.simulate.compare import Comparison, Told
    from broker.simulate.setting import Setting
    from broker.simulate.stage import NamedPolicy


@click.command()
@click.option(
    "--traces",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder of availability traces, one JSON file a site; or an SWF log, as --queues.",
)
@click.option(
    "--queues",
    "log",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Instead of traces: a queue's log (SWF, plain or .gz).",
)
@click.option(
    "--rotate", type=click.IntRange(2, 64), default=3, show_default=True, help="With --queues: sites made of the log."
)
@click.option(
    "--site", "only", metavar="NAME", multiple=True, help="Of the folder only this site; repeatable, in this order."
)
@click.option(
    "--policy",
    "files",
    type=click.Path(path_type=Path),
    metavar="FILE",
    multiple=True,
    help="What stands under `policy:` in documents; repeatable. Otherwise: leave when the silence is sure.",
)
@click.option(
    "--stage-hours", type=click.FloatRange(0.01, 1000), default=12.0, show_default=True, help="Work of the stage."
)
@click.option(
    "--checkpoint", type=duration, default="15m", show_default=True, metavar="TIME", help="Work between checkpoints."
)
@click.option(
    "--checkpoint-cost", type=duration, default="30s", show_default=True, metavar="TIME", help="To write one."
)
@click.option(
    "--detection", type=duration, default="2m", show_default=True, metavar="TIME", help="Until a silence is sure."
)
@click.option(
    "--move", type=duration, default="5m", show_default=True, metavar="TIME", help="To go on at another site."
)
@click.option("--starts", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Random starts.")
@click.option(
    "--limit-hours",
    type=click.FloatRange(0.1, 10_000),
    default=96.0,
    show_default=True,
    help="Without a result by then a start is not done.",
)
@click.option(
    "--charge",
    "charges",
    metavar="SITE=FACTOR",
    multiple=True,
    help="Book charges: what a node-hour costs there (elsewhere 1); repeatable.",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same one, the same answer.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw how many starts are done after how long: FILE.svg or FILE.png.",
)
@output_option
def simulate(
    folder: Path | None,
    log: Path | None,
    rotate: int,
    only: tuple[str, ...],
    files: tuple[Path, ...],
    stage_hours: float,
    checkpoint: float,
    checkpoint_cost: float,
    detection: float,
    move: float,
    starts: int,
    limit_hours: float,
    charges: tuple[str, ...],
    seed: int,
    plot: Path | None,
    output: str,
) -> None:
    """Replay recorded outages, or queues, through the real broker, and compare what a policy makes of them.

    One stage is started at random moments of the traces, at simulated sites that fade when the trace says so, or whose
    jobs wait as long as the log says, under virtual time. Baselines, and an oracle that knows all, start at the same
    moments. Nothing of this installation is read or changed.
    """
    from broker.simulate.plot import check_name, write_plot  # noqa: PLC0415 - slow to import
    from broker.simulate.setting import Setting  # noqa: PLC0415
    from broker.simulate.stage import read_policy, usual_policy  # noqa: PLC0415

    setting = Setting(
        stage=stage_hours * 3600,
        every=checkpoint,
        cost=checkpoint_cost,
        detection=detection,
        move=move,
        limit=limit_hours * 3600,
        starts=starts,
        seed=seed,
        charge=_factors(charges),
    )
    if log is None and folder is not None and folder.name.endswith((".swf", ".swf.gz")):
        folder, log = None, folder
    if (folder is None) == (log is None):
        raise UsageError("name either --traces DIR or --queues FILE", help="crossfade policy simulate --help")
    if log is not None and only:
        raise UsageError("--site goes with --traces", help="--rotate says how many sites a log makes")
    if plot is not None:
        check_name(plot)
    policies = [read_policy(path) for path in files] or [usual_policy(setting)]
    if folder is not None:
        found, about = _outages(folder, only, setting, policies)
    elif log is not None:
        found, about = _queues(log, rotate, setting, policies)
    _tell(found, about, output)  # first: it took minutes, and a full disk is no reason to keep it back
    if plot is not None:
        try:
            write_plot(plot, found, setting)
        except OSError as error:
            raise Unwritable(f"cannot write {plot}: {error.strerror}", help="the figures are above") from error
        note(f"wrote {plot}")


def _tell(found: Comparison, about: Sequence[str], output: str) -> None:
    from broker.simulate.figures import as_table, as_view  # noqa: PLC0415

    emit(as_view(found), output=output, text=lambda: as_table(found, about))


def _outages(
    folder: Path, only: Sequence[str], setting: Setting, policies: Sequence[NamedPolicy]
) -> tuple[Comparison, Sequence[str]]:
    from broker.simulate.compare import compare  # noqa: PLC0415
    from broker.simulate.figures import about_charges, about_outages  # noqa: PLC0415
    from broker.simulate.traces import read_traces  # noqa: PLC0415

    traces = read_traces(folder, only=only)
    strange = sorted(set(setting.charge or ()) - {trace.site for trace in traces})
    if strange:
        raise UsageError(f"there is no site {strange[0]} to charge", help="name sites of the folder")
    with _quiet(), _progress(setting, policies) as told:
        found = compare(traces, setting, policies, told=told)
    return found, [*about_outages(found, traces, setting), *about_charges(found)]


def _queues(
    path: Path, count: int, setting: Setting, policies: Sequence[NamedPolicy]
) -> tuple[Comparison, Sequence[str]]:
    from broker.simulate.figures import about_queues  # noqa: PLC0415
    from broker.simulate.queues import read_queue, rotated  # noqa: PLC0415
    from broker.simulate.waiting import compare_waits, gains  # noqa: PLC0415

    logs = rotated(read_queue(path), count)
    with _quiet(), _progress(setting, policies) as told:
        found = compare_waits(logs, setting, policies, told=told)
    shares = [(name, gain) for name, gain in gains(found).items() if name not in ("stay", "race")]
    words = ", ".join(f"{name} {gain.median:.0%} by medians, {gain.mean:.0%} by means" for name, gain in shares)
    return found, [
        *about_queues(found, logs, setting),
        f"of what racing saves over staying: {words or 'it saves nothing'}",
    ]


def _factors(said: Sequence[str]) -> Mapping[str, float] | None:
    """SITE=FACTOR, each; None where none is said. Raises UsageError."""
    found = {}
    for each in said:
        site, _, factor = each.partition("=")
        try:
            found[site] = float(factor)
        except ValueError:
            found[site] = -1.0
        if not 0 <= found[site] <= 1e6:
            raise UsageError(f"--charge {each!r} is no SITE=FACTOR", help="such as --charge north=2.5")
    return found or None


@contextmanager
def _quiet() -> Iterator[None]:
    """What operators are warned of at a real site is nobody's news here."""
    log = logging.getLogger("broker")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def _progress(setting: Setting, policies: Sequence[NamedPolicy]) -> Iterator[Told]:
    """A bar on a terminal; elsewhere a line for each policy that is begun."""
    if not sys.stderr.isatty():

        def tell(name: str, count: int) -> None:
            if count == 1:
                note(f"{name}: {setting.starts} starts")

        yield tell
        return
    total = setting.starts * len(policies)
    with click.progressbar(length=total, label=", ".join(p.name for p in policies), file=sys.stderr) as bar:
        yield lambda _name, _count: bar.update(1)
