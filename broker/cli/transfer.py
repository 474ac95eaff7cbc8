"""`transfer ls|show|cancel|retry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from broker.cli.options import change_options, confirm, output_option
from broker.cli.output import cell, emit, rows_of, table
from broker.cli.session import Session, note

if TYPE_CHECKING:
    from broker.traffic.asking import Traffic

_COLUMNS = ("transfer", "from", "to", "state", "movements", "files", "moved", "seconds", "still_for", "label", "detail")
_WAITING = ("for", "from", "to", "files", "state", "reason")


@click.group()
def transfer() -> None:
    """List, show, cancel and retry transfers: what goes between sites and places over a network.

    What is copied within this machine is over before it could be listed.
    """


@transfer.command("ls")
@click.argument("target", metavar="[RUN]", required=False)
@click.option("--open", "open_only", is_flag=True, help="Only those that are not over.")
@output_option
@click.pass_obj
def ls(session: Session, target: str | None, open_only: bool, output: str) -> None:
    """List transfers of all runs or of one, newest first, and what waits to be put on one."""
    run_id = session.service.find(target)[0].run_id if target else ""
    traffic = _traffic(session)
    found, waiting = traffic.transfers(run_id, open_only=open_only), traffic.waiting(run_id)
    movers = traffic.movers()

    def text() -> str:
        parts = [table(_COLUMNS, rows_of(found, _COLUMNS), empty="no transfers")]
        if waiting:
            parts += ["", "waiting:", table(_WAITING, rows_of(waiting, _WAITING), empty="")]
        return "\n".join(parts)

    emit({"transfers": found, "waiting": waiting, "movers": movers}, output=output, text=text)
    for mover in movers:
        if not mover["answers"]:
            helps = f"; what helps: {mover['help']}" if mover["help"] else ""
            note(f"{mover['mover']} gives no answer since {mover['cannot_ask_since']}: {mover['detail']}{helps}")


@transfer.command("show")
@click.argument("key", metavar="TRANSFER")
@output_option
@click.pass_obj
def show(session: Session, key: str, output: str) -> None:
    """Show one transfer with all that it carries. TRANSFER: its key, the start of it, or the service's own id.

    `native_id` is that id; of what rsync, S3 and the relay carry, the process that carries it.
    """
    view = _traffic(session).show(key)
    carries = view["carries"]

    def text() -> str:
        lines = [f"{name:14} {cell(value)}" for name, value in view.items() if name != "carries"]
        columns = ("for", "state", "files", "bytes", "reason")
        return "\n".join([*lines, "", table(columns, rows_of(carries, columns), empty="")])  # type: ignore[arg-type]  # a list of views

    emit(view, output=output, text=text)


@transfer.command("cancel")
@click.argument("key", metavar="TRANSFER")
@change_options
@output_option
@click.pass_obj
def cancel(session: Session, key: str, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """End a transfer. Stages that wait for it are judged as if it had failed."""
    _change(session, key, "cancel", dry_run=dry_run, reason=reason, yes=yes, output=output)


@transfer.command("retry")
@click.argument("key", metavar="TRANSFER")
@change_options
@output_option
@click.pass_obj
def retry(session: Session, key: str, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    """Look at a transfer now, and begin again what waits of it, by ways that had failed before, too."""
    _change(session, key, "retry", dry_run=dry_run, reason=reason, yes=yes, output=output)


def _change(session: Session, key: str, verb: str, *, dry_run: bool, reason: str, yes: bool, output: str) -> None:
    traffic = _traffic(session)
    view = traffic.show(key)
    words = (
        f"{verb} transfer {view['transfer']} ({view['from']} to {view['to']}, {view['state']}, {view['files']} files)"
    )
    if dry_run:
        emit({**view, "dry_run": True}, output=output, text=lambda: f"would {words}")
        return
    if verb == "cancel":
        confirm(f"{words}?", yes=yes)
    after = (traffic.cancel if verb == "cancel" else traffic.retry)(key, reason=reason)
    emit({**after, "dry_run": False}, output=output, text=lambda: f"{words}: asked for")
    if not session.served_by():
        note("kept; nobody has carried it out yet: nobody serves")


def _traffic(session: Session) -> Traffic:
    from broker.traffic.asking import Traffic  # noqa: PLC0415 - needs the store's rows

    service = session.service
    return Traffic(service.store, service.clock, actor=service.actor)
