"""The facility's own list of outages: what its status pages tell."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox.facility import Outage


class OutageBook:
    """Planned ones are told at once; others from their start on."""

    def __init__(self) -> None:
        self._all: list[Outage] = []

    def add(self, outage: Outage) -> None:
        self._all.append(outage)
        self._all.sort(key=lambda item: item.start)

    def told(self, now: int) -> Sequence[Outage]:
        return [item for item in self._all if item.planned or item.start <= now]

    def now(self, resource: str, now: int) -> Outage | None:
        """The outage of that part which holds now."""
        for item in self._all:
            if item.resource == resource and item.start <= now and (item.end is None or now < item.end):
                return item
        return None
