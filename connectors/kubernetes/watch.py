"""What is known of the Jobs that are asked about, kept between looks and brought up to date by a watch at each look.

No look is answered without the cluster having answered it: a watch of a second tells what has changed since the last
one, and the cluster itself ends it. Where the watch cannot go on, or is not allowed, or has gone on for long, a list
takes its place. What is kept can be lost at any moment, at the price of a list. See ADR 20.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.errors import BadReply, CredentialError, RequestRefused, SiteError, SiteUnreachable
from connectors.http import DEADLINE
from connectors.kubernetes.questions import NAMED, Event, Listed, Lost, Questions, key_of, uid_of, version_of
from connectors.kubernetes.states import mapping
from connectors.registry import Clock

ANEW = 300.0
"""Seconds after which all is listed anew, whatever the watch has told: so long can a missed event last."""
SHORT, LONG = 1, 4
"""Seconds of a watch; the cluster sends a bookmark two seconds before the end, where there are two."""
STANDSTILL = 45.0
"""Seconds without a newer version, after which a long watch brings a bookmark: old versions are soon forgotten."""
LOOK = 45.0
"""Seconds for a look with all its questions; a look waits as long for one that another thread makes."""
MOST = 100_000
"""Objects of a kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The Jobs behind some keys, and the pods of these."""

    jobs: Sequence[Mapping[str, Any]]
    pods: Mapping[str, Sequence[Mapping[str, Any]]]
    """By key; of Jobs that are over and well there may be none."""
    as_of: int
    """When the cluster was asked."""


@dataclass(slots=True)
class Kept:
    """The objects of one kind, by uid, as of a version."""

    path: str
    site: str
    held: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    version: int | None = None
    """None: a watch cannot go on from here."""
    moved_at: int = 0
    """When the version last became a newer one, or a bookmark was asked for."""
    lists_until: int = 0
    """Until then the watch is not tried: it was refused, or told nonsense."""
    trouble: str = ""
    """Why that is so."""

    def begin(self, listed: Listed, keys: Collection[str], now: int) -> None:
        """What a list says, instead of all that was known."""
        self.held = {}
        self.put(listed.items, keys)
        self.version, self.moved_at = listed.version, now

    def put(self, items: Iterable[Mapping[str, Any]], keys: Collection[str]) -> None:
        """What a list says of these keys, instead of what was known of them."""
        self.held = {uid: item for uid, item in self.held.items() if key_of(item) not in keys}
        self.held.update({uid: item for item in items if key_of(item) in keys and (uid := uid_of(item))})

    def take(self, events: Iterable[Event], keys: Collection[str], now: int) -> None:
        """What has happened, in order. Raises Lost for what cannot have happened after what is known."""
        for event in events:
            behind = self.version is not None and event.version <= self.version
            if event.word == "BOOKMARK":
                if behind and event.version != self.version:
                    raise Lost(f"{self.site}: the cluster has gone back in time", site=self.site)
            elif key_of(event.item) in keys:
                self._take(event, behind=behind)
            if not behind:
                self.version, self.moved_at = event.version, now
        if len(self.held) > MOST:
            raise BadReply(f"{self.site}: the watch tells of more than {MOST} objects", site=self.site)

    def _take(self, event: Event, *, behind: bool) -> None:
        """`behind`: it is not newer than what is known, so it must be known already."""
        uid = uid_of(event.item)
        known = self.held.get(uid)
        told = known is None if event.word == "DELETED" else known is not None and version_of(known) >= event.version
        if behind and not told:  # to believe it might bring back what is gone
            raise Lost(f"{self.site}: the watch tells things out of order", site=self.site)
        if event.word == "DELETED":
            self.held.pop(uid, None)
        elif not told:
            self.held[uid] = event.item


class Watch:
    """Thread-safe: looks that come while one is under way wait, and share what it learned."""

    def __init__(self, questions: Questions, *, jobs: str, pods: str, clock: Clock) -> None:
        self.questions, self._clock, site = questions, clock, questions.site
        self._jobs, self._pods = Kept(path=jobs, site=site), Kept(path=pods, site=site)
        self._keys: frozenset[str] = frozenset()
        """What was asked about since all was listed last. Of other keys nothing is kept."""
        self._listed_at = self._as_of = self._rounds = 0
        self._end = 0.0
        self._lock = threading.Lock()

    @property
    def trouble(self) -> str:
        """Why looks are lists at the moment; empty: they need not be."""
        return self._jobs.trouble or self._pods.trouble

    def known(self, keys: Collection[str]) -> Known:
        """The Jobs behind these keys, as the cluster has just told. One without a Job was asked for by name.

        Raises SiteUnreachable, also when another thread's look has had no answer for so long.
        """
        before, asked = self._rounds, frozenset(keys)
        if not self._lock.acquire(timeout=LOOK):
            raise self._silent("another look has had no answer yet")
        try:
            # a look that ended after this one came has heard from the cluster after this one came
            if self._rounds == before or not asked <= self._present():
                self._refresh(asked)
                self._rounds += 1
            return self._answer(asked)
        finally:
            self._lock.release()

    # -- one look ------------------------------------------------------------------------------------------

    def _refresh(self, keys: frozenset[str]) -> None:
        now = self._clock()
        self._end = self.questions.http.elapsed() + LOOK
        new = keys - self._keys
        if len(new) > NAMED or not 0 <= now - self._listed_at < ANEW * 1e6:
            self._keys, self._listed_at = keys, now
            self._jobs.version = self._pods.version = None
        self._keys |= new
        if self._brought(self._jobs, now):
            # an absence is believed when the cluster was asked for the very key
            self._ask_again(self._jobs, new | (keys - self._present()), now)
        if any(not over_and_well(job) for job in self._jobs.held.values()) and self._brought(self._pods, now):
            self._ask_again(self._pods, new & self._present(), now)  # theirs may be older than this watch
        self._as_of = now

    def _brought(self, kept: Kept, now: int) -> bool:
        """Bring what is kept up to date. True: by what has happened; False: by a list of all."""
        trouble: SiteError | None = None
        if kept.version is not None and now >= kept.lists_until:
            try:
                self._go_on(kept, kept.version, now)
                return True
            except (Lost, SiteUnreachable, BadReply, CredentialError, RequestRefused) as error:
                if isinstance(error, SiteUnreachable) and not error.effect_possible:
                    raise  # nobody was reached
                trouble = error
        kept.version = None
        self._list(kept, now)
        if trouble is not None and not isinstance(trouble, Lost):  # lists are answered, the watch is not
            kept.lists_until, kept.trouble = now + round(ANEW * 1e6), str(trouble)
        return False

    def _go_on(self, kept: Kept, version: int, now: int) -> None:
        stands = not 0 <= now - kept.moved_at < STANDSTILL * 1e6
        seconds = LONG if stands else SHORT
        events = self.questions.happened(kept.path, version, seconds=seconds, deadline=self._left())
        kept.take(events, self._keys, now)
        kept.trouble = ""
        if seconds == LONG:
            kept.moved_at = now  # whether or not a bookmark came: the next one is asked for a while later

    def _list(self, kept: Kept, now: int) -> None:
        names = ",".join(sorted(self._keys)) if len(self._keys) <= NAMED else ""
        kept.begin(self.questions.listed(kept.path, names, deadline=self._left()), self._keys, now)

    def _ask_again(self, kept: Kept, keys: Collection[str], now: int) -> None:
        """Ask for these by name."""
        if len(keys) > NAMED:
            self._list(kept, now)
        elif keys:
            listed = self.questions.listed(kept.path, ",".join(sorted(keys)), deadline=self._left())
            if listed.version is None or kept.version is None or listed.version < kept.version:
                self._list(kept, now)  # it has gone back in time, and so has all that is kept
            else:
                kept.put(listed.items, keys)

    # -- what is kept --------------------------------------------------------------------------------------

    def _present(self) -> frozenset[str]:
        return frozenset(key_of(job) for job in self._jobs.held.values())

    def _answer(self, keys: frozenset[str]) -> Known:
        pods: dict[str, list[Mapping[str, Any]]] = {}
        for pod in self._pods.held.values():
            pods.setdefault(key_of(pod), []).append(pod)
        jobs = [job for job in self._jobs.held.values() if key_of(job) in keys]
        return Known(jobs=jobs, pods=pods, as_of=self._as_of)

    def _left(self) -> float:
        left = self._end - self.questions.http.elapsed()
        if left <= 0:
            raise self._silent("the look has had no answer in time")
        return min(left, DEADLINE)

    def _silent(self, why: str) -> SiteUnreachable:
        return SiteUnreachable(f"{self.questions.site}: {why}", site=self.questions.site)


def over_and_well(job: Any) -> bool:
    """Did it end well, or was it never let go? Then its pods have nothing to add."""
    listed = mapping(mapping(job).get("status")).get("conditions")
    conditions = [mapping(item) for item in listed] if isinstance(listed, list) else []
    types = [one.get("type") for one in conditions if one.get("status") == "True"]
    return "Complete" in types or "Suspended" in types
