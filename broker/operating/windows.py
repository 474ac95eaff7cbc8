"""Maintenance of sites: what operators announce, beside what the sites' own calendars say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker import ids
from broker.clock import micros
from broker.errors import NotFound, RefusedByPolicy, UsageError
from broker.health import judge_all
from broker.operating.rows import MAINTENANCE, NoticeRow
from broker.service import Service
from broker.views import View, when
from policies.verdicts import CAPABILITIES, Window

LONGEST = 30 * 86_400.0
"""Seconds that a maintenance lasts at most; a site that is away for longer belongs out of the site document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What is to be announced. Times in microseconds UTC."""

    site: str
    begins: int
    ends: int
    reason: str
    capability: str = ""
    """Empty: all of it."""


class Windows:
    """The use cases, for one person."""

    def __init__(self, service: Service) -> None:
        self._service, self._store = service, service.store

    def add(self, said: Announcement) -> View:
        """Announce it. `new` is false where what is announced already covers it; `overlaps` names what is announced
        for a part of that time. Raises UsageError, NotFound."""
        row = self.wanted(said)
        others = [other for other in self._open(said.site) if _overlap(other, row)]
        new = self._store.notices.add(row)
        if not new:
            covering = (o for o in others if o.begins_at <= row.begins_at and o.ends_at >= row.ends_at)
            row = next(covering, row)
        return {**self.view(row), "new": new, "overlaps": [other.id for other in others if other.id != row.id]}

    def wanted(self, said: Announcement) -> NoticeRow:
        """What `add` would keep. Raises as that does."""
        now = self._service.clock()
        self._known(said.site)
        if not said.reason.strip():
            raise UsageError("say why", help="--reason TEXT; it is kept, and shown as long as it is announced")
        if said.capability and said.capability not in CAPABILITIES:
            raise UsageError(f"no capability {said.capability!r}", help=f"one of {', '.join(CAPABILITIES)}")
        if said.ends <= said.begins:
            raise UsageError("it would end before it begins", help="--from, then --to")
        if said.ends <= now:
            raise UsageError(f"that is over: it ended at {when(said.ends)}", help="times without an offset are local")
        if said.ends - said.begins > micros(LONGEST):
            raise UsageError("a maintenance lasts for 30 days at most", help="take the site out of the site document")
        return NoticeRow(
            id=f"n{ids.run_id(now, ids.random_bits)}",
            kind=MAINTENANCE,
            site=said.site,
            capability=said.capability,
            begins_at=said.begins,
            ends_at=said.ends,
            reason=said.reason.strip(),
            said_by=self._service.person,
            said_at=now,
        )

    def rm(self, ident: str, *, reason: str) -> View:
        """Take one back, or end it before its time. Raises NotFound, UsageError, RefusedByPolicy."""
        row = self.find(ident)
        by, now = self._service.person, self._service.clock()
        if not self._store.notices.end(row.id, by=by, reason=reason, now=now):
            row = self.find(row.id)
            said = f"{row.ended_by} has taken it back already" if row.ended_at is not None else "it is over"
            raise RefusedByPolicy(f"nothing to take back: {said}", help="see `crossfade maintenance ls --all`")
        return self.view(self.find(row.id))

    def find(self, ident: str) -> NoticeRow:
        """By its id, the start of one, or the name of a site for which a single one is announced. Raises NotFound,
        UsageError."""
        rows = [row for row in self._store.notices.newest() if row.kind == MAINTENANCE]
        exact = [row for row in rows if row.id == ident]
        found = exact or [row for row in rows if ident and row.id.startswith(ident)]
        if not found and ident in self._service.sites.configs:
            found = list(self._open(ident))
        if not found:
            raise NotFound(f"no operator announced a maintenance {ident!r}", help="see `crossfade maintenance ls`")
        if len(found) > 1:
            names = ", ".join(row.id for row in found)
            raise UsageError(f"{ident!r} could be more than one: {names}", help="name one of them")
        return found[0]

    def ls(self, site: str = "", *, everything: bool = False) -> list[View]:
        """What operators have announced and what the sites' own calendars say, by its beginning; `everything`: also
        what is over, or was taken back."""
        if site:
            self._known(site)
        now, store = self._service.clock(), self._store
        rows = store.notices.newest() if everything else store.notices.open(now=now)
        views = [self.view(row) for row in rows if row.kind == MAINTENANCE and site in ("", row.site)]
        configs = {name: c for name, c in self._service.sites.configs.items() if site in ("", name)}
        for name, told in judge_all(store, configs, now=now).items():
            views += self._published(name, told.health.windows, now)
        return sorted(views, key=lambda view: (str(view["begins"] or ""), str(view["site"])))

    def view(self, row: NoticeRow) -> View:
        """As people and programs read it."""
        now = self._service.clock()
        state = "open" if row.begins_at <= now else "ahead"
        if row.ended_at is not None:
            state = "taken_back" if row.ended_at <= row.begins_at else "ended"
        elif row.ends_at <= now:
            state = "over"
        return {
            "maintenance": row.id,
            "site": row.site,
            "state": state,
            "begins": when(row.begins_at),
            "ends": when(row.ends_at),
            "capability": row.capability or None,
            "source": f"operator {row.said_by}",
            "age_seconds": round((now - row.said_at) / 1e6, 1),
            "reason": row.reason,
            "ended_by": row.ended_by or None,
            "end_reason": row.end_reason or None,
        }

    @staticmethod
    def _published(site: str, windows: Sequence[Window], now: int) -> list[View]:
        """One line for what a calendar says of several capabilities."""
        merged: dict[tuple[object, ...], list[Window]] = {}
        for window in windows:
            if window.source != "operator" and (window.ends is None or window.ends > now):
                merged.setdefault((window.begins, window.ends, window.words), []).append(window)
        return [
            {
                "maintenance": None,
                "site": site,
                "state": "open" if some[0].open(now) else "ahead",
                "begins": when(begins),  # type: ignore[arg-type]  # the key's first two are times
                "ends": when(ends),  # type: ignore[arg-type]
                "capability": None if len(some) == len(CAPABILITIES) else ", ".join(w.capability for w in some),
                "source": some[0].source,
                "age_seconds": round((now - max(w.at for w in some)) / 1e6, 1),
                "reason": words,
                "ended_by": None,
                "end_reason": None,
            }
            for (begins, ends, words), some in merged.items()
        ]

    def _open(self, site: str) -> list[NoticeRow]:
        rows = self._store.notices.open(now=self._service.clock())
        return [row for row in rows if row.kind == MAINTENANCE and row.site == site]

    def _known(self, site: str) -> None:
        if site not in self._service.sites.configs:
            known = ", ".join(sorted(self._service.sites.configs))
            raise NotFound(f"no site {site!r}", help=f"sites are: {known}")


def _overlap(one: NoticeRow, other: NoticeRow) -> bool:
    same = "" in (one.capability, other.capability) or one.capability == other.capability
    return same and one.begins_at < other.ends_at and other.begins_at < one.ends_at
