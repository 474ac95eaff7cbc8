"""Errors as people read them, and the exit codes that say the same to programs.

The codes: 0 ok, 1 internal error, 2 usage or bad document, 3 not found, 4 refused by policy, 5 site unreachable,
6 wait timed out, 7 run failed, 8 waiting for a person; and as shells have it, 130 and 143 for a watch that Ctrl-C or
SIGTERM ended while its jobs go on, 141 when nobody reads the output.
"""

from __future__ import annotations

import signal
import sys

import click

from broker.errors import BrokerError

INTERNAL, USAGE, UNREACHABLE = 1, 2, 5


class Detached(Exception):
    """A signal ended the watch; the run goes on as far as it can."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def exit_code(error: BaseException) -> int:
    """What the process ends with."""
    if isinstance(error, BrokerError):
        return error.exit_code
    if isinstance(error, Detached):
        return 128 + error.signal_number
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return 128 + signal.SIGINT
    if isinstance(error, click.ClickException) or _is_document_error(error):
        return USAGE
    return UNREACHABLE if _is_site_error(error) else INTERNAL


def told(error: BaseException) -> None:
    """Say it on stderr: one line, and what helps."""
    if isinstance(error, click.exceptions.Exit):
        return
    message, help_text = map(_without_secrets, _words(error))
    try:
        click.echo(message, err=True)
        if help_text:
            click.echo(f"  help: {help_text}", err=True)
    except BrokenPipeError:
        return  # nobody reads that either; the exit code says it


def _without_secrets(text: str) -> str:
    """Nobody knows a secret before the module that reads them was loaded."""
    loaded = sys.modules.get("connectors.secrets")
    return loaded.scrub(text) if loaded is not None else text


def _words(error: BaseException) -> tuple[str, str]:
    if _is_document_error(error):
        return str(error), ""
    if isinstance(error, click.ClickException):
        return f"crossfade: {error.format_message()}", _usage_help(error)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "crossfade: stopped; nothing more was done", ""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, BrokerError | Detached) or _is_site_error(error):
        return f"crossfade: {text}", str(getattr(error, "help", ""))
    if _is_store_error(error):
        return f"crossfade: {text}", "try again; `crossfade doctor` looks at the database"
    return f"crossfade: internal error: {type(error).__name__}: {text}", "`crossfade --debug ...` tells where"


def _usage_help(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"see `{context.command_path} --help`" if context is not None else ""


# Errors of packages that are slow to import can only have been raised once those are imported.


def _is_document_error(error: BaseException) -> bool:
    return _is(error, "broker.spec.errors", "DocumentError")


def _is_site_error(error: BaseException) -> bool:
    return _is(error, "connectors.errors", "SiteError")


def _is_store_error(error: BaseException) -> bool:
    return _is(error, "broker.store.base", "StoreError")


def _is(error: BaseException, module: str, name: str) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(error, getattr(loaded, name))
