"""`run`: submit, serve here when nobody does, watch to the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.failing import Detached
from broker.cli.options import (
    Bodies,
    change_options,
    duration,
    output_option,
    policy_option,
    request_options,
    submit_options,
)
from broker.cli.output import emit
from broker.cli.session import Session, note
from broker.cli.status import status_text
from broker.cli.submit import make_request, show_dry_run, submit_request, tell_who_serves
from broker.errors import NeedsPerson, RunFailed, UsageError, WaitTimedOut
from broker.serve_lock import AlreadyServed

if TYPE_CHECKING:
    from broker.cli.follow import Ending, Follower

TAKE_OVER_EVERY = 0.5
"""Seconds between two tries to serve, while another process does."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@request_options
@submit_options
@click.option("--resume", "resume", metavar="RUN", help="Go on with a stored run instead of submitting FILE.")
@click.option("--detach", is_flag=True, help="As `submit`: do not serve, do not watch.")
@click.option("--timeout", type=duration, metavar="TIME", help="Stop watching after that long (90s, 10m, 2h): exit 6.")
@policy_option
@change_options
@output_option
@click.pass_obj
def run(
    session: Session,
    file: Path | None,
    params: tuple[str, ...],
    name: str | None,
    bodies: Bodies,
    scale: float,
    key: str | None,
    again: bool,
    event_at: int | None,
    resume: str | None,
    detach: bool,
    timeout: float | None,
    dry_run: bool,
    reason: str,
    yes: bool,
    output: str,
) -> None:
    """Run FILE: submit it, serve here if nobody serves this home, and watch to the end.

    The first Ctrl-C (or SIGTERM) detaches: jobs go on, but nobody watches them until `crossfade run --resume RUN` or
    `crossfade serve`. Exit codes: 0 all products are there, 6 --timeout is over, 7 failed or canceled, 8 a person
    must decide, 130 or 143 detached.
    """
    del reason, yes
    if (file is None) == (resume is None):
        raise UsageError("give either FILE or --resume RUN", help="crossfade run workflow.yaml")
    if file is not None:
        request = make_request(file, params, name, bodies, scale, key, again, event_at=event_at)
        if dry_run:
            show_dry_run(session, request, output)
            return
        run_id = submit_request(session, request).run_id
    else:
        run_id = session.service.find(resume)[0].run_id
    if dry_run:
        emit({"run": run_id, "dry_run": True}, output=output, text=lambda: f"would go on with {run_id}")
    elif detach:
        tell_who_serves(session, run_id)
        emit({"run": run_id}, output=output, text=lambda: run_id)
    else:
        watch_to_the_end(session, run_id, timeout=timeout, output=output)


def watch_to_the_end(session: Session, run_id: str, *, timeout: float | None, output: str) -> None:
    """Serve or watch, print the run's status, and raise what its end means."""
    from broker.cli.follow import Follower  # noqa: PLC0415 - these import the engine
    from broker.cli.progress import watching  # noqa: PLC0415
    from broker.cli.stopping import stop_on_signals  # noqa: PLC0415

    note(f"run {run_id}")
    with stop_on_signals() as stop, watching() as progress:
        deadline = None if timeout is None else time.monotonic() + timeout
        follower = Follower(session.service.store, run_id, progress, stop, deadline)
        ending = _serve_or_watch(session, follower)
    view = session.service.status(run_id)
    emit(view, output=output, text=lambda: status_text(view))
    _end(session, run_id, ending, state=str(view["state"]), signal_number=stop.signal_number)


def _serve_or_watch(session: Session, follower: Follower) -> Ending:
    """Serve if nobody does; else watch, and take over when the server goes away."""
    from broker.cli.follow import Ending  # noqa: PLC0415
    from broker.serving import serving  # noqa: PLC0415 - imports Celery

    service, said = session.service, False
    if service.settings.is_service:
        tell_who_serves(session, follower.run_id)
        return follower.follow()
    while True:
        try:
            with serving(service.settings, service.sites, service.store) as embedded:
                if said:
                    note("the process that served has ended; serving here now")
                embedded.wake(follower.run_id)
                ending = follower.follow()
                if ending is Ending.OVER and (left := follower.clean_up()):
                    note(f"{left} copies that are not needed could not be ended yet; `crossfade serve` sees to them")
                return ending
        except AlreadyServed as error:
            if not said:
                note(f"{error}; watching only")
                said = True
        ending = follower.follow(seconds=TAKE_OVER_EVERY)
        if ending is not Ending.PAUSED:
            return ending


def _end(session: Session, run_id: str, ending: Ending, *, state: str, signal_number: int) -> None:
    """Raise what is not a good end."""
    from broker.cli.follow import Ending  # noqa: PLC0415

    resume = f"`crossfade run --resume {run_id}`"
    if ending is Ending.STOPPED:
        raise Detached(
            signal_number,
            f"detached from run {run_id}: its jobs go on, but nobody watches them until {resume} or `crossfade serve`",
        )
    if ending is Ending.TIMED_OUT:
        raise WaitTimedOut(f"run {run_id} is {state} still", help=f"it goes on with {resume}")
    if ending is Ending.PERSON:
        from broker.waiting import asked_of_people  # noqa: PLC0415

        asked = asked_of_people(session.service.store.stages(run_id))
        words = "; ".join(f"{stage.path}: {stage.reason}" for stage in asked[:5])
        raise NeedsPerson(
            f"run {run_id} waits for a person: {words}",
            help=f"`crossfade explain {run_id}/{asked[0].path}`, then retry, move or cancel it, then {resume}",
        )
    if state != "SUCCEEDED":
        raise RunFailed(f"run {run_id} is {state}", help=f"`crossfade errors {run_id}` says why")
