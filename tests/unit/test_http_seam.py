"""The one HTTP seam: what is sent once, what is sent again, and what hostile answers lead to."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping

import httpx
import pytest

from connectors.errors import (
    BadReply,
    CredentialError,
    QuotaError,
    RequestRefused,
    SiteBusy,
    SiteError,
    SiteUnreachable,
)
from connectors.http import TRIES, Fixed, Http, Refusal
from connectors.secrets import Secret

Answer = Callable[[httpx.Request], httpx.Response]


class Wire(httpx.BaseTransport):
    """Answers with each of these in turn, the last one for ever, and remembers what was sent."""

    def __init__(self, *answers: httpx.Response | Exception | Answer) -> None:
        self.answers, self.sent = list(answers), []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.sent.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer


def api(wire: httpx.BaseTransport, **more: object) -> Http:
    return Http("https://api.example.org/v1", site="there", transport=wire, sleep=lambda _: None, **more)


def reply(status: int = 200, document: object = None, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=document, headers=headers)


def test_a_question_is_asked_again_when_no_answer_comes() -> None:
    wire = Wire(httpx.ReadTimeout("slow"), reply(503), reply(200, {"up": True}))
    assert api(wire).get("status").mapping() == {"up": True}
    assert len(wire.sent) == 3


def test_a_question_is_not_asked_for_ever() -> None:
    wire = Wire(reply(502))
    with pytest.raises(SiteUnreachable):
        api(wire).get("status")
    assert len(wire.sent) == TRIES


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "failure", [httpx.ReadTimeout("slow"), httpx.ConnectError("no"), reply(503), reply(429), reply(502)]
)
def test_what_may_have_an_effect_is_sent_once_whatever_happens(
    method: str, failure: httpx.Response | Exception
) -> None:
    wire = Wire(failure)
    with pytest.raises(SiteError):
        api(wire).ask(method, "jobs")
    assert len(wire.sent) == 1


@pytest.mark.parametrize(
    ("failure", "possible"),
    [
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("no way"), False),
        (httpx.ReadTimeout("slow"), True),
        (httpx.RemoteProtocolError("broke"), True),
        (reply(500), True),
        (reply(408), True),
    ],
)
def test_silence_says_whether_the_request_may_have_been_done(
    failure: httpx.Response | Exception, possible: bool
) -> None:
    with pytest.raises(SiteUnreachable) as caught:
        api(Wire(failure)).ask("POST", "jobs")
    assert caught.value.effect_possible is possible


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Refusal),
        (401, CredentialError),
        (403, CredentialError),
        (404, Refusal),
        (409, Refusal),
        (422, Refusal),
        (429, SiteBusy),
        (507, QuotaError),
        (301, BadReply),
        (302, BadReply),
        (308, BadReply),
    ],
)
def test_each_status_is_the_error_that_it_means(status: int, error: type[SiteError]) -> None:
    wire = Wire(reply(status, {"detail": "no"}, location="http://169.254.169.254/latest/"))
    with pytest.raises(error):
        api(wire).ask("POST", "jobs")
    assert [request.url.host for request in wire.sent] == ["api.example.org"]


def test_a_status_that_the_caller_takes_is_an_answer() -> None:
    assert api(Wire(reply(404, {"detail": "none"}))).get("incidents", accept={404}).status == 404


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"detail": "job X not found"}, "job X not found"),
        ({"detail": [{"loc": ["body"], "msg": "too many nodes", "type": "x"}]}, "too many nodes"),
        ({"errors": [{"description": "Invalid job id", "error_number": 2017}]}, "Invalid job id"),
        ({"kind": "Status", "message": "jobs.batch is forbidden"}, "jobs.batch is forbidden"),
        ({"title": "Not Found", "status": 404}, "Not Found"),
    ],
)
def test_a_refusal_repeats_what_the_site_said(document: Mapping[str, object], told: str) -> None:
    with pytest.raises(Refusal) as caught:
        api(Wire(reply(400, document))).ask("POST", "jobs")
    assert caught.value.detail == told
    assert caught.value.document == document


def test_a_foreign_text_becomes_one_short_line_without_control_characters() -> None:
    text = "bad\x1b[2J\nthing\u202e" + "x" * 10_000
    with pytest.raises(Refusal) as caught:
        api(Wire(reply(400, {"detail": text}))).ask("POST", "jobs")
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\u202e" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_site_says_when_to_come_back_and_not_later_than_in_an_hour() -> None:
    for given, seconds in (("7", 7.0), ("1000000", 3600.0), ("-3", 0.0), ("soon", None)):
        with pytest.raises(SiteBusy) as caught:
            api(Wire(reply(429, None, **{"Retry-After": given}))).ask("POST", "jobs")
        assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    "content",
    [b"<html>Sorry</html>", b"", b"{", b"\xff\xfe", b"NaN of it", b"[" * 100_000, b'{"a":' * 200 + b"1" + b"}" * 200],
)
def test_what_is_no_json_is_a_bad_reply(content: bytes) -> None:
    wire = Wire(httpx.Response(200, content=content))
    with pytest.raises(BadReply):
        api(wire).get("status").json()


@pytest.mark.parametrize("content", [b"[]", b'"text"', b"7", b"null", b"true"])
def test_json_of_another_kind_than_expected_is_a_bad_reply(content: bytes) -> None:
    with pytest.raises(BadReply):
        api(Wire(httpx.Response(200, content=content))).get("status").mapping()


def test_a_body_beyond_the_limit_is_not_read_to_its_end() -> None:
    given = []

    def flood() -> Iterator[bytes]:
        for _ in range(1_000):
            given.append(1)
            yield b"x" * 1_000

    wire = Wire(lambda _: httpx.Response(200, content=flood()))
    with pytest.raises(BadReply, match="larger"):
        api(wire, limit=10_000).get("status")
    assert len(given) < 20


def test_a_compressed_body_is_refused_for_it_was_not_asked_for() -> None:
    wire = Wire(httpx.Response(200, content=b"\x1f\x8b", headers={"content-encoding": "gzip"}))
    with pytest.raises(BadReply, match="encoded"):
        api(wire).get("status")
    assert wire.sent[0].headers["accept-encoding"] == "identity"


def test_a_body_that_drips_ends_at_the_deadline_of_the_call() -> None:
    now = [0.0]

    def drip() -> Iterator[bytes]:
        while True:
            now[0] += 1.0
            yield b" "

    wire = Wire(lambda _: httpx.Response(200, content=drip()))
    with pytest.raises(SiteUnreachable, match="in time"):
        api(wire, deadline=5.0, elapsed=lambda: now[0]).get("status")
    assert now[0] < 10


def test_an_address_on_another_host_is_not_asked() -> None:
    wire = Wire(reply())
    with pytest.raises(BadReply):
        api(wire).get("https://elsewhere.example.org/v1/task/1")
    with pytest.raises(BadReply):
        api(wire).get("https://api.example.org:444/v1/task/1")
    assert wire.sent == []
    api(wire).get("https://api.example.org/v1/task/1")
    assert wire.sent[0].url.path == "/v1/task/1"


@pytest.mark.parametrize("base", ["file:///etc/passwd", "ftp://x", "api.example.org", ""])
def test_only_http_addresses_are_taken(base: str) -> None:
    with pytest.raises(RequestRefused):
        Http(base, site="there")


class Renewed:
    def __init__(self, *tokens: str, able: bool = True) -> None:
        self.tokens, self.able = list(tokens), able

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.tokens[0]}"}

    def refused(self) -> bool:
        if len(self.tokens) > 1:
            self.tokens.pop(0)
        return self.able


def test_a_refused_token_is_renewed_once_even_for_a_submission_because_nothing_was_done() -> None:
    wire = Wire(reply(401), reply(200, {"id": "1"}))
    assert api(wire, auth=Renewed("old", "new")).ask("POST", "jobs").mapping() == {"id": "1"}
    assert [request.headers["authorization"] for request in wire.sent] == ["Bearer old", "Bearer new"]


def test_a_token_that_stays_refused_is_a_matter_for_a_person() -> None:
    wire = Wire(reply(401))
    with pytest.raises(CredentialError):
        api(wire, auth=Renewed("old", "new")).ask("POST", "jobs")
    assert len(wire.sent) == 2
    with pytest.raises(CredentialError):
        api(Wire(reply(403)), auth=Renewed("old", able=False)).get("jobs")


def test_a_secret_that_the_site_repeats_is_not_repeated_by_us() -> None:
    secret = Secret("canary-of-the-seam-8d1f")
    wire = Wire(reply(400, {"detail": f"token {secret.reveal()} is not for this"}))
    auth = Fixed(lambda: {"Authorization": secret.reveal()})
    with pytest.raises(Refusal) as caught:
        api(wire, auth=auth).ask("POST", "jobs")
    assert secret.reveal() not in str(caught.value)
    assert secret.reveal() not in caught.value.detail
    assert wire.sent[0].headers["authorization"] == secret.reveal()


def test_forms_and_json_go_out_as_they_are_given() -> None:
    wire = Wire(reply())
    api(wire).ask(
        "POST", "jobs", form={"job": "#!/bin/sh\n", "isPath": "false"}, params=[("kwargs", "a=1"), ("kwargs", "b=2")]
    )
    assert wire.sent[0].url.query == b"kwargs=a%3D1&kwargs=b%3D2"
    assert wire.sent[0].content == b"job=%23%21%2Fbin%2Fsh%0A&isPath=false"
    api(wire).ask("POST", "jobs", json={"a": 1})
    assert json.loads(wire.sent[1].content) == {"a": 1}


def test_a_real_socket_that_hangs_up_before_it_answers_leaves_a_doubt() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]

        def hang_up() -> None:
            caller, _ = door.accept()
            with caller:
                caller.recv(1_000)

        thread = threading.Thread(target=hang_up)
        thread.start()
        http = Http(f"http://127.0.0.1:{port}", site="there", deadline=5.0)
        with pytest.raises(SiteUnreachable) as caught:
            http.ask("POST", "jobs", json={})
        thread.join(5)
        http.close()
    assert caught.value.effect_possible


def test_a_real_socket_that_nobody_answers_at_had_no_effect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    http = Http(f"http://127.0.0.1:{port}", site="there", deadline=5.0)
    with pytest.raises(SiteUnreachable) as caught:
        http.ask("POST", "jobs", json={})
    http.close()
    assert not caught.value.effect_possible
