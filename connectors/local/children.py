"""The launchers that this process started, waited for as they end: no zombies, no SIGCHLD handler."""

from __future__ import annotations

import os
import threading

from connectors.local.process import Process
from connectors.local.records import Records


class Children:
    """Thread-safe. Nothing here is needed to answer a question: a lost entry costs a zombie at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[int, str | None] = {}

    def add(self, process: Process, key: str | None) -> None:
        """A new child; `key` None: it leads no job."""
        with self._lock:
            self._keys[process.pid] = key

    def reap(self, records: Records) -> None:
        """Wait for those that have ended, without blocking."""
        with self._lock:
            for pid, key in list(self._keys.items()):
                if _wait(pid, key, records):
                    del self._keys[pid]

    def reap_zombie(self, process: Process, key: str, records: Records) -> None:
        """Wait for a child that an earlier connector object of this same process started."""
        if process.state == "Z" and process.parent == os.getpid():
            with self._lock:
                _wait(process.pid, key, records)


def _wait(pid: int, key: str | None, records: Records) -> bool:
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # not ours (this process was forked), or somebody else waited for it
        return True
    if ended and key and os.WIFSIGNALED(status):
        records.note_signal(key, os.WTERMSIG(status))
    return bool(ended)
