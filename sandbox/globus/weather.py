"""What befalls collections by the clock: from fault scripts, or as tests have it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sandbox.globus.collections import Collection
from sandbox.globus.troubles import DEAD
from sandbox.script import BadScript, FaultScript, Rule
from sandbox.script_names import By


class Land(Protocol):
    """What weather befalls."""

    @property
    def collections(self) -> Mapping[str, Collection]: ...
    def purge(self, *, older: float = 0) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """One thing that befalls some collections for a time. Times are µs; `end` None: for ever."""

    kind: str
    """A name of `SPELLS`, or `history_purged`."""
    start: int
    end: int | None = None
    collection: str = ""
    """A regular expression, found anywhere in the name or the id; empty: all of them."""
    words: Mapping[str, Any] = field(default_factory=dict)

    def befalls(self, collection: Collection) -> bool:
        return re.search(self.collection, f"{collection.display_name} {collection.id}") is not None


SPELLS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], object]]] = {
    "collection_down": ("down", lambda words: str(words.get("code", DEAD))),
    "collection_slow": ("rate", lambda words: float(words.get("rate", 1000))),
    "collection_paused": ("paused", lambda words: str(words.get("message", "Paused for maintenance"))),
    "collection_full": ("room", lambda words: int(words.get("room", 0))),
    "collection_readonly": ("readonly", lambda _: True),
    "login_expired": ("login_expired", lambda _: True),
    "login_hidden": ("login_hidden", lambda _: True),
    "session_required": ("session", lambda words: dict(words.get("parameters", {"session_message": "Log in again"}))),
}
"""What each spell does: which attribute of a collection it sets, and to what."""
PURGE = "history_purged"


class Weather:
    """Spells, and which of them have come and gone. Used under the service's lock."""

    def __init__(self, spells: Iterable[Spell]) -> None:
        self._coming = sorted(spells, key=lambda spell: spell.start)
        self._here: list[tuple[Spell, list[tuple[Collection, object]]]] = []

    def next_at(self, now: int) -> int | None:
        """When it changes next, after now."""
        ends = [spell.end for spell, _ in self._here if spell.end is not None]
        times = [at for at in (*(spell.start for spell in self._coming), *ends) if at > now]
        return min(times, default=None)

    def blow(self, land: Land, now: int) -> None:
        """Let begin what begins by now, and end what ends."""
        for spell, before in [one for one in self._here if one[0].end is not None and one[0].end <= now]:
            for collection, value in before:
                setattr(collection, SPELLS[spell.kind][0], value)
            self._here = [one for one in self._here if one[0] is not spell]
        while self._coming and self._coming[0].start <= now:
            spell = self._coming.pop(0)
            if spell.end is None or spell.end > now:
                self._begin(land, spell)

    def _begin(self, land: Land, spell: Spell) -> None:
        if spell.kind == PURGE:
            land.purge(older=float(spell.words.get("older", 0)))
            return
        name, value = SPELLS[spell.kind]
        befallen = [one for one in land.collections.values() if spell.befalls(one)]
        self._here.append((spell, [(one, getattr(one, name)) for one in befallen]))
        for one in befallen:
            setattr(one, name, value(spell.words))


def weather_of(script: FaultScript) -> Weather:
    """What a fault script has of it. Raises BadScript for parameters that make no sense."""
    return Weather([_spell(rule, script.began) for rule in _rules(script)])


def _rules(script: FaultScript) -> Sequence[Rule]:
    return script.timed("globus", by=By.COLLECTION)


def _spell(rule: Rule, began: int) -> Spell:
    start = began + round(rule.at * 1e6)
    try:
        if rule.fault in SPELLS:
            SPELLS[rule.fault][1](rule.params)
        re.compile(str(rule.params.get("collection", "")))
    except (TypeError, ValueError, re.error) as error:
        raise BadScript(f"{rule.fault}: {error}") from error
    return Spell(
        kind=rule.fault,
        start=start,
        end=None if rule.lasts is None else start + round(rule.lasts * 1e6),
        collection=str(rule.params.get("collection", "")),
        words=rule.params,
    )
