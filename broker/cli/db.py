"""`db check|backup|upgrade`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import click

from broker.cli.options import output_option
from broker.cli.output import emit, table
from broker.cli.session import Session, note
from broker.errors import BrokerError, NotFound, Unwritable, UsageError
from broker.serve_lock import served_by


class DamagedDatabase(BrokerError):
    """The database does not say what it should."""


@click.group()
def db() -> None:
    """Check, back up and upgrade the database."""


@db.command()
@click.argument("run", required=False)
@output_option
@click.pass_obj
def check(session: Session, run: str | None, output: str) -> None:
    """Check every chain of events and every run's rows, or those of one RUN. Exit code 1: something is wrong."""
    from broker.audit import Violation, audit_run  # noqa: PLC0415 - imports the store
    from broker.store.audit import verify_chain  # noqa: PLC0415

    store = session.service.store
    if served_by(session.settings):
        note("this home is being served: rows that change while they are read may seem to disagree; check again then")
    one = session.service.find(run)[0].run_id if run else None
    runs = [one] if one else [row.run_id for row in store.runs(limit=1_000_000)]
    found = [violation for run_id in runs for violation in audit_run(store, run_id)]
    streams = [] if one else [(name, tip) for name, _, tip in store.streams() if name not in set(runs)]
    for name, tip in streams:
        broken = verify_chain(store.events(name, limit=10_000_000), tip)
        if broken is not None:
            found.append(Violation("I19", name, broken.why))
    views = [violation._asdict() for violation in found]
    view = {"runs": len(runs), "streams": len(streams) + len(runs), "violations": views}

    def text() -> str:
        rows = [[str(cell) for cell in violation] for violation in found]
        return table(("rule", "where", "what"), rows, empty=f"{len(runs)} runs and their chains are as they should be")

    emit(view, output=output, text=text)
    if found:
        raise DamagedDatabase(f"{len(found)} things are wrong", help="stop serving, and look at `crossfade timeline`")


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def backup(session: Session, file: Path) -> None:
    """Copy the database into FILE, whole and consistent, also while it is being served."""
    source = session.settings.database
    if not source.exists():
        raise NotFound(f"there is no database at {source}")
    if file.exists():
        raise UsageError(f"{file} is there already", help="name another file")
    try:
        reading = sqlite3.connect(f"file:{source}?mode=ro", uri=True)
        writing = sqlite3.connect(file)
        try:
            file.chmod(0o600)
            reading.backup(writing)
        finally:
            reading.close()
            writing.close()
    except (sqlite3.Error, OSError) as error:
        file.unlink(missing_ok=True)
        raise Unwritable(f"cannot back up to {file}: {error}", help="check its folder and the disk") from error
    click.echo(f"wrote {file}")


@db.command()
@click.pass_obj
def upgrade(session: Session) -> None:
    """Bring the database to this version's shape; every other verb does that too when it opens it."""
    from broker.store.migrate import HEAD  # noqa: PLC0415 - imports the store

    store = session.service.store
    click.echo(f"{session.settings.database} has shape {HEAD}, installation {store.installation().id}")
