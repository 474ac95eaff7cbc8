"""`runbook`: the page for what somebody sees."""

from __future__ import annotations

import click

from broker.cli.options import output_option
from broker.cli.output import emit, rows_of, table
from broker.cli.shipped import runbooks
from broker.errors import NotFound
from broker.runbooks import Page, search


@click.group()
def runbook() -> None:
    """Find and print runbooks: what you see, what is hit, what to type, how you know that it worked, how to undo it."""


@runbook.command("ls")
@click.argument("words", nargs=-1)
@output_option
def ls(words: tuple[str, ...], output: str) -> None:
    """List the runbooks; with WORDS of what you see, those that fit, best first."""
    found = search(_pages(), words)
    if words and not found:
        raise NotFound(f"no runbook has any of: {' '.join(words)}", help="`crossfade runbook ls` lists all of them")
    views = [{"name": page.name, "title": page.title, "means": page.means} for page in found]
    columns = ("name", "title")
    emit(views, output=output, text=lambda: table(columns, rows_of(views, columns), empty="no runbooks here"))


@runbook.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Print a runbook, as Markdown."""
    pages = {page.name: page for page in _pages()}
    if name not in pages:
        near = search(list(pages.values()), [name.replace("-", " ")])
        cure = f"did you mean {near[0].name}?" if near else f"there are: {', '.join(pages)}"
        raise NotFound(f"no runbook {name!r}", help=cure)
    click.echo(pages[name].shown(), nl=False)


def _pages() -> list[Page]:
    return [Page(name, path.read_text(encoding="utf-8")) for name, path in runbooks().items()]
