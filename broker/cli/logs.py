"""`logs`: what stages printed, as the broker keeps it: the last 64 KiB of each log."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import click

from broker.cli.options import duration, output_option, target_argument
from broker.cli.output import emit
from broker.cli.session import Session
from broker.errors import UsageError

FOLLOW_EVERY = 0.5
"""Seconds between two looks with -f. The broker itself reads a running job's logs every few seconds."""
_OVERLAP = 256
"""Characters by which the end of one tail is found in the next."""
View = Mapping[str, object]


@click.command()
@target_argument
@click.option("--stage", help="Only this stage of the run.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run is over.")
@click.option("--stderr/--no-stderr", default=True, help="With or without what went to stderr.")
@click.option("--timeout", type=duration, metavar="TIME", help="With -f: stop after that long.")
@output_option
@click.pass_obj
def logs(
    session: Session,
    target: str | None,
    stage: str | None,
    follow: bool,
    stderr: bool,
    timeout: float | None,
    output: str,
) -> None:
    """Show the last 64 KiB of what the newest (or named) attempts printed. Readable also when the site is dark."""
    if stage:
        if target and "/" in target:
            raise UsageError("the stage is named twice", help="give RUN/STAGE, or RUN --stage STAGE")
        target = f"{session.service.find(target)[0].run_id}/{stage}"
    if follow:
        if output != "table":
            raise UsageError("-f prints text as it comes", help="leave -o or -f out")
        _follow(session, target, stderr=stderr, timeout=timeout)
        return
    views = _wanted(session.service.logs(target), stderr=stderr)
    emit(views, output=output, text=lambda: _text(views))


def _wanted(views: Sequence[View], *, stderr: bool) -> list[View]:
    return [view for view in views if stderr or view["log"] == "stdout"]


def _text(views: Sequence[View]) -> str:
    if len(views) == 1:
        return str(views[0]["text"]).rstrip("\n")
    blocks = [f"{_heading(view)}\n{str(view['text']).rstrip()}" for view in views if view["text"]]
    return "\n".join(blocks) or "no logs yet"


def _heading(view: View) -> str:
    return f"==> {view['stage']}@{view['attempt']} {view['log']} <=="


def _follow(session: Session, target: str | None, *, stderr: bool, timeout: float | None) -> None:
    from broker.states import RunState  # noqa: PLC0415

    run = session.service.find(target)[0]
    fixed = f"{run.run_id}/{target.partition('/')[2]}" if target and "/" in target else run.run_id
    end = None if timeout is None else time.monotonic() + timeout
    shown: dict[str, str] = {}
    last = ""
    while True:
        state = session.service.find(run.run_id)[0].state
        for view in _wanted(session.service.logs(fixed), stderr=stderr):
            heading, text = _heading(view), str(view["text"])
            new = _grown(shown.get(heading, ""), text)
            shown[heading] = text
            if new:
                if heading != last:
                    click.echo(heading)
                    last = heading
                click.echo(new, nl=False)
        if RunState(state).final or (end is not None and time.monotonic() >= end):
            return
        time.sleep(FOLLOW_EVERY)


def _grown(before: str, now: str) -> str:
    """What is new at the end of a tail whose beginning may have fallen off."""
    if now.startswith(before):
        return now[len(before) :]
    overlap = before[-_OVERLAP:]
    at = now.rfind(overlap)
    return now[at + len(overlap) :] if at >= 0 else now
