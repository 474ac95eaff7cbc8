"""`sandbox up`, `sandbox down`: four rehearsal facilities on this machine, behind their own protocols."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.session import Session, note
from broker.errors import UsageError

if TYPE_CHECKING:
    from sandbox.faces.http import Request
    from sandbox.script import FaultScript

FACILITIES = ("nersc", "alcf", "olcf", "cloud")
_PATIENCE = 30.0
"""Seconds that a detached sandbox may take to be there."""
_STEP = 0.05
_LONGEST = 1e9
"""Seconds; until somebody asks."""

state_option = click.option(
    "--state",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where its files, credentials and processes live; otherwise `sandbox` in CROSSFADE_HOME.",
)


@click.group()
def sandbox() -> None:
    """Rehearse with four facilities and Globus on this machine: protocols, queues and faults, and real processes."""


@sandbox.command()
@state_option
@click.option(
    "--write",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the site document there, too.",
)
@click.option(
    "--faults",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A fault script: what is to go wrong (docs/reference/sandbox-faults.md).",
)
@click.option(
    "--slots", type=click.IntRange(1, 256), default=2, show_default=True, help="Jobs at once at each facility."
)
@click.option("--cores", type=click.IntRange(1, 4096), default=2, show_default=True, help="Of each node: a number.")
@click.option(
    "--port", type=click.IntRange(0, 65_500), default=0, help="The first of the ports on 127.0.0.1; 0: free ones."
)
@click.option(
    "--only", "only", metavar="NAME", type=click.Choice(FACILITIES), multiple=True, help="This facility; repeatable."
)
@click.option("--seconds", type=click.FloatRange(min=0), help="Go down by itself after that long.")
@click.option("--detach", is_flag=True, help="Return when it is up; `crossfade sandbox down` ends it.")
@click.option("-v", "--verbose", is_flag=True, help="Tell of every request and fault, on stderr.")
@click.pass_obj
def up(
    session: Session,
    state: Path | None,
    write: Path | None,
    faults: Path | None,
    slots: int,
    cores: int,
    port: int,
    only: tuple[str, ...],
    seconds: float | None,
    detach: bool,
    verbose: bool,
) -> None:
    """Put up nersc, alcf, olcf, cloud and Globus on loopback, print a site document, and serve until Ctrl-C.

    Each answers in its own protocol (Superfacility, IRI, S3M's Slurm REST, Kubernetes and S3, Globus Transfer), with
    fresh test credentials in files of mode 0600 below the state folder. Jobs are real processes of yours: run nothing
    there that you would not run here.
    """
    from sandbox.up.state import SITES, Taken, held, running  # noqa: PLC0415 - verbs import what they need

    place = _place(session, state)
    script = _script(faults)
    if detach:
        if running(place) is not None:
            raise UsageError(f"a sandbox lives in {place} already", help="crossfade sandbox down")
        text = _detached(place, slots=slots, cores=cores, port=port, only=only, faults=faults, seconds=seconds)
        _tell(text, write)
        return
    from broker.cli.stopping import stop_on_signals  # noqa: PLC0415
    from sandbox.up import Sandbox, SandboxSettings  # noqa: PLC0415 - brings the faces

    settings = SandboxSettings(
        state=place,
        slots=slots,
        cores=cores,
        port=port,
        facilities=only or FACILITIES,
        path=os.environ.get("PATH", os.defpath),
    )
    try:
        with (
            held(place),
            stop_on_signals() as stop,
            Sandbox(settings, script=script, told=_told if verbose else None) as made,
        ):
            (place / SITES).write_text(made.text(), encoding="utf-8")
            _tell(made.text(), write)
            for face, address in made.addresses.items():
                note(f"{face}: {address}")
            note("up; Ctrl-C ends it and every process in it" if seconds is None else f"up for {seconds:g} s")
            stop.wait(_LONGEST if seconds is None else seconds)
            (place / SITES).unlink(missing_ok=True)
    except Taken as error:
        raise UsageError(str(error), help="crossfade sandbox down") from error
    except OSError as error:
        raise UsageError(f"the sandbox cannot be put up: {error}", help="choose another --port or --state") from error
    note("down")


@sandbox.command()
@state_option
@click.pass_obj
def down(session: Session, state: Path | None) -> None:
    """End the sandbox of that state folder, with every process in it; its files stay. None there: nothing to do."""
    from sandbox.facilities.processes import end_left  # noqa: PLC0415
    from sandbox.up.state import running  # noqa: PLC0415

    place = _place(session, state)
    found = running(place)
    if found is None:
        left = end_left(place)
        note("no sandbox is up there" + (f"; ended {left} processes that one had left" if left else ""))
    elif found.end():
        note("down")
    else:
        raise UsageError(f"process {found.pid} does not end", help=f"kill {found.pid}")


def _place(session: Session, state: Path | None) -> Path:
    return (state or session.settings.home / "sandbox").absolute()


def _script(path: Path | None) -> FaultScript | None:
    if path is None:
        return None
    from sandbox.facilities.live import wall_clock  # noqa: PLC0415
    from sandbox.script import BadScript, read_script  # noqa: PLC0415

    try:
        return read_script(path, wall_clock)
    except (BadScript, OSError) as error:
        raise UsageError(str(error), help="see docs/reference/sandbox-faults.md") from error


def _tell(text: str, write: Path | None) -> None:
    click.echo(text, nl=False)
    sys.stdout.flush()
    if write is not None:
        write.write_text(text, encoding="utf-8")


def _told(facility: str, face: str, request: Request, status: int) -> None:
    note(f"{facility} {face}: {request.method} {request.path[:200]} {status or 'no answer'}")


def _detached(
    place: Path, *, slots: int, cores: int, port: int, only: Sequence[str], faults: Path | None, seconds: float | None
) -> str:
    """Start one beside this process; the site document, as soon as it is up."""
    from sandbox.up.state import SITES  # noqa: PLC0415

    words = ["--state", str(place), "--slots", str(slots), "--cores", str(cores), "--port", str(port)]
    words += [word for name in only for word in ("--only", name)]
    words += ["--faults", str(faults.absolute())] if faults else []
    words += ["--seconds", str(seconds)] if seconds is not None else []
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    (place / SITES).unlink(missing_ok=True)
    with (place / "sandbox.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "broker.cli", "sandbox", "up", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            text = (place / SITES).read_text(encoding="utf-8")
        except FileNotFoundError:
            text = ""
        if text.endswith("}\n"):
            return text
        time.sleep(_STEP)
    process.kill()
    process.wait()
    told = (place / "sandbox.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise UsageError(f"the sandbox did not come up: {told[-1] if told else 'it said nothing'}")
