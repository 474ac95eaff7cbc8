"""Everything that can go wrong between the connector and a service of Slurm's REST API, one fault at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from olcf_kit import BARE_38, HOUR, PLAIN_38, PLAIN_44, S3M_43, S3M_44, TOKEN, Flavor, Rehearsal, simulated_job

from connectors.contract import new_key
from connectors.errors import CredentialError, SiteBusy, SiteError, SiteUnreachable
from connectors.model import Accepted, Doubtful, JobState, Refused
from connectors.olcf import RestSite
from sandbox.faces.slurmrest import Token
from sandbox.facility import Order
from sandbox.faults import Partition

FLAVORS = [S3M_43, S3M_44, PLAIN_38, PLAIN_44]
Make = Callable[..., Rehearsal]


@pytest.fixture(params=FLAVORS, ids=lambda flavor: f"{flavor.connector}-{flavor.version}")
def flavor(request: pytest.FixtureRequest) -> Flavor:
    found: Flavor = request.param
    return found


@pytest.fixture
def make(tmp_path: Path, flavor: Flavor) -> Make:
    return lambda *rules, **more: Rehearsal(tmp_path, *rules, **{"flavor": flavor, **more})


def submitted(site: RestSite, *, seconds: float = 600, **more: Any) -> str:
    key = new_key()
    assert isinstance(site.submit([simulated_job(key, seconds=seconds, **more)])[key], Accepted)
    return key


def state(site: RestSite, key: str) -> JobState:
    (item,) = site.status([key]).items
    return item.state


def s3m(folder: Path, *rules: Mapping[str, Any]) -> Rehearsal:
    return Rehearsal(folder, *rules, flavor=S3M_43)


# -- 1: a reply lost after the job was accepted ----------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        {"fault": "reply_lost"},
        {"fault": "delay", "delay": 120},
        {"fault": "truncated", "bytes": 20},
        {"fault": "drip", "pause": 5, "piece": 4},
        {"fault": "status", "code": 502, "handled": True},
        {"fault": "html", "handled": True},
        {"fault": "garbage", "handled": True},
        {"fault": "redirect", "handled": True},
        {"fault": "huge", "bytes": 40 << 20, "handled": True},
    ],
    ids=lambda rule: rule["fault"],
)
def test_a_submission_without_a_clear_answer_is_a_doubt_and_ends_with_one_job(
    make: Make, rule: Mapping[str, Any]
) -> None:
    rehearsal = make({**rule, "method": "POST"})
    site, key = rehearsal.site(), new_key()
    job = simulated_job(key, seconds=600)
    assert isinstance(site.submit([job])[key], Doubtful)
    assert len(site.find([key]).items) == 1
    again = site.submit([job])[key]
    assert isinstance(again, Accepted)
    assert again.adopted
    assert rehearsal.facility.accepted() == {key: 1}
    assert rehearsal.wire.count("POST", "/job/submit") == 1


def test_what_stops_one_submission_stops_those_after_it(make: Make) -> None:
    rehearsal = make({"fault": "reply_lost", "method": "POST", "nth": 2})
    site, keys = rehearsal.site(), [new_key() for _ in range(4)]
    answers = site.submit([simulated_job(key, seconds=600) for key in keys])
    assert isinstance(answers[keys[0]], Accepted)
    assert all(isinstance(answers[key], Doubtful) for key in keys[1:])
    assert rehearsal.wire.count("POST", "/job/submit") == 2
    assert {item.key for item in site.find(keys).items} == set(keys[:2])


def test_a_request_that_never_came_started_nothing(make: Make) -> None:
    rehearsal = make({"fault": "request_lost", "method": "POST"})
    site, key = rehearsal.site(), new_key()
    assert isinstance(site.submit([simulated_job(key)])[key], Doubtful), "nobody can tell it from a lost reply"
    listing = site.find([key])
    assert listing.complete
    assert not listing.items
    assert isinstance(site.submit([simulated_job(key)])[key], Accepted)


# -- 2: 502, 503, 504, 429 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [502, 503, 504])
def test_a_gateways_hiccup_is_asked_through(make: Make, code: int) -> None:
    rehearsal = make({"fault": "status", "code": code, "path": "/jobs$", "times": 2, "nth": 2})
    site = rehearsal.site()
    key = submitted(site)
    assert state(site, key) is JobState.RUNNING


@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_a_gateway_that_stays_down_is_an_outage(make: Make, code: int) -> None:
    rehearsal = make({"fault": "status", "code": code, "times": 0, "from": 1})
    site = rehearsal.site()
    rehearsal.clock.advance(2)
    with pytest.raises(SiteUnreachable):
        site.status([new_key()])
    assert {one.ok for one in site.probe() if one.capability in {"status", "credentials"}} == {False}


@pytest.mark.fault("F29")
def test_told_to_come_later_the_site_is_busy_and_nothing_was_done(make: Make) -> None:
    rehearsal = make({"fault": "status", "code": 429, "retry_after": 30, "method": "POST"})
    site, key = rehearsal.site(), new_key()
    with pytest.raises(SiteBusy) as caught:
        site.submit([simulated_job(key)])
    assert caught.value.retry_after == 30
    assert not caught.value.effect_possible
    assert rehearsal.facility.accepted() == {}


# -- 3: tokens ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["unauthorized", "forbidden"])
@pytest.mark.fault("F30")
def test_a_refused_token_is_no_outage(make: Make, fault: str) -> None:
    rehearsal = make({"fault": fault, "times": 0, "from": 1})
    site = rehearsal.site()
    key = submitted(site)
    rehearsal.clock.advance(2)
    calls = (lambda: site.status([key]), lambda: site.cancel([key]), lambda: site.submit([simulated_job(new_key())]))
    for call in calls:
        with pytest.raises(CredentialError):
            call()
    told = [one for one in site.probe() if one.capability == "credentials"]
    assert [one.ok for one in told] == [False]


@pytest.mark.fault("F30")
def test_a_token_that_ends_mid_run_and_its_successor(make: Make) -> None:
    rehearsal = make()
    site = rehearsal.site()
    key = submitted(site)
    rehearsal.tokens.expire(TOKEN, rehearsal.clock())
    with pytest.raises(CredentialError):
        site.status([key])
    assert {one.capability for one in site.probe() if not one.ok} == {"credentials"}
    rehearsal.tokens.add(Token(value="a-newer-token-0815"))
    rehearsal.put_token("a-newer-token-0815")
    assert state(site, key) is JobState.RUNNING


def test_a_token_that_is_refused_between_look_and_post_is_told_as_such(make: Make) -> None:
    rehearsal = make({"fault": "unauthorized", "method": "POST", "nth": 2})
    site, keys = rehearsal.site(), [new_key() for _ in range(3)]
    answers = site.submit([simulated_job(key) for key in keys])
    assert isinstance(answers[keys[0]], Accepted)
    assert [getattr(answers[key], "fault", "") for key in keys[1:]] == ["credential"] * 2
    assert rehearsal.facility.accepted() == {keys[0]: 1}


def test_a_token_for_reading_alone_submits_nothing(make: Make) -> None:
    rehearsal = make()
    rehearsal.tokens.add(Token(value="a-reading-token-12", writes=False))
    rehearsal.put_token("a-reading-token-12")
    site, key = rehearsal.site(), new_key()
    with pytest.raises(CredentialError):
        site.submit([simulated_job(key)])
    assert rehearsal.facility.accepted() == {}


def test_no_token_is_shown_by_any_error_or_script(make: Make) -> None:
    rehearsal = make({"fault": "garbage", "text": f"you said {TOKEN}", "code": 500, "times": 0})
    site, key = rehearsal.site(), new_key()
    with pytest.raises(SiteError) as caught:
        site.status([key])
    shown = site.script(simulated_job(key))
    texts = [str(caught.value), repr(site.probe()), repr(site.check()), shown.request, shown.script]
    assert not [text for text in texts if TOKEN in text]


def test_a_loose_credentials_file_is_refused(make: Make) -> None:
    rehearsal = make()
    rehearsal.token_file.chmod(0o644)
    with pytest.raises(CredentialError, match="chmod 600"):
        rehearsal.site().status([new_key()])


# -- 4: HTTP 200 with errors -------------------------------------------------------------------------------------


def test_errors_beside_a_listing_make_it_partial(make: Make) -> None:
    rehearsal = make({"fault": "partial_listing", "hidden": 1, "nth": 3, "times": 0})
    site = rehearsal.site()
    first, second = submitted(site), submitted(site)
    listing = site.status([first, second])
    assert not listing.complete, "absence counts only in a whole listing"
    assert site.cancel([second]) == {second: False}
    with pytest.raises(SiteUnreachable) as caught:
        site.submit([simulated_job(new_key())])
    assert not caught.value.effect_possible


def test_an_answer_of_errors_alone_to_a_submission_is_a_doubt(make: Make) -> None:
    rehearsal = make({"fault": "status_error", "text": "something broke", "method": "POST", "handled": True})
    site, key = rehearsal.site(), new_key()
    assert isinstance(site.submit([simulated_job(key, seconds=60)])[key], Doubtful)
    assert len(site.find([key]).items) == 1


@pytest.mark.fault("F28")
def test_what_slurm_refuses_is_refused(make: Make) -> None:
    site, keys = make().site(), [new_key() for _ in range(3)]
    answers = site.submit(
        [
            simulated_job(keys[0], submit={"queue": "nowhere"}),
            simulated_job(keys[1], submit={"reservation": "nothing"}),
            simulated_job(keys[2]),
        ]
    )
    assert "partition" in getattr(answers[keys[0]], "reason", "")
    assert "reservation" in getattr(answers[keys[1]], "reason", "")
    assert isinstance(answers[keys[2]], Accepted)


@pytest.mark.fault("F28")
def test_a_limit_of_the_accounts_is_a_quota(make: Make) -> None:
    site, key = make({"fault": "refuse", "kind": "limit"}).site(), new_key()
    answer = site.submit([simulated_job(key)])[key]
    assert isinstance(answer, Refused)
    assert answer.fault == "quota"


# -- 6: unknown right after the submission, and after MinJobAge ----------------------------------------------------


def test_a_job_that_is_not_listed_yet_is_absent_and_then_there(make: Make) -> None:
    rehearsal = make({"fault": "hide", "seconds": 30})
    site = rehearsal.site()
    key = submitted(site)
    assert not site.status([key]).items
    rehearsal.clock.advance(31)
    assert state(site, key) is JobState.RUNNING


def test_a_cached_listing_hides_what_is_young(tmp_path: Path) -> None:
    site = s3m(tmp_path, {"fault": "cached", "age": 60, "nth": 2}).site()
    key = submitted(site)
    assert not site.status([key]).items
    assert state(site, key) is JobState.RUNNING


def test_after_min_job_age_only_the_accounting_knows(tmp_path: Path) -> None:
    for flavor, remembered in ((PLAIN_38, True), (PLAIN_44, True), (BARE_38, False), (S3M_43, False)):
        rehearsal = Rehearsal(tmp_path / f"{flavor.connector}{flavor.version}{remembered}", flavor=flavor)
        site = rehearsal.site()
        key = submitted(site, seconds=5, exit_code=3)
        rehearsal.clock.advance(10)
        assert state(site, key) is JobState.FAILED
        rehearsal.clock.advance(400)
        listing = site.status([key])
        assert listing.complete
        assert [item.exit_code for item in listing.items] == ([3] if remembered else [])


def test_an_accounting_that_cannot_be_asked_leaves_the_listing_partial(tmp_path: Path) -> None:
    rule = {"fault": "status", "code": 503, "path": "/slurmdb/", "times": 0}
    site = Rehearsal(tmp_path, rule, flavor=PLAIN_44).site()
    key, unknown = submitted(site), new_key()
    assert site.status([key]).complete, "the accounting is not needed for what the queue has"
    assert not site.status([key, unknown]).complete
    assert not site.find([key]).complete
    assert not site.list_mine(0).complete


def test_a_service_without_accounting_is_asked_for_it_once(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, flavor=BARE_38)
    site = rehearsal.site(options={"accounting": "/slurmdb/{version}"})
    for _ in range(3):
        assert site.find([new_key()]).complete
    assert rehearsal.wire.count("GET", "/slurmdb/") == 1


def test_a_job_that_vanished_after_its_acceptance_is_absent(make: Make) -> None:
    site = make({"fault": "forget"}).site()
    key = submitted(site)
    listing = site.status([key])
    assert listing.complete
    assert not listing.items


# -- 7, 8, 9: fates of jobs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["PartitionTimeLimit", "QOSMaxWallDurationPerJobLimit", "BadConstraints"])
def test_a_reason_that_time_will_not_cure_is_told(make: Make, reason: str) -> None:
    site = make({"fault": "stuck", "reason": reason}).site()
    (item,) = site.status([submitted(site)]).items
    assert (item.state, item.stuck_reason) == (JobState.QUEUED, reason)


def test_a_reason_that_time_cures_is_none_to_worry_about(make: Make) -> None:
    site = make({"fault": "stuck", "reason": "ReqNodeNotAvail, UnavailableNodes:node001"}).site()
    (item,) = site.status([submitted(site)]).items
    assert item.stuck_reason == ""


def test_a_preempted_job_that_is_requeued_shows_in_its_restarts(make: Make) -> None:
    rehearsal = make({"fault": "preempt", "after": 5, "notice": 1, "requeue": True})
    site = rehearsal.site()
    key = submitted(site)
    native_id = site.status([key]).items[0].native_id
    rehearsal.clock.advance(5.5)
    (item,) = site.status([key]).items
    assert (item.native_id, item.restarts, item.state) == (native_id, 1, JobState.QUEUED)


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({"fault": "preempt", "requeue": False}, JobState.PREEMPTED),
        ({"fault": "node_fail"}, JobState.NODE_FAILED),
        ({"fault": "boot_fail"}, JobState.NODE_FAILED),
        ({"fault": "time_out"}, JobState.TIMED_OUT),
        ({"fault": "deadline"}, JobState.TIMED_OUT),
        ({"fault": "out_of_memory"}, JobState.OUT_OF_MEMORY),
    ],
    ids=lambda value: value["fault"] if isinstance(value, dict) else value.value,
)
def test_every_fate_is_told_by_its_name(make: Make, rule: Mapping[str, Any], wanted: JobState) -> None:
    rehearsal = make({**rule, "after": 5})
    site = rehearsal.site()
    key = submitted(site, requeue=False)
    rehearsal.clock.advance(60)
    assert state(site, key) is wanted


def test_an_unknown_word_is_unknown_and_kept(make: Make) -> None:
    rehearsal = make({"fault": "unknown_word", "word": "HIBERNATED", "after": 1, "seconds": 20})
    site = rehearsal.site()
    key = submitted(site)
    rehearsal.clock.advance(5)
    (item,) = site.status([key]).items
    assert (item.state, item.native_state) == (JobState.UNKNOWN, "HIBERNATED")
    rehearsal.clock.advance(30)
    assert state(site, key) is JobState.RUNNING


# -- 15: canceling -------------------------------------------------------------------------------------------------


def test_a_cancel_that_was_accepted_proves_nothing(make: Make) -> None:
    rehearsal = make({"fault": "ignore_cancel"})
    site = rehearsal.site()
    key = submitted(site, seconds=30)
    assert site.cancel([key]) == {key: False}
    rehearsal.clock.advance(40)
    assert site.cancel([key]) == {key: True}
    assert state(site, key) is JobState.SUCCEEDED


def test_another_ones_job_under_our_name_is_left_alone(make: Make) -> None:
    rehearsal = make()
    site, key = rehearsal.site(), new_key()
    for comment, user in (("", "user"), (f"crossfade there {key} d1", "user"), ("crossfade here cf0 d1", "user")):
        rehearsal.facility.submit(Order(name=key, comment=comment, user=user, script="#!/bin/sh\nsleep 600\n"))
    assert [item for item in site.find([key]).items if item.native_id] == []
    assert site.cancel([key]) == {key: True}
    assert all(not view.state.final for view in rehearsal.facility.jobs())


def test_a_comment_is_anybodys_to_write_a_user_is_not(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, flavor=PLAIN_38)
    site, key = rehearsal.site(), new_key()
    comment = f"crossfade here {key} d1"
    rehearsal.facility.submit(Order(name=key, comment=comment, user="mallory", script="#!/bin/sh\nsleep 9\n"))
    assert not site.find([key]).items
    answer = site.submit([simulated_job(key)])[key]
    assert isinstance(answer, Accepted)
    assert not answer.adopted


def test_a_controller_that_is_away_is_an_outage_not_a_tokens_fault(make: Make) -> None:
    rehearsal = make()
    site = rehearsal.site()
    key = submitted(site)
    now = rehearsal.clock()
    rehearsal.facility.inject(Partition(start=now, end=now + HOUR))
    with pytest.raises(SiteUnreachable):
        site.status([key])
    bad = {one.capability for one in site.probe() if not one.ok}
    assert "status" in bad
    assert "credentials" not in bad
