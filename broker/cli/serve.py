"""`serve`: take requests, and with SQLite go on with every run of this home, until stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from broker.cli.options import duration, listen_option, policy_option
from broker.cli.session import Session, note
from broker.errors import NeedsPerson, UsageError, WaitTimedOut

if TYPE_CHECKING:
    from broker.cli.chronicle import Chronicle
    from broker.cli.stopping import Stop
    from broker.service import Service

TELL_EVERY = 0.25
QUIET_EVERY = 0.25


@click.command()
@click.option("--until-quiet", is_flag=True, help="End when no run is unfinished and no job of ours is open.")
@click.option("--timeout", type=duration, metavar="TIME", help="With --until-quiet: give up after that long, exit 6.")
@listen_option
@policy_option
@click.pass_obj
def serve(session: Session, until_quiet: bool, timeout: float | None, listen: tuple[str, ...]) -> None:
    """Serve this home until Ctrl-C or SIGTERM; jobs go on when it stops.

    Prints one line for whatever happens. With --until-quiet: exit 8 when only a person can go on. Meanwhile programs
    may submit and ask over HTTP, at the socket `serve.sock` in the home, with the token in its file `token`.

    As a service (CROSSFADE_DATABASE and CROSSFADE_REDIS are set) it answers over HTTP alone, and workers do the work.
    """
    if not session.settings.is_service:
        serve_home(session, until_quiet=until_quiet, timeout=timeout, listen=listen)
    elif until_quiet:
        raise UsageError("--until-quiet is for one process over SQLite", help="`crossfade run --resume RUN` waits")
    else:
        _serve_service(session, listen)


def serve_home(session: Session, *, until_quiet: bool, timeout: float | None, listen: Sequence[str] = ()) -> None:
    """One process over SQLite: it answers, works and watches."""
    from broker.api.listen import listening  # noqa: PLC0415 - brings the web framework
    from broker.cli.chronicle import Chronicle  # noqa: PLC0415 - these import the engine and Celery
    from broker.cli.stopping import stop_on_signals  # noqa: PLC0415
    from broker.serving import serving  # noqa: PLC0415

    service = session.service
    with stop_on_signals() as stop:
        with (
            serving(service.settings, service.sites, service.store) as embedded,
            listening(service, service.settings, listen, embedded.wake) as at,
        ):
            note(f"serving {service.settings.home}; sites: {', '.join(service.sites.configs)}")
            for place in at.places:
                note(f"listening at {place}")
            _until_stopped(service, Chronicle(service), stop, until_quiet=until_quiet, timeout=timeout)
        if stop.asked:
            note("stopped serving; jobs go on, and nobody watches them until somebody serves again")


def _serve_service(session: Session, listen: Sequence[str]) -> None:
    """One of many processes over PostgreSQL: it answers; the workers work."""
    from broker.answering import answering  # noqa: PLC0415
    from broker.cli.stopping import stop_on_signals  # noqa: PLC0415 - these import Celery and the web framework
    from broker.logs import tell_the_log  # noqa: PLC0415

    service = session.service
    tell_the_log()
    with stop_on_signals() as stop, answering(service, listen) as made:
        note(f"answering for {service.settings.where}; sites: {', '.join(service.sites.configs)}")
        for place in made.places:
            note(f"listening at {place}")
        made.run(stop.wait)
    note("stopped answering; workers go on")


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
