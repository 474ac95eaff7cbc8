"""What befalls links, collections and tasks of the Globus model: by a script, by their speed, by their site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from globus_kit import HOUR, Globus, id_of, told

from sandbox.globus import Pace
from sandbox.globus.weather import SPELLS
from sandbox.script import BadScript


@pytest.fixture
def globus(tmp_path: Path) -> Globus:
    return Globus(tmp_path)


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
