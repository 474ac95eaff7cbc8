"""`doctor`: is this installation sound, and where does it keep things?"""

from __future__ import annotations

import platform
import shutil
import sqlite3
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import click

from broker import __version__
from broker.cli.options import output_option
from broker.cli.output import cell, emit, table
from broker.cli.session import Session
from broker.errors import BrokerError

LEAST_FREE = 256 << 20
"""Bytes free below the home, less than which is told."""
_PACKAGES = ("celery", "kombu", "SQLAlchemy", "alembic", "pydantic", "PyYAML", "click", "rich")
_TOOLS = ("sha256sum", "cp", "mv", "ln", "mkdir", "sed", "tail")
"""What `stage.sh` calls; at sites too."""


class Unsound(BrokerError):
    """Something is wrong with this installation."""


class Check(NamedTuple):
    what: str
    ok: bool
    found: str
    help: str = ""


@click.command()
@output_option
@click.pass_obj
def doctor(session: Session, output: str) -> None:
    """Check this installation: versions, home, database, site document, tools. Exit code 1: something is wrong."""
    checks = [
        *_versions(),
        _told("home", lambda: _home(session)),
        _told("database", lambda: _database(session)),
        _told("site document", lambda: _sites(session)),
        _told("quarantine", lambda: _quarantine(session)),
        _told("redis", lambda: _redis(session)),
        _told("served by", lambda: _served(session)),
        *_tools(),
    ]
    views = [{"what": c.what, "ok": c.ok, "found": c.found, "help": c.help} for c in checks]
    rows = [[c.what, "ok" if c.ok else "WRONG", cell(c.found)] for c in checks]
    emit(views, output=output, text=lambda: table(("what", "", "found"), rows, empty=""))
    wrong = [c for c in checks if not c.ok]
    if wrong:
        raise Unsound("; ".join(f"{c.what}: {c.found}" for c in wrong), help=wrong[0].help)


def _told(what: str, look: Callable[[], Check]) -> Check:
    """A look that fails is what was found."""
    try:
        return look()
    except (BrokerError, OSError, ValueError) as error:
        return Check(what, False, str(error), getattr(error, "help", ""))


def _versions() -> list[Check]:
    import yaml  # noqa: PLC0415 - slow to import

    packages = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    return [
        Check("crossfade", True, f"{__version__} on Python {platform.python_version()}, {platform.platform()}"),
        Check("packages", "missing" not in packages, packages, "install crossfade again, in an environment of its own"),
        Check("sqlite", sqlite3.sqlite_version_info >= (3, 35), sqlite3.sqlite_version, "use a newer Python build"),
        Check(
            "libyaml",
            hasattr(yaml, "CSafeLoader"),
            "present" if hasattr(yaml, "CSafeLoader") else "missing",
            "install PyYAML from a wheel, or libyaml before building it",
        ),
    ]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _home(session: Session) -> Check:
    home = session.settings.home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    free = shutil.disk_usage(home).free
    found = f"{home}, {free >> 20} MiB free"
    return Check("home", free >= LEAST_FREE, found, "free space, or set CROSSFADE_HOME")


def _database(session: Session) -> Check:
    installation = session.service.store.installation()
    from broker.store.migrate import HEAD  # noqa: PLC0415 - after the store, which imports it

    if session.settings.postgres is not None:
        found = f"{session.settings.postgres}, shape {HEAD}, installation {installation.id}"
        return Check("database", True, found)
    path = session.settings.database
    reading = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        answer = str(reading.execute("PRAGMA quick_check(1)").fetchone()[0])
    finally:
        reading.close()
    found = f"{path}, shape {HEAD}, installation {installation.id}, integrity {answer}"
    return Check("database", answer == "ok", found, "restore a backup; `crossfade db check` looks at every run")


def _redis(session: Session) -> Check:
    """Is the transport there? Without it work goes on by sweeps, slower."""
    settings = session.settings
    if settings.redis is None:
        return Check("redis", True, "not needed: one process over SQLite")
    from broker.celery_app import PREFIX, make_app  # noqa: PLC0415 - imports Celery
    from broker.news import make_client  # noqa: PLC0415

    try:
        with make_app(settings.redis, ca=settings.redis_ca).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=2)
        with make_client(settings.redis, ca=settings.redis_ca) as client:
            client.set(f"{PREFIX}doctor", "1", ex=10)  # a full one, a replica and a narrow ACL let us in, too
    except Exception as error:  # noqa: BLE001 - a transport has many ways to fail
        return Check(
            "redis", False, f"{settings.redis}: {type(error).__name__}: {error}", "check CROSSFADE_REDIS and the server"
        )
    return Check("redis", True, str(settings.redis))


def _quarantine(session: Session) -> Check:
    """After a restore nothing starts at a site before its jobs were listed."""
    held = [str(view["site"]) for view in session.service.site_list() if view["quarantined"]]
    if not held:
        return Check("quarantine", True, "no site")
    found = f"{', '.join(held)}: nothing starts there until their jobs are listed"
    return Check("quarantine", False, found, "serve; where a site stays dark, `crossfade site release SITE`")


def _served(session: Session) -> Check:
    who = "crossfade worker" if session.settings.is_service else "crossfade serve"
    return Check("served by", True, session.served_by() or f"nobody (`{who}` does)")


def _sites(session: Session) -> Check:
    sites = session.service.sites
    unused = f"; read, and not used yet: {', '.join(sites.unused)}" if sites.unused else ""
    return Check("site document", True, f"{sites.where}; sites: {', '.join(sites.configs)}{unused}")


def _tools() -> list[Check]:
    missing = [name for name in _TOOLS if shutil.which(name) is None]
    shell = shutil.which("sh")
    return [
        Check("shell", shell is not None, shell or "no /bin/sh", "install a POSIX shell"),
        Check(
            "tools",
            not missing,
            f"missing: {', '.join(missing)}" if missing else ", ".join(_TOOLS),
            "install coreutils (or busybox): stages need them",
        ),
    ]
