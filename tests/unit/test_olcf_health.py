"""What a machine behind Slurm's REST API says of itself, and the walk of `site check`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from olcf_kit import HOUR, PLAIN_38, PLAIN_44, S3M_43, S3M_44, TOKEN, Flavor, Rehearsal, simulated_job

from connectors.contract import new_key
from connectors.model import Accepted, JobState
from connectors.olcf import RestSite
from sandbox.faces.slurmrest import Token
from sandbox.facility import Outage

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


# -- 14: status, downtimes, the token's end --------------------------------------------------------------------------


def s3m(folder: Path, *rules: Mapping[str, Any]) -> Rehearsal:
    return Rehearsal(folder, *rules, flavor=S3M_43)


def test_a_planned_downtime_is_good_news_until_it_begins(tmp_path: Path) -> None:
    rehearsal = s3m(tmp_path)
    now = rehearsal.clock()
    start, end = now + 2 * HOUR, now + 5 * HOUR
    rehearsal.facility.announce(
        Outage(resource="defiant", start=start, end=end, planned=True, description="new switch")
    )
    site = rehearsal.site()
    (told,) = (one for one in site.probe() if one.capability == "compute" and one.until)
    assert (told.ok, told.until) == (True, start)
    assert "new switch" in told.detail
    rehearsal.clock.advance(2.5 * 3600)
    (told,) = (one for one in site.probe() if one.capability == "compute" and one.until)
    assert (told.ok, told.until) == (False, end)


@pytest.mark.parametrize(("word", "ok"), [("OPERATIONAL", True), ("DEGRADED", True), ("UNAVAILABLE", False)])
def test_a_published_word_is_evidence(tmp_path: Path, word: str, ok: bool) -> None:
    site = s3m(tmp_path, {"fault": "status_word", "word": word}).site()
    (told,) = (one for one in site.probe() if one.capability == "submit")
    assert told.ok is ok


def test_an_unknown_published_word_is_no_evidence(tmp_path: Path) -> None:
    site = s3m(tmp_path, {"fault": "status_word", "word": "SNOOZING"}).site()
    assert not [one for one in site.probe() if one.capability == "submit"]


def test_a_published_status_is_as_old_as_it_says(tmp_path: Path) -> None:
    rehearsal = s3m(tmp_path, {"fault": "stale_feed", "age": 1200}, {"fault": "stale_feed", "age": 7200})
    rehearsal.clock.advance(60)
    site = rehearsal.site()
    (told,) = (one for one in site.probe() if one.capability == "submit")
    assert rehearsal.clock() - told.at == 1200 * 1_000_000
    assert not [one for one in site.probe() if one.capability == "submit"], "too old: it counts for nothing"


def test_the_tokens_end_is_evidence(tmp_path: Path) -> None:
    rehearsal = s3m(tmp_path, {"fault": "token_expiry", "in": 7200})
    (told,) = (one for one in rehearsal.site().probe() if one.capability == "credentials")
    assert (told.ok, told.until) == (True, rehearsal.clock() + 2 * HOUR)


def test_published_status_needs_no_token(tmp_path: Path) -> None:
    rehearsal = s3m(tmp_path)
    rehearsal.site().probe()
    asked = [one for one in rehearsal.wire.requests if "/status" in one.url.path]
    assert asked
    assert not [one for one in asked if "authorization" in one.headers]


def test_the_token_is_sent_as_each_service_wants_it(make: Make, flavor: Flavor) -> None:
    rehearsal = make()
    rehearsal.site().status([new_key()])
    headers = rehearsal.wire.requests[0].headers
    if flavor.s3m:
        assert headers["Authorization"] == TOKEN
    else:
        assert (headers["X-SLURM-USER-NAME"], headers["X-SLURM-USER-TOKEN"]) == ("user", TOKEN)
        assert "authorization" not in headers


# -- the walk of `site check` ----------------------------------------------------------------------------------------


def test_the_check_walks_through_all_and_submits_nothing(make: Make) -> None:
    rehearsal = make()
    findings = rehearsal.site().check()
    steps = list(dict.fromkeys(one.step for one in findings))
    assert steps == ["credentials", "expiry", "status", "allocation", "files", "submit"]
    assert [one for one in findings if one.ok is False] == []
    assert any("beam" in one.detail for one in findings), "reservations are read"
    assert rehearsal.facility.accepted() == {}


def test_the_check_runs_a_canary_when_asked_to(make: Make) -> None:
    rehearsal = make()
    findings = rehearsal.site().check(canary=True)
    assert findings[-1].step == "canary"
    assert findings[-1].ok
    assert sum(rehearsal.facility.accepted().values()) == 1


def test_the_check_goes_on_after_a_refused_token_and_says_what_mends_it(make: Make, flavor: Flavor) -> None:
    rehearsal = make()
    rehearsal.put_token("not-the-right-token")
    findings = rehearsal.site().check()
    (first, *_) = findings
    assert (first.step, first.ok) == ("credentials", False)
    assert ("myOLCF" if flavor.s3m else "scontrol token") in first.help
    assert any(one.step == "files" and one.ok for one in findings)


def test_the_check_warns_of_one_time_tokens_and_other_projects(tmp_path: Path) -> None:
    rehearsal = s3m(tmp_path)
    findings = rehearsal.site(account="xyz789").check()
    (told,) = (one for one in findings if one.step == "allocation")
    assert told.ok is False
    assert "ABC123" in told.help
    rehearsal.tokens.add(Token(value="a-one-time-token-1", once=True))
    rehearsal.put_token("a-one-time-token-1")
    assert any(one.ok is False for one in rehearsal.site().check())


def test_the_check_minds_a_poll_that_is_too_slow(make: Make) -> None:
    findings = make().site(poll=600.0).check()
    assert [one.help for one in findings if one.ok is False] == ["set a shorter `poll`"]


def test_a_status_page_that_is_away_says_nothing_of_the_machine(tmp_path: Path) -> None:
    site = s3m(tmp_path, {"fault": "status", "code": 503, "path": "/v1alpha/status", "times": 0}).site()
    told = site.probe()
    assert all(one.ok for one in told)
    assert {one.capability for one in told} == {"status", "credentials", "files"}
    assert not [one for one in site.check() if one.ok is False]


def test_a_token_that_travels_in_the_clear_is_told_of(make: Make) -> None:
    findings = make().site().check()
    assert [one.help for one in findings if "in the clear" in one.detail] == ["give an https address, or a tunnel"]
