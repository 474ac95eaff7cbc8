"""Globus Transfer as a model, under a virtual clock: slots, deadlines, faults, pauses, and what comes over."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from globus_kit import CLIENT, HOUR, Globus, id_of

from sandbox.globus import Limits, Pace
from sandbox.globus.task import Status

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
