"""Identities: run ids that sort by time, submit keys that depend on all that makes an attempt."""

from __future__ import annotations

import re
from itertools import pairwise
from random import Random

import pytest

from broker.clock import VirtualClock, micros, seconds, wall_clock
from broker.ids import random_bits, run_id, submit_key

NOW = 1_770_000_000_123_456  # 2026-02-02 02:40:00 UTC
PARTS = ("abc", 0, "260202-024000-00000000", "recon", 1, "d1")


def key(*changed: object) -> str:
    return submit_key(*changed)  # type: ignore[arg-type]


# -- submit keys ---------------------------------------------------------------------------------------------------


def test_a_submit_key_has_fifteen_characters_that_every_scheduler_keeps() -> None:
    for attempt in range(200):
        assert re.fullmatch(r"cf[a-z2-7]{13}", key(*PARTS[:4], attempt, "d1"))


def test_a_submit_key_is_the_same_for_ever() -> None:
    # a key committed by an older version must still find its job: this value may never change
    assert key(*PARTS) == key(*PARTS)
    assert key(*PARTS) == "cf" + KNOWN


KNOWN = "pckybph4yontp"


@pytest.mark.parametrize(
    ("place", "other"),
    [(0, "abd"), (1, 1), (2, "260202-024000-00000001"), (3, "recon2"), (4, 2), (5, "d2")],
    ids=["installation", "incarnation", "run", "stage", "attempt", "digest"],
)
def test_every_part_changes_the_key(place: int, other: object) -> None:
    parts = [*PARTS[:place], other, *PARTS[place + 1 :]]
    assert key(*parts) != key(*PARTS)


def test_parts_do_not_run_into_one_another() -> None:
    assert submit_key("a", 1, "b", "c", 1, "d") != submit_key("a", 11, "b", "c", 1, "d")
    assert submit_key("a", 1, "bc", "d", 1, "e") != submit_key("a", 1, "b", "cd", 1, "e")
    assert submit_key("a", 1, "b", "c1", 2, "d") != submit_key("a", 1, "b", "c", 12, "d")


def test_ten_thousand_keys_are_all_different() -> None:
    assert len({submit_key("i", 0, "r", f"s{n}", 1, "d") for n in range(10_000)}) == 10_000


# -- run ids -------------------------------------------------------------------------------------------------------


def test_a_run_id_tells_its_time_and_can_be_read_out_on_the_telephone() -> None:
    # 02:40:00 UTC; 40 zero bits are eight times the alphabet's first character
    assert run_id(NOW, lambda _: 0) == "260202-024000-00000000"
    assert run_id(NOW, lambda count: (1 << count) - 1) == "260202-024000-zzzzzzzz"
    assert not set("ilou") & set("".join(run_id(NOW, random_bits)[14:] for _ in range(200)))


def test_run_ids_sort_by_time() -> None:
    rng = Random(1)
    ids = [run_id(NOW + step * 1_000_000, rng.getrandbits) for step in range(0, 400_000, 997)]
    assert all(earlier < later for earlier, later in pairwise(ids))


def test_run_ids_of_one_moment_are_different() -> None:
    assert len({run_id(NOW, random_bits) for _ in range(5000)}) == 5000


def test_forty_bits_are_asked_for_and_all_of_them_count() -> None:
    asked: list[int] = []

    def bits(count: int) -> int:
        asked.append(count)
        return 1

    assert run_id(NOW, bits).endswith("-00000001")
    assert asked == [40]
    assert len({run_id(NOW, lambda _, bit=bit: 1 << bit) for bit in range(40)}) == 40


# -- time ------------------------------------------------------------------------------------------------------------


def test_the_virtual_clock_stands_still_until_it_is_told_and_never_goes_back() -> None:
    clock = VirtualClock(start=5)
    assert (clock(), clock()) == (5, 5)
    clock.advance(0.5)
    assert clock() == 500_005
    clock.advance_to(3)
    assert clock() == 500_005
    with pytest.raises(ValueError, match="never goes back"):
        clock.advance(-1)


def test_times_are_microseconds() -> None:
    assert (micros(1.5), seconds(1_500_000)) == (1_500_000, 1.5)
    assert wall_clock() > 1_700_000_000_000_000
