"""`site evacuate`, and `cancel --site --all`: taking everything of ours away from a site."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from broker.cli.options import change_options, confirm, output_option
from broker.cli.output import cell, emit, table
from broker.cli.session import Session, note
from broker.errors import UsageError

if TYPE_CHECKING:
    from broker.operating.leaving import Leavings

_COLUMNS = ("attempt", "state", "checkpoint", "asked_at", "end_asked_at", "native_id")
CONFIRMED_SECONDS = 5.0
"""How long to wait for whoever serves to confirm that a closed site is clear."""


@click.command("evacuate")
@click.argument("name")
@click.option("--to", "to", metavar="SITE", default="", help="Rather there; otherwise each stage goes where it can.")
@change_options
@output_option
@click.pass_obj
def evacuate(session: Session, name: str, to: str, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """Start nothing new at a site, and move what is there: what can save itself is asked to, first.

    `drain` lets it finish. A stage that no other site can take now goes on until one can. `site show` tells how far it
    is; `site resume` undoes it. --reason is needed.
    """
    leavings = _leavings(session)
    leavings.may_evacuate(name, reason=reason, to=to)
    view = leavings.progress(name)
    words = f"evacuate {name}" + (f" to {to}" if to else "") + f": {view['left']} attempts"
    if dry_run:
        emit({**view, "dry_run": True}, output=output, text=lambda: f"would {words}\n{attempts_table(view)}")
        return
    confirm(f"{words}?", yes=yes)
    view = leavings.evacuate(name, reason=reason, to=to)
    emit({**view, "dry_run": False}, output=output, text=lambda: _line(view))
    if not session.served_by():
        note("kept; work moves when somebody serves")


def close_site(session: Session, name: str, *, then: str, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """Everything of ours at a site is ended, and confirmed."""
    leavings = _leavings(session)
    view = leavings.progress(name)
    if not reason:
        raise UsageError("say why", help="--reason TEXT; it is kept, and shown with the site")
    follows = "their stages wait for a person" if then == "wait" else "their stages go on elsewhere"
    words = f"end everything of ours at {name}: {view['left']} attempts, and what no row knows; {follows}"
    if dry_run:
        emit({**view, "dry_run": True}, output=output, text=lambda: f"would {words}\n{attempts_table(view)}")
        return
    if not yes:
        if output != "table":
            raise UsageError(f"this would {words}", help="--yes, if that is meant; --dry-run lists it")
        confirm_or_refuse(words)
    new = leavings.close(name, reason=reason, then=then)["new"]
    if not session.served_by():
        note("kept; jobs are ended when somebody serves")
    after = _until_clear(leavings, name) if session.served_by() else leavings.progress(name)
    emit({**after, "new": new, "dry_run": False}, output=output, text=lambda: _line(after))


def confirm_or_refuse(words: str) -> None:
    """Where there is nobody to ask, nothing is ended without --yes. Raises UsageError, click.Abort."""
    import sys  # noqa: PLC0415 - rarely wanted

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"this would {words}", help="--yes, if that is meant; --dry-run lists it")
    confirm(f"{words}?", yes=False)


def _until_clear(leavings: Leavings, name: str) -> Mapping[str, Any]:
    end = time.monotonic() + CONFIRMED_SECONDS
    view = leavings.progress(name)
    while view["clear_at"] is None and time.monotonic() < end:
        time.sleep(0.1)
        view = leavings.progress(name)
    return view


def attempts_table(view: Mapping[str, Any]) -> str:
    """What is there, each with what has been done about it."""
    cells = [[cell(one[name]) for name in _COLUMNS] for one in view["attempts"]]
    return table(_COLUMNS, cells, empty="nothing of ours is there")


def _line(view: Mapping[str, Any]) -> str:
    from broker.operating.leaving import line  # noqa: PLC0415 - needs the store

    return line(dict(view))


def _leavings(session: Session) -> Leavings:
    from broker.operating.leaving import Leavings  # noqa: PLC0415 - needs the store

    return Leavings(session.service)
