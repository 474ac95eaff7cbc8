"""The HTTP face: what it answers, and whom it refuses."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_kit import HELLO, TOKEN, Face, open_face
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.api import guard, operating
from broker.api.guard import Guard, is_loopback
from broker.api.problems import MEDIA_TYPE, TITLES
from broker.api.routes import router
from broker.store.base import StoreBusy, StoreError, StoreFull, StoreGone

WRONG = "wrong-token-" + "w" * 32
OPEN = {"/v1/health", "/v1/health/live"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    """For tests that do not mind what others have stored."""
    with open_face(tmp_path_factory.mktemp("api")) as face:
        yield face


@pytest.fixture
def face(tmp_path: Path) -> Iterator[Face]:
    with open_face(tmp_path) as face:
        yield face


def is_problem(answer: Any, status: int, kind: str) -> bool:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    body = answer.json()
    assert (body["status"], body["title"]) == TITLES[kind]
    assert body["type"] == f"urn:crossfade:problem:{kind}"
    return True


# -- submission --------------------------------------------------------------------------------------------------


def test_a_submitted_run_is_stored_and_can_be_asked_for(face: Face) -> None:
    answer = face.post("/v1/runs", {"document": HELLO, "name": "tonight"})
    assert answer.status_code == 201
    run = answer.json()["run"]
    assert answer.json() == {"run": run, "new": True, "warnings": []}
    assert answer.headers["location"] == f"/v1/runs/{run}"
    assert face.get(answer.headers["location"]).json()["name"] == "tonight"


def test_a_document_may_be_text_or_data(face: Face) -> None:
    data = {"crossfade": 1, "name": "hello", "stages": {"first": {"run": "true"}}}
    runs = [face.submit(data), face.submit(json.dumps(data)), face.submit(HELLO)]
    assert [len(face.get(f"/v1/runs/{run}").json()["stages"]) for run in runs] == [1, 1, 2]


def test_a_yaml_body_is_the_document_and_the_query_says_the_rest(face: Face) -> None:
    text = "crossfade: 1\nname: p\nparams: {who: {required: true}}\nstages: {a: {run: 'echo ${{ params.who }}'}}\n"
    query = {"key": "k", "name": "mine", "param": "who=a=b", "again": "false", "scale": "2"}
    yaml = {"Content-Type": "application/yaml; charset=utf-8"}
    answer = face.ask("POST", "/v1/runs", content=text.encode(), params=query, headers=yaml)
    assert answer.status_code == 201, answer.text
    stored = json.loads(face.service.store.document(answer.json()["run"]) or "")
    assert stored["params"]["who"]["default"] == "a=b"
    assert face.get(f"/v1/runs/{answer.json()['run']}").json()["name"] == "mine"


@pytest.mark.parametrize(
    "query", ["nope=1", "key=a&key=b", "param=x", "param=a=1&param=a=2", "again=maybe", "document=x"]
)
def test_a_wrong_query_beside_a_yaml_body_is_refused(shared: Face, query: str) -> None:
    yaml = {"Content-Type": "application/yaml"}
    answer = shared.ask("POST", f"/v1/runs?{query}", content=HELLO.encode(), headers=yaml)
    assert is_problem(answer, 422, "invalid")


def test_the_same_key_again_is_the_same_run(face: Face) -> None:
    first = face.post("/v1/runs", {"document": HELLO, "key": "k"})
    again = face.post("/v1/runs", {"document": HELLO, "key": "k"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {"run": first.json()["run"], "new": False, "warnings": []}
    anew = face.post("/v1/runs", {"document": HELLO, "key": "k", "again": True})
    assert (anew.status_code, anew.json()["new"]) == (201, True)


def test_another_document_under_the_same_key_is_a_conflict_that_names_the_run(face: Face) -> None:
    run = face.submit(HELLO, key="k")
    answer = face.post("/v1/runs", {"document": HELLO.replace("hello", "other"), "key": "k"})
    assert is_problem(answer, 409, "key-in-use")
    assert answer.json()["run"] == run


def test_params_are_texts_numbers_and_bools(face: Face) -> None:
    document = "crossfade: 1\nname: p\nparams: {n: {type: int}, b: {type: bool}, t: {}}\nstages: {a: {run: 'true'}}\n"
    document = document.replace("{type: int}", "{type: int, required: true}").replace("{}", "{required: true}")
    document = document.replace("{type: bool}", "{type: bool, required: true}")
    run = face.submit(document, params={"n": 3, "b": True, "t": "x y"})
    stored = json.loads(face.service.store.document(run) or "")
    assert [stored["params"][name]["default"] for name in "nbt"] == [3, True, "x y"]


def test_a_wrong_document_is_refused_with_place_cause_and_cure(shared: Face) -> None:
    answer = shared.post("/v1/runs", {"document": HELLO.replace("needs", "need")})
    assert is_problem(answer, 422, "document")
    (problem,) = answer.json()["problems"]
    assert (problem["where"], problem["line"]) == ("stages.second.need", 5)
    assert "needs" in problem["cure"]


@pytest.mark.parametrize(
    "document",
    ["", "a", "[1]", "crossfade: 1", "{", "a: &a [*a]", "x: 1\nx: 2", "\x00", "!!python/object:os.system x", "\ud800"],
)
def test_text_that_is_no_workflow_is_refused_where_it_is(shared: Face, document: str) -> None:
    answer = shared.post("/v1/runs", {"document": document})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == MEDIA_TYPE


def test_a_bomb_of_aliases_is_refused(shared: Face) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert is_problem(shared.post("/v1/runs", {"document": "\n".join(lines)}), 422, "document")


@pytest.mark.parametrize(
    ("stage", "where"),
    [
        ({"files": ["tokens.txt"]}, "stages.a.files[0]"),
        ({"files": ["/etc/hostname"]}, "stages.a.files[0]"),
        ({"files": ["${{ params.f }}"]}, "stages.a.files[0]"),
        ({"inputs": [{"name": "x", "from": "/etc/hostname"}]}, "stages.a.inputs[0].from"),
        ({"inputs": [{"name": "x", "from": "./token"}]}, "stages.a.inputs[0].from"),
        ({"inputs": [{"name": "x", "from": "${{ params.f }}"}]}, "stages.a.inputs[0].from"),
        ({"at": {"here": {"files": ["token"]}}}, "stages.a.at.here.files[0]"),
    ],
)
def test_a_document_sent_over_http_gets_no_file_of_the_server(shared: Face, stage: Any, where: str) -> None:
    params = {"f": {"default": "/etc/hostname"}}
    document = {"crossfade": 1, "name": "thief", "params": params, "stages": {"a": {"run": "true", **stage}}}
    answer = shared.post("/v1/runs", {"document": document})
    assert is_problem(answer, 422, "document")
    assert where in [each["where"] for each in answer.json()["problems"]]
    assert not list((shared.service.settings.blobs).glob("**/*"))


def test_whether_a_file_is_there_is_not_told(shared: Face) -> None:
    def told(path: str) -> str:
        document = {"crossfade": 1, "name": "spy", "stages": {"a": {"run": "true", "files": [path]}}}
        return shared.post("/v1/runs", {"document": document}).text.replace(path, "PATH")

    assert told("/etc/hostname") == told("/etc/nothing0")


def test_what_no_site_could_run_is_refused_by_policy(shared: Face) -> None:
    document = HELLO.replace("{run: 'true'}", "{run: 'true', resources: {nodes: 4000}}")
    answer = shared.post("/v1/runs", {"document": document})
    assert is_problem(answer, 403, "refused")
    assert "first" in answer.json()["detail"]


def test_a_foreign_workflow_is_taken_and_a_wrong_one_is_told(shared: Face) -> None:
    task: dict[str, Any] = {"id": "t", "name": "t", "parents": [], "children": [], "inputFiles": [], "outputFiles": []}
    flow = {"name": "wf", "schemaVersion": "1.5", "workflow": {"specification": {"tasks": [task], "files": []}}}
    assert shared.post("/v1/runs", {"document": flow, "bodies": "noop"}).status_code == 201
    broken = {**flow, "workflow": {"specification": {"tasks": 3}}}
    assert is_problem(shared.post("/v1/runs", {"document": broken}), 422, "document")


# -- looking and commanding --------------------------------------------------------------------------------------


def test_answers_are_the_views_of_the_command_line(face: Face) -> None:
    run = face.submit()
    service = face.service
    assert face.get(f"/v1/runs/{run}").json()["stages"] == json.loads(json.dumps(service.status(run)))["stages"]
    assert face.get(f"/v1/runs/{run}/timeline").json() == service.timeline(run)
    assert face.get(f"/v1/runs/{run}/explain").json() == service.explain(run)
    assert face.get(f"/v1/runs/{run}/checkpoints?all=true").json() == service.checkpoints(run, everything=True)
    assert [stage["name"] for stage in face.get(f"/v1/runs/{run}/stages/second").json()["stages"]] == ["second"]
    assert face.get(f"/v1/runs/{run}/explain?stage=first").json()["stage"] == "first"
    assert [site["site"] for site in face.get("/v1/sites").json()] == ["here"]
    assert face.get("/v1/workers").json() == []


def test_runs_are_listed_newest_first_within_a_limit(face: Face) -> None:
    runs = [face.submit() for _ in range(3)]
    assert {line["run"] for line in face.get("/v1/runs").json()} == set(runs)
    assert len(face.get("/v1/runs?limit=2").json()) == 2
    assert len(face.get("/v1/runs?all=true&limit=3").json()) == 3


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", f"limit={'9' * 5000}", "all=perhaps"])
def test_a_wrong_query_is_refused_without_repeating_it(shared: Face, query: str) -> None:
    answer = shared.get(f"/v1/runs?{query}")
    assert is_problem(answer, 422, "invalid")
    assert "9999" not in answer.text


def test_a_command_is_kept_and_its_outcome_can_be_asked_for(face: Face) -> None:
    run = face.submit()
    answer = face.post(f"/v1/runs/{run}/commands", {"kind": "cancel", "stage": "second", "reason": "not needed"})
    assert answer.status_code == 202
    view = answer.json()
    assert (view["kind"], view["stage"], view["reason"], view["outcome"]) == ("cancel", "second", "not needed", None)
    (row,) = face.service.store.commands(run)
    assert (row.id, row.kind, row.stage, row.reason) == (view["command"], "cancel", "second", "not needed")
    assert face.get(answer.headers["location"]).json() == view


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"kind": "explode"}, "invalid"),
        ({"kind": "move"}, "invalid"),
        ({"kind": "cancel", "to": "here"}, "invalid"),
        ({"kind": "hold", "stage": "first"}, "invalid"),
        ({"kind": "move", "to": "nowhere"}, "invalid"),
        ({"kind": "cancel", "reason": "a\nb"}, "invalid"),
        ({"kind": "cancel", "reason": "\x1b[2J"}, "invalid"),
        ({"kind": "cancel", "reason": "x" * 1001}, "invalid"),
        ({"kind": "cancel", "stage": "first@1"}, "invalid"),
        ({"kind": "cancel", "stage": "../first"}, "invalid"),
        ({"kind": "cancel", "more": 1}, "invalid"),
        ({"kind": "cancel", "stage": "third"}, "not-found"),
        ({"kind": "retry"}, "not-possible"),
        ([], "invalid"),
        ("cancel", "invalid"),
    ],
)
def test_a_command_that_cannot_be_is_refused(shared: Face, body: object, kind: str) -> None:
    run = shared.submit()
    answer = shared.post(f"/v1/runs/{run}/commands", body)
    assert is_problem(answer, TITLES[kind][0], kind)
    assert shared.service.store.commands(run) == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/runs/{run}x",
        "/v1/runs/{short}",
        "/v1/runs/hello",
        "/v1/runs/%25",
        "/v1/runs/..%2f..%2fetc",
        "/v1/runs/a%00b",
        "/v1/runs/%ff",
        "/v1/runs/" + "9" * 5000,
        "/v1/runs/{run}/stages/nope",
        "/v1/runs/{run}/stages/first@1",
        "/v1/runs/{run}/stages/../first",
        "/v1/runs/{run}/stages/",
        "/v1/runs/{run}/explain?stage=nope",
        "/v1/runs/{run}/timeline?stage=a%0ab",
        "/v1/runs/{run}/commands/nope",
        "/v1/runs/",
        "/v1/",
        "/",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/favicon.ico",
    ],
)
def test_all_that_is_not_there_is_the_same_404(shared: Face, path: str) -> None:
    run = shared.submit()
    answer = shared.get(path.format(run=run, short=run[:-1]))
    assert is_problem(answer, 404, "not-found")
    assert answer.json() == {"type": "urn:crossfade:problem:not-found", "title": "Not found", "status": 404}


def test_another_method_is_told_which_ones_there_are(shared: Face) -> None:
    answer = shared.ask("DELETE", "/v1/runs")
    assert is_problem(answer, 405, "method")
    assert "GET" in answer.headers["allow"] or "POST" in answer.headers["allow"]


# -- whoever is told afterwards ----------------------------------------------------------------------------------


def test_whoever_wants_to_know_is_told_of_runs_and_commands(tmp_path: Path) -> None:
    told: list[str] = []
    with open_face(tmp_path, on_submitted=told.append) as face:
        run = face.submit()
        assert face.post(f"/v1/runs/{run}/commands", {"kind": "cancel"}).status_code == 202
    assert told == [run, run]


def test_the_answer_does_not_wait_for_those_who_are_told(tmp_path: Path) -> None:
    go_on = threading.Event()
    with open_face(tmp_path, on_submitted=lambda _: go_on.wait(60)) as face:
        runs = [face.submit() for _ in range(3)]
        assert not go_on.is_set()
        assert len(face.get("/v1/runs").json()) == len(runs)
        go_on.set()


def test_who_is_told_may_fail_and_is_told_of_the_next_one_too(tmp_path: Path) -> None:
    told: list[str] = []

    def tell(run: str) -> None:
        told.append(run)
        raise ConnectionError("no redis")

    with open_face(tmp_path, on_submitted=tell) as face:
        runs = [face.submit(), face.submit()]
    assert told == runs


# -- the store in trouble ----------------------------------------------------------------------------------------


class Broken:
    """A store whose every verb raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def verb(*_args: object, **_named: object) -> None:
            raise self._error

        return verb


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (StoreBusy("locked"), 503, "busy"),
        (StoreError("the database failed: password=canary"), 503, "busy"),
        (StoreFull("no space at /secret/path"), 507, "full"),
        (RuntimeError("canary of the inside"), 500, "internal"),
        (RecursionError("canary"), 500, "internal"),
    ],
)
def test_a_store_in_trouble_is_told_without_its_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, status: int, kind: str
) -> None:
    with open_face(tmp_path, around=lambda _: Broken(error)) as face:
        for answer in (face.post("/v1/runs", {"document": HELLO}), face.get("/v1/runs"), face.get("/v1/sites")):
            assert is_problem(answer, status, kind)
            assert "canary" not in answer.text
            assert "secret" not in answer.text
            assert ("retry-after" in answer.headers) == (status == 503)
    if status == 500:
        assert "canary" not in caplog.text
        assert type(error).__name__ in caplog.text


def test_health_says_whether_the_store_answers_and_nothing_more(tmp_path: Path) -> None:
    with open_face(tmp_path) as face:
        good = face.get("/v1/health", token=None)
        assert (good.status_code, good.json()) == (200, {"ok": True, "store": True, "serving": True})
    with open_face(tmp_path, around=lambda _: Broken(StoreError("gone"))) as face:
        bad = face.get("/v1/health", token=None)
        assert (bad.status_code, bad.json()) == (503, {"ok": False, "store": False, "serving": True})
        assert face.get("/v1/health/live", token=None).json() == {"ok": True}


@pytest.mark.parametrize("healthy", [lambda: False, lambda: 1 / 0 == 0])
def test_health_hears_whoever_serves_beside_it(tmp_path: Path, healthy: Any) -> None:
    with open_face(tmp_path, healthy=healthy) as face:
        answer = face.get("/v1/health", token=None)
    assert (answer.status_code, answer.json()) == (503, {"ok": False, "store": True, "serving": False})


def test_health_asks_the_store_once_a_second_at_most(tmp_path: Path) -> None:
    with open_face(tmp_path) as face:
        face.get("/v1/health", token=None)
        before = face.service.store.counts.statements
        for _ in range(20):
            face.get("/v1/health", token=None)
        assert face.service.store.counts.statements - before <= 4


# -- whom it refuses ---------------------------------------------------------------------------------------------

ENDPOINTS = sorted(
    {
        (
            method,
            route.path.replace("{run}", "r")
            .replace("{ident}", "c")
            .replace("{waiver}", "w")
            .replace("{notice}", "n")
            .replace("{site}", "here")
            .replace("{path:path}", "s"),
        )  # type: ignore[attr-defined]
        for route in (*router.routes, *operating.router.routes)
        for method in route.methods  # type: ignore[attr-defined]
    }
)


def test_every_route_is_in_the_matrix() -> None:
    assert len(ENDPOINTS) == 31
    assert {path for _, path in ENDPOINTS} >= OPEN


@pytest.mark.parametrize("token", [None, "", WRONG, TOKEN.value[:-1], TOKEN.value + "x", TOKEN.value.upper(), "é"])
@pytest.mark.parametrize(("method", "path"), [*ENDPOINTS, ("GET", "/v1/openapi.json"), ("GET", "/v1/nothing")])
def test_without_the_right_token_nothing_is_answered_but_health(
    shared: Face, method: str, path: str, token: str | None
) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}".encode("latin-1")}
    answer = shared.ask(method, path, token=None, headers=headers)
    if path in OPEN:
        assert answer.status_code == 200
    else:
        assert is_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), [*ENDPOINTS, ("GET", "/v1/openapi.json")])
def test_with_the_right_token_every_endpoint_answers(shared: Face, method: str, path: str) -> None:
    assert shared.ask(method, path).status_code in (200, 404, 415)


@pytest.mark.parametrize("header", [f"Basic {TOKEN.value}", TOKEN.value, f"Bearer{TOKEN.value}", "Bearer ", "Bearer"])
def test_the_token_is_shown_as_a_bearer_or_not_at_all(shared: Face, header: str) -> None:
    answer = shared.get("/v1/runs", token=None, headers={"Authorization": header})
    assert is_problem(answer, 401, "unauthorized")


def test_two_tokens_are_none(shared: Face) -> None:
    right = ("Authorization", f"Bearer {TOKEN.value}")
    answer = shared.get("/v1/runs", token=None, headers=[right, right])
    assert is_problem(answer, 401, "unauthorized")


def test_a_token_in_the_query_is_none(shared: Face) -> None:
    assert is_problem(shared.get(f"/v1/runs?access_token={TOKEN.value}", token=None), 401, "unauthorized")


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8787", "LocalHost", "127.0.0.1", "127.0.0.1:80", "127.9.9.9", "[::1]", "[::1]:8787"],
)
def test_this_machine_may_be_called_by_its_own_names(shared: Face, host: str) -> None:
    assert is_loopback(host.encode())
    assert shared.get("/v1/runs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "::1",
        "[::1",
        "[::]",
        "localhost:x",
        "evil.example:80@localhost",
        "localhost evil",
        "127.1",
        "2130706433",
        "[127.0.0.1]",
        "localhost.",
    ],
)
@pytest.mark.parametrize("path", ["/v1/runs", "/v1/health"])
def test_a_page_that_rebinds_its_name_to_this_machine_is_refused(shared: Face, host: str, path: str) -> None:
    assert is_problem(shared.get(path, headers={"Host": host}), 403, "host")


@pytest.mark.parametrize("origin", ["http://localhost", "null", "https://evil.example"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_pages_are_refused_even_with_the_token(shared: Face, origin: str, method: str) -> None:
    answer = shared.ask(method, "/v1/runs", headers={"Origin": origin})
    assert is_problem(answer, 403, "origin")
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_browser_is_known_by_its_fetch_metadata(shared: Face) -> None:
    assert is_problem(shared.get("/v1/runs", headers={"Sec-Fetch-Site": "same-site"}), 403, "origin")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"])
def test_a_body_that_a_page_could_send_unasked_is_refused(shared: Face, kind: str) -> None:
    answer = shared.ask("POST", "/v1/runs", content=b"{}", headers={"Content-Type": kind})
    assert is_problem(answer, 415, "media-type")


def test_a_compressed_body_is_refused(shared: Face) -> None:
    assert is_problem(shared.post("/v1/runs", b"x", headers={"Content-Encoding": "gzip"}), 415, "media-type")


# -- bodies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"document":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        b'{"document": "a", "document": "b"}',
        b'{"document": NaN}',
        b'{"scale": ' + b"9" * 10_000 + b"}",
        b'{"document": "\\ud800"}',
        b'{"key": "a\\u0000b"}',
        b"",
    ],
)
def test_a_malformed_body_is_refused(shared: Face, body: bytes) -> None:
    assert is_problem(shared.post("/v1/runs", body), 400, "malformed")


@pytest.mark.parametrize(
    "more",
    [
        {"key": ""},
        {"key": "x" * 201},
        {"key": "a\nb"},
        {"key": 3},
        {"name": "a b"},
        {"name": "../x"},
        {"again": "yes"},
        {"bodies": "rm"},
        {"scale": -1},
        {"scale": "1"},
        {"params": []},
        {"params": {"a": []}},
        {"params": {"a": None}},
        {"params": {str(n): "x" for n in range(1001)}},
        {"document": 3},
        {"document": None},
        {"user": "root"},
    ],
)
def test_a_wrong_value_is_refused_by_its_place(shared: Face, more: dict[str, Any]) -> None:
    answer = shared.post("/v1/runs", {"document": HELLO, **more})
    assert is_problem(answer, 422, "invalid")
    assert answer.json()["problems"][0]["where"].startswith(next(iter(more)))


def test_what_was_sent_is_not_repeated_in_a_refusal(shared: Face) -> None:
    answer = shared.post("/v1/runs", {"document": HELLO, "key": ["canary-secret"], "again": "canary-secret"})
    assert is_problem(answer, 422, "invalid")
    assert "canary" not in answer.text


async def endless() -> AsyncIterator[bytes]:
    chunk = b" " * (1 << 20)
    for _ in range(64):
        yield chunk


def test_a_body_that_says_no_length_is_counted_as_it_comes(shared: Face) -> None:
    answer = shared.ask("POST", "/v1/runs", content=endless(), headers={"Content-Type": "application/json"})
    assert is_problem(answer, 413, "too-large")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("length", [str(guard.MOST_BYTES + 1), "9" * 40])
def test_a_body_that_says_it_is_too_large_is_not_read(shared: Face, length: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": length}
    assert is_problem(shared.ask("POST", "/v1/runs", content=endless(), headers=headers), 413, "too-large")


def test_a_body_is_not_read_before_the_token_is_shown(shared: Face) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("it was read")
        yield b""

    assert is_problem(shared.ask("POST", "/v1/runs", token=WRONG, content=never()), 401, "unauthorized")


def test_a_body_that_does_not_come_is_not_waited_for(shared: Face) -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    impatient = Guard(shared.app, token=TOKEN, body_seconds=0.05)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(impatient)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/v1/runs", content=stuck(), headers={"Authorization": TOKEN.header})

    answer = asyncio.run(ask())
    assert is_problem(answer, 408, "slow")
    assert answer.headers["connection"] == "close"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(HELLO),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["document", "params", "key", "name", "again", "scale", "bodies", "kind", "stage", "to", "reason"]
)
STAGES = st.dictionaries(st.sampled_from(["run", "needs", "inputs", "files", "at", "env"]), VALUES, max_size=3)
DOCUMENTS = st.fixed_dictionaries(
    {"crossfade": st.just(1), "name": st.just("x"), "stages": st.dictionaries(st.just("a"), STAGES, min_size=1)}
)
BODIES = st.dictionaries(KEYS, VALUES, max_size=5) | st.fixed_dictionaries({"document": DOCUMENTS}) | VALUES


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, path=st.sampled_from(["/v1/runs", "/v1/runs/{run}/commands"]))
def test_no_json_leads_to_an_internal_error(shared: Face, known: str, body: object, path: str) -> None:
    answer = shared.post(path.format(run=known), body)
    assert answer.status_code < 500, answer.text
    assert answer.status_code < 300 or answer.headers["content-type"] == MEDIA_TYPE


@pytest.fixture(scope="module")
def known(shared: Face) -> str:
    return shared.submit()


# -- what is left behind -----------------------------------------------------------------------------------------


def test_the_token_is_in_no_log_no_repr_and_no_answer(shared: Face, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [
        shared.get("/v1/runs"),
        shared.get("/v1/nothing"),
        shared.get("/v1/openapi.json"),
        shared.get("/v1/runs?limit=x"),
    ]
    assert TOKEN.value not in "".join([repr(TOKEN), str(TOKEN), f"{TOKEN}", *(answer.text for answer in answers)])
    assert TOKEN.value not in caplog.text


def test_every_answer_says_that_it_is_not_to_be_kept(shared: Face) -> None:
    for path in ("/v1/runs", "/v1/nothing", "/v1/health"):
        headers = shared.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"


def test_the_log_of_a_failing_store_has_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    error = StoreError("first\nWARNING forged \x1b[31mline")
    with open_face(tmp_path, around=lambda _: Broken(error)) as face:
        face.get("/v1/runs")
    (record,) = [record for record in caplog.records if record.name == "broker.api.problems"]
    assert record.getMessage() == "first WARNING forged line"


def test_a_database_that_has_gone_is_told_as_such_and_not_as_others_writing(tmp_path: Path) -> None:
    with open_face(tmp_path, around=lambda _: Broken(StoreGone("it does not answer"))) as face:
        answer = face.get("/v1/runs")
    assert is_problem(answer, 503, "busy")
    assert answer.json()["detail"] == "the database does not answer; whether what was sent was kept is not known"


# -- the page that tells of it -----------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "http-api.md").read_text()


def test_the_page_tells_every_route_and_every_kind_of_problem() -> None:
    for route in (*router.routes, *operating.router.routes):
        path = (
            route.path.replace("{run}", "RUN")
            .replace("{ident}", "COMMAND")
            .replace("{waiver}", "WAIVER")
            .replace("{notice}", "NOTICE")
            .replace("{site}", "SITE")
            .replace("{path:path}", "STAGE")
        )  # type: ignore[attr-defined]
        for method in route.methods:  # type: ignore[attr-defined]
            assert f"`{method} {path}`" in PAGE
    for kind, (status, _) in TITLES.items():
        assert re.search(rf"^\| {status} \| .*`{kind}`", PAGE, re.MULTILINE), kind


def test_the_pages_example_of_an_error_is_a_real_one(shared: Face) -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    document = HELLO.replace("needs", "need")
    assert shared.post("/v1/runs", {"document": document}).json() == json.loads(example)
