"""The mover between any two sites, seen through their files alone: this machine reads at one and writes at the other.

Each file is hashed at its source, read, hashed here, written under an incoming name and hashed there; only when all are
right are they put in place and hashed once more. Then a receipt `relay/<key>.done` is written at the destination: a
mover that was restarted answers UNKNOWN, and asked again under the same key finds that there is nothing left to do.

Everything goes through this machine, and each file through its memory: what is larger than `Limits` is FAILED with
«needs Globus». A file's mode is not carried (the ports do not tell it), nor are folders without files.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from connectors.base import SiteFiles
from connectors.errands import RELAYED, Errand, Errands
from connectors.errors import SiteError
from connectors.model import SubmitAnswer, Transfer, TransferStatus
from connectors.paths import RESERVED
from connectors.registry import Clock
from connectors.relay.carrier import INCOMING, Carrier
from connectors.relay.plan import Limits
from connectors.relay.side import Source

STALE = 86_400 * 1_000_000
"""Microseconds after which an incoming file has been left behind by a process that died."""


class RelayMover:
    """The port `connectors.base.Mover` from `sources` to `destinations`, by the names that transfers call them.

    `limits`: by site; a site without is taken to have the usual ones. A canceled transfer is FAILED with the reason
    "canceled" and no fault. `submit` and `status` ask no site.
    """

    crosses_network = True

    def __init__(
        self,
        sources: Mapping[str, Source],
        destinations: Mapping[str, SiteFiles],
        clock: Clock,
        *,
        limits: Mapping[str, Limits] | None = None,
        threads: int = 2,
    ) -> None:
        self._sources, self._destinations, self._clock = sources, destinations, clock
        self._limits = limits or {}
        self._lock = threading.Lock()
        self._errands = Errands(
            self._carry, name="the relay", unfit=self._unfit, reserved={*RESERVED, RELAYED}, threads=threads
        )
        self._swept: set[str] = set()

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        """Begin. A key that failed, or was canceled, begins again."""
        return self._errands.submit(transfers)

    def refuses(self, transfer: Transfer) -> str:
        """What it has no files of, and what is known beforehand to be too large."""
        for name, sides in ((transfer.source_site, self._sources), (transfer.destination_site, self._destinations)):
            if name not in sides:
                return f"{name or 'the broker'} has no files that this machine could pass on"
        limits, sizes = self._limits_of(transfer), [item.size or 0 for item in transfer.items]
        if max(sizes, default=0) > limits.file or sum(sizes) > limits.transfer or len(sizes) > limits.files:
            return f"it is too large to pass through this machine ({sum(sizes)} bytes in {len(sizes)} files)"
        return ""

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        return self._errands.status(keys)

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        return self._errands.cancel(keys)

    def close(self) -> None:
        """Stop what is under way and wait for the threads."""
        self._errands.close()

    # -- behind ----------------------------------------------------------------------------------------

    def _unfit(self, transfer: Transfer) -> str:
        for name, sides in ((transfer.source_site, self._sources), (transfer.destination_site, self._destinations)):
            if name not in sides:
                known = ", ".join(sorted(filter(None, sides))) or "none"
                return f"no files are known for site {name!r} (known: {known})"
        return ""

    def _carry(self, errand: Errand) -> None:
        transfer = errand.transfer
        self._sweep(transfer.destination_site)
        carrier = Carrier(
            transfer,
            source=self._sources[transfer.source_site],
            destination=self._destinations[transfer.destination_site],
            limits=self._limits_of(transfer),
            stop=errand.stop,
        )
        carrier.carry(progress=errand.add, at=self._clock)

    def _limits_of(self, transfer: Transfer) -> Limits:
        """What both sides allow: where one is the broker's own store, the other says."""
        sides = [self._limits[n] for n in (transfer.source_site, transfer.destination_site) if n in self._limits]
        return Limits.least(sides) if sides else Limits()

    def _sweep(self, site: str) -> None:
        """Once in a mover's life: remove what dead processes left at a destination."""
        with self._lock:
            if site in self._swept:
                return
            self._swept.add(site)
        files = self._destinations[site]
        with suppress(SiteError):
            before = self._clock() - STALE
            old = [i.path for i in files.list(INCOMING) if not i.is_dir and 0 < i.modified_at < before]
            if old:
                files.remove(old)
