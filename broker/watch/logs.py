"""The ends of the jobs' logs, kept for whoever asks while the site is dark or gone."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

from broker.store.base import AttemptRow, LogTail
from broker.watch.looked import Facts, Looked
from connectors.base import Site
from connectors.errors import SiteError

LOG_BYTES = 64 * 1024
LOG_EVERY = 5_000_000
"""Microseconds between two reads of a running job's logs."""


class Logs:
    """Keeps the last 64 KiB of each log: of what has just ended, and now and then of what runs."""

    def __init__(self) -> None:
        self._next: dict[str, int] = defaultdict(int)

    def read(self, site: Site, rows: Sequence[AttemptRow], facts: Facts, now: int, looked: Looked) -> None:
        """Read the logs of these attempts; `facts`: what this look has learned of them."""
        regular = now >= self._next[site.name]
        if regular:
            self._next[site.name] = now + LOG_EVERY
        for row in rows:
            found = facts.get(row.submit_key, {})
            started = str(found.get("started", row.started))
            if started and ("exit" in found or (regular and row.state == "RUNNING")):
                _log(site, row, json.loads(started)["generation"], now, looked)


def _log(site: Site, row: AttemptRow, generation: int, now: int, looked: Looked) -> None:
    for name in ("stdout", "stderr"):
        path = f"{row.directory}/.crossfade/g{generation}/{name}"
        try:
            tail = site.read(path, offset=-LOG_BYTES, limit=LOG_BYTES)
        except SiteError:
            continue
        if tail:
            looked.sightings.logs.append(LogTail(row.run_id, row.n, row.number, name, tail, len(tail), now))
