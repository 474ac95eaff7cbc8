"""What movers that work in this process share: telling transfers apart, and what is known of one under way."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field

from connectors.errors import Fault, UnsafePath
from connectors.model import Transfer, TransferState, TransferStatus
from connectors.paths import clean, file_path

KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
PATIENCE = 0.05
"""Seconds that a cancel waits for a transfer to stop."""


class Canceled(Exception):
    """Somebody asked for the transfer's end."""


class TransferFailure(Exception):
    """The transfer has failed. `fault` None: canceled, nobody's fault. `site`: the side at fault."""

    def __init__(self, reason: str, *, fault: Fault | None, site: str) -> None:
        super().__init__(reason)
        self.fault = fault
        self.site = site


@dataclass(slots=True)
class Errand:
    """A transfer that this process works on or has failed at."""

    transfer: Transfer
    stop: threading.Event = field(default_factory=threading.Event)
    future: Future[None] | None = None
    moved: int = 0
    failure: TransferFailure | None = None
    ended: bool = False

    def add(self, count: int) -> None:
        self.moved += count

    def end(self, failure: TransferFailure | None) -> None:
        self.failure = failure
        self.ended = True  # last: who sees the end must see how

    def cancel(self) -> None:
        self.end(TransferFailure("canceled", fault=None, site=""))

    def status(self) -> TransferStatus:
        key = self.transfer.key
        if not self.ended:
            return TransferStatus(key=key, state=TransferState.ACTIVE, bytes_moved=self.moved)
        if self.failure is None:
            return TransferStatus(key=key, state=TransferState.SUCCEEDED, bytes_moved=self.moved)
        return TransferStatus(
            key=key,
            state=TransferState.FAILED,
            bytes_moved=self.moved,
            reason=str(self.failure),
            fault=self.failure.fault.value if self.failure.fault else "",
            site=self.failure.site,
        )

    def stopped(self) -> bool:
        """Has it ended, or does it within a moment? `stop` was set before."""
        if self.future is None:
            return self.ended
        if self.future.cancel():
            self.cancel()
            return True
        try:
            self.future.result(timeout=PATIENCE)
        except TimeoutError:
            return False
        return True


def check_transfer(transfer: Transfer, *, reserved: Collection[str]) -> None:
    """Raises UnsafePath for a key or path that no mover takes. `reserved`: folders at the top of a root that belong
    to the connectors."""
    if not KEY.fullmatch(transfer.key):
        raise UnsafePath(f"transfer key {transfer.key!r} is not 1 to 64 letters, digits, `_` or `-`")
    for item in transfer.items:
        check = clean if item.source.endswith("/") else file_path
        if not check(item.source) or not (target := check(item.destination)):
            raise UnsafePath(f"{item.source!r} to {item.destination!r}: a whole root is not for moving")
        if target.split("/", 1)[0] in reserved:
            raise UnsafePath(f"path {item.destination!r} belongs to the site's own records; choose another")


def transfer_digest(transfer: Transfer) -> str:
    """Tells two transfers apart that came under one key; what they are called, and wanted for, does not count."""
    values = asdict(transfer)
    del values["label"], values["about"]
    values["items"] = list(values["items"])
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Everything of the transfer with this digest is in place. `moved` is bytes, `at` microseconds."""

    digest: str
    moved: int
    at: int

    def content(self) -> bytes:
        return json.dumps(asdict(self)).encode()


LARGEST_RECEIPT = 1 << 12


def receipt_from(content: bytes) -> Receipt | None:
    """One that cannot be read counts as none: the transfer is done again."""
    try:
        values = json.loads(content)
        return Receipt(digest=str(values["digest"]), moved=int(values["moved"]), at=int(values["at"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
