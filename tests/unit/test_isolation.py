"""The tests' own promises: a home for each, tools that may be missing, and no job left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import leftovers
import pytest
import tool_kit

from broker.config import read_settings


def sleeper(folder: Path, **env: str) -> subprocess.Popen[bytes]:
    code = "print(flush=True); import time; time.sleep(60)"
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=env, stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    child.stdout.readline()  # its environment is its own only after it was started
    child.stdout.close()
    return child


def test_a_test_never_sees_the_state_of_the_person_who_runs_it(own_home: Path) -> None:
    settings = read_settings(os.environ)
    assert settings.home == own_home / "crossfade"
    assert settings.sites is None
    assert Path.home() == own_home
    assert list(own_home.iterdir()) == []


def test_a_job_that_outlives_its_test_is_killed_and_told_with_its_folder(tmp_path: Path) -> None:
    case = tmp_path / "case"
    case.mkdir()
    with sleeper(case, CROSSFADE_KEY="cf0123456789abc") as child:
        told = leftovers.end_jobs_below(tmp_path, patience=0)
        assert child.wait(10) < 0
    assert any(line.startswith(f"{child.pid} ") and str(case) in line for line in told)
    assert list(leftovers.jobs_below(tmp_path)) == []


def test_processes_without_a_key_or_of_other_folders_are_left_alone(tmp_path: Path) -> None:
    mine, others = tmp_path / "mine", tmp_path / "mine-too"
    mine.mkdir()
    others.mkdir()
    with sleeper(mine, PLAIN="1") as plain, sleeper(others, CROSSFADE_KEY="cf0123456789abc") as other:
        assert leftovers.end_jobs_below(mine, patience=0) == []
        assert plain.poll() is None
        assert other.poll() is None
        plain.kill()
        other.kill()


def test_a_missing_tool_skips_a_test_at_a_desk(
    require_tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-tool"):
        require_tool("no-such-tool")


def test_a_missing_tool_fails_a_test_in_ci(require_tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    assert tool_kit.in_ci()
    with pytest.raises(pytest.fail.Exception, match="no-such-tool"):
        require_tool("no-such-tool")
    assert require_tool("sh")
