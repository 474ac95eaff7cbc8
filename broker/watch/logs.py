"""The ends of the jobs' logs, kept for whoever asks while the site is dark or gone."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence

from broker.store.base import AttemptRow, LogTail
from broker.watch.looked import Facts, Looked
from connectors.base import Site
from connectors.errors import SiteError
from connectors.secrets import scrub_bytes

LOG_BYTES = 64 * 1024
MORE = 4 * 1024
"""Bytes read before it: a secret that a job has printed just there is not to be cut in two, and kept in part."""
LOG_EVERY = 5_000_000
"""Microseconds between two reads of a running job's logs."""
TOGETHER = 64
"""Logs that one call brings: 4 MiB at most."""

Wanted = tuple[AttemptRow, str, str]
"""An attempt, which of its logs, and where that lies."""


class Logs:
    """Keeps the last 64 KiB of each log: of what has just ended, and now and then of what runs."""

    def __init__(self) -> None:
        self._next: dict[str, int] = defaultdict(int)

    def read(self, site: Site, rows: Sequence[AttemptRow], facts: Facts, now: int, looked: Looked) -> None:
        """Read the logs of these attempts; `facts`: what this look has learned of them."""
        regular = now >= self._next[site.name]
        if regular:
            self._next[site.name] = now + LOG_EVERY
        wanted: list[Wanted] = []
        for row in rows:
            found = facts.get(row.submit_key, {})
            started = str(found.get("started", row.started))
            if started and ("exit" in found or (regular and row.state == "RUNNING")):
                folder = f"{row.directory}/.crossfade/g{json.loads(started)['generation']}"
                wanted += [(row, name, f"{folder}/{name}") for name in ("stdout", "stderr")]
        for start in range(0, len(wanted), TOGETHER):
            for (row, name, _), tail in _tails(site, wanted[start : start + TOGETHER]):
                looked.sightings.logs.append(LogTail(row.run_id, row.n, row.number, name, tail, len(tail), now))


def _tails(site: Site, wanted: Sequence[Wanted]) -> Iterator[tuple[Wanted, bytes]]:
    """Those that hold anything. Most logs are short: one call brings them all, and only a long one's end is asked for
    by itself."""
    try:
        contents = site.read_many([path for _, _, path in wanted], limit=LOG_BYTES + 1)
    except SiteError:
        return
    for one in wanted:
        tail = contents.get(one[2], b"")
        if len(tail) > LOG_BYTES:
            try:
                tail = site.read(one[2], offset=-LOG_BYTES - MORE, limit=LOG_BYTES + MORE)
            except SiteError:
                continue
        if tail:
            yield one, scrub_bytes(tail)[-LOG_BYTES:]
