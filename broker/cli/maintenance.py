"""`maintenance add|ls|plan|rm`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from broker.cli.options import change_options, confirm, output_option
from broker.cli.output import cell, emit, rows_of, table
from broker.cli.session import Session
from policies.intervals import span
from policies.verdicts import CAPABILITIES

if TYPE_CHECKING:
    from broker.operating.windows import Announcement, Windows

_COLUMNS = ("maintenance", "site", "state", "begins", "ends", "what", "source", "age", "reason")
_begins = click.option("--from", "begins", metavar="TIME", required=True, help="2026-12-01T08:00, +2h, or now.")
_ends = click.option("--to", "ends", metavar="TIME", required=True, help="2026-12-01T18:00, or +12h (from now).")


@click.group()
def maintenance() -> None:
    """Announce, plan, list and take back maintenance of sites.

    While it lasts, and in the hour before, nothing starts there. A time without an offset is this machine's local time.
    """


@maintenance.command("add")
@click.argument("site")
@_begins
@_ends
@click.option("--capability", type=click.Choice(CAPABILITIES), default=None, help="Only that; otherwise all of it.")
@change_options
@output_option
@click.pass_obj
def add(
    session: Session,
    site: str,
    begins: str,
    ends: str,
    capability: str | None,
    dry_run: bool,
    reason: str,
    yes: bool,
    output: str,
) -> None:
    """Announce that a site will be away. --reason is needed."""
    windows = _windows(session)
    said = _announcement(session, site, begins, ends, capability or "", reason)
    view = windows.view(windows.wanted(said))
    words = f"announce maintenance of {site} from {view['begins']} to {view['ends']}"
    if dry_run:
        emit({**view, "maintenance": None, "dry_run": True}, output=output, text=lambda: f"would {words}")
        return
    confirm(f"{words}?", yes=yes)
    view = windows.add(said)
    emit({**view, "dry_run": False}, output=output, text=lambda: _added(view))


def _added(view: Mapping[str, Any]) -> str:
    span_words = f"{view['site']} from {view['begins']} to {view['ends']}"
    if not view["new"]:
        return f"that is announced already: {view['maintenance']}, {span_words}, {view['source']}: {view['reason']}"
    also = f"; it overlaps {', '.join(view['overlaps'])}: all of them hold" if view["overlaps"] else ""
    return f"{view['maintenance']}: maintenance of {span_words}{also}; `crossfade maintenance rm` takes it back"


@maintenance.command("plan")
@click.argument("site")
@_begins
@_ends
@output_option
@click.pass_obj
def plan(session: Session, site: str, begins: str, ends: str, output: str) -> None:
    """Say what a maintenance would do: which runs it hits, what moves where, what waits, what is done twice.

    Changes nothing. What can be asked for a checkpoint is taken to have written one in time.
    """
    from broker.operating.planning import plan as planned  # noqa: PLC0415 - slow to import
    from broker.operating.planning import words  # noqa: PLC0415

    view = planned(session.service, _announcement(session, site, begins, ends, "", "as planned"))
    emit(view, output=output, text=lambda: f"{words(view)}\n{_plan_table(view)}")


def _plan_table(view: Mapping[str, Any]) -> str:
    columns = ("attempt", "name", "state", "what", "to", "node_hours_again", "why")
    return table(columns, rows_of(view["attempts"], columns), empty="nothing of ours is there")


@maintenance.command("rm")
@click.argument("ident", metavar="MAINTENANCE|SITE")
@change_options
@output_option
@click.pass_obj
def rm(session: Session, ident: str, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """Take back what an operator announced, or end it before its time. What a site's own calendar says is its own."""
    windows = _windows(session)
    view = windows.view(windows.find(ident))
    words = f"take back the maintenance of {view['site']} from {view['begins']} to {view['ends']}"
    if not dry_run:
        confirm(f"{words}?", yes=yes)
        view = windows.rm(str(view["maintenance"]), reason=reason)
    told = f"would {words}" if dry_run else f"{words}: done"
    emit({**view, "dry_run": dry_run}, output=output, text=lambda: told)


@maintenance.command("ls")
@click.argument("site", required=False, default="")
@click.option("--all", "everything", is_flag=True, help="Also what is over, or was taken back.")
@output_option
@click.pass_obj
def ls(session: Session, site: str, everything: bool, output: str) -> None:
    """List what operators have announced and what the sites' own calendars say, each with its source and age."""
    views = _windows(session).ls(site, everything=everything)
    emit(views, output=output, text=lambda: _table(views))


def _table(views: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [
            *map(cell, (v["maintenance"], v["site"], v["state"], v["begins"], v["ends"], v["capability"] or "all")),
            *map(cell, (v["source"], span(v["age_seconds"]), v["reason"])),
        ]
        for v in views
    ]
    return table(_COLUMNS, cells, empty="no maintenance is announced")


def _announcement(session: Session, site: str, begins: str, ends: str, capability: str, reason: str) -> Announcement:
    from broker.operating.times import moment  # noqa: PLC0415 - with the rest, when it is needed
    from broker.operating.windows import Announcement  # noqa: PLC0415 - slow to import

    now = session.service.clock()
    begins_at, ends_at = moment(begins, now=now), moment(ends, now=now)
    return Announcement(site=site, begins=begins_at, ends=ends_at, capability=capability, reason=reason)


def _windows(session: Session) -> Windows:
    from broker.operating.windows import Windows  # noqa: PLC0415 - needs the store

    return Windows(session.service)
