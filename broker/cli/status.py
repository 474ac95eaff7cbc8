"""`status`: a run with its stages, or the installation as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from broker.cli.lists import runs_table
from broker.cli.options import duration, output_option, target_argument
from broker.cli.output import cell, colour, emit, rows_of, table
from broker.cli.session import Session


@click.command()
@target_argument
@click.option("--watch", "watches", is_flag=True, help="Look again and again until Ctrl-C; at a run until it is over.")
@click.option("--every", type=duration, default="2s", show_default=True, metavar="TIME", help="Between two looks.")
@output_option
@click.pass_obj
def status(session: Session, target: str | None, watches: bool, every: float, output: str) -> None:
    """Show a run with its stages and attempts; without RUN: sites, runs, what is at risk, and who must act.

    Of each site: since when it is so, who says that, what happens next by itself and when, and the command that stops
    it. With --watch a terminal is redrawn; elsewhere each change is a line, and with `-o json` each look is one.
    """
    look = _look_at(session, target)
    if not watches:
        view = look()
        emit(view, output=output, text=lambda: _text(view, target))
        return
    _watch(look, target, every=max(0.2, every), output=output)


def _look_at(session: Session, target: str | None) -> Callable[[], Mapping[str, Any]]:
    service = session.service
    if target is not None:
        return lambda: service.status(target)
    from broker.overview import overview  # noqa: PLC0415 - needs the service, which is slow to import

    return lambda: overview(service, now=service.clock())


def _text(view: Mapping[str, Any], target: str | None) -> str:
    return overview_text(view) if target is None else status_text(view)


def _watch(look: Callable[[], Mapping[str, Any]], target: str | None, *, every: float, output: str) -> None:
    from broker.cli.watching import watch, watch_views  # noqa: PLC0415 - who looks once needs none of it

    last: dict[str, Any] = {}

    def looked() -> Mapping[str, Any]:
        last.clear()
        last.update(look())
        return last

    def over() -> bool:
        return target is not None and last["state"] in ("SUCCEEDED", "FAILED", "CANCELED")

    if output != "table":
        watch_views(looked, every=every, over=over, output=output)
        return
    about = _overview_lines if target is None else _run_lines
    watch(every=every, screen=lambda: _text(looked(), target), lines=lambda: about(looked()), over=over)


def _overview_lines(view: Mapping[str, Any]) -> Mapping[str, str]:
    """What changes are told of where nothing is redrawn, without ages."""
    lines = {f"site {s['site']}": f"site {s['site']} {s['state']}" for s in view["sites"]}
    for run in view["runs"]:
        reason = f" ({run['reason']})" if run["reason"] else ""
        left = f"{run['stages_left']} of {run['stages_total']} stages left"
        lines[f"run {run['run']}"] = f"run {run['run']} {run['name']} {run['state']}, {left}{reason}"
    for risk in view["at_risk"]:
        about = f"risk {risk['run']} {risk['stage']} {risk['risk']}"
        lines[about] = f"at risk: {risk['run']} {risk['stage'] or ''} {risk['risk'].replace('_', ' ')}; {risk['do']}"
    for asked in view["needs_person"]:
        about = f"{asked['run']}/{asked['stage']}"
        lines[about] = f"{about} waits for a person: {asked['reason']}; {asked['do']}"
    for notice in view["notices"]:
        lines[notice["notice"]] = f"notice {notice['notice']} {notice['kind']}: {notice['text']}"
    return lines


def _run_lines(view: Mapping[str, Any]) -> Mapping[str, str]:
    reason = f" ({view['reason']})" if view["reason"] else ""
    lines = {"": f"run {view['run']} {view['name']} {view['state']}{reason}"}
    for stage in view["stages"]:
        where = f" at {stage['site']}" if stage["site"] else ""
        why = f" ({stage['reason']})" if stage["reason"] else ""
        lines[stage["name"]] = f"{stage['name']} {stage['state']}{where}{why}"
    return lines


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


_SITES = ("site", "state", "age", "source", "load", "slots", "next")


def pages(view: Mapping[str, Any]) -> list[str]:
    """The runbooks that fit, each once."""
    return list(dict.fromkeys(site["runbook"] for site in view["sites"] if site["runbook"]))


def overview_text(view: Mapping[str, Any]) -> str:
    """What is frozen, sites, runs, what is at risk, and whom they wait for."""
    from broker.operating.freezes import lines  # noqa: PLC0415 - needs the service, which is slow to import

    blocks = [*lines(view["freezes"]), *view["leaving"]]
    blocks.append(table(_SITES, rows_of(view["sites"], _SITES), empty="no sites"))
    blocks += [site["says"] for site in view["sites"] if site["says"]]
    blocks += [f"{s['site']}: to change that: {s['stop']}" for s in view["sites"] if s["stop"] and not s["says"]]
    blocks += [f"what to do: crossfade runbook show {name}" for name in pages(view)]
    blocks += ["", runs_table(view["runs"], empty="no unfinished runs")]
    blocks += [f"at risk: {risk['words']}\n  help: {risk['do']}" for risk in view["at_risk"]]
    for asked in view["needs_person"]:
        blocks.append(f"{asked['run']}/{asked['stage']} waits for a person: {asked['reason']}\n  help: {asked['do']}")
    return "\n".join([*blocks, *_notices(view["notices"])])


def _notices(views: list[Mapping[str, Any]]) -> list[str]:
    """Those that nobody has acknowledged; one to several people is one line."""
    by_matter: dict[str, list[Mapping[str, Any]]] = {}
    for view in views:
        by_matter.setdefault(f"{view['kind']}: {view['text']}", []).append(view)
    lines = []
    for matter, told in by_matter.items():
        to = ", ".join(str(view["to"]) for view in told)
        vain = "".join(f"; {view['to']} did not take it: {view['error']}" for view in told if view["error"])
        lines.append(f"nobody has acknowledged {matter} (told {to}{vain})")
        run = told[0]["run"]
        lines.append(f"  help: crossfade ack {run if run else told[0]['notice']} --reason ...")
    return lines
