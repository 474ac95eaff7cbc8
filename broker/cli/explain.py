"""`explain`: every decision in words, in order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from broker.cli.options import output_option, target_argument
from broker.cli.output import emit
from broker.cli.session import Session


@click.command()
@target_argument
@output_option
@click.pass_obj
def explain(session: Session, target: str | None, output: str) -> None:
    """Say why each thing was decided: why there, why it left, from which checkpoint, what was rejected."""
    view = session.service.explain(target)
    emit(view, output=output, text=lambda: explanation_text(view))


def explanation_text(view: Mapping[str, Any]) -> str:
    """The decisions as paragraphs, oldest first, and what holds now."""
    blocks = [_paragraph(decision) for decision in view["decisions"]]
    subject = f"{view['run']}/{view['stage']}" if view["stage"] else str(view["run"])
    now = f"{subject} is {view['state']}" + (f": {view['now']}" if view["now"] else "")
    booked = [f"{one['stage']}@{one['attempt']} at {one['site']}: {one['words']}" for one in view["charges"]]
    return "\n".join([*(blocks or ["nothing was decided yet"]), *booked, now])


def _paragraph(decision: Mapping[str, Any]) -> str:
    stage = decision["stage"] or "run"
    who = f"{stage}@{decision['attempt']}" if decision["attempt"] else stage
    at = datetime.fromisoformat(decision["at"]).astimezone().strftime("%H:%M:%S")
    first, *others = decision["words"]
    what_if = [f"What if: {'; '.join(decision['what_if'])}."] if decision.get("what_if") else []
    return "\n".join([f"{at} {who}  {first}", *(f"    {line}" for line in (*others, *what_if))])
