"""`waiver ask|confirm|withdraw|ls`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from broker.cli.options import change_options, confirm, duration, output_option
from broker.cli.output import emit, rows_of, table
from broker.cli.session import Session, note

if TYPE_CHECKING:
    from broker.waivers import Waivers

_COLUMNS = ("waiver", "run", "site", "rule", "state", "asked_by", "confirmed_by", "ends_at", "reason")


@click.group()
def waiver() -> None:
    """Ask for, confirm, withdraw and list waivers: a run's data may be where `policy.data` does not want it.

    It takes two persons, a reason and an end. Nobody confirms what he has asked for himself.
    """


@waiver.command("ask")
@click.argument("target", metavar="RUN")
@click.option("--site", "site", metavar="SITE", required=True, help="The site, or the place, where data may be then.")
@click.option(
    "--rule", "rule", metavar="RULE", default="", help="stay or export_control; may be left out if it is one."
)
@click.option(
    "--for", "seconds", type=duration, metavar="TIME", default="24h", show_default=True, help="Until its end."
)
@change_options
@output_option
@click.pass_obj
def ask(
    session: Session,
    target: str,
    site: str,
    rule: str,
    seconds: float,
    dry_run: bool,
    reason: str,
    yes: bool,
    output: str,
) -> None:
    """Ask that a rule of where data may be does not hold for RUN at one site, until an end. --reason is needed.

    It holds once another person has confirmed it, and ends when it says, also if nobody has.
    """
    from broker.waivers import Wish  # noqa: PLC0415 - slow to import

    del yes
    run, _ = session.service.find(target)
    wish = Wish(site=site, rule=rule, reason=reason, seconds=seconds)
    waivers = _waivers(session)
    view = waivers.view(waivers.wanted(run, wish)) if dry_run else waivers.ask(run, wish)
    if dry_run:
        view = {**view, "waiver": None}
    ask_words = f"ask to waive {view['rule']} at {view['site']} for {view['run']} until {view['ends_at']}"

    def text() -> str:
        if dry_run:
            return f"would {ask_words}"
        return (
            f"{view['waiver']}: asked for; another person types: crossfade waiver confirm {view['waiver']} --reason ..."
        )

    emit({**view, "dry_run": dry_run}, output=output, text=text)


@waiver.command("confirm")
@click.argument("ident", metavar="WAIVER")
@change_options
@output_option
@click.pass_obj
def confirm_it(session: Session, ident: str, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """Let a waiver hold that another person has asked for. --reason is needed. WAIVER: its id, or the start of it.

    What waits of the run because of that rule goes on; a run that is held waits for `release` all the same.
    """
    waivers = _waivers(session)
    view = waivers.view(waivers.may_confirm(ident, reason=reason))
    if not dry_run:
        confirm(f"{_words('confirm', view)} ({view['asked_by']}: {view['reason']})?", yes=yes)
        view = waivers.confirm(str(view["waiver"]), reason=reason)
    run, _ = session.service.find(str(view["run"]))
    then = f"; the run is held: crossfade release {run.run_id}" if run.held else ""
    words = f"would {_words('confirm', view)}" if dry_run else f"{_words('confirm', view)}: in force{then}"
    emit({**view, "dry_run": dry_run}, output=output, text=lambda: words)
    if not dry_run and not session.served_by():
        note("kept; what waits goes on when somebody serves")


@waiver.command("withdraw")
@click.argument("ident", metavar="WAIVER")
@change_options
@output_option
@click.pass_obj
def withdraw(session: Session, ident: str, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """Let a waiver hold no longer. WAIVER: its id, or the start of it.

    What is on its way by it is stopped, and nothing more goes there. A job that runs there goes on: `cancel` or
    `move` it.
    """
    del yes  # it can be asked for again
    waivers = _waivers(session)
    view = waivers.view(waivers.may_withdraw(ident))
    if not dry_run:
        view = waivers.withdraw(str(view["waiver"]), reason=reason)
    words = f"would {_words('withdraw', view)}" if dry_run else f"{_words('withdraw', view)}: done"
    emit({**view, "dry_run": dry_run}, output=output, text=lambda: words)


@waiver.command("ls")
@click.argument("target", metavar="[RUN]", required=False)
@output_option
@click.pass_obj
def ls(session: Session, target: str | None, output: str) -> None:
    """List waivers of all runs or of one, those asked for last first."""
    run_id = session.service.find(target)[0].run_id if target else ""
    views = _waivers(session).ls(run_id)
    emit(views, output=output, text=lambda: _table(views))


def _table(views: Sequence[Mapping[str, Any]]) -> str:
    return table(_COLUMNS, rows_of(views, _COLUMNS), empty="no waivers")


def _words(verb: str, view: Mapping[str, object]) -> str:
    return f"{verb} {view['waiver']}: {view['rule']} at {view['site']} for {view['run']} until {view['ends_at']}"


def _waivers(session: Session) -> Waivers:
    from broker.waivers import Waivers  # noqa: PLC0415 - needs the store

    return Waivers.of(session.service)
