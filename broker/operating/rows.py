"""A notice: what an operator has said, from when to when it holds, and the port of the store that keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

FREEZE_MOVES = "freeze_moves"
"""No failover: nothing leaves a site by the broker's own decision."""
FREEZE_SUBMITS = "freeze_submits"
"""No submission: no site is given a new job."""
MAINTENANCE = "maintenance"
"""The site is away, as somebody has told us."""
FREEZES = (FREEZE_MOVES, FREEZE_SUBMITS)


class NoticeRow(NamedTuple):
    """It begins and ends by itself; an operator may end it before."""

    id: str
    kind: str
    """freeze_moves, freeze_submits, maintenance."""
    site: str
    """Empty: every site."""
    capability: str
    """Of a maintenance: what of the site is away; empty: all of it."""
    begins_at: int
    ends_at: int
    """The first microsecond at which it does not hold any more."""
    reason: str
    said_by: str
    said_at: int
    ended_by: str = ""
    ended_at: int | None = None
    """When an operator ended it before its time; null: nobody did."""
    end_reason: str = ""

    def holds(self, now: int) -> bool:
        """Is it in force?"""
        return self.ended_at is None and self.begins_at <= now < self.ends_at

    def concerns(self, site: str) -> bool:
        return self.site in ("", site)


class NoticeStore(Protocol):
    """What is kept of notices. Thread-safe; every method is one transaction."""

    def add(self, row: NoticeRow) -> bool:
        """Keep it; told in the stream of its site, or of the operators, and what it concerns becomes due. False: there
        is one already of that kind, site and capability that holds throughout; nothing was written."""
        ...

    def end(self, ident: str, *, by: str, reason: str, now: int) -> bool:
        """Let it hold no longer; told where it was told of, and what it concerned becomes due. False: it was ended
        before, its time is over, or there is none."""
        ...

    def open(self, *, now: int) -> Sequence[NoticeRow]:
        """Those that hold, or will, by their beginning."""
        ...

    def newest(self, *, limit: int = 1000) -> Sequence[NoticeRow]:
        """All that were ever said, the newest first."""
        ...
