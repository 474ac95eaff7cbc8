"""Trying a site: what it says of itself, and whether a small file can be written, listed, read and removed there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broker.clock import Clock
from broker.ids import RandomBits
from connectors.base import Site
from connectors.errors import SiteError, SiteUnreachable

FOLDER = "check"
"""Below the site's root; a name of its own per check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One thing that was tried."""

    what: str
    ok: bool
    seconds: float
    detail: str = ""
    """What is wrong; empty when nothing is."""
    help: str = ""
    unreachable: bool = False
    """It failed because the site gave no answer."""


def try_site(site: Site, *, clock: Clock, bits: RandomBits) -> Sequence[Tried]:
    """Everything that was tried, in order; after the site gave no answer nothing more is."""
    steps = _Steps(site=site, name=f"{FOLDER}/crossfade-{bits(64):016x}", clock=clock)
    tried = [
        Tried(what=f"probe: {e.capability}", ok=e.ok, seconds=e.latency, detail="" if e.ok else e.detail)
        for e in site.probe()
    ]
    for what, step in steps.in_order():
        tried.append(_try(what, step))
        if tried[-1].unreachable:
            break
    return tried


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """Each answers what is wrong, "" when nothing is."""

    site: Site
    name: str
    clock: Clock

    def in_order(self) -> Sequence[tuple[str, Callable[[], str]]]:
        return (
            ("list jobs", self.list_jobs),
            ("write a file", self.write),
            ("read it back", self.read),
            ("list its folder", lambda: "" if self._listed() else "it is not listed"),
            ("remove it", self.remove),
            ("see it gone", lambda: "it is still listed" if self._listed() else ""),
        )

    def list_jobs(self) -> str:
        return "" if self.site.list_mine(self.clock()).complete else "its answer was not complete"

    def write(self) -> str:
        self.site.write(self.name, self._content)
        return ""

    def read(self) -> str:
        return "" if self.site.read(self.name) == self._content else "it holds something else"

    def remove(self) -> str:
        self.site.remove([self.name])
        return ""

    def _listed(self) -> bool:
        return any(info.path == self.name for info in self.site.list(FOLDER))

    @property
    def _content(self) -> bytes:
        return f"{self.name} was written to try this site\n".encode()


def _try(what: str, step: Callable[[], str]) -> Tried:
    begun = time.perf_counter()
    try:
        wrong, cure, dark = step(), "", False
    except SiteError as error:
        wrong, cure, dark = str(error), error.help, isinstance(error, SiteUnreachable)
    return Tried(
        what=what, ok=not wrong, seconds=time.perf_counter() - begun, detail=wrong, help=cure, unreachable=dark
    )
