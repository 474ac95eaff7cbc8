"""`transfer ls|show|cancel|retry` over rows that a desk has left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.cli.app import app
from broker.clock import wall_clock
from broker.store.sql import SqlStore
from broker.traffic.beginning import by_itself
from broker.traffic.rows import MovementRow, MoverRow, TrafficSeen, TransferRow, movement_of
from connectors.model import Transfer, TransferItem
from policies.traffic import Way

NOW = 1_767_225_600_000_000


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlStore]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    made = SqlStore.open(tmp_path / "home" / "crossfade.db", clock=wall_clock)
    yield made
    made.close()


def movement(key: str, **said: Any) -> MovementRow:
    item = TransferItem(source="a", destination="b", size=7)
    given = Transfer(key=key, source_site="nersc", destination_site="alcf", items=(item,), label=f"run/{key}@1")
    return movement_of(given, run_id="r", n=0, attempt=1, now=NOW)._replace(**said)


def transfer(key: str = "cftabc", **said: Any) -> TransferRow:
    values: dict[str, Any] = dict.fromkeys(TransferRow._fields, "")
    values |= dict.fromkeys(("urgent", "moved", "files_moved", "faults"), 0)
    values |= dict.fromkeys(("began_at", "progress_at", "ended_at"))
    values |= {"key": key, "mover": "globus", "source": "nersc", "destination": "alcf", "state": "active", "open": 1}
    values |= {"created_at": NOW, "movements": 1, "files": 1, "bytes": 7, "label": "run/m@1", "native_id": "uuid-1"}
    return TransferRow(**{**values, **said})


def begun(store: SqlStore, key: str = "cftabc", **said: Any) -> None:
    store.traffic.want([movement(f"m-{key}")])
    store.traffic.begin(transfer(key, **said), [(f"m-{key}", "[]")])


def xf(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == code, result.output
    return result


def answer(*args: str) -> Any:
    return json.loads(xf(*args, "-o", "json").stdout)


def test_with_nothing_on_its_way_it_says_so() -> None:
    assert xf("transfer", "ls").stdout.strip() == "no transfers"


def test_transfers_are_listed_and_what_waits_with_its_reason(store: SqlStore) -> None:
    begun(store)
    store.traffic.want([movement("late", reason="globus works at 3 transfers at a time")])
    told = answer("transfer", "ls")
    assert [(t["transfer"], t["from"], t["to"], t["state"]) for t in told["transfers"]] == [
        ("cftabc", "nersc", "alcf", "active")
    ]
    assert [w["reason"] for w in told["waiting"]] == ["globus works at 3 transfers at a time"]
    assert "cftabc" in xf("transfer", "ls", "--open").stdout


def test_a_service_that_gives_no_answer_is_told_of(store: SqlStore) -> None:
    store.traffic.take_turn("globus", now=NOW, until=NOW)
    silent = MoverRow("globus", None, None, NOW, 4, "no route to host", "crossfade login globus")
    store.traffic.record(TrafficSeen(movers=[silent]), now=NOW)
    told = xf("transfer", "ls").stderr
    assert "globus gives no answer since 2026-01-01T00:00:00" in told
    assert "crossfade login globus" in told


def test_one_is_found_by_its_start_or_by_the_services_own_id(store: SqlStore) -> None:
    begun(store)
    begun(store, "cftxyz", native_id="uuid-2")
    for name in ("cfta", "uuid-1"):
        shown = answer("transfer", "show", name)
        assert (shown["transfer"], [one["for"] for one in shown["carries"]]) == ("cftabc", ["run/m-cftabc@1"])
    assert "start of 2 transfers" in xf("transfer", "show", "cft", code=2).stderr
    xf("transfer", "show", "absent", code=3)


def test_a_cancel_is_kept_with_who_and_why_and_a_dry_run_keeps_nothing(store: SqlStore) -> None:
    begun(store)
    assert xf("transfer", "cancel", "cftabc", "--dry-run").stdout.startswith("would cancel transfer cftabc")
    assert store.traffic.open_transfers()[0].state == "active"
    xf("transfer", "cancel", "cftabc", "--yes", "--reason", "wrong beamline")
    row = store.traffic.open_transfers()[0]
    assert row.state == "canceling"
    assert row.reason.endswith(": wrong beamline")
    (event,) = store.events("movers")
    assert (event.kind, json.loads(event.data)["reason"]) == ("transfer_cancel", "wrong beamline")


def carried_here(store: SqlStore) -> str:
    """A transfer that a process carries itself; its key."""
    one = movement("m-here", about="stage_in:k")
    row = by_itself(one, Way(mover="rsync", source="nersc", rank=2), now=NOW, native_id="42@login1")
    store.traffic.carry([(row, one)])
    return row.key


def test_what_a_process_carries_itself_is_listed_shown_and_canceled_like_the_others(store: SqlStore) -> None:
    key = carried_here(store)
    told = answer("transfer", "ls", "--open")
    assert [(t["transfer"], t["mover"], t["state"], t["label"]) for t in told["transfers"]] == [
        (key, "rsync", "begun", "run/m-here@1")
    ]
    assert told["waiting"] == []
    shown = answer("transfer", "show", key)
    assert (shown["native_id"], [one["for"] for one in shown["carries"]]) == ("42@login1", ["run/m-here@1"])
    xf("transfer", "cancel", key, "--yes", "--reason", "wrong beamline")
    assert store.traffic.open_transfers()[0].state == "canceling"


def test_what_is_over_is_not_canceled(store: SqlStore) -> None:
    begun(store)
    store.traffic.record(TrafficSeen(transfers=[transfer(state="succeeded", open=0, ended_at=NOW)]), now=NOW)
    assert "is over: succeeded" in xf("transfer", "cancel", "cftabc", "--yes", code=4).stderr


def test_a_retry_opens_the_ways_that_had_failed(store: SqlStore) -> None:
    begun(store)
    waits = movement("m-cftabc", transfer="cftabc", refused='[["globus","nersc","dark",null]]', due_at=NOW * 2)
    store.traffic.record(TrafficSeen(movements=[waits]), now=NOW)
    xf("transfer", "retry", "cftabc")
    row = store.traffic.movements(["m-cftabc"])["m-cftabc"]
    assert row.refused == "[]"
    assert row.due_at < NOW * 2
