"""`checkpoints`: what is saved of a stage's work, where, and what would be lost with its site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from broker.cli.options import output_option, target_argument
from broker.cli.output import cell, emit, table
from broker.cli.session import Session
from policies.intervals import amount, span

_COLUMNS = ("stage", "seq", "attempt", "site", "state", "size", "age", "elsewhere")


@click.command()
@target_argument
@click.option("--all", "everything", is_flag=True, help="Also those that are gone: removed, or lost with a site.")
@output_option
@click.pass_obj
def checkpoints(session: Session, target: str | None, everything: bool, output: str) -> None:
    """Show each stage's checkpoints, where copies of them and its inputs are, and the work that would be lost with its
    site now."""
    views = session.service.checkpoints(target, everything=everything)
    emit(views, output=output, text=lambda: checkpoints_text(views))


def checkpoints_text(views: Sequence[Mapping[str, Any]]) -> str:
    """The checkpoints as lines, newest first, then where inputs were sent ahead, and what is at risk."""
    rows = [_row(view["stage"], one) for view in views for one in view["checkpoints"]]
    risks = [f"{view['stage']}: {view['at_risk']['words']}" for view in views if view["at_risk"]]
    ahead = [f"{view['stage']}: {words}" for view in views if (words := _ahead(view["inputs"]))]
    return "\n".join([table(_COLUMNS, rows, empty="no checkpoints"), *ahead, *risks])


def _ahead(inputs: Sequence[Mapping[str, Any]]) -> str:
    """Where a stage's inputs are besides; what was removed again is not told."""
    words = [_of_inputs(one) for one in inputs if one["state"] != "removed"]
    return f"inputs: {', '.join(words)}" if words else ""


def _of_inputs(one: Mapping[str, Any]) -> str:
    if one["state"] == "there":
        return f"at {one['site']}"
    if one["state"] == "not there":
        return cell(f"not at {one['site']} ({one['reason']})")
    return f"on their way to {one['site']}"


def _row(stage: str, one: Mapping[str, Any]) -> list[str]:
    figures = [str(one["seq"]), str(one["attempt"]), one["site"], one["state"]]
    return [stage, *figures, amount(one["bytes"]), span(one["age_seconds"]), cell(_elsewhere(one))]


def _elsewhere(one: Mapping[str, Any]) -> str:
    """Where its copies are, or what it waits for."""
    words = [_copy(copy) for copy in one["copies"]]
    return "; ".join(words) or str(one["reason"])


def _copy(copy: Mapping[str, Any]) -> str:
    if copy["state"] == "gone":
        return f"{copy['site']} (gone: {copy['reason']})"
    if copy["arrived_at"] is None:
        why = f": {copy['reason']}" if copy["reason"] else ""
        return f"{copy['site']} ({copy['state']} since {copy['ordered_at']}{why})"
    doubt = "" if copy["state"] in ("verified", "shipped") else f", {copy['state']}"
    return f"{copy['site']} (since {copy['arrived_at']}{doubt})"
