"""The client: what it makes of answers, and when it asks again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_kit import TOKEN

from broker.client import Client, Refused, Submitted, Unavailable
from broker.errors import BrokerError, KeyInUse, NotFound, RefusedByPolicy, UsageError, WaitTimedOut

Answer = httpx.Response | Exception


class Script:
    """A server that answers by the book; keeps what it was sent."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.time = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.time += seconds

    def client(self) -> Client:
        transport = httpx.MockTransport(self)
        return Client("http://localhost:1", TOKEN, transport=transport, sleep=self.sleep, clock=lambda: self.time)


def ok(view: object, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=view)


def problem(status: int, kind: str, **more: object) -> httpx.Response:
    body = {"type": f"urn:crossfade:problem:{kind}", "title": kind, "status": status, **more}
    return httpx.Response(status, json=body, headers={"Retry-After": "2"} if status == 503 else {})


STORED = ok({"run": "r", "new": True, "warnings": ["w"]}, 201)
LOST = httpx.ReadError("the connection broke")


def test_a_submission_carries_the_document_and_the_token(tmp_path: Path) -> None:
    script = Script(STORED)
    file = tmp_path / "w.yaml"
    file.write_text("crossfade: 1\n")
    with script.client() as client:
        assert client.submit(file, params={"n": 1}, key="k") == Submitted(run="r", new=True, warnings=("w",))
    (sent,) = script.requests
    assert sent.headers["authorization"] == f"Bearer {TOKEN.value}"
    body = json.loads(sent.content)
    assert (body["document"], body["params"], body["key"]) == ("crossfade: 1\n", {"n": 1}, "k")


def test_a_file_that_cannot_be_read_is_told_and_nothing_is_sent(tmp_path: Path) -> None:
    script = Script(STORED)
    with script.client() as client, pytest.raises(UsageError):
        client.submit(tmp_path / "nothing.yaml")
    assert script.requests == []


@pytest.mark.parametrize("trouble", [LOST, problem(503, "busy")])
def test_a_submission_with_a_key_is_sent_again_until_it_is_answered(trouble: Answer) -> None:
    script = Script(trouble, trouble, STORED)
    with script.client() as client:
        assert client.submit("x", key="k").run == "r"
    assert len({request.content for request in script.requests}) == 1
    assert len(script.requests) == 3


@pytest.mark.parametrize("more", [{}, {"key": "k", "again": True}])
def test_a_submission_that_could_be_stored_twice_is_sent_once(more: dict[str, Any]) -> None:
    script = Script(LOST, STORED)
    with script.client() as client, pytest.raises(Unavailable):
        client.submit("x", **more)
    assert len(script.requests) == 1


def test_a_command_is_sent_once() -> None:
    script = Script(LOST)
    with script.client() as client, pytest.raises(Unavailable):
        client.cancel("r")
    assert len(script.requests) == 1


def test_a_server_that_stays_away_is_told_with_what_to_do() -> None:
    script = Script(httpx.ConnectError("refused"))
    with script.client() as client, pytest.raises(Unavailable) as caught:
        client.queue()
    assert len(script.requests) == 4
    assert caught.value.help == "crossfade serve"
    assert TOKEN.value not in repr(caught.value)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (problem(404, "not-found"), NotFound, "not-found"),
        (problem(403, "refused", detail="no site"), RefusedByPolicy, "no site"),
        (problem(409, "key-in-use", run="other"), KeyInUse, "key-in-use"),
        (problem(409, "not-possible"), Refused, "not-possible"),
        (problem(401, "unauthorized"), Refused, "unauthorized"),
        (problem(503, "busy"), Unavailable, "busy"),
        (problem(507, "full"), Unavailable, "full"),
        (
            problem(422, "document", problems=[{"where": "a.b", "line": 3, "message": "m", "cure": "c"}]),
            Refused,
            "line 3",
        ),
        (httpx.Response(502, text="<html>"), Refused, "502"),
        (httpx.Response(200, text="<html>"), Refused, "200"),
    ],
)
def test_each_refusal_is_the_brokers_own_error(answer: Answer, kind: type[BrokerError], words: str) -> None:
    with Script(answer).client() as client, pytest.raises(BrokerError) as caught:
        client.status("r")
    assert type(caught.value) is kind
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("ask", "path"),
    [
        (lambda c: c.status("../x?y#z"), "/v1/runs/..%2Fx%3Fy%23z"),
        (lambda c: c.status("r", "a b"), "/v1/runs/r/stages/a%20b"),
        (lambda c: c.explain("r", "s"), "/v1/runs/r/explain?stage=s"),
        (lambda c: c.checkpoints("r", "s"), "/v1/runs/r/checkpoints?stage=s"),
        (lambda c: c.timeline("r"), "/v1/runs/r/timeline"),
        (lambda c: c.history(limit=3), "/v1/runs?limit=3&all=true"),
        (lambda c: c.sites(), "/v1/sites"),
    ],
)
def test_names_cannot_lead_to_another_route(ask: Callable[[Client], object], path: str) -> None:
    script = Script(ok([]))
    with script.client() as client:
        ask(client)
    assert script.requests[0].url.raw_path.decode() == path


def states(*names: str) -> Sequence[httpx.Response]:
    return [ok({"run": "r", "state": name}) for name in names]


def test_waiting_ends_with_the_run_however_it_ends() -> None:
    for end in ("SUCCEEDED", "FAILED", "CANCELED"):
        with Script(*states("PENDING", "RUNNING", "WAITING", end)).client() as client:
            assert client.wait("r")["state"] == end


def test_waiting_goes_on_while_the_server_is_away() -> None:
    script = Script(*states("RUNNING"), *[LOST] * 12, problem(503, "busy"), *states("SUCCEEDED"))
    with script.client() as client:
        assert client.wait("r")["state"] == "SUCCEEDED"


def test_waiting_ends_in_time() -> None:
    script = Script(*states("RUNNING"))
    with script.client() as client, pytest.raises(WaitTimedOut, match="RUNNING"):
        client.wait("r", timeout=30)
    assert script.time == pytest.approx(30)


def test_waiting_without_an_end_gives_up_on_a_server_that_stays_away() -> None:
    script = Script(LOST)
    with script.client() as client, pytest.raises(Unavailable):
        client.wait("r")
    assert 60 < script.time < 120


def test_waiting_for_a_run_that_is_not_there_is_told_at_once() -> None:
    with Script(problem(404, "not-found")).client() as client, pytest.raises(NotFound):
        client.wait("r")
