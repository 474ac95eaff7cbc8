"""A task of the Globus model and its life, under a virtual clock: slots, deadlines, pauses, cancels, repeats."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from globus_kit import CLIENT, DAY, HOUR, Globus, codes, id_of, told

from sandbox.globus import Limits


@pytest.fixture
def globus(tmp_path: Path) -> Globus:
    return Globus(tmp_path)


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
