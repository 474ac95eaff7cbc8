"""One process serves an installation at a time; anybody may ask which."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from broker.config import Settings
from broker.errors import BrokerError, Unwritable

_TRIES = 10
_PAUSE = 0.02
"""Seconds. Who only asks holds the lock for an instant; that must not turn a server away."""


class AlreadyServed(BrokerError):
    """Another process serves this installation."""


@contextmanager
def only_server(settings: Settings) -> Iterator[None]:
    """Hold the installation's serving lock; the kernel frees it when the process ends, however it ends.

    Raises AlreadyServed, naming the holder, and Unwritable.
    """
    with _opened(settings.lock) as file:
        if not _taken(file):
            holder = _holder(settings) or "another process"
            raise AlreadyServed(f"process {holder} serves {settings.home} already")
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def served_by(settings: Settings) -> str:
    """The process that serves this installation now; empty: nobody."""
    try:
        with settings.lock.open("r", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return ""
    except BlockingIOError:
        return _holder(settings) or "unknown"
    return ""


def _taken(file: IO[str]) -> bool:
    for left in range(_TRIES - 1, -1, -1):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if left:
                time.sleep(_PAUSE)
        else:
            return True
    return False


def _holder(settings: Settings) -> str:
    try:
        return settings.lock.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _opened(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # not inherited: a job that outlives its broker must not go on holding the lock
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unwritable(
            f"cannot use {path}: {error.strerror}", help="check the folder, or set CROSSFADE_HOME"
        ) from error
    return os.fdopen(descriptor, "r+", encoding="utf-8")
