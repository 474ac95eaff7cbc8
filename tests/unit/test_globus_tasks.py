"""Globus Transfer as a model, under a virtual clock: slots, deadlines, faults, pauses, and what comes over."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from globus_kit import CLIENT, HOUR, Globus, id_of

from sandbox.globus import Limits, Pace
from sandbox.globus.weather import SPELLS
from sandbox.script import BadScript

DAY = 24 * HOUR


@pytest.fixture
def globus(tmp_path: Path) -> Globus:
    return Globus(tmp_path)


def told(client: Any, task_id: str) -> dict[str, Any]:
    reply = client.get(f"/v0.10/task/{task_id}")
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def codes(globus: Globus, task_id: str) -> list[str]:
    return [event.code for event in globus.task(task_id).events]


def test_a_file_comes_over_and_its_task_succeeds(globus: Globus) -> None:
    globus.put("a", "x/one.bin", b"12345")
    with globus.client() as client:
        task = told(client, globus.submit(client, ("/x/one.bin", "/y/two.bin")))
    assert globus.read("b", "y/two.bin") == b"12345"
    assert (task["status"], task["files"], task["files_transferred"], task["bytes_transferred"]) == (
        "SUCCEEDED",
        1,
        1,
        5,
    )
    assert (task["is_ok"], task["nice_status"], task["nice_status_expires_in"]) == (None, None, None)
    assert globus.names("b") == ["y/two.bin"]


def test_a_dead_endpoint_leaves_its_task_active_for_a_day_and_then_it_fails(globus: Globus) -> None:
    globus.put("a", "one")
    globus.collections["b"].down = "CONNECT_FAILED"
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        globus.go_on(DAY - 60)
        task = told(client, task_id)
        assert (task["status"], task["nice_status"], task["is_ok"]) == ("ACTIVE", "CONNECT_FAILED", False)
        assert task["faults"] > 100
        globus.go_on(60)
        task = told(client, task_id)
    assert (task["status"], task["fatal_error"]["code"]) == ("FAILED", "EXPIRED")
    assert codes(globus, task_id)[-1] == "EXPIRED"
    assert task["subtasks_expired"] == 1


def test_a_deadline_moves_to_72_hours_after_the_last_progress(globus: Globus) -> None:
    for number in range(2):
        globus.put("a", f"{number}", b"x" * 1000)
    globus.collections["b"].rate = 1.0  # the second file is begun after 1000 s
    with globus.client() as client:
        task_id = globus.submit(client, ("/0", "/0"), ("/1", "/1"))
        assert globus.task(task_id).deadline == globus.task(task_id).requested_at + 72 * HOUR * 10**6
        globus.go_on(1500)
        globus.collections["b"].down = "TIMEOUT"
        done_at = globus.task(task_id).requested_at + 1000 * 10**6
        assert globus.task(task_id).deadline == done_at + 72 * HOUR * 10**6
        globus.go_on(71 * HOUR)
        assert told(client, task_id)["status"] == "ACTIVE"
        globus.go_on(2 * HOUR)
        assert told(client, task_id)["status"] == "FAILED"
    assert globus.names("b") == ["0"]


def test_a_deadline_of_the_users_stays_where_it_is(globus: Globus) -> None:
    globus.put("a", "one", b"x" * 100)
    globus.collections["b"].rate = 0.01
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"), deadline="2026-01-01T02:00:00+00:00")
        globus.go_on(1.9 * HOUR)
        assert told(client, task_id)["status"] == "ACTIVE"
        globus.go_on(0.2 * HOUR)
        task = told(client, task_id)
    assert (task["status"], task["deadline"], task["completion_time"]) == (
        "FAILED",
        "2026-01-01T02:00:00+00:00",
        "2026-01-01T02:00:00+00:00",
    )
    assert globus.names("b") == []


def test_three_transfers_are_worked_at_and_the_others_queue(globus: Globus) -> None:
    globus.put("a", "one", b"x" * 100)
    globus.collections["b"].rate = 1.0
    with globus.client() as client:
        ids = [globus.submit(client, ("/one", f"/{number}")) for number in range(5)]
        assert [told(client, one)["nice_status"] for one in ids] == ["OK", "OK", "OK", "Queued", "Queued"]
        assert told(client, ids[4])["is_ok"] is True
        waiting = globus.task(ids[4])
        assert globus.service.deadline(waiting) == globus.clock() + DAY * 10**6
        globus.go_on(99)
        assert globus.service.deadline(waiting) == globus.clock() + DAY * 10**6  # it moves with the time
        globus.go_on(2)
        assert [told(client, one)["nice_status"] for one in ids] == [None, None, None, "OK", "OK"]
        globus.go_on(100)
        assert {told(client, one)["status"] for one in ids} == {"SUCCEEDED"}


def test_deletions_have_slots_of_their_own(globus: Globus) -> None:
    globus.put("a", "one", b"x" * 100)
    globus.put("b", "gone/two")
    globus.collections["b"].rate = 1.0
    order = {"DATA_TYPE": "delete", "endpoint": id_of("b"), "recursive": True, "submission_id": CLIENT.id}
    with globus.client() as client:
        for number in range(3):
            globus.submit(client, ("/one", f"/{number}"))
        reply = client.post("/v0.10/delete", json={**order, "DATA": [{"DATA_TYPE": "delete_item", "path": "/gone"}]})
        assert (reply.status_code, reply.json()["DATA_TYPE"]) == (202, "delete_result")
        task = told(client, reply.json()["task_id"])
    assert (task["status"], task["type"], task["destination_endpoint_id"]) == ("SUCCEEDED", "DELETE", None)
    assert not (globus.collections["b"].folder / "gone").exists()


def test_a_task_that_rests_after_an_error_gives_its_slot_to_another(globus: Globus) -> None:
    globus.put("a", "one")
    with globus.client() as client:
        stuck = [globus.submit(client, ("/absent", f"/{number}")) for number in range(3)]
        task = told(client, globus.submit(client, ("/one", "/one")))
        assert task["status"] == "SUCCEEDED"
        assert {told(client, one)["nice_status"] for one in stuck} == {"FILE_NOT_FOUND"}


def test_what_is_absent_at_first_is_found_at_a_later_try(globus: Globus) -> None:
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        assert told(client, task_id)["subtasks_retrying"] == 1
        globus.put("a", "one")
        globus.go_on(300)
        task = told(client, task_id)
    assert (task["status"], task["faults"]) == ("SUCCEEDED", 1)
    assert codes(globus, task_id) == ["STARTED", "FILE_NOT_FOUND", "SUCCEEDED"]


def test_a_pause_stops_the_work_and_gives_ninety_days(globus: Globus) -> None:
    globus.put("a", "one", b"x" * 100)
    globus.collections["b"].rate = 1.0
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        globus.collections["b"].paused = "Disks are exchanged"
        globus.go_on(30 * DAY)
        task = told(client, task_id)
        assert (task["status"], task["is_paused"], task["nice_status"]) == ("ACTIVE", True, "PAUSED")
        info = client.get(f"/v0.10/task/{task_id}/pause_info").json()
        assert [rule["message"] for rule in info["pause_rules"]] == ["Disks are exchanged"]
        assert client.get(f"/v0.10/operation/endpoint/{id_of('b')}/ls").json()["code"] == "OperationPaused"
        globus.collections["b"].paused = ""
        globus.go_on(200)
        assert told(client, task_id)["status"] == "SUCCEEDED"
    assert [code for code in codes(globus, task_id) if "PAUSED" in code] == ["PAUSED", "UNPAUSED"]


def test_an_administrator_pauses_one_task(globus: Globus) -> None:
    globus.put("a", "one", b"x" * 100)
    globus.collections["b"].rate = 1.0
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        globus.service.pause(globus.task(task_id), "Talk to us first")
        globus.go_on(DAY)
        info = client.get(f"/v0.10/task/{task_id}/pause_info").json()
        assert (info["source_pause_message"], info["pause_rules"]) == ("Talk to us first", [])
        globus.service.pause(globus.task(task_id), "")
        globus.go_on(100)
        assert told(client, task_id)["status"] == "SUCCEEDED"


def test_expired_credentials_make_a_task_inactive_until_somebody_logs_in(globus: Globus) -> None:
    globus.put("a", "one", b"x" * 100)
    globus.collections["b"].rate = 1.0
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        globus.collections["a"].login_expired = True
        globus.go_on(HOUR)
        task = told(client, task_id)
        assert (task["status"], task["nice_status"], task["completion_time"]) == ("INACTIVE", "NO_CREDENTIALS", None)
        globus.collections["a"].login_expired = False
        globus.go_on(HOUR)
        assert told(client, task_id)["status"] == "SUCCEEDED"


def test_a_stalled_task_is_active_and_well_and_does_not_move(tmp_path: Path) -> None:
    globus = Globus(tmp_path, {"fault": "stall", "job": "^run7 /one$", "seconds": 7200})
    globus.put("a", "one")
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"), label="run7")
        globus.go_on(HOUR)
        task = told(client, task_id)
        assert (task["status"], task["nice_status"], task["faults"]) == ("ACTIVE", "OK", 0)
        assert (task["bytes_transferred"], task["subtasks_pending"]) == (0, 1)
        globus.go_on(2 * HOUR)
        assert told(client, task_id)["status"] == "SUCCEEDED"


def test_a_bit_that_changes_on_the_way_is_found_and_the_file_comes_again(tmp_path: Path) -> None:
    globus = Globus(tmp_path, {"fault": "corrupt"})
    globus.put("a", "one", b"12345")
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"), verify_checksum=True)
        assert globus.names("b") == []
        globus.go_on(HOUR)
        task = told(client, task_id)
    assert (task["status"], task["faults"], task["bytes_transferred"]) == ("SUCCEEDED", 1, 10)
    assert "VERIFY_CHECKSUM" in codes(globus, task_id)
    assert globus.read("b", "one") == b"12345"


def test_without_verification_nobody_notices(tmp_path: Path) -> None:
    globus = Globus(tmp_path, {"fault": "corrupt"})
    globus.put("a", "one", b"12345")
    with globus.client() as client:
        assert told(client, globus.submit(client, ("/one", "/one")))["status"] == "SUCCEEDED"
    assert globus.read("b", "one") == b"02345"


@pytest.mark.parametrize(("algorithm", "name"), [("", "md5"), ("SHA256", "sha256"), ("SHA512", "sha512")])
def test_a_given_checksum_is_compared_and_told(globus: Globus, algorithm: str, name: str) -> None:
    globus.put("a", "one", b"12345")
    order = globus.order(("/one", "/one"))
    digest = hashlib.new(name, b"12345").hexdigest()
    order["DATA"][0] |= {"external_checksum": digest} | ({"checksum_algorithm": algorithm} if algorithm else {})
    with globus.client() as client:
        task_id = client.post("/v0.10/transfer", json=order).json()["task_id"]
        assert told(client, task_id)["status"] == "SUCCEEDED"
        [row] = client.get(f"/v0.10/task/{task_id}/successful_transfers").json()["DATA"]
    assert (row["checksum"], row["checksum_algorithm"], row["size"]) == (digest, algorithm or "MD5", 5)


def test_another_checksum_than_the_given_one_fails_the_whole_task(globus: Globus) -> None:
    globus.put("a", "one", b"12345")
    globus.put("a", "two", b"12345")
    order = globus.order(("/one", "/one"), ("/two", "/two"))
    order["DATA"][0]["external_checksum"] = "0" * 32
    with globus.client() as client:
        task = told(client, client.post("/v0.10/transfer", json=order).json()["task_id"])
    assert (task["status"], task["fatal_error"]["code"]) == ("FAILED", "EXTERNAL_CHECKSUM_MISMATCH")
    assert globus.names("b") == []


def test_a_source_that_grows_while_it_is_read_is_read_again(globus: Globus) -> None:
    path = globus.put("a", "one", b"x" * 100)
    globus.collections["b"].rate = 1.0
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        globus.go_on(10)
        path.write_bytes(b"y" * 150)
        globus.go_on(HOUR)
        assert told(client, task_id)["status"] == "SUCCEEDED"
    assert "FILE_SIZE_CHANGED" in codes(globus, task_id)
    assert globus.read("b", "one") == b"y" * 150


@pytest.mark.parametrize("fatal", [True, False])
def test_a_full_disk_fails_the_task_only_where_that_is_wanted(globus: Globus, fatal: bool) -> None:
    globus.put("a", "one", b"x" * 100)
    globus.put("b", "old", b"x" * 80)
    globus.collections["b"].room = 50
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"), fail_on_quota_errors=fatal)
        task = told(client, task_id)
        assert (task["status"], task["faults"]) == ("FAILED" if fatal else "ACTIVE", 1)
        assert globus.names("b") == ["old"]
        delete = {"DATA_TYPE": "delete", "endpoint": id_of("b"), "submission_id": CLIENT.id}
        client.post("/v0.10/delete", json={**delete, "DATA": [{"DATA_TYPE": "delete_item", "path": "/old"}]})
        globus.go_on(HOUR)
        assert told(client, task_id)["status"] == ("FAILED" if fatal else "SUCCEEDED")


def test_errors_at_the_source_are_skipped_where_that_is_wanted_and_listed(globus: Globus) -> None:
    globus.put("a", "one")
    with globus.client() as client:
        task_id = globus.submit(client, ("/absent", "/absent"), ("/one", "/one"), skip_source_errors=True)
        task = told(client, task_id)
        [row] = client.get(f"/v0.10/task/{task_id}/skipped_errors").json()["DATA"]
    assert (task["status"], task["subtasks_skipped_errors"], task["files_transferred"]) == ("SUCCEEDED", 1, 1)
    assert (row["error_code"], row["source_path"], row["is_directory"]) == ("FILE_NOT_FOUND", "/absent", False)
    assert "SKIPPED_ERRORS" in codes(globus, task_id)


@pytest.mark.parametrize(
    ("level", "copied"),
    [
        (None, {"same", "other", "older", "longer", "new"}),
        (0, {"new"}),
        (1, {"longer", "new"}),
        (2, {"longer", "older", "new"}),
        (3, {"longer", "other", "older", "new"}),
    ],
)
def test_sync_levels_copy_what_differs(globus: Globus, level: int | None, copied: set[str]) -> None:
    sources = {"same": b"12345", "other": b"abcde", "older": b"vwxyz", "longer": b"123456", "new": b"1"}
    for name, content in sources.items():
        os.utime(globus.put("a", f"d/{name}", content), (2_000_000, 2_000_000))
    for name in ("same", "other", "older", "longer"):
        at = 1_000_000 if name == "older" else 3_000_000
        os.utime(globus.put("b", f"d/{name}", b"12345"), (at, at))
    with globus.client() as client:
        order = globus.order(("/d", "/d"), sync_level=level) if level is not None else globus.order(("/d", "/d"))
        task_id = client.post("/v0.10/transfer", json=order).json()["task_id"]
        task = told(client, task_id)
        rows = client.get(f"/v0.10/task/{task_id}/successful_transfers").json()["DATA"]
    assert task["status"] == "SUCCEEDED"
    assert {row["source_path"].rpartition("/")[2] for row in rows} == copied
    assert task["files_skipped"] == len(sources) - len(copied)


def test_a_folder_comes_over_with_what_the_filters_let_through(globus: Globus) -> None:
    for path in ("d/a.h5", "d/b.tmp", "d/deep/c.h5", "d/scratch/d.h5", "d/deep/e.log"):
        globus.put("a", path)
    (globus.collections["a"].folder / "d/empty").mkdir()
    rules = [
        {"DATA_TYPE": "filter_rule", "method": "exclude", "type": "dir", "name": "scratch"},
        {"DATA_TYPE": "filter_rule", "method": "include", "type": "file", "name": "*.h5"},
        {"DATA_TYPE": "filter_rule", "method": "exclude", "type": "file", "name": "*"},
    ]
    with globus.client() as client:
        task = told(client, globus.submit(client, ("/d", "/d"), filter_rules=rules))
    assert globus.names("b") == ["d/a.h5", "d/deep/c.h5"]
    assert (task["files"], task["directories"], task["filter_rules"][0]["name"]) == (2, 3, "scratch")
    assert (globus.collections["b"].folder / "d/empty").is_dir()


@pytest.mark.parametrize(
    ("way", "names"), [("ignore", ["d/file"]), ("keep", ["d/file", "d/link"]), ("copy", ["d/file", "d/link"])]
)
def test_links_in_folders_are_left_out_kept_or_looked_through(globus: Globus, way: str, names: list[str]) -> None:
    globus.put("a", "d/file", b"12")
    (globus.collections["a"].folder / "d/link").symlink_to("file")
    with globus.client() as client:
        assert told(client, globus.submit(client, ("/d", "/d"), recursive_symlinks=way))["status"] == "SUCCEEDED"
    assert globus.names("b") == names
    assert (globus.collections["b"].folder / "d/link").is_symlink() == (way == "keep")


def test_what_the_source_does_not_have_is_deleted_only_where_that_is_wanted(globus: Globus) -> None:
    globus.put("a", "d/one")
    globus.put("b", "d/extra")
    with globus.client() as client:
        globus.submit(client, ("/d", "/d"))
        assert globus.names("b") == ["d/extra", "d/one"]
        globus.submit(client, ("/d", "/d"), delete_destination_extra=True)
    assert globus.names("b") == ["d/one"]


def test_timestamps_are_preserved_where_that_is_wanted(globus: Globus) -> None:
    os.utime(globus.put("a", "one"), (1_000_000, 1_000_000))
    with globus.client() as client:
        globus.submit(client, ("/one", "/kept"), preserve_timestamp=True)
        globus.submit(client, ("/one", "/fresh"))
    folder = globus.collections["b"].folder
    assert (folder / "kept").stat().st_mtime == 1_000_000
    assert (folder / "fresh").stat().st_mtime > 1_000_000_000


@pytest.mark.parametrize(
    ("recursive", "path", "code"),
    [(False, "/d", "IS_A_DIRECTORY"), (True, "/one", "NOT_A_DIRECTORY"), (True, "/d", ""), (False, "/one", "")],
)
def test_recursive_must_fit_what_lies_there(globus: Globus, recursive: bool, path: str, code: str) -> None:
    globus.put("a", "d/file")
    globus.put("a", "one")
    order = globus.order((path, "/target"))
    order["DATA"][0]["recursive"] = recursive
    with globus.client() as client:
        task = told(client, client.post("/v0.10/transfer", json=order).json()["task_id"])
    assert (task["nice_status"] or "") == code


def test_a_partial_file_is_seen_only_where_the_collection_shows_it(globus: Globus) -> None:
    globus.put("a", "one", b"x" * 100)
    globus.collections["b"].rate = 1.0
    with globus.client() as client:
        globus.submit(client, ("/one", "/hidden"))
        globus.collections["b"].visible_partial = True
        shown = globus.submit(client, ("/one", "/shown"))
        listing = client.get(f"/v0.10/operation/endpoint/{id_of('b')}/ls").json()
        assert [row["name"] for row in listing["DATA"]] == ["shown"]
        globus.go_on(1)
        client.post(f"/v0.10/task/{shown}/cancel")
        globus.run_out()
    assert globus.names("b") == ["hidden", "shown"]


def test_a_canceled_task_fails_and_leaves_no_temporary_file(globus: Globus) -> None:
    globus.put("a", "one", b"x" * 100)
    globus.collections["b"].rate = 1.0
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        globus.go_on(1)
        assert len(globus.names("b")) == 1
        reply = client.post(f"/v0.10/task/{task_id}/cancel").json()
        assert (reply["code"], reply["DATA_TYPE"]) == ("Canceled", "result")
        task = told(client, task_id)
        assert client.post(f"/v0.10/task/{task_id}/cancel").json()["code"] == "TaskComplete"
    assert (task["status"], task["subtasks_canceled"], task["fatal_error"]) == ("FAILED", 1, None)
    assert codes(globus, task_id)[-1] == "CANCELED"
    assert globus.names("b") == []


def test_a_cancel_that_is_late_lets_the_task_write_on(tmp_path: Path) -> None:
    globus = Globus(tmp_path, {"fault": "cancel_late", "seconds": 60})
    globus.put("a", "one", b"x" * 50)
    globus.collections["b"].rate = 1.0
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        assert client.post(f"/v0.10/task/{task_id}/cancel").json()["code"] == "CancelAccepted"
        assert told(client, task_id)["status"] == "ACTIVE"
        globus.go_on(50)
        assert told(client, task_id)["status"] == "SUCCEEDED"
    assert globus.names("b") == ["one"]


def test_a_submission_id_is_worked_at_once_however_often_it_comes(globus: Globus) -> None:
    globus.put("a", "one")
    order = globus.order(("/one", "/one"), label="once")
    with globus.client() as client:
        replies = [client.post("/v0.10/transfer", json=order) for _ in range(3)]
    assert [(reply.status_code, reply.json()["code"]) for reply in replies] == [
        (202, "Accepted"),
        (200, "Duplicate"),
        (200, "Duplicate"),
    ]
    assert len({reply.json()["task_id"] for reply in replies}) == 1
    assert globus.service.counted == {
        "transfers": 1,
        "deletions": 0,
        "by_label": {"once": 1},
        "by_submission": {order["submission_id"]: 3},
    }


def test_a_lost_answer_leaves_one_task_that_the_second_try_finds(tmp_path: Path) -> None:
    globus = Globus(tmp_path, {"fault": "reply_lost", "facility": "globus", "method": "POST", "path": "/transfer$"})
    globus.put("a", "one")
    order = globus.order(("/one", "/one"))
    with globus.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/v0.10/transfer", json=order)
        assert client.post("/v0.10/transfer", json=order).json()["code"] == "Duplicate"
    assert globus.service.counted["transfers"] == 1


def test_label_and_deadline_can_be_changed_while_it_runs(globus: Globus) -> None:
    globus.put("a", "one", b"x" * 100)
    globus.collections["b"].rate = 1.0
    change = {"DATA_TYPE": "task", "label": "other", "deadline": "2026-01-01T00:00:50+00:00"}
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        assert client.put(f"/v0.10/task/{task_id}", json=change).json()["code"] == "Updated"
        assert client.put(f"/v0.10/task/{task_id}", json={"status": "SUCCEEDED"}).status_code == 400
        globus.go_on(60)
        task = told(client, task_id)
        assert (task["label"], task["status"]) == ("other", "FAILED")
        assert client.put(f"/v0.10/task/{task_id}", json={"label": "late"}).status_code == 409


def test_a_purged_task_and_a_strangers_task_are_unknown(globus: Globus) -> None:
    globus.put("a", "one")
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        assert globus.service.task(task_id, owner="somebody else") is None
        assert globus.service.purge() == 1
        reply = client.get(f"/v0.10/task/{task_id}")
        assert (reply.status_code, reply.json()["code"]) == (404, "ClientError.NotFound")
        assert client.get("/v0.10/task_list").json()["total"] == 0


def test_more_pending_tasks_than_are_allowed_are_a_conflict(tmp_path: Path) -> None:
    globus = Globus(tmp_path, limits=Limits(pending=2))
    with globus.client() as client:
        for number in range(2):
            globus.submit(client, ("/absent", f"/{number}"))
        reply = client.post("/v0.10/transfer", json=globus.order(("/absent", "/2")))
    assert (reply.status_code, reply.json()["code"]) == (409, "Conflict")


def test_bandwidth_and_latency_of_a_link_decide_how_long_it_takes(tmp_path: Path) -> None:
    pace = Pace(latency=2.0, rates={(id_of("a"), id_of("b")): 100.0})
    globus = Globus(tmp_path, pace=pace)
    for number in range(3):
        globus.put("a", f"d/{number}", b"x" * 1000)
    with globus.client() as client:
        task_id = globus.submit(client, ("/d", "/d"))
        globus.run_out()
        task = told(client, task_id)
    # a folder and three files with 2 s each, and 3000 bytes
    assert globus.task(task_id).completed_at == globus.task(task_id).requested_at + 38 * 10**6
    assert task["effective_bytes_per_second"] == 3000 // 38


def test_weather_of_a_fault_script_comes_and_goes_by_the_clock(tmp_path: Path) -> None:
    globus = Globus(
        tmp_path,
        {"fault": "collection_down", "collection": "^b ", "at": 60, "for": 600, "code": "TIMEOUT"},
        {"fault": "history_purged", "at": 5000},
    )
    globus.put("a", "one", b"x" * 100)
    globus.collections["b"].rate = 1.0
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        globus.go_on(120)
        assert told(client, task_id)["nice_status"] == "TIMEOUT"
        assert client.get(f"/v0.10/operation/endpoint/{id_of('b')}/ls").status_code == 502
        globus.go_on(1800)
        assert told(client, task_id)["status"] == "SUCCEEDED"
        globus.go_on(5000)
        assert client.get(f"/v0.10/task/{task_id}").status_code == 404


def test_a_facility_that_is_down_or_gone_has_a_dead_collection(globus: Globus) -> None:
    up = True
    globus.collections["b"].up = lambda: up
    globus.put("a", "one", b"x" * 100)
    globus.collections["b"].rate = 1.0
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        up = False
        globus.go_on(100)
        assert told(client, task_id)["nice_status"] == "CONNECT_FAILED"
        up = True
        folder = globus.collections["b"].folder
        folder.rename(folder.with_name("lost"))
        globus.go_on(HOUR)
        assert told(client, task_id)["nice_status"] == "CONNECT_FAILED"
        reply = client.get(f"/v0.10/operation/endpoint/{id_of('b')}/ls")
        assert (reply.status_code, reply.json()["code"]) == (502, "ExternalError.DirListingFailed.ConnectFailed")
    assert not folder.exists()


def test_two_paths_to_one_destination_are_taken_as_the_service_takes_them(globus: Globus) -> None:
    """Refusing such a plan is the client's business."""
    globus.put("a", "one", b"1")
    globus.put("a", "two", b"2")
    with globus.client() as client:
        task = told(client, globus.submit(client, ("/one", "/x"), ("/two", "/x")))
    assert (task["status"], task["files_transferred"]) == ("SUCCEEDED", 2)


def test_a_folder_is_not_copied_into_itself(globus: Globus) -> None:
    globus.put("a", "d/one")
    order = globus.order(("/d", "/d/e")) | {"destination_endpoint": id_of("a")}
    with globus.client() as client:
        task = told(client, client.post("/v0.10/transfer", json=order).json()["task_id"])
    assert task["nice_status"] == "INVALID_PATH_NAME"
    assert globus.names("a") == ["d/one"]


def test_events_are_told_the_newest_first_and_page_by_page(globus: Globus) -> None:
    with globus.client() as client:
        task_id = globus.submit(client, ("/absent", "/one"))
        globus.go_on(60)
        page = client.get(f"/v0.10/task/{task_id}/event_list", params={"limit": 2}).json()
        errors = client.get(f"/v0.10/task/{task_id}/event_list", params={"filter": "is_error:1"}).json()
    assert (page["length"], page["limit"], page["offset"]) == (2, 2, 0)
    assert page["total"] == errors["total"] + 1 == len(codes(globus, task_id))
    times = [event["time"] for event in page["DATA"]]
    assert times == sorted(times, reverse=True)
    assert page["DATA"][0]["code"] == "FILE_NOT_FOUND"


SPELL_WORDS = {
    "collection_down": {"code": "GC_PAUSED"},
    "collection_slow": {"rate": 7},
    "collection_paused": {"message": "later"},
    "collection_full": {"room": 3},
    "session_required": {"parameters": {"session_required_mfa": True}},
}


@pytest.mark.parametrize("kind", SPELLS)
def test_each_spell_befalls_the_collections_that_are_meant_and_goes_again(tmp_path: Path, kind: str) -> None:
    words = SPELL_WORDS.get(kind, {})
    globus = Globus(tmp_path, {"fault": kind, "collection": id_of("b"), "at": 10, "for": 10, **words})
    name = SPELLS[kind][0]
    before = getattr(globus.collections["b"], name)
    globus.go_on(15)
    assert getattr(globus.collections["a"], name) == before
    during = getattr(globus.collections["b"], name)
    assert during == (next(iter(words.values())) if words else True)
    assert during != before
    globus.go_on(10)
    assert getattr(globus.collections["b"], name) == before


def test_a_spell_with_words_that_make_no_sense_is_a_bad_script(tmp_path: Path) -> None:
    for words in ({"fault": "collection_slow", "rate": "quick"}, {"fault": "collection_down", "collection": "("}):
        with pytest.raises(BadScript):
            Globus(tmp_path, words)


@pytest.mark.parametrize("rule", [{"code": "CONNECTION_RESET"}, {"code": "AUTH", "times": 3}])
def test_troubles_of_a_script_are_told_and_healed(tmp_path: Path, rule: dict[str, Any]) -> None:
    globus = Globus(tmp_path, {"fault": "task_trouble", "job": "/one$", **rule})
    globus.put("a", "one")
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        assert told(client, task_id)["nice_status"] == rule["code"]
        globus.go_on(HOUR)
        task = told(client, task_id)
    assert (task["status"], task["faults"]) == ("SUCCEEDED", rule.get("times", 1))


def test_a_fatal_trouble_of_a_script_ends_the_task(tmp_path: Path) -> None:
    globus = Globus(tmp_path, {"fault": "task_trouble"}, {"fault": "task_fatal"})
    globus.put("a", "one")
    with globus.client() as client:
        task = told(client, globus.submit(client, ("/one", "/one")))
    assert (task["status"], task["fatal_error"]["code"], task["subtasks_failed"]) == ("FAILED", "ENDPOINT_ERROR", 1)


def test_a_slow_collection_writes_what_a_second_brings(globus: Globus) -> None:
    globus.put("a", "one", b"x" * 100)
    globus.collections["b"].rate = 10.0
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        seen = []
        for _ in range(4):
            seen.append(told(client, task_id)["bytes_transferred"])
            globus.go_on(2)
    assert seen == [10, 30, 50, 70]


def test_a_step_that_breaks_off_is_a_fault_and_no_success(
    globus: Globus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    globus.put("a", "one")

    def broken(*_: object) -> None:
        raise ValueError("a mistake of ours")

    with globus.client() as client, monkeypatch.context() as patched:
        patched.setattr("sandbox.globus.copying.write_all", broken)
        task_id = globus.submit(client, ("/one", "/one"))
        assert told(client, task_id)["nice_status"] == "INTERNAL_ERROR"
    assert globus.names("b") == []
    assert "a step broke off" in caplog.text
    globus.go_on(HOUR)
    assert globus.read("b", "one") == b"some words\n"
    assert globus.task(task_id).status.value == "SUCCEEDED"


def test_deletions_take_patterns_and_say_what_is_missing_unless_that_is_fine(globus: Globus) -> None:
    for path in ("a.tmp", "b.tmp", "c.h5", "odd/x*y", "odd/xzy"):
        globus.put("b", path)

    def delete(client: Any, number: int, path: str, **more: Any) -> str:
        order = {"DATA_TYPE": "delete", "endpoint": id_of("b"), "submission_id": f"{number:032x}", **more}
        order["DATA"] = [{"DATA_TYPE": "delete_item", "path": path}]
        return str(client.post("/v0.10/delete", json=order).json()["task_id"])

    with globus.client() as client:
        delete(client, 1, "/*.tmp", interpret_globs=True)
        assert globus.names("b") == ["c.h5", "odd/x*y", "odd/xzy"]
        delete(client, 2, "/odd/x*y")
        assert globus.names("b") == ["c.h5", "odd/xzy"]
        assert told(client, delete(client, 3, "/absent", ignore_missing=True))["status"] == "SUCCEEDED"
        assert told(client, delete(client, 4, "/absent"))["nice_status"] == "FILE_NOT_FOUND"
        assert told(client, delete(client, 5, "/odd"))["nice_status"] == "IS_A_DIRECTORY"
        task_id = delete(client, 6, "/..x", deadline="2026-01-01T01:00:00+00:00")
        globus.go_on(DAY + 60)
        assert {told(client, one)["status"] for one in (task_id,)} == {"FAILED"}


def test_a_deletions_deadline_is_a_day_and_never_moves(globus: Globus) -> None:
    globus.collections["b"].down = "CONNECT_FAILED"
    order = {"DATA_TYPE": "delete", "endpoint": id_of("b"), "submission_id": CLIENT.id}
    with globus.client() as client:
        ids = []
        for number in range(4):
            items = [{"DATA_TYPE": "delete_item", "path": f"/{number}"}]
            reply = client.post("/v0.10/delete", json={**order, "submission_id": f"{number:032x}", "DATA": items})
            ids.append(reply.json()["task_id"])
        globus.go_on(DAY - 1)
        assert {told(client, one)["status"] for one in ids} == {"ACTIVE"}
        globus.go_on(1)
        assert {told(client, one)["status"] for one in ids} == {"FAILED"}
