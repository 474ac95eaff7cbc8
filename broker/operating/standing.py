"""What notices come to at one moment, at one site. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from broker.operating.rows import NoticeRow


def frozen(notices: Iterable[NoticeRow], kind: str, site: str, *, now: int) -> NoticeRow | None:
    """The freeze of that kind that holds at the site, of several the one that ends last. `site` empty: only what
    holds at every site."""
    held = [row for row in notices if row.kind == kind and row.site in ("", site) and row.holds(now)]
    return max(held, key=lambda row: row.ends_at, default=None)


def told(row: NoticeRow) -> str:
    """Who said it, why, and until when: the same words as long as it holds."""
    where = f" at {row.site}" if row.site else ""
    return f"{row.said_by} froze {row.kind.removeprefix('freeze_')}{where} until {stamp(row.ends_at)}: {row.reason}"


def frozen_words(notices: Iterable[NoticeRow], kind: str, site: str, *, now: int) -> str:
    """Of the freeze that holds there; empty: none does."""
    row = frozen(notices, kind, site, now=now)
    return told(row) if row is not None else ""


def stamp(at: int) -> str:
    """A time to the minute, UTC, rounded up: what ends then does not hold any more."""
    return datetime.fromtimestamp(-(-at // 60_000_000) * 60, UTC).strftime("%Y-%m-%d %H:%M UTC")
