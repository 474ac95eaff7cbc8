"""Verbs about documents: validate, plan, schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli.candidates import candidate_tables
from broker.cli.options import Bodies, file_argument, output_option, request_options
from broker.cli.output import cell, emit, table
from broker.cli.scripted import script_text
from broker.cli.session import Session, note
from broker.cli.submit import make_request
from broker.errors import RefusedByPolicy, UsageError

if TYPE_CHECKING:
    from broker.service import Request


@click.command()
@file_argument
@request_options
@output_option
@click.pass_obj
def validate(
    session: Session,
    file: Path,
    params: tuple[str, ...],
    name: str | None,
    bodies: Bodies,
    scale: float,
    output: str,
) -> None:
    """Check FILE, and store nothing. Exit code 2: something is wrong with it, each thing told with its place."""
    compiled = session.service.compile(make_request(file, params, name, bodies, scale))
    view = {
        "valid": True,
        "name": compiled.name,
        "stages": [stage.path for stage in compiled.stages],
        "digest": compiled.digest,
        "warnings": list(compiled.warnings),
    }

    def text() -> str:
        warnings = [f"warning: {warning}" for warning in compiled.warnings]
        return "\n".join([*warnings, f"{file} is valid: {compiled.name}, {len(compiled.stages)} stages"])

    emit(view, output=output, text=text)


@click.command()
@file_argument
@request_options
@click.option("--script", "site", metavar="SITE", help="Print the exact job script and request for SITE instead.")
@click.option("--stage", metavar="STAGE", help="With --script: of which stage, where there are several.")
@output_option
@click.pass_obj
def plan(
    session: Session,
    file: Path,
    params: tuple[str, ...],
    name: str | None,
    bodies: Bodies,
    scale: float,
    site: str | None,
    stage: str | None,
    output: str,
) -> None:
    """Say where each stage of FILE would start if it were submitted now, when it would be done there, and why not
    elsewhere.

    Of each site: whether it takes the stage now; how long bringing files in, the queue, the work and bringing files out
    will take (median / 90th percentile); and how likely it is that the site is lost before.
    """
    request = make_request(file, params, name, bodies, scale)
    if site is not None:
        scripted = session.service.planned_script(request, site, stage)
        emit(scripted, output=output, text=lambda: script_text(scripted))
        return
    if stage is not None:
        raise UsageError("--stage goes with --script SITE")
    views = session.service.plan(request)
    _warn(session, request)
    emit(views, output=output, text=lambda: _plan_text(views))


def _warn(session: Session, request: Request) -> None:
    """Of every site that a stage may go to. What no site could run is told by the plan itself."""
    compiled = session.service.compile(request)
    try:
        sites = session.service.possible(compiled).sites
    except RefusedByPolicy:
        return
    for warning in (*session.service.preflight(sites), *session.service.prices().warnings(compiled, sites)):
        note(f"warning: {warning}")


def _plan_text(views: list[dict[str, Any]]) -> str:
    rows = [[str(view["stage"]), view["outcome"], cell(view["site"]), _words(view)] for view in views]
    told = table(("stage", "outcome", "site", "why"), rows, empty="no stages")
    return "\n\n".join([told, *candidate_tables(views)])


def _words(view: Mapping[str, Any]) -> str:
    asked = view["checkpoints"]["words"] if "checkpoints" in view else ()
    return cell(" ".join([*view["words"], *asked]))


@click.command()
@click.argument("kind", type=click.Choice(["workflow", "sites"]))
def schema(kind: str) -> None:
    """Print the JSON Schema of a workflow document or of the site document."""
    from broker.spec.schema import sites_schema, workflow_schema  # noqa: PLC0415 - slow to import

    click.echo(json.dumps(workflow_schema() if kind == "workflow" else sites_schema(), indent=2))
