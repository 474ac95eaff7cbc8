"""The simulated sites of one process, and the places that a simulated mover reaches."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.registry import Clock
from sandbox.errand import Errand
from sandbox.places import FolderPlace, MemoryPlace, Place, SitePlace

if TYPE_CHECKING:
    from sandbox.connector import SimulatedSite


REMEMBERED = 20_000
"""Transfers; one that is forgotten is UNKNOWN, and asking again moves it again, harmlessly."""


class SimulatedWorld:
    """Sites and places by name. A name that is given again replaces what had it."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self.errands: dict[str, Errand] = {}
        """What transfers were asked for: the memory of the transfer service, which outlives its clients."""
        self.active: dict[str, Errand] = {}
        """Those that have not ended."""

    def apart(self) -> SimulatedWorld:
        """The same places, now and later, with a memory of transfers of its own: it is gone with who has it."""
        other = SimulatedWorld()
        other._places = self._places
        return other

    def add(self, site: SimulatedSite) -> SimulatedSite:
        self._places[site.name] = SitePlace(site)
        return site

    def add_folder(self, name: str, root: Path) -> None:
        """A real folder, such as the broker's own store."""
        self._places[name] = FolderPlace(name, root)

    def add_memory(self, name: str) -> MemoryPlace:
        """A place that is never down, such as the broker's own store in a simulation."""
        place = MemoryPlace(name)
        self._places[name] = place
        return place

    def begin(self, errand: Errand) -> None:
        """Remember a transfer. Of the ended ones the oldest is forgotten beyond REMEMBERED."""
        key = errand.transfer.key
        self.errands.pop(key, None)
        self.errands[key] = errand
        self.active[key] = errand
        if len(self.errands) > REMEMBERED:
            oldest = next((key for key in self.errands if key not in self.active), None)
            if oldest is not None:
                del self.errands[oldest]

    def site(self, name: str) -> SimulatedSite:
        place = self.place(name)
        if not isinstance(place, SitePlace):
            raise LookupError(f"{name} is a place, not a simulated site")
        return place.site

    def place(self, name: str) -> Place:
        """Raises LookupError with the names there are."""
        if name not in self._places:
            known = ", ".join(sorted(self._places)) or "none"
            raise LookupError(f"no place named {name!r} in this simulation (there are: {known})")
        return self._places[name]


_WORLDS: weakref.WeakKeyDictionary[Clock, SimulatedWorld] = weakref.WeakKeyDictionary()


def world_of(clock: Clock) -> SimulatedWorld:
    """The world of one time line: sites that share a clock can reach one another.

    `make` has no other way to tell which sites belong together: the registry hands it a site's own entry and the
    clock. A simulation that wants a world of its own makes a SimulatedWorld and adds its sites.
    """
    world = _WORLDS.get(clock)
    if world is None:
        world = _WORLDS[clock] = SimulatedWorld()
    return world
