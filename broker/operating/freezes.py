"""Freezes: for a while nothing is moved, or nothing is submitted, at one site or at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker import ids
from broker.clock import micros
from broker.errors import NotFound, RefusedByPolicy, UsageError
from broker.operating.rows import FREEZE_MOVES, FREEZE_SUBMITS, FREEZES, NoticeRow
from broker.service import Service
from broker.views import View, when

DAY = 86_400.0
LONGEST = DAY
"""Seconds that a freeze lasts at most: who forgets one finds the broker at work again the next day."""
KINDS = {"moves": FREEZE_MOVES, "submits": FREEZE_SUBMITS}
"""As people type them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """What is asked for."""

    on: str
    """moves or submits."""
    reason: str
    seconds: float = 3600.0
    site: str = ""
    """Empty: every site."""


class Freezes:
    """The use cases, for one person."""

    def __init__(self, service: Service) -> None:
        self._service, self._store = service, service.store

    def on(self, wish: Freeze) -> View:
        """Freeze from now on. One that holds as long as that is there already is left as it is (`new` is false).
        Raises UsageError, NotFound."""
        row = self.wanted(wish)
        new = self._store.notices.add(row)
        if not new:
            row = max(self._held([row.kind], row.site), key=lambda held: held.ends_at, default=row)
        return {**self.view(row), "new": new}

    def wanted(self, wish: Freeze) -> NoticeRow:
        """What `on` would keep. Raises as that does."""
        if wish.on not in KINDS:
            raise UsageError(f"there is nothing to freeze called {wish.on!r}", help="freeze on moves, or on submits")
        if not wish.reason.strip():
            raise UsageError("say why", help="--reason TEXT; it is kept, and shown wherever the freeze is felt")
        if not 0 < wish.seconds <= LONGEST:
            raise UsageError("a freeze holds for 24 hours at most", help="--for 1h; say it again when it ends")
        self._known(wish.site)
        now = self._service.clock()
        return NoticeRow(
            id=f"n{ids.run_id(now, ids.random_bits)}",
            kind=KINDS[wish.on],
            site=wish.site,
            capability="",
            begins_at=now,
            ends_at=now + micros(wish.seconds),
            reason=wish.reason.strip(),
            said_by=self._service.person,
            said_at=now,
        )

    def off(self, on: str, *, site: str, reason: str) -> list[View]:
        """End what is frozen there; what was ended. Raises NotFound, RefusedByPolicy."""
        now, ended = self._service.clock(), []
        for row in self.may_end(on, site=site):
            self._store.notices.end(row.id, by=self._service.person, reason=reason, now=now)
            ended.append(row.id)
        return [self.view(row) for row in self._store.notices.newest() if row.id in ended]

    def may_end(self, on: str, *, site: str) -> Sequence[NoticeRow]:
        """What `off` would end. `on` empty: both kinds. Raises as that does."""
        self._known(site)
        found = self._held([KINDS[on]] if on else FREEZES, site)
        if not found:
            what, where = on or "nothing", f" at {site} alone" if site else ""
            words = f"{what} are not frozen{where}" if on else f"nothing is frozen{where}"
            raise RefusedByPolicy(words, help="see `crossfade freeze ls`")
        return found

    def ls(self, *, everything: bool = False) -> list[View]:
        """Those that hold; `everything`: also those that are over, the newest first."""
        now = self._service.clock()
        rows = self._store.notices.newest() if everything else self._store.notices.open(now=now)
        return [self.view(row) for row in rows if row.kind in FREEZES]

    def view(self, row: NoticeRow) -> View:
        """As people and programs read it."""
        now = self._service.clock()
        state = "ended" if row.ended_at is not None else "over" if row.ends_at <= now else "in_force"
        return {
            "freeze": row.id,
            "on": row.kind.removeprefix("freeze_"),
            "site": row.site or None,
            "state": state,
            "by": row.said_by,
            "reason": row.reason,
            "since": when(row.begins_at),
            "until": when(row.ends_at),
            "ended_by": row.ended_by or None,
            "ended_at": when(row.ended_at),
            "end_reason": row.end_reason or None,
        }

    def _held(self, kinds: Sequence[str], site: str) -> list[NoticeRow]:
        """Exactly there: what is frozen at every site is not ended for one."""
        now = self._service.clock()
        rows = self._store.notices.open(now=now)
        return [row for row in rows if row.kind in kinds and row.site == site and row.holds(now)]

    def _known(self, site: str) -> None:
        if site and site not in self._service.sites.configs:
            known = ", ".join(sorted(self._service.sites.configs))
            raise NotFound(f"no site {site!r}", help=f"sites are: {known}")


def lines(views: Sequence[View]) -> list[str]:
    """What holds, each on one line: what it keeps from happening, who wants that, until when, and what ends it."""
    return [_line(view) for view in views if view["state"] == "in_force"]


def _line(view: View) -> str:
    at = f" at {view['site']}" if view["site"] else ""
    what = "nothing is moved" if view["on"] == "moves" else "nothing is submitted"
    stop = f"crossfade freeze off {view['on']}" + (f" --site {view['site']}" if view["site"] else "")
    return f"frozen{at}: {what} until {view['until']}, says {view['by']}: {view['reason']} (`{stop}` ends it)"
