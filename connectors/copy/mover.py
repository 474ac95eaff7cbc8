"""The mover between folders that this machine sees: copies, verified on both sides, published by rename.

Everything of a transfer is first brought to `<destination root>/incoming/<key>/<random>/`, hashed while it is read,
flushed to the disk and hashed again there. Only when all of it is right is it renamed into place, and then
a receipt `<destination root>/incoming/<key>.done` is written: it is how a mover that was restarted knows. What was
under way when a process died is unknown to the next one; asking again under the same key does it anew, harmlessly.

Small transfers are done before `submit` returns, larger ones by a few threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from connectors.copy.courier import Courier
from connectors.errands import KEY, Canceled, Errand, Receipt, TransferFailure, check_transfer, transfer_digest
from connectors.errors import Fault, SiteError, UnsafePath
from connectors.folders.failure import destination_side, source_side
from connectors.folders.plan import weigh
from connectors.folders.receipts import Receipts
from connectors.model import Accepted, Refused, SubmitAnswer, Transfer, TransferState, TransferStatus
from connectors.paths import RESERVED
from connectors.registry import Clock
from connectors.tree import Tree

Root = Path | Callable[[], Path]
"""Where a site's root is; a callable may raise SiteUnreachable."""


class CopyMover:
    """The port `connectors.base.Mover` over `roots`, by the names that transfers call them.

    A destination's root is never made. A canceled transfer is FAILED with the reason "canceled" and no fault.
    """

    def __init__(
        self,
        roots: Mapping[str, Root],
        clock: Clock,
        *,
        threads: int = 2,
        small: int = 1 << 20,
    ) -> None:
        self._roots = roots
        self._clock = clock
        self._small = small
        """Bytes that are copied at once, inside `submit`."""
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="copy")
        self._lock = threading.Lock()
        self._errands: dict[str, Errand] = {}

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        """Begin. A key that failed, or was canceled, begins again."""
        return {transfer.key: self._submit(transfer) for transfer in transfers}

    def refuses(self, transfer: Transfer) -> str:
        """Only what is not on this machine. What is wrong about a path is said when it is asked for."""
        away = next((s for s in (transfer.source_site, transfer.destination_site) if s not in self._roots), None)
        return "" if away is None else f"{away or 'the broker'} is not on this machine"

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        return {key: self._status(key) for key in keys}

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        with self._lock:
            errands = {key: self._errands[key] for key in keys if key in self._errands}
        for errand in errands.values():
            errand.stop.set()
        return {key: key not in errands or errands[key].stopped() for key in keys}

    def close(self) -> None:
        """Stop what is under way and wait for the threads."""
        with self._lock:
            keys = list(self._errands)
        self.cancel(keys)
        self._pool.shutdown(wait=True)

    # -- behind ----------------------------------------------------------------------------------------

    def _submit(self, transfer: Transfer) -> SubmitAnswer:
        try:
            self._check(transfer)
        except UnsafePath as error:
            return Refused(reason=str(error), fault=Fault.APPLICATION.value)
        except LookupError as error:
            return Refused(reason=str(error.args[0]), fault=Fault.SITE.value)
        receipt = self._receipt(transfer.key)
        errand = Errand(transfer)
        with self._lock:
            known = self._errands.get(transfer.key)
            old = transfer_digest(known.transfer) if known else receipt.digest if receipt else ""
            if old and old != transfer_digest(transfer):
                return Refused(reason=f"key {transfer.key} belongs to another transfer")
            if receipt or (known and not known.failure):
                return Accepted(native_id=transfer.key, adopted=True)
            self._errands[transfer.key] = errand
        self._begin(errand)
        return Accepted(native_id=transfer.key)

    def _begin(self, errand: Errand) -> None:
        if self._is_small(errand.transfer):
            self._run(errand)
        else:
            errand.future = self._pool.submit(self._run, errand)

    def _check(self, transfer: Transfer) -> None:
        """Raises UnsafePath, or LookupError for a site without a root here."""
        check_transfer(transfer, reserved=RESERVED)
        for site in (transfer.source_site, transfer.destination_site):
            if site not in self._roots:
                known = ", ".join(sorted(self._roots)) or "none"
                raise LookupError(f"no folder is known for site {site!r} (known: {known})")

    def _is_small(self, transfer: Transfer) -> bool:
        """Also when it cannot be told: then the copy itself will say at once what is wrong."""
        try:
            with Tree(self._path(transfer.source_site)) as tree:
                return weigh(tree, transfer.items, most=self._small) <= self._small
        except (OSError, SiteError):
            return True

    def _run(self, errand: Errand) -> None:
        transfer = errand.transfer
        failure: TransferFailure | None = TransferFailure("the copy broke off", fault=Fault.SITE, site="")
        try:
            source = source_side(transfer.source_site, self._side_root(transfer.source_site))
            destination = destination_side(transfer.destination_site, self._side_root(transfer.destination_site))
            courier = Courier(transfer, source=source, destination=destination, stop=errand.stop, tell=errand.tell)
            courier.carry(progress=errand.add, at=self._clock)
            failure = None
        except TransferFailure as error:
            failure = error
        except Canceled:
            failure = TransferFailure("canceled", fault=None, site="")
        finally:
            errand.end(failure)
            self._forget_if_done(errand)

    def _forget_if_done(self, errand: Errand) -> None:
        """Once there is a receipt it answers for the transfer, and memory does not grow."""
        if errand.failure is None:
            with self._lock:
                if self._errands.get(errand.transfer.key) is errand:
                    del self._errands[errand.transfer.key]

    def _status(self, key: str) -> TransferStatus:
        with self._lock:
            errand = self._errands.get(key)
        if errand is not None:
            return errand.status()
        receipt = self._receipt(key)
        if receipt is None:
            return TransferStatus(key=key, state=TransferState.UNKNOWN, reason="no receipt under this key")
        return TransferStatus(key=key, state=TransferState.SUCCEEDED, bytes_moved=receipt.moved)

    def _receipt(self, key: str) -> Receipt | None:
        """From whichever root has one; a root that is away has none."""
        if not KEY.fullmatch(key):
            return None
        for name in self._roots:
            try:
                with Tree(self._path(name)) as tree:
                    receipt = Receipts(tree).get(key)
            except (OSError, SiteError):
                continue
            if receipt is not None:
                return receipt
        return None

    def _path(self, site: str) -> Path:
        root = self._roots[site]
        return root if isinstance(root, Path) else root()

    def _side_root(self, site: str) -> Path:
        try:
            return self._path(site)
        except SiteError as error:
            raise TransferFailure(str(error), fault=error.fault, site=site) from error
