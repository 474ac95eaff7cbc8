"""What people do about notices: list them, and say that they take care."""

from __future__ import annotations

import json
from collections.abc import Sequence

from broker.alerts.rows import AlertRow
from broker.clock import Clock
from broker.errors import NotFound, UsageError
from broker.service import Service
from broker.store.base import Store
from broker.views import View, clean_text, when

MOST = 1000


class Acking:
    """The use cases, for one person."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store: Store = service.store
        self._clock: Clock = service.clock

    def ls(self, target: str | None = None, *, open_only: bool = False, limit: int = 200) -> list[View]:
        """Of all, or of a run; newest first. Raises NotFound."""
        run_id = self._service.find(target)[0].run_id if target else ""
        return [notice_view(row) for row in self._store.alerts.ls(run_id=run_id, open_only=open_only, limit=limit)]

    def wanted(self, target: str | None, *, everything: bool = False) -> list[AlertRow]:
        """Those that an `ack` would acknowledge: one notice, all of a run (or of RUN/STAGE), or all there are. Raises
        NotFound, UsageError."""
        if everything == bool(target):
            raise UsageError("say what is acknowledged", help="crossfade ack NOTICE, crossfade ack RUN, or --all")
        if not target:
            return list(self._store.alerts.ls(open_only=True, limit=MOST))
        named = [row for row in self._store.alerts.ls(limit=MOST) if row.id.startswith(target)]
        if len(named) > 1:
            raise UsageError(f"{target!r} could be more than one notice", help="type more of it")
        if named:
            return [row for row in named if row.open]
        run, stage = self._service.find(target)
        rows = self._store.alerts.ls(run_id=run.run_id, open_only=True, limit=MOST)
        return [row for row in rows if stage is None or row.n == stage.n]

    def ack(self, rows: Sequence[AlertRow], *, reason: str) -> list[View]:
        """Acknowledge them: they are not told again. Raises UsageError, NotFound."""
        if not reason.strip():
            raise UsageError("an acknowledgement needs a reason", help='--reason "I look at it"')
        if not rows:
            raise NotFound("nothing there is to be acknowledged", help="see `crossfade notices ls`")
        ids = [row.id for row in rows]
        done = self._store.alerts.ack(ids, by=self._service.actor, reason=reason, now=self._clock())
        return [notice_view(row) for row in done]


def notice_view(row: AlertRow) -> View:
    """As people and programs read it."""
    body = json.loads(row.body)
    return {
        "notice": row.id,
        "kind": row.kind,
        "state": row.state,
        "run": row.run_id or None,
        "stage": body.get("stage") or None,
        "about": row.about or None,
        "to": row.address,
        "text": clean_text(str(body["text"])),
        "help": body.get("help") or None,
        "created_at": when(row.created_at),
        "sent": row.number,
        "sent_at": when(row.sent_at),
        "next_at": when(row.due_at),
        "tries": row.tries,
        "error": clean_text(row.error) or None,
        "acked_by": row.acked_by or None,
        "acked_at": when(row.acked_at),
        "ack_reason": row.ack_reason or None,
        "over_at": when(row.over_at),
        "over_why": row.over_why or None,
    }
