"""The mover between this machine and a site behind ssh, by rsync: files of any size, gone on with where they broke off.

All of a transfer is first brought to `<destination root>/incoming/<key>/`, and hashed at both ends; only when all of it
is right is it renamed into place, by one script there that leaves the receipt `incoming/<key>.done` as its last deed.
A mover that was restarted answers UNKNOWN; asked again under the same key it goes on with what has arrived.

Nothing is installed anywhere. Where one end has no rsync, its first transfer says so, and the mover refuses that site
for a while: then there is still the relay.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping, Sequence

from connectors.errands import Errand, Errands
from connectors.model import SubmitAnswer, Transfer, TransferStatus
from connectors.paths import RESERVED
from connectors.registry import Clock
from connectors.rsync.courier import Courier
from connectors.rsync.ends import End, Side
from connectors.rsync.program import PROGRAM, Lacking
from connectors.ssh.reach import Reach

PAUSES = (1.0, 5.0, 20.0)
"""Seconds before each further try after the connection broke."""
LACKING = 3_600 * 1_000_000
"""µs for which a site that had no rsync is not asked again."""


class RsyncMover:
    """The port `connectors.base.Mover` between `sides`, by the names that transfers call them: one end is here, the
    other one behind ssh. `submit` and `status` ask no site."""

    crosses_network = True

    def __init__(
        self, sides: Mapping[str, Side], clock: Clock, *, threads: int = 2, pauses: Sequence[float] = PAUSES
    ) -> None:
        self._sides, self._clock, self._pauses = sides, clock, pauses
        self._errands = Errands(self._carry, name="rsync", unfit=self._unfit, reserved=RESERVED, threads=threads)
        self._lacking: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        """Begin. A key that failed, or was canceled, begins again."""
        return self._errands.submit(transfers)

    def refuses(self, transfer: Transfer) -> str:
        """Whatever does not go between this machine and a site behind ssh, and sites that had no rsync lately."""
        unfit = self._unfit(transfer)
        if unfit:
            return unfit
        if shutil.which(PROGRAM) is None:
            return f"there is no {PROGRAM} on this machine: install it"
        with self._lock:
            for name in (transfer.source_site, transfer.destination_site):
                why, since = self._lacking.get(name, ("", 0))
                if why and self._clock() - since < LACKING:
                    return why
        return ""

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        return self._errands.status(keys)

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """True: rsync has ended, at both ends as far as they answer, and nothing more is put in place."""
        return self._errands.cancel(keys)

    def close(self) -> None:
        """Stop what is under way and wait for the threads."""
        self._errands.close()

    # -- behind ----------------------------------------------------------------------------------------

    def _unfit(self, transfer: Transfer) -> str:
        names = (transfer.source_site, transfer.destination_site)
        for name in names:
            if name not in self._sides:
                return f"{name or 'the broker'} is reached neither on this machine nor by ssh"
        far = [name for name in names if isinstance(self._sides[name], Reach)]
        if len(far) == 2:
            return "both ends are elsewhere"
        return "" if far else "both ends are on this machine: that is copied"

    def _carry(self, errand: Errand) -> None:
        transfer = errand.transfer
        source, destination = (
            End(name, self._sides[name], stop=errand.stop) for name in (transfer.source_site, transfer.destination_site)
        )
        try:
            Courier(errand, source=source, destination=destination, pauses=self._pauses).carry(self._clock)
        except Lacking as lacking:
            with self._lock:
                self._lacking[lacking.site] = str(lacking), self._clock()
            raise
