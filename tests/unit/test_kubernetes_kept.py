"""What is kept of a cluster between two looks, event by event."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from connectors.kubernetes.questions import Event, Listed, Lost, pared
from connectors.kubernetes.watch import Kept


def event(word: str, version: int, uid: str = "u1", key: str = "cf1") -> Event:
    meta = {"uid": uid, "resourceVersion": str(version), "labels": {"crossfade/key": key}}
    return Event(word=word, item=pared({"metadata": meta}), version=version)


def kept(*events: Event) -> Kept:
    found = Kept(path="/jobs", site="cloud")
    found.begin(Listed(items=[], version=10), ["cf1"], 0)
    found.take(events, ["cf1"], 1)
    return found


def test_events_move_the_version_and_bookmarks_do() -> None:
    assert kept(event("ADDED", 11), event("BOOKMARK", 15)).version == 15
    assert set(kept(event("ADDED", 11), event("MODIFIED", 12)).held) == {"u1"}
    assert not kept(event("ADDED", 11), event("DELETED", 12)).held
    assert not kept(event("ADDED", 11, key="cf2")).held


def test_what_was_told_already_is_no_news() -> None:
    twice = kept(event("ADDED", 11), event("ADDED", 11), event("DELETED", 12), event("DELETED", 12))
    assert (twice.held, twice.version) == ({}, 12)


@pytest.mark.parametrize(
    "events",
    [
        [event("ADDED", 11), event("DELETED", 12), event("ADDED", 11)],
        [event("ADDED", 12), event("ADDED", 11, "u2")],
        [event("ADDED", 12), event("DELETED", 11)],
        [event("BOOKMARK", 9)],
    ],
)
def test_an_older_word_is_a_reason_for_a_list_and_brings_nothing_back(events: Sequence[Event]) -> None:
    with pytest.raises(Lost):
        kept(*events)
