"""One transfer from beginning to end: look, bring, compare both ends, put in place with a receipt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby

from connectors.errands import (
    Canceled,
    Errand,
    Receipt,
    TransferFailure,
    about,
    reading,
    receipt_from,
    transfer_digest,
)
from connectors.errors import Fault
from connectors.paths import clean
from connectors.rsync import scripts
from connectors.rsync.ends import End
from connectors.rsync.plan import Piece, Plan, Seen, digests, make_plan
from connectors.rsync.program import Dropped, Progress, Run
from connectors.ssh.transport import Stopped

LONGEST = 7 * 86_400.0
"""Seconds that one rsync may take."""
CONFIRMS = 20
Step = tuple[str, str, str, str]


class Courier:
    """Carries one errand. Its `stop`, once set, ends it with Canceled, unless files are being put in place already."""

    def __init__(self, errand: Errand, *, source: End, destination: End, pauses: Sequence[float]) -> None:
        """`pauses`: seconds before each further try after the connection broke."""
        self._errand, self._transfer = errand, errand.transfer
        self._source, self._destination = source, destination
        self._pauses = pauses

    def carry(self, at: Callable[[], int]) -> None:
        """Everything, in order. Raises TransferFailure or Canceled, and then nothing was put in place, unless that
        itself failed half-way: the same key then goes on."""
        try:
            receipt = self._receipt()
            if receipt is None:
                receipt = self._carry(at)
        except (Stopped, Canceled):
            self._surely_ended()
            raise Canceled from None
        self._errand.moved = receipt.moved

    def _receipt(self) -> Receipt | None:
        records = self._destination.ask(scripts.RECEIPT, [self._transfer.key])
        found = next((receipt_from(record.body) for record in records if record.kind == "f"), None)
        if found is not None and found.digest != transfer_digest(self._transfer):
            raise self._destination.failure(f"key {self._transfer.key} belongs to another transfer")
        return found

    def _carry(self, at: Callable[[], int]) -> Receipt:
        plan = make_plan(self._transfer.items, self._source)
        self._unless_busy(scripts.READY, [self._transfer.key, plan.stage], about=["incoming"])
        self._bring(plan, at)
        self._errand.detail = "comparing both ends"
        self._compare(plan)
        if self._errand.stop.is_set():
            raise Canceled
        self._left(at)
        self._errand.detail = "putting in place"
        receipt = Receipt(digest=transfer_digest(self._transfer), moved=plan.size, at=at())
        self._publish(plan, receipt)
        return receipt

    def _unless_busy(self, script: str, lines: Sequence[str], *, about: Sequence[str], seconds: float = 300.0) -> None:
        """What only one may do at a time. Who is late is told so; asked again, it finds the receipt."""
        records = self._destination.ask(script, lines, about=about, seconds=seconds)
        if any(record.kind == "b" for record in records):
            raise self._destination.failure("another process brings the same files just now", Fault.SITE)
        if not any(record.kind == "w" for record in records):
            raise self._destination.failure("the shell there did not say that it was done", Fault.SITE)

    # -- bringing ------------------------------------------------------------------------------------------

    def _bring(self, plan: Plan, at: Callable[[], int]) -> None:
        """After a broken connection it goes on from where it was."""
        stage = f"incoming/{self._transfer.key}/{plan.stage}"
        run = Run(source=self._source, destination=self._destination, stage=stage)
        paths = [piece.source for piece in plan.pieces]
        for pause in (*self._pauses, None):
            try:
                self._errand.detail = ""
                if paths:
                    run.go(paths, seconds=self._left(at), stop=self._errand.stop, progress=Progress(self._told))
            except Dropped as dropped:
                self._errand.faults += 1
                if pause is None:
                    raise dropped.failure from dropped
                self._errand.detail = f"{dropped}; going on from where it was"[:300]
                if self._errand.stop.wait(pause):
                    raise Stopped from None
            else:
                return

    def _told(self, moved: int) -> None:
        self._errand.moved = max(self._errand.moved, moved)

    def _left(self, at: Callable[[], int]) -> float:
        """Seconds until nothing may be written any more."""
        if self._transfer.deadline is None:
            return LONGEST
        left = (self._transfer.deadline - at()) / 1e6
        if left <= 0:
            raise TransferFailure("the time that it was given is over", fault=Fault.STAGING, site="")
        return min(LONGEST, left)

    def _surely_ended(self) -> None:
        """Its other half may live for a moment; it holds a lock as long."""
        self._destination.go_through()
        with suppress(TransferFailure):  # who gives no answer: what still arrives is put in no place
            for _ in range(CONFIRMS):
                if not any(r.kind == "b" for r in self._destination.ask(scripts.BUSY, [self._transfer.key])):
                    break
            if self._errand.unwanted:
                self._unless_busy(scripts.DROP, [self._transfer.key], about=["incoming"])

    # -- comparing -----------------------------------------------------------------------------------------

    def _compare(self, plan: Plan) -> None:
        stage = f"incoming/{self._transfer.key}/{plan.stage}"
        errand = self._errand
        with reading("comparing both ends", 2 * plan.size, stop=errand.stop, tell=errand.tell) as heard:
            arrived = digests(self._destination, plan.pieces, below=stage, heard=heard)
            sent = digests(self._source, plan.pieces, heard=heard)
        for piece in plan.pieces:
            with about(self._transfer.items[piece.item]):
                self._compared(piece, sent.get(piece.source), arrived.get(piece.source))

    def _compared(self, piece: Piece, mine: Seen | None, theirs: Seen | None) -> None:
        if mine is None:
            raise self._source.failure(f"source missing: {piece.source} is not there any more, or not readable")
        if (mine.size, mine.written) != (piece.size, piece.written):
            reason = f"corrupt: {piece.source} was changed while it was being copied"
            raise self._source.failure(reason)
        item = self._transfer.items[piece.item]
        if item.sha256 is not None and not piece.inner and mine.sha256 != item.sha256:
            reason = f"corrupt: {piece.source} has SHA-256 {mine.sha256}, not {item.sha256}"
            raise self._source.failure(reason)
        if theirs is None:
            gone = f"{piece.source} has arrived and is gone: another process may have put it in place"
            raise self._destination.failure(gone, Fault.SITE)
        if (theirs.sha256, theirs.size) != (mine.sha256, mine.size):
            self._unless_busy(scripts.DROP, [self._transfer.key], about=["incoming"])
            raise self._destination.failure(f"corrupt: {piece.source} did not arrive intact")

    # -- putting in place ----------------------------------------------------------------------------------

    def _publish(self, plan: Plan, receipt: Receipt) -> None:
        self._destination.go_through()
        steps = list(self._steps(plan))
        lines = [self._transfer.key, plan.stage, receipt.content().decode(), *(word for step in steps for word in step)]
        about = [step[2] or step[1] or "a folder" for step in steps]
        seconds = 600.0 + 0.1 * len(steps)
        self._unless_busy(scripts.PUBLISH, lines, about=about, seconds=seconds)

    def _steps(self, plan: Plan) -> Iterator[Step]:
        """Verb, what has arrived, where it belongs, its mode; see `scripts.PUBLISH`."""
        wanted = Counter(piece.source for piece in plan.pieces)
        folders = {n: [inner for _, inner in these] for n, these in groupby(plan.folders, key=lambda one: one[0])}
        pieces: dict[int, list[Piece]] = {}
        for piece in plan.pieces:
            pieces.setdefault(piece.item, []).append(piece)
        for n, item in enumerate(self._transfer.items):
            mode = "" if item.mode is None else f"{item.mode & 0o777:o}"
            target = clean(item.destination)
            if n in folders:
                yield "begin", "", target, ""
                yield from (("folder", "", inner, "") for inner in folders[n] if inner)
            for piece in pieces.get(n, ()):
                wanted[piece.source] -= 1
                again = "+" if wanted[piece.source] else ""
                yield ("inner" if n in folders else "file"), piece.source, piece.inner or target, again + mode
            if n in folders:
                yield "end", "", "", ""
