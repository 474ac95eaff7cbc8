"""A run's events over HTTP: each once, as they happen, to the run's end; and nobody waits for who does not read."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_kit import TOKEN, Face, open_face

from broker import sse
from broker.api import events, listen, screens
from broker.api.auth import read_token
from broker.api.events import Looks
from broker.api.listen import listening
from broker.client import Client, Unavailable
from broker.clock import wall_clock
from broker.config import Settings
from broker.errors import NotFound
from broker.service import Request, Service, open_service
from broker.serving import serving
from broker.store.base import NewEvent, Sightings, Store, StoreBusy

PATIENCE = 30.0
LONG = 3600.0
"""Seconds: a look by the clock that no test lives to see."""


@pytest.fixture
def face(tmp_path: Path) -> Iterator[Face]:
    with open_face(tmp_path) as made:
        yield made


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    sites = tmp_path / "sites.yaml"
    sites.write_text(f"crossfade: 1\nsites:\n  here: {{profile: local, root: {tmp_path}/root}}\n")
    opened = open_service(Settings(home=tmp_path / "home", sites=sites, user="ann"))
    yield opened
    opened.store.close()


@pytest.fixture
def reads(service: Service) -> Iterator[Callable[..., Reader]]:
    """Makes readers; each has left when the test is over, for its server has."""
    made: list[Reader] = []

    def make(run: str, **options: Any) -> Reader:
        made.append(Reader(service.settings, run, **options))
        return made[-1]

    yield make
    for reader in made:
        reader.thread.join(PATIENCE)
        assert not reader.thread.is_alive()


def happens(store: Store, run: str, kind: str, **data: object) -> None:
    store.record(Sightings(events=[(run, NewEvent(kind=kind, data=json.dumps(data), actor="test"))]), now=wall_clock())


def canceled(face: Face) -> str:
    """A run that is over."""
    run = face.submit()
    with serving(face.service.settings, face.service.sites, face.service.store) as embedded:
        face.post(f"/v1/runs/{run}/commands", {"kind": "cancel", "reason": "enough"})
        embedded.wake(run)
        over = threading.Event()
        for _ in range(600):
            row = face.service.store.run(run)
            if row is not None and row.ended_at is not None:
                return run
            over.wait(0.05)
    raise AssertionError("the run does not end")


def messages(text: str) -> list[sse.Message]:
    return list(sse.read(text.splitlines()))


@dataclass
class Told:
    """News as a test tells them."""

    queue: queue.SimpleQueue[Sequence[str]] = field(default_factory=queue.SimpleQueue)

    def __call__(self) -> Iterator[Sequence[str]]:
        while True:
            try:
                yield self.queue.get(timeout=0.2)
            except queue.Empty:
                yield ()


class Left(Exception):
    """The server went, and so does the reader."""


class Reader:
    """Reads a stream in a thread, so that a test can wait for the next event with patience that ends."""

    def __init__(self, settings: Settings, run: str, *, comes_back_to: str = "") -> None:
        self.seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.all: list[dict[str, Any]] = []
        self._settings, self._run, self._comes_back_to = settings, run, comes_back_to
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        token = read_token(self._settings)
        try:
            with Client(self._comes_back_to or self._settings.socket, token, sleep=self._pause) as client:
                for view in client.events(self._run):
                    self.seen.put(view)
            self.seen.put(None)
        except Exception as error:
            self.seen.put(error)

    def _pause(self, seconds: float) -> None:
        if not self._comes_back_to:
            raise Left
        threading.Event().wait(seconds)

    def next(self) -> Any:
        view = self.seen.get(timeout=PATIENCE)
        if isinstance(view, Exception):
            raise view
        if view is not None:
            self.all.append(view)
        return view

    def rest(self) -> None:
        while self.next() is not None:
            pass
        self.thread.join(PATIENCE)


# -- what a stream says --------------------------------------------------------------------------------------------


def test_a_stream_tells_each_event_of_the_runs_chain_and_ends_with_the_run(face: Face) -> None:
    run = canceled(face)
    answer = face.get(f"/v1/runs/{run}/events")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(sse.MEDIA_TYPE)
    timeline = face.get(f"/v1/runs/{run}/timeline").json()
    *told, end = messages(answer.text)
    assert [json.loads(each.data) for each in told] == timeline
    assert [(each.ident, each.kind) for each in told] == [(str(e["seq"]), e["event"]) for e in timeline]
    assert (end.kind, json.loads(end.data)) == (sse.END, {"run": run, "state": "CANCELED"})


@pytest.mark.parametrize(("query", "header", "first"), [("?after=2", None, 3), ("", "2", 3), ("?after=0", "3", 4)])
def test_who_comes_back_is_told_what_is_new_to_them(face: Face, query: str, header: str | None, first: int) -> None:
    run = canceled(face)
    headers = {"Last-Event-ID": header} if header else {}
    told = messages(face.get(f"/v1/runs/{run}/events{query}", headers=headers).text)
    count = len(face.get(f"/v1/runs/{run}/timeline").json())
    assert [each.ident for each in told[:-1]] == [str(seq) for seq in range(first, count + 1)]


def test_who_knows_all_is_told_of_the_end_alone(face: Face) -> None:
    run = canceled(face)
    assert [m.kind for m in messages(face.get(f"/v1/runs/{run}/events?after=1000000").text)] == [sse.END]


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=99999999999999999999"])
def test_a_number_that_is_none_is_refused(face: Face, query: str) -> None:
    assert face.get(f"/v1/runs/{face.submit()}/events?{query}").status_code == 422


@pytest.mark.parametrize("header", ["-1", "x", "9" * 30])
def test_so_is_one_in_the_header(face: Face, header: str) -> None:
    assert face.get(f"/v1/runs/{face.submit()}/events", headers={"Last-Event-ID": header}).status_code == 422


def test_a_run_that_does_not_exist_has_no_stream_and_without_the_token_none_has(face: Face) -> None:
    assert face.get("/v1/runs/nothing/events").status_code == 404
    assert face.get("/v1/runs/nothing/events", token=None).status_code == 401


def test_what_a_site_said_steers_no_terminal_bare_or_decoded(face: Face) -> None:
    run = canceled(face)
    happens(face.service.store, run, "seen", words="\x1b[31mred\x1b[0m \x9b2J \r\n\r\nevent: forged\u2028é")
    text = face.get(f"/v1/runs/{run}/events").text
    assert not [c for c in text if c != "\n" and not " " <= c <= "~"]
    told = json.loads(messages(text)[-2].data)["data"]["words"]
    assert told == "red 2J \n\nevent: forged\u2028é"
    assert "forged" not in [m.kind for m in messages(text)]


def test_more_events_than_one_look_brings_are_all_told(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAGE", 2)
    run = canceled(face)
    seqs = [m.ident for m in messages(face.get(f"/v1/runs/{run}/events").text)[:-1]]
    assert seqs == [str(n) for n in range(1, len(seqs) + 1)]
    assert len(seqs) == len(face.get(f"/v1/runs/{run}/timeline").json())


def test_a_message_cannot_carry_another() -> None:
    with pytest.raises(ValueError, match="one line"):
        sse.written(sse.Message("a", "x\nevent: b"))


def test_what_was_written_is_read_and_half_of_it_is_nothing() -> None:
    one, two = sse.Message("a", "1", "7"), sse.Message("b", "2")
    text = f"retry: 5\n\n: comment\n\n{sse.written(one)}{sse.written(two)}"
    assert messages(text) == [one, sse.Message("b", "2", "7")]
    assert messages(text[:-1]) == [one]


# -- as they happen ------------------------------------------------------------------------------------------------


def test_news_are_told_at_once_and_not_when_the_clock_says_so(
    service: Service, monkeypatch: pytest.MonkeyPatch, reads: Callable[..., Reader]
) -> None:
    monkeypatch.setattr(screens, "LOOK_EVERY", LONG)
    told = Told()
    with listening(service, service.settings, "unix", news=told):
        run = submitted(service)
        reader = reads(run)
        assert reader.next()["event"] == "submitted"
        for n in range(3):
            happens(service.store, run, "seen", n=n)
            told.queue.put(["another-run", run])
            assert reader.next()["data"] == {"n": n}


@pytest.mark.parametrize("news", [None, Told()], ids=["where nobody tells", "where nothing is told"])
def test_without_a_word_the_clock_brings_them(
    service: Service, monkeypatch: pytest.MonkeyPatch, reads: Callable[..., Reader], news: Told | None
) -> None:
    monkeypatch.setattr(screens, "LOOK_EVERY", 0.05)
    with listening(service, service.settings, "unix", news=news):
        run = submitted(service)
        reader = reads(run)
        assert reader.next()["event"] == "submitted"
        happens(service.store, run, "seen", n=1)
        assert reader.next()["data"] == {"n": 1}


def test_one_thread_hears_the_news_for_all_screens_and_ends_with_the_server(
    service: Service, reads: Callable[..., Reader]
) -> None:
    told = Told()
    with listening(service, service.settings, "unix", news=told):
        run = submitted(service)
        readers = [reads(run) for _ in range(5)]
        assert {reader.next()["event"] for reader in readers} == {"submitted"}
        hearing = [thread for thread in threading.enumerate() if thread.name == "crossfade-news"]
        assert len(hearing) == 1
    hearing[0].join(PATIENCE)
    assert not hearing[0].is_alive()


def test_a_quiet_stream_says_that_it_is_alive(
    service: Service, monkeypatch: pytest.MonkeyPatch, reads: Callable[..., Reader]
) -> None:
    monkeypatch.setattr(events, "QUIET_SECONDS", 0.0)
    with listening(service, service.settings, "127.0.0.1:0") as at:
        run = submitted(service)
        with stream(service, at.places[0], run) as answer:
            lines = answer.iter_lines()
            assert next(line for line in lines if line.startswith(":")) == events.ALIVE.strip()


def submitted(service: Service) -> str:
    return service.submit(
        Request(document=Path(__file__).parents[2] / "examples/hello/workflow.yaml", params={})
    ).run_id


def stream(service: Service, where: str, run: str) -> Any:
    return httpx.stream(
        "GET",
        f"{where}/v1/runs/{run}/events",
        headers={"Authorization": read_token(service.settings).header},
        timeout=PATIENCE,
        trust_env=False,
    )


def test_a_store_that_does_not_answer_for_a_while_ends_no_stream(tmp_path: Path) -> None:
    class Moody:
        """Fails every second time that it is asked for events."""

        def __init__(self, store: Store) -> None:
            self._store, self.asked = store, 0

        def events(self, *args: Any, **named: Any) -> Any:
            self.asked += 1
            if self.asked % 2:
                raise StoreBusy("others are writing")
            return self._store.events(*args, **named)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

    with open_face(tmp_path) as face:
        run = canceled(face)
        whole = messages(face.get(f"/v1/runs/{run}/events").text)
        face.app.state.looks = Looks(Moody(face.service.store))  # type: ignore[arg-type]
        assert messages(face.get(f"/v1/runs/{run}/events").text) == whole


# -- limits --------------------------------------------------------------------------------------------------------


def test_more_streams_than_there_may_be_are_refused_until_one_ends(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(screens.Screens.__init__.__kwdefaults__, "most", 2)
    with listening(service, service.settings, "127.0.0.1:0") as at:
        run, where = submitted(service), at.places[0]
        with stream(service, where, run) as one, stream(service, where, run) as two:
            assert (one.status_code, two.status_code) == (200, 200)
            with stream(service, where, run) as three:
                three.read()
            assert three.status_code == 503
            assert three.json()["type"] == "urn:crossfade:problem:streams"
            assert three.headers["retry-after"] == "2"
            with Client.of_home(service.settings, where=where) as client:
                assert client.status(run)["state"] == "PENDING"  # all else is answered
        with Client.of_home(service.settings, where=where) as client:  # comes back until the server has noticed
            assert next(client.events(run))["event"] == "submitted"


def test_who_does_not_read_holds_up_nobody_and_is_hung_up_on(
    service: Service, monkeypatch: pytest.MonkeyPatch, reads: Callable[..., Reader]
) -> None:
    monkeypatch.setattr(listen, "STALLED_SECONDS", 2.0)  # the reader takes its turn within that, on a busy machine too
    gone = threading.Event()
    monkeypatch.setattr(
        listen._Protocol, "connection_lost", _then(listen._Protocol.connection_lost, lambda it: it._stalled, gone)
    )
    with listening(service, service.settings, ["unix", "127.0.0.1:0"]) as at:
        run = submitted(service)
        for n in range(40):  # more than all buffers between us hold
            happens(service.store, run, "seen", n=n, words="w" * 400_000)
        host, port = at.places[1].removeprefix("http://").split(":")
        with closing(socket.create_connection((host, int(port)), timeout=PATIENCE)) as lazy:
            token = read_token(service.settings).header
            head = f"GET /v1/runs/{run}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n"
            lazy.sendall(head.encode())
            reader = reads(run)
            assert [reader.next()["event"] for _ in range(41)] == ["submitted", *["seen"] * 40]
            assert gone.wait(PATIENCE)


def _then(method: Callable[..., None], stalled: Callable[[Any], object], gone: threading.Event) -> Callable[..., None]:
    """The method, and a sign when it was for one who took nothing."""

    def both(self: Any, *given: Any) -> None:
        waited = stalled(self)
        method(self, *given)
        if waited is not None:
            gone.set()

    return both


def test_a_server_that_stops_does_not_wait_for_its_streams(
    service: Service, monkeypatch: pytest.MonkeyPatch, reads: Callable[..., Reader]
) -> None:
    monkeypatch.setattr(screens, "LOOK_EVERY_ALONE", LONG)
    monkeypatch.setattr(listen, "END_SECONDS", 600)
    with listening(service, service.settings, "unix"):
        reads(submitted(service)).next()
    assert not [thread for thread in threading.enumerate() if thread.name == "crossfade-http"]


# -- the client ----------------------------------------------------------------------------------------------------


def test_a_client_goes_on_where_it_was_when_another_server_takes_over(
    service: Service, reads: Callable[..., Reader]
) -> None:
    run = submitted(service)
    with listening(service, service.settings, "127.0.0.1:0") as at:
        reader = reads(run, comes_back_to=at.places[0])
        reader.next()
    happens(service.store, run, "seen", n=1)
    with (
        serving(service.settings, service.sites, service.store) as embedded,
        listening(service, service.settings, at.places[0].removeprefix("http://"), embedded.wake),
        Client.of_home(service.settings, where=at.places[0]) as client,
    ):
        client.cancel(run)
        reader.rest()
    assert reader.all == service.timeline(run)[: len(reader.all)]  # an end may have an aftermath
    assert "run_canceled" in [event["event"] for event in reader.all]


class Script:
    """A server that answers by the book."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.asked, self.time = list(answers), [], 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.headers["last-event-id"])
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def client(self) -> Client:
        transport = httpx.MockTransport(self)
        return Client("http://localhost:1", TOKEN, transport=transport, sleep=self.sleep, clock=lambda: self.time)


def said(*seqs: int, end: bool = False) -> httpx.Response:
    text = "".join(sse.written(sse.Message("seen", json.dumps({"seq": n}), str(n))) for n in seqs)
    return httpx.Response(200, text=text + (sse.written(sse.Message(sse.END, "{}")) if end else ""))


def test_a_broken_stream_is_taken_up_behind_the_last_event_and_none_is_told_twice() -> None:
    script = Script(said(1, 2), httpx.ReadError("broken"), said(2, 3), said(end=True))
    assert [view["seq"] for view in script.client().events("r")] == [1, 2, 3]
    assert script.asked == ["0", "2", "2", "3"]


def test_a_client_gives_up_when_no_server_comes_back_for_a_minute() -> None:
    script = Script(said(1), httpx.ConnectError("refused"))
    told = script.client().events("r")
    assert next(told)["seq"] == 1
    with pytest.raises(Unavailable, match="no server tells of run r"):
        next(told)
    assert 60 < script.time < 62


def test_a_run_that_is_not_there_is_told_at_once() -> None:
    body = {"type": "urn:crossfade:problem:not-found", "title": "Not found", "status": 404}
    with pytest.raises(NotFound):
        next(Script(httpx.Response(404, json=body)).client().events("r"))
