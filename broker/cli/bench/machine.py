"""How quiet the machine was: what other processes took of it while we measured."""

from __future__ import annotations

import os
import resource
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

QUIET = 0.2
"""Cores taken by others, up to which a rate can be compared."""


def _busy_seconds() -> float:
    """Core seconds that the whole machine has worked since it was booted; 0.0 where the system does not tell."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """CPU seconds of this process and the children it has waited for."""
    mine = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime


@dataclass(slots=True)
class Meter:
    """Measures a span: wall time, own CPU time, and the cores that others took."""

    _wall: float = field(default_factory=time.monotonic)
    _own: float = field(default_factory=own_seconds)
    _busy: float = field(default_factory=_busy_seconds)

    def read(self) -> tuple[float, float, float]:
        """(seconds, own CPU seconds, cores of others) since the meter was made."""
        wall, own = time.monotonic() - self._wall, own_seconds() - self._own
        others = max(0.0, _busy_seconds() - self._busy - own) / wall if wall > 0 else 0.0
        return wall, own, others


def tree_seconds(roots: Iterable[int]) -> float:
    """CPU seconds of these processes and all that descend from them, the ended and waited for included; Linux."""
    children: dict[int, list[int]] = defaultdict(list)
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
            except OSError:
                continue  # it has just ended
            children[int(fields[1])].append(int(entry.name))
            used[int(entry.name)] = sum(int(fields[at]) for at in (11, 12, 13, 14))
    left, seen, total = list(roots), set[int](), 0
    while left:
        pid = left.pop()
        if pid not in seen:
            seen.add(pid)
            total += used.get(pid, 0)
            left += children[pid]
    return total / os.sysconf("SC_CLK_TCK")


class TreeMeter:
    """As `Meter`, for several processes with all that descend from them. One that ends meanwhile takes its time along,
    unless one of the tree waited for it."""

    def __init__(self, roots: Iterable[int]) -> None:
        self._roots = list(roots)
        self._used, self._busy = tree_seconds(self._roots), _busy_seconds()
        self._wall = time.monotonic()

    def read(self) -> tuple[float, float, float]:
        """(seconds, CPU seconds of the trees, cores of others) since the meter was made."""
        wall, used = time.monotonic() - self._wall, tree_seconds(self._roots) - self._used
        return wall, used, max(0.0, _busy_seconds() - self._busy - used) / wall if wall > 0 else 0.0


def peak_mib() -> float:
    """The most memory that this process has held so far; MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
