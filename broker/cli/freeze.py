"""`freeze on|off|ls`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from broker.cli.options import change_options, confirm, duration, output_option
from broker.cli.output import emit, rows_of, table
from broker.cli.session import Session

if TYPE_CHECKING:
    from broker.operating.freezes import Freezes

_COLUMNS = ("on", "site", "state", "by", "until", "reason")
_WHAT = click.Choice(["moves", "submits"])
_site = click.option("--site", "site", metavar="SITE", default="", help="Only there; otherwise at every site.")


@click.group()
def freeze() -> None:
    """Keep the broker from moving work, or from submitting any, for a while.

    A freeze has an owner, a reason and an end, and ends by itself. What a person asks for by name (`move`, `cancel`) is
    done all the same.
    """


@freeze.command("on")
@click.argument("what", type=_WHAT)
@click.option(
    "--for", "seconds", type=duration, default="1h", metavar="TIME", show_default=True, help="24 hours at most."
)
@_site
@change_options
@output_option
@click.pass_obj
def on(
    session: Session, what: str, seconds: float, site: str, dry_run: bool, reason: str, yes: bool, output: str
) -> None:
    """Freeze from now on. --reason is needed.

    `moves`: no stage leaves a site that gives no answer, nor one before its maintenance. With --site: none leaves that
    one. `submits`: no site is given a new job; what is there goes on.
    """
    from broker.operating.freezes import Freeze  # noqa: PLC0415 - slow to import

    freezes = _freezes(session)
    wish = Freeze(on=what, reason=reason, seconds=seconds, site=site)
    view = freezes.view(freezes.wanted(wish))
    where = f" at {site}" if site else ""
    words = f"freeze {what}{where} until {view['until']}"
    if dry_run:
        emit({**view, "freeze": None, "dry_run": True}, output=output, text=lambda: f"would {words}")
        return
    confirm(f"{words}?", yes=yes)
    view = freezes.on(wish)
    stop = f"crossfade freeze off {what}" + (f" --site {site}" if site else "")
    told = f"{what} are frozen{where} until {view['until']}; `{stop}` ends it before"
    if not view["new"]:
        told = f"{what} are frozen{where} already, until {view['until']}, by {view['by']}: {view['reason']}"
    emit({**view, "dry_run": False}, output=output, text=lambda: told)


@freeze.command("off")
@click.argument("what", type=_WHAT, required=False)
@_site
@change_options
@output_option
@click.pass_obj
def off(session: Session, what: str | None, site: str, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """End what is frozen, whoever has frozen it; without a word, both. What is frozen at one site needs --site."""
    freezes = _freezes(session)
    views = [freezes.view(row) for row in freezes.may_end(what or "", site=site)]
    words = "; ".join(f"{view['on']} (by {view['by']}: {view['reason']})" for view in views)
    if not dry_run:
        confirm(f"end the freeze on {words}?", yes=yes)
        views = freezes.off(what or "", site=site, reason=reason)
    did = "would end" if dry_run else "ended"
    emit([{**view, "dry_run": dry_run} for view in views], output=output, text=lambda: f"{did} the freeze on {words}")


@freeze.command("ls")
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@output_option
@click.pass_obj
def ls(session: Session, everything: bool, output: str) -> None:
    """List what is frozen, by whom, why and until when."""
    views = _freezes(session).ls(everything=everything)
    emit(views, output=output, text=lambda: table(_COLUMNS, rows_of(views, _COLUMNS), empty="nothing is frozen"))


def _freezes(session: Session) -> Freezes:
    from broker.operating.freezes import Freezes  # noqa: PLC0415 - needs the store

    return Freezes(session.service)
