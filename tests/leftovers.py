"""Jobs that tests left running: found by the key in their environment, and by lying below the tests' folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from connectors.local.process import KEY_VARIABLE


def end_jobs_below(base: Path, *, patience: float) -> list[str]:
    """Wait up to `patience` seconds for jobs of these tests to end by themselves, kill the rest; a line for each."""
    deadline = time.monotonic() + patience
    while (left := list(jobs_below(base))) and time.monotonic() < deadline:
        time.sleep(0.1)
    lines = [line for process in left if (line := told(process))]
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return lines


def jobs_below(base: Path) -> Iterator[psutil.Process]:
    """Live processes that carry a key and have to do with that folder. Jobs of other sessions are not ours to judge."""
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if KEY_VARIABLE not in environment or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if any(f"{base}/" in text for text in (process.cwd(), *environment.values())):
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def told(process: psutil.Process) -> str:
    """Enough to find the test: the folder says its name."""
    try:
        with process.oneshot():
            return f"{process.pid} {' '.join(process.cmdline())[:200]} (in {process.cwd()})"
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""
