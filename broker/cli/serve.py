"""`serve` and `worker`: go on with every run of this home until stopped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from broker.cli.options import duration
from broker.cli.session import Session, note
from broker.errors import NeedsPerson, WaitTimedOut
from broker.serve_lock import AlreadyServed

if TYPE_CHECKING:
    from broker.cli.chronicle import Chronicle
    from broker.cli.stopping import Stop
    from broker.service import Service

TELL_EVERY = 0.25
QUIET_EVERY = 0.25


@click.command()
@click.option("--until-quiet", is_flag=True, help="End when no run is unfinished and no job of ours is open.")
@click.option("--timeout", type=duration, metavar="TIME", help="With --until-quiet: give up after that long, exit 6.")
@click.pass_obj
def serve(session: Session, until_quiet: bool, timeout: float | None) -> None:
    """Serve this home until Ctrl-C or SIGTERM; jobs go on when it stops.

    Prints one line for whatever happens. With --until-quiet: exit 8 when only a person can go on.
    """
    _serve(session, until_quiet=until_quiet, timeout=timeout)


@click.command()
@click.pass_obj
def worker(session: Session) -> None:
    """Serve this home as `serve` does; where somebody serves it already, say so and be content.

    With SQLite one process serves a home. Workers beside it come with the service form (PostgreSQL and Redis).
    """
    try:
        _serve(session, until_quiet=False, timeout=None)
    except AlreadyServed as error:
        note(f"{error}; with SQLite one process does all the work")


def _serve(session: Session, *, until_quiet: bool, timeout: float | None) -> None:
    from broker.cli.chronicle import Chronicle  # noqa: PLC0415 - these import the engine and Celery
    from broker.cli.stopping import stop_on_signals  # noqa: PLC0415
    from broker.serving import serving  # noqa: PLC0415

    service = session.service
    with stop_on_signals() as stop:
        with serving(service.settings, service.sites, service.store):
            note(f"serving {service.settings.home}; sites: {', '.join(service.sites.configs)}")
            _until_stopped(service, Chronicle(service), stop, until_quiet=until_quiet, timeout=timeout)
        if stop.asked:
            note("stopped serving; jobs go on, and nobody watches them until somebody serves again")


def _until_stopped(
    service: Service, chronicle: Chronicle, stop: Stop, *, until_quiet: bool, timeout: float | None
) -> None:
    end = None if timeout is None else time.monotonic() + timeout
    while not stop.asked:
        for line in chronicle.news():
            click.echo(line)
        if until_quiet and _quiet(service):
            return
        if end is not None and time.monotonic() >= end:
            raise WaitTimedOut("there are unfinished runs still", help="see `crossfade queue`")
        stop.wait(TELL_EVERY)


def _quiet(service: Service) -> bool:
    """Is nothing left to do? Raises NeedsPerson when only people can go on."""
    from broker.waiting import only_people_help  # noqa: PLC0415

    store = service.store
    runs = store.runs(unfinished=True, limit=1000)
    if not runs:
        return not any(store.open_attempts(name) for name in service.sites.configs)
    if any(run.commands for run in runs):
        return False
    waiting = [run.run_id for run in runs if run.open_attempts == 0 and only_people_help(store.stages(run.run_id))]
    if len(waiting) == len(runs):
        raise NeedsPerson(f"waiting for a person: {', '.join(waiting)}", help="see `crossfade status`")
    return False
