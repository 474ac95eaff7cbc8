"""The simulated mover in virtual time, and what can befall a transfer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from sandbox_kit import Place, at

from broker.clock import VirtualClock
from connectors.model import Accepted, Doubtful, Refused, Transfer, TransferItem, TransferState
from sandbox.blob import Blob
from sandbox.faults import Partition, TransferOdds
from sandbox.mover import SimulatedMover
from sandbox.world import SimulatedWorld, world_of

BIG = Blob(b"result\n", 10**7)


class Two:
    """Two sites, a mover between them, one file of ten megabytes."""

    def __init__(self, odds: TransferOdds | None = None) -> None:
        self.world = SimulatedWorld()
        self.a, self.b = Place(name="a"), Place(name="b")
        self.clock = self.a.clock
        for place in (self.a, self.b):
            place.site._clock = self.clock
            self.world.add(place.site)
        self.a.model.disk.put("out/big", BIG)
        self.mover = self.connect(odds)

    def connect(self, odds: TransferOdds | None = None) -> SimulatedMover:
        return SimulatedMover(self.world, self.clock, latency=10, bandwidth=1e6, odds=odds, rng=random.Random(1))

    def move(self, key: str = "t1", source: str = "out/big") -> object:
        item = TransferItem(source=source, destination="in/big")
        transfer = Transfer(key=key, source_site="a", destination_site="b", items=(item,))
        return self.mover.submit([transfer])[key]

    def status(self, key: str = "t1"):
        return self.mover.status([key])[key]


def test_a_transfer_takes_its_latency_and_its_bytes() -> None:
    two = Two()
    assert isinstance(two.move(), Accepted)
    assert two.mover.next_event_at() == at(10 + 10)
    two.clock.advance_to(at(15))
    assert (two.status().state, two.status().bytes_moved) == (TransferState.ACTIVE, 7_500_000)
    assert two.b.model.disk.get("in/big") is None
    two.clock.advance_to(at(20))
    assert two.status().state is TransferState.SUCCEEDED
    there = two.b.model.disk.get("in/big")
    assert (there.size, there.head) == (BIG.size, BIG.head)
    assert two.mover.next_event_at() is None
    assert two.b.model.disk.files_below("incoming") == []


def test_a_transfer_is_known_to_another_client_of_the_service() -> None:
    two = Two()
    two.move()
    two.mover = two.connect()
    assert two.status().state is TransferState.ACTIVE
    answer = two.move()
    assert isinstance(answer, Accepted)
    assert answer.adopted


def test_a_key_stands_for_one_set_of_files() -> None:
    two = Two()
    two.a.model.disk.put("out/other", BIG)
    two.move()
    assert isinstance(two.move(source="out/other"), Refused)


def test_a_stalled_transfer_stays_active_until_it_is_canceled() -> None:
    two = Two(TransferOdds(stalled=1))
    two.move()
    two.clock.advance_to(at(1e6))
    assert two.status().state is TransferState.ACTIVE
    assert two.mover.cancel(["t1"]) == {"t1": True}
    assert (two.status().state, two.status().reason, two.status().fault) == (TransferState.FAILED, "canceled", "")


def test_a_file_that_arrives_damaged_is_not_published() -> None:
    two = Two(TransferOdds(corrupt=1))
    two.move()
    two.clock.advance_to(at(20))
    status = two.status()
    assert (status.state, status.fault, status.site) == (TransferState.FAILED, "staging", "b")
    assert "corrupt" in status.reason
    assert two.b.model.disk.files_below("") == []


def test_a_source_that_vanishes_on_the_way_fails_the_transfer() -> None:
    two = Two(TransferOdds(source_vanished=1))
    two.move()
    two.clock.advance_to(at(20))
    assert (two.status().state, two.status().fault, two.status().site) == (TransferState.FAILED, "staging", "a")


def test_a_lost_reply_leaves_a_transfer_that_the_same_key_finds() -> None:
    two = Two(TransferOdds(reply_lost=1))
    assert isinstance(two.move(), Doubtful)
    answer = two.move()
    assert isinstance(answer, Accepted)
    assert answer.adopted


def test_a_site_that_goes_dark_on_the_way_is_named() -> None:
    two = Two()
    two.move()
    two.b.model.inject(Partition(start=at(5)))
    two.clock.advance_to(at(20))
    assert (two.status().state, two.status().fault, two.status().site) == (TransferState.FAILED, "site", "b")


def test_a_place_that_is_not_known_is_refused_with_those_that_are() -> None:
    two = Two()
    item = TransferItem(source="x", destination="x")
    answer = two.mover.submit([Transfer(key="t", source_site="a", destination_site="c", items=(item,))])["t"]
    assert isinstance(answer, Refused)
    assert "there are: a, b" in answer.reason


def test_half_a_publication_is_taken_back() -> None:
    two = Two()
    two.a.model.disk.write("out/small", b"s", 0)
    two.b.model.disk.write("in/taken/by-a-folder", b"x", 0)
    items = (
        TransferItem(source="out/small", destination="in/small"),
        TransferItem(source="out/small", destination="in/taken"),
    )
    two.mover.submit([Transfer(key="t1", source_site="a", destination_site="b", items=items)])
    two.clock.advance_to(at(20))
    assert two.status().state is TransferState.FAILED
    assert two.b.model.disk.get("in/small") is None


def test_virtual_bytes_become_real_ones_in_a_real_folder(tmp_path: Path) -> None:
    two = Two()
    two.a.model.disk.put("out/big", Blob(b"head", 3000))
    two.world.add_folder("store", tmp_path)
    item = TransferItem(source="out/big", destination="kept/big")
    two.mover.submit([Transfer(key="t", source_site="a", destination_site="store", items=(item,))])
    two.clock.advance_to(at(20))
    assert two.status("t").state is TransferState.SUCCEEDED
    assert (tmp_path / "kept/big").read_bytes() == b"head" + bytes(2996)


def test_a_link_that_leads_out_of_a_real_folder_is_not_followed(tmp_path: Path) -> None:
    two = Two()
    store = tmp_path / "store"
    store.mkdir()
    (store / "kept").symlink_to(tmp_path)
    two.world.add_folder("store", store)
    item = TransferItem(source="out/big", destination="kept/big")
    two.mover.submit([Transfer(key="t", source_site="a", destination_site="store", items=(item,))])
    two.clock.advance_to(at(20))
    assert two.status("t").state is TransferState.FAILED
    assert not (tmp_path / "big").exists()


def test_sites_of_one_clock_share_a_world_and_others_do_not() -> None:
    one, other = VirtualClock(), VirtualClock()
    assert world_of(one) is world_of(one)
    assert world_of(one) is not world_of(other)
    with pytest.raises(LookupError, match="there are: none"):
        world_of(other).site("a")


def test_the_service_forgets_the_oldest_ended_transfers_and_no_living_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.world.REMEMBERED", 3)
    two = Two()
    two.move("t0")
    two.clock.advance_to(at(20))
    two.status("t0")
    for number in range(1, 5):
        two.move(f"t{number}")
    states = {key: status.state for key, status in two.mover.status([f"t{n}" for n in range(5)]).items()}
    assert states.pop("t0") is TransferState.UNKNOWN
    assert set(states.values()) == {TransferState.ACTIVE}
