"""What movers that work in this process share: telling transfers apart, and what is known of one under way."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from connectors.errors import Fault, SiteError, UnsafePath
from connectors.model import Accepted, Refused, SubmitAnswer, Transfer, TransferItem, TransferState, TransferStatus
from connectors.paths import clean, file_path

KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
MISSING = "source missing"
"""So begins what every mover says of a file that is not where it should be taken from."""
PATIENCE = 0.05
"""Seconds that a cancel waits for a transfer to stop."""


class Canceled(Exception):
    """Somebody asked for the transfer's end."""


class TransferFailure(Exception):
    """The transfer has failed. `fault` None: canceled, nobody's fault. `site`: the side at fault. `bad_items`: sources
    of the items that are known to be missing or damaged."""

    def __init__(self, reason: str, *, fault: Fault | None, site: str, bad_items: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.fault = fault
        self.site = site
        self.bad_items = bad_items


@contextmanager
def about(item: TransferItem) -> Iterator[None]:
    """What the files themselves are to blame for inside is known to be this item's."""
    try:
        yield
    except TransferFailure as failure:
        if failure.fault is Fault.STAGING and not failure.bad_items:
            failure.bad_items = (item.source,)
        raise


@contextmanager
def blamed(site: str) -> Iterator[None]:
    """What a site says inside is its fault. What time may cure is the site's, what it refuses is staging's: asking for
    that again would change nothing."""
    try:
        yield
    except UnsafePath as error:
        raise TransferFailure(f"unsafe path: {error}", fault=Fault.STAGING, site=site) from error
    except SiteError as error:
        lasting = error.fault is Fault.SITE and not error.transient
        raise TransferFailure(str(error), fault=Fault.STAGING if lasting else error.fault, site=site) from error


@dataclass(slots=True)
class Errand:
    """A transfer that this process works on or has failed at."""

    transfer: Transfer
    stop: threading.Event = field(default_factory=threading.Event)
    unwanted: bool = False
    """Was it canceled, not just broken off by the end of this process? Then nobody goes on with what has arrived."""
    future: Future[None] | None = None
    moved: int = 0
    faults: int = 0
    """What had to be tried again."""
    detail: str = ""
    """What it is doing, for a person."""
    failure: TransferFailure | None = None
    ended: bool = False

    def add(self, count: int) -> None:
        self.moved += count

    def tell(self, detail: str) -> None:
        self.detail = detail

    def end(self, failure: TransferFailure | None) -> None:
        self.failure = failure
        self.ended = True  # last: who sees the end must see how

    def cancel(self) -> None:
        self.end(TransferFailure("canceled", fault=None, site=""))

    def status(self) -> TransferStatus:
        key = self.transfer.key
        if not self.ended:
            state, detail = TransferState.ACTIVE, self.detail
            return TransferStatus(key=key, state=state, bytes_moved=self.moved, faults=self.faults, detail=detail)
        if self.failure is None:
            state = TransferState.SUCCEEDED
            return TransferStatus(key=key, state=state, bytes_moved=self.moved, faults=self.faults)
        return TransferStatus(
            key=key,
            state=TransferState.FAILED,
            bytes_moved=self.moved,
            faults=self.faults,
            reason=str(self.failure),
            fault=self.failure.fault.value if self.failure.fault else "",
            site=self.failure.site,
            bad_items=self.failure.bad_items,
        )

    def stopped(self) -> bool:
        """Has it ended, or does it within a moment? `stop` was set before."""
        if self.future is None:
            return self.ended
        if self.future.cancel():
            self.cancel()
            return True
        wait([self.future], timeout=PATIENCE)
        return self.future.done()


@contextmanager
def reading(
    what: str, size: int, *, stop: threading.Event, tell: Callable[[str], None]
) -> Iterator[Callable[[int], None]]:
    """Whoever reads a file only to hash it says so, by the per cent, and stops when asked: of a terabyte that takes an
    hour. To be called with each number of bytes; raises Canceled."""
    done = 0

    def heard(count: int) -> None:
        nonlocal done
        if stop.is_set():
            raise Canceled
        done += count
        if size > LONG:
            tell(f"{what}, {min(100, 100 * done // size)} %")

    try:
        yield heard
    finally:
        tell("")


LONG = 1 << 30
"""Bytes of a file that is worth saying how far its hashing is."""
REMEMBERED = 10_000
"""Ended transfers that are kept in mind; what is forgotten is UNKNOWN, as after a restart."""


class Errands:
    """The transfers of a mover that carries in this process: by key, each by one of a few threads. Thread-safe.

    `carry` does all of one, and raises TransferFailure or Canceled. A canceled one is FAILED with the reason "canceled"
    and no fault. `unfit`: why this mover cannot take a transfer at all, or "". `reserved`: folders at the top of a root
    that belong to the connectors, and are no destination.
    """

    def __init__(
        self,
        carry: Callable[[Errand], None],
        *,
        name: str,
        unfit: Callable[[Transfer], str],
        reserved: Collection[str],
        threads: int = 2,
    ) -> None:
        self._carry, self._name = carry, name
        self._unfit, self._reserved = unfit, frozenset(reserved)
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._errands: dict[str, Errand] = {}

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        """A key that failed, or was canceled, begins again."""
        return {transfer.key: self._submit(transfer) for transfer in transfers}

    def _submit(self, transfer: Transfer) -> SubmitAnswer:
        try:
            check_transfer(transfer, reserved=self._reserved)
        except UnsafePath as error:
            return Refused(reason=str(error), fault=Fault.APPLICATION.value)
        unfit = self._unfit(transfer)
        return Refused(reason=unfit, fault=Fault.SITE.value) if unfit else self._begin(transfer)

    def _begin(self, transfer: Transfer) -> SubmitAnswer:
        errand = Errand(transfer)
        with self._lock:
            known = self._errands.get(transfer.key)
            if known and transfer_digest(known.transfer) != transfer_digest(transfer):
                return Refused(reason=f"key {transfer.key} belongs to another transfer")
            if known and not known.failure:
                return Accepted(native_id=transfer.key, adopted=True)
            self._errands.pop(transfer.key, None)  # to the end of those that are forgotten first
            self._errands[transfer.key] = errand
            self._forget()
            errand.future = self._pool.submit(self._run, errand)
        return Accepted(native_id=transfer.key)

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        known = self._known(keys)
        return {key: known[key].status() if key in known else _unknown(key) for key in keys}

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """True: nothing will be written any more."""
        for errand in self._known(keys).values():
            errand.unwanted = True
        return self._stop(keys)

    def _stop(self, keys: Sequence[str]) -> Mapping[str, bool]:
        known = self._known(keys)
        for errand in known.values():
            errand.stop.set()
        return {key: key not in known or known[key].stopped() for key in keys}

    def close(self) -> None:
        """Stop what is under way and wait for the threads."""
        with self._lock:
            keys = list(self._errands)
        self._stop(keys)
        self._pool.shutdown(wait=True)

    def _known(self, keys: Sequence[str]) -> dict[str, Errand]:
        with self._lock:
            return {key: self._errands[key] for key in keys if key in self._errands}

    def _forget(self) -> None:
        """The oldest that ended, so that memory does not grow. The lock is held."""
        if len(self._errands) > REMEMBERED:
            ended = [key for key, errand in self._errands.items() if errand.ended]
            for key in ended[: max(1, len(self._errands) - REMEMBERED)]:
                del self._errands[key]

    def _run(self, errand: Errand) -> None:
        failure: TransferFailure | None = None
        try:
            self._carry(errand)
        except TransferFailure as error:
            failure = error
        except Canceled:
            failure = TransferFailure("canceled", fault=None, site="")
        except BaseException as error:
            reason = f"{self._name} broke off: {type(error).__name__} at {_where(error)}"  # its words may hold anything
            failure = TransferFailure(reason, fault=Fault.SITE, site="")
            raise
        finally:
            errand.end(failure)


def _where(error: BaseException) -> str:
    """FILE:LINE that an error came from, for whoever has to mend it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def _unknown(key: str) -> TransferStatus:
    reason = "not asked for in this process" if KEY.fullmatch(key) else "no transfer has such a key"
    return TransferStatus(key=key, state=TransferState.UNKNOWN, reason=reason)


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
RELAYED = "relay"
"""At the top of the root of a site that has no renaming: what is on its way, and receipts."""


def receipt_path(key: str) -> str:
    """Where a finished transfer is known by its key, at a site that has no renaming."""
    return f"{RELAYED}/{key}.done"


def receipt_from(content: bytes) -> Receipt | None:
    """One that cannot be read counts as none: the transfer is done again."""
    try:
        values = json.loads(content)
        return Receipt(digest=str(values["digest"]), moved=int(values["moved"]), at=int(values["at"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
