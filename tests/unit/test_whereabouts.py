"""`crossfade where`: which sides hold a product, and how sure that is."""

from __future__ import annotations

import json
from typing import Any

from broker.cli.where import _each, _sides
from broker.store.base import ProductRow
from broker.traffic.rows import ReplicaRow
from broker.whereabouts import Known, digests_of, whereabouts

DAY = 86_400_000_000
AT = 1_700_000_000_000_000
FILES = [["out/a.h5", 10, "a" * 64], ["out/b.h5", 20, "b" * 64]]


def product(files: list[list[object]] = FILES) -> ProductRow:
    return ProductRow("r1", 0, 1, 1, "nersc", "runs/r1/make/a1", json.dumps({"files": files}), "d", 0, AT)


def copy(digest: str, side: str, path: str, state: str = "available", at: int | None = AT, why: str = "") -> ReplicaRow:
    return ReplicaRow(digest * 64, side, path, 10, state, 0, at, why, "r1")


def seen(*copies: ReplicaRow, purges: dict[str, float] | None = None, of: ProductRow | None = None) -> dict[str, Any]:
    replicas: dict[str, list[ReplicaRow]] = {}
    for one in copies:
        replicas.setdefault(one.sha256, []).append(one)
    return whereabouts(of or product(), Known(replicas=replicas, purges=purges or {}), stage="make")


def test_a_product_nobody_has_moved_is_where_it_was_published() -> None:
    view = seen()
    assert (view["files"], view["bytes"]) == (2, 30)
    (own,) = view["copies"]
    assert (own["at"], own["files"], own["whole"], own["state"]) == ("nersc", 2, True, "published")
    assert own["verified_at"] == "2023-11-14T22:13:20.000Z"
    assert [one["path"] for one in own["paths"]] == ["runs/r1/make/a1/out/a.h5", "runs/r1/make/a1/out/b.h5"]


def test_a_side_with_all_of_it_stands_before_one_with_a_part() -> None:
    view = seen(copy("a", "olcf", "x/a"), copy("a", "archive:", "y/a"), copy("b", "archive:", "y/b"))
    assert [(one["at"], one["files"], one["whole"]) for one in view["copies"]] == [
        ("nersc", 2, True),
        ("archive:", 2, True),
        ("olcf", 1, False),
    ]


def test_the_worst_file_says_how_a_copy_stands_and_the_oldest_look_how_sure_it_is() -> None:
    view = seen(copy("a", "alcf", "x/a", at=AT + 5 * DAY), copy("b", "alcf", "x/b", "suspect", AT + DAY, "corrupt: b"))
    alcf = view["copies"][1]
    assert (alcf["state"], alcf["whole"], alcf["reason"]) == ("suspect", False, "corrupt: b")
    assert alcf["verified_at"] == "2023-11-15T22:13:20.000Z"


def test_of_two_copies_at_one_side_the_better_one_counts() -> None:
    view = seen(copy("a", "alcf", "x/a", "bad"), copy("a", "alcf", "z/a"), copy("b", "alcf", "x/b"))
    assert [one["path"] for one in view["copies"][1]["paths"]] == ["z/a", "x/b"]
    assert view["copies"][1]["whole"]


def test_a_doubt_about_the_published_file_itself_is_told() -> None:
    own = seen(copy("a", "nersc", "runs/r1/make/a1/out/a.h5", "bad", None, "corrupt twice"))["copies"][0]
    assert (own["at"], own["state"], own["whole"], own["reason"]) == ("nersc", "bad", False, "corrupt twice")
    again = seen(copy("a", "nersc", "runs/r1/make/a1/out/a.h5", at=AT + DAY))["copies"][0]
    assert (again["state"], again["whole"]) == ("published", True)


def test_where_files_are_purged_it_is_told_from_when() -> None:
    view = seen(purges={"nersc": 86_400.0 * 7})
    assert view["copies"][0]["purged_from"] == "2023-11-21T22:13:20.000Z"
    assert seen()["copies"][0]["purged_from"] is None


def test_files_of_one_content_are_one_digest_and_two_files() -> None:
    twice = product([["a", 1, "a" * 64], ["b", 1, "a" * 64]])
    assert digests_of(twice) == {"a" * 64}
    assert seen(copy("a", "alcf", "x"), of=twice)["copies"][1]["files"] == 2


def test_the_tables_name_sides_or_every_file() -> None:
    view = seen(copy("a", "alcf", "x/a"))
    assert [line.split()[:5] for line in _sides([view]).splitlines()[1:]] == [
        ["make", "nersc", "2", "of", "2"],
        ["make", "alcf", "1", "of", "2"],
    ]
    assert "runs/r1/make/a1/out/b.h5" in _each([view])
    assert _sides([]) == "no products"
