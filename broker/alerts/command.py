"""Telling by a command of the installation's owner. What is told comes on its stdin and in its environment, never in
its arguments, and no shell reads it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from broker.alerts.errors import NotTold
from broker.alerts.message import Message
from connectors.secrets import scrub

SECONDS = 30.0
"""How long a command may take."""
MOST_SHOWN = 200
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "TMPDIR")
"""What it has of this process' environment, where there may be credentials."""
_GIVEN = ("id", "number", "over", "kind", "about", "run", "name", "stage", "text", "help", "created_at", "installation")


def tell(argv: Sequence[str], message: Message, *, folder: Path | None, env: Mapping[str, str] = os.environ) -> None:
    """Run it to its end. Raises NotTold when it cannot be started, takes too long, or ends with anything but 0."""
    given = {name: env[name] for name in _KEPT if name in env}
    given |= {f"crossfade_notice_{key}".upper(): _plain(message.data[key]) for key in _GIVEN}
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=given,
            cwd=folder,
            start_new_session=True,  # so that what it starts ends with it
            close_fds=True,
        )
    except OSError as error:
        raise NotTold(f"{argv[0]} cannot be started: {error.strerror}") from error
    try:
        _, told = process.communicate(message.json, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise NotTold(f"{argv[0]} took more than {SECONDS:.0f} s, and was ended") from error
    finally:
        _end(process)
    if process.returncode:
        words = scrub(" ".join(told[-4096:].decode("utf-8", "replace").split()))[-MOST_SHOWN:]
        raise NotTold(f"{argv[0]} ended with {process.returncode}{': ' if words else ''}{words}")


def _plain(value: object) -> str:
    """As a variable may hold it."""
    return str(value).replace("\0", "")


def _end(process: subprocess.Popen[bytes]) -> None:
    """The whole group, also what it left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.poll() is None:
        process.wait()
    for stream in (process.stdin, process.stderr):
        if stream is not None:
            stream.close()
