"""`site ls|add|show|check|drain|evacuate|resume|override|release|strays`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from broker.cli.leaving import attempts_table, evacuate
from broker.cli.options import change_options, confirm, duration, output_option
from broker.cli.output import cell, colour, emit, rows_of, table
from broker.cli.session import Session
from broker.cli.site_check import check
from broker.errors import RefusedByPolicy, UsageError
from broker.views import when
from policies.intervals import span

_STRAY_COLUMNS = ("site", "key", "native_id", "state", "stage", "fate", "outcome")
_COLUMNS = ("site", "state", "facility", "connector", "load", "slots", "last_answer", "health", "detail")
_JUDGED = ("capability", "state", "age", "source", "rule", "reason", "next")
_IN_TABLES = ("evidence", "events", "capabilities", "swallowed", "override", "leaving")
_OVERRIDES = ("up", "degraded", "draining", "maintenance", "down", "none")
_LONGEST_OVERRIDE = 30 * 86_400.0
"""Seconds. What holds for longer belongs into the site document, or is no site any more."""


@click.group()
def site() -> None:
    """List, add, check, drain, evacuate, resume and release sites."""


@site.command("ls")
@output_option
@click.pass_obj
def ls(session: Session, output: str) -> None:
    """List the sites of the site document, and how each stands."""
    views = session.service.site_list()
    emit(views, output=output, text=lambda: table(_COLUMNS, rows_of(views, _COLUMNS), empty="no sites"))


@site.command("show")
@click.argument("name")
@output_option
@click.pass_obj
def show(session: Session, name: str, output: str) -> None:
    """Show one site: how it is judged to be and why, its newest evidence, its own events."""
    view = session.service.site(name)
    emit(view, output=output, text=lambda: _site_text(view))


def _site_text(view: Mapping[str, Any]) -> str:
    lines = [f"{key:16} {cell(value)}" for key, value in view.items() if key not in _IN_TABLES]
    if override := view["override"]:
        told = f"{override['state']} until {override['until']}, says {override['by']}: {override['reason']}"
        lines.append(f"{'override':16} {cell(told)}")
    if leaving := view["leaving"]:
        lines += ["", leaving["says"], attempts_table(leaving)]
    lines += [f"{'swallowed':16} {cell(one['reason'])}, until {one['until']}" for one in view["swallowed"]]
    lines += ["", table(_JUDGED, [_judged(name, one) for name, one in view["capabilities"].items()], empty=""), ""]
    lines += [f"{e['at']}  {e['event']}  {cell(e['data'])}" for e in view["events"]]
    lines += [
        f"{e['at']}  {e['capability']}: {'ok' if e['ok'] else 'failed'}  {e['source'] or '-'}  {e['detail']}"
        for e in view["evidence"]
    ]
    return "\n".join(lines)


def _judged(name: str, one: Mapping[str, Any]) -> list[str]:
    """A line of the table: with what happens next by itself, and when."""
    age = "-" if one["age_seconds"] is None else span(one["age_seconds"])
    then = f"{one['then']} at {one['until']}" if one["then"] and one["until"] else one["then"]
    return [name, one["state"], age, *map(cell, (one["source"], one["rule"], one["reason"], then))]


@site.command("add")
@click.argument("name")
@click.option("--profile", required=True, help="What kind of site it is: `local`, ...")
@click.option("--root", metavar="FOLDER", help="The folder there below which everything of ours lives.")
@click.option("--slots", type=click.IntRange(min=1), help="How many stages may be there at once.")
@change_options
@output_option
@click.pass_obj
def add(
    session: Session,
    name: str,
    profile: str,
    root: str | None,
    slots: int | None,
    dry_run: bool,
    reason: str,
    yes: bool,
    output: str,
) -> None:
    """Add a site to the site document; what is written there already stays as it is."""
    del reason, yes
    from broker.site_entry import add_site  # noqa: PLC0415 - slow to import

    document = _document(session)
    entry: dict[str, str | int] = {"profile": profile, "root": _root(session, name, root, profile)}
    if slots is not None:
        entry["slots"] = slots
    add_site(document, name, entry, write=not dry_run)
    view = {"site": name, "document": str(document), "entry": entry, "dry_run": dry_run}
    verb = "would add" if dry_run else "added"
    emit(view, output=output, text=lambda: f"{verb} {name} to {document}; try it with `crossfade site check {name}`")


def _document(session: Session) -> Path:
    """The site document in use; else ./sites.yaml, which is made."""
    from broker.sites import FILE, search  # noqa: PLC0415 - slow to import

    found = session.settings.sites or search(cwd=Path.cwd(), env=os.environ)[0]
    return found or Path(FILE)


def _root(session: Session, name: str, root: str | None, profile: str) -> str:
    """As the person here means it: relative paths lie below this folder, not below the document's. A folder of another
    machine is that machine's to understand."""
    from broker.spec.profiles import is_elsewhere  # noqa: PLC0415 - slow to import

    if is_elsewhere(profile):
        if root is None:
            raise UsageError(f"{profile} is another machine", help="name the folder there with --root, from / on")
        return root
    if root is None:
        return str(session.settings.home / "sites" / name)
    return root if "://" in root else os.path.abspath(os.path.expanduser(root))


site.add_command(check)
site.add_command(evacuate)


@site.command("drain")
@click.argument("name")
@change_options
@click.pass_obj
def drain(session: Session, name: str, dry_run: bool, reason: str, yes: bool) -> None:
    """Start nothing new at a site; what runs there goes on."""
    load = session.service.site(name)["load"]
    if dry_run:
        click.echo(f"would drain {name}; {load} attempts there go on")
        return
    confirm(f"drain {name}?", yes=yes)
    session.service.drain_site(name, reason=reason)
    click.echo(f"{name} is {colour('drained')}: nothing new starts there; {load} attempts go on")


@site.command("resume")
@click.argument("name")
@change_options
@click.pass_obj
def resume(session: Session, name: str, dry_run: bool, reason: str, yes: bool) -> None:
    """Take a site into use again that was drained, evacuated or closed."""
    del yes
    session.service.site(name)
    if dry_run:
        click.echo(f"would resume {name}")
        return
    session.service.resume_site(name, reason=reason)
    click.echo(f"{name} is in use again")


@site.command("override")
@click.argument("name")
@click.argument("state", type=click.Choice(_OVERRIDES))
@click.option(
    "--for", "seconds", type=duration, default="24h", metavar="TIME", show_default=True, help="How long it holds."
)
@change_options
@click.pass_obj
def override(session: Session, name: str, state: str, seconds: float, dry_run: bool, reason: str, yes: bool) -> None:
    """Say how a site is, against all evidence, for some time; `none` lets evidence speak again.

    `down`, `maintenance` and `draining`: nothing new starts there; what is there goes on. `up` and `degraded`: it is
    used, whatever was measured. `down` also says, when several sites are dark together, that this one is not our fault.
    """
    session.service.site(name)
    if not reason:
        raise UsageError("say why", help="--reason TEXT; it is kept, and shown beside the state")
    if not 0 < seconds <= _LONGEST_OVERRIDE:
        raise UsageError("an override holds for 30 days at most", help="--for 24h")
    words = f"let evidence say how {name} is" if state == "none" else f"say that {name} is {state} for {span(seconds)}"
    if dry_run:
        click.echo(f"would {words}")
        return
    confirm(f"{words}?", yes=yes)
    if state == "none":
        session.service.end_override(name, reason=reason)
        click.echo(f"{name} is judged by evidence again")
        return
    until = session.service.override_site(name, state, reason=reason, seconds=seconds)
    click.echo(f"{name} counts as {colour(state)} until {when(until)}; `crossfade site override {name} none` ends it")


@site.command("release")
@click.argument("name")
@change_options
@click.pass_obj
def release(session: Session, name: str, dry_run: bool, reason: str, yes: bool) -> None:
    """End a site's quarantine after a restore by hand, without knowing all of its jobs.

    Quarantine ends by itself as soon as the site has listed its jobs. What it never listed may be started twice.
    """
    view = session.service.site(name)
    if not view["quarantined"]:
        raise RefusedByPolicy(f"{name} is not in quarantine", help="see `crossfade site ls`")
    if not reason:
        raise UsageError("say why", help="--reason TEXT; it is kept with the site's events")
    if dry_run:
        click.echo(f"would release {name}; jobs of it that are not known may be started a second time")
        return
    confirm(f"release {name}? jobs of it that are not known may be started a second time;", yes=yes)
    session.service.release_site(name, reason=reason)
    click.echo(f"{name} is released: stages may start there")


@site.command("strays")
@click.argument("name", required=False)
@output_option
@click.pass_obj
def strays(session: Session, name: str | None, output: str) -> None:
    """List jobs that were found after a restore and that the backup did not know, and what became of them."""
    views = session.service.strays(name)
    text = lambda: table(_STRAY_COLUMNS, rows_of(views, _STRAY_COLUMNS), empty="no stray jobs were found")  # noqa: E731
    emit(views, output=output, text=text)
