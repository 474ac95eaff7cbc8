"""Two movers as one: each transfer goes to the one that fits its two sides."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from connectors.base import ClosableMover
from connectors.model import SubmitAnswer, Transfer, TransferState, TransferStatus


class RoutedMover:
    """Between sites that are `here` (on this machine), `near`; as soon as one side is elsewhere, `far`. Keeps nothing
    in mind: both are asked of a key, and the one that does not know it does not count."""

    def __init__(self, *, near: ClosableMover, far: ClosableMover, here: Collection[str]) -> None:
        self._near, self._far, self._here = near, far, frozenset(here)

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        near = [t for t in transfers if {t.source_site, t.destination_site} <= self._here]
        far = [t for t in transfers if t not in near]
        return {**(self._near.submit(near) if near else {}), **(self._far.submit(far) if far else {})}

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        found = dict(self._far.status(keys))
        unknown = [key for key, status in found.items() if status.state is TransferState.UNKNOWN]
        return {**found, **(self._near.status(unknown) if unknown else {})}

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        near, far = self._near.cancel(keys), self._far.cancel(keys)
        return {key: near[key] and far[key] for key in keys}

    def close(self) -> None:
        self._near.close()
        self._far.close()
