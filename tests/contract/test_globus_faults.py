"""What goes wrong with transfers at Globus, told as whose fault it is and what helps."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from globus_kit import CLIENT, id_of
from globus_mover_kit import CONTENT, PAIR, PATIENCE, a_rig, moved

from connectors.errors import SiteUnreachable
from connectors.model import Refused, TransferItem, TransferState
from sandbox.globus import Limits, Pace

# -- the data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["corrupt", "source_changes"])
def test_what_is_spoilt_once_is_copied_again_and_arrives(tmp_path: Path, fault: str) -> None:
    with a_rig(tmp_path, {"fault": fault}) as rig:
        status = moved(rig)
        assert status.state is TransferState.SUCCEEDED
        assert status.faults == 1
        assert rig.get("b", "to/a") == CONTENT


@pytest.mark.fault("F40")
def test_a_file_that_is_spoilt_every_time_is_told_as_corrupt_and_never_published(tmp_path: Path) -> None:
    with a_rig(tmp_path, {"fault": "corrupt", "times": 0, "job": "from/bad"}) as rig:
        status = moved(rig, ("from/good", "to/good"), ("from/bad", "to/bad"))
        assert (status.state, status.fault, status.site) == (TransferState.FAILED, "staging", "a")
        assert "corrupt" in status.reason
        assert status.bad_items == ("from/bad",)
        assert rig.get("b", "to/bad") is None
        assert rig.get("b", "to/good") is None
        assert rig.left_over() == []


def test_a_file_that_changes_every_time_is_told_as_corrupt(tmp_path: Path) -> None:
    with a_rig(tmp_path, {"fault": "source_changes", "times": 0}) as rig:
        status = moved(rig)
        assert (status.state, status.fault) == (TransferState.FAILED, "staging")
        assert "corrupt" in status.reason


def test_the_missing_ones_of_many_are_named(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        rig.put("a", "from/a", CONTENT)
        pairs = (("from/a", "to/a"), ("from/gone", "to/b"), ("from/lost", "to/c"))
        status = rig.settled(rig.connect(), rig.transfer(*pairs))
        assert (status.state, status.fault, status.site) == (TransferState.FAILED, "staging", "a")
        assert status.bad_items == ("from/gone", "from/lost")
        assert "source missing: from/gone, from/lost" in status.reason
        assert rig.get("b", "to/a") is None


# -- the sides ---------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_as_quota_at_the_destination(tmp_path: Path) -> None:
    with a_rig(tmp_path, {"fault": "collection_full", "collection": "^b", "room": 10}) as rig:
        status = moved(rig)
        assert (status.state, status.fault, status.site) == (TransferState.FAILED, "quota", "b")
        assert rig.get("b", "to/a") is None


def test_a_destination_where_nobody_may_write_fails(tmp_path: Path) -> None:
    with a_rig(tmp_path, {"fault": "collection_readonly", "collection": "^b"}) as rig:
        status = moved(rig)
        assert (status.state, status.fault) == (TransferState.FAILED, "site")
        assert "PERMISSION_DENIED" in status.reason


@pytest.mark.parametrize("dark", ["a", "b"])
def test_a_side_that_dies_on_the_way_is_given_up_and_named(tmp_path: Path, dark: str) -> None:
    with a_rig(tmp_path, pace=Pace(rate=100.0)) as rig:
        rig.put("a", "from/a", CONTENT)
        mover, transfer = rig.connect(), rig.transfer(PAIR)
        mover.submit([transfer])
        rig.globus.go_on(10)
        assert rig.state(mover, "k1") is TransferState.ACTIVE
        rig.darken(dark)
        status = rig.settled(mover, transfer, submit=False)
        assert (status.state, status.fault, status.site) == (TransferState.FAILED, "site", dark)
        assert "stalled" in status.reason
        assert rig.globus.service.tasks(owner=CLIENT.id)[-1].status.final


def test_a_short_break_is_waited_out(tmp_path: Path) -> None:
    down = {"fault": "collection_down", "collection": "^b", "at": 1, "for": 40}
    with a_rig(tmp_path, down, pace=Pace(rate=1000.0)) as rig:
        status = moved(rig)
        assert status.state is TransferState.SUCCEEDED
        assert status.faults > 0


@pytest.mark.fault("F40")
def test_a_task_without_any_progress_is_given_up_after_the_patience_and_not_before(tmp_path: Path) -> None:
    with a_rig(tmp_path, {"fault": "stall", "seconds": 86_400}) as rig:
        rig.put("a", "from/a", CONTENT)
        mover, transfer = rig.connect(), rig.transfer(PAIR)
        mover.submit([transfer])
        assert rig.state(mover, "k1") is TransferState.ACTIVE
        rig.globus.go_on(PATIENCE - 1)
        assert rig.state(mover, "k1") is TransferState.ACTIVE
        rig.globus.go_on(2)
        status = mover.status(["k1"])["k1"]
        assert (status.state, status.fault, status.site) == (TransferState.FAILED, "site", "")


def test_a_slow_side_is_not_a_stalled_one(tmp_path: Path) -> None:
    with a_rig(tmp_path, pace=Pace(rate=100.0, block=1000)) as rig:
        rig.put("a", "from/a", CONTENT * 20)
        status = rig.settled(rig.connect(), rig.transfer(PAIR))
        assert status.state is TransferState.SUCCEEDED
        assert status.bytes_moved == len(CONTENT) * 20


def test_a_queued_transfer_is_not_a_stalled_one(tmp_path: Path) -> None:
    stall = {"fault": "stall", "seconds": 4 * PATIENCE, "job": "crossfade k0"}
    with a_rig(tmp_path, stall, limits=Limits(slots=1), pace=Pace(latency=1.0)) as rig:
        rig.put("a", "from/a", CONTENT)
        patient = rig.connect()
        patient.submit([rig.transfer(PAIR, key="k0"), rig.transfer(("from/a", "to/b"), key="k1")])
        for _ in range(5):
            rig.globus.go_on(PATIENCE / 2)
            status = patient.status(["k1"])["k1"]
            assert status.state is TransferState.ACTIVE
            assert "queued" in status.detail.lower()


def test_a_collection_that_is_gone_fails_at_once(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        rig.put("a", "from/a", CONTENT)
        gone = replace(rig.configs["b"], collection=id_of("gone"))
        rig.configs["b"] = gone
        status = rig.settled(rig.connect(), rig.transfer(PAIR))
        assert (status.state, status.fault, status.site) == (TransferState.FAILED, "site", "b")


@pytest.mark.fault("F40")
def test_a_paused_collection_holds_with_its_administrators_words_and_goes_on_later(tmp_path: Path) -> None:
    with a_rig(tmp_path, {"fault": "collection_paused", "collection": "^b", "at": 1, "for": 90_000}) as rig:
        rig.globus.go_on(2)
        rig.put("a", "from/a", CONTENT)
        mover, transfer = rig.connect(), rig.transfer(PAIR)
        status = rig.settled(mover, transfer)
        assert status.state is TransferState.HELD
        assert "Paused for maintenance" in status.reason
        assert status.help
        rig.globus.go_on(86_400)
        assert rig.state(mover, "k1") is TransferState.HELD
        rig.globus.go_on(86_400)
        assert rig.settled(mover, transfer, submit=False).state is TransferState.SUCCEEDED


# -- publishing --------------------------------------------------------------------------------------------


def test_storage_that_cannot_rename_is_refused_before_anything_is_moved(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        rig.put("a", "from/a", CONTENT)
        rig.collection("b").rename_supported = False
        mover, transfer = rig.connect(), rig.transfer(PAIR)
        assert mover.refuses(transfer) == ""
        answer = mover.submit([transfer])["k1"]
        assert isinstance(answer, Refused)
        assert "cannot rename" in answer.reason
        assert "cannot rename" in mover.refuses(transfer)
        assert rig.transfers == 0


def test_a_private_folder_needs_no_rename(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        rig.collection("b").rename_supported = False
        rig.put("a", "from/f/x", b"X")
        status = moved(rig, PAIR, ("from/f/", "to/f/"), private=True)
        assert status.state is TransferState.SUCCEEDED
        assert rig.get("b", "to/a") == CONTENT
        assert rig.get("b", "to/f/x") == b"X"
        assert rig.calls["POST operation/endpoint/ID/rename"] == 0
        assert rig.left_over() == []


@pytest.mark.fault("F40")
def test_nothing_is_seen_under_its_name_before_it_was_verified(tmp_path: Path) -> None:
    with a_rig(tmp_path, pace=Pace(rate=1000.0)) as rig:
        rig.put("a", "from/a", CONTENT)
        mover, transfer = rig.connect(), rig.transfer(PAIR)
        mover.submit([transfer])
        rig.globus.run_out()
        assert rig.get("b", "to/a") is None
        assert rig.state(mover, "k1") is TransferState.SUCCEEDED
        assert rig.get("b", "to/a") == CONTENT
        assert rig.left_over() == []


def test_a_collection_that_dies_while_publishing_is_waited_for(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        rig.put("a", "from/a", CONTENT)
        mover, transfer = rig.connect(), rig.transfer(PAIR)
        mover.submit([transfer])
        rig.globus.run_out()
        rig.darken("b")
        assert rig.state(mover, "k1") is TransferState.ACTIVE
        assert "published" in mover.status(["k1"])["k1"].detail
        rig.collection("b").down = ""
        assert rig.state(mover, "k1") is TransferState.SUCCEEDED


@pytest.mark.parametrize(("source", "target"), [("from/f/", "to/taken"), ("from/a", "to/full")])
def test_what_is_in_the_way_of_a_name_fails_the_transfer_and_stays(tmp_path: Path, source: str, target: str) -> None:
    with a_rig(tmp_path) as rig:
        rig.put("a", "from/a", CONTENT)
        rig.put("a", "from/f/x", b"X")
        rig.put("b", "to/taken", b"a file")
        rig.put("b", "to/full/inside", b"in a folder")
        end = target + "/" if source.endswith("/") else target
        status = rig.settled(rig.connect(), rig.transfer((source, end)))
        assert (status.state, status.fault, status.site) == (TransferState.FAILED, "staging", "b")
        assert "cannot be published" in status.reason
        assert rig.get("b", "to/taken") == b"a file"
        assert rig.get("b", "to/full/inside") == b"in a folder"
        assert rig.left_over() == []


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
@pytest.mark.parametrize("there", [True, False], ids=["replaces", "new"])
def test_a_rename_that_fails_with_a_word_nobody_knows_is_found_out(tmp_path: Path, there: bool, done: bool) -> None:
    rule = {"fault": "globus_error", "code": "ExternalError.RenameFailed", "path": "/rename$", "handled": done}
    with a_rig(tmp_path, rule) as rig:
        if there:
            rig.put("b", "to/a", b"old")
        assert moved(rig).state is TransferState.SUCCEEDED
        assert rig.get("b", "to/a") == CONTENT


def test_files_reach_a_place_on_its_own_collection(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        status = moved(rig, ("from/a", "2026/result"), destination_site="store:")
        assert status.state is TransferState.SUCCEEDED
        assert rig.get("store:", "2026/result") == CONTENT
        assert rig.left_over("store:") == []


# -- history -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("promised", [False, True], ids=["by size", "by digest"])
@pytest.mark.parametrize("private", [False, True])
def test_a_purged_task_is_settled_by_its_destination(tmp_path: Path, promised: bool, private: bool) -> None:
    with a_rig(tmp_path) as rig:
        rig.put("a", "from/a", CONTENT)
        rig.put("a", "from/f/x/y", b"XY")
        sha256 = hashlib.sha256(CONTENT).hexdigest() if promised else None
        items = (
            TransferItem(source="from/a", destination="to/a", sha256=sha256),
            TransferItem(source="from/f/", destination="to/f/"),
        )
        mover, transfer = rig.connect(), rig.transfer(items=items, private=private)
        mover.submit([transfer])
        rig.globus.run_out()
        rig.globus.service.purge()
        status = rig.settled(mover, transfer, submit=False)
        assert status.state is TransferState.SUCCEEDED, status
        assert rig.get("b", "to/a") == CONTENT
        assert rig.get("b", "to/f/x/y") == b"XY"
        assert rig.transfers == 1


@pytest.mark.fault("F40")
def test_a_purged_task_that_brought_only_a_part_is_a_failure(tmp_path: Path) -> None:
    with a_rig(tmp_path, {"fault": "corrupt", "times": 0, "job": "from/bad"}) as rig:
        for name in ("a", "bad"):
            rig.put("a", f"from/{name}", CONTENT)
        mover = rig.connect()
        mover.submit([rig.transfer(PAIR, ("from/bad", "to/bad"))])
        rig.globus.go_on(8 * 86_400)
        rig.globus.service.purge()
        status = mover.status(["k1"])["k1"]
        assert (status.state, status.fault) == (TransferState.FAILED, "staging")
        assert "from/bad" in status.reason
        assert rig.get("b", "to/a") is None


# -- Globus itself -----------------------------------------------------------------------------------------


def test_globus_itself_away_is_told_as_that_and_nothing_is_lost(tmp_path: Path) -> None:
    away = {"fault": "status", "code": 503, "times": 0, "path": "/v0.10", "until": 100}
    with a_rig(tmp_path, away) as rig:
        rig.put("a", "from/a", CONTENT)
        mover, transfer = rig.connect(), rig.transfer(PAIR)
        with pytest.raises(SiteUnreachable) as caught:
            mover.submit([transfer])
        assert caught.value.site == "globus"
        assert [item.ok for item in mover.probe()] == [False]
        rig.globus.go_on(101)
        assert rig.settled(mover, transfer).state is TransferState.SUCCEEDED
        assert rig.transfers == 1


def test_globus_away_during_a_transfer_is_told_and_the_transfer_goes_on(tmp_path: Path) -> None:
    away = {"fault": "status", "code": 502, "times": 0, "path": "/v0.10", "from": 50, "until": 100}
    with a_rig(tmp_path, away, pace=Pace(rate=100.0)) as rig:
        rig.put("a", "from/a", CONTENT)
        mover, transfer = rig.connect(), rig.transfer(PAIR)
        mover.submit([transfer])
        rig.globus.go_on(60)
        with pytest.raises(SiteUnreachable) as caught:
            mover.status(["k1"])
        assert caught.value.site == "globus"
        rig.globus.go_on(60)
        assert rig.settled(mover, transfer, submit=False).state is TransferState.SUCCEEDED


def test_a_healthy_probe_has_only_good_news(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        found = rig.connect().probe()
        assert {(item.site, item.capability, item.ok) for item in found} == {
            ("globus", "credentials", True),
            ("globus", "transfer", True),
        }


def test_the_status_of_a_thousand_transfers_is_one_question(tmp_path: Path) -> None:
    with a_rig(tmp_path, limits=Limits(pending=2000), inline=False) as rig:
        rig.put("a", "from/a", b"A")
        mover = rig.connect()
        keys = [f"k{n}" for n in range(1000)]
        mover.submit([rig.transfer(("from/a", f"to/{key}"), key=key, private=True) for key in keys])
        rig.calls.clear()
        found = mover.status(keys)
        assert {status.state for status in found.values()} == {TransferState.ACTIVE}
        assert dict(rig.calls) == {"GET task_list": 1}


def test_few_calls_are_made_for_a_transfer(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        moved(rig)  # what kinds the collections are is known from here on
        rig.calls.clear()
        mover = rig.movers[0]
        rig.settled(mover, rig.transfer(("from/a", "to/b"), key="k2"))
        assert rig.calls["GET submission_id"] == 2  # one for the clean-up
        assert sum(rig.calls.values()) <= 10, rig.calls


# -- canceling ---------------------------------------------------------------------------------------------


def test_a_cancel_that_takes_a_while_is_true_only_when_the_task_has_ended(tmp_path: Path) -> None:
    late = {"fault": "cancel_late", "seconds": 30}
    with a_rig(tmp_path, late, pace=Pace(rate=10.0)) as rig:
        rig.put("a", "from/a", CONTENT)
        mover = rig.connect()
        mover.submit([rig.transfer(PAIR)])
        assert mover.cancel(["k1"]) == {"k1": False}
        assert rig.state(mover, "k1") is TransferState.ACTIVE
        rig.globus.go_on(31)
        assert mover.cancel(["k1"]) == {"k1": True}
        status = mover.status(["k1"])["k1"]
        assert (status.state, status.reason, status.fault) == (TransferState.FAILED, "canceled", "")
        assert rig.left_over() == []


def test_another_process_cancels_by_the_note_alone(tmp_path: Path) -> None:
    with a_rig(tmp_path, pace=Pace(rate=10.0)) as rig:
        rig.put("a", "from/a", CONTENT)
        rig.connect().submit([rig.transfer(PAIR)])
        assert rig.connect().cancel(["k1"]) == {"k1": True}
        rig.globus.run_out()
        assert rig.get("b", "to/a") is None
        assert rig.left_over() == []


def test_a_transfer_that_may_still_be_asked_for_elsewhere_is_not_canceled_yet(tmp_path: Path) -> None:
    lost = {"fault": "request_lost", "method": "POST", "path": "/v0.10/transfer$", "times": 3}
    with a_rig(tmp_path, lost) as rig:
        rig.put("a", "from/a", CONTENT)
        mover = rig.connect()
        with pytest.raises(SiteUnreachable):
            mover.submit([rig.transfer(PAIR)])
        for one in (mover, rig.connect()):
            assert one.cancel(["k1"]) == {"k1": False}
        rig.globus.go_on(600)
        assert rig.connect().cancel(["k1"]) == {"k1": True}
        assert rig.transfers == 0
