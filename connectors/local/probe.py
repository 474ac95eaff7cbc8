"""How the local site is: three small measurements."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence

from connectors.errors import SiteError
from connectors.files.root import Root
from connectors.local.launch import SHELL
from connectors.model import Evidence
from connectors.registry import Clock

_SHELL_SECONDS = 5.0


def probe(*, site: str, place: Root, free: int, clock: Clock) -> Sequence[Evidence]:
    """Is the root there, is there room in it, does a shell start?"""
    checks: dict[str, Callable[[], str]] = {
        "files": lambda: _files(place),
        "submit": lambda: _room(place, free),
        "compute": _shell,
    }
    return tuple(_measure(site, capability, check, clock) for capability, check in checks.items())


def _measure(site: str, capability: str, check: Callable[[], str], clock: Clock) -> Evidence:
    """`check` answers what is wrong, "" when nothing is."""
    begun = time.perf_counter()
    try:
        wrong = check()
    except (SiteError, OSError, subprocess.SubprocessError) as error:
        wrong = str(error)
    return Evidence(
        site=site,
        capability=capability,
        ok=not wrong,
        at=clock(),
        latency=time.perf_counter() - begun,
        detail=wrong,
    )


def _files(place: Root) -> str:
    place.check()
    return ""


def _room(place: Root, free: int) -> str:
    with place.open() as tree:
        if not os.access(tree.path, os.W_OK | os.X_OK):
            return f"{tree.path} may not be written to"
        disk = os.fstatvfs(tree.fd)
    left = disk.f_bavail * disk.f_frsize
    return "" if left >= free else f"only {left} bytes are free below {place.path}; at least {free} are wanted"


def _shell() -> str:
    ended = subprocess.run(
        [SHELL, "-c", ":"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SHELL_SECONDS, check=False
    )
    return "" if ended.returncode == 0 else f"{SHELL} ended with {ended.returncode}"
