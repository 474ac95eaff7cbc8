"""A submission whose answer does not come, or says nothing: what an IRI site's connector makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from iri_kit import SUBMIT, TOKEN, VARIABLE, Stage, Stages, fill, simulated_job

from connectors.contract import new_key
from connectors.errors import CredentialError, SiteBusy, SiteUnreachable
from connectors.iri.marks import mark_of
from connectors.model import Accepted, Doubtful, JobState, Refused
from sandbox.faces.iri.jobspec import order_of
from sandbox.facility import Order

KINDS = ["alcf", "nersc", "reference"]
BLIND = ("nersc", "request_lost")
"""Nothing at that site tells that a request has not arrived."""


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stages]:
    with Stages(tmp_path) as stages:
        yield stages


def to_the_end(there: Stage, key: str) -> None:
    """As the broker does: submit, find after a doubt, submit again once two complete listings show nothing."""
    answer, looks = there.submit(key, seconds=1), 0
    for _ in range(100):
        if isinstance(answer, Accepted):
            break
        assert isinstance(answer, Doubtful), answer
        there.clock.advance(5)
        listing = there.site.find([key])
        if listing.items:
            break
        looks = looks + 1 if listing.complete else 0
        if looks >= 2:
            answer, looks = there.submit(key, seconds=1), 0
    assert there.ended(key).state is JobState.SUCCEEDED


# -- the reply is lost ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fault"),
    [(kind, fault) for fault in ("reply_lost", "request_lost") for kind in KINDS if (kind, fault) != BLIND],
)
def test_after_a_lost_message_there_is_exactly_one_execution(stage: Stages, kind: str, fault: str) -> None:
    there, key = stage(kind, {"fault": fault, **SUBMIT}), new_key()
    to_the_end(there, key)
    assert (there.accepted(key), there.runs(key)) == (1, 1)


def test_where_jobs_cannot_be_listed_a_request_that_may_be_lost_stays_in_doubt(stage: Stages) -> None:
    there, key = stage("nersc", {"fault": "request_lost", **SUBMIT}), new_key()
    assert isinstance(there.submit(key), Doubtful)
    listing = there.site.find([key])
    assert not listing.items
    assert not listing.complete
    assert there.site.cancel([key]) == {key: False}


@pytest.mark.parametrize("keeps", ["yes", "no", "ignored"])
def test_it_is_one_with_a_store_of_keys_and_without(stage: Stages, keeps: str) -> None:
    there, key = stage("reference", {"fault": "reply_lost", **SUBMIT}, keeps_keys=keeps), new_key()
    to_the_end(there, key)
    assert (there.accepted(key), there.runs(key)) == (1, 1)


def test_a_store_of_keys_answers_for_a_job_that_nothing_else_can_find(stage: Stages) -> None:
    options = {"names": False, "idempotency": "yes"}
    there, key = stage("reference", {"fault": "reply_lost", **SUBMIT}, tells_spec=False, options=options), new_key()
    fill(there)
    assert isinstance(there.submit(key), Doubtful)
    again = there.submit(key)
    assert isinstance(again, Accepted)
    assert again.adopted
    assert there.accepted(key) == 1


def test_while_a_lost_job_waits_in_the_queue_its_absence_is_not_certain(stage: Stages) -> None:
    there, key = stage("alcf", {"fault": "reply_lost", **SUBMIT}), new_key()
    others = fill(there)
    assert isinstance(there.submit(key), Doubtful)
    listing = there.site.find([key])
    assert not listing.items
    assert not listing.complete
    assert isinstance(there.submit(key), Doubtful), "submitted again, it would be there twice"
    assert there.site.cancel([key]) == {key: False}
    for other in others:
        there.facility.cancel(other)
    there.wait(lambda: there.site.find([key]).items)
    assert there.accepted(key) == 1


def test_jobs_that_were_there_before_are_not_taken_for_the_lost_one(stage: Stages) -> None:
    there, key = stage("alcf", {"fault": "request_lost", **SUBMIT}), new_key()
    fill(there)
    assert isinstance(there.submit(key), Doubtful)
    listing = there.site.find([key])
    assert listing.complete
    assert not listing.items


def test_a_stranger_that_runs_and_never_says_who_it_is_does_not_hold_us_up_for_ever(stage: Stages) -> None:
    there, key = stage("alcf", {"fault": "request_lost", **SUBMIT}), new_key()
    assert isinstance(there.submit(key), Doubtful)
    there.facility.submit(Order(name="other", argv=["/bin/sh", "-c", "\nsleep 5000\n"], walltime=9000.0))
    assert not there.site.find([key]).complete
    there.clock.advance(400)
    assert there.site.find([key]).complete


def test_where_nobody_else_submits_the_unexplained_job_is_adopted_while_it_waits(stage: Stages) -> None:
    there, key = stage("alcf", {"fault": "reply_lost", **SUBMIT}, options={"sole_user": True}), new_key()
    fill(there)
    assert isinstance(there.submit(key), Doubtful)
    listing = there.site.find([key])
    assert listing.complete
    assert [(item.key, item.state) for item in listing.items] == [(key, JobState.QUEUED)]
    assert there.site.cancel([key]) == {key: False}
    assert there.facility.job(listing.items[0].native_id).state is JobState.CANCELED
    assert there.accepted(key) == 1


def test_a_connector_that_was_restarted_finds_the_job_by_its_mark(stage: Stages) -> None:
    there, key = stage("alcf", {"fault": "reply_lost", **SUBMIT}), new_key()
    assert isinstance(there.submit(key, seconds=500), Doubtful)
    there.clock.advance(5)
    found = there.rehearsal.site().find([key])
    assert [item.key for item in found.items] == [key]


def test_an_empty_root_is_a_file_system_that_is_away_and_no_lost_jobs(stage: Stages) -> None:
    there, key = stage("alcf"), new_key()
    there.submit(key, seconds=500)
    root = there.facility.files.root
    there.facility.files.rename(f"{root}/.crossfade-jobs", f"{root}/away")
    there.facility.files.rename(f"{root}/.crossfade-site", f"{root}/away-too")
    with pytest.raises(SiteUnreachable, match=r"\.crossfade-site"):
        there.site.find([key])


def marks(there: Stage) -> list[str]:
    return [info.path.rpartition("/")[2] for info in there.site.list(".crossfade-jobs")]


def test_what_was_refused_is_not_looked_out_for(stage: Stages) -> None:
    there, key = stage("alcf"), new_key()
    answer = there.site.submit([replace(simulated_job(key), submit={"queue": "no-such"})])[key]
    assert isinstance(answer, Refused)
    assert marks(there) == []
    assert isinstance(there.submit(key), Accepted)


def test_what_was_lost_and_then_canceled_is_not_looked_out_for(stage: Stages) -> None:
    there, key = stage("alcf", {"fault": "request_lost", **SUBMIT}), new_key()
    assert isinstance(there.submit(key), Doubtful)
    assert marks(there) == [f"{key}.d1.here.asked"]
    assert there.site.cancel([key]) == {key: True}
    assert marks(there) == []


@pytest.mark.parametrize("kind", ["alcf", "reference"])
def test_two_jobs_under_one_key_are_both_told(stage: Stages, kind: str) -> None:
    there, key = stage(kind), new_key()
    spec = simulated_job(key, seconds=500)
    assert isinstance(there.site.submit([spec])[key], Accepted)
    second = there.facility.submit(order_of(there.site._body(spec), user="user"))
    if kind == "alcf":  # as the second one would, were it real
        there.site.write(mark_of(spec, "here", f"{second}.alcf-pbs").path, b"")
    assert second in {item.native_id for item in there.site.find([key]).items}
    assert len(there.site.find([key]).items) == 2


def test_another_installations_jobs_are_none_of_ours(stage: Stages) -> None:
    for kind in ("alcf", "reference"):
        there, key = stage(kind), new_key()
        other = there.rehearsal.site(installation="elsewhere")
        assert isinstance(other.submit([simulated_job(key, seconds=500)])[key], Accepted)
        assert not there.site.find([key]).items
        assert not there.site.list_mine(0).items
        assert [item.key for item in other.list_mine(0).items] == [key]


# -- answers that are no answer --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_a_server_error_at_submit_is_a_doubt_and_is_sent_once(stage: Stages, kind: str, code: int) -> None:
    there, key = stage(kind, {"fault": "status", "code": code, **SUBMIT}), new_key()
    assert isinstance(there.submit(key), Doubtful)
    assert there.wire.count("POST", "/compute/job/") == 1


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_a_passing_error_while_looking_is_asked_again(stage: Stages, code: int) -> None:
    there, key = stage("reference"), new_key()
    there.submit(key, seconds=500)
    rule = {"fault": "status", "code": code, "retry_after": 1, "path": "/compute/status/"}
    other = stage("reference", rule)
    other.submit(key, seconds=500)
    assert other.status(key).state is not JobState.UNKNOWN


@pytest.mark.fault("F29")
def test_being_told_to_come_later_at_submit_is_no_doubt(stage: Stages) -> None:
    there, key = stage("reference", {"fault": "status", "code": 429, "retry_after": 30, **SUBMIT}), new_key()
    with pytest.raises(SiteBusy) as caught:
        there.submit(key)
    assert caught.value.retry_after == 30
    assert there.accepted(key) == 0


def test_a_batch_is_not_sent_on_to_a_site_that_went_silent(stage: Stages) -> None:
    there, keys = (
        stage("reference", {"fault": "status", "code": 503, "nth": 2, **SUBMIT}),
        [new_key() for _ in range(4)],
    )
    answers = there.site.submit([simulated_job(key) for key in keys])
    assert isinstance(answers[keys[0]], Accepted)
    assert all(isinstance(answers[key], Doubtful) for key in keys[1:])
    assert there.wire.count("POST", "/compute/job/") == 2


@pytest.mark.parametrize("fault", ["unauthorized", "forbidden"])
@pytest.mark.parametrize("verb", ["submit", "status", "cancel"])
def test_a_refused_credential_is_no_outage(stage: Stages, fault: str, verb: str) -> None:
    there, key = stage("reference", {"fault": fault, "path": "/compute/", "times": 0}), new_key()
    asks: dict[str, Callable[[], object]] = {
        "submit": lambda: there.submit(key),
        "status": lambda: there.site.status([key]),
        "cancel": lambda: there.site.cancel([key]),
    }
    with pytest.raises(CredentialError):
        asks[verb]()


def test_a_missing_or_an_unusable_token_says_how_to_mend_it(stage: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    there = stage("reference")
    monkeypatch.setenv(VARIABLE, "two words\nand a line")
    with pytest.raises(CredentialError, match="characters"):
        there.site.status([new_key()])
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(CredentialError, match=VARIABLE):
        there.site.status([new_key()])
    credentials = [item for item in there.site.probe() if item.capability == "credentials"]
    assert not credentials[0].ok
    assert [item.ok for item in there.site.probe() if item.capability == "compute"] == [True], "status is public"


@pytest.mark.parametrize("handled", [True, False])
def test_after_a_408_the_jobs_fate_is_open(stage: Stages, handled: bool) -> None:
    there, key = stage("alcf", {"fault": "timeout_408", "handled": handled, **SUBMIT}), new_key()
    to_the_end(there, key)
    assert (there.accepted(key), there.runs(key)) == (1, 1)


# -- idempotency keys ------------------------------------------------------------------------------------------


def test_a_hit_is_an_adopted_job(stage: Stages) -> None:
    there, key = stage("reference"), new_key()
    spec = simulated_job(key, seconds=500)
    first = there.site._api.submit(key, there.site._body(spec))
    again = there.site._api.submit(key, there.site._body(spec))
    assert isinstance(first, Accepted)
    assert again == replace(first, adopted=True)


def test_another_body_under_a_key_is_refused(stage: Stages) -> None:
    there, key = stage("reference"), new_key()
    there.site._api.submit(key, there.site._body(simulated_job(key)))
    answer = there.site._api.submit(key, there.site._body(simulated_job(key, digest="d2")))
    assert isinstance(answer, Refused)
    assert key in answer.reason
    assert there.accepted(key) == 1


def test_a_key_in_flight_is_a_doubt(stage: Stages) -> None:
    there, key = stage("reference", {"fault": "idempotency", "answer": 409, **SUBMIT}), new_key()
    answer = there.submit(key)
    assert isinstance(answer, Doubtful)
    assert "2 s" in answer.reason
    assert there.wire.count("POST", "/compute/job/") == 1


def test_a_site_without_a_store_is_asked_without_a_key_from_then_on(stage: Stages) -> None:
    there, keys = stage("reference", keeps_keys="no"), [new_key(), new_key()]
    for key in keys:
        assert isinstance(there.submit(key), Accepted)
    posts = [place for place, (method, path) in enumerate(there.wire.asked) if method == "POST" and "/job/" in path]
    sent = [there.wire.headers[place].get("idempotency-key") for place in posts]
    assert sent == [keys[0], None, None]
    assert [there.accepted(key) for key in keys] == [1, 1]


def test_a_field_that_the_site_does_not_take_is_a_refusal_and_no_missing_store(stage: Stages) -> None:
    there, key = stage("reference", refuses=frozenset({"memory"})), new_key()
    spec = simulated_job(key)
    answer = there.site.submit([replace(spec, resources=replace(spec.resources, memory=1 << 30))])[key]
    assert isinstance(answer, Refused)
    assert "memory" in answer.reason
    assert there.wire.count("POST", "/compute/job/") == 1
