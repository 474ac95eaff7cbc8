"""How a Globus task is judged, whether everything has arrived, and what is kept: pure parts of the mover."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.globus.causes import Cause, cause_of
from connectors.globus.judging import History, Judgement, Verdict, judge
from connectors.globus.note import Note, Phase, Unreadable, note_from
from connectors.globus.plan import has_mark, incoming_folder, is_incoming, label_mark, label_of, make_plan
from connectors.globus.task import Options, Task, request_of, task_from
from connectors.globus.verifying import Arrived, arrived_from, check
from connectors.globus_api.ends import End, NoEnd, end_of
from connectors.globus_api.pace import Pace
from connectors.model import Transfer, TransferItem
from connectors.registry import PlaceConfig, SiteConfig

SECOND = 1_000_000
PATIENCE = 300.0
RAW = {"task_id": "t", "status": "ACTIVE", "nice_status": "OK", "files": 2, "faults": 0}


def _task(**more: object) -> Task:
    return task_from(RAW | more)


def _judge(*looks: tuple[float, Task]) -> Judgement:
    """The last of these looks, at so many seconds each."""
    history: History | None = None
    for at, task in looks:
        judged = judge(task, history, round(at * SECOND), patience=PATIENCE)
        history = judged.history
    return judged


def test_a_task_that_gets_on_is_never_stalled() -> None:
    looks = [(n * 290.0, _task(bytes_transferred=n, nice_status="CONNECT_FAILED", faults=n * 9)) for n in range(50)]
    assert _judge(*looks).verdict is Verdict.GOING


@pytest.mark.parametrize(
    "figure",
    ["files", "directories", "files_transferred", "files_skipped", "bytes_checksummed", "subtasks_succeeded"],
)
def test_every_figure_counts_as_progress(figure: str) -> None:
    assert _judge((0, _task()), (299, _task(**{figure: 9})), (598, _task(**{figure: 9}))).verdict is Verdict.GOING


def test_silence_is_judged_at_the_end_of_the_patience_and_not_before() -> None:
    assert _judge((0, _task()), (299.9, _task())).verdict is Verdict.GOING
    assert _judge((0, _task()), (300, _task())).verdict is Verdict.STALLED


def test_faults_that_pile_up_shorten_the_patience() -> None:
    bad = _task(nice_status="CONNECT_FAILED", faults=3)
    assert _judge((0, _task()), (60, bad)).verdict is Verdict.GOING
    assert _judge((0, _task()), (80, bad)).verdict is Verdict.STALLED
    assert _judge((0, _task()), (80, replace(bad, faults=2))).verdict is Verdict.GOING


def test_faults_from_before_the_last_progress_do_not_count() -> None:
    before = _task(nice_status="CONNECT_FAILED", faults=90)
    assert _judge((0, before), (80, before)).verdict is Verdict.GOING


def test_a_queued_task_waits_as_long_as_it_takes() -> None:
    assert _judge(*((n * 1000.0, _task(nice_status="Queued")) for n in range(20))).verdict is Verdict.GOING
    looks = [(0, _task(nice_status="Queued")), (9000, _task(nice_status="Queued")), (9299, _task())]
    assert _judge(*looks).verdict is Verdict.GOING


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "A_NEW_WORD"])
def test_what_is_over_is_not_judged_by_its_progress(status: str) -> None:
    wanted = Verdict.ARRIVED if status == "SUCCEEDED" else Verdict.ENDED
    assert _judge((0, _task(status=status)), (9999, _task(status=status))).verdict is wanted


@pytest.mark.parametrize(
    "more", [{"is_paused": True}, {"status": "INACTIVE"}, {"nice_status": "NO_CREDENTIALS"}, {"nice_status": "AUTH"}]
)
def test_what_a_person_must_mend_is_held_however_long(more: dict[str, object]) -> None:
    judged = _judge((0, _task(**more)), (1e6, _task(**more)))
    assert judged.verdict is Verdict.HELD
    assert judged.reason


@pytest.mark.parametrize("code", ["FILE_NOT_FOUND", "QUOTA_EXCEEDED", "PERMISSION_DENIED", "VERIFY_CHECKSUM"])
def test_what_will_not_become_better_is_given_up_sooner(code: str) -> None:
    bad = _task(nice_status=code, faults=1)
    assert _judge((0, bad), (74, bad)).verdict is Verdict.GOING
    assert _judge((0, bad), (75, bad)).verdict is Verdict.HOPELESS


def test_a_word_that_nobody_knows_is_no_reason_for_haste() -> None:
    odd = _task(nice_status="A_NEW_WORD", faults=99)
    assert cause_of("A_NEW_WORD") is Cause.UNKNOWN
    assert _judge((0, _task()), (299, odd)).verdict is Verdict.GOING


_TASKS = st.builds(
    _task,
    status=st.sampled_from(["ACTIVE", "INACTIVE", "SUCCEEDED", "FAILED", "?"]),
    nice_status=st.sampled_from(["OK", "Queued", "CONNECT_FAILED", "FILE_NOT_FOUND", "AUTH", "NEW", None]),
    is_paused=st.booleans(),
    bytes_transferred=st.integers(0, 3),
    faults=st.integers(0, 9),
)


@given(st.lists(st.tuples(st.floats(0, 500), _TASKS), min_size=1, max_size=12))
def test_whatever_comes_nothing_is_given_up_within_a_quarter_of_the_patience(looks: list[tuple[float, Task]]) -> None:
    history, now = None, 0.0
    for pause, task in looks:
        now += pause
        judged = judge(task, history, round(now * SECOND), patience=PATIENCE)
        quiet = now - judged.history.moved_at / SECOND
        if judged.verdict in {Verdict.STALLED, Verdict.HOPELESS}:
            assert quiet >= PATIENCE / 4 - 1e-3
        history = judged.history


# -- a task's document --------------------------------------------------------------------------------------


def test_a_task_of_odd_shapes_is_read_without_harm() -> None:
    odd = {"files": -3, "faults": True, "fatal_error": ["x"], "nice_status": 5, "label": None, "bytes_transferred": "9"}
    found = _task(**odd)
    assert (found.files, found.faults, found.fatal_code, found.nice_status, found.bytes_transferred) == (
        0,
        0,
        "",
        "",
        0,
    )


def test_foreign_words_become_one_bounded_line() -> None:
    found = _task(fatal_error={"code": "X\nY", "description": "a\x1b[2J\nb" + "c" * 9999})
    assert found.fatal_code == "X Y"
    assert found.fatal_words.isprintable()
    assert len(found.fatal_words) <= 300


# -- the request --------------------------------------------------------------------------------------------

CONFIGS = {
    name: SiteConfig(name=name, connector="x", root=f"/fs/{name}", collection=f"{n:08d}-0000-0000-0000-000000000000")
    for n, name in enumerate("ab")
}


def _plan(*items: TransferItem, **more: object) -> object:
    values = {"key": "k", "source_site": "a", "destination_site": "b", "items": items} | more
    return make_plan(Transfer(**values), attempt=1, configs=CONFIGS, places={})  # type: ignore[arg-type]


def test_every_option_of_a_transfer_is_said() -> None:
    plan = _plan(
        TransferItem(source="x", destination="y", sha256="a" * 64), TransferItem(source="d/", destination="e/")
    )
    data = request_of(plan, Options(), submission_id="s", now=0)  # type: ignore[arg-type]
    assert {k: v for k, v in data.items() if k not in {"DATA", "source_local_user", "destination_local_user"}} == {
        "DATA_TYPE": "transfer",
        "source_endpoint": CONFIGS["a"].collection,
        "destination_endpoint": CONFIGS["b"].collection,
        "label": "crossfade k.1",
        "submission_id": "s",
        "deadline": "1970-01-08T00:00:00+00:00",
        "verify_checksum": True,
        "preserve_timestamp": False,
        "encrypt_data": True,
        "skip_source_errors": False,
        "fail_on_quota_errors": True,
        "delete_destination_extra": False,
        "notify_on_succeeded": False,
        "notify_on_failed": False,
        "notify_on_inactive": False,
        "recursive_symlinks": "ignore",
        "sync_level": None,
    }
    first, second = data["DATA"]
    assert (first["external_checksum"], first["checksum_algorithm"]) == ("a" * 64, "SHA256")
    assert first["destination_path"] == "/fs/b/incoming/k.1/0"
    assert second["recursive"] is True
    assert second["destination_path"] == "/fs/b/incoming/k.1/1/"


def test_an_earlier_deadline_of_the_transfer_counts() -> None:
    plan = _plan(TransferItem(source="x", destination="y"), deadline=3600 * SECOND)
    data = request_of(plan, Options(), submission_id="s", now=0)  # type: ignore[arg-type]
    assert data["deadline"] == "1970-01-01T01:00:00+00:00"


@given(st.text(max_size=300))
def test_a_label_is_one_that_globus_takes(words: str) -> None:
    label = label_of("key-1", 12, words)
    assert len(label) <= 128
    assert label == label.strip()
    assert label.isprintable()
    assert has_mark(label, label_mark("key-1", 12))
    assert not has_mark(label, label_mark("key-1", 1))


# -- paths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "root", "top"),
    [
        ("/", "/fs/x", "/fs/x"),
        ("/fs", "/fs/x", "/x"),
        ("/fs/x", "/fs/x", ""),
        ("/fs/", "/fs/x/", "/x"),
        ("/fs/x", "/fs/xy", None),
        ("/fs/x", "/", None),
        ("fs", "/fs", None),
    ],
)
def test_a_root_lies_on_its_collection_or_is_refused(base: str, root: str, top: str | None) -> None:
    config = replace(CONFIGS["a"], root=root, collection_base=base)
    if top is None:
        with pytest.raises(NoEnd):
            end_of("a", configs={"a": config}, places={})
        return
    assert end_of("a", configs={"a": config}, places={}) == End(side="a", collection=config.collection, top=top)


@pytest.mark.parametrize(
    ("path", "top"), [("/", ""), ("/a/b/", "/a/b"), ("/a/./b", "/a/b"), ("/..", None), ("a", None)]
)
def test_a_place_begins_where_its_path_says(path: str, top: str | None) -> None:
    places = {"p": PlaceConfig(name="p", collection=CONFIGS["a"].collection, path=path)}
    if top is None:
        with pytest.raises(NoEnd):
            end_of("p:", configs={}, places=places)
        return
    assert end_of("p:", configs={}, places=places).top == top


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("/x/incoming/k.1", True),
        ("/incoming/k.12", True),
        ("/x/.crossfade-incoming/a-b_c.3", True),
        ("/x/incoming", False),
        ("/x/incoming/", False),
        ("/x/incoming/k", False),
        ("/x/incoming/.1", False),
        ("/x/results/k.1", False),
        ("/", False),
        ("", False),
    ],
)
def test_only_folders_of_attempts_are_ever_deleted(path: str, ours: bool) -> None:
    assert is_incoming(path) is ours


def test_every_attempts_folder_may_be_deleted() -> None:
    for incoming in ("incoming", ".crossfade-incoming"):
        end = End(side="x", collection="c", top="/t", incoming=incoming)
        assert is_incoming(incoming_folder(end, "some_key-1", 3))


# -- verification -------------------------------------------------------------------------------------------

FILE = TransferItem(source="f", destination="g", size=5, sha256="a" * 64)
AT = "/fs/b/incoming/k.1"


def _rows(*rows: tuple[str, int]) -> list[Arrived]:
    return [Arrived(destination=f"{AT}/{path}", size=size) for path, size in rows]


def test_all_that_was_promised_and_nothing_else_is_right() -> None:
    plan = _plan(FILE, TransferItem(source="d/", destination="e/"))
    found = check(plan, _task(files=3), _rows(("0", 5), ("1/x", 2), ("1/y/z", 3)))  # type: ignore[arg-type]
    assert found.right
    assert (found.files, found.bytes) == (3, 10)


@pytest.mark.parametrize(
    ("rows", "files", "skipped", "word"),
    [
        ([], 1, 0, "f did not arrive"),
        ([("0", 4)], 1, 0, "corrupt: f has 4 bytes, not 5"),
        ([("0", 5)], 2, 0, "only 1 of 2"),
        ([("0", 5)], 1, 1, "skipped 1"),
        ([("0", 5), ("7", 1)], 1, 0, "not asked for"),
        ([("0", 5), ("1/../../x", 1)], 1, 0, "not asked for"),
    ],
)
def test_what_is_not_as_promised_is_told(rows: list[tuple[str, int]], files: int, skipped: int, word: str) -> None:
    plan = _plan(FILE, TransferItem(source="d/", destination="e/"))
    found = check(plan, _task(files=files, files_skipped=skipped), _rows(*rows))  # type: ignore[arg-type]
    assert not found.right
    assert word in found.problems[0]


def test_another_digest_than_promised_is_corrupt() -> None:
    row = Arrived(destination=f"{AT}/0", size=5, checksum="b" * 64, algorithm="SHA256")
    found = check(_plan(FILE), _task(files=1), [row])  # type: ignore[arg-type]
    assert "corrupt" in found.problems[0]
    assert found.bad == ["f"]


def test_a_row_that_makes_no_sense_is_none() -> None:
    assert arrived_from({"destination_path": 5, "size": 1}) is None
    assert arrived_from({"destination_path": "/x", "size": True}) is None
    row = arrived_from({"destination_path": "/x", "size": 1, "checksum": "AB", "checksum_algorithm": "sha-256"})
    assert row == Arrived(destination="/x", size=1, checksum="ab", algorithm="SHA256")


# -- notes --------------------------------------------------------------------------------------------------


def test_a_note_comes_back_as_it_was_kept() -> None:
    note = Note(digest="d", submission_id="s", attempt=3, at=9, phase=Phase.FAILED, collections=("a", "b"), bad=("x",))
    assert note_from(note.text()) == note


def test_a_note_stays_small() -> None:
    note = Note(digest="d", submission_id="s", reason="r" * 10**6, bad=("b" * 100,) * 10_000)
    assert len(note.text()) < 10_000


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"v": 2}', "[" * 9999, json.dumps({"v": 1, "phase": "x"})])
def test_a_note_that_cannot_be_read_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(Unreadable):
        note_from(text)


# -- pace ---------------------------------------------------------------------------------------------------


def test_calls_stay_within_what_globus_takes_in_any_ten_seconds() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    pace, calls = Pace(elapsed=lambda: now[0], sleep=sleep), []
    for _ in range(600):
        pace.wait()
        calls.append(now[0])
    assert max(sum(1 for at in calls if begin <= at < begin + 10) for begin in calls) <= 200
