"""A worker dies around a submission, or the site's answer does: the job exists once, and is found again.

Real processes, killed by SIGKILL at exactly the named call, over SQLite; and a facility behind a real socket whose
answers get lost. What was started is counted by the payloads themselves.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from facility_kit import CUT, Facility
from kill_kit import Workshop, workshop
from proxy_kit import Proxy

PAIR = {
    "a": {"run": "sleep 0.3; echo made >x", "outputs": [{"path": "x"}]},
    "b": {"inputs": [{"name": "x", "from": "a"}], "run": "sleep 0.2; cat x >y", "outputs": [{"path": "y"}]},
}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    with workshop(tmp_path) as made:
        yield made


@pytest.fixture
def facility(tmp_path: Path, shop: Workshop) -> Iterator[Facility]:
    """The site `here`, behind HTTP."""
    with Facility("here", tmp_path / "here") as made:
        yield made


# -- a worker dies ---------------------------------------------------------------------------------------------


@pytest.mark.fault("F01")
@pytest.mark.parametrize("nth", [1, 2, 4])
def test_a_worker_killed_with_a_run_in_its_hands_and_nothing_written_is_followed_by_another(
    shop: Workshop, nth: int
) -> None:
    """At its first look at the run, and at later ones, when a job is there already."""
    run = shop.submit(PAIR)
    shop.killed(shop.process("claimed", nth=nth))
    shop.goes_on()
    shop.assert_whole(run)


@pytest.mark.fault("F02")
@pytest.mark.parametrize("nth", [1, 2])
def test_a_key_that_was_committed_and_never_used_is_looked_up_and_then_submitted_once(shop: Workshop, nth: int) -> None:
    """The stage's first attempt is its only one: what was to be submitted is, under the same key."""
    run = shop.submit(PAIR)
    shop.killed(shop.process("key committed", nth=nth))
    open_rows = [row for row in shop.store.attempts(run) if row.open]
    assert [(row.state, row.answer) for row in open_rows] == [("SUBMITTING", "")]
    assert shop.starts().total() == nth - 1
    shop.goes_on()
    shop.assert_whole(run)
    keys = {row.submit_key for row in shop.store.attempts(run)}
    assert {row.submit_key for row in open_rows} <= keys
    assert len(keys) == 2


@pytest.mark.fault("F03")
def test_a_worker_killed_while_it_waits_for_the_sites_answer_leaves_a_job_that_is_found_by_its_key(
    shop: Workshop, facility: Facility
) -> None:
    run = shop.submit(PAIR)
    facility.answering.clear()
    ports = {"here": facility.port}
    waiting = shop.process(ports=ports)
    assert facility.holding.wait(60), shop.told()
    os.kill(waiting.pid, signal.SIGKILL)
    shop.killed(waiting)
    (row,) = shop.store.attempts(run)
    assert (row.state, row.answer, facility.accepted) == ("SUBMITTING", "", {row.submit_key: 1})
    facility.answering.set()
    shop.goes_on(ports=ports)
    shop.assert_whole(run)
    assert set(facility.accepted.values()) == {1}


@pytest.mark.fault("F04")
@pytest.mark.parametrize("nth", [1, 2])
def test_a_worker_killed_with_the_answer_in_its_hands_leaves_a_job_that_is_found_by_its_key(
    shop: Workshop, nth: int
) -> None:
    run = shop.submit(PAIR)
    shop.killed(shop.process("answered", nth=nth))
    assert [row.answer for row in shop.store.attempts(run) if row.open] == [""]
    shop.goes_on()
    shop.assert_whole(run)


@pytest.mark.fault("F04")
def test_a_facility_gets_no_second_submission_when_the_first_ones_answer_died_with_its_reader(
    shop: Workshop, facility: Facility
) -> None:
    run = shop.submit(PAIR)
    ports = {"here": facility.port}
    shop.killed(shop.process("answered", ports=ports))
    shop.goes_on(ports=ports)
    shop.assert_whole(run)
    assert set(facility.accepted.values()) == {1}


@pytest.mark.fault("F05")
@pytest.mark.parametrize("nth", [1, 2])
def test_what_a_published_product_sets_free_goes_on_although_nobody_lived_to_say_so(shop: Workshop, nth: int) -> None:
    """Killed as soon as the transaction with the product was committed: every hint dies with it."""
    run = shop.submit(PAIR)
    shop.killed(shop.process("published", nth=nth))
    assert len(shop.store.products(run)) == nth
    shop.goes_on()
    shop.assert_whole(run)


# -- the answer dies -------------------------------------------------------------------------------------------


@pytest.mark.fault("F26")
@pytest.mark.parametrize("times", [1, 2])
def test_a_submission_whose_answer_got_lost_on_the_wire_is_found_by_its_key_and_not_repeated(
    shop: Workshop, facility: Facility, times: int
) -> None:
    run = shop.submit(PAIR)
    with Proxy("127.0.0.1", facility.port) as proxy:
        proxy.drop_replies(after=b"POST /submit", times=times)
        shop.goes_on(ports={"here": proxy.port})
    shop.assert_whole(run)
    assert len(facility.accepted) == 2
    assert set(facility.accepted.values()) == {1}


@pytest.mark.fault("F26")
def test_a_submission_whose_answer_was_cut_short_is_found_by_its_key_and_not_repeated(
    shop: Workshop, facility: Facility
) -> None:
    run = shop.submit(PAIR)
    facility.mishaps = [CUT, CUT]
    shop.goes_on(ports={"here": facility.port})
    shop.assert_whole(run)
    assert facility.mishaps == []
    assert set(facility.accepted.values()) == {1}


@pytest.mark.fault("F27")
@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_submission_that_was_accepted_and_answered_with_an_error_is_found_by_its_key_and_not_repeated(
    shop: Workshop, facility: Facility, status: int
) -> None:
    run = shop.submit(PAIR)
    facility.mishaps = [status, status]
    shop.goes_on(ports={"here": facility.port})
    shop.assert_whole(run)
    assert facility.mishaps == []
    assert len(facility.accepted) == 2
    assert set(facility.accepted.values()) == {1}
