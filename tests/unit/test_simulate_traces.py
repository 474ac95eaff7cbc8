"""Reading availability traces: two forms, and files of others that are neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker.errors import NotFound, UsageError
from broker.simulate.setting import Setting
from broker.simulate.traces import read_trace, read_traces
from broker.simulate.uptime import Uptime, joined, without


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / f"{name}.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_ticks_that_follow_one_another_are_one_spell(tmp_path: Path) -> None:
    path = written(tmp_path, "spot", {"metadata": {"gap_seconds": 600}, "data": [0, 1, 3, 0, 1]})
    assert read_trace(path) == Uptime("spot", [(600.0, 1800.0), (2400.0, 3000.0)], 3000.0, tick=600.0)


def test_intervals_are_what_a_site_is_not_up_in(tmp_path: Path) -> None:
    down = [{"start": 1100, "end": 1200, "hours": 1}, [1150, 1300], [900, 1000], [1990, 5000]]
    path = written(tmp_path, "theta", {"t0": 1000, "t1": 2000, "down": down})
    assert read_trace(path) == Uptime("theta", [(0.0, 100.0), (300.0, 990.0)], 1000.0)


def test_a_folders_traces_come_by_name_or_as_they_are_asked_for(tmp_path: Path) -> None:
    for name in "bca":
        written(tmp_path, name, {"t0": 0, "t1": 9, "down": []})
    assert [trace.site for trace in read_traces(tmp_path)] == ["a", "b", "c"]
    assert [trace.site for trace in read_traces(tmp_path, only=["c", "a"])] == ["c", "a"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1, 2]",
        "[" * 100_000,
        "{}",
        '{"data": [1], "metadata": {"gap_seconds": NaN}}',
        '{"data": [1, Infinity], "metadata": {"gap_seconds": 600}}',
        {"data": [1]},
        {"data": [], "metadata": {"gap_seconds": 600}},
        {"data": [True], "metadata": {"gap_seconds": 600}},
        {"data": ["1"], "metadata": {"gap_seconds": 600}},
        {"data": [1], "metadata": {"gap_seconds": 0}},
        {"data": [1], "metadata": {"gap_seconds": -600}},
        {"data": [1], "metadata": {"gap_seconds": 1e300}},
        {"data": 7, "metadata": {"gap_seconds": 600}},
        {"t0": 5, "t1": 5, "down": []},
        {"t0": 0, "t1": 9, "down": [[3, 2]]},
        {"t0": 0, "t1": 9, "down": [[3]]},
        {"t0": 0, "t1": 9, "down": {"3": 4}},
        {"t0": 0, "t1": 1e14, "down": []},
    ],
)
def test_what_is_no_trace_is_refused_by_the_files_name(tmp_path: Path, content: Any) -> None:
    path = written(tmp_path, "odd", content)
    with pytest.raises(UsageError, match=r"odd\.json"):
        read_trace(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_bytes(b'{"data": "\xff\xfe"}')
    with pytest.raises(UsageError):
        read_trace(path)


def test_a_name_that_no_site_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name of a site"):
        read_trace(written(tmp_path, "a b", {"t0": 0, "t1": 9, "down": []}))


def test_a_folder_without_traces_and_a_site_without_one_are_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_traces(tmp_path)
    with pytest.raises(NotFound):
        read_traces(tmp_path / "none")
    written(tmp_path, "a", {"t0": 0, "t1": 9, "down": []})
    with pytest.raises(NotFound, match="no trace of b"):
        read_traces(tmp_path, only=["a", "b"])


def test_a_spell_is_found_from_within_and_before_it() -> None:
    site = Uptime("a", [(10.0, 20.0), (30.0, 50.0)], 60.0)
    assert site.end_of_spell(10) == 20
    assert site.end_of_spell(20) is None
    assert site.next_spell(12) == (12, 20)
    assert site.next_spell(12, lasting=9) == (30, 50)
    assert site.next_spell(20) == (30, 50)
    assert site.next_spell(50) is None
    assert list(site.changes(10, 45)) == [(20, False), (30, True)]


def test_spells_that_touch_are_one_and_outages_are_taken_out() -> None:
    assert joined([(5, 6), (0, 2), (2, 3), (4, 4)]) == [(0, 3), (5, 6)]
    assert without(10, [(-1, 2), (4, 5), (9, 20)]) == [(2, 4), (5, 9)]
    assert without(10, [(0, 10)]) == []


def test_starts_are_the_same_from_the_same_seed_and_leave_room_for_the_limit() -> None:
    setting = Setting(starts=50)
    starts = setting.starts_in(20 * 86_400)
    assert starts == setting.starts_in(20 * 86_400)
    assert starts == sorted(starts)
    assert starts[-1] + setting.limit <= 20 * 86_400
    assert Setting(starts=50, seed=2).starts_in(20 * 86_400) != starts
    assert max(setting.starts_in(86_400)) <= 43_200, "traces shorter than the limit: in their first half"


@pytest.mark.parametrize("wrong", [{"every": 0.5}, {"cost": -1}, {"detection": 0}, {"limit": 60}, {"every": 1}])
def test_a_setting_that_cannot_be_simulated_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Setting(**wrong)
