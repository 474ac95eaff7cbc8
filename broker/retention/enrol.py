"""Folders of attempts whose run is over, as entries to be removed after the time that their site's `keep` says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from broker.states import RunState
from broker.store.base import EndedAttempt, RetentionRow, Store
from connectors.registry import SiteConfig

WHOLE = json.dumps({"attempt": True})
"""In `unless`: an attempt's whole folder."""
MOST = 5_000
"""Attempts enrolled of a site in one pass."""
SETTLE = 60_000_000
"""Microseconds for which a run must have been over: ends are not written down in their own order."""


def enrol(store: Store, config: SiteConfig, *, now: int) -> None:
    """Enrol what has ended there since the last time. Safe to repeat, and to do twice at once."""
    if config.keep_attempts is None and config.keep_failed is None:
        return
    mark = f"retention:{config.name}"
    after = _mark(store.notes.get([mark]))
    found = store.ended_attempts(config.name, after=after, until=now - SETTLE, limit=MOST)
    if not found:
        return
    last = found[-1]
    if len(found) == MOST and found[0].run_id != last.run_id:  # its other attempts are for the next time
        found = [one for one in found if one.run_id != last.run_id]
        last = found[-1]
    store.enrol_retention(list(_rows(found, config, now)))
    store.notes.put(mark, json.dumps([last.run_ended_at, last.run_id]))


def kept_for(config: SiteConfig, run_state: str) -> float | None:
    """Seconds that folders of such a run stay there; None: for ever."""
    return config.keep_attempts if run_state == RunState.SUCCEEDED else config.keep_failed


def _rows(found: Sequence[EndedAttempt], config: SiteConfig, now: int) -> Iterator[RetentionRow]:
    for one in found:
        after = kept_for(config, one.run_state)
        if after is not None:
            yield RetentionRow(
                key=f"attempt:{one.submit_key}",
                run_id=one.run_id,
                n=one.n,
                attempt=one.number,
                side=config.name,
                path=f"{one.directory}/",
                files="",
                unless=WHOLE,
                due_at=one.run_ended_at + round(after * 1e6),
                state="waiting",
                reason="",
                created_at=now,
                done_at=None,
            )


def _mark(notes: Mapping[str, str]) -> tuple[int, str]:
    text = next(iter(notes.values()), "")
    at, run_id = json.loads(text) if text else (0, "")
    return int(at), str(run_id)
