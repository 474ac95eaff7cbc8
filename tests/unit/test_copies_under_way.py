"""`crossfade where` while copies are made: by which transfer, since when, how far."""

from __future__ import annotations

import json
from typing import Any

from broker.cli.where import _each, _sides
from broker.store.base import ProductRow
from broker.traffic.rows import ACTIVE, HELD, SUCCEEDED, MovementRow, TransferRow, movement_of
from broker.underway import OnTheWay, copies_of, only_copies, still_open
from connectors.model import Transfer, TransferItem

AT = 1_700_000_000_000_000
FILES = [["rec/a.h5", 10, "a" * 64], ["rec/b.h5", 20, "b" * 64]]
PRODUCT = ProductRow("r1", 0, 1, 1, "nersc", "runs/r1/recon/a1", json.dumps({"files": FILES}), "d", 0, AT)
CARRIES = dict.fromkeys(TransferRow._fields, "") | {
    **dict.fromkeys(("movements", "files", "moved", "files_moved", "faults", "urgent", "open"), 0),
    **dict.fromkeys(("began_at", "progress_at", "ended_at"), None),
}


def movement(*items: tuple[str, str, int | None, str | None], n: int = 1, **said: Any) -> MovementRow:
    row = movement_of(
        Transfer(
            key="mv-1",
            source_site="nersc",
            destination_site="cfs:",
            items=tuple(TransferItem(source=s, destination=d, size=size, sha256=sha) for s, d, size, sha in items),
        ),
        run_id="r1",
        n=n,
        attempt=1,
        now=AT,
    )
    return row._replace(**said)


def delivered(**said: Any) -> MovementRow:
    return movement(*((f"runs/r1/recon/a1/{path}", f"scratch/{path}", size, sha) for path, size, sha in FILES), **said)


def carrying(**said: Any) -> TransferRow:
    return TransferRow(**{**CARRIES, "key": "tr-1", "mover": "globus", "bytes": 30, "created_at": AT, **said})


def way(*rows: MovementRow, transfer: TransferRow | None = None) -> OnTheWay:
    return OnTheWay(movements=rows, transfers={transfer.key: transfer} if transfer else {})


def test_a_delivery_under_way_is_a_copy_of_the_product_with_its_transfer_and_how_far_it_is() -> None:
    row = delivered(state=ACTIVE, transfer="tr-1", began_at=AT + 5_000_000, taken_from="nersc")
    (copy,) = copies_of(PRODUCT, way(row, transfer=carrying(moved=12)))
    assert (copy["at"], copy["state"], copy["files"], copy["whole"]) == ("cfs:", "copying", 2, False)
    assert (copy["transfer"], copy["percent"], copy["since"]) == ("tr-1", 40, "2023-11-14T22:13:25.000Z")
    assert copy["reason"] == "40 % from nersc by globus, transfer tr-1"
    assert [one["path"] for one in copy["paths"]] == ["scratch/rec/a.h5", "scratch/rec/b.h5"]  # type: ignore[index,attr-defined]


def test_one_that_waits_says_for_what_and_one_that_is_held_what_helps() -> None:
    (waits,) = copies_of(PRODUCT, way(delivered(reason="globus is asked again at 10:00")))
    assert waits["reason"] == "waits for its transfer: globus is asked again at 10:00"
    assert (waits["transfer"], waits["percent"], waits["since"]) == (None, None, "2023-11-14T22:13:20.000Z")
    (held,) = copies_of(PRODUCT, way(delivered(state=HELD, reason="consent", help="crossfade login globus")))
    assert held["reason"] == "waits for a person: consent; what helps: crossfade login globus"


def test_a_transfer_of_unknown_size_tells_bytes_and_never_more_than_all_of_them() -> None:
    row = delivered(state=ACTIVE, transfer="tr-1", began_at=AT)
    (unknown,) = copies_of(PRODUCT, way(row, transfer=carrying(bytes=0, moved=7)))
    assert (unknown["percent"], unknown["reason"]) == (None, "7 bytes from nersc by globus, transfer tr-1")
    (over,) = copies_of(PRODUCT, way(row, transfer=carrying(moved=99)))
    assert over["percent"] == 100


def test_other_files_and_what_is_over_are_no_copies_under_way() -> None:
    assert copies_of(PRODUCT, way(movement(("x", "y", 1, "c" * 64)))) == []
    assert still_open([delivered(state=SUCCEEDED), delivered()]) == [delivered()]


def test_a_stage_that_only_copies_is_listed_before_it_is_done_and_no_longer_by_this_afterwards() -> None:
    row = movement(("raw/x.h5", "raw/x.h5", None, None), n=3, state=ACTIVE, transfer="tr-1", began_at=AT)
    on_the_way = way(row, transfer=carrying(bytes=100, moved=1))
    (view,) = only_copies({3: "raw_to_cfs", 4: "other"}, (), on_the_way)
    assert (view["stage"], view["published_at"]) == ("raw_to_cfs", None)
    assert only_copies({3: "raw_to_cfs"}, {3}, on_the_way) == []
    assert _sides([view]).splitlines()[1].split()[:7] == ["raw_to_cfs", "cfs:", "1", "of", "1", "-", "copying"]
    assert "raw/x.h5" in _each([view])
