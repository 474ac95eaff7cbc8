"""What a simulated site does when things go wrong."""

from __future__ import annotations

import pytest
from sandbox_kit import Place, at, job, key_of

from connectors.errors import CredentialError, QuotaError, SiteBusy, SiteUnreachable
from connectors.harness import GATED
from connectors.model import Accepted, Doubtful, JobState, Refused
from sandbox.faults import (
    AccountingPurged,
    Busy,
    ComputeDown,
    ControllerCrash,
    CredentialExpired,
    DisksGone,
    IncompleteListing,
    NodeFailure,
    Odds,
    Partition,
    Refusing,
    SiteLost,
    Slow,
    parse_fault,
    parse_odds,
)

ONE = [key_of(1)]


def test_behind_a_partition_jobs_live_on() -> None:
    place = Place(Partition(start=at(10), end=at(500)))
    place.submit(job(1, "seconds=100"))
    place.go_to(20)
    for call in (lambda: place.site.status(ONE), lambda: place.site.read("spool/x"), lambda: place.site.cancel(ONE)):
        with pytest.raises(SiteUnreachable):
            call()
    place.go_to(500)
    assert place.state() is JobState.SUCCEEDED
    assert place.status().ended_at == at(100)


def test_a_partition_may_cut_off_a_part_only() -> None:
    place = Place(Partition(start=at(0), capabilities=("files",)))
    place.submit(job(1))
    with pytest.raises(SiteUnreachable):
        place.site.list("spool")
    bad = {item.capability for item in place.site.probe() if not item.ok}
    assert bad == {"files"}


def test_when_the_nodes_fail_running_jobs_die_with_their_records() -> None:
    place = Place(ComputeDown(start=at(50), end=at(100)), slots=2)
    place.submit(job(1, "seconds=100"), job(2, "seconds=10"))
    place.go_on()
    assert (place.state(1), place.state(2)) == (JobState.NODE_FAILED, JobState.SUCCEEDED)
    assert place.exits(1) == []


def test_when_the_nodes_fail_jobs_may_be_requeued_and_finish_later() -> None:
    place = Place(ComputeDown(start=at(50), end=at(200), requeue=True))
    place.submit(job(1, "seconds=100"))
    place.go_on()
    assert (place.state(), place.status().restarts) == (JobState.SUCCEEDED, 1)
    assert place.status().ended_at == at(300)


def test_a_drawn_node_failure_hits_as_many_jobs_as_it_says() -> None:
    place = Place(NodeFailure(start=at(50), count=3), slots=10)
    place.submit(*(job(number, "seconds=100") for number in range(10)))
    place.go_on()
    assert sorted(place.ends()) == ["done"] * 7 + ["node_failed"] * 3


def test_without_disks_files_are_dark_and_records_are_lost() -> None:
    place = Place(DisksGone(start=at(50), end=at(200)), slots=2)
    place.submit(job(1, "seconds=100"), job(2, "seconds=300"))
    place.go_to(60)
    with pytest.raises(SiteUnreachable):
        place.site.list("spool")
    place.go_on()
    assert (place.state(1), place.exits(1)) == (JobState.SUCCEEDED, [])
    assert place.exits(2)[0].kind == "done"


def test_disks_may_come_back_empty() -> None:
    place = Place(DisksGone(start=at(50), end=at(200), wiped=True))
    place.submit(job(1))
    place.go_to(200)
    assert list(place.site.list("", recursive=True)) == []


def test_a_job_that_starts_without_disks_fails() -> None:
    place = Place(DisksGone(start=at(5), end=at(200)), submit_latency=10)
    place.submit(job(1))
    place.go_to(200)
    assert place.state() is JobState.FAILED
    assert place.model.journal.started_total == 0


def test_a_lost_site_never_answers_again_and_runs_nothing() -> None:
    place = Place(SiteLost(start=at(50)), slots=1)
    place.submit(job(1, "seconds=100"), job(2))
    place.go_to(1e7)
    with pytest.raises(SiteUnreachable):
        place.site.status(ONE)
    assert place.ends() == ["node_failed"]
    assert place.model.next_event_at() is None


def test_a_slow_site_stretches_what_starts_there() -> None:
    place = Place(Slow(start=at(0), end=at(10), factor=3), slots=1)
    place.submit(job(1, "seconds=100"), job(2, "seconds=100"))
    place.go_on()
    assert (place.status(1).ended_at, place.status(2).ended_at) == (at(300), at(400))


def test_a_lost_reply_leaves_a_job_and_a_lost_request_leaves_none() -> None:
    place = Place()
    place.model.ordain("reply_lost")
    assert isinstance(place.site.submit([job(1)])[key_of(1)], Doubtful)
    place.model.ordain("request_lost")
    assert isinstance(place.site.submit([job(2)])[key_of(2)], Doubtful)
    assert place.model.journal.submissions() == {key_of(1): 1}
    assert place.all(2) == []


def test_a_job_taken_twice_runs_once_and_the_answer_may_name_the_loser() -> None:
    place = Place(slots=2)
    place.model.ordain("doubled")
    (answered,) = place.submit(job(1, "seconds=100"))
    place.go_on()
    first, second = place.all()
    assert second.native_id == answered
    assert (first.state, second.state, second.exit_code) == (JobState.SUCCEEDED, JobState.FAILED, GATED)
    assert place.model.journal.runs() == {key_of(1): 1}


def test_a_job_started_on_two_nodes_claims_its_place_once() -> None:
    place = Place()
    place.model.ordain("run_twice")
    place.submit(job(1, "seconds=100"))
    place.go_on()
    assert place.ends() == ["done", "gated"]
    assert place.state() is JobState.SUCCEEDED


def test_without_a_gate_both_would_run() -> None:
    place = Place(slots=2, claim="none")
    place.model.ordain("doubled")
    place.submit(job(1, "seconds=100"))
    place.go_on()
    assert place.model.journal.runs() == {key_of(1): 2}
    assert len(place.model.journal.overlaps()) == 1


def test_a_stranger_may_follow_only_a_generation_that_is_surely_silent() -> None:
    place = Place(NodeFailure(start=at(100)), adopts=False)
    place.submit(job(1, "seconds=1000"))
    place.go_to(110)
    place.submit(job(1, "seconds=1000"))
    place.go_to(500)
    place.submit(job(1, "seconds=1000"))
    place.go_on()
    assert place.ends() == ["node_failed", "gated", "done"]


def test_a_site_that_does_not_look_first_takes_a_key_twice() -> None:
    place = Place(adopts=False)
    place.submit(job(1))
    place.submit(job(1))
    assert place.model.journal.submissions() == {key_of(1): 2}
    assert place.model.journal.runs() == {key_of(1): 1}


def test_while_listings_lag_a_job_cannot_be_found_and_is_not_adopted() -> None:
    place = Place(listing_lag=30)
    place.submit(job(1))
    assert place.all() == []
    answer = place.site.submit([job(1)])[key_of(1)]
    assert isinstance(answer, Accepted)
    assert not answer.adopted
    place.go_to(30)
    assert len(place.all()) == 2


def test_an_accepted_job_may_be_forgotten() -> None:
    place = Place()
    place.model.ordain("forgotten")
    place.submit(job(1))
    assert place.all() == []
    assert place.model.journal.submissions() == {key_of(1): 1}


def test_an_id_may_be_given_to_two_jobs() -> None:
    place = Place()
    (first,) = place.submit(job(1))
    place.model.ordain("id_reused")
    assert place.submit(job(2)) == [first]


def test_a_crashed_controller_forgets_young_jobs_and_hands_out_their_ids_again() -> None:
    place = Place(ControllerCrash(start=at(10), end=at(14), memory=5), slots=1)
    (old,) = place.submit(job(1, "seconds=100"))
    place.go_to(8)
    (young,) = place.submit(job(2))
    place.go_to(12)
    with pytest.raises(SiteUnreachable):
        place.site.status(ONE)
    place.go_to(20)
    assert place.status(1).native_id == old
    assert place.all(2) == []
    assert place.submit(job(3)) == [young]


@pytest.mark.parametrize("seed", range(6))
def test_a_crashed_controller_starts_a_young_run_again_under_the_same_id(seed: int) -> None:
    place = Place(ControllerCrash(start=at(12), end=at(14), memory=5), submit_latency=10, seed=seed, requeue_delay=0)
    (native,) = place.submit(job(1, "seconds=100", fence_seconds=60))
    place.go_on()
    assert (place.status().native_id, place.status().restarts) == (native, 0)
    assert place.ends() in (["done", "gated"], ["node_failed", "done"])
    assert place.model.journal.overlaps() == []


@pytest.mark.parametrize("lie", ["outputs missing", "outputs truncated", "no exit record"])
def test_a_liar_reports_success(lie: str) -> None:
    place = Place(odds=Odds(liar=1.0, lies=(lie,)))
    place.submit(job(1, "outputs=a:100", outputs=["a"]))
    assert place.state() is JobState.SUCCEEDED
    sizes = {path: size for path, (size, _) in place.site.digests(["runs/1/a"]).items()}
    if lie == "no exit record":
        assert place.exits() == []
    else:
        assert place.exits()[0].outputs_count == 1
        assert sizes == ({} if lie == "outputs missing" else {"runs/1/a": 50})


def test_refusals_busyness_and_credentials_are_told_apart() -> None:
    place = Place(
        Refusing(start=at(0), end=at(10), reason="allocation exhausted", blame="quota"),
        Busy(start=at(10), end=at(20), retry_after=7),
        CredentialExpired(start=at(20), end=at(30)),
    )
    assert place.site.submit([job(1)])[key_of(1)] == Refused(reason="allocation exhausted", fault="quota")
    place.go_to(10)
    with pytest.raises(SiteBusy) as busy:
        place.site.submit([job(1)])
    assert busy.value.retry_after == 7
    place.go_to(20)
    with pytest.raises(CredentialError):
        place.site.status(ONE)
    assert {item.capability for item in place.site.probe() if not item.ok} >= {"credentials"}
    assert not issubclass(CredentialError, QuotaError)
    assert place.model.journal.accepted_total == 0


def test_an_incomplete_listing_says_so() -> None:
    place = Place(IncompleteListing(start=at(0), end=at(10), hidden=1.0))
    place.submit(job(1))
    listing = place.site.status(ONE)
    assert (list(listing.items), listing.complete) == ([], False)
    place.go_to(10)
    assert place.site.status(ONE).complete


def test_purged_accounting_knows_living_jobs_only() -> None:
    place = Place(AccountingPurged(start=at(50)), slots=2)
    place.submit(job(1), job(2, "seconds=100"))
    place.go_to(60)
    assert place.all(1) == []
    assert place.state(2) is JobState.RUNNING


def test_a_fault_may_be_injected_while_the_site_runs() -> None:
    place = Place()
    place.submit(job(1, "seconds=100"))
    place.go_to(10)
    place.model.inject(NodeFailure(start=at(0)))
    place.model.advance(at(10))
    assert place.state() is JobState.NODE_FAILED


def test_faults_are_read_from_a_document() -> None:
    fault = parse_fault({"kind": "preemption", "start": 60, "count": 2, "notice": 30}, at(0))
    assert (fault.start, fault.count, fault.notice) == (at(60), 2, 30)
    assert parse_odds({"reply_lost": 0.5}) == Odds(reply_lost=0.5)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"kind": "gremlin", "start": 0}, "there are: partition"),
        ({"kind": "partition"}, "say when it starts"),
        ({"kind": "partition", "start": "soon"}, "must be a number"),
        ({"kind": "partition", "start": 0, "notice": 3}, "no word 'notice'"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_with_what_would(document: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_fault(document, 0)


def test_odds_outside_of_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        parse_odds({"liar": 2})
    with pytest.raises(ValueError, match="no odds of 'luck'"):
        parse_odds({"luck": 0.1})
