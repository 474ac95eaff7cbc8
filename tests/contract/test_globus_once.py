"""However often it is asked for, and whatever dies or is lost on the way: one task for each key, and the files once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from globus_mover_kit import Killed, Rig, a_rig, die_at, steps_of

from connectors.errors import SiteUnreachable
from connectors.globus.mover import GlobusMover
from connectors.model import Accepted, SubmitAnswer, TransferItem, TransferState

POST = {"method": "POST", "path": "/v0.10/transfer$"}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with a_rig(tmp_path) as made:
        made.put("a", "from/one", b"1" * 1000)
        made.put("a", "from/more/two", b"22")
        made.put("b", "to/more/there", b"was here before")
        yield made


PAIRS = (("from/one", "to/deep/one"), ("from/more/", "to/more/"))


def _arrived(rig: Rig) -> bool:
    return rig.get("b", "to/deep/one") == b"1" * 1000 and rig.get("b", "to/more/two") == b"22"


def _life(rig: Rig) -> Callable[[Callable[[str], None]], object]:
    def run(step: Callable[[str], None]) -> None:
        mover = rig.connect(step=step)
        status = rig.settled(mover, rig.transfer(*PAIRS))
        assert status.state is TransferState.SUCCEEDED, status

    return run


def test_all_that_leaves_a_trace_is_a_step(rig: Rig) -> None:
    assert steps_of(_life(rig)) == [
        "id fetched",
        "noted",
        "posted",
        "task noted",
        "verified",
        "renamed",
        "renamed",
        "renamed",
        "done",
    ]
    assert rig.transfers == 1


@pytest.mark.fault("F40")
@pytest.mark.parametrize("number", range(9))
def test_a_process_that_dies_after_any_step_leaves_one_task_and_all_files_come(rig: Rig, number: int) -> None:
    with pytest.raises(Killed):
        _life(rig)(die_at(number))
    mover = rig.connect()
    assert rig.state(mover, "k1") in {TransferState.UNKNOWN, TransferState.SUCCEEDED}
    status = rig.settled(mover, rig.transfer(*PAIRS))
    assert status.state is TransferState.SUCCEEDED, status
    assert _arrived(rig)
    assert rig.get("b", "to/more/there") == b"was here before"
    assert rig.transfers == 1


@pytest.mark.parametrize("first", range(9))
@pytest.mark.parametrize("second", [0, 1, 2])
def test_dying_again_on_the_way_back_changes_nothing(rig: Rig, first: int, second: int) -> None:
    for number in (first, second):
        try:
            _life(rig)(die_at(number))
        except Killed:
            continue
    assert rig.settled(rig.connect(), rig.transfer(*PAIRS)).state is TransferState.SUCCEEDED
    assert _arrived(rig)
    assert rig.transfers == 1


@pytest.mark.fault("F40")
def test_a_connection_that_drops_after_the_post_was_taken_leads_to_the_same_task(tmp_path: Path) -> None:
    with a_rig(tmp_path, {"fault": "reply_lost", **POST, "times": 3}) as rig:
        rig.put("a", "from/one", b"1")
        mover, transfer = rig.connect(), rig.transfer(("from/one", "to/one"))
        with pytest.raises(SiteUnreachable) as caught:
            mover.submit([transfer])
        assert caught.value.site == "globus"
        assert caught.value.effect_possible
        assert rig.transfers == 1
        answer = mover.submit([transfer])["k1"]
        assert isinstance(answer, Accepted)
        assert rig.settled(mover, transfer).state is TransferState.SUCCEEDED
        assert rig.transfers == 1


def test_a_status_after_a_lost_answer_finds_the_task_too(tmp_path: Path) -> None:
    with a_rig(tmp_path, {"fault": "reply_lost", **POST, "times": 3}) as rig:
        rig.put("a", "from/one", b"1")
        mover, transfer = rig.connect(), rig.transfer(("from/one", "to/one"))
        with pytest.raises(SiteUnreachable):
            mover.submit([transfer])
        assert rig.settled(mover, transfer, submit=False).state is TransferState.SUCCEEDED
        assert rig.transfers == 1


@pytest.mark.fault("F40")
@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
def test_a_refused_submission_id_is_looked_for_by_its_label_first(tmp_path: Path, taken: bool) -> None:
    rule = {"fault": "globus_error", **POST, "times": 1, "handled": taken, "status": 400}
    with a_rig(tmp_path, rule | {"code": "ClientError.BadRequest", "text": "submission_id is unknown"}) as rig:
        rig.put("a", "from/one", b"1")
        mover, transfer = rig.connect(), rig.transfer(("from/one", "to/one"))
        answer = mover.submit([transfer])["k1"]
        assert isinstance(answer, Accepted)
        assert answer.adopted is taken
        assert rig.settled(mover, transfer).state is TransferState.SUCCEEDED
        assert rig.transfers == 1


def _at_once(rig: Rig, movers: list[GlobusMover], pairs: tuple[tuple[str, str], ...]) -> list[SubmitAnswer]:
    barrier = threading.Barrier(len(movers))
    answers: list[SubmitAnswer] = []

    def ask(mover: GlobusMover) -> None:
        barrier.wait()
        answers.append(mover.submit([rig.transfer(*pairs)])["k1"])

    threads = [threading.Thread(target=ask, args=(mover,)) for mover in movers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_two_processes_that_ask_at_once_get_one_task(rig: Rig) -> None:
    movers = [rig.connect() for _ in range(4)]
    answers = _at_once(rig, movers, PAIRS)
    assert len({answer.native_id for answer in answers if isinstance(answer, Accepted)}) == 1
    assert rig.transfers == 1
    for mover in movers:
        assert rig.settled(mover, rig.transfer(*PAIRS)).state is TransferState.SUCCEEDED
    assert _arrived(rig)
    assert rig.transfers == 1


def test_threads_of_one_mover_that_ask_at_once_get_one_task(rig: Rig) -> None:
    mover = rig.connect()
    answers = _at_once(rig, [mover] * 6, PAIRS)
    assert len({answer.native_id for answer in answers if isinstance(answer, Accepted)}) == 1
    assert rig.transfers == 1


def test_two_processes_that_ask_again_at_once_after_a_failure_get_one_more_task(rig: Rig) -> None:
    pairs = (("from/late", "to/late"),)
    assert rig.settled(rig.connect(), rig.transfer(*pairs)).state is TransferState.FAILED
    rig.put("a", "from/late", b"L")
    movers = [rig.connect() for _ in range(4)]
    _at_once(rig, movers, pairs)
    assert rig.transfers == 2
    for mover in movers:
        assert rig.settled(mover, rig.transfer(*pairs)).state is TransferState.SUCCEEDED
    assert rig.get("b", "to/late") == b"L"
    assert rig.transfers == 2


def test_two_processes_that_publish_at_once_do_not_hinder_each_other(rig: Rig) -> None:
    movers = [rig.connect(), rig.connect()]
    for mover in movers:
        mover.submit([rig.transfer(*PAIRS)])
    rig.globus.run_out()
    threads = [threading.Thread(target=mover.status, args=(["k1"],)) for mover in movers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mover in movers:
        assert rig.settled(mover, rig.transfer(*PAIRS)).state is TransferState.SUCCEEDED
    assert _arrived(rig)


def test_another_transfer_under_the_same_key_is_refused(rig: Rig) -> None:
    mover = rig.connect()
    mover.submit([rig.transfer(*PAIRS)])
    for one in (mover, rig.connect()):
        answer = one.submit([rig.transfer(("from/one", "to/elsewhere"))])["k1"]
        assert "belongs to another transfer" in str(answer)
    assert rig.transfers == 1


def test_asking_again_with_another_deadline_or_label_is_the_same_transfer(rig: Rig) -> None:
    mover = rig.connect()
    mover.submit([rig.transfer(*PAIRS)])
    answer = rig.connect().submit(
        [rig.transfer(*PAIRS, label="other", urgent=True, deadline=rig.globus.clock() + 10**12)]
    )
    assert isinstance(answer["k1"], Accepted)
    assert rig.transfers == 1


def test_a_key_that_was_forgotten_is_moved_anew(rig: Rig) -> None:
    mover = rig.connect()
    rig.settled(mover, rig.transfer(*PAIRS))
    mover.forget(["k1"])
    assert rig.state(mover, "k1") is TransferState.UNKNOWN
    assert rig.settled(mover, rig.transfer(*PAIRS)).state is TransferState.SUCCEEDED
    assert rig.transfers == 2


def test_what_is_under_way_is_not_forgotten(rig: Rig) -> None:
    mover = rig.connect()
    mover.submit([rig.transfer(*PAIRS)])
    mover.forget(["k1"])
    assert isinstance(rig.connect().submit([rig.transfer(*PAIRS)])["k1"], Accepted)
    assert rig.transfers == 1


def test_a_note_of_another_version_is_not_taken_for_none(rig: Rig) -> None:
    rig.notes.put("globus:k1", '{"v": 99}')
    answer = rig.connect().submit([rig.transfer(*PAIRS)])["k1"]
    assert "makes no sense" in str(answer) or "another version" in str(answer)
    assert rig.transfers == 0


def test_items_with_a_digest_are_checked_by_globus_itself(rig: Rig) -> None:
    item = TransferItem(source="from/one", destination="to/one", sha256="0" * 64)
    status = rig.settled(rig.connect(), rig.transfer(items=(item,)))
    assert (status.state, status.fault) == (TransferState.FAILED, "staging")
    assert "corrupt" in status.reason
    assert status.bad_items == ("from/one",)


def _second_life(rig: Rig) -> Callable[[Callable[[str], None]], object]:
    """Fails, is asked for again, and arrives."""
    transfer = rig.transfer(("from/late", "to/late"))

    def run(step: Callable[[str], None]) -> None:
        mover = rig.connect(step=step)
        assert rig.settled(mover, transfer).state is TransferState.FAILED
        rig.put("a", "from/late", b"L")
        assert rig.settled(mover, transfer).state is TransferState.SUCCEEDED

    return run


def test_the_steps_of_a_second_attempt(rig: Rig) -> None:
    assert steps_of(_second_life(rig)) == [
        *("id fetched", "noted", "posted", "task noted", "canceled at Globus", "failed"),
        *("next id noted", "noted", "posted", "task noted", "verified", "renamed", "done"),
    ]


@pytest.mark.parametrize("number", range(13))
def test_a_process_that_dies_during_a_second_attempt_leaves_one_task_for_each(rig: Rig, number: int) -> None:
    with pytest.raises(Killed):
        _second_life(rig)(die_at(number))
    mover, transfer = rig.connect(), rig.transfer(("from/late", "to/late"))
    rig.put("a", "from/late", b"L")
    status = rig.settled(mover, transfer)
    if status.state is TransferState.FAILED:  # the first attempt's end, told late
        status = rig.settled(mover, transfer)
    assert status.state is TransferState.SUCCEEDED, status
    assert rig.get("b", "to/late") == b"L"
    assert rig.transfers <= 2


@pytest.mark.parametrize("number", range(4))
def test_a_process_that_dies_with_a_private_transfer_leaves_one_task(rig: Rig, number: int) -> None:
    transfer = rig.transfer(*PAIRS, private=True)

    def run(step: Callable[[str], None]) -> None:
        assert rig.settled(rig.connect(step=step), transfer).state is TransferState.SUCCEEDED

    with pytest.raises(Killed):
        run(die_at(number))
    assert rig.settled(rig.connect(), transfer).state is TransferState.SUCCEEDED
    assert _arrived(rig)
    assert rig.transfers == 1
