"""`db check|backup|restore|upgrade`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.options import confirm, output_option
from broker.cli.output import emit, table
from broker.cli.session import Session, note
from broker.errors import BrokerError

if TYPE_CHECKING:
    from broker.backup import BackedUp, Restored

MOST_SHOWN = 1000
"""Lines of a table; the count goes on."""
_TOLD = ("run", "stage", "attempt", "product", "event")


class DamagedDatabase(BrokerError):
    """The database does not say what it should."""


@click.group()
def db() -> None:
    """Check, back up, restore and upgrade the database."""


@db.command()
@click.argument("run", required=False)
@output_option
@click.pass_obj
def check(session: Session, run: str | None, output: str) -> None:
    """Check every chain of events and every run's rows, or those of one RUN. Exit code 1: something is wrong."""
    from broker.audit import Checked, check_all, check_run  # noqa: PLC0415 - imports the store

    store = session.service.store
    if session.served_by():
        note("this is being served: rows that change while they are read may seem to disagree; check again then")
    checked = Checked()
    one = session.service.find(run)[0].run_id if run else None
    every = check_run(store, one, checked) if one else check_all(store, checked)
    found = list(islice(every, MOST_SHOWN))
    for _ in every:
        """Counted; a table without end helps nobody."""
    view = {
        "runs": checked.runs,
        "streams": checked.streams,
        "found": checked.found,
        "violations": [violation._asdict() for violation in found],
    }

    def text() -> str:
        rows = [[str(cell) for cell in violation] for violation in found]
        fine = f"{checked.runs} runs and {checked.streams} chains of events are as they should be"
        return table(("rule", "where", "what"), rows, empty=fine)

    emit(view, output=output, text=text)
    if found:
        raise DamagedDatabase(
            f"{checked.found} things are wrong", help="stop serving, and look at `crossfade timeline`"
        )


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@output_option
@click.pass_obj
def backup(session: Session, file: Path, output: str) -> None:
    """Copy the database into FILE, whole and as of one moment, also while it is being served.

    FILE is a SQLite database, from PostgreSQL too; `db restore` takes it into either. It is readable by its owner
    alone, and appears only when it is whole and on disk. Keep it on another machine, with the folder `blobs`.
    """
    from broker.maintenance import take_backup  # noqa: PLC0415 - imports the store

    done = take_backup(session.settings, file)
    emit(_backup_view(done), output=output, text=lambda: _backup_text(done))


def _backup_view(done: BackedUp) -> Mapping[str, object]:
    return {**asdict(done), "file": str(done.file)}


def _backup_text(done: BackedUp) -> str:
    return (
        f"wrote {done.file}: {done.bytes} bytes, {_counted(done.counts)}\n"
        f"installation {done.installation}, incarnation {done.incarnation}, shape {done.shape}\n"
        f"sha256 {done.digest}"
    )


def _counted(counts: Mapping[str, int]) -> str:
    named = [(counts[name], name) for name in _TOLD if name in counts]
    return ", ".join(f"{count} {name}" if count == 1 else f"{count} {name}s" for count, name in named)


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Throw away what the database holds; else it must hold no run.")
@click.option("--keep-strays", is_flag=True, help="Leave jobs that nobody knows to a person; else they are canceled.")
@click.option("--force-damaged", is_flag=True, help="Take it although chains of events in it do not hold.")
@click.option("--dry-run", is_flag=True, help="Look at the file, say what would be done, and do nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_option
@click.pass_obj
def restore(
    session: Session,
    file: Path,
    replace: bool,
    keep_strays: bool,
    force_damaged: bool,
    dry_run: bool,
    yes: bool,
    output: str,
) -> None:
    """Fill the database from FILE, a backup. Nobody may be serving.

    What was done after the backup was taken is not in it, and has happened all the same. So afterwards every site is
    in quarantine: nothing is submitted until its jobs are listed. Those of known stages are taken up; those that
    nobody knows are canceled. Use --keep-strays where another installation shares an account or a root with this
    one, or where this is a rehearsal beside the real one.
    """
    from broker.maintenance import Plan, put_back  # noqa: PLC0415 - imports the store

    plan = Plan(file=file, replace=replace, keep_strays=keep_strays, despite_chains=force_damaged)

    def agree(words: str) -> bool:
        note(words)
        if not dry_run and replace:
            confirm("throw away what is there?", yes=yes)
        return not dry_run

    done = put_back(session.settings, plan, agree=agree)
    if done is None:
        return
    emit({**asdict(done), "dry_run": False}, output=output, text=lambda: _restored_text(done))


def _restored_text(done: Restored) -> str:
    lines = [
        f"restored {_counted(done.counts)}",
        f"installation {done.installation}, incarnation {done.old_incarnation} -> {done.incarnation}",
        f"to be gone on with when somebody serves: {_counted({'run': done.due})}",
        f"in quarantine until their jobs are listed: {', '.join(done.sites) or 'no site'} (see `crossfade site ls`)",
    ]
    if done.broken:
        lines.append(f"{len(done.broken)} chains of events do not hold: {', '.join(name for name, _ in done.broken)}")
    return "\n".join(lines)


@db.command()
@click.pass_obj
def upgrade(session: Session) -> None:
    """Bring the database to this version's shape; every other verb does that too when it opens it."""
    from broker.store.migrate import HEAD  # noqa: PLC0415 - imports the store

    store = session.service.store
    where = session.settings.postgres or session.settings.database
    click.echo(f"{where} has shape {HEAD}, installation {store.installation().id}")
