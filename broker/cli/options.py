"""Options and arguments that several verbs share."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from broker.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
Bodies = Literal["noop", "sleep", "bytes"]

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def duration(text: str) -> float:
    """Seconds of `90s`, `10m`, `2h`, or of a bare number."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise click.BadParameter(f"{text!r} is no time; write 90s, 10m or 2h")
    return float(found["number"]) * _UNITS[found["unit"] or "s"]


def moment(text: str) -> int:
    """Microseconds UTC of an ISO 8601 time with its zone."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise click.BadParameter(f"{text!r} is no time; write 2026-07-01T12:30:00Z")
    return round(at.timestamp() * 1e6)


output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="How to print the answer.",
)
file_argument = click.argument("file", type=click.Path(path_type=Path))


def _remember_policy(ctx: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    """The session reads it with its settings."""
    if path is not None and ctx.obj is not None:
        ctx.obj.policy_path = path


policy_option = click.option(
    "--policy",
    type=click.Path(path_type=Path),
    metavar="FILE",
    expose_value=False,
    callback=_remember_policy,
    help="The numbers that policies go by; otherwise CROSSFADE_POLICY's, or the usual ones.",
)
listen_option = click.option(
    "--listen",
    metavar="PLACE",
    multiple=True,
    default=("unix",),
    show_default=True,
    help="Where HTTP requests are taken: unix (a socket in the home), HOST:PORT on loopback, or none; repeatable.",
)
target_argument = click.argument("target", metavar="[RUN[/STAGE]]", required=False)


def request_options(command: F) -> F:
    """How to read a workflow document."""
    for add in reversed(
        (
            click.option(
                "-p", "--param", "params", metavar="NAME=VALUE", multiple=True, help="Set a param; repeatable."
            ),
            click.option("--name", help="Name the run; otherwise the document does."),
            click.option(
                "--bodies",
                type=click.Choice(["noop", "sleep", "bytes"]),
                default="noop",
                show_default=True,
                help="WfFormat documents: what stands in for their programs.",
            ),
            click.option(
                "--scale",
                type=click.FloatRange(min=0),
                default=1.0,
                show_default=True,
                help="WfFormat documents: factor for times and sizes.",
            ),
        )
    ):
        command = add(command)
    return command


def submit_options(command: F) -> F:
    """What makes a submission the same as another."""
    for add in reversed(
        (
            click.option("--key", help="The same key while a run is alive or done is the same run."),
            click.option("--again", is_flag=True, help="Make a new run although the key has one."),
            click.option(
                "--event-time",
                "event_at",
                type=moment,
                metavar="TIME",
                help="When what it is about happened, as 2026-07-01T12:30:00Z: a deadline `from: event` counts so.",
            ),
        )
    ):
        command = add(command)
    return command


def change_options(command: F) -> F:
    """What every verb that changes something takes."""
    for add in reversed(
        (
            click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
            click.option("--reason", default="", metavar="TEXT", help="Why; kept and shown with the decision."),
            click.option("-y", "--yes", is_flag=True, help="Do not ask."),
        )
    ):
        command = add(command)
    return command


def parse_params(pairs: tuple[str, ...]) -> dict[str, str]:
    """`name=value` pairs. Raises UsageError."""
    params: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{pair!r} is no param", help="write -p name=value")
        if name in params:
            raise UsageError(f"the param {name!r} is given twice", help="give each param once")
        params[name] = value
    return params


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be taken back, where there is somebody to ask. Raises click.Abort."""
    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm(question, abort=True, err=True)
