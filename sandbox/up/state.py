"""Which sandbox lives in a state folder: a lock that its process holds, and a file that tells of it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOCK = "sandbox.lock"
PID = "sandbox.pid"
SITES = "sites.yaml"
_STEP = 0.05


class Taken(Exception):
    """A sandbox lives there already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The sandbox that lives there."""

    state: Path
    pid: int

    def end(self, *, seconds: float = 20.0) -> bool:
        """Ask it to end, and wait; False: it has not, by then."""
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            return True
        until = time.monotonic() + seconds
        while running(self.state) is not None:
            if time.monotonic() > until:
                return False
            time.sleep(_STEP)
        return True


def running(state: Path) -> Running | None:
    """Who holds the lock there; a file that a killed process has left says nothing."""
    try:
        fd = os.open(state / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        try:
            pid = int(json.loads((state / PID).read_text())["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Running(state=state, pid=pid)
    finally:
        os.close(fd)
    return None


@contextmanager
def held(state: Path) -> Iterator[None]:
    """Be the sandbox of that folder. Raises Taken, OSError."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Taken(f"a sandbox lives in {state} already") from error
        (state / PID).write_text(json.dumps({"pid": os.getpid()}))
        yield
        (state / PID).unlink(missing_ok=True)
    finally:
        os.close(fd)
