"""A simulated mover: files go from place to place in virtual time, verified, whole or not at all."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from connectors.errands import transfer_digest
from connectors.errors import Fault, NotThere, SiteError, UnsafePath
from connectors.model import (
    Accepted,
    Doubtful,
    Refused,
    SubmitAnswer,
    Transfer,
    TransferItem,
    TransferState,
    TransferStatus,
)
from connectors.paths import clean, file_path
from connectors.registry import Clock, MoverSetup
from sandbox.blob import Blob
from sandbox.errand import Errand
from sandbox.faults import TransferOdds
from sandbox.places import Place
from sandbox.shared import SharedMover, SharedSite
from sandbox.world import SimulatedWorld, world_of

_STAGING = Fault.STAGING.value


class _Broken(Exception):
    """The transfer cannot be completed; says whose fault that is, and which item's, where that is known."""

    def __init__(self, reason: str, *, fault: str, site: str, item: TransferItem | None = None) -> None:
        super().__init__(reason)
        self.fault = fault
        self.site = site
        self.bad_items = () if item is None else (item.source,)


class SimulatedMover:
    """`connectors.base.Mover` between the places of a world.

    A transfer takes `latency` seconds and its bytes at `bandwidth` bytes a second (0: no time). It reads its source
    and writes its destination at the end of that time, when any verb, or `advance`, is called then or later.
    Several movers over one world share what was asked for, as clients of one service do.
    """

    def __init__(
        self,
        world: SimulatedWorld,
        clock: Clock,
        *,
        latency: float = 0.0,
        bandwidth: float = 0.0,
        odds: TransferOdds | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._world = world
        self._clock = clock
        self._latency = latency
        self._bandwidth = bandwidth
        self._odds = odds or TransferOdds()
        self._rng = rng or random.Random(0)  # noqa: S311 - a reproducible story, no secret
        self._lock = threading.RLock()

    def close(self) -> None:
        """There is nothing to let go of."""

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        """Begin. A key that failed, or was canceled, begins again."""
        with self._lock:
            now = self._brought_up()
            answers = {transfer.key: self._submit(transfer, now) for transfer in transfers}
            self.advance(now)
            return answers

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]:
        with self._lock:
            now = self._brought_up()
            return {key: self._status(key, now) for key in keys}

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """Nothing of a transfer is written before its end, so that all of these are dead on return."""
        with self._lock:
            self._brought_up()
            for key in keys:
                errand = self._world.errands.get(key)
                if errand is not None and errand.state is TransferState.ACTIVE:
                    errand.fail("canceled", fault="")
            return dict.fromkeys(keys, True)

    def next_event_at(self) -> int | None:
        """When the next transfer is due (µs); None: none is."""
        with self._lock:
            return min((item.due_at for item in self._active() if item.due_at is not None), default=None)

    def advance(self, now: int) -> None:
        """Complete what is due, in the order in which it was due."""
        with self._lock:
            due = [item for item in self._active() if item.due_at is not None and item.due_at <= now]
            for errand in sorted(due, key=lambda item: item.due_at or 0):
                self._settle(errand, now)

    # -- beginning -------------------------------------------------------------------------------------------

    def _submit(self, transfer: Transfer, now: int) -> SubmitAnswer:
        try:
            _check(transfer)
            places = self._places(transfer)
        except UnsafePath as error:
            return Refused(reason=str(error), fault=Fault.APPLICATION.value)
        except LookupError as error:
            return Refused(reason=str(error.args[0]), fault=Fault.SITE.value)
        known = self._world.errands.get(transfer.key)
        if known is not None and known.state is not TransferState.FAILED:
            if transfer_digest(known.transfer) != transfer_digest(transfer):
                return Refused(reason=f"transfer {transfer.key} was asked for with other files", fault=Fault.SITE.value)
            return Accepted(native_id=f"{transfer.key}.{known.attempt}", adopted=True)
        attempt = 1 if known is None else known.attempt + 1
        self._world.begin(self._begun(transfer, places, attempt, now))
        if self._drawn(self._odds.reply_lost):
            return Doubtful(reason="the connection broke before an answer came")
        return Accepted(native_id=f"{transfer.key}.{attempt}")

    def _begun(self, transfer: Transfer, places: tuple[Place, Place], attempt: int, now: int) -> Errand:
        errand = Errand(transfer=transfer, attempt=attempt, began_at=now, due_at=now, bytes=0)
        try:
            errand.bytes = sum(blob.size for _, _, blob in _expanded(transfer, places[0]))
            _reach(places[1])
        except _Broken as error:
            errand.fail(str(error), fault=error.fault, site=error.site, bad_items=error.bad_items)
            return errand
        seconds = self._latency + (errand.bytes / self._bandwidth if self._bandwidth > 0 else 0.0)
        errand.due_at = None if self._drawn(self._odds.stalled) else now + round(seconds * 1_000_000)
        if self._drawn(self._odds.corrupt):
            errand.mishap = "corrupt"
        elif self._drawn(self._odds.source_vanished):
            errand.mishap = "vanished"
        return errand

    # -- ending ----------------------------------------------------------------------------------------------

    def _settle(self, errand: Errand, now: int) -> None:
        incoming = f"incoming/{errand.transfer.key}/{errand.attempt}"
        try:
            source, destination = self._places(errand.transfer)
            if errand.mishap == "vanished":
                item = errand.transfer.items[0]
                raise _Broken(
                    f"source missing: {item.source} is not there any more", fault=_STAGING, site=source.name, item=item
                )
            errand.bytes = self._bring(errand, source, destination, incoming, now)
            errand.state = TransferState.SUCCEEDED
        except _Broken as error:
            errand.fail(str(error), fault=error.fault, site=error.site, bad_items=error.bad_items)
        except LookupError as error:
            errand.fail(str(error.args[0]), fault=Fault.SITE.value)

    def _bring(self, errand: Errand, source: Place, destination: Place, incoming: str, now: int) -> int:
        """Everything to the incoming folder, verified there, then into place; the bytes moved."""
        moves = []
        total = 0
        files = list(_expanded(errand.transfer, source))
        try:
            for number, (item, target, blob) in enumerate(files):
                _promised(item, blob, source.name)
                arrived = f"{incoming}/{number}"
                destination.put(arrived, _damaged(blob) if errand.mishap == "corrupt" and number == 0 else blob, now)
                moves.append((arrived, target))
                _verified(destination, arrived, blob, item)
                total += blob.size
            destination.publish(moves)
        except (SiteError, OSError) as error:
            raise _Broken(str(error), fault=Fault.SITE.value, site=destination.name) from error
        finally:
            _drop(destination, incoming)
        return total

    # -- behind ----------------------------------------------------------------------------------------------

    def _status(self, key: str, now: int) -> TransferStatus:
        errand = self._world.errands.get(key)
        if errand is None:
            return TransferStatus(key=key, state=TransferState.UNKNOWN)
        return errand.status(now)

    def _places(self, transfer: Transfer) -> tuple[Place, Place]:
        return self._world.place(transfer.source_site), self._world.place(transfer.destination_site)

    def _active(self) -> list[Errand]:
        """Those that may still move; the ended ones are taken off the list on the way."""
        active = self._world.active
        for key in [key for key, item in active.items() if item.state is not TransferState.ACTIVE]:
            del active[key]
        return list(active.values())

    def _brought_up(self) -> int:
        now = self._clock()
        self.advance(now)
        return now

    def _drawn(self, chance: float) -> bool:
        return chance > 0 and self._rng.random() < chance


def _check(transfer: Transfer) -> None:
    for item in transfer.items:
        if item.source.endswith("/"):
            clean(item.source)
            clean(item.destination)
        else:
            file_path(item.source)
            file_path(item.destination)


def _expanded(transfer: Transfer, source: Place) -> Iterator[tuple[TransferItem, str, Blob]]:
    """Every file with its destination. Raises _Broken when one is missing, or the source is dark."""
    try:
        for item in transfer.items:
            if item.source.endswith("/"):
                found = source.below(item.source)
                top = clean(item.destination)
                for path, blob in found:
                    yield item, f"{top}/{path}" if top else path, blob
            else:
                blob_there = source.get(item.source)
                found = [] if blob_there is None else [(item.source, blob_there)]
                for _, blob in found:
                    yield item, item.destination, blob
            if not found:
                raise _Broken(f"source missing: {item.source}", fault=_STAGING, site=source.name, item=item)
    except (SiteError, OSError) as error:
        raise _Broken(str(error), fault=Fault.SITE.value, site=source.name) from error


def _promised(item: TransferItem, blob: Blob, site: str) -> None:
    if item.source.endswith("/"):
        return
    if item.size is not None and blob.size != item.size:
        raise _Broken(
            f"corrupt: {item.source} has {blob.size} bytes, not {item.size}", fault=_STAGING, site=site, item=item
        )
    if item.sha256 is not None and blob.sha256 != item.sha256:
        raise _Broken(f"corrupt: {item.source} has another sha256 than promised", fault=_STAGING, site=site, item=item)


def _verified(destination: Place, arrived: str, blob: Blob, item: TransferItem) -> None:
    there = destination.get(arrived)
    if there is None or there.size != blob.size or there.sha256 != blob.sha256:
        reason = f"corrupt: {item.source} did not arrive as it was sent"
        raise _Broken(reason, fault=_STAGING, site=destination.name, item=item)


def _damaged(blob: Blob) -> Blob:
    if not blob.head:
        return Blob(b"\x01", max(1, blob.size))
    return Blob(bytes((blob.head[0] ^ 1,)) + blob.head[1:], blob.size)


def _reach(place: Place) -> None:
    try:
        place.get("incoming")
    except (NotThere, UnsafePath):
        return
    except SiteError as error:
        raise _Broken(str(error), fault=Fault.SITE.value, site=place.name) from error


def _drop(place: Place, folder: str) -> None:
    try:
        place.drop(folder)
    except (SiteError, OSError):
        # dark in the very moment: what is left in `incoming` is never read
        return


def make_mover(setup: MoverSetup) -> SimulatedMover | SharedMover:
    """A mover in the world where the sites are already, with the broker's own store (""): that of the clock, or the
    one that another process hosts. Raises ValueError when some sites are here and some are there."""
    shared = [site for site in setup.sites.values() if isinstance(site, SharedSite)]
    if shared:
        if len(shared) < len(setup.sites):
            raise ValueError("simulated sites with and without `world:` cannot share files")
        return SharedMover(shared, setup.blobs)
    world = world_of(setup.clock)
    world.add_folder("", setup.blobs)
    for place in setup.places.values():  # a place elsewhere is as simulated as the sites are
        if place.collection or place.url:
            world.add_memory(place.side)
        else:
            world.add_folder(place.side, Path(place.path))
    return SimulatedMover(world, setup.clock)
