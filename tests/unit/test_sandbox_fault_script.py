"""Fault scripts: read, matched, and made to happen by the server before a face and by the facility behind it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from connectors.model import JobState
from sandbox.faces.http import Request, Response, answer
from sandbox.facilities import FacilityShape, VirtualFacility, arm
from sandbox.facility import Facility, JobView, Order, OrderRefused
from sandbox.script import BadScript, FaultScript, parse_rule, read_script, script_of
from sandbox.script_names import NAMES, By
from sandbox.serving import FaceServer, InProcess

START = 1_700_000_000_000_000


class Counting:
    """A face that counts what it was asked to do."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.face = ""

    def handle(self, request: Request) -> Response:
        self.done.append(f"{request.method} {request.path}")
        self.face = request.face
        if request.path == "/broken":
            raise RuntimeError("a fault of our own")
        if request.path == "/parts":
            return Response(headers={"content-type": "text/plain"}, parts=iter([b"one\n", b"two\n"]))
        told = {"path": request.path, "query": list(request.query), "body": request.body.decode(), "host": request.host}
        return answer(told, 201 if request.method == "POST" else 200, x_told="yes")


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e6)


@contextmanager
def served(way: str, face: Counting, script: FaultScript | None = None) -> Iterator[httpx.Client]:
    faults = (script or script_of(clock=Hands())).of("here")
    if way == "in process":
        with httpx.Client(transport=InProcess(face, faults, name="f"), base_url="http://h:1", timeout=0.4) as client:
            yield client
    else:
        with (
            FaceServer(face, faults, name="f") as server,
            httpx.Client(base_url=server.address, timeout=0.4, trust_env=False) as client,
        ):
            yield client


WAYS = pytest.mark.parametrize("way", ["in process", "on a socket"])


@WAYS
def test_requests_and_answers_come_through_whole(way: str) -> None:
    face = Counting()
    with served(way, face) as client:
        reply = client.post("/a%20b/c?x=1&x=&y=%C3%A4", content=b"body")
        assert (reply.status_code, reply.headers["x-told"], face.face) == (201, "yes", "f")
        assert reply.json()["query"] == [["x", "1"], ["x", ""], ["y", "ä"]]
        assert (reply.json()["path"], reply.json()["body"]) == ("/a b/c", "body")
        assert reply.json()["host"] == str(client.base_url).rstrip("/")
        assert client.get("/parts").text == "one\ntwo\n"
        head = client.head("/")
        assert (head.content, int(head.headers["content-length"]) > 0) == (b"", True)
        assert client.put("/", content=(part for part in [b"in ", b"chunks"])).json()["body"] == "in chunks"
        assert client.get("/broken").status_code == 500
        assert client.get("/").status_code == 200


@WAYS
def test_a_reply_that_is_lost_was_done_and_a_request_that_is_lost_was_not(way: str) -> None:
    face = Counting()
    script = script_of(
        {"fault": "reply_lost", "method": "POST", "path": "^/jobs"},
        {"fault": "request_lost", "method": "DELETE"},
        clock=Hands(),
    )
    with served(way, face, script) as client:
        for method in ("POST", "DELETE"):
            with pytest.raises(httpx.RemoteProtocolError):
                client.request(method, "/jobs")
        assert client.post("/jobs").status_code == 201
        assert client.delete("/jobs").status_code == 200
    assert face.done == ["POST /jobs", "POST /jobs", "DELETE /jobs"]
    assert [(item.fault, item.what) for item in script.happened] == [
        ("reply_lost", "POST /jobs"),
        ("request_lost", "DELETE /jobs"),
    ]


@WAYS
def test_a_delay_beyond_the_clients_patience_comes_after_the_deed(way: str) -> None:
    face = Counting()
    with served(way, face, script_of({"fault": "delay", "delay": 30}, clock=Hands())) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/jobs")
        assert client.get("/").status_code == 200
    assert face.done == ["POST /jobs", "GET /"]


@WAYS
@pytest.mark.parametrize(
    ("rule", "status", "header"),
    [
        ({"fault": "status", "code": 502}, 502, None),
        ({"fault": "status", "code": 503}, 503, None),
        ({"fault": "status", "code": 504, "handled": True}, 504, None),
        ({"fault": "status", "code": 429, "retry_after": 7}, 429, ("retry-after", "7")),
        ({"fault": "unauthorized"}, 401, ("www-authenticate", 'Bearer error="invalid_token"')),
        ({"fault": "forbidden"}, 403, None),
        ({"fault": "html"}, 200, ("content-type", "text/html")),
        ({"fault": "redirect", "to": "http://10.0.0.1/"}, 302, ("location", "http://10.0.0.1/")),
    ],
)
def test_answers_that_are_not_the_faces(
    way: str, rule: dict[str, object], status: int, header: tuple[str, str] | None
) -> None:
    face = Counting()
    with served(way, face, script_of(rule, clock=Hands())) as client:
        reply = client.post("/jobs")
        assert reply.status_code == status
        if header is not None:
            assert reply.headers[header[0]] == header[1]
        assert face.done == (["POST /jobs"] if rule.get("handled") else [])
        assert client.post("/jobs").status_code == 201


@WAYS
def test_a_huge_body_can_be_left_half_read(way: str) -> None:
    with (
        served(way, Counting(), script_of({"fault": "huge", "bytes": 1 << 40}, clock=Hands())) as client,
        client.stream("GET", "/") as reply,
    ):
        size = 0
        for part in reply.iter_raw():
            size += len(part)
            if size > 1 << 20:
                break
    assert size > 1 << 20


@WAYS
def test_a_slow_drip_brings_the_answer_in_pieces_and_a_truncated_one_ends_early(way: str) -> None:
    script = script_of({"fault": "drip", "pause": 0.001, "piece": 7}, {"fault": "truncated", "nth": 2}, clock=Hands())
    with served(way, Counting(), script) as client:
        assert client.get("/").json()["path"] == "/"
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/")


def test_garbage_is_what_the_script_says() -> None:
    rule = {"fault": "garbage", "text": '{"jobs": "none"}', "times": 0}
    with served("in process", Counting(), script_of(rule, clock=Hands())) as client:
        assert [client.get("/").json(), client.get("/").json()] == [{"jobs": "none"}] * 2


def test_a_server_that_stops_leaves_no_thread_and_no_client_waiting() -> None:
    before = threading.active_count()
    with served("on a socket", Counting(), script_of({"fault": "delay", "delay": 300}, clock=Hands())) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.get("/")
        assert client.get("/").status_code == 200
    assert threading.active_count() == before


# -- matching --------------------------------------------------------------------------------------------------


def test_a_rule_is_met_from_its_nth_occasion_on_and_so_often_as_it_says() -> None:
    script = script_of({"fault": "reply_lost", "nth": 2, "times": 2, "path": "/x"}, clock=Hands())
    faults = script.of("any")
    ask = [faults.take("reply_lost", Request(method="GET", path=path)) for path in ("/x", "/y", "/x", "/x", "/x")]
    assert [found is not None for found in ask] == [False, False, True, True, False]


def test_a_rule_holds_in_its_window_its_facility_its_face_and_its_method() -> None:
    clock = Hands()
    words = {"facility": "a", "face": "iri", "method": "post", "from": 10, "until": 20, "times": 0}
    script = script_of({"fault": "status", "code": 502, **words}, clock=clock)
    request = Request(method="POST", path="/", face="iri")
    assert script.of("a").take("status", request) is None
    clock.sleep(10)
    assert script.of("a").take("status", request) == {"code": 502}
    assert script.of("b").take("status", request) is None
    assert script.of("a").take("status", Request(method="GET", path="/", face="iri")) is None
    assert script.of("a").take("status", Request(method="POST", path="/", face="s3")) is None
    assert script.of("a").take("status") is None
    clock.sleep(10)
    assert script.of("a").take("status", request) is None


@pytest.mark.parametrize(
    "rule",
    [
        "reply_lost",
        {},
        {"fault": "nonsense"},
        {"fault": "reply_lost", "job": "x"},
        {"fault": "preempt", "path": "/x"},
        {"fault": "outage", "nth": 1},
        {"fault": "reply_lost", "path": "("},
        {"fault": "reply_lost", "nth": 0},
        {"fault": "reply_lost", "times": True},
        {"fault": "reply_lost", "from": "soon"},
        {"fault": "status", "colour": 3},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: object) -> None:
    with pytest.raises(BadScript):
        parse_rule(rule)


def test_a_script_is_read_from_a_file_and_its_faults_are_told_by_number(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("faults:\n- {fault: status, code: 502}\n- {fault: drip}\n")
    assert [rule.fault for rule in read_script(path, Hands()).rules] == ["status", "drip"]
    path.write_text("faults:\n- {fault: status}\n- {fault: strange}\n")
    with pytest.raises(BadScript, match="rule 2: no fault 'strange'"):
        read_script(path, Hands())
    for text in ("[]", "faults: 3", "faults: []\nmore: 1", "{", "faults: &a [*a]"):
        path.write_text(text)
        with pytest.raises(BadScript):
            read_script(path, Hands())


def test_every_name_is_in_the_reference_and_every_name_that_a_face_asks_for_is_known() -> None:
    here = Path(__file__).parents[2]
    page = (here / "docs/reference/sandbox-faults.md").read_text()
    assert [name for name in NAMES if f"`{name}`" not in page] == []
    asked = {
        name
        for path in (here / "sandbox").rglob("*.py")
        for name in re.findall(r"""\.take\(\s*["']([a-z_0-9]+)["']""", path.read_text())
    }
    assert asked - NAMES.keys() == set()
    unheard = {name for name, about in NAMES.items() if about.by is By.FACE} - asked
    assert unheard == set()


# -- what the facility does ------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Hands:
    return Hands()


Make = Callable[..., VirtualFacility]


@pytest.fixture
def facility(tmp_path: Path, clock: Hands) -> Make:
    def make(*rules: dict[str, object]) -> VirtualFacility:
        made = VirtualFacility(FacilityShape(name="here", requeue_delay=1.0), tmp_path, clock=clock)
        arm(made, script_of(*rules, clock=clock))
        return made

    return make


def job(facility: Facility, native_id: str) -> JobView:
    view = facility.job(native_id)
    assert view is not None
    return view


LONG = Order(name="long", script="#!/bin/sh\nsleep 100\n")


@pytest.mark.parametrize(
    ("fault", "state", "word"),
    [
        ("preempt", JobState.PREEMPTED, "PREEMPTED"),
        ("node_fail", JobState.NODE_FAILED, "NODE_FAIL"),
        ("time_out", JobState.TIMED_OUT, "TIMEOUT"),
        ("deadline", JobState.TIMED_OUT, "DEADLINE"),
        ("out_of_memory", JobState.OUT_OF_MEMORY, "OUT_OF_MEMORY"),
        ("boot_fail", JobState.NODE_FAILED, "BOOT_FAIL"),
    ],
)
def test_an_end_of_the_sites_own_making(facility: Make, clock: Hands, fault: str, state: JobState, word: str) -> None:
    extra = {"requeue": False, "notice": 0} if fault == "preempt" else {}
    site = facility({"fault": fault, "job": "^long$", "after": 5, **extra})
    native_id, other = site.submit(LONG), site.submit(Order(name="other", script=LONG.script))
    clock.sleep(4)
    assert job(site, native_id).state is JobState.RUNNING
    clock.sleep(2)
    assert (job(site, native_id).state, job(site, native_id).word) == (state, word)
    assert job(site, other).state is JobState.RUNNING


def test_a_preemption_with_requeue_keeps_the_id_and_counts_a_restart(facility: Make, clock: Hands) -> None:
    site = facility({"fault": "preempt", "job": "long", "after": 5, "notice": 2})
    native_id = site.submit(LONG)
    clock.sleep(8)
    again = job(site, native_id)
    assert (again.native_id, again.restarts, again.word) == (native_id, 1, "RUNNING")
    clock.sleep(101)
    assert job(site, native_id).state is JobState.SUCCEEDED


def test_a_state_word_that_nobody_knows(facility: Make, clock: Hands) -> None:
    site = facility({"fault": "unknown_word", "word": "HIBERNATED", "after": 1, "seconds": 5})
    native_id = site.submit(LONG)
    clock.sleep(2)
    assert (job(site, native_id).state, job(site, native_id).word) == (JobState.UNKNOWN, "HIBERNATED")
    clock.sleep(5)
    assert job(site, native_id).word == "RUNNING"


def test_a_job_that_waits_for_a_reason_which_time_does_not_cure(facility: Make, clock: Hands) -> None:
    site = facility({"fault": "stuck", "reason": "AccountNotAllowed"})
    native_id = site.submit(LONG)
    clock.sleep(10_000)
    assert (job(site, native_id).word, job(site, native_id).reason) == ("PENDING", "AccountNotAllowed")


def test_a_job_that_is_accepted_and_then_unknown_or_known_only_later(facility: Make, clock: Hands) -> None:
    site = facility({"fault": "forget", "nth": 1}, {"fault": "hide", "seconds": 5, "nth": 2})
    forgotten, hidden = site.submit(LONG), site.submit(LONG)
    assert forgotten != hidden
    assert (site.job(forgotten), site.job(hidden), site.accepted()) == (None, None, {"long": 2})
    clock.sleep(6)
    assert site.job(forgotten) is None
    assert job(site, hidden).state is JobState.RUNNING


def test_a_refusal_in_words_of_the_script_and_a_cancel_that_does_nothing(facility: Make, clock: Hands) -> None:
    site = facility(
        {"fault": "refuse", "kind": "account", "text": "no such account"}, {"fault": "ignore_cancel", "job": "long"}
    )
    with pytest.raises(OrderRefused, match="no such account"):
        site.submit(LONG)
    native_id = site.submit(LONG)
    assert site.cancel(native_id)
    clock.sleep(101)
    assert job(site, native_id).state is JobState.SUCCEEDED


def test_a_planned_outage_is_told_before_and_no_job_begins_that_would_reach_into_it(
    facility: Make, clock: Hands
) -> None:
    site = facility({"fault": "outage", "at": 60, "for": 30, "planned": True, "resource": "perlmutter"})
    told = site.outages()
    assert [(item.resource, item.start, item.end, item.planned) for item in told] == [
        ("perlmutter", START + 60_000_000, START + 90_000_000, True)
    ]
    order = Order(script="#!/bin/sh\nsleep 5\n", walltime=100)
    native_id = site.submit(order)
    assert job(site, native_id).word == "PENDING"
    clock.sleep(61)
    assert not site.up("submit")
    clock.sleep(40)
    assert job(site, native_id).state is JobState.SUCCEEDED


def test_an_unplanned_outage_is_told_when_it_has_begun_and_ends_running_jobs(facility: Make, clock: Hands) -> None:
    site = facility({"fault": "outage", "at": 60, "for": 30, "stops": ["compute"]})
    assert site.outages() == []
    native_id = site.submit(LONG)
    clock.sleep(61)
    assert (len(site.outages()), site.up("compute"), site.up("status")) == (1, False, True)
    assert job(site, native_id).word == "NODE_FAIL"


def test_a_crash_of_the_controller_forgets_what_was_accepted_just_before(facility: Make, clock: Hands) -> None:
    site = facility({"fault": "controller_crash", "at": 10, "for": 5, "memory": 3})
    old = site.submit(LONG)
    clock.sleep(9)
    young = site.submit(LONG)
    clock.sleep(8)
    assert job(site, old).state is JobState.RUNNING
    assert site.job(young) is None
    assert site.submit(LONG) == young


@pytest.mark.parametrize("words", [{"stops": ["everything"]}, {"planned": "yes"}])
def test_a_timed_fault_with_a_word_that_makes_no_sense_is_refused(facility: Make, words: dict[str, object]) -> None:
    with pytest.raises(BadScript):
        facility({"fault": "outage", **words})


def test_the_example_of_the_reference_is_a_script(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/reference/sandbox-faults.md").read_text()
    example = re.search(r"```yaml\n(faults:.*?)```", page, re.DOTALL)
    assert example is not None
    path = tmp_path / "faults.yaml"
    path.write_text(example[1])
    assert len(read_script(path, Hands()).rules) > 3
    assert json.dumps([rule.fault for rule in read_script(path, Hands()).rules])
