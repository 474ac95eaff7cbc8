"""docs/reference/cli.md, made of the commands themselves: `python -m broker.cli.reference > docs/reference/cli.md`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from broker.cli.app import app
from broker.cli.verbs import COMMON, OTHERS

_CODES = (
    (0, "ok"),
    (1, "internal error, or the installation or its database is not sound"),
    (2, "usage, or a bad document"),
    (3, "not found"),
    (4, "refused by policy"),
    (5, "a site cannot be reached"),
    (6, "a wait timed out"),
    (7, "the run failed or was canceled; a drill broke a bound"),
    (8, "it waits for a person"),
    (130, "Ctrl-C: detached from a run, its jobs go on; or stopped before anything was done"),
    (141, "nobody reads the output any more"),
    (143, "SIGTERM: detached, as with Ctrl-C"),
)


def reference() -> str:
    """The page."""
    return "\n".join(_page()).rstrip() + "\n"


def _page() -> Iterator[str]:
    yield "# Command line"
    yield ""
    yield "Made by `python -m broker.cli.reference`; change the commands, not this page."
    yield ""
    yield "`xf` is short for `crossfade`."
    yield "`RUN` is a run's id, the start of one, or its name; left out, it is the newest."
    yield "`RUN/STAGE` is one stage of it, `RUN/STAGE@2` that stage's second attempt."
    yield "With `-o json` stdout holds one JSON document and nothing else; what is told beside it goes to stderr."
    yield "Times are written `90s`, `10m`, `2h`. NO_COLOR is respected; without a terminal nothing is coloured or cut."
    yield ""
    yield "## Exit codes"
    yield ""
    yield "| code | meaning |"
    yield "|---|---|"
    yield from (f"| {code} | {meaning} |" for code, meaning in _CODES)
    yield ""
    with click.Context(app, info_name="crossfade") as top:
        yield "## Global options"
        yield ""
        yield "They stand before the verb: `crossfade --sites other.yaml status`."
        yield ""
        yield from _parameters(app, top)
        for heading, verbs in (("Verbs", COMMON), ("More verbs", OTHERS)):
            yield f"## {heading}"
            yield ""
            for verb in verbs:
                command = app.get_command(top, verb.name)
                if command is not None:
                    yield from _command(command, top, verb.name, level=3)


def _command(command: click.Command, parent: click.Context, name: str, *, level: int) -> Iterator[str]:
    with click.Context(command, info_name=name, parent=parent) as ctx:
        yield f"{'#' * level} {ctx.command_path}"
        yield ""
        if not isinstance(command, click.Group):
            yield f"`{ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}`"
            yield ""
        yield from (" ".join(part.split()) + "\n" for part in (command.help or "").split("\n\n"))
        yield from _parameters(command, ctx)
        if isinstance(command, click.Group):
            for sub in command.list_commands(ctx):
                found = command.get_command(ctx, sub)
                if found is not None:
                    yield from _command(found, ctx, sub, level=level + 1)


def _parameters(command: click.Command, ctx: click.Context) -> Iterator[str]:
    records = [record for p in command.params if (record := p.get_help_record(ctx)) is not None]
    if not records:
        return
    yield "| option | meaning |"
    yield "|---|---|"
    for left, right in records:
        yield f"| `{left}` | {right} |".replace("|table", "\\|table")
    yield ""


if __name__ == "__main__":
    click.echo(reference(), nl=False)
