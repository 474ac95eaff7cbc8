"""Events as lines that a person reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from broker.store.base import EventRow

_WORDS: dict[str, str] = {
    "placed": "placed at {site} ({why})",
    "queued": "queued at {site}",
    "running": "running at {site}",
    "verifying": "ended well at {site}; its outputs are being verified",
    "failed": "failed: {reason}",
    "timed_out": "ran into its time limit at {site}",
    "preempted": "preempted at {site}",
    "canceled": "canceled: {reason}",
    "superseded": "no longer needed at {site}",
    "skipped": "skipped: {reason}",
    "unreachable": "UNREACHABLE, not failed: {site} gives no answer",
    "reachable": "can be seen again at {site}",
    "failover": "leaves {from}: {reason}",
    "restore": "goes on from checkpoint {seq}, kept at {from}",
    "ship": "sends a copy of checkpoint {seq} to {to}",
    "inputs": "inputs sent ahead to {to}: {why}",
    "prune": "removes old copies of checkpoints at {site}: {seqs}",
    "interval": "is asked for a checkpoint every {every} s",
    "asked": "is asked to save itself at {site}",
    "leaves": "leaves {from} for {to}: {reason}",
    "ends_here": "is ended at {site}: {reason}",
    "asks": "waits for a person: {reason}",
    "published": "done: its product is at {site}",
    "stuck": "waits for a person: {reason}",
    "waits": "waits: {reason}",
    "judged": "{fault}: {outcome}",
    "silent": "cannot be asked: {detail}",
    "answers": "answers again after {silent_for} s",
    "deadline_at_risk": "its deadline is at risk: {fact}",
    "deadline_missed": "its deadline is missed: {fact}",
    "deadline_safe": "is expected to be done in time again: {fact}",
    "acknowledged": "{kind} acknowledged: {reason}",
    "submitted": "submitted with {stages} stages",
    "waiver_asked": "{waiver} asked for: {rule} at {side}: {reason}",
    "waiver_confirmed": "{waiver} holds: {rule} is waived at {side}: {reason}",
    "waiver_withdrawn": "{waiver} is withdrawn: {rule} holds at {side} again",
    "removed": "{path}: {files} files removed, as `keep` says ({bytes} bytes)",
    "run_running": "goes on",
    "run_waiting": "waits: {reason}",
    "run_succeeded": "succeeded: every stage that was wanted has its product",
    "run_failed": "failed",
    "run_canceled": "canceled",
}
_OF_COPIES = {
    "placed": "begins to copy to {to} ({why})",
    "published": "done: copied to {to}",
    "cancel": "asks the mover to stop",
}
"""Of what is at no site."""
QUIET = frozenset({"staging_in", "submitting", "queued", "verifying", "succeeded", "stays", "reopened"})
"""Steps that `timeline` lists and a person who only watches need not read."""


def sentence(event: EventRow) -> str:
    """What happened, without when and to whom."""
    data: Mapping[str, Any] = json.loads(event.data)
    if event.kind == "restore" and data.get("seq") is None:
        return "starts from the beginning"
    if event.kind == "ship" and not data.get("to"):
        return f"keeps checkpoint {data.get('seq')} where it is"  # `explain` says for how long, and why
    if data.get("site") == "" and event.kind in _OF_COPIES:
        return _OF_COPIES[event.kind].format(why=data.get("why", ""), to=", ".join(data.get("to") or ["its places"]))
    known = _WORDS.get(event.kind)
    filled = _filled(known, data) if known else None
    if filled is not None:
        return filled
    words = "; ".join(f"{name} {value}" for name, value in data.items() if value not in (None, ""))
    kind = event.kind.replace("_", " ")
    return f"{kind}: {words}" if words else kind


def _filled(words: str, data: Mapping[str, Any]) -> str | None:
    try:
        return words.format_map(data)
    except (KeyError, IndexError, ValueError):
        return None


def subject(event: EventRow) -> str:
    """Whom it happened to: a stage's attempt, a site, or the run."""
    if event.stage:
        return f"{event.stage}@{event.attempt}" if event.attempt else event.stage
    return event.stream.partition(":")[2] if ":" in event.stream else "run"


def clock_line(event: EventRow) -> str:
    """One line of a log."""
    return f"{local_time(event.at)} {subject(event)} {sentence(event)}"


def local_time(at: int) -> str:
    """The time of day, here."""
    return datetime.fromtimestamp(at / 1e6, UTC).astimezone().strftime("%H:%M:%S")
