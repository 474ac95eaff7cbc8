"""One transfer as the simulated transfer service remembers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from connectors.model import Transfer, TransferState, TransferStatus


@dataclass(slots=True)
class Errand:
    """Begun at `began_at`, due at `due_at` (µs; None: stalled), and then settled once."""

    transfer: Transfer
    attempt: int
    began_at: int
    due_at: int | None
    bytes: int
    mishap: str = ""
    """`corrupt` or `vanished`: what will befall it."""
    state: TransferState = TransferState.ACTIVE
    reason: str = ""
    fault: str = ""
    site: str = ""
    bad_items: Sequence[str] = ()

    def fail(self, reason: str, *, fault: str, site: str = "", bad_items: Sequence[str] = ()) -> None:
        self.state = TransferState.FAILED
        self.reason = reason
        self.fault = fault
        self.site = site
        self.bad_items = bad_items

    def status(self, now: int) -> TransferStatus:
        return TransferStatus(
            key=self.transfer.key,
            state=self.state,
            bytes_moved=self._moved(now),
            reason=self.reason,
            fault=self.fault,
            site=self.site,
            bad_items=self.bad_items,
        )

    def _moved(self, now: int) -> int:
        if self.state is TransferState.SUCCEEDED:
            return self.bytes
        if self.state is TransferState.FAILED or self.due_at is None or self.due_at <= self.began_at:
            return 0
        return self.bytes * min(now - self.began_at, self.due_at - self.began_at) // (self.due_at - self.began_at)
