"""The site's own word on our jobs, as facts of their attempts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from broker.store.base import AttemptRow
from broker.watch.looked import Facts
from broker.watch.records import heartbeat, search_exit
from connectors.base import Site
from connectors.model import JobState, JobStatus
from connectors.registry import SiteConfig

GATED_EXIT = 73
"""The harness's exit code of a job that found its attempt claimed by another one."""


def statuses(site: Site, rows: Sequence[AttemptRow]) -> tuple[dict[str, JobStatus], bool]:
    """What the site says of these attempts' jobs, by key; and whether its listing is complete."""
    if not rows:
        return {}, False
    listing = site.status([row.submit_key for row in rows])
    return _by_key(listing.items), listing.complete


def take_word(
    site: Site,
    row: AttemptRow,
    status: JobStatus | None,
    *,
    complete: bool,
    config: SiteConfig,
    now: int,
    facts: Facts,
) -> None:
    """The site's word on a job, if it is a new one. A final one counts when it is said again a settle time later."""
    if status is None and not (complete and row.answer):
        return
    if status is not None and status.state is JobState.UNKNOWN:
        return
    fact = _job_fact(status)
    before = json.loads(row.job) if row.job else {}
    wait, same = config.settle, before.get("state") == fact["state"]
    if fact["exit_code"] == GATED_EXIT and not row.exit and not before.get("confirmed"):
        # turned away at the start gate: whoever holds it may live where the site's books know nothing of it
        fact["beat"] = heartbeat(site, row)
        wait, same = config.settle + config.fence, same and fact["beat"] == before.get("beat")
    since = before["since"] if same else now
    # said again a settle time later: a listing that lags, or a record on its way, would have arrived by now
    fact["confirmed"] = since + round(wait * 1e6) <= now
    fact["confirmed"] &= complete and JobState(fact["state"]).final
    if all(before.get(name) == value for name, value in fact.items()):
        return
    text = json.dumps({**fact, "since": since}, separators=(",", ":"))
    found = facts.setdefault(row.submit_key, {})
    found["job"] = text
    if status is not None and status.native_id != row.native_id:
        found["native_id"] = status.native_id
    if JobState(fact["state"]).final and "exit" not in found and not row.exit:
        search_exit(site, row, found)


def _by_key(items: Sequence[JobStatus]) -> dict[str, JobStatus]:
    """One status per key. Several jobs may carry a key; the one that the start gate turned away leads nowhere."""
    best: dict[str, JobStatus] = {}
    for item in items:
        other = best.get(item.key)
        if other is None or _rank(item) > _rank(other):
            best[item.key] = item
    return best


def _rank(item: JobStatus) -> tuple[bool, bool, int]:
    return item.exit_code != GATED_EXIT, not item.state.final, item.started_at or 0


def _job_fact(status: JobStatus | None) -> dict[str, Any]:
    if status is None:
        return {"state": JobState.LOST.value, "restarts": 0, "exit_code": None, "native_state": "", "native_reason": ""}
    fact: dict[str, Any] = {
        "state": status.state.value,
        "restarts": status.restarts,
        "exit_code": status.exit_code,
        "native_state": status.native_state,
        "native_reason": status.native_reason,
    }
    if status.stuck_reason:
        fact["stuck"] = status.stuck_reason
    if status.started_at is not None:
        fact["started_at"] = status.started_at
    if status.ended_at is not None:
        fact["ended_at"] = status.ended_at
    return fact
