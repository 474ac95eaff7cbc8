"""Evacuating a site, and closing one: what is there now, what is asked for, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence

from broker.errors import NotFound, RefusedByPolicy, UsageError
from broker.operating.rows import FREEZE_MOVES
from broker.operating.standing import frozen, told
from broker.service import Service
from broker.store.base import AttemptRow, SiteRow
from broker.views import View, attempt_state, when

UNDER_WAY = ("evacuating", "closed")
THEN = ("wait", "elsewhere")
"""What becomes of the stages of a closed site: a person is asked for each, or they go on elsewhere."""


class Leavings:
    """The use cases, for one person."""

    def __init__(self, service: Service) -> None:
        self._service, self._store = service, service.store

    def evacuate(self, name: str, *, reason: str, to: str = "") -> View:
        """Start nothing new there, and move what runs. `new` is false where that is under way. Raises NotFound,
        UsageError, RefusedByPolicy."""
        row = self.may_evacuate(name, reason=reason, to=to)
        new = row is None or (row.mode, row.mode_to) != ("evacuating", to)
        if new:
            self._store.set_site_mode(name, mode="evacuating", by=self._service.person, reason=reason, to=to)
        return {**self.progress(name), "new": new}

    def may_evacuate(self, name: str, *, reason: str, to: str = "") -> SiteRow | None:
        """The site's row, if it may be evacuated now. Raises as `evacuate` does."""
        row = self._row(name, reason)
        if to == name:
            raise UsageError(f"{name} cannot be evacuated to itself", help="without --to each stage goes where it can")
        if to:
            self._known(to)
        if row is not None and row.mode == "closed":
            cure = f"crossfade site resume {name}, if that is over"
            raise RefusedByPolicy(f"{name} is closed by {row.mode_by}: {row.mode_reason}", help=cure)
        now = self._service.clock()
        freeze = frozen(self._store.notices.open(now=now), FREEZE_MOVES, name, now=now)
        if freeze is not None:
            stop = "crossfade freeze off moves" + (f" --site {freeze.site}" if freeze.site else "")
            raise RefusedByPolicy(f"nothing moves from {name}: {told(freeze)}", help=stop)
        return row

    def close(self, name: str, *, reason: str, then: str = "wait") -> View:
        """End everything of ours there, also what no row knows, and send nothing new. `new` is false where that is
        under way. Raises NotFound, UsageError."""
        row = self._row(name, reason)
        if then not in THEN:
            raise UsageError(f"what becomes of the stages is {' or '.join(THEN)}, not {then!r}")
        new = row is None or (row.mode, row.mode_then) != ("closed", then)
        if new:
            self._store.set_site_mode(name, mode="closed", by=self._service.person, reason=reason, then=then)
        return {**self.progress(name), "new": new}

    def progress(self, name: str) -> View:
        """What is still there, each with what has been done about it."""
        self._known(name)
        row = next((row for row in self._store.sites() if row.site == name), None)
        there = self._store.open_attempts(name)
        under_way = row if row is not None and row.mode in UNDER_WAY else None
        return {
            "site": name,
            "mode": row.mode if row else "up",
            "by": row.mode_by if row else "",
            "reason": row.mode_reason if row else "",
            "since": when(row.mode_at) if row else None,
            "to": (row.mode_to or None) if row else None,
            "then": (row.mode_then or None) if row else None,
            "left": len(there),
            "clear_at": when(under_way.clear_at) if under_way else None,
            "attempts": self._views(there),
        }

    def _views(self, rows: Sequence[AttemptRow]) -> list[View]:
        paths: dict[str, dict[int, str]] = {}
        for run_id in {row.run_id for row in rows}:
            numbers = {row.n for row in rows if row.run_id == run_id}
            paths[run_id] = {n: stage.path for n, stage in self._store.stages_at(run_id, numbers).items()}
        return [
            {
                "attempt": f"{row.run_id}/{paths[row.run_id].get(row.n, '?')}@{row.number}",
                "state": attempt_state(row),
                "orphan": bool(row.orphan),
                "native_id": row.native_id or None,
                "asked_at": when(row.asked_at),
                "end_asked_at": when(row.cancel_requested_at),
                "checkpoint": self._newest(row),
            }
            for row in sorted(rows, key=lambda row: (row.run_id, row.n, row.number))
        ]

    def _newest(self, row: AttemptRow) -> int | None:
        """The newest checkpoint of an attempt that is known to be good."""
        known = self._store.checkpoints(row.run_id)
        mine = (c.seq for c in known if (c.n, c.attempt) == (row.n, row.number) and c.state in ("verified", "shipped"))
        return max(mine, default=None)

    def _row(self, name: str, reason: str) -> SiteRow | None:
        self._known(name)
        if not reason.strip():
            raise UsageError("say why", help="--reason TEXT; it is kept, and shown with the site")
        return next((row for row in self._store.sites() if row.site == name), None)

    def _known(self, name: str) -> None:
        if name not in self._service.sites.configs:
            known = ", ".join(sorted(self._service.sites.configs))
            raise NotFound(f"no site {name!r}", help=f"sites are: {known}")


def line(view: View) -> str:
    """How far it is, in one line; empty: nothing is under way there."""
    site, left = view["site"], view["left"]
    who = f"by {view['by']} since {view['since']}: {view['reason']}"
    undo = f"`crossfade site resume {site}` undoes it"
    if view["mode"] == "evacuating":
        where = f" to {view['to']}" if view["to"] else ""
        how = f"{left} attempts are still there" if left else "nothing of ours is there any more"
        return f"{site}: being evacuated{where} {who}; {how} ({undo})"
    if view["mode"] == "closed":
        then = "their stages wait for a person" if view["then"] == "wait" else "their stages go on elsewhere"
        if view["clear_at"]:
            return f"{site}: closed {who}; confirmed at {view['clear_at']}: nothing of ours lives there ({undo})"
        return f"{site}: closed {who}; {left} attempts are being ended, {then}; not confirmed yet ({undo})"
    return ""


def lines(service: Service) -> list[str]:
    """Of every site where something is under way."""
    modes = [row.site for row in service.store.sites() if row.mode in UNDER_WAY]
    leavings = Leavings(service)
    return [line(leavings.progress(name)) for name in modes if name in service.sites.configs]
