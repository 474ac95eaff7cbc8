"""What notices come to at one moment, at one site. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from broker.operating.rows import MAINTENANCE, NoticeRow
from policies.health import DRAIN_AHEAD, PLACING
from policies.verdicts import Window


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


def windows(notices: Iterable[NoticeRow], site: str) -> tuple[Window, ...]:
    """The maintenance of a site that operators have announced."""
    return tuple(
        Window(
            begins=row.begins_at,
            ends=row.ends_at,
            words=f"{row.said_by}: {row.reason}",
            at=row.said_at,
            source="operator",
            capability=row.capability,
        )
        for row in notices
        if row.kind == MAINTENANCE and row.site == site
    )


def closed(notices: Iterable[NoticeRow], site: str, *, now: int) -> str:
    """Why nothing starts at a site by what operators have announced: it is away, or will be within the hour. Empty:
    nothing is announced that keeps work from it."""
    for row in _of_whole(notices, site):
        if row.begins_at <= now < row.ends_at:
            return f"maintenance until {stamp(row.ends_at)}, says {row.said_by}: {row.reason}"
        if now < row.begins_at <= now + round(DRAIN_AHEAD * 1e6):
            return f"maintenance begins at {stamp(row.begins_at)}, says {row.said_by}: {row.reason}"
    return ""


def next_window(
    notices: Iterable[NoticeRow], site: str, announced: int | None, *, now: int
) -> tuple[int | None, int | None]:
    """When the next maintenance of a site begins and ends. `announced`: when the next one does that the site tells of
    itself."""
    told = [(row.begins_at, row.ends_at) for row in _of_whole(notices, site) if row.begins_at > now]
    first = min(told, default=(None, None))
    if announced is not None and announced > now and (first[0] is None or announced < first[0]):
        return announced, None
    return first


def _of_whole(notices: Iterable[NoticeRow], site: str) -> Iterator[NoticeRow]:
    """Maintenance of something that no stage can do without."""
    for row in notices:
        if row.kind == MAINTENANCE and row.site == site and row.capability in ("", *PLACING):
            yield row


def stamp(at: int) -> str:
    """A time to the minute, UTC, rounded up: what ends then does not hold any more."""
    return datetime.fromtimestamp(-(-at // 60_000_000) * 60, UTC).strftime("%Y-%m-%d %H:%M UTC")
