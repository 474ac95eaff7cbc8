"""`demo`: a reconstruction starts at one of four sites, loses that site half-way, and ends elsewhere, the same."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from broker.cli.options import output_option
from broker.cli.output import emit
from broker.cli.session import Session
from broker.cli.shipped import examples
from broker.errors import RunFailed, UsageError

EXAMPLE = "tomography"
LEAST_CHECKPOINTS = 3
"""With fewer there is no checkpoint to carry over by half-way."""


@click.command()
@click.option("--slices", type=click.IntRange(4, 10_000), default=32, show_default=True, help="Of the volume.")
@click.option("--size", type=click.IntRange(16, 2048), default=192, show_default=True, help="Pixels along a slice.")
@click.option(
    "--checkpoint-every", type=click.IntRange(1, 5_000), default=4, show_default=True, help="Slices in between."
)
@click.option(
    "--pace", type=click.FloatRange(0, 60), default=0.4, show_default=True, help="Seconds to wait after each slice."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-output"),
    show_default=True,
    help="Where the picture and its digest are left.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Play in this new folder and keep it; otherwise in a temporary one.",
)
@click.option(
    "--document",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A changed copy of the tomography example's workflow.yaml, its scripts beside it.",
)
@output_option
@click.pass_obj
def demo(
    session: Session,
    slices: int,
    size: int,
    checkpoint_every: int,
    pace: float,
    out: Path,
    home: Path | None,
    document: Path | None,
    output: str,
) -> None:
    """Reconstruct a picture at four facilities, and take one of them away half-way.

    The facilities are a sandbox on this machine: each answers in its own protocol on loopback, and its jobs are real
    processes. One stops to answer, its processes are killed and its files taken away. The stage goes on elsewhere
    from its newest checkpoint, and its result is compared with that of an undisturbed run. Leaves CROSSFADE_HOME
    alone. Exit codes: 0 all is as promised, 7 it is not (and what is wrong is said).
    """
    del session  # a demo has a home of its own, never the person's
    if slices < LEAST_CHECKPOINTS * checkpoint_every:
        least = LEAST_CHECKPOINTS * checkpoint_every
        raise UsageError(
            f"{slices} slices are too few for checkpoints every {checkpoint_every}", help=f"--slices {least}"
        )
    if importlib.util.find_spec("skimage") is None:
        raise UsageError("the demo's reconstruction needs scikit-image", help="pip install 'crossfade[examples]'")
    _check_out(out)
    from broker.cli.demo.interrupt import interruptible  # noqa: PLC0415 - what follows imports the whole broker
    from broker.cli.demo.play import play  # noqa: PLC0415
    from broker.cli.demo.screen import screen  # noqa: PLC0415
    from broker.cli.demo.script import Script  # noqa: PLC0415
    from broker.cli.demo.telling import report_text  # noqa: PLC0415

    # signals first: from the moment that there is a folder to remove, nothing may end us without removing it
    with interruptible() as interrupt, _home(home) as folder:
        script = Script(
            document=(document or _shipped()).absolute(),
            slices=slices,
            size=size,
            checkpoint_every=checkpoint_every,
            pace=pace,
            home=folder,
            keep=home is not None,
            out=out.absolute(),
        )
        with screen(script) as shown:
            report = play(script, shown, interrupt)
    emit(report.view(), output=output, text=lambda: report_text(report))
    if report.problems:
        raise RunFailed(f"the demo failed: {'; '.join(report.problems)}", help="--home DIR keeps its state to look at")


def _check_out(out: Path) -> None:
    """Better now than when all is played."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UsageError(f"cannot write into {out}: {error.strerror}", help="name another folder with --out") from error


def _shipped() -> Path:
    known = examples()
    if EXAMPLE not in known:
        raise UsageError(f"this installation lacks its {EXAMPLE} example", help="install crossfade again")
    return known[EXAMPLE] / "workflow.yaml"


@contextmanager
def _home(asked: Path | None) -> Iterator[Path]:
    """An empty folder for the whole installation; a temporary one is removed."""
    if asked is not None:
        yield _new_folder(asked.absolute())
        return
    # ignore: a job killed a moment ago may still be writing its last byte; a rest in /tmp is better than a traceback
    with tempfile.TemporaryDirectory(prefix="crossfade-demo-", ignore_cleanup_errors=True) as name:
        yield Path(name).resolve()


def _new_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        empty = not any(path.iterdir())
    except OSError as error:
        raise UsageError(f"cannot use {path}: {error.strerror}", help="name a folder that can be made") from error
    if not empty:
        raise UsageError(f"{path} holds something already", help="name a new folder")
    return path.resolve()
