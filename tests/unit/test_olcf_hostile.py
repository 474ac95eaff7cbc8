"""Replies that nobody should send, and words that nobody should write: a clear error each, and nothing done."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from olcf_kit import PLAIN_38, PLAIN_44, S3M_43, S3M_44, Flavor, Rehearsal, simulated_job

from connectors.contract import new_key
from connectors.errors import BadReply, SiteError, SiteUnreachable
from connectors.model import Accepted, JobState, Refused
from connectors.olcf import RestSite

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


# -- hostile replies -------------------------------------------------------------------------------------------------

DEEP = json.loads("[" * 100 + "]" * 100)
ODD: list[Any] = [
    None, [], "text", 3, {"jobs": None}, {"jobs": {}}, {"jobs": [None]}, {"jobs": [[]]}, {"jobs": [{}]},
    {"jobs": [], "errors": "many"}, {"jobs": [], "errors": {"error": 1}},
    {"jobs": [{"job_id": "x"}]}, {"jobs": [{"job_id": {"set": True, "number": []}}]},
    {"jobs": [{"job_id": 10**40, "name": [], "comment": {}, "job_state": {}, "exit_code": [], "restart_cnt": {}}]},
    {"jobs": [{"job_id": 1, "job_state": [None, 4, []], "state_reason": 7, "submit_time": {"number": "x"}}]},
    {"jobs": [{"job_id": 1, "state": {"current": 4}, "time": [], "exit_code": {"signal": 3, "return_code": {}}}]},
    {"jobs": [{"job_id": 1, "exit_code": {"signal": {"id": {}}, "return_code": "\u0664"}}]},
    {"jobs": [], "errors": [None, 3, {"error": [], "error_number": {}}]},
    {"token": 3}, {"token": {"plannedExpiration": {}, "delayDate": 1e300, "delayedStart": True}},
    {"resources": [None, {"name": "defiant", "status": [], "retrievedAt": []}], "downtimes": [3]},
    {"downtimes": [{"resourceName": "defiant", "start": "yesterday", "end": []}], "resources": "none"},
    {"pings": 3}, {"pings": [3, {"ping": []}]}, {"partitions": {}, "reservations": [4]}, {"deep": DEEP},
    {"job_id": True}, {"job_id": -1}, {"job_id": "12 34"}, {"job_id": {"set": False}},
]  # fmt: skip


class Odd(httpx.BaseTransport):
    """Answers everything with the same."""

    def __init__(self, value: object, status: int) -> None:
        self._body = json.dumps(value).encode()
        self._status = status

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = {"content-type": "application/json"}
        return httpx.Response(self._status, headers=headers, content=self._body, request=request)


@pytest.mark.parametrize("status", [200, 400, 404, 500])
@pytest.mark.parametrize("number", range(len(ODD)))
@pytest.mark.parametrize("flavor", [S3M_43, PLAIN_38], ids=["s3m", "slurmrestd"], indirect=True)
def test_an_odd_reply_is_an_error_of_ours_or_an_answer(make: Make, number: int, status: int) -> None:
    rehearsal = make()
    site, key = rehearsal.site(), new_key()
    rehearsal.wire._inner = Odd(ODD[number], status)
    verbs: list[Callable[[], Any]] = [
        lambda: site.status([key]),
        lambda: site.find([key]),
        lambda: site.list_mine(0),
        lambda: site.cancel([key]),
        lambda: site._api.submit({}),
        lambda: site._submitting._judged(site._api.submit({})),
    ]
    for verb in verbs:
        with contextlib.suppress(SiteError):
            verb()
    site.probe()
    site.check(canary=True)


@pytest.mark.parametrize("fault", ["html", "garbage", "redirect", "huge"])
def test_what_is_no_answer_of_slurms_is_told_as_such(make: Make, fault: str) -> None:
    more = {"bytes": 100 << 20} if fault == "huge" else {}
    site = make({"fault": fault, "times": 0, **more}).site()
    with pytest.raises(BadReply):
        site.status([new_key()])


def test_a_drip_ends_with_the_deadline(make: Make) -> None:
    rehearsal = make({"fault": "drip", "pause": 4, "piece": 1, "times": 0})
    begun = rehearsal.clock()
    with pytest.raises(SiteUnreachable):
        rehearsal.site().status([new_key()])
    assert rehearsal.clock() - begun < 45 * 1_000_000


@pytest.mark.parametrize(
    "submit",
    [
        {"queue": "batch\n#SBATCH --uid=0"},
        {"constraint": 'x"; touch /tmp/pwned; "'},
        {"job-name": "mine"},
        {"dependency": "afterok:1"},
        {"time-min": "soon"},
        {"nice": "-5"},
        {"exclusive": "topo"},
        {"mem-per-cpu": "much"},
        {"comment": "x"},
        {"hetjob": "1"},
    ],
    ids=lambda submit: next(iter(submit)),
)
def test_words_that_the_api_has_no_place_for_are_refused_before_anything_is_sent(
    make: Make, submit: dict[str, str]
) -> None:
    rehearsal = make()
    site, key = rehearsal.site(), new_key()
    answer = site.submit([simulated_job(key, submit=submit)])[key]
    assert isinstance(answer, Refused)
    assert not rehearsal.wire.asked
