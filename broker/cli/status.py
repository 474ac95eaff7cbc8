"""`status`: a run with its stages, or the installation as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from broker.cli.lists import runs_table
from broker.cli.options import output_option, target_argument
from broker.cli.output import cell, colour, emit, rows_of, table
from broker.cli.session import Session


@click.command()
@target_argument
@output_option
@click.pass_obj
def status(session: Session, target: str | None, output: str) -> None:
    """Show a run with its stages and attempts; without RUN: sites, unfinished runs, and who must act."""
    service = session.service
    if target is not None:
        view = service.status(target)
        emit(view, output=output, text=lambda: status_text(view))
        return
    from broker.overview import overview  # noqa: PLC0415 - needs the service, which is slow to import

    whole = overview(service, now=service.clock())
    emit(whole, output=output, text=lambda: overview_text(whole))


def status_text(view: Mapping[str, Any]) -> str:
    """A run as a heading and one line per stage."""
    reason = f" ({view['reason']})" if view["reason"] else ""
    heading = f"run {view['run']}  {view['name']}  {colour(view['state'])}{reason}  {view['seconds']} s"
    rows = [
        [s["name"], s["state"], cell(s["site"]), _attempts(s["attempts"]), cell(s["reason"])] for s in view["stages"]
    ]
    return f"{heading}\n{table(('stage', 'state', 'site', 'attempts', 'reason'), rows, empty='no stages')}"


def _attempts(views: list[Mapping[str, Any]]) -> str:
    """Each attempt in a few words: where, how it ended, what it started from."""
    words = []
    for view in views:
        restored = f" from checkpoint {view['from_checkpoint']}" if view["from_checkpoint"] is not None else ""
        orphan = " (left behind)" if view["orphan"] else ""
        words.append(f"{view['number']}: {view['state']} at {view['site']}{restored}{orphan}")
    return "; ".join(words) or "-"


def pages(view: Mapping[str, Any]) -> list[str]:
    """The runbooks that fit, each once."""
    return list(dict.fromkeys(site["runbook"] for site in view["sites"] if site["runbook"]))


def overview_text(view: Mapping[str, Any]) -> str:
    """What is frozen, sites, runs, and whom they wait for."""
    from broker.operating.freezes import lines  # noqa: PLC0415 - needs the service, which is slow to import

    sites = table(
        ("site", "state", "load", "slots", "detail"),
        rows_of(view["sites"], ("site", "state", "load", "slots", "detail")),
        empty="no sites",
    )
    blocks = [*lines(view["freezes"]), *view["leaving"], sites]
    blocks += [site["says"] for site in view["sites"] if site["says"]]
    blocks += [f"what to do: crossfade runbook show {name}" for name in pages(view)]
    blocks += ["", runs_table(view["runs"], empty="no unfinished runs")]
    for asked in view["needs_person"]:
        blocks.append(f"{asked['run']}/{asked['stage']} waits for a person: {asked['reason']}\n  help: {asked['do']}")
    return "\n".join(blocks)
