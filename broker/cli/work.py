"""`worker`, `beat` and `health`: the processes of a service beside `serve`, and whether they get on."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from broker.addresses import Address
from broker.cli.options import output_option
from broker.cli.output import emit, table
from broker.cli.session import Session, note
from broker.errors import BrokerError, UsageError
from broker.logs import tell_the_log
from broker.serve_lock import AlreadyServed

if TYPE_CHECKING:
    from broker.store.base import WorkerRow

STUCK = 75
"""Exit code of a process that found itself stuck: its supervisor starts another one."""


class NoProgress(BrokerError):
    """No process of that kind gets on."""


@click.command()
@click.option(
    "--queues",
    metavar="NAMES",
    default="",
    help="Which to take hints from, with commas: runs, sites (of every site), site.NAME. Otherwise all.",
)
@click.option("--threads", type=click.IntRange(1, 64), default=4, show_default=True, help="Hints worked at together.")
@click.pass_obj
def worker(session: Session, queues: str, threads: int) -> None:
    """Work for this installation: go on with runs, act and look at sites, until Ctrl-C or SIGTERM.

    Any number of workers share PostgreSQL and Redis. One that does not get on for a minute ends itself with exit code
    75; have it restarted by what supervises it. With SQLite one process does all the work: then this serves as
    `serve` does, and where somebody serves already it says so and is content.
    """
    if not session.settings.is_service:
        _serve_alone(session)
        return
    from broker.cli.stopping import stop_on_signals  # noqa: PLC0415 - these import the engine and Celery
    from broker.serving import working  # noqa: PLC0415
    from broker.worker import Habits  # noqa: PLC0415

    service = session.service
    wanted = [name.strip() for name in queues.split(",") if name.strip()]
    tell_the_log()
    with (
        stop_on_signals() as stop,
        working(
            service.settings,
            service.sites,
            service.store,
            queues=wanted,
            habits=Habits(threads=threads),
            clock=service.clock,
        ) as made,
    ):
        note(f"working for {service.settings.where}; queues: {', '.join(made.queues)}")
        _until_stuck(lambda: made.run(stop.wait))
    note("stopped working; others go on, and jobs do in any case")


def _serve_alone(session: Session) -> None:
    from broker.cli.serve import serve_home  # noqa: PLC0415 - imports the engine

    try:
        serve_home(session, until_quiet=False, timeout=None)
    except AlreadyServed as error:
        note(f"{error}; with SQLite one process does all the work")


@click.command()
@click.option("--every", type=click.FloatRange(0.2, 60), default=5.0, show_default=True, help="Seconds.")
@click.pass_obj
def beat(session: Session, every: float) -> None:
    """Ask the workers for a sweep now and then, until Ctrl-C or SIGTERM. Two are as good as one.

    Every worker sweeps by itself as well: without any beat work goes on.
    """
    from broker.beat import Beat  # noqa: PLC0415 - these import Celery
    from broker.celery_app import make_app  # noqa: PLC0415
    from broker.cli.stopping import stop_on_signals  # noqa: PLC0415
    from broker.core import worker_name  # noqa: PLC0415

    settings, service = session.settings, session.service
    tell_the_log()
    app = make_app(_service_only(session), ca=settings.redis_ca)
    with stop_on_signals() as stop:
        made = Beat(app, service.store, name=worker_name(), clock=service.clock, every=every)
        note(f"asking for a sweep every {every:g} s")
        _until_stuck(lambda: made.run(stop.wait))
    note("stopped asking for sweeps; workers sweep by themselves")


@click.command()
@click.argument("kind", type=click.Choice(["serve", "worker", "beat"]), required=False)
@click.option("--here", is_flag=True, help="Only processes of this host: what a container's health check asks.")
@output_option
@click.pass_obj
def health(session: Session, kind: str | None, here: bool, output: str) -> None:
    """List the processes of a service, and whether work gets through to them. Exit code 1: to none of that KIND.

    A worker's sign of progress is a message that went through its queue and one of its threads, not that the process
    exists.
    """
    import platform  # noqa: PLC0415

    from broker.heart import is_fresh  # noqa: PLC0415 - imports the store

    _service_only(session)
    now, host = session.service.clock(), platform.node()
    rows = [r for r in session.service.store.workers() if kind in (None, r.kind) and (not here or r.host == host)]
    views = [_view(row, now, gets_on=is_fresh(row, now)) for row in rows]

    def text() -> str:
        cells = [[str(view[name]) for name in ("kind", "name", "gets_on", "progress", "queues")] for view in views]
        return table(("kind", "name", "gets on", "progress", "queues"), cells, empty="no process has given a sign")

    emit(views, output=output, text=text)
    if not any(view["gets_on"] for view in views):
        raise NoProgress(f"no {kind or 'process'} gets on", help="start one; its log says why the last one ended")


def _view(row: WorkerRow, now: int, *, gets_on: bool) -> dict[str, object]:
    ago = None if row.progress_at is None else round((now - row.progress_at) / 1e6, 1)
    return {
        "kind": row.kind,
        "name": row.name,
        "host": row.host,
        "gets_on": gets_on,
        "progress": "never" if ago is None else f"{ago:g} s ago",
        "queues": ", ".join(json.loads(row.queues)),
        "detail": json.loads(row.detail),
    }


def _service_only(session: Session) -> Address:
    """The transport. Raises UsageError where one process does everything."""
    if not session.settings.is_service:
        raise UsageError(
            "this installation is one process over SQLite",
            help="set CROSSFADE_DATABASE and CROSSFADE_REDIS for a service of many; see docs/howto/run-a-service.md",
        )
    return session.settings.transport()


def _until_stuck(run: Callable[[], None]) -> None:
    from broker.worker import Stuck  # noqa: PLC0415 - imports Celery

    try:
        run()
    except Stuck as error:
        note(f"stuck: {error}; ending, for another one to be started. Where every thread is:")
        faulthandler.dump_traceback(all_threads=True)
        sys.stderr.flush()
        os._exit(STUCK)  # threads that hang would keep an orderly end waiting
