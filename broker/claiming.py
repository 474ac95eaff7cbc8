"""Racing for a site's claim from this machine: many try at once, one must win."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

from connectors.base import OnThisMachine, Site
from connectors.model import Finding

RUNNERS = 8
ROUNDS = 5
_HELP = "two copies of a stage could run there at once: keep the site's root on a file system that links atomically"

Try = Callable[[int, int], bool]
"""A runner's try to win a round (round, runner): has it won?"""


@runtime_checkable
class PutsNew(Protocol):
    """Files that can be written on condition that there is none of that name (a bucket's)."""

    def put_new(self, path: str, content: bytes) -> bool:
        """True: it is ours. False: it was there."""
        ...


def race(site: Site, *, mark: str, by_jobs: Finding | None = None) -> Finding:
    """How the site's kind of claim stood up to being raced for, from here or by jobs there. Raises SiteError."""
    if site.claim == "none":
        return Finding(step="claim", ok=None, detail="none: on doubt nothing is submitted a second time there")
    if site.claim == "conditional_put" and isinstance(site, PutsNew):
        return _judged("conditional puts of this machine", _put_race(site, site, mark))
    if by_jobs is not None:
        return by_jobs
    if site.claim == "atomic_fs" and isinstance(site, OnThisMachine):
        return _judged("links made by threads of this machine", _link_race(site.live_root() / "check" / mark))
    if site.claim == "unique_name":
        return Finding(step="claim", ok=None, detail="unique_name: the site itself refuses a second job of a name")
    help = f"`crossfade site check {site.name} --canary` races it with jobs"  # noqa: A001 - the word of our findings
    return Finding(step="claim", ok=None, detail=f"{site.claim}: not raced", help=help)


def _put_race(site: Site, files: PutsNew, mark: str) -> list[int]:
    path = f"check/{mark}.claim"
    try:
        return run_race(lambda round_, runner: files.put_new(f"{path}{round_}", str(runner).encode()), rounds=1)
    finally:
        site.remove([f"{path}0"])


def _link_race(folder: Path) -> list[int]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return run_race(lambda round_, runner: _link(folder / f"claim{round_}", str(runner)), rounds=ROUNDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _link(claim: Path, name: str) -> bool:
    """As the harness does it: link, then read back who holds it, whatever the linking said."""
    with suppress(FileExistsError):
        os.symlink(name, claim)
    return os.readlink(claim) == name


def run_race(attempt: Try, *, rounds: int) -> list[int]:
    """How many runners won in each round; in each they start at one moment."""
    gate = threading.Barrier(RUNNERS)

    def one(round_: int, runner: int) -> bool:
        gate.wait(30)
        return attempt(round_, runner)

    with ThreadPoolExecutor(RUNNERS, thread_name_prefix="claim") as pool:
        return [
            sum(pool.map(one, [round_] * RUNNERS, range(RUNNERS)))  # no round begins before the last has ended
            for round_ in range(rounds)
        ]


def _judged(how: str, won: Sequence[int]) -> Finding:
    if all(count == 1 for count in won):
        return Finding(step="claim", ok=True, detail=f"{how}: {RUNNERS} raced, one won, {len(won)} times of {len(won)}")
    wrong = next(count for count in won if count != 1)
    return Finding(step="claim", ok=False, detail=f"{how}: of {RUNNERS} that raced {wrong} won", help=_HELP)
