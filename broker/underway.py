"""Copies that are being made just now: of products, and what a stage that only copies brings to its places."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from broker.store.base import ProductRow
from broker.traffic.rows import ACTIVE, HELD, OVER, MovementRow, TransferRow, items_from
from broker.views import View, when
from broker.whereabouts import digests_of
from connectors.model import TransferItem

COPYING = "copying"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnTheWay:
    """What it is worked out from; all of one run."""

    movements: Sequence[MovementRow]
    """All that are not over."""
    transfers: Mapping[str, TransferRow]
    """Those that carry them, by key."""


def still_open(rows: Sequence[MovementRow]) -> Sequence[MovementRow]:
    """Those that are not over."""
    return [row for row in rows if row.state not in OVER]


def copies_of(product: ProductRow, way: OnTheWay) -> list[View]:
    """The copies of this product that are being made: by deliveries, and for stages that take its files."""
    digests = digests_of(product)
    found = []
    for row in way.movements:
        items = [item for item in items_from(row.items) if item.sha256 in digests]
        if items:
            found.append(_copy(row, items, way))
    return found


def only_copies(stages: Mapping[int, str], published: Collection[int], way: OnTheWay) -> list[View]:
    """Views of stages that only copy and are still at it. `stages`: those, by number; `published`: that are done."""
    views: list[View] = []
    for n, path in sorted(stages.items()):
        rows = [row for row in way.movements if row.n == n]
        if n in published or not rows:
            continue
        views.append(
            {
                "stage": path,
                "files": sum(row.files for row in rows),
                "bytes": sum(row.bytes for row in rows) or None,
                "published_at": None,
                "copies": [_copy(row, items_from(row.items), way) for row in rows],
            }
        )
    return views


def _copy(row: MovementRow, items: Sequence[TransferItem], way: OnTheWay) -> View:
    transfer = way.transfers.get(row.transfer) if row.state == ACTIVE else None
    percent = _percent(transfer)
    return {
        "at": row.destination or "(broker)",
        "files": len(items),
        "whole": False,
        "state": COPYING,
        "verified_at": None,
        "purged_from": None,
        "reason": _words(row, transfer, percent),
        "since": when(row.began_at if transfer is not None else row.created_at),
        "transfer": transfer.key if transfer is not None else None,
        "percent": percent,
        "paths": [
            {"file": _name(item), "path": item.destination, "bytes": item.size, "state": COPYING} for item in items
        ],
    }


def _name(item: TransferItem) -> str:
    return item.source.rstrip("/").rpartition("/")[2]


def _percent(transfer: TransferRow | None) -> int | None:
    """Of the transfer as a whole, which may carry more than this; None: nobody knows how much there is to carry."""
    if transfer is None or not transfer.bytes:
        return None
    return min(100, int(100 * transfer.moved / transfer.bytes))


def _words(row: MovementRow, transfer: TransferRow | None, percent: int | None) -> str:
    if row.state == HELD:
        return f"waits for a person: {row.reason}" + (f"; what helps: {row.help}" if row.help else "")
    if transfer is None:
        return f"waits for its transfer{f': {row.reason}' if row.reason else ''}"
    done = f"{percent} % " if percent is not None else f"{transfer.moved} bytes "
    origin = row.taken_from or row.source
    return f"{done}from {origin or '(broker)'} by {transfer.mover}, transfer {transfer.key}"
