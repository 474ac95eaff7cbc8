"""Replies, options and words that nobody should trust, at an IRI site."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from iri_kit import TOKEN, VARIABLE, Rehearsal, Stages, simulated_job

from connectors.contract import new_key
from connectors.errors import RequestRefused, SiteError
from connectors.iri.jobs import job_of
from connectors.model import Doubtful, Refused


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stages]:
    with Stages(tmp_path) as stages:
        yield stages


# -- hostile replies ---------------------------------------------------------------------------------------------

HOSTILE = [
    {"fault": "html"},
    {"fault": "garbage"},
    {"fault": "garbage", "text": "[" * 5000},
    {"fault": "garbage", "text": "null"},
    {"fault": "garbage", "text": '[1, null, [], {}, {"id": []}]'},
    {"fault": "garbage", "text": '{"id": {"a": 1}, "status": 7}'},
    {"fault": "garbage", "text": '{"id": "new\\nline", "status": {"state": [1]}}'},
    {"fault": "huge"},
    {"fault": "redirect"},
    {"fault": "drip", "pause": 40, "piece": 1},
    {"fault": "truncated", "bytes": 3},
]


@pytest.mark.parametrize("rule", HOSTILE, ids=lambda rule: f"{rule['fault']}-{str(rule.get('text', ''))[:12]}")
@pytest.mark.parametrize("kind", ["alcf", "reference"])
def test_a_hostile_reply_is_a_clear_error_and_no_job_is_called_lost(stage: Stages, kind: str, rule: Any) -> None:
    there, key = stage(kind, {**rule, "path": "/compute/", "times": 0}), new_key()
    try:
        answer = there.submit(key)
    except SiteError:
        answer = Doubtful(reason="raised")
    assert isinstance(answer, Doubtful)
    try:
        listing = there.site.find([key])
    except SiteError:
        return
    assert listing.items or not listing.complete or not there.accepted(key)


@pytest.mark.parametrize("rule", HOSTILE, ids=lambda rule: f"{rule['fault']}-{str(rule.get('text', ''))[:12]}")
@pytest.mark.parametrize("path", ["/status/", "/task/", "/filesystem/", "/account/"])
def test_hostile_pages_are_told_as_bad_evidence(tmp_path: Path, path: str, rule: Any) -> None:
    other = Rehearsal(tmp_path / "other", "reference", {**rule, "path": path, "times": 0})
    site = other.site()
    for item in (*site.probe(), *site.check()):
        assert item.ok or item.detail
    with_files = path in {"/task/", "/filesystem/"}
    if with_files:
        with pytest.raises(SiteError):
            site.read("some/file")
    other.close()


@pytest.mark.parametrize(
    "status",
    [
        7,
        [],
        {"state": 3},
        {"state": None, "exit_code": "x", "meta_data": [1], "message": {"a": 1}, "time": "soon"},
        {"state": "completed", "exit_code": 10**40, "time": 1e300},
        {"state": "queued", "message": "a\nb" * 5000, "meta_data": {"state": [], "restart_cnt": {"number": "x"}}},
        {"state": "failed", "meta_data": {"state": " "}},
    ],
)
def test_a_job_of_wrong_types_is_read_as_far_as_it_goes(status: object) -> None:
    job = job_of({"id": "1", "status": status, "job_spec": {"name": 3, "arguments": "x"}})
    assert job is not None
    told = job.status("key")
    assert "\n" not in told.native_reason
    assert len(told.native_reason) <= 300


def test_the_token_shows_nowhere(stage: Stages) -> None:
    echo = {"fault": "status", "code": 500, "text": f"bad {TOKEN}", "path": "/compute/job/"}
    there, key = stage("reference", echo), new_key()
    answer = there.submit(key)
    script = there.site.script(simulated_job(key))
    shown = [repr(answer), script.script, script.request, repr(there.site), repr(there.site.check())]
    assert TOKEN not in "".join(shown)
    assert json.loads(script.request[script.request.index("{") :])["name"] == key


@pytest.mark.parametrize(
    "words",
    [
        {"queue": "debug\nexit"},
        {"queue": 'x"y'},
        {"bad word": "x"},
        {"comment": "mine"},
        {"time": "1"},
        {"filesystems": "home'; rm -rf /; '"},
    ],
)
def test_a_submit_word_that_no_attribute_can_hold_is_refused_before_anything_is_sent(stage: Stages, words: Any) -> None:
    there, key = stage("alcf"), new_key()
    assert isinstance(there.site.submit([replace(simulated_job(key), submit=words)])[key], Refused)
    assert there.accepted(key) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"quirk": 1},
        {"dialect": "v3"},
        {"listing": "all"},
        {"refuses": ["everything"]},
        {"unknown_job": [200]},
        {"page": 0},
        {"names": "yes"},
        {"url": "ftp://there"},
        {"url": "http://there/api/v1", "dialect": "v2"},
        {"resource": "../x"},
        {"files": "carrier pigeon"},
        {"watch": "one"},
        {"activity": 3},
    ],
)
def test_an_option_that_makes_no_sense_is_named(stage: Stages, options: Any) -> None:
    there = stage("reference")
    with pytest.raises(ValueError, match=r"url|option|there"):
        there.rehearsal.site(options=options)


def test_a_wrong_resource_is_no_site_without_jobs(stage: Stages) -> None:
    there = stage("nersc")
    key = new_key()
    there.submit(key, seconds=500)
    wrong = there.rehearsal.site(options={"resource": "no-such-resource"})
    with pytest.raises(RequestRefused):
        wrong.find([key])


def test_a_page_of_jobs_is_not_taken_for_all_of_them(stage: Stages) -> None:
    there, keys = stage("reference", options={"page": 3}), [new_key() for _ in range(7)]
    for key in keys:
        there.submit(key, seconds=500)
    there.wire.asked.clear()
    assert {item.key for item in there.site.find(keys).items} == set(keys)
    assert there.wire.count("POST", "/compute/status/") == 3


def test_a_site_that_gives_the_same_page_again_is_not_believed(stage: Stages) -> None:
    there = stage("reference", options={"page": 1})

    class Same(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, json=[{"id": "1", "status": {"state": "queued"}}])

    site = there.rehearsal.site(transport=Same(), options={"page": 1})
    assert not site.find([new_key()]).complete


def test_names_that_are_not_told_make_nothing_certain(stage: Stages) -> None:
    there, key = stage("reference", tells_spec=False), new_key()
    there.submit(key, seconds=500)
    assert not there.site.find([key]).complete
