"""Looks at a cluster by watches: what one costs, what it believes, and what it does when a watch cannot be trusted."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloud_kit import VirtualCloud

from connectors.contract import new_key
from connectors.errors import CredentialError, SiteError, SiteUnreachable
from connectors.kubernetes import KubernetesSite, questions, watch
from connectors.kubernetes.manifest import MANAGED, OWNER
from connectors.kubernetes.questions import Listed
from connectors.kubernetes.watch import ANEW, LOOK, STANDSTILL, Kept
from connectors.model import JobState, JobStatus, Listing

Answer = Callable[[httpx.Request, bytes], httpx.Response | bytes]


class Line(httpx.BaseTransport):
    """The way to the cluster: notes what is asked, counts bytes, and may answer watches in its own way."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self.inner = inner
        self.asked: list[tuple[str, httpx.URL]] = []
        self.bytes = 0
        self.watches: Answer | None = None
        """Makes the answer to a watch from the true one."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        verb = "watch" if "watch" in request.url.params else "list" if request.method == "GET" else request.method
        self.asked.append((f"{verb} {request.url.path.rsplit('/', 1)[1]}", request.url))
        answer = self.inner.handle_request(request)
        content = answer.read()
        self.bytes += len(content)
        if verb == "watch" and self.watches is not None:
            made = self.watches(request, content)
            return made if isinstance(made, httpx.Response) else httpx.Response(200, content=made)
        return httpx.Response(answer.status_code, headers={"content-type": "application/json"}, content=content)

    def heard(self) -> list[str]:
        """What was asked since the last time."""
        found = [words for words, _ in self.asked]
        self.asked.clear()
        return found


BOTH = ["watch jobs", "watch pods"]
LISTS = ["list jobs", "list pods"]


class Ground:
    def __init__(self, folder: Path, *rules: Any) -> None:
        self.cloud = VirtualCloud(folder, *rules)
        self.line = Line(self.cloud.api.inner)
        self.cloud.api.inner = self.line
        self.site = self.cloud.connect()

    def submitted(self, count: int = 1, *, seconds: float = 600.0, exit_code: int = 0) -> list[str]:
        keys = [new_key() for _ in range(count)]
        self.site.submit([self.cloud.job(key, seconds=seconds, exit_code=exit_code) for key in keys])
        return keys

    def known(self, count: int = 1, *, seconds: float = 600.0, exit_code: int = 0) -> list[str]:
        """Jobs that were looked at once."""
        keys = self.submitted(count, seconds=seconds, exit_code=exit_code)
        self.site.status(keys)
        self.line.heard()
        return keys

    def delete(self, key: str) -> None:
        """By hand, with kubectl."""
        cluster = self.cloud.face.cluster
        cluster.remove(cluster.jobs["default", key])

    def state(self, key: str) -> JobState:
        (item,) = self.site.status([key]).items
        return item.state


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


# -- what a look costs ---------------------------------------------------------------------------------------


def test_after_the_first_look_nothing_is_listed_any_more(ground: Ground) -> None:
    keys = ground.submitted(3, seconds=20)
    ground.line.heard()
    ground.site.status(keys)
    assert ground.line.heard() == LISTS
    for _ in range(5):
        ground.cloud.clock.advance(1)
        assert len(ground.site.status(keys).items) == 3
        assert ground.line.heard() == BOTH
    ground.cloud.clock.advance(30)
    assert {item.state for item in ground.site.status(keys).items} == {JobState.SUCCEEDED}
    assert ground.line.heard() == BOTH[:1], "of jobs that ended well, pods have nothing to add"


def test_a_watch_goes_on_from_the_last_version_with_bookmarks_and_an_end(ground: Ground) -> None:
    (key,) = ground.known(seconds=5)
    versions = []
    for _ in range(4):
        ground.site.status([key])
        (_, url), *_ = ground.line.asked
        asked = dict(url.params)
        versions.append(int(asked["resourceVersion"]))
        assert asked["allowWatchBookmarks"] == "true"
        assert 0 < int(asked["timeoutSeconds"]) <= 5
        assert asked["labelSelector"] == f"{MANAGED}=crossfade,{OWNER}=here"
        ground.line.heard()
        ground.cloud.clock.advance(4)
    assert versions == sorted(versions)
    assert versions[0] < versions[-1]


def test_a_job_that_is_new_is_asked_for_by_its_name_once(ground: Ground) -> None:
    old = ground.known(2)
    (new,) = ground.submitted()
    ground.line.heard()
    assert {item.key for item in ground.site.status([*old, new]).items} == {*old, new}
    assert sorted(ground.line.heard()) == sorted(BOTH + LISTS)
    ground.site.status([*old, new])
    assert ground.line.heard() == BOTH


def test_a_thousand_jobs_cost_two_small_watches_instead_of_two_long_lists(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as still:
        still.setattr(ground.cloud.face.cluster, "follow", lambda: None)  # which it does at every creation
        keys = ground.submitted(1000, seconds=100)
    ground.line.heard()
    assert len(ground.site.status(keys).items) == 1000
    assert ground.line.heard() == LISTS
    ground.site.status(keys)  # the first 20 begin
    ground.line.heard()
    listed, ground.line.bytes = ground.line.bytes, 0
    ground.cloud.clock.advance(10)
    assert len(ground.site.status(keys).items) == 1000
    assert ground.line.heard() == BOTH
    quiet, ground.line.bytes = ground.line.bytes, 0
    ground.cloud.clock.advance(200)  # the first 20 have ended, and 20 more begun
    found = ground.site.status(keys).items
    assert ground.line.heard() == BOTH
    ended = sum(item.state is JobState.SUCCEEDED for item in found)
    assert ended >= 20
    assert quiet * 1000 < listed
    assert ground.line.bytes * 10 < listed


# -- what is believed ----------------------------------------------------------------------------------------


def test_who_asks_in_doubt_is_answered_by_a_list(ground: Ground) -> None:
    (key,) = ground.known()
    ground.line.watches = lambda *_: b""
    ground.delete(key)
    assert not ground.site.find([key]).items
    assert ground.line.heard() == ["list jobs"]
    assert not ground.site.list_mine(0).items
    assert ground.line.heard() == ["list jobs"]


def test_a_job_deleted_by_hand_is_absent_after_it_was_asked_for_by_name(ground: Ground) -> None:
    first, second = ground.known(2)
    ground.delete(first)
    listing = ground.site.status([first, second])
    assert listing.complete
    assert [item.key for item in listing.items] == [second]
    assert ground.line.asked[1][0] == "list jobs"
    assert f"in ({first})" in ground.line.asked[1][1].params["labelSelector"]


def test_a_deletion_that_only_the_watch_tells_is_not_taken_for_a_loss(ground: Ground) -> None:
    (key,) = ground.known()
    job = ground.cloud.face.cluster.jobs["default", key].told
    version = str(ground.cloud.face.cluster.version + 1)
    gone = {"type": "DELETED", "object": {**job, "metadata": {**job["metadata"], "resourceVersion": version}}}
    ground.line.watches = lambda request, true: (
        (json.dumps(gone).encode() + b"\n") if "jobs" in str(request.url) else true
    )
    assert ground.state(key) is JobState.RUNNING


def test_a_pod_that_vanishes_is_not_remembered(tmp_path: Path) -> None:
    ground = Ground(tmp_path, {"fault": "image_pull", "job": "."})
    (key,) = ground.known()
    (item,) = ground.site.status([key]).items
    assert item.stuck_reason.startswith("ImagePullBackOff")
    cluster = ground.cloud.face.cluster
    job = cluster.jobs["default", key]
    cluster._event("DELETED", "Pod", job.pods.pop().told)
    ground.line.heard()
    (item,) = ground.site.status([key]).items
    assert item.stuck_reason == ""
    assert ground.line.heard() == BOTH


def test_a_missed_event_is_not_missed_for_ever(ground: Ground) -> None:
    (key,) = ground.known(seconds=5)
    ground.line.watches = lambda *_: b""  # alive, and keeps everything to itself
    begun = ground.cloud.clock()
    while ground.state(key) is not JobState.SUCCEEDED:
        ground.cloud.clock.advance(10)
        assert ground.cloud.clock() - begun <= (ANEW + 10) * 1e6


def test_an_answer_says_when_the_cluster_was_asked(ground: Ground) -> None:
    (key,) = ground.known()

    def slow(_: httpx.Request, true: bytes) -> bytes:
        ground.cloud.clock.advance(3)
        return true

    ground.line.watches = slow
    before = ground.cloud.clock()
    assert ground.site.status([key]).as_of == before


# -- a watch that cannot go on -------------------------------------------------------------------------------


def test_a_forgotten_version_is_mended_by_a_list_in_the_same_look(tmp_path: Path) -> None:
    ground = Ground(tmp_path, {"fault": "watch_gone", "face": "kubernetes", "times": 1})
    (key,) = ground.known(seconds=5)
    ground.cloud.clock.advance(10)
    assert ground.state(key) is JobState.SUCCEEDED
    assert ground.line.heard()[:2] == ["watch jobs", "list jobs"]
    ground.state(key)
    assert ground.line.heard() == ["watch jobs"], "the watch goes on from the list"
    assert ground.site.watch.trouble == ""


def error(code: int) -> bytes:
    return json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": code, "message": "over"}}).encode() + b"\n"


def end_with(code: int) -> Answer:
    return lambda _, true: true + error(code)


def half(_: httpx.Request, true: bytes) -> bytes:
    return true[: len(true) // 2] or b'{"type": "ADD'


def backwards(_: httpx.Request, true: bytes) -> bytes:
    return b"".join(reversed(true.splitlines(keepends=True)))


def ancient(_: httpx.Request, __: bytes) -> bytes:
    return b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"3"}}}\n'


def http_gone(_: httpx.Request, __: bytes) -> httpx.Response:
    return httpx.Response(410, json={"kind": "Status", "reason": "Expired", "code": 410})


@pytest.mark.parametrize("odd", [end_with(410), end_with(500), half, backwards, ancient, http_gone])
def test_whatever_ends_a_watch_the_look_is_right_and_the_next_one_watches_again(ground: Ground, odd: Answer) -> None:
    good, bad = *ground.known(seconds=5), *ground.known(seconds=5, exit_code=4)
    ground.site.status([good, bad])
    ground.cloud.clock.advance(10)
    ground.line.watches = odd
    found = {item.key: (item.state, item.exit_code) for item in ground.site.status([good, bad]).items}
    assert found == {good: (JobState.SUCCEEDED, 0), bad: (JobState.FAILED, 4)}
    ground.line.watches = None
    ground.line.heard()
    ground.site.status([good, bad])
    assert ground.line.heard() == BOTH


def test_what_is_told_twice_is_taken_once(ground: Ground) -> None:
    (key,) = ground.known(seconds=5)
    ground.line.watches = lambda _, true: b"".join(line * 2 for line in true.splitlines(keepends=True))
    ground.cloud.clock.advance(10)
    assert ground.state(key) is JobState.SUCCEEDED
    assert ground.line.heard() == ["watch jobs"]


class Cut(httpx.SyncByteStream):
    def __init__(self, content: bytes) -> None:
        self.content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self.content
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


@pytest.mark.parametrize("count", [0, 1, 100, 2500])
def test_a_stream_cut_after_some_bytes_costs_a_list_and_nothing_else(ground: Ground, count: int) -> None:
    (key,) = ground.known(seconds=5)
    ground.cloud.clock.advance(10)
    ground.line.watches = lambda _, true: httpx.Response(200, stream=Cut(true[:count]))
    assert ground.state(key) is JobState.SUCCEEDED
    assert ground.line.heard()[-1] == "list jobs"
    assert ground.state(key) is JobState.SUCCEEDED


def test_a_cluster_that_was_put_back_to_an_older_day_is_listed_anew(ground: Ground) -> None:
    (key,) = ground.known(seconds=600)
    cluster = ground.cloud.face.cluster
    cluster.version = 7
    cluster.events.clear()
    ground.delete(key)
    listing = ground.site.status([key])
    assert listing.complete
    assert not listing.items
    (again,) = ground.submitted()
    assert [item.key for item in ground.site.status([key, again]).items] == [again]


def test_an_older_version_in_a_list_by_name_makes_all_doubtful(ground: Ground) -> None:
    (first,) = ground.known()
    (second,) = ground.submitted()
    ground.line.watches = lambda *_: b""  # a real one says nothing until it is back at that version
    ground.cloud.face.cluster.version = 7
    ground.line.heard()
    assert {item.key for item in ground.site.status([first, second]).items} == {first, second}
    assert ground.line.heard().count("list jobs") == 2, "the new one by name, then all"


def test_a_quiet_cluster_is_asked_for_a_bookmark_before_it_forgets(ground: Ground) -> None:
    (key,) = ground.known()
    seconds, versions = [], []
    for _ in range(8):
        ground.cloud.clock.advance(STANDSTILL / 3)
        ground.cloud.face.cluster.version += 10  # others are busy
        ground.site.status([key])
        asked = next(url.params for words, url in ground.line.asked if words == "watch jobs")
        seconds.append(int(asked["timeoutSeconds"]))
        versions.append(int(asked["resourceVersion"]))
        ground.line.heard()
    assert 2 <= seconds.count(watch.LONG) <= 3
    assert seconds.count(watch.SHORT) == 8 - seconds.count(watch.LONG)
    assert len(set(versions)) == 1 + seconds[:-1].count(watch.LONG), "each bookmark moved it on"


# -- hostile and broken clusters -----------------------------------------------------------------------------


def lines(*texts: str) -> Answer:
    return lambda *_: "".join(f"{text}\n" for text in texts).encode()


class Drip(httpx.SyncByteStream):
    """One byte, and another one, for ever; each takes a second of `clock`."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.clock[0] += 1.0
            yield b" "


NONSENSE: dict[str, Answer] = {
    "html": lambda *_: b"<!DOCTYPE html>\n<html><body>Please sign in</body></html>\n",
    "one line of html": lambda *_: b"<html>Please sign in</html>",
    "huge line": lambda *_: b'{"type":"ADDED","object":{"x":"' + b"x" * 5000 + b'"}}\n',
    "list": lines("[]"),
    "number": lines("3"),
    "no type": lines('{"object":{}}'),
    "unknown type": lines('{"type":"RENAMED","object":{"metadata":{"uid":"u","resourceVersion":"99999"}}}'),
    "object of another type": lines('{"type":"ADDED","object":[1]}'),
    "no version": lines('{"type":"ADDED","object":{"metadata":{"uid":"u"}}}'),
    "odd version": lines('{"type":"ADDED","object":{"metadata":{"uid":"u","resourceVersion":7}}}'),
    "no uid": lines('{"type":"ADDED","object":{"metadata":{"resourceVersion":"99999"}}}'),
    "deep": lines("[" * 10_000),
    "redirect": lambda *_: httpx.Response(302, headers={"location": "https://elsewhere.example.org/"}),
    "not found": lambda *_: httpx.Response(404, json={"kind": "Status"}),
    "bad request": lambda *_: httpx.Response(400, json={"kind": "Status", "message": "invalid resource version"}),
    "forbidden": lambda *_: httpx.Response(403, json={"kind": "Status", "message": "cannot watch jobs"}),
    "server error": lambda *_: httpx.Response(500, text="oops"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_a_watch_that_tells_nonsense_is_left_alone_for_a_while_and_lists_go_on(
    ground: Ground, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "STREAM", 4000)
    (key,) = ground.known(seconds=5)
    ground.line.watches = NONSENSE[name]
    ground.cloud.clock.advance(10)
    assert ground.state(key) is JobState.SUCCEEDED
    ground.line.heard()
    ground.state(key)
    assert ground.line.heard() == ["list jobs"]
    (evidence,) = [one for one in ground.site.probe() if one.capability == "status"]
    assert evidence.ok
    assert evidence.detail.startswith("looks are whole lists: cloud: ")
    ground.line.watches = None
    for _ in range(2):
        ground.cloud.clock.advance(ANEW)
        ground.state(key)
    ground.line.heard()
    ground.state(key)
    assert ground.line.heard() == ["watch jobs"], "it is tried again later"
    assert ground.site.watch.trouble == ""


def test_a_stream_that_drips_for_ever_ends_at_its_deadline(ground: Ground) -> None:
    (key,) = ground.known(seconds=5)
    clock = [0.0]
    ground.site.http.elapsed = lambda: clock[0]
    ground.line.watches = lambda *_: httpx.Response(200, stream=Drip(clock))
    ground.cloud.clock.advance(10)
    assert ground.state(key) is JobState.SUCCEEDED
    assert clock[0] <= questions.ANSWER + watch.SHORT + 1
    assert "did not end in time" in ground.site.watch.trouble


def test_an_endless_crowd_of_objects_is_not_kept(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MOST", 50)
    (key,) = ground.known()
    job = ground.cloud.face.cluster.jobs["default", key].told

    def crowd(*_: object) -> bytes:
        made = []
        for number in range(99):
            meta = {**job["metadata"], "uid": f"u{number}", "resourceVersion": str(10**6 + number)}
            made.append(json.dumps({"type": "ADDED", "object": {**job, "metadata": meta}}).encode() + b"\n")
        return b"".join(made)

    ground.line.watches = crowd
    assert len(ground.site.status([key]).items) == 1
    assert "more than 50 objects" in ground.site.watch.trouble


def test_a_cluster_whose_versions_are_no_numbers_is_listed_each_time() -> None:
    kept = Kept(path="/jobs", site="cloud")
    kept.begin(Listed(items=[], version=questions._number("a-7f")), [], 0)
    assert kept.version is None


def test_other_installations_and_unasked_jobs_are_not_kept(ground: Ground) -> None:
    (key,) = ground.known()
    others = ground.submitted(5)
    ground.site.status([key])
    assert set(ground.site.watch._present()) == {key}
    assert not set(others) & {questions.key_of(pod) for pod in ground.site.watch._pods.held.values()}


def test_the_check_says_where_the_watch_is_not_allowed(ground: Ground) -> None:
    (status,) = [one for one in ground.site.check() if one.step == "status"]
    assert status.detail.endswith("; watched")
    ground.line.watches = NONSENSE["forbidden"]
    (status,) = [one for one in ground.site.check() if one.step == "status"]
    assert status.ok
    assert "no watch, looks are lists" in status.detail
    assert "allow watch on jobs and pods" in status.detail


# -- the dark ------------------------------------------------------------------------------------------------


def test_a_dark_cluster_is_dark_at_once_however_much_is_known(ground: Ground) -> None:
    keys = ground.known(3)
    ground.cloud.darken()
    for _ in range(3):
        with pytest.raises(SiteUnreachable):
            ground.site.status(keys)
    ground.cloud.brighten()
    assert len(ground.site.status(keys).items) == 3


def test_a_cluster_that_cannot_be_reached_is_not_tried_by_lists_as_well(ground: Ground) -> None:
    keys, tried = ground.known(3), []

    class Away(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            tried.append("watch" in request.url.params)
            raise httpx.ConnectError("refused", request=request)

    ground.cloud.api.inner = Away()
    with pytest.raises(SiteUnreachable):
        ground.site.status(keys)
    assert tried
    assert all(tried)


def test_a_frozen_cluster_is_told_as_silent_within_a_bounded_time(ground: Ground) -> None:
    keys = ground.known(3)
    clock = [0.0]
    ground.site.http.elapsed = lambda: clock[0]

    class Frozen(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            clock[0] += request.extensions["timeout"]["read"]
            raise httpx.ReadTimeout("timed out", request=request)

    thawed, ground.cloud.api.inner = ground.cloud.api.inner, Frozen()
    with pytest.raises(SiteUnreachable):
        ground.site.status(keys)
    assert clock[0] <= LOOK
    ground.cloud.api.inner = thawed
    assert len(ground.site.status(keys).items) == 3
    assert ground.site.watch.trouble == "", "who was dark is not distrusted"


def test_a_refused_token_is_a_credentials_fault_though_all_is_known(tmp_path: Path) -> None:
    ground = Ground(tmp_path, {"fault": "unauthorized", "face": "kubernetes", "nth": 5, "times": 0})
    keys = ground.known()
    with pytest.raises(CredentialError):
        ground.site.status(keys)


# -- several at once -----------------------------------------------------------------------------------------


def _look(site: KubernetesSite, keys: Sequence[str], found: list[object]) -> threading.Thread:
    def run() -> None:
        try:
            found.append(site.status(keys))
        except SiteError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("other", [False, True], ids=["of the same jobs", "one of another job"])
def test_looks_that_come_while_one_is_under_way_share_it(ground: Ground, other: bool) -> None:
    keys, new = ground.known(3), ground.submitted()
    ground.line.heard()
    reached, released = threading.Event(), threading.Event()

    def held(_: httpx.Request, true: bytes) -> bytes:
        reached.set()
        assert released.wait(10)
        return true

    ground.line.watches = held
    found: list[object] = []
    threads = [_look(ground.site, keys, found)]
    assert reached.wait(10)
    waiting = ground.site.watch
    arrived = threading.Barrier(4)
    inner = waiting._lock

    class Counted:
        def acquire(self, timeout: float) -> bool:
            arrived.wait(10)
            return inner.acquire(timeout=timeout)

        def release(self) -> None:
            inner.release()

    waiting._lock = Counted()  # type: ignore[assignment]
    threads += [_look(ground.site, asked, found) for asked in (keys[:1], keys[1:], new if other else keys)]
    arrived.wait(10)
    released.set()
    for thread in threads:
        thread.join(10)
    assert len(found) == 4
    sizes = sorted(len(one.items) for one in found if isinstance(one, Listing))
    assert sizes == ([1, 1, 2, 3] if other else [1, 2, 3, 3])
    assert sorted(ground.line.heard()) == sorted(BOTH * 2 + LISTS if other else BOTH)


def test_a_look_that_waits_for_a_stuck_one_ends_as_silence(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ground.known()
    monkeypatch.setattr(watch, "LOOK", 0.01)
    with ground.site.watch._lock, pytest.raises(SiteUnreachable, match="another look"):
        ground.site.status(keys)


def test_a_site_that_was_closed_asks_nobody_any_more(ground: Ground) -> None:
    keys = ground.known()
    before = threading.active_count()
    ground.site.close()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="closed"):
        ground.site.status(keys)
    assert not ground.line.heard()


# -- all together --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_to_jobs_and_streams_a_look_says_what_a_list_would(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    ground = Ground(tmp_path)
    fresh = ground.cloud.connect()
    keys = ground.known(3, seconds=30)

    def spoil(request: httpx.Request, true: bytes) -> httpx.Response | bytes:
        told = true.splitlines(keepends=True)
        match dice.randrange(9):
            case 0:
                return b"".join(line * 2 for line in told)
            case 1:
                return backwards(request, true)
            case 2:
                return true + error(410)
            case 3:
                return httpx.Response(200, stream=Cut(true[: dice.randrange(len(true) + 1)]))
            case 4:
                return true[: dice.randrange(len(true) + 1)]
            case 5:
                return http_gone(request, true)
            case 6:
                return b"".join(told[: dice.randrange(len(told) + 1)])  # the rest comes with the next watch
            case _:
                return true

    ground.line.watches = spoil
    for _ in range(30):
        match dice.randrange(6):
            case 0:
                seconds, code = dice.choice([1, 20, 300]), dice.choice([0, 0, 3])
                keys += ground.submitted(1, seconds=seconds, exit_code=code)
            case 1:
                ground.site.cancel([dice.choice(keys)])
            case 2 if dice.random() < 0.5:
                living = [key for key in keys if ("default", key) in ground.cloud.face.cluster.jobs]
                if living:
                    ground.delete(dice.choice(living))
            case _:
                ground.cloud.clock.advance(dice.choice([0.5, 5, 40]))
        asked = keys if dice.random() < 0.8 else dice.sample(keys, k=min(3, len(keys)))
        ground.site.status(asked)
        ground.line.watches = None
        assert _told(ground.site.status(keys).items) == _told(fresh.find(keys).items)
        ground.line.watches = spoil


def _told(items: Sequence[JobStatus]) -> list[JobStatus]:
    return sorted(items, key=lambda item: item.key)
