"""Processes as Linux's /proc shows them. A pid alone is no identity; a pid with its start time and boot is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

KEY_VARIABLE = "CROSSFADE_KEY"
"""Carries the job's key in the environment of all its processes, those with a session of their own too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process; `started` is clock ticks since boot."""

    pid: int
    state: str
    parent: int
    session: int
    started: int

    @property
    def alive(self) -> bool:
        return self.state not in {"Z", "X", "x"}


@cache
def boot_id() -> str:
    """Which boot of the machine this is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def look(pid: int) -> Process | None:
    """The process of that number now, if there is one."""
    content = _read(f"/proc/{pid}/stat")
    if not content:
        return None
    # the name stands in brackets and may hold anything, brackets too: count from the last one
    fields = content[content.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        session=int(fields[3]),
        started=int(fields[19]),
    )


def same(process: Process) -> Process | None:
    """The same process as it is now; None when it is dead, or its number belongs to another."""
    now = look(process.pid)
    return now if now and now.alive and now.started == process.started else None


def everyone() -> Iterator[Process]:
    """All live processes but this one."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            found = look(int(name))
            if found and found.alive:
                yield found


def key_of(pid: int, keys: Collection[str]) -> str | None:
    """Which of these keys the process carries in its environment; None also when we may not look."""
    marker = f"{KEY_VARIABLE}=".encode()
    for entry in _read(f"/proc/{pid}/environ").split(b"\0"):
        if entry.startswith(marker):
            key = entry[len(marker) :].decode("ascii", "replace")
            return key if key in keys else None
    return None


def send(process: Process, number: signal.Signals) -> None:
    """Signal that very process, never another one that has got its number since."""
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:  # gone, or a kernel before 5.3
        _send_plainly(process, number)
        return
    try:
        # the descriptor holds whoever has the number now; only then is the start time worth comparing
        _if_same(process, lambda: signal.pidfd_send_signal(fd, number))
    finally:
        os.close(fd)


def _send_plainly(process: Process, number: signal.Signals) -> None:
    _if_same(process, lambda: os.kill(process.pid, number))


def _if_same(process: Process, act: Callable[[], None]) -> None:
    if same(process):
        with suppress(ProcessLookupError, PermissionError):
            act()


def _read(path: str) -> bytes:
    """A file of /proc, empty when the process is gone or not ours to see."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(fd)
