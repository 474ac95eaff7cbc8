"""Checking a stream of events: was anything changed, taken out, put in or cut off?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from broker.store.base import EventRow, event_hash


class BrokenLink(NamedTuple):
    """Where a chain breaks first, and how."""

    seq: int
    why: str


def verify_chain(events: Iterable[EventRow], tip: str) -> BrokenLink | None:
    """The first fault in a whole stream (all its events from the first, in order), or None if it holds.

    `tip` is the newest hash as `Store.streams` gives it (empty for a stream without events); better, one that was
    kept elsewhere: who can rewrite all rows can rewrite the tip beside them too.
    """
    expected, previous = 1, ""
    for event in events:
        if event.seq != expected:
            return BrokenLink(expected, f"event {expected} is missing; the next one there is {event.seq}")
        if event_hash(previous, event[:-1]) != event.hash:
            return BrokenLink(event.seq, f"event {event.seq} does not fit its hash: it, or one before, was changed")
        expected, previous = expected + 1, event.hash
    if previous != tip:
        return BrokenLink(
            expected, f"the chain ends at event {expected - 1}, which is not its tip: the end was cut off"
        )
    return None
