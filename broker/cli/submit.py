"""`submit`: store a run, and leave it to whoever serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.options import (
    Bodies,
    change_options,
    file_argument,
    output_option,
    parse_params,
    request_options,
    submit_options,
)
from broker.cli.output import emit
from broker.cli.session import Session, note

if TYPE_CHECKING:
    from broker.service import Request, Submitted


@click.command()
@file_argument
@request_options
@submit_options
@click.option(
    "--hold",
    is_flag=True,
    help="Store it held: nothing starts before `release`. A rule of where its data may be can be waived until then.",
)
@change_options
@output_option
@click.pass_obj
def submit(
    session: Session,
    file: Path,
    params: tuple[str, ...],
    name: str | None,
    bodies: Bodies,
    scale: float,
    key: str | None,
    again: bool,
    event_at: int | None,
    hold: bool,
    dry_run: bool,
    reason: str,
    yes: bool,
    output: str,
) -> None:
    """Store a run of FILE for whoever serves this home, and return."""
    del reason, yes  # taken for the sake of scripts; nothing is asked, and a new run needs no reason
    request = make_request(file, params, name, bodies, scale, key, again, hold, event_at)
    if dry_run:
        show_dry_run(session, request, output)
        return
    submitted = submit_request(session, request)
    if hold and submitted.new:
        note(f"held: nothing starts before `crossfade release {submitted.run_id}`")
    else:
        tell_who_serves(session, submitted.run_id)
    view = {"run": submitted.run_id, "new": submitted.new, "warnings": list(submitted.warnings)}
    emit(view, output=output, text=lambda: submitted.run_id)


def make_request(
    file: Path,
    params: tuple[str, ...],
    name: str | None,
    bodies: Bodies,
    scale: float,
    key: str | None = None,
    again: bool = False,
    hold: bool = False,
    event_at: int | None = None,
) -> Request:
    """What the options ask for. Raises UsageError."""
    from broker.service import Request  # noqa: PLC0415 - slow to import

    return Request(
        document=file,
        params=parse_params(params),
        key=key,
        again=again,
        bodies=bodies,
        scale=scale,
        name=name,
        hold=hold,
        event_at=event_at,
    )


def submit_request(session: Session, request: Request) -> Submitted:
    """Store it, and tell of warnings and of a run that was there already."""
    submitted = session.service.submit(request)
    for warning in submitted.warnings:
        note(f"warning: {warning}")
    if not submitted.new:
        note(f"run {submitted.run_id} has this key already; --again makes a new one")
    return submitted


def show_dry_run(session: Session, request: Request, output: str) -> None:
    """Check everything that submitting would check, and store nothing."""
    compiled = session.service.compile(request)
    possible = session.service.possible(compiled, hold=request.hold)
    service = session.service
    money = service.prices().warnings(compiled, possible.sites)
    for warning in (*service.preflight(possible.sites), *money, *possible.warnings("RUN")):
        note(f"warning: {warning}")
    view = {"run": None, "dry_run": True, "name": compiled.name, "stages": len(compiled.stages)}
    emit(view, output=output, text=lambda: f"would submit {compiled.name} with {len(compiled.stages)} stages")


def tell_who_serves(session: Session, run_id: str) -> None:
    """Say it when nobody will go on with the run."""
    if session.served_by():
        return
    if session.settings.is_service:
        note(f"no worker gets on now: run {run_id} is kept, and starts when there is one; see `crossfade health`")
    else:
        note(
            f"nobody serves {session.settings.home} now: the run is kept, and starts with `crossfade serve` "
            f"or `crossfade run --resume {run_id}`"
        )
